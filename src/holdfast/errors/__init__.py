"""One tree of errors: one class = one code = one HTTP status = one message key.

Verbs in SQL return rows with a code; `refusal` gives the class for any code but `ok`. What the
database raises has an SQLSTATE; `for_sqlstate` gives the class for that. Both never fail: a code
nobody declared is a defect and comes back as `BrokenPromise`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdfast.errors.broken import *  # noqa: F403 - the tree is one name space in five files
from holdfast.errors.identity import *  # noqa: F403
from holdfast.errors.requests import *  # noqa: F403
from holdfast.errors.tree import *  # noqa: F403
from holdfast.errors.tree import BrokenPromise, HoldfastError, Retryable, Unavailable
from holdfast.errors.work import *  # noqa: F403


def classes() -> list[type[HoldfastError]]:
    """Return every class of the tree that stands for a code, parents before children."""

    def below(kind: type[HoldfastError]) -> Iterator[type[HoldfastError]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    return [kind for kind in below(HoldfastError) if kind.__module__.startswith(__name__)]


_BY_CODE: dict[str, type[HoldfastError]] = {}
for _kind in classes():
    _BY_CODE.setdefault(_kind.code, _kind)  # a child that only changes the status comes later
_BY_SQLSTATE = {kind.sqlstate: kind for kind in classes() if "sqlstate" in vars(kind)}

_RETRY = frozenset({"40001", "40P01", "55P03"})
# connection lost or refused, server stopping or starting, out of connections, disk or memory,
# a statement above its time, an idle transaction ended
_OUTAGE_CLASSES = ("08", "53", "58", "57P")
_OUTAGES = frozenset({"57014", "25P03", "25P04"})


def by_code(code: str) -> type[HoldfastError] | None:
    """Return the class of a code, or None for a code that nobody declared."""
    return _BY_CODE.get(code)


def refusal(code: str, **facts: Any) -> HoldfastError:
    """Build the error for the code of an outcome row; the row's other columns are its facts."""
    kind = _BY_CODE.get(code)
    if kind is None:
        return BrokenPromise(reason=f"the database returned the undeclared code {code!r}", **facts)
    return kind(**facts)


def for_sqlstate(sqlstate: str | None, message: str = "") -> HoldfastError | None:
    """Build the error for what the database raised, or None where it is a plain defect.

    No SQLSTATE at all means that the connection broke: an outage. `message` is the database's own
    sentence, kept as the fact `reason` for the log where the class does not show its facts.
    """
    if sqlstate is None or sqlstate in _OUTAGES or sqlstate.startswith(_OUTAGE_CLASSES):
        return Unavailable()
    if sqlstate in _RETRY:
        return Retryable()
    kind = _BY_SQLSTATE.get(sqlstate)
    if kind is None and sqlstate.startswith("KH"):
        kind = BrokenPromise
    if kind is None:
        return None
    return kind(reason=message) if issubclass(kind, BrokenPromise) else kind()
