"""Orders as the outside sees them, and what it may send."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from holdfast.errors import NotFound, OperatorNotFound
from holdfast.postgres.pool import Database
from holdfast.systems import accounts
from holdfast.systems.orders import Order
from holdfast.web.actor import Caller
from holdfast.web.body import Body, Loose, Text, Written
from holdfast.web.responses import Action, Shape, answer

DeskName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
BodyId = Annotated[UUID, Written, Loose]
DryRun = Annotated[bool, Query(alias="dryRun", description="Judge only; change nothing.")]
Status = Literal["PENDING", "PROCESSING", "COMPLETED", "CANCELLED"]


class HolderShape(Shape):
    """Who has an order."""

    id: UUID
    name: str | None


class OrderShape(Shape):
    """One order. `dueAt` is when it should be done; `breachedAt` when its lateness was told."""

    id: UUID
    desk: str
    status: str
    title: str
    details: str | None
    priority: int
    customer_id: UUID
    assigned_operator_id: UUID | None
    holder: HolderShape | None
    assigned_at: datetime | None
    lease_until: datetime | None
    due_at: datetime
    breached_at: datetime | None
    version: int
    created_at: datetime
    finished_at: datetime | None
    allowed_actions: list[Action]


class OutcomeShape(Shape):
    """What came of one order of several: `ok`, or the code that a single try would get."""

    id: UUID
    outcome: str
    order: OrderShape | None = None


class TraceShape(Shape):
    """One line of the trail. Of an assignment `from` and `to` are the operators, else statuses."""

    id: UUID
    action: str
    from_: str | None = Field(alias="from")
    to: str | None
    from_status: str | None
    to_status: str | None
    actor: str
    reason: str | None
    request_id: str | None
    at: datetime


class OutcomesShape(Shape):
    """The outcomes, in the order in which the orders were first named."""

    items: list[OutcomeShape]


class TrailShape(Shape):
    """The whole trail, oldest first."""

    items: list[TraceShape]


class PlaceBody(Body):
    """An order to be placed."""

    title: Annotated[Text, Field(max_length=200)]
    details: Annotated[str, Field(max_length=10_000)] | None = None
    priority: Annotated[int, Field(ge=0, le=9)] = 0
    desk: DeskName = "main"


class NextBody(Body):
    """Which desk to take from."""

    desk: DeskName = "main"


class CancelBody(Body):
    """Why it is cancelled."""

    reason: Annotated[Text, Field(max_length=500)] | None = None


class ReassignBody(Body):
    """To whom, and why."""

    operator_id: BodyId
    reason: Annotated[Text, Field(max_length=500)]


class BulkTakeBody(Body):
    """Which orders."""

    ids: Annotated[list[BodyId], Field(min_length=1, max_length=200)]


class BulkReassignBody(ReassignBody):
    """Which orders, to whom, and why."""

    ids: Annotated[list[BodyId], Field(min_length=1, max_length=200)]


def order_shape(order: Order) -> OrderShape:
    """Show an order as it is to whoever asked."""
    return OrderShape.model_validate(order)


def shown(order: Order, status: int = 200) -> Response:
    """Answer with an order and its version."""
    headers = {"Location": f"/api/orders/{order.id}"} if status == 201 else None
    return answer(
        order_shape(order),
        status,
        version=order.version,
        replayed=order.replayed,
        headers=headers,
    )


def asking(caller: Caller) -> dict[str, Any]:
    """Return who asks, as the verbs want it."""
    return {"role": caller.role, "family": caller.family}


def taking(caller: Caller) -> dict[str, Any]:
    """Return who takes, as the verbs want it."""
    return {
        **asking(caller),
        "operator_id": caller.account_id,
        "operator_name": caller.name,
        "request_id": caller.request_id,
    }


async def chosen(db: Database, operator_id: UUID) -> dict[str, Any]:
    """Return the person who is to have an order, as the verbs want him. Raises OperatorNotFound."""
    try:
        found = await accounts.get(db, account_id=operator_id)
    except NotFound:
        raise OperatorNotFound from None
    return {
        "operator_id": found.id,
        "operator_role": found.role,
        "operator_name": found.name,
    }
