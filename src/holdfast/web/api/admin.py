"""What an admin sees: everybody's jobs, one job's whole story, the audit, the promises counted."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from holdfast.errors import Forbidden
from holdfast.kernel import audit, queue, verify
from holdfast.kernel.audit import Event
from holdfast.kernel.queue import Job
from holdfast.web.api.jobs import JobShape, job_shape
from holdfast.web.body import Written
from holdfast.web.body import router as json_router
from holdfast.web.requests import AdminDep, Db, Locale, PageDep, PathId
from holdfast.web.responses import Items, Shape, answer, refuses

router = json_router(prefix="/api/admin", tags=["admin"], responses=refuses(Forbidden))


class OwnedJobShape(JobShape):
    """A job, and whose it is."""

    account_id: UUID


class StepShape(Shape):
    """One line of a job's story: a move of the job, or of the money."""

    at: datetime
    what: str
    from_status: str | None = Field(alias="from")
    to_status: str | None = Field(alias="to")
    actor: str | None
    detail: str | None
    amount: int | None
    balance_after: int | None


class EventShape(Shape):
    """One trace: who moved what from which status to which, when, in which request."""

    id: UUID
    entity: str
    entity_id: UUID
    action: str
    from_status: str | None = Field(alias="from")
    to_status: str | None = Field(alias="to")
    actor: str
    old_value: str | None
    new_value: str | None
    reason: str | None
    request_id: str | None
    at: datetime


class InvariantShape(Shape):
    """One promise: how many rows were looked at, how many break it, and one of those."""

    name: str
    about: str
    checked: int
    violations: int
    example: str | None


class VerifyShape(Shape):
    """`ok`: no promise is broken."""

    ok: bool
    invariants: list[InvariantShape]


def _owned(job: Job, locale: str) -> OwnedJobShape:
    return OwnedJobShape(account_id=job.account_id, **dict(job_shape(job, locale)))


@router.get("/jobs", response_model=Items[OwnedJobShape])
async def jobs(_: AdminDep, db: Db, page: PageDep, locale: Locale) -> Response:
    """Everybody's jobs, newest first."""
    found = await queue.list_all(db, before=page.after("admin.jobs", UUID), limit=page.fetch)
    return answer(page.answer("admin.jobs", found, lambda j: j.id, lambda j: _owned(j, locale)))


@router.get("/jobs/{job_id}/story", response_model=Items[StepShape])
async def story(job_id: PathId, _: AdminDep, db: Db) -> Response:
    """Everything that happened to a job and its money, oldest first."""
    await queue.get(db, job_id=job_id, owners=None)
    found = await queue.story(db, job_id=job_id)
    steps = [StepShape.model_validate(step, by_name=True) for step in found]
    return answer({"items": steps, "nextCursor": None})


@router.get("/audit", response_model=Items[EventShape])
async def trail(
    _: AdminDep,
    db: Db,
    page: PageDep,
    entity: Annotated[
        UUID | None, Query(description="Only of this one thing, oldest first."), Written
    ] = None,
) -> Response:
    """What happened lately, newest first; or the whole trail of one thing."""
    if entity is not None:
        found = await audit.trail(db, entity_id=entity)
        return answer({"items": [_shown(event) for event in found], "nextCursor": None})
    found = await audit.recent(db, before=page.after("admin.audit", _moment), limit=page.fetch)
    return answer(
        page.answer("admin.audit", found, lambda e: [e.at.isoformat(), str(e.id)], _shown)
    )


def _shown(event: Event) -> EventShape:
    return EventShape.model_validate(event, by_name=True)


def _moment(opened: Any) -> tuple[datetime, UUID]:
    return datetime.fromisoformat(opened[0]), UUID(opened[1])


@router.get("/verify", response_model=VerifyShape)
async def promises(_: AdminDep, db: Db) -> Response:
    """Count every promise in the live database; on a large one this takes a while."""
    found = [InvariantShape.model_validate(one) for one in await verify.run(db)]
    return answer(VerifyShape(ok=not any(one.violations for one in found), invariants=found))
