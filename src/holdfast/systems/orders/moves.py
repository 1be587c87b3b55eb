"""Everything that happens to an order besides being taken."""

from collections.abc import Sequence
from uuid import UUID

from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle
from holdfast.systems.orders.order import Judged, Order, Role, judged, told


async def place(
    db: Handle,
    *,
    customer_id: UUID,
    title: str,
    details: str | None = None,
    priority: int = 0,
    desk: str = "main",
    key: str | None = None,
    role: Role = "user",
    request_id: str | None = None,
) -> Order:
    """Give an order to a desk; with a `key` once per customer, desk and key.

    `title` 1-200 characters, `details` up to 10,000, `priority` 0-9. The usual time in which it
    is due is divided by 1 + priority. Raises DeskNotFound, IdempotencyKeyReused.
    """
    row = await call_one(
        db,
        """select t.code, t.allowed, t.most, t.replayed, (t.seen).* from orders.place(
            desk => %(desk)s, customer => %(customer)s, title => %(title)s,
            details => %(details)s, priority => %(priority)s, key => %(key)s,
            request_id => %(request)s, role => %(role)s) t""",
        {
            "desk": desk,
            "customer": customer_id,
            "title": title,
            "details": details,
            "priority": priority,
            "key": key,
            "request": request_id,
            "role": role,
        },
    )
    return told(row, desk=desk)


async def heartbeat(
    db: Handle,
    *,
    order_id: UUID,
    operator_id: UUID,
    role: Role = "operator",
    family: Sequence[UUID] | None = None,
    version: int | None = None,
    dry_run: bool = False,
) -> Order:
    """Begin the holder's lease anew; the version stays. Raises what `release` raises."""
    row = await call_one(
        db,
        """select t.code, t.allowed, t.most, t.replayed, (t.seen).* from orders.heartbeat(
            order_id => %(order)s, actor => %(actor)s, role => %(role)s,
            family => %(family)s::uuid[], if_version => %(version)s, dry_run => %(dry)s) t""",
        {
            "order": order_id,
            "actor": operator_id,
            "role": role,
            "family": None if family is None else list(family),
            "version": version,
            "dry": dry_run,
        },
    )
    return told(row)


async def release(
    db: Handle,
    *,
    order_id: UUID,
    operator_id: UUID,
    role: Role = "operator",
    family: Sequence[UUID] | None = None,
    version: int | None = None,
    dry_run: bool = False,
    key: str | None = None,
    request_id: str | None = None,
) -> Order:
    """Give an order back to its desk, where it waits at its old place.

    Raises VersionMismatch first (where `version` is given), LeaseLost for who had it and lost it,
    Forbidden for who never had it, OrderNotProcessing, OrderNotFound.
    """
    row = await call_one(
        db,
        """select t.code, t.allowed, t.most, t.replayed, (t.seen).* from orders.release(
            order_id => %(order)s, actor => %(actor)s, role => %(role)s,
            family => %(family)s::uuid[], request_id => %(request)s,
            if_version => %(version)s, dry_run => %(dry)s, key => %(key)s) t""",
        {
            "order": order_id,
            "actor": operator_id,
            "role": role,
            "family": None if family is None else list(family),
            "request": request_id,
            "version": version,
            "dry": dry_run,
            "key": key,
        },
    )
    return told(row)


async def complete(
    db: Handle,
    *,
    order_id: UUID,
    operator_id: UUID,
    role: Role = "operator",
    family: Sequence[UUID] | None = None,
    version: int | None = None,
    dry_run: bool = False,
    key: str | None = None,
    request_id: str | None = None,
) -> Order:
    """Say that the work on an order is done. Raises what `release` raises."""
    row = await call_one(
        db,
        """select t.code, t.allowed, t.most, t.replayed, (t.seen).* from orders.complete(
            order_id => %(order)s, actor => %(actor)s, role => %(role)s,
            family => %(family)s::uuid[], request_id => %(request)s,
            if_version => %(version)s, dry_run => %(dry)s, key => %(key)s) t""",
        {
            "order": order_id,
            "actor": operator_id,
            "role": role,
            "family": None if family is None else list(family),
            "request": request_id,
            "version": version,
            "dry": dry_run,
            "key": key,
        },
    )
    return told(row)


async def cancel(
    db: Handle,
    *,
    order_id: UUID,
    actor_id: UUID,
    role: Role = "user",
    family: Sequence[UUID] | None = None,
    version: int | None = None,
    dry_run: bool = False,
    reason: str | None = None,
    key: str | None = None,
    request_id: str | None = None,
) -> Order:
    """Cancel an order: while it waits its customer or an operator may, later only the holder.

    A supervisor always may. Raises VersionMismatch first, OrderNotPending (status: finished
    already), LeaseLost, Forbidden, OrderNotFound.
    """
    row = await call_one(
        db,
        """select t.code, t.allowed, t.most, t.replayed, (t.seen).* from orders.cancel(
            order_id => %(order)s, actor => %(actor)s, role => %(role)s,
            family => %(family)s::uuid[], request_id => %(request)s,
            if_version => %(version)s, dry_run => %(dry)s, key => %(key)s,
            reason => %(reason)s) t""",
        {
            "order": order_id,
            "actor": actor_id,
            "role": role,
            "family": None if family is None else list(family),
            "request": request_id,
            "version": version,
            "dry": dry_run,
            "key": key,
            "reason": reason,
        },
    )
    return told(row)


async def reassign_each(
    db: Handle,
    *,
    order_ids: Sequence[UUID],
    operator_id: UUID,
    reason: str,
    actor_id: UUID,
    operator_role: Role = "operator",
    operator_name: str | None = None,
    role: Role = "supervisor",
    family: Sequence[UUID] | None = None,
    version: int | None = None,
    dry_run: bool = False,
    request_id: str | None = None,
) -> list[Judged]:
    """Hand held orders to another operator of their desks, each with an outcome of its own.

    Outcomes: ok, forbidden, order_not_processing, order_not_found, operator_not_found (he does
    not work there), wip_limit_reached, version_mismatch. An id named twice is judged once.
    """
    rows = await call(
        db,
        """select t.ord, t.order_id, t.code, t.allowed, t.most, (t.seen).*
            from orders.reassign_each(
                order_ids => %(orders)s::uuid[], operator_id => %(operator)s,
                operator_role => %(operator_role)s, operator_name => %(name)s,
                reason => %(reason)s, actor => %(actor)s, role => %(role)s,
                family => %(family)s::uuid[], request_id => %(request)s,
                if_version => %(version)s, dry_run => %(dry)s) t""",
        {
            "orders": list(order_ids),
            "operator": operator_id,
            "operator_role": operator_role,
            "name": operator_name,
            "reason": reason,
            "actor": actor_id,
            "role": role,
            "family": None if family is None else list(family),
            "request": request_id,
            "version": version,
            "dry": dry_run,
        },
    )
    return judged(rows)


async def reassign(
    db: Handle,
    *,
    order_id: UUID,
    operator_id: UUID,
    reason: str,
    actor_id: UUID,
    operator_role: Role = "operator",
    operator_name: str | None = None,
    role: Role = "supervisor",
    family: Sequence[UUID] | None = None,
    version: int | None = None,
    dry_run: bool = False,
    request_id: str | None = None,
) -> Order:
    """Hand one held order to another operator; raises the outcomes of `reassign_each`."""
    (outcome,) = await reassign_each(
        db,
        order_ids=[order_id],
        operator_id=operator_id,
        reason=reason,
        actor_id=actor_id,
        operator_role=operator_role,
        operator_name=operator_name,
        role=role,
        family=family,
        version=version,
        dry_run=dry_run,
        request_id=request_id,
    )
    if outcome.refusal is not None:
        raise outcome.refusal
    assert outcome.order is not None
    return outcome.order
