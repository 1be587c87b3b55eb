"""Sweeps: who is silent loses the order, who is late is announced. For the worker's list."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle


@dataclass(frozen=True, slots=True)
class Lapsed:
    """An order that went back to its desk because its holder was silent."""

    order_id: UUID
    operator_id: UUID
    version: int


@dataclass(frozen=True, slots=True)
class Late:
    """An order whose time has passed, announced now and never again."""

    order_id: UUID
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep of the order desk did."""

    lapsed: tuple[Lapsed, ...]
    late: tuple[Late, ...]


async def sweep(db: Handle, *, limit: int = 500) -> Swept:
    """Return silent holders' orders to their desks and announce late ones, `limit` of each."""
    return Swept(
        tuple(await sweep_leases(db, limit=limit)), tuple(await sweep_late(db, limit=limit))
    )


async def sweep_leases(db: Handle, *, limit: int = 500) -> list[Lapsed]:
    """Return up to `limit` orders whose lease has passed to their desks."""
    rows = await call(
        db, "select * from orders.sweep_leases(at_most => %(limit)s)", {"limit": limit}
    )
    return [Lapsed(**row) for row in rows]


async def sweep_late(db: Handle, *, limit: int = 500) -> list[Late]:
    """Announce up to `limit` orders that are past their time, each once."""
    rows = await call(db, "select * from orders.sweep_late(at_most => %(limit)s)", {"limit": limit})
    return [Late(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What an erased person left: orders given back, and own ones cancelled."""

    released: int
    cancelled: int


async def forget(db: Handle, *, account_id: UUID) -> Forgotten:
    """Release what a person holds, cancel what he asked for, blank his name and his words."""
    row = await call_one(
        db, "select * from orders.forget(account => %(account)s)", {"account": account_id}
    )
    return Forgotten(**row)
