"""Placing, taking, and everything else that happens to an order."""

from __future__ import annotations

from starlette.responses import Response

from holdfast.errors import (
    DeskNotFound,
    Forbidden,
    IdempotencyKeyReused,
    LeaseLost,
    OperatorNotFound,
    OrderAlreadyAssigned,
    OrderNotFound,
    OrderNotPending,
    OrderNotProcessing,
    VersionMismatch,
    WipLimitReached,
)
from holdfast.systems import orders
from holdfast.systems.orders import Judged
from holdfast.web.api.orders.shapes import (
    BulkReassignBody,
    BulkTakeBody,
    CancelBody,
    DryRun,
    NextBody,
    OrderShape,
    OutcomeShape,
    OutcomesShape,
    PlaceBody,
    ReassignBody,
    asking,
    chosen,
    order_shape,
    shown,
    taking,
)
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, Db, IfMatch, OptionalKey, PathId, RunningDep
from holdfast.web.responses import answer, refuses

router = json_router(prefix="/api/orders", tags=["orders"])

_MOVES = refuses(
    OrderNotFound, Forbidden, LeaseLost, OrderNotProcessing, VersionMismatch, IdempotencyKeyReused
)


@router.post(
    "",
    status_code=201,
    response_model=OrderShape,
    responses=refuses(DeskNotFound, IdempotencyKeyReused),
)
async def place(
    body: PlaceBody, caller: CallerDep, key: OptionalKey, db: Db, running: RunningDep
) -> Response:
    """Place an order at a desk."""
    with running.once("orders.place", caller.account_id, key or object()):
        placed = await orders.place(
            db,
            customer_id=caller.account_id,
            role=caller.role,
            key=key,
            request_id=caller.request_id,
            **body.model_dump(),
        )
    return shown(placed, 201)


@router.post(
    "/take-next",
    response_model=OrderShape,
    responses={
        204: {"description": "Nothing waits on this desk."},
        **refuses(DeskNotFound, Forbidden, WipLimitReached, IdempotencyKeyReused),
    },
)
async def take_next(
    caller: CallerDep, key: OptionalKey, db: Db, running: RunningDep, body: NextBody | None = None
) -> Response:
    """Take the order of highest priority, then the oldest, that nobody is taking."""
    desk = (body or NextBody()).desk
    with running.once("orders.take_next", caller.account_id, key or object()):
        taken = await orders.take_next(db, desk=desk, key=key, **taking(caller))
    return Response(status_code=204) if taken is None else shown(taken)


@router.post("/bulk/take", response_model=OutcomesShape)
async def bulk_take(body: BulkTakeBody, caller: CallerDep, db: Db) -> Response:
    """Take several orders, each with an outcome of its own; one named twice is judged once."""
    return _outcomes(await orders.take_each(db, order_ids=body.ids, **taking(caller)))


@router.post("/bulk/reassign", response_model=OutcomesShape, responses=refuses(OperatorNotFound))
async def bulk_reassign(body: BulkReassignBody, caller: CallerDep, db: Db) -> Response:
    """Hand several held orders to another operator, each with an outcome of its own."""
    found = await orders.reassign_each(
        db,
        order_ids=body.ids,
        reason=body.reason,
        **await chosen(db, body.operator_id),
        **asking(caller),
        actor_id=caller.account_id,
        request_id=caller.request_id,
    )
    return _outcomes(found)


def _outcomes(found: list[Judged]) -> Response:
    items = [
        OutcomeShape(
            id=one.id,
            outcome=one.outcome,
            order=order_shape(one.order) if one.order and one.outcome != "forbidden" else None,
        )
        for one in found
    ]
    return answer(OutcomesShape(items=items))


@router.post(
    "/{order_id}/take",
    response_model=OrderShape,
    responses=refuses(
        OrderAlreadyAssigned,
        OrderNotPending,
        OrderNotFound,
        Forbidden,
        WipLimitReached,
        VersionMismatch,
    ),
)
async def take(
    order_id: PathId, caller: CallerDep, version: IfMatch, db: Db, dry_run: DryRun = False
) -> Response:
    """Take an order. Taking one's own again is 200 and changes nothing."""
    taken = await orders.take(
        db, order_id=order_id, version=version, dry_run=dry_run, **taking(caller)
    )
    return shown(taken)


@router.post("/{order_id}/release", response_model=OrderShape, responses=_MOVES)
async def release(
    order_id: PathId,
    caller: CallerDep,
    version: IfMatch,
    key: OptionalKey,
    db: Db,
    dry_run: DryRun = False,
) -> Response:
    """Give an order back to its desk."""
    moved = await orders.release(
        db,
        order_id=order_id,
        operator_id=caller.account_id,
        **asking(caller),
        version=version,
        key=key,
        dry_run=dry_run,
        request_id=caller.request_id,
    )
    return shown(moved)


@router.post("/{order_id}/complete", response_model=OrderShape, responses=_MOVES)
async def complete(
    order_id: PathId,
    caller: CallerDep,
    version: IfMatch,
    key: OptionalKey,
    db: Db,
    dry_run: DryRun = False,
) -> Response:
    """Say that the work is done."""
    moved = await orders.complete(
        db,
        order_id=order_id,
        operator_id=caller.account_id,
        **asking(caller),
        version=version,
        key=key,
        dry_run=dry_run,
        request_id=caller.request_id,
    )
    return shown(moved)


@router.post("/{order_id}/heartbeat", response_model=OrderShape, responses=_MOVES)
async def heartbeat(
    order_id: PathId, caller: CallerDep, version: IfMatch, db: Db, dry_run: DryRun = False
) -> Response:
    """Begin the lease anew: the holder is alive. The version stays."""
    moved = await orders.heartbeat(
        db,
        order_id=order_id,
        operator_id=caller.account_id,
        **asking(caller),
        version=version,
        dry_run=dry_run,
    )
    return shown(moved)


@router.post(
    "/{order_id}/cancel",
    response_model=OrderShape,
    responses=refuses(
        OrderNotFound, Forbidden, LeaseLost, OrderNotPending, VersionMismatch, IdempotencyKeyReused
    ),
)
async def cancel(
    order_id: PathId,
    caller: CallerDep,
    version: IfMatch,
    key: OptionalKey,
    db: Db,
    dry_run: DryRun = False,
    body: CancelBody | None = None,
) -> Response:
    """Cancel an order: its customer or an operator while it waits, later its holder."""
    moved = await orders.cancel(
        db,
        order_id=order_id,
        actor_id=caller.account_id,
        **asking(caller),
        version=version,
        key=key,
        dry_run=dry_run,
        reason=body.reason if body else None,
        request_id=caller.request_id,
    )
    return shown(moved)


@router.post(
    "/{order_id}/reassign",
    response_model=OrderShape,
    responses=refuses(
        OrderNotFound,
        Forbidden,
        OrderNotProcessing,
        OperatorNotFound,
        WipLimitReached,
        VersionMismatch,
    ),
)
async def reassign(
    order_id: PathId,
    body: ReassignBody,
    caller: CallerDep,
    version: IfMatch,
    db: Db,
    dry_run: DryRun = False,
) -> Response:
    """Hand a held order to another operator (supervisors)."""
    moved = await orders.reassign(
        db,
        order_id=order_id,
        reason=body.reason,
        **await chosen(db, body.operator_id),
        **asking(caller),
        actor_id=caller.account_id,
        version=version,
        dry_run=dry_run,
        request_id=caller.request_id,
    )
    return shown(moved)
