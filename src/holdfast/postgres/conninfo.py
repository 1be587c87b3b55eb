"""What every connection of ours asks of the server when it starts."""

from typing import Any
from urllib.parse import quote, urlencode

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_SETTINGS = {
    # Verbs assume it; a database may have another default.
    "default_transaction_isolation": "read committed",
    "TimeZone": "UTC",
    # A verb that waits longer for somebody's row gives up, unharmed, and may be asked again.
    "lock_timeout": "5000",
    # Short statements over arrays, whose estimates are guesses: compiling them never pays.
    "jit": "off",
}
_DEFAULTS = {
    "connect_timeout": 5,
    # A connection whose other end vanished without a word is noticed within half a minute.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30000,
}


def conninfo(
    url: str,
    *,
    role: str | None = None,
    application_name: str = "holdfast",
    statement_timeout: float | None = None,
) -> str:
    """Return `url` with our settings; what the URL says itself stands.

    `role` is taken on at once (SET ROLE), so that the wall around the tables also holds for
    somebody who connects as their owner. `statement_timeout` is in seconds.
    """
    given: dict[str, Any] = conninfo_to_dict(url)
    settings = dict(_SETTINGS)
    if role is not None:
        settings["role"] = role
    if statement_timeout is not None:
        settings["statement_timeout"] = str(round(statement_timeout * 1000))
    options = " ".join(f"-c {name}={_escape(value)}" for name, value in settings.items())
    options = f"{options} {given.pop('options', '') or ''}".strip()
    given.setdefault("application_name", application_name)
    return make_conninfo(**(_DEFAULTS | given), options=options)


def described(url: str) -> dict[str, str]:
    """Return what may be told about a URL: `address`, `database`, `user`; never a password."""
    given = conninfo_to_dict(url)
    host, port = given.get("host") or "localhost", given.get("port")
    return {
        "address": f"{host}:{port}" if port else str(host),
        "database": str(given.get("dbname") or given.get("user") or ""),
        "user": str(given.get("user") or ""),
    }


def as_url(address: str) -> str:
    """Return the same address as a URL, which settings and every other driver read."""
    at = {name: str(value) for name, value in conninfo_to_dict(address).items()}
    user, password, database = (
        quote(at.pop(name, ""), safe="") for name in ("user", "password", "dbname")
    )
    who = f"{user}:{password}" if password else user
    return f"postgresql://{who}@/{database}?{urlencode(at, quote_via=quote)}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
