"""Settings shown to people: for `holdfast doctor`, and as the page docs/settings.md."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.config.fields import Kind, kind_of
from holdfast.config.settings import PREFIX, Settings, variable

# read by the tests of this repository, not by the package
_OF_TESTS = "HOLDFAST_TEST_"


@dataclass(frozen=True, slots=True)
class Line:
    """One setting as a person sees it; `value` is masked where it holds a secret."""

    name: str
    value: str
    source: Literal["environment", "default"]
    unit: str
    doc: str
    allowed: str


def listing(settings: Settings) -> list[Line]:
    """Return every setting with its value, in the order of their declaration."""
    return [
        Line(
            name=variable(name),
            value=_shown(getattr(settings, name), kind),
            source="environment" if name in settings.explicit else "default",
            unit=kind.unit,
            doc=kind.doc,
            allowed=kind.allowed,
        )
        for name, kind, _ in _declared()
    ]


def unknown(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return variables that look like ours and are none, each with the nearest real name."""
    known = [variable(name) for name, _, _ in _declared()]
    strangers = (
        name
        for name in sorted(environ)
        if name.startswith(PREFIX) and not name.startswith(_OF_TESTS) and name not in known
    )
    return {name: next(iter(difflib.get_close_matches(name, known)), None) for name in strangers}


def masked(url: str) -> str:
    """Return a database URL without its password, for logs and people."""
    url = re.sub(r"(//[^:/?#@]*):.*@", r"\1:***@", url, count=1)
    return re.sub(r"([?&](?:password|sslpassword)=)[^&]*", r"\1***", url)


def page() -> str:
    """Return docs/settings.md."""
    rows = (
        f"| `{variable(name)}` | {_default(default)} | {kind.allowed} | {kind.doc} |"
        for name, kind, default in _declared()
    )
    return "\n".join([_INTRODUCTION, "| variable | default | allowed | what it is |",
                      "|---|---|---|---|", *rows, ""])  # fmt: skip


_INTRODUCTION = """\
# Settings

Every limit is an environment variable with a unit. A wrong value stops the start with one sentence.
`holdfast doctor` prints what is in force. Written by `make docs`; do not edit by hand.
"""


def _declared() -> Iterator[tuple[str, Kind, Any]]:
    for entry in dataclasses.fields(Settings):
        if (kind := kind_of(entry)) is not None:
            yield entry.name, kind, entry.default


def _default(value: Any) -> str:
    if value is None or value == ():
        return ""
    return f"`{_written(value)}`"


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(value: Any, kind: Kind) -> str:
    if value is None or value == ():
        return ""
    if kind.secret:
        return masked(value) if "://" in str(value) else "***"
    written = _written(value)
    return written if "\n" not in written else written.splitlines()[0] + " …"
