"""The roots of the tree: what every error of Holdfast is, and the few kinds there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any, ClassVar, TypeAlias
from uuid import UUID

from holdfast import messages

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


class HoldfastError(Exception):
    """Anything Holdfast says instead of a result.

    A class stands for one `code`, one HTTP `status` and one message key (the code). `facts` are
    what was true when it happened, named in snake_case: plain values, UUIDs, datetimes, lists and
    mappings of them. They fill the sentence and are shown to the caller, so no secret goes in.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    sqlstate: ClassVar[str | None] = None  # what the database raises for it, where it raises

    def __init__(self, **facts: Any) -> None:
        self.facts: dict[str, Any] = {k: v for k, v in facts.items() if v is not None}
        super().__init__(self.code)

    def __str__(self) -> str:
        return f"{self.code}: {self.detail()}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.facts)

    def title(self, locale: str = messages.DEFAULT) -> str:
        """Name the kind of problem, the same for every occurrence."""
        return messages.translator(locale).title(self.code)

    def detail(self, locale: str = messages.DEFAULT) -> str:
        """Say what happened this time, with the facts."""
        return messages.translator(locale).detail(self.code, self.facts)

    def next(self, locale: str = messages.DEFAULT) -> str:
        """Say what the reader can do now."""
        return messages.translator(locale).next(self.code, self.facts)

    @property
    def retry_after(self) -> int | None:
        """Whole seconds after which trying again makes sense, or None."""
        value = self.facts.get("retry_after")
        return None if value is None else max(1, round(value))

    def exposed(self) -> dict[str, Json]:
        """Return the facts as JSON values under camelCase names, for a problem document."""
        return {camel(name): to_json(value) for name, value in self.facts.items()}


class Refusal(HoldfastError):
    """A business answer: the system works, and the answer is no. Never retried by itself."""

    code = "refused"
    status = 409


class Unavailable(HoldfastError):
    """The database or a provider cannot be reached now. Says nothing about what was asked."""

    code = "unavailable"
    status = 503

    def __init__(self, *, retry_after: float = 5, **facts: Any) -> None:
        """Take the seconds after which to try again."""
        super().__init__(retry_after=retry_after, **facts)


class Retryable(Unavailable):
    """Two transactions met (SQLSTATE 40001, 40P01, 55P03); nothing was written: run it again."""

    code = "busy"
    sqlstate = "40001"

    def __init__(self, *, retry_after: float = 1, **facts: Any) -> None:
        """Take the seconds after which to try again."""
        super().__init__(retry_after=retry_after, **facts)


class BrokenPromise(HoldfastError):
    """The database refused a write that no verb should have tried (SQLSTATE class KH).

    A defect or hand-written SQL, never an answer: callers see 500 and a request id, the facts go
    to the log.
    """

    code = "broken_promise"
    sqlstate = "KH000"

    def __str__(self) -> str:
        return f"{self.code}: {self.facts.get('reason') or self.detail()}"

    def exposed(self) -> dict[str, Json]:
        """Return nothing: what broke inside is for the log."""
        return {}


class Setup(HoldfastError):
    """This installation cannot start as it is. Told on a terminal, in one sentence."""

    code = "setup"
    status = 503


def camel(name: str) -> str:
    """Turn a snake_case name into the camelCase of our JSON."""
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)


def to_json(value: object) -> Json:
    """Turn a fact into a JSON value: ids and times as text, names in camelCase all the way down."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Enum():
            return to_json(value.value)
        case UUID():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Mapping():
            return {camel(str(name)): to_json(inner) for name, inner in value.items()}
        case Iterable():
            return [to_json(inner) for inner in value]
        case _:
            return str(value)


def _revive(kind: type[HoldfastError], facts: dict[str, Any]) -> HoldfastError:
    """Unpickle with the facts as keywords; an exception's default would pass the code."""
    return kind(**facts)
