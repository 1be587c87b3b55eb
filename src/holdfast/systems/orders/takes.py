"""Taking: one order, one operator, under any race."""

from collections.abc import Sequence
from time import perf_counter
from uuid import UUID

from holdfast.errors import HoldfastError
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle
from holdfast.systems.orders import meters
from holdfast.systems.orders.order import Judged, Order, Role, judged, outcome_of


async def take(
    db: Handle,
    *,
    order_id: UUID,
    operator_id: UUID,
    operator_name: str | None = None,
    role: Role = "operator",
    family: Sequence[UUID] | None = None,
    version: int | None = None,
    dry_run: bool = False,
    request_id: str | None = None,
) -> Order:
    """Take an order, in one round trip. Taking one's own again changes nothing.

    `operator_name` is what others will read on it; `family` are the operator's aliases and
    himself. Raises OrderAlreadyAssigned (holder, since, version), OrderNotPending (status),
    OrderNotFound, Forbidden, WipLimitReached (limit), VersionMismatch (where `version` is given),
    Unavailable. With `dry_run` nothing is written.
    """
    began = perf_counter()
    row = await call_one(
        db,
        """select t.code, t.allowed, t.most, (t.seen).* from orders.take(
            order_id => %(order)s, actor => %(actor)s, role => %(role)s,
            family => %(family)s::uuid[], actor_name => %(name)s, request_id => %(request)s,
            if_version => %(version)s, dry_run => %(dry)s) t""",
        {
            "order": order_id,
            "actor": operator_id,
            "role": role,
            "family": None if family is None else list(family),
            "name": operator_name,
            "request": request_id,
            "version": version,
            "dry": dry_run,
        },
    )
    outcome = outcome_of(row)
    if not dry_run:
        meters.took(row["code"], perf_counter() - began)
    if isinstance(outcome, HoldfastError):
        raise outcome
    return outcome


async def take_next(
    db: Handle,
    *,
    operator_id: UUID,
    desk: str = "main",
    operator_name: str | None = None,
    role: Role = "operator",
    family: Sequence[UUID] | None = None,
    key: str | None = None,
    request_id: str | None = None,
) -> Order | None:
    """Take the desk's order of highest priority, then the oldest; None when nothing waits.

    Asked again with the same `key` it answers with the same order, and takes no other. Raises
    DeskNotFound, Forbidden, WipLimitReached (limit), IdempotencyKeyReused, Unavailable.
    """
    began = perf_counter()
    row = await call_one(
        db,
        """select t.code, t.allowed, t.most, t.replayed, (t.seen).* from orders.take_next(
            desk => %(desk)s, actor => %(actor)s, role => %(role)s,
            family => %(family)s::uuid[], actor_name => %(name)s, request_id => %(request)s,
            key => %(key)s) t""",
        {
            "desk": desk,
            "actor": operator_id,
            "role": role,
            "family": None if family is None else list(family),
            "name": operator_name,
            "request": request_id,
            "key": key,
        },
    )
    meters.took(row["code"], perf_counter() - began)
    if row["code"] == "empty":
        return None
    outcome = outcome_of(row, desk=desk)
    if isinstance(outcome, HoldfastError):
        raise outcome
    return outcome


async def take_each(
    db: Handle,
    *,
    order_ids: Sequence[UUID],
    operator_id: UUID,
    operator_name: str | None = None,
    role: Role = "operator",
    family: Sequence[UUID] | None = None,
    request_id: str | None = None,
) -> list[Judged]:
    """Take several orders, in the order named, each with an outcome of its own.

    An id named twice is judged once. All are locked first, in id order.
    """
    rows = await call(
        db,
        """select t.ord, t.order_id, t.code, t.allowed, t.most, (t.seen).* from orders.take_each(
            order_ids => %(orders)s::uuid[], actor => %(actor)s, role => %(role)s,
            family => %(family)s::uuid[], actor_name => %(name)s, request_id => %(request)s) t""",
        {
            "orders": list(order_ids),
            "actor": operator_id,
            "role": role,
            "family": None if family is None else list(family),
            "name": operator_name,
            "request": request_id,
        },
    )
    for row in rows:
        meters.took(row["code"])
    return judged(rows)
