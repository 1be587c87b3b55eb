"""Projects, and who works on them."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from holdfast.errors import Forbidden, IdempotencyKeyReused
from holdfast.systems import projects
from holdfast.systems.projects import Project
from holdfast.web.actor import Caller
from holdfast.web.api.projects.shapes import MemberShape, ProjectShape, StageShape
from holdfast.web.body import Body
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, Db, OptionalKey, PageDep, PathId
from holdfast.web.responses import Items, answer, refuses

router = json_router(prefix="/api/projects", tags=["projects"])


class ProjectBody(Body):
    """A new project. `template` names its stages."""

    title: str = Field(min_length=1, max_length=200)
    template: str = Field(default="video", min_length=1, max_length=40)


def project_shape(project: Project) -> ProjectShape:
    """Show a project."""
    return ProjectShape(
        id=project.id,
        title=project.title,
        template=project.template,
        owner_id=project.owner_id,
        seat=project.seat,
        members=[MemberShape.model_validate(member) for member in project.members],
        stages=[
            StageShape(
                number=stage["number"],
                name=stage["name"],
                required=stage["required"],
                inputs=stage["inputs"],
                data_schema=stage["schema"],
            )
            for stage in project.stages
        ],
        created_at=project.created_at,
    )


async def _shown(db: Db, project_id: UUID, caller: Caller) -> ProjectShape:
    return project_shape(await projects.get(db, project_id=project_id, family=caller.family))


@router.post(
    "", status_code=201, response_model=ProjectShape, responses=refuses(IdempotencyKeyReused)
)
async def create(caller: CallerDep, body: ProjectBody, key: OptionalKey, db: Db) -> Response:
    """Begin a project."""
    made = await projects.create(
        db,
        account_id=caller.account_id,
        title=body.title,
        template=body.template,
        key=key,
        request_id=caller.request_id,
    )
    shown = await _shown(db, made.id, caller)
    where = {"Location": f"/api/projects/{made.id}"}
    return answer(shown, 201, replayed=made.replayed, headers=where)


@router.get("", response_model=Items[ProjectShape])
async def list_of(caller: CallerDep, db: Db, page: PageDep) -> Response:
    """The caller's projects and those shared with him, newest first."""
    found = await projects.list_of(
        db, family=caller.family, before=page.after("projects", UUID), limit=page.fetch
    )
    return answer(page.answer("projects", found, lambda project: project.id, project_shape))


@router.get("/{project_id}", response_model=ProjectShape)
async def get(project_id: PathId, caller: CallerDep, db: Db) -> Response:
    """One project, with its stages and what each asks."""
    return answer(await _shown(db, project_id, caller))


@router.put(
    "/{project_id}/members/{account_id}", response_model=ProjectShape, responses=refuses(Forbidden)
)
async def add_member(project_id: PathId, account_id: PathId, caller: CallerDep, db: Db) -> Response:
    """Let somebody read and write in this project (its owner only)."""
    await projects.add_member(
        db,
        project_id=project_id,
        account_id=account_id,
        actor=caller.account_id,
        family=caller.family,
        request_id=caller.request_id,
    )
    return answer(await _shown(db, project_id, caller))


@router.delete(
    "/{project_id}/members/{account_id}", response_model=ProjectShape, responses=refuses(Forbidden)
)
async def remove_member(
    project_id: PathId, account_id: PathId, caller: CallerDep, db: Db
) -> Response:
    """End somebody's membership: the owner anybody's, a member his own."""
    shown = await _shown(db, project_id, caller)
    await projects.remove_member(
        db,
        project_id=project_id,
        account_id=account_id,
        actor=caller.account_id,
        family=caller.family,
        request_id=caller.request_id,
    )
    left = [member for member in shown.members if member.account_id != account_id]
    return answer(shown.model_copy(update={"members": left}))
