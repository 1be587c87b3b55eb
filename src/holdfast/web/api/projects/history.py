"""What a stage held before, and the two answers to a stale one."""

from __future__ import annotations

from starlette.responses import Response

from holdfast.errors import TooLarge, VersionMismatch
from holdfast.systems import projects
from holdfast.web.api.projects.shapes import RevisionShape, StepShape, show
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, Db, IfMatch, PageDep, PathId, PathNumber
from holdfast.web.responses import Items, answer, refuses

router = json_router(prefix="/api/projects/{project_id}/steps/{number}", tags=["projects"])


@router.get("/revisions", response_model=Items[RevisionShape])
async def revisions(
    project_id: PathId, number: PathNumber, caller: CallerDep, db: Db, page: PageDep
) -> Response:
    """What a stage held before, newest first (a bounded number)."""
    of = f"revisions {project_id} {number}"
    found = await projects.revisions(
        db,
        project_id=project_id,
        number=number,
        family=caller.family,
        before=page.after(of, int),
        limit=page.fetch,
    )
    return answer(page.answer(of, found, lambda r: r.version, RevisionShape.model_validate))


@router.post(
    "/revisions/{version}/restore",
    response_model=StepShape,
    responses=refuses(VersionMismatch),
)
async def restore(
    project_id: PathId,
    number: PathNumber,
    version: PathNumber,
    caller: CallerDep,
    if_version: IfMatch,
    db: Db,
) -> Response:
    """Make an old revision's data the stage's again, as a new version."""
    return show(
        await projects.restore(
            db,
            project_id=project_id,
            number=number,
            version=version,
            actor=caller.account_id,
            family=caller.family,
            if_version=if_version,
            request_id=caller.request_id,
        )
    )


@router.post("/accept", response_model=StepShape, responses=refuses(TooLarge, VersionMismatch))
async def accept(
    project_id: PathId, number: PathNumber, caller: CallerDep, if_version: IfMatch, db: Db
) -> Response:
    """Take what is new under a stale stage. Of a fresh one nothing changes."""
    return show(
        await projects.accept(
            db,
            project_id=project_id,
            number=number,
            actor=caller.account_id,
            family=caller.family,
            if_version=if_version,
            request_id=caller.request_id,
        )
    )


@router.post("/keep", response_model=StepShape, responses=refuses(VersionMismatch))
async def keep(
    project_id: PathId, number: PathNumber, caller: CallerDep, if_version: IfMatch, db: Db
) -> Response:
    """Keep a stale stage as it is, until its inputs change once more."""
    return show(
        await projects.keep(
            db,
            project_id=project_id,
            number=number,
            actor=caller.account_id,
            family=caller.family,
            if_version=if_version,
            request_id=caller.request_id,
        )
    )
