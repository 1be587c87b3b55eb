"""Desks: their limits, and the operators they name."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID

from fastapi import Path
from pydantic import Field
from starlette.responses import Response

from holdfast.errors import DeskNotFound, Forbidden, Invalid, OperatorNotFound
from holdfast.systems import orders
from holdfast.web.api.orders.shapes import chosen
from holdfast.web.body import Body
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, Db, PathId
from holdfast.web.responses import Shape, answer, refuses

router = json_router(prefix="/api/desks", tags=["orders"])

_NAME = re.compile(r"[a-z0-9-]{1,40}\Z")
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
DeskPath = Annotated[str, Path(description="`[a-z0-9-]{1,40}`", max_length=200)]


class DeskShape(Shape):
    """One desk. A `closed` one works with the operators it names only."""

    id: UUID
    name: str
    closed: bool
    lease_seconds: int
    wip_limit: int
    sla_seconds: int


class DesksShape(Shape):
    """Every desk, by name."""

    items: list[DeskShape]


class DeskBody(Body):
    """What is to change; what is not given stays."""

    closed: bool | None = None
    lease_seconds: Seconds | None = None
    wip_limit: Annotated[int, Field(ge=1, le=10_000)] | None = None
    sla_seconds: Seconds | None = None


def _shape(desk: orders.Desk) -> DeskShape:
    return DeskShape(
        id=desk.id,
        name=desk.name,
        closed=desk.closed,
        lease_seconds=desk.lease,
        wip_limit=desk.wip_limit,
        sla_seconds=desk.sla,
    )


@router.get("", response_model=DesksShape)
async def list_of(caller: CallerDep, db: Db) -> Response:
    """Every desk."""
    del caller  # anybody who is known
    return answer(DesksShape(items=[_shape(desk) for desk in await orders.desks(db)]))


@router.put(
    "/{desk}",
    response_model=DeskShape,
    responses={201: {"description": "The desk was made."}, **refuses(Forbidden, Invalid)},
)
async def put(desk: DeskPath, caller: CallerDep, db: Db, body: DeskBody | None = None) -> Response:
    """Make a desk, or change its limits (supervisors)."""
    if not _NAME.match(desk):
        raise Invalid(errors=[{"pointer": "/path/desk", "code": "malformed"}])
    given = (body or DeskBody()).model_dump()
    made, created = await orders.open_desk(db, name=desk, role=caller.role, **given)
    return answer(_shape(made), 201 if created else 200)


@router.put(
    "/{desk}/operators/{account_id}",
    status_code=204,
    responses=refuses(Forbidden, DeskNotFound, OperatorNotFound),
)
async def name_operator(desk: DeskPath, account_id: PathId, caller: CallerDep, db: Db) -> Response:
    """Name an operator for a desk (supervisors); from the first one on it works with them only."""
    await orders.name_operator(db, desk=desk, role=caller.role, **await chosen(db, account_id))
    return Response(status_code=204)


@router.delete(
    "/{desk}/operators/{account_id}",
    status_code=204,
    responses=refuses(Forbidden, DeskNotFound, OperatorNotFound),
)
async def unname_operator(
    desk: DeskPath, account_id: PathId, caller: CallerDep, db: Db
) -> Response:
    """Take an operator's name off a desk (supervisors). What he holds stays his."""
    someone = await chosen(db, account_id)
    await orders.name_operator(db, desk=desk, role=caller.role, **someone, named=False)
    return Response(status_code=204)
