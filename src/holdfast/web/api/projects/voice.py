"""The voice of a script: a paid job."""

from __future__ import annotations

from pydantic import Field
from starlette.responses import Response

from holdfast.errors import (
    IdempotencyKeyRequired,
    IdempotencyKeyReused,
    InsufficientTokens,
    Invalid,
    ScriptMissing,
)
from holdfast.systems import projects
from holdfast.web.api.jobs import JobShape, accepted
from holdfast.web.body import Body
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, Db, PathId, PathNumber, RequiredKey, RunningDep
from holdfast.web.responses import refuses

router = json_router(prefix="/api/projects/{project_id}/steps/{number}", tags=["projects"])


class VoiceBody(Body):
    """Whose voice; without one each scene is spoken in the language it is written in."""

    voice: str | None = Field(default=None, min_length=1, max_length=40)


@router.post(
    "/voice",
    status_code=202,
    response_model=JobShape,
    responses=refuses(
        InsufficientTokens, ScriptMissing, Invalid, IdempotencyKeyRequired, IdempotencyKeyReused
    ),
)
async def voice(
    project_id: PathId,
    number: PathNumber,
    caller: CallerDep,
    key: RequiredKey,
    db: Db,
    running: RunningDep,
    body: VoiceBody | None = None,
) -> Response:
    """Pay for the voice of the script and queue it: one sound for each scene, or the refund."""
    with running.once("projects.voice", caller.account_id, key):
        submitted = await projects.voice(
            db,
            project_id=project_id,
            number=number,
            actor=caller.account_id,
            family=caller.family,
            key=key,
            voice=body.voice if body else None,
            request_id=caller.request_id,
        )
    return accepted(submitted, kind=projects.KIND)
