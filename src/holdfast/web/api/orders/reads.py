"""Lists, one order, its trail, and what changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from holdfast.errors import DeskNotFound, Forbidden, OrderNotFound
from holdfast.systems import orders
from holdfast.systems.orders import Order
from holdfast.web.api.orders.shapes import (
    OrderShape,
    Status,
    TraceShape,
    TrailShape,
    asking,
    order_shape,
    shown,
)
from holdfast.web.board import EVERYTHING
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, Db, PageDep, PathId
from holdfast.web.responses import Items, answer, refuses, render
from holdfast.web.tickets import WatcherDep

router = json_router(prefix="/api/orders", tags=["orders"])

_OPEN = ("PENDING", "PROCESSING")


@router.get("", response_model=Items[OrderShape], responses=refuses(Forbidden, DeskNotFound))
async def list_of(
    caller: CallerDep,
    db: Db,
    page: PageDep,
    status: Annotated[list[Status] | None, Query()] = None,
    desk: Annotated[str | None, Query(max_length=40)] = None,
) -> Response:
    """A customer's own orders, newest first; for operators the desk's, by priority, then age."""
    statuses = status or orders.STATUSES
    if caller.role == "user":
        mine = await orders.list_of_customer(
            db,
            actor_id=caller.account_id,
            family=caller.family,
            statuses=statuses,
            desks=[desk] if desk is not None else None,
            before=page.after("orders", UUID),
            limit=page.fetch,
        )
        return answer(page.answer("orders", mine, lambda order: order.id, order_shape))
    name = desk or "main"
    found = await orders.list_of_desk(
        db,
        desk=name,
        actor_id=caller.account_id,
        **asking(caller),
        statuses=statuses,
        after=page.after(f"desk {name}", lambda last: (int(last[0]), UUID(last[1]))),
        limit=page.fetch,
    )
    return answer(
        page.answer(f"desk {name}", found, lambda o: [o.priority, str(o.id)], order_shape)
    )


async def _listed(
    watcher: WatcherDep, db: Db, desk: Annotated[str, Query(max_length=40)] = "main"
) -> tuple[Callable[[Order], bool], Callable[[], Any]]:
    """Answer 403 and 404 while it still can be: once a stream has begun it has its status."""
    if watcher.role == "user":
        family = set(watcher.family)

        async def own() -> list[Order]:
            return await orders.list_of_customer(
                db, actor_id=watcher.account_id, family=watcher.family, statuses=_OPEN, limit=200
            )

        return (lambda order: order.customer_id in family), own
    await orders.list_of_desk(
        db, desk=desk, actor_id=watcher.account_id, **asking(watcher), limit=1
    )

    async def of_desk() -> list[Order]:
        return await orders.list_of_desk(
            db,
            desk=desk,
            actor_id=watcher.account_id,
            **asking(watcher),
            statuses=_OPEN,
            limit=200,
        )

    return (lambda order: order.desk == desk), of_desk


Listed = Annotated[tuple[Callable[[Order], bool], Callable[[], Any]], Depends(_listed)]


@router.get(
    "/events",
    response_class=EventSourceResponse,
    responses=refuses(Forbidden, DeskNotFound),
)
async def events(request: Request, listed: Listed) -> AsyncIterator[ServerSentEvent]:
    """`order`: first each open order as it is, then each that changes. `id` is its version.

    A customer hears of his own orders, an operator of a desk's. Without `allowedActions`.
    """
    async for order in follow(request, *listed):
        body = render(order_shape(order).model_dump(by_alias=True, exclude={"allowed_actions"}))
        yield ServerSentEvent(raw_data=body.decode(), event="order", id=str(order.version))


async def follow(
    request: Request, theirs: Callable[[Order], bool], present: Callable[[], Any]
) -> AsyncIterator[Order]:
    """Yield the present orders, then each that changes; holds no connection meanwhile."""
    state = request.app.state
    place: int | None = None
    with state.metrics.streams.track_inprogress():
        async with aclosing(state.hubs["orders"].follow(EVERYTHING)) as boards:
            async for board in boards:
                if place is None:  # asked after the board, so nothing falls between the two
                    for order in await present():
                        yield order
                elif place < board.forgotten:
                    return  # too slow to be told all: connecting again gives the present state
                else:
                    for order in board.since(place):
                        if theirs(order):
                            yield order
                place = board.place


@router.get("/{order_id}", response_model=OrderShape, responses=refuses(Forbidden, OrderNotFound))
async def get(order_id: PathId, caller: CallerDep, db: Db) -> Response:
    """One order: its customer's, or of a desk where the caller works."""
    return shown(
        await orders.get(db, order_id=order_id, actor_id=caller.account_id, **asking(caller))
    )


@router.get(
    "/{order_id}/audit", response_model=TrailShape, responses=refuses(Forbidden, OrderNotFound)
)
async def audit(order_id: PathId, caller: CallerDep, db: Db) -> Response:
    """Who moved it from which status to which, when, in which request. For operators."""
    trail = await orders.audit_of(
        db, order_id=order_id, actor_id=caller.account_id, **asking(caller)
    )
    return answer(TrailShape(items=[_trace(one) for one in trail]))


def _trace(one: orders.Trace) -> TraceShape:
    assigned = one.action in ("ASSIGNED_TO_OPERATOR", "orders.reassign")
    return TraceShape.model_validate(
        {
            "id": one.id,
            "action": one.action,
            "from": one.old_value if assigned else one.from_status,
            "to": one.new_value if assigned else one.to_status,
            "from_status": one.from_status,
            "to_status": one.to_status,
            "actor": one.actor,
            "reason": one.reason,
            "request_id": one.request_id,
            "at": one.at,
        }
    )
