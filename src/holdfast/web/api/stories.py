"""Stories: pay, and get a story or the refund."""

from __future__ import annotations

from typing import Literal

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from holdfast.errors import (
    IdempotencyKeyRequired,
    IdempotencyKeyReused,
    InsufficientTokens,
)
from holdfast.systems import stories
from holdfast.web.api.jobs import JobShape, accepted
from holdfast.web.body import Body
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, RequiredKey
from holdfast.web.responses import refuses

router = json_router(prefix="/api", tags=["stories"])


class GenerateBody(Body):
    """What a story is about; `language` defaults to the caller's own, `words` to 500."""

    prompt: str = Field(min_length=1, max_length=4000)
    language: Literal["en", "ru", "uk"] | None = None
    words: int = Field(default=500, ge=50, le=5000)


@router.post(
    "/generate",
    status_code=202,
    response_model=JobShape,
    responses=refuses(InsufficientTokens, IdempotencyKeyRequired, IdempotencyKeyReused),
)
async def generate(
    caller: CallerDep, key: RequiredKey, body: GenerateBody, request: Request
) -> Response:
    """Pay for a story and queue it. Costs crystals (GET /api/prices); comes back if it fails."""
    state = request.app.state  # the busiest route: each dependency costs a twentieth of it
    with state.running.once("stories.generate", caller.account_id, key):
        submitted = await stories.generate(
            state.db,
            account_id=caller.account_id,
            prompt=body.prompt,
            key=key,
            language=body.language or caller.locale,
            words=body.words,
            request_id=caller.request_id,
        )
    return accepted(submitted, kind=stories.KIND)
