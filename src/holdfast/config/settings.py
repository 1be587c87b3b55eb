"""Every setting of Holdfast, with its name, unit, range and default: one frozen object."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from holdfast.config.fields import (
    choice,
    data_home,
    database,
    folder,
    key_text,
    kind_of,
    names,
    per_minute,
    seconds,
    switch,
    text,
    web_address,
    whole,
)
from holdfast.errors import SettingInvalid

PREFIX = "HOLDFAST_"
EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Read once at start by `Settings.read()` and passed by hand; nothing else reads variables.

    The variable of a field is `HOLDFAST_` and its name in capitals, unless the field names another.
    `explicit` holds, by field name, the text of those that were given; the rest are defaults.
    """

    env: Literal["dev", "production"] = choice(
        "dev", "What this installation is for; production refuses what belongs to development.",
        ("dev", "production"),
    )  # fmt: skip
    home: Path = folder("Folder of the embedded database and of keys made on this machine.")
    database_url: str | None = database(
        "The application's PostgreSQL; without it an embedded one in the home folder.",
        words=(EMBEDDED,),
    )
    owner_url: str | None = database(
        "The owner's PostgreSQL URL for migrate, role and mend, where it is not the application's."
    )
    listen_url: str | None = database(
        "A direct PostgreSQL URL for LISTEN, where the application's goes through pgbouncer."
    )
    pool_size: int = whole(
        10, "Most connections of one process to the database.", unit="connections", least=2,
        most=1000,
    )  # fmt: skip
    statement_timeout_seconds: float = seconds(
        30, "A statement that takes longer is ended by the database.", least=1, most=3600
    )

    host: str = text("127.0.0.1", "Address on which `holdfast serve` listens.")
    port: int = whole(
        8000, "Port on which `holdfast serve` listens; 0 takes a free one.", unit="port", least=0,
        most=65535,
    )  # fmt: skip
    body_bytes_max: int = whole(
        1_048_576, "Largest request body; a larger one is 413.", unit="bytes", least=1024
    )
    rate_limit: int | Literal["off"] | None = per_minute(
        "Requests of one caller per minute; `off` in dev and 600 in production, unless given."
    )
    account_rate_limit: int | Literal["off"] | None = per_minute(
        "New accounts, and failed sign-ins, of one address per minute; without it the smaller of"
        " 30 and HOLDFAST_RATE_LIMIT."
    )
    secret: str | None = text(
        None, "Signs cursors, tickets and forms; without it one is made in the home folder.",
        allowed="at least 32 characters", pattern=r"[^\x00-\x1f\x7f]{32,4000}", secret=True,
    )  # fmt: skip
    log_level: Literal["debug", "info", "warning", "error"] = choice(
        "info", "Least weight of what is logged.", ("debug", "info", "warning", "error")
    )
    log_format: Literal["text", "json"] = choice(
        "text", "How a line of the log is written.", ("text", "json")
    )

    clerk_jwks_url: str | None = web_address(None, "Where Clerk's signing keys are fetched.")
    clerk_pem: str | None = key_text("Clerk's public key, for work without its network.")
    clerk_issuer: str | None = web_address(None, "The only issuer (`iss`) that is accepted.")
    clerk_parties: tuple[str, ...] = names("Sites (`azp`) whose session tokens are accepted.")
    clerk_audience: str | None = text(None, "The audience (`aud`) a token must name, if given.")
    clerk_webhook_secret: str | None = text(
        None, "Signing secret of Clerk's webhooks.", allowed="`whsec_` and base64",
        pattern=r"whsec_[A-Za-z0-9+/=_-]{8,200}", secret=True,
    )  # fmt: skip
    device_auth: Literal["secret", "id"] = choice(
        "secret", "Whether a device proves itself by a secret, or (old clients) by its id alone.",
        ("secret", "id"),
    )  # fmt: skip

    story_provider: Literal["offline", "anthropic"] = choice(
        "offline", "Who writes the stories.", ("offline", "anthropic")
    )
    story_model: str = text("claude-sonnet-5-5", "The model that writes, for `anthropic`.")
    anthropic_api_key: str | None = text(
        None, "Key of the Messages API.", secret=True, variable="ANTHROPIC_API_KEY"
    )
    anthropic_base_url: str | None = web_address(
        None, "Another address of the Messages API.", variable="ANTHROPIC_BASE_URL"
    )
    provider_silence_seconds: float = seconds(
        60, "A provider that sends nothing for so long is given up for this attempt.", most=3600
    )

    worker_concurrency: int = whole(
        16, "Jobs that one worker makes at once.", unit="jobs", most=10_000
    )
    poll_seconds: float = seconds(1, "An idle worker looks for work at least this often.", most=60)
    sweep_seconds: float = seconds(
        5, "How often lost leases and passed deadlines are swept.", most=3600
    )
    stop_seconds: float = seconds(
        20, "Time a stopping worker gives its jobs before it hands them back.", least=0, most=3600
    )
    job_lease_seconds: float = seconds(30, "A job without a sign of life for so long is stalled.")
    job_attempts: int = whole(
        3, "How often a job is tried before it fails for good.", unit="attempts", most=100
    )
    job_backoff_seconds: float = seconds(
        1, "Wait before the second attempt; each further one waits four times longer.", least=0
    )
    job_deadline_seconds: float = seconds(3600, "Longest time a job may take, all in all.")
    job_queue_deadline_seconds: float = seconds(86_400, "Longest time a job may wait for a worker.")
    outage_pause_seconds: float = seconds(
        60, "How long a kind rests whose provider is out of service, before one job tries again.",
        most=86_400,
    )  # fmt: skip
    effect_tries: int = whole(
        100, "How often an effect is sent before it is a dead letter; 100 take half a day.",
        unit="tries", most=10_000,
    )  # fmt: skip
    idempotency_hours: int = whole(
        24, "How long keys are kept (those of money for ever).", unit="hours", most=87_600,
        stored=True,
    )  # fmt: skip
    idempotency_wait_seconds: float = seconds(
        5, "How long a duplicate waits for the first before it is 409.", least=0, most=60
    )

    welcome_bonus: int = whole(
        100, "Given once to every new person.", unit="crystals", least=0, stored=True
    )
    story_price: int = whole(
        50, "Price of a story per started 500 words.", unit="crystals", least=0, stored=True
    )
    voice_price: int = whole(
        5, "Price of a voice per started 100 words.", unit="crystals", least=0, stored=True
    )
    refund_grace_hours: int = whole(
        72, "Life of a refund whose credit has expired meanwhile.", unit="hours", least=0,
        most=87_600, stored=True,
    )  # fmt: skip
    hold_ttl_seconds_max: int = whole(
        86_400, "Longest life of a hold.", unit="seconds", most=31_536_000, stored=True
    )

    order_lease_seconds: int = whole(
        900, "An order whose operator is silent for so long goes back.", unit="seconds",
        most=604_800, stored=True,
    )  # fmt: skip
    order_wip_limit: int = whole(
        10, "Orders one operator may hold per desk.", unit="orders", most=10_000, stored=True
    )
    order_sla_seconds: int = whole(
        3600, "Time in which an order of the usual priority is due.", unit="seconds",
        most=31_536_000, stored=True,
    )  # fmt: skip

    step_bytes_max: int = whole(
        524_288, "Largest data of one stage of a project.", unit="bytes", least=1024,
        most=67_108_864, stored=True,
    )  # fmt: skip
    step_revisions: int = whole(
        50, "Revisions that are kept of each stage of a project.", unit="revisions", most=10_000,
        stored=True,
    )  # fmt: skip

    webhook_allow_private: bool = switch(
        False, "Whether webhooks may go to private addresses (for tests)."
    )

    vapid_private_key: str | None = text(
        None, "Key that signs Web Push; without it one is derived from HOLDFAST_SECRET.",
        allowed="32 bytes in base64url", pattern=r"[A-Za-z0-9_-]{43}=?", secret=True,
    )  # fmt: skip
    vapid_subject: str = text(
        "mailto:holdfast@localhost", "Whom push services may write to about our messages.",
        allowed="`mailto:` and an address, or an https address",
        pattern=r"(?:mailto:[^\s@]+@[^\s@]+|https://[^\s]+)",
    )  # fmt: skip

    explicit: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read all settings from `environ` (the process's own where none is given).

        An empty value counts as not given. Raises SettingInvalid, which names the variable, what
        it holds (masked where secret) and what is allowed.
        """
        environ = os.environ if environ is None else environ
        given: dict[str, str] = {}
        values: dict[str, object] = {"home": data_home(environ, sys.platform) / "holdfast"}
        for entry in dataclasses.fields(cls):
            kind = kind_of(entry)
            if kind is None or not (raw := environ.get(variable(entry.name), "").strip()):
                continue
            try:
                values[entry.name] = kind.parse(raw)
            except ValueError:
                shown = "not shown (it is secret)" if kind.secret else repr(raw[:80])
                raise SettingInvalid(
                    name=variable(entry.name), given=shown, allowed=kind.allowed
                ) from None
            given[entry.name] = raw
        return cls(**values, explicit=given)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if self.home is None:  # made by hand, in a test: the same default as from the environment
            object.__setattr__(self, "home", data_home(os.environ, sys.platform) / "holdfast")
        if self.story_provider == "anthropic" and not self.anthropic_api_key:
            raise SettingInvalid(
                name="ANTHROPIC_API_KEY",
                given="empty",
                allowed="a key of the Messages API while HOLDFAST_STORY_PROVIDER is `anthropic`",
            )

    @property
    def production(self) -> bool:
        """Tell whether this is production."""
        return self.env == "production"

    @property
    def embedded(self) -> bool:
        """Tell whether the database is the embedded one."""
        return self.database_url in (None, EMBEDDED)

    @property
    def requests_per_minute(self) -> int | None:
        """Return the rate limit of one caller; None where there is none."""
        if self.rate_limit == "off":
            return None
        return self.rate_limit or (600 if self.production else None)

    @property
    def accounts_per_minute(self) -> int | None:
        """Return how many accounts one address may make a minute; None where there is no limit."""
        if self.account_rate_limit is not None:
            return None if self.account_rate_limit == "off" else self.account_rate_limit
        requests = self.requests_per_minute
        return None if requests is None else min(30, requests)

    def stored(self, *, explicit_only: bool = False) -> dict[str, str]:
        """Return the settings that the database must know, as `kernel.setting` holds them."""
        chosen = (entry for entry in dataclasses.fields(self) if (k := kind_of(entry)) and k.stored)
        return {
            entry.name: str(getattr(self, entry.name))
            for entry in chosen
            if not explicit_only or entry.name in self.explicit
        }


def variable(name: str) -> str:
    """Return the environment variable of a field of Settings."""
    kind = next((kind_of(e) for e in dataclasses.fields(Settings) if e.name == name), None)
    if kind is None:
        raise AttributeError(f"Settings has no variable for {name!r}")
    return kind.variable or PREFIX + name.upper()
