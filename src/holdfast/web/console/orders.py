"""The order desk on the console: for operators the live queue, for customers their orders."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field
from starlette.responses import RedirectResponse, Response

from holdfast.errors import HoldfastError, NotFound
from holdfast.postgres.pool import Database
from holdfast.systems import orders
from holdfast.systems.orders import Order
from holdfast.web.actor import Caller
from holdfast.web.api.orders.shapes import asking, taking
from holdfast.web.board import EVERYTHING
from holdfast.web.console.forms import Fields, read
from holdfast.web.console.page import fragment, language, page, part, plain
from holdfast.web.console.session import Guarded, Viewer, csrf_token
from holdfast.web.requests import Db

router = APIRouter(prefix="/console/orders")

_OPEN = ("PENDING", "PROCESSING")
_MOST = 200
_MOVES = frozenset({"take", "release", "complete", "cancel", "heartbeat"})
DeskName = Annotated[str, Query(max_length=40)]


async def _present(db: Database, who: Caller, desk: str) -> list[Order]:
    """Return the open orders that a person looks at: a desk's, or his own."""
    if who.role == "user":
        return await orders.list_of_customer(
            db, actor_id=who.account_id, family=who.family, statuses=_OPEN, limit=_MOST
        )
    return await orders.list_of_desk(
        db, desk=desk, actor_id=who.account_id, **asking(who), statuses=_OPEN, limit=_MOST
    )


def _theirs(order: Order, who: Caller, desk: str) -> bool:
    return order.customer_id in who.family if who.role == "user" else order.desk == desk


@router.get("")
async def show(request: Request, who: Viewer, db: Db, desk: DeskName = "main") -> Response:
    """The live desk, or a customer's orders."""
    csrf = csrf_token(request, who)
    desks = [d.name for d in await orders.desks(db)]
    try:
        present = await _present(db, who, desk)
    except HoldfastError as problem:  # no such desk, or not his: say so on the page
        present, told, status = [], problem.detail(language(request)), problem.status
    else:
        told, status = "", 200
    return page(
        request,
        "orders.html",
        who,
        csrf=csrf,
        status=status,
        desk=desk,
        desks=desks,
        orders=present,
        told=told,
    )


async def _watched(who: Viewer, db: Db, desk: DeskName = "main") -> tuple[Caller, str]:
    """Refuse while it still can be told: a stream that has begun has its status."""
    await _present(db, who, desk)
    return who, desk


@router.get("/events", response_class=EventSourceResponse)
async def events(
    request: Request, db: Db, watched: Annotated[tuple[Caller, str], Depends(_watched)]
) -> AsyncIterator[ServerSentEvent]:
    """`present` (the ids of the open orders), then `order` (its row) for each and each change."""
    who, desk = watched
    locale, state, place = language(request), request.app.state, None
    with state.metrics.streams.track_inprogress():
        async with aclosing(state.hubs["orders"].follow(EVERYTHING)) as boards:
            async for board in boards:
                if place is None:
                    news = await _present(db, who, desk)
                    ids = json.dumps([str(order.id) for order in news])
                    yield ServerSentEvent(raw_data=ids, event="present")
                elif place < board.forgotten:
                    return  # connecting again gives the present state
                else:
                    news = [o for o in board.since(place) if _theirs(o, who, desk)]
                place = board.place
                for order in news:
                    row = part("order.html", locale, who, order=order, told="")
                    yield ServerSentEvent(raw_data=row, event="order", id=str(order.version))


class PlaceForm(BaseModel):
    """An order to be placed. `key` is the page's: a double click places one order."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    details: Annotated[str, Field(max_length=10_000)] | None = None
    priority: Annotated[int, Field(ge=0, le=9)] = 0
    desk: Annotated[str, Field(max_length=40)] = "main"
    key: Annotated[str, Field(min_length=1, max_length=100)] | None = None


@router.post("")
async def place(request: Request, who: Guarded, given: Fields, db: Db) -> Response:
    """Place an order."""
    try:
        form = read(PlaceForm, given)
        placed = await orders.place(
            db,
            customer_id=who.account_id,
            role=who.role,
            request_id=who.request_id,
            **form.model_dump(),
        )
    except HoldfastError as problem:
        return _told(request, who, problem)
    return _notice(request, who, "orders.placed", placed)


@router.post("/take-next")
async def take_next(request: Request, who: Guarded, given: Fields, db: Db) -> Response:
    """Take the next order of the desk."""
    try:
        taken = await orders.take_next(db, desk=given.get("desk", "main"), **taking(who))
    except HoldfastError as problem:
        return _told(request, who, problem)
    return _notice(request, who, "orders.taken" if taken else "orders.nothing", taken)


@router.post("/{order_id}/{verb}")
async def move(request: Request, order_id: UUID, verb: str, who: Guarded, db: Db) -> Response:
    """Move an order; the answer is its row as it is now, with what stood in the way."""
    if verb not in _MOVES:
        raise NotFound
    told, status = "", 200
    try:
        moved: Order | None = await _moved(db, verb, order_id, who)
    except HoldfastError as problem:
        told, status = _sentence(request, problem), problem.status
        moved = await _as_it_is(db, order_id, who)
    if "hx-request" not in request.headers:
        return RedirectResponse("/console/orders", 303)
    if moved is None:
        return plain(fragment(request, "notice.html", who, told=told, order=None), status)
    return plain(fragment(request, "order.html", who, order=moved, told=told), status)


async def _moved(db: Database, verb: str, order_id: UUID, who: Caller) -> Order:
    if verb == "take":
        return await orders.take(db, order_id=order_id, **taking(who))
    given: dict[str, Any] = {"order_id": order_id, **asking(who)}
    if verb == "cancel":
        return await orders.cancel(db, **given, actor_id=who.account_id, request_id=who.request_id)
    if verb == "heartbeat":
        return await orders.heartbeat(db, **given, operator_id=who.account_id)
    act = orders.release if verb == "release" else orders.complete
    return await act(db, **given, operator_id=who.account_id, request_id=who.request_id)


async def _as_it_is(db: Database, order_id: UUID, who: Caller) -> Order | None:
    try:
        return await orders.get(db, order_id=order_id, actor_id=who.account_id, **asking(who))
    except HoldfastError:
        return None


def _sentence(request: Request, problem: HoldfastError) -> str:
    locale = language(request)
    return f"{problem.detail(locale)} {problem.next(locale)}".strip()


def _told(request: Request, who: Caller, problem: HoldfastError) -> Response:
    told = _sentence(request, problem)
    return plain(fragment(request, "notice.html", who, told=told, order=None), problem.status)


def _notice(request: Request, who: Caller, key: str, order: Order | None) -> Response:
    if "hx-request" not in request.headers:
        return RedirectResponse("/console/orders", 303)
    return plain(fragment(request, "notice.html", who, told=key, order=order))
