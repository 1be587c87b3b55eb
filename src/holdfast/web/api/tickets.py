"""Tickets for event streams."""

from __future__ import annotations

from datetime import datetime

from starlette.responses import Response

from holdfast.web import tickets
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, SignerDep
from holdfast.web.responses import Shape, answer

router = json_router(prefix="/api", tags=["events"])


class TicketShape(Shape):
    """For `?ticket=` on an event stream, until it ends."""

    ticket: str
    expires_at: datetime


@router.post("/tickets", status_code=201, response_model=TicketShape)
async def make(caller: CallerDep, signer: SignerDep) -> Response:
    """Make a ticket, good for 60 seconds: EventSource cannot send an Authorization header."""
    ticket, ends = tickets.issue(signer, caller.account_id)
    return answer(TicketShape(ticket=ticket, expires_at=ends), 201)
