"""Reads: one function per question."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from holdfast.errors import refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle
from holdfast.systems.orders.order import STATUSES, Order, Role, order_of, told


@dataclass(frozen=True, slots=True)
class Trace:
    """One line of an order's trail. `actor` is an account's id, `sweeper`, or `sql:role`."""

    id: UUID
    action: str
    from_status: str | None
    to_status: str | None
    old_value: str | None
    new_value: str | None
    actor: str
    reason: str | None
    request_id: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Changes:
    """Orders that changed, as they are now, and the horizon of the next question."""

    orders: tuple[Order, ...]
    horizon: int


@dataclass(frozen=True, slots=True)
class Depth:
    """How many orders of a desk stand in a status, how many late, since when the oldest."""

    desk: str
    status: str
    orders: int
    late: int
    oldest: datetime | None


async def get(
    db: Handle,
    *,
    order_id: UUID,
    actor_id: UUID,
    role: Role = "user",
    family: Sequence[UUID] | None = None,
) -> Order:
    """Return one order. Raises OrderNotFound; Forbidden for operators of other desks."""
    row = await call_one(
        db,
        """select t.code, t.allowed, t.most, (t.seen).* from orders.get(order_id => %(order)s,
            actor => %(actor)s, role => %(role)s, family => %(family)s::uuid[]) t""",
        {
            "order": order_id,
            "actor": actor_id,
            "role": role,
            "family": None if family is None else list(family),
        },
    )
    return told(row)


async def list_of_customer(
    db: Handle,
    *,
    actor_id: UUID,
    family: Sequence[UUID],
    role: Role = "user",
    statuses: Sequence[str] = STATUSES,
    desks: Sequence[str] | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> list[Order]:
    """Return a customer's own orders (of `desks`, where given), newest first, before an id."""
    rows = await call(
        db,
        """select t.allowed, (t.seen).* from orders.list_of_customer(actor => %(actor)s,
            family => %(family)s::uuid[], role => %(role)s, statuses => %(statuses)s::text[],
            desks => %(desks)s::text[], before => %(before)s, at_most => %(limit)s) t""",
        {
            "actor": actor_id,
            "family": list(family),
            "role": role,
            "statuses": list(statuses),
            "desks": None if desks is None else list(desks),
            "before": before,
            "limit": limit,
        },
    )
    return [order_of(row) for row in rows]


async def list_of_desk(
    db: Handle,
    *,
    desk: str,
    actor_id: UUID,
    role: Role,
    family: Sequence[UUID] | None = None,
    statuses: Sequence[str] = STATUSES,
    after: tuple[int, UUID] | None = None,
    limit: int = 50,
) -> list[Order]:
    """Return a desk's orders by priority, then age, after the place (priority, id).

    Raises DeskNotFound; Forbidden for who does not work there.
    """
    rows = await call(
        db,
        """select t.code, t.allowed, (t.seen).* from orders.list_of_desk(desk => %(desk)s,
            actor => %(actor)s, role => %(role)s, family => %(family)s::uuid[],
            statuses => %(statuses)s::text[], after_priority => %(priority)s,
            after_id => %(after)s, at_most => %(limit)s) t""",
        {
            "desk": desk,
            "actor": actor_id,
            "role": role,
            "family": list(family or [actor_id]),
            "statuses": list(statuses),
            "priority": after[0] if after else None,
            "after": after[1] if after else None,
            "limit": limit,
        },
    )
    return [told(row, desk=desk) for row in rows]


async def audit_of(
    db: Handle,
    *,
    order_id: UUID,
    actor_id: UUID,
    role: Role,
    family: Sequence[UUID] | None = None,
) -> list[Trace]:
    """Return the trail of one order, oldest first. Raises OrderNotFound, Forbidden."""
    rows = await call(
        db,
        """select * from orders.audit_of(order_id => %(order)s, actor => %(actor)s,
            role => %(role)s, family => %(family)s::uuid[])""",
        {
            "order": order_id,
            "actor": actor_id,
            "role": role,
            "family": None if family is None else list(family),
        },
    )
    if rows and rows[0]["code"] != "ok":
        raise refusal(rows[0]["code"])
    return [
        Trace(
            id=row["id"],
            action=row["action"],
            from_status=row["from_status"],
            to_status=row["to_status"],
            old_value=row["old_value"],
            new_value=row["new_value"],
            actor=row["actor_id"],
            reason=row["reason"],
            request_id=row["request_id"],
            at=row["at"],
        )
        for row in rows
    ]


async def changes(db: Handle, *, since: int | None = None) -> Changes:
    """Return the orders of all desks that changed since a horizon, and the next horizon.

    One question for everybody who watches; an order may come again unchanged. Without `since`
    only the horizon to begin with.
    """
    rows = await call(
        db,
        "select t.horizon, (t.seen).* from orders.changes(since => %(since)s) t",
        {"since": since},
    )
    seen = tuple(order_of(row) for row in rows if row["id"] is not None)
    return Changes(seen, rows[0]["horizon"])


async def depth(db: Handle) -> list[Depth]:
    """Return how many orders stand where, per desk and open status, for meters."""
    return [Depth(**row) for row in await call(db, "select * from orders.depth()")]
