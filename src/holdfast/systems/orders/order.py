"""An order as its readers see it, and how the answer of a verb is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, TypeAlias
from uuid import UUID

from holdfast.errors import HoldfastError, refusal
from holdfast.postgres.pool import Row

Status: TypeAlias = Literal["PENDING", "PROCESSING", "COMPLETED", "CANCELLED"]
Role: TypeAlias = Literal["user", "operator", "supervisor", "admin"]
_VERBS = ("take", "release", "complete", "heartbeat", "reassign", "cancel")
STATUSES: tuple[Status, ...] = ("PENDING", "PROCESSING", "COMPLETED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class Allowed:
    """One verb and whether a try would succeed; `reason` is the code that it would get."""

    action: str
    allowed: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """One order. Times are UTC; `priority` 0-9, higher first; `holder_name` may be unknown.

    `lease_until`: without a sign of life until then it goes back to the desk. `breached_at`: when
    its lateness (past `due_at`) was announced. `allowed_actions` are those of whoever asked, and
    empty where nobody did (`changes`). `replayed`: an earlier request with the same key was
    answered so.
    """

    id: UUID
    desk: str
    status: Status
    title: str
    details: str | None
    priority: int
    customer_id: UUID
    assigned_operator_id: UUID | None
    holder_name: str | None
    assigned_at: datetime | None
    lease_until: datetime | None
    due_at: datetime
    breached_at: datetime | None
    version: int
    created_at: datetime
    finished_at: datetime | None
    allowed_actions: tuple[Allowed, ...] = ()
    replayed: bool = False

    @property
    def holder(self) -> dict[str, Any] | None:
        """Who has it, as `{id, name}`; None where nobody does."""
        if self.assigned_operator_id is None:
            return None
        return {"id": self.assigned_operator_id, "name": self.holder_name}


_COLUMNS = tuple(n for n in Order.__slots__ if n not in ("allowed_actions", "replayed"))


def order_of(row: Row) -> Order:
    """Read an order out of a row with the columns of orders.order_seen."""
    return Order(
        **{name: row[name] for name in _COLUMNS},
        allowed_actions=_allowed(tuple(row.get("allowed") or ())),
        replayed=bool(row.get("replayed")),
    )


@lru_cache(maxsize=256)
def _allowed(codes: tuple[str, ...]) -> tuple[Allowed, ...]:
    return tuple(
        Allowed(verb, True) if code in ("ok", "own") else Allowed(verb, False, code)
        for verb, code in zip(_VERBS, codes, strict=False)
    )


def told(row: Row, **facts: Any) -> Order:
    """Return the order that a verb answered with, or raise what it refused with."""
    outcome = outcome_of(row, **facts)
    if isinstance(outcome, HoldfastError):
        raise outcome
    return outcome


def outcome_of(row: Row, **facts: Any) -> Order | HoldfastError:
    """Return the order that a verb answered with, or its refusal with what may be known."""
    code: str = row["code"]
    if code == "ok":
        return order_of(row)
    if row.get("id") is None:
        return refusal(code, limit=row.get("most"), **facts)
    order = order_of(row)
    match code:
        case "order_already_assigned" | "lease_lost":
            facts |= {
                "holder": order.holder,
                "since": order.assigned_at,
                "version": order.version,
            }
        case "order_not_pending" | "order_not_processing":
            facts |= {"status": order.status, "version": order.version}
        case "version_mismatch":
            facts |= {"version": order.version}
        case "wip_limit_reached":
            facts |= {"limit": row["most"]}
    return refusal(code, **facts)


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one order of several: `order` as it is now, or the `refusal` of a single try."""

    id: UUID
    order: Order | None
    refusal: HoldfastError | None

    @property
    def outcome(self) -> str:
        """`ok`, or the refusal's code."""
        return "ok" if self.refusal is None else self.refusal.code


def judged(rows: Sequence[Row]) -> list[Judged]:
    """Read the outcomes of a bulk move, in their order."""
    made: list[Judged] = []
    for row in sorted(rows, key=lambda row: row["ord"]):
        outcome = outcome_of(row)
        refused = outcome if isinstance(outcome, HoldfastError) else None
        shown = order_of(row) if row["id"] is not None else None
        made.append(Judged(row["order_id"], shown, refused))
    return made
