"""What is different between two JSON values, for a person to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_SHOWN = 100  # changes told at most
_LONG = 500  # characters of a text shown at most


@dataclass(frozen=True, slots=True)
class Change:
    """One place where an input differs from what a step was made from.

    `input` is the declared one (`3.finalScript`), `pointer` leads on from there (RFC 6901). `was`
    and `now` are JSON values, None where there is none; `kind` is added, removed or changed.
    """

    input: str
    pointer: str
    kind: str
    was: Any
    now: Any


def changes(inputs: list[dict[str, Any]] | None) -> tuple[Change, ...]:
    """Return the changes of a stale step's inputs, in document order, at most a hundred."""
    made: list[Change] = []
    for one in inputs or ():
        name = f"{one['from']}.{'.'.join(one['path'])}"
        for change in _between(name, "", one["was"], one["now"]):
            made.append(change)
            if len(made) == _SHOWN:
                return tuple(made)
    return tuple(made)


def _between(name: str, pointer: str, was: Any, now: Any) -> Iterator[Change]:
    if was == now and isinstance(was, bool) == isinstance(now, bool):
        return
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*was, *(key for key in now if key not in was)]:
            below = f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
            yield from _member(name, below, was, now, key)
    elif isinstance(was, list) and isinstance(now, list):
        old, new = dict(enumerate(was)), dict(enumerate(now))
        for index in range(max(len(was), len(now))):
            yield from _member(name, f"{pointer}/{index}", old, new, index)
    else:
        kind = "added" if was is None else "removed" if now is None else "changed"
        yield Change(name, pointer, kind, _short(was), _short(now))


def _member(
    name: str, pointer: str, was: dict[Any, Any], now: dict[Any, Any], key: Any
) -> Iterator[Change]:
    if key not in now:
        yield Change(name, pointer, "removed", _short(was[key]), None)
    elif key not in was:
        yield Change(name, pointer, "added", None, _short(now[key]))
    else:
        yield from _between(name, pointer, was[key], now[key])


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONG:
        return value[: _LONG - 1] + "…"
    return value
