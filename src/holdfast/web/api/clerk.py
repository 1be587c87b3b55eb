"""The door for Clerk's own messages."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from holdfast.errors import SignatureInvalid
from holdfast.systems.accounts import clerk
from holdfast.web.problems import request_id_of
from holdfast.web.requests import Db
from holdfast.web.responses import refuses

router = APIRouter(prefix="/webhooks", tags=["webhooks"])


@router.post("/clerk", status_code=204, responses=refuses(SignatureInvalid))
async def receive(request: Request, db: Db) -> Response:
    """Take an event signed by Svix; what was handled before changes nothing."""
    webhook: clerk.Webhook | None = request.app.state.clerk_webhook
    if webhook is None:  # nobody's signature is known here
        raise SignatureInvalid
    event = webhook.read(request.headers, await request.body())
    await clerk.receive(db, event, request_id=request_id_of(request.scope))
    return Response(status_code=204)
