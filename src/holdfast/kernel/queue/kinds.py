"""Kinds of jobs that a user's program defines: a decorated function, and the way to buy one."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from holdfast.errors import JobKindUnknown
from holdfast.kernel.queue.jobs import SUBMIT, Kind, Submitted, declare_kind, submitted
from holdfast.postgres.combine import submit as combined
from holdfast.postgres.pool import Database, Handle

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Declared:
    """A kind, what one job of it costs (minor units), and the function that makes it."""

    kind: Kind
    price: int
    function: Callable[..., Any]


_declared: dict[str, Declared] = {}
_known: WeakKeyDictionary[Database, set[str]] = WeakKeyDictionary()


def job(
    kind: str,
    *,
    price: int = 0,
    attempts: int = 3,
    backoff: float = 1.0,
    lease: float = 30.0,
    deadline: float = 3600.0,
    queue_deadline: float = 86_400.0,
) -> Callable[[_Function], _Function]:
    """Declare a kind of job and the function that makes it; the function stays as it is.

    It is called with the Attempt and returns the result (a JSON object) or None. A plain function
    runs in a thread of its own. `price` is in minor units of crystals, times are in seconds; each
    further attempt waits four times longer than `backoff`. A worker makes such jobs when it was
    started with `holdfast work --import MODULE`.

    Raises ValueError for a kind that another function has, or a price below zero.
    """
    if price < 0:
        raise ValueError(f"the price of {kind!r} is {price}: nobody is paid for a job")

    def declare(function: _Function) -> _Function:
        before = _declared.get(kind)
        if before is not None and _place(before.function) != _place(function):
            raise ValueError(f"the job kind {kind!r} is declared twice")
        settings = Kind(kind, attempts, backoff, lease, deadline, queue_deadline)
        _declared[kind] = Declared(settings, price, function)
        return function

    return declare


def declared() -> Mapping[str, Declared]:
    """Return the kinds that were declared in this process, by name."""
    return dict(_declared)


async def enqueue(
    db: Handle,
    kind: str | Callable[..., Any],
    *,
    account_id: UUID,
    key: str,
    payload: Mapping[str, Any] | None = None,
    price: int | None = None,
    request_id: str | None = None,
) -> Submitted:
    """Charge for a job and queue it, in one round trip, once per key and account.

    `kind` is the decorated function or the name. `price` overrides the declared one (minor units).
    On a Database the kind is made known at its first use; on the caller's own connection, where
    charge and job join his transaction, a worker or `queue.declare_kind` must have done that.

    Raises JobKindUnknown, InsufficientTokens (needed, available; the key stays free),
    IdempotencyKeyReused, NotFound (no such account), Retryable.
    """
    found = _find(kind)
    if isinstance(db, Database) and found.kind.kind not in _known.setdefault(db, set()):
        await declare_kind(db, found.kind)
        _known[db].add(found.kind.kind)
    row = await combined(
        db,
        SUBMIT,
        {
            "accounts": account_id,
            "kinds": found.kind.kind,
            "payloads": json.dumps(dict(payload or {})),
            "prices": found.price if price is None else price,
            "keys": key,
            "retry_ofs": None,
            "request_ids": request_id,
        },
    )
    return submitted(row)


def _find(kind: str | Callable[..., Any]) -> Declared:
    for found in _declared.values():
        if kind in (found.kind.kind, found.function):
            return found
    raise JobKindUnknown(kind=kind if isinstance(kind, str) else _place(kind)[1])


def _place(function: Callable[..., Any]) -> tuple[str, str]:
    """Where a function stands: a module that is imported again declares the same one."""
    return (
        getattr(function, "__module__", ""),
        getattr(function, "__qualname__", type(function).__qualname__),
    )
