"""The kinds of settings: how each is written in the environment, and what it may be."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Kind:
    """How one setting is read: its sentence, unit, range, and the function that parses it.

    `parse` takes the text as given and returns the value, or raises ValueError; `allowed` ends the
    sentence "… but must be". `stored` settings are also written into the database at install.
    """

    doc: str
    allowed: str
    parse: Callable[[str], Any]
    unit: str = ""
    secret: bool = False
    stored: bool = False
    variable: str = ""


def kind_of(entry: Field[Any]) -> Kind | None:
    """Return how a field of Settings is read; None for what is not read from a variable."""
    found = entry.metadata.get("kind")
    return found if isinstance(found, Kind) else None


def _declare(default: T, kind: Kind) -> T:
    """Give a dataclass field, typed as the value that it will hold."""
    declared: T = field(default=default, metadata={"kind": kind})
    return declared


def whole(
    default: int,
    doc: str,
    *,
    unit: str,
    least: int = 1,
    most: int = 2_000_000_000,
    stored: bool = False,
) -> int:
    """Declare a whole number within `least` and `most`, in `unit`."""

    def parse(text: str) -> int:
        value = int(text) if re.fullmatch(r"[+-]?[0-9]{1,19}", text) else None
        if value is None or not least <= value <= most:
            raise ValueError(text)
        return value

    allowed = f"a whole number from {least} to {most}, in {unit}"
    return _declare(default, Kind(doc, allowed, parse, unit=unit, stored=stored))


def seconds(
    default: float, doc: str, *, least: float = 0.05, most: float = 604_800, stored: bool = False
) -> float:
    """Declare a span of time in seconds; parts of a second are allowed."""

    def parse(text: str) -> float:
        value = float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text) else None
        if value is None or not least <= value <= most:
            raise ValueError(text)
        return value

    allowed = f"a number from {least:g} to {most:g}, in seconds"
    return _declare(default, Kind(doc, allowed, parse, unit="seconds", stored=stored))


def switch(default: bool, doc: str) -> bool:
    """Declare something that is on or off."""
    words = {"on": True, "true": True, "1": True, "yes": True}
    words |= {"off": False, "false": False, "0": False, "no": False}

    def parse(text: str) -> bool:
        if text.lower() not in words:
            raise ValueError(text)
        return words[text.lower()]

    return _declare(default, Kind(doc, "`on` or `off`", parse))


def choice(default: T, doc: str, choices: tuple[T, ...]) -> T:
    """Declare one word out of a few."""
    words = {str(word): word for word in choices}

    def parse(text: str) -> T:
        if text not in words:
            raise ValueError(text)
        return words[text]

    return _declare(default, Kind(doc, " or ".join(f"`{word}`" for word in words), parse))


def text(
    default: str | None,
    doc: str,
    *,
    allowed: str = "a text without control characters",
    pattern: str = r"[^\x00-\x1f\x7f]{1,4000}",
    secret: bool = False,
    variable: str = "",
) -> Any:
    """Declare a text that matches `pattern` whole; typed by the field, which may be optional."""

    def parse(given: str) -> str:
        if not re.fullmatch(pattern, given):
            raise ValueError(given)
        return given

    return _declare(default, Kind(doc, allowed, parse, secret=secret, variable=variable))


def names(doc: str, *, allowed: str = "a comma-separated list") -> tuple[str, ...]:
    """Declare a comma-separated list of texts; blanks around each are ignored."""

    def parse(given: str) -> tuple[str, ...]:
        found = tuple(part.strip() for part in given.split(",") if part.strip())
        if not found or any(re.search(r"[\s\x00-\x1f\x7f]", part) for part in found):
            raise ValueError(given)
        return found

    return _declare((), Kind(doc, allowed, parse))


def web_address(default: str | None, doc: str, *, variable: str = "") -> Any:
    """Declare an https URL; http only to this machine."""

    def parse(given: str) -> str:
        url = urlsplit(given)
        safe = url.scheme == "https" or (url.scheme == "http" and url.hostname in LOOPBACK)
        if not safe or not url.hostname or re.search(r"\s", given):
            raise ValueError(given)
        return given

    allowed = "an https:// URL (http:// only for 127.0.0.1, ::1 or localhost)"
    return _declare(default, Kind(doc, allowed, parse, variable=variable))


def database(doc: str, *, words: tuple[str, ...] = ()) -> Any:
    """Declare a PostgreSQL address, or one of `words` in its place; its password is masked."""

    def parse(given: str) -> str:
        if given not in words and not re.fullmatch(r"postgres(ql)?://\S+", given):
            raise ValueError("a PostgreSQL URL")
        return given

    allowed = " or ".join(
        ["a postgresql:// URL (blanks written as %20)", *(f"`{word}`" for word in words)]
    )
    return _declare(None, Kind(doc, allowed, parse, secret=True))


def folder(doc: str) -> Any:
    """Declare the path of a folder, `~` allowed; None means the user's data folder."""

    def parse(given: str) -> Path:
        return Path(given).expanduser().absolute()

    return _declare(None, Kind(doc, "a path", parse))


def key_text(doc: str) -> Any:
    r"""Declare a public key in PEM: the text itself (`\n` for line ends allowed), or its path."""

    def parse(given: str) -> str:
        pem = given.replace("\\n", "\n")
        if "-----BEGIN" not in pem:
            try:
                pem = Path(given).expanduser().read_text("ascii")
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(given) from error
        if "-----BEGIN PUBLIC KEY-----" not in pem and "-----BEGIN CERTIFICATE-----" not in pem:
            raise ValueError(given)
        return pem.strip() + "\n"

    return _declare(None, Kind(doc, "a public key in PEM, or the path of a file with one", parse))


def per_minute(doc: str) -> Any:
    """Declare a rate: `off`, or whole requests per minute; None means by environment."""

    def parse(given: str) -> int | Literal["off"]:
        if given == "off":
            return "off"
        if not re.fullmatch(r"[1-9][0-9]{0,8}", given):
            raise ValueError(given)
        return int(given)

    allowed = "`off`, or a whole number from 1, in requests per minute"
    return _declare(None, Kind(doc, allowed, parse, unit="requests per minute"))


def data_home(environ: Mapping[str, str], platform: str) -> Path:
    """Return the folder for a user's data: the XDG rule, or macOS's."""
    home = Path(environ.get("HOME") or Path.home())
    if platform == "darwin":
        return home / "Library" / "Application Support"
    given = Path(environ.get("XDG_DATA_HOME", ""))
    return given if given.is_absolute() else home / ".local" / "share"
