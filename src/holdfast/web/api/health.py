"""Is it alive, is it ready, how does it do, and what can it be asked."""

from __future__ import annotations

from importlib import resources

from fastapi import Request
from pydantic import Field
from starlette.responses import HTMLResponse, JSONResponse, Response

from holdfast.errors import HoldfastError, SchemaMissing, SchemaOutdated
from holdfast.kernel import queue
from holdfast.postgres import ready
from holdfast.systems import orders
from holdfast.web.body import router as json_router
from holdfast.web.metrics import CONTENT_TYPE, Metrics
from holdfast.web.pages import documentation
from holdfast.web.requests import Db
from holdfast.web.responses import Shape, answer, refuses

_STYLE = (resources.files("holdfast.web") / "static" / "docs.css").read_bytes()

router = json_router(tags=["health"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Whether the process answers; asks nobody else."""
    return {"status": "ok"}


class ReadyShape(Shape):
    """`weaker` names the promises that this installation keeps less strictly than it could."""

    status: str
    database: str
    schema_name: str = Field(alias="schema")
    weaker: list[str]


@router.get("/readyz", response_model=ReadyShape, responses=refuses(SchemaMissing, SchemaOutdated))
async def readyz(db: Db) -> Response:
    """Whether requests can be served: the database answers and its schema is current."""
    found = await ready.readiness(db)
    return answer(
        {
            "status": "ready",
            "database": found.server,
            "schema": found.schema,
            "weaker": found.weaker,
        }
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE: {}}}})
async def metrics(request: Request, db: Db) -> Response:
    """Figures for Prometheus."""
    held: Metrics = request.app.state.metrics
    try:
        depth, desks = await queue.depth(db), await orders.depth(db)
    except HoldfastError:
        depth, desks = None, []  # the process has figures of its own, worth most in an outage
    return Response(held.page(db, depth, desks), media_type=CONTENT_TYPE)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> JSONResponse:
    """Return the OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Show the OpenAPI document as a page."""
    return HTMLResponse(documentation(request.app.openapi()))


@router.get("/docs.css", include_in_schema=False)
async def style() -> Response:
    """Give the page its looks: inline style is not allowed to any page of ours."""
    return Response(_STYLE, media_type="text/css")
