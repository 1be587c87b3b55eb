"""Stages: the seed's upsert, replacing, merging, completing, skipping."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from holdfast.errors import (
    IdempotencyKeyReused,
    Invalid,
    NotFound,
    ScriptMissing,
    StepLocked,
    TooLarge,
    VersionMismatch,
    WrongStatus,
)
from holdfast.systems import projects
from holdfast.web.actor import Caller
from holdfast.web.api.projects.shapes import AutosaveDep, OnlyNew, StepShape, Time, show
from holdfast.web.body import Body
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, Db, IfMatch, OptionalKey, PathId, PathNumber
from holdfast.web.responses import Items, answer, refuses

router = json_router(prefix="/api/projects/{project_id}/steps", tags=["projects"])

_SAVES = refuses(TooLarge, VersionMismatch)


class StepBody(Body):
    """What is not sent stays as it was, null clears, "" is kept."""

    data: dict[str, Any]
    completed_at: Time = None
    skip_reason: str | None = Field(default=None, max_length=1000)


class UpsertBody(StepBody):
    """The seed's body: which stage, and what it holds now."""

    step_number: int


class PatchBody(Body):
    """A merge patch (RFC 7396) of the three."""

    data: dict[str, Any] | None = None
    completed_at: Time = None
    skip_reason: str | None = Field(default=None, max_length=1000)


class ReasonBody(Body):
    """Why a stage is passed by."""

    reason: str = Field(min_length=1, max_length=1000)


class JobBody(Body):
    """A finished job of the caller's whose text becomes the script."""

    job_id: UUID = Field(json_schema_extra={"format": "uuid"}, strict=False)


def _sent(body: StepBody | PatchBody) -> dict[str, Any]:
    """Return the fields that were sent, as `projects.save` takes them."""
    names = ("data", "completed_at", "skip_reason")
    return {name: getattr(body, name) for name in names if name in body.model_fields_set}


def _who(caller: Caller, project_id: UUID, number: int) -> dict[str, Any]:
    return {
        "project_id": project_id,
        "number": number,
        "actor": caller.account_id,
        "family": caller.family,
        "request_id": caller.request_id,
    }


@router.get("", response_model=Items[StepShape])
async def steps(project_id: PathId, caller: CallerDep, db: Db) -> Response:
    """Every stage in order, those never saved as EMPTY."""
    found = await projects.steps(db, project_id=project_id, family=caller.family)
    items = [StepShape.model_validate(step) for step in found]
    return answer({"items": items, "nextCursor": None})


@router.post(
    "",
    response_model=StepShape,
    responses={
        201: {"model": StepShape, "description": "Saved for the first time."},
        **refuses(TooLarge, VersionMismatch, IdempotencyKeyReused),
    },
)
async def upsert(
    project_id: PathId,
    caller: CallerDep,
    body: UpsertBody,
    key: OptionalKey,
    if_version: IfMatch,
    only_new: OnlyNew,
    autosave: AutosaveDep,
    db: Db,
) -> Response:
    """Save a stage as sent: made when it is not there (201), changed when it is (200)."""
    try:
        saved = await projects.save(
            db,
            **_who(caller, project_id, body.step_number),
            **_sent(body),
            key=key,
            if_version=if_version,
            only_new=only_new,
            autosave=autosave,
        )
    except NotFound as problem:
        if "step_number" in problem.facts:
            told = {"pointer": "/stepNumber", "code": "not_found"}
            raise Invalid(errors=[told]) from problem
        raise
    return show(saved.step, 201 if saved.created else 200, replayed=saved.replayed)


@router.get("/{number}", response_model=StepShape)
async def step(project_id: PathId, number: PathNumber, caller: CallerDep, db: Db) -> Response:
    """One stage."""
    return show(await projects.step(db, project_id=project_id, number=number, family=caller.family))


@router.put("/{number}", response_model=StepShape, responses=_SAVES)
async def replace(
    project_id: PathId,
    number: PathNumber,
    caller: CallerDep,
    body: StepBody,
    if_version: IfMatch,
    only_new: OnlyNew,
    autosave: AutosaveDep,
    db: Db,
) -> Response:
    """Replace what a stage holds."""
    saved = await projects.save(
        db,
        **_who(caller, project_id, number),
        **_sent(body),
        if_version=if_version,
        only_new=only_new,
        autosave=autosave,
    )
    return show(saved.step)


@router.patch(
    "/{number}",
    response_model=StepShape,
    responses=_SAVES,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/merge-patch+json": {
                    "schema": {"$ref": "#/components/schemas/PatchBody"}
                }
            },
        }
    },
)
async def merge(
    project_id: PathId,
    number: PathNumber,
    caller: CallerDep,
    body: PatchBody,
    if_version: IfMatch,
    only_new: OnlyNew,
    autosave: AutosaveDep,
    db: Db,
) -> Response:
    """Merge into what a stage holds (`application/merge-patch+json`)."""
    saved = await projects.save(
        db,
        **_who(caller, project_id, number),
        **_sent(body),
        merge=True,
        if_version=if_version,
        only_new=only_new,
        autosave=autosave,
    )
    return show(saved.step)


@router.post(
    "/{number}/complete",
    response_model=StepShape,
    responses=refuses(Invalid, StepLocked, WrongStatus, VersionMismatch),
)
async def complete(
    project_id: PathId, number: PathNumber, caller: CallerDep, if_version: IfMatch, db: Db
) -> Response:
    """Complete a stage whose data satisfies its schema, when those before it are done."""
    return show(
        await projects.complete(db, **_who(caller, project_id, number), if_version=if_version)
    )


@router.post(
    "/{number}/skip", response_model=StepShape, responses=refuses(WrongStatus, VersionMismatch)
)
async def skip(
    project_id: PathId,
    number: PathNumber,
    caller: CallerDep,
    body: ReasonBody,
    if_version: IfMatch,
    db: Db,
) -> Response:
    """Pass a stage by, with the reason."""
    who = _who(caller, project_id, number)
    return show(await projects.skip(db, **who, reason=body.reason, if_version=if_version))


@router.post(
    "/{number}/script",
    response_model=StepShape,
    responses=refuses(TooLarge, VersionMismatch, WrongStatus, ScriptMissing),
)
async def script(
    project_id: PathId,
    number: PathNumber,
    caller: CallerDep,
    body: JobBody,
    if_version: IfMatch,
    db: Db,
) -> Response:
    """Make the text of a finished job (a story) the script of this stage."""
    who = _who(caller, project_id, number)
    saved = await projects.adopt(db, **who, job_id=body.job_id, if_version=if_version)
    return show(saved.step)
