"""What everybody may know: life cycles and prices."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header
from starlette.responses import PlainTextResponse, Response

from holdfast.kernel import ledger, transitions
from holdfast.web.body import router as json_router
from holdfast.web.requests import Db
from holdfast.web.responses import Items, Shape, answer

router = json_router(prefix="/api", tags=["catalogue"])


class EdgeShape(Shape):
    """One declared move; `who` may make it, the audit calls it `action`."""

    verb: str
    from_status: str
    to_status: str
    who: str
    action: str


class MachineShape(Shape):
    """One life cycle; a new row starts as `initial`."""

    machine: str
    entity: str
    initial: str
    statuses: list[str]
    edges: list[EdgeShape]
    mermaid: str


class PriceShape(Shape):
    """`amount` crystals for every started `per` units."""

    kind: str
    amount: int
    per: int
    unit: str


@router.get(
    "/machines",
    response_model=Items[MachineShape],
    responses={200: {"content": {"text/vnd.mermaid": {"schema": {"type": "string"}}}}},
)
async def machines(db: Db, accept: Annotated[str | None, Header()] = None) -> Response:
    """Every life cycle with its statuses and edges; as pictures for `Accept: text/vnd.mermaid`."""
    found = await transitions.machines(db)
    if accept and "text/vnd.mermaid" in accept.lower():
        pictures = [f"---\ntitle: {m.machine}\n---\n{m.mermaid()}\n" for m in found]
        return PlainTextResponse("\n".join(pictures), media_type="text/vnd.mermaid")
    shown = [
        MachineShape(
            machine=m.machine,
            entity=m.entity,
            initial=m.initial,
            statuses=list(m.statuses),
            edges=[EdgeShape.model_validate(edge) for edge in m.edges],
            mermaid=m.mermaid(),
        )
        for m in found
    ]
    return answer({"items": shown, "nextCursor": None})


@router.get("/prices", response_model=Items[PriceShape])
async def prices(db: Db) -> Response:
    """What each kind of work costs now."""
    found = [PriceShape.model_validate(price) for price in await ledger.prices(db)]
    return answer({"items": found, "nextCursor": None})
