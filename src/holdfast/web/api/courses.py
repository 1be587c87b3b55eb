"""Training courses: what there is to learn, and a person's way through it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Query
from pydantic import Field
from starlette.responses import Response

from holdfast.errors import NotFound, StepFinished, StepLocked
from holdfast.postgres.pool import Database
from holdfast.systems import courses
from holdfast.web.actor import Caller
from holdfast.web.body import Body
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, Db, Digits, Locale, PageDep, PathId
from holdfast.web.responses import Items, Shape, answer, refuses

router = json_router(prefix="/api", tags=["courses"])

Slug = Annotated[str, Path(max_length=200)]
Number = Annotated[int | None, Query(ge=1, le=32_767), Digits]


class CourseShape(Shape):
    """One course in its newest version; `days` and `steps` are counts."""

    slug: str
    title: str
    about: str | None
    flow: str
    days: int
    steps: int
    version: int
    enrolment_id: UUID | None


class StepShape(Shape):
    """One step. `completedOn` is the date on the person's own clock."""

    id: UUID
    number: int
    title: str
    body: str | None
    status: str
    required: bool
    started_at: datetime | None
    completed_at: datetime | None
    completed_on: date | None
    skip_reason: str | None


class DayShape(Shape):
    """One day. `currentStepIndex`: the 0-based next unfinished step, or how many there are."""

    number: int
    title: str | None
    status: str
    current_step_index: int
    completed_at: datetime | None
    steps: list[StepShape]


class EnrolmentShape(Shape):
    """One attempt at a course. `newVersion` is offered where a newer one was published."""

    id: UUID
    course: str
    title: str
    about: str | None
    status: str
    percent: int
    attempt: int
    version: int
    new_version: int | None
    streak: int
    today: date
    active_on: list[date]
    reminders: bool
    started_at: datetime | None
    completed_at: datetime | None
    days: list[DayShape]


class EnrolmentLineShape(Shape):
    """One enrolment in a list."""

    id: UUID
    course: str
    title: str
    status: str
    percent: int
    attempt: int
    started_at: datetime | None
    completed_at: datetime | None


class MissingShape(Shape):
    """One required step that is open."""

    step_id: UUID
    title: str
    day: int
    number: int
    status: str


class ExplanationShape(Shape):
    """Why a course, or a day of it, is not finished."""

    complete: bool
    missing: list[MissingShape]


class MovedShape(Shape):
    """What following the content did, or would do."""

    changed: bool
    version: int
    steps_added: int
    steps_removed: int
    days_finished: int
    finished: bool


class SkipBody(Body):
    """Why the step is passed by."""

    reason: str = Field(min_length=1, max_length=2000)


class RemindersBody(Body):
    """Whether this enrolment may remind."""

    wanted: bool


def enrolment_shape(seen: courses.Enrolment) -> EnrolmentShape:
    """Show an enrolment as its person sees it."""
    offered = seen.newest > seen.version and seen.status != "COMPLETED"
    return EnrolmentShape(
        **{name: getattr(seen, name) for name in _SAME},
        course=seen.slug,
        new_version=seen.newest if offered else None,
        days=[DayShape.model_validate(day) for day in seen.days],
    )


_SAME = (
    "id", "title", "about", "status", "percent", "attempt", "version", "streak", "today",
    "active_on", "reminders", "started_at", "completed_at",
)  # fmt: skip


def asking(caller: Caller) -> dict[str, Any]:
    """Return who asks, as the verbs of a step or an enrolment want it."""
    return {"owners": caller.owners, "actor": caller.actor, "request_id": caller.request_id}


async def _seen(
    db: Database, caller: Caller, locale: str, enrolment_id: UUID, status: int = 200
) -> Response:
    seen = await courses.get(db, enrolment_id=enrolment_id, owners=caller.owners, locale=locale)
    return answer(enrolment_shape(seen), status, version=seen.revision)


@router.get("/courses", response_model=Items[CourseShape])
async def catalogue(caller: CallerDep, locale: Locale, db: Db) -> Response:
    """Every course, by its slug, in the caller's language."""
    found = await courses.catalogue(db, owners=caller.family, locale=locale)
    return answer(Items[CourseShape](items=[CourseShape.model_validate(c) for c in found]))


@router.post(
    "/courses/{slug}/enrol",
    status_code=201,
    response_model=EnrolmentShape,
    responses={200: {"description": "Enrolled before."}, **refuses(NotFound)},
)
async def enrol(slug: Slug, caller: CallerDep, locale: Locale, db: Db) -> Response:
    """Begin a course; again: the same enrolment."""
    made = await courses.enrol(
        db,
        account_id=caller.account_id,
        slug=slug,
        owners=caller.family,
        actor=caller.actor,
        request_id=caller.request_id,
    )
    seen = await courses.get(db, enrolment_id=made.id, owners=caller.family, locale=locale)
    return answer(enrolment_shape(seen), 201 if made.created else 200, version=seen.revision)


@router.get("/enrolments", response_model=Items[EnrolmentLineShape])
async def enrolments(caller: CallerDep, locale: Locale, db: Db, page: PageDep) -> Response:
    """The caller's enrolments, newest first."""
    found = await courses.enrolments(
        db,
        owners=caller.family,
        locale=locale,
        before=page.after("enrolments", UUID),
        limit=page.fetch,
    )
    return answer(page.answer("enrolments", found, lambda e: e.id, _line))


def _line(found: courses.EnrolmentSummary) -> EnrolmentLineShape:
    same = ("id", "title", "status", "percent", "attempt", "started_at", "completed_at")
    return EnrolmentLineShape(course=found.slug, **{name: getattr(found, name) for name in same})


@router.get(
    "/enrolments/{enrolment_id}", response_model=EnrolmentShape, responses=refuses(NotFound)
)
async def enrolment(
    enrolment_id: PathId, caller: CallerDep, locale: Locale, db: Db, attempt: Number = None
) -> Response:
    """One enrolment, in its present attempt or an earlier one."""
    seen = await courses.get(
        db, enrolment_id=enrolment_id, owners=caller.owners, locale=locale, attempt=attempt
    )
    return answer(enrolment_shape(seen), version=seen.revision)


@router.post(
    "/enrolments/{enrolment_id}/steps/{step_id}/start",
    response_model=EnrolmentShape,
    responses=refuses(NotFound, StepLocked),
)
async def start(
    enrolment_id: PathId, step_id: PathId, caller: CallerDep, locale: Locale, db: Db
) -> Response:
    """Begin a step; a finished one stays finished."""
    await courses.start_step(
        db, enrolment_id=enrolment_id, step_id=step_id, locale=locale, **asking(caller)
    )
    return await _seen(db, caller, locale, enrolment_id)


@router.post(
    "/enrolments/{enrolment_id}/steps/{step_id}/complete",
    response_model=EnrolmentShape,
    responses=refuses(NotFound, StepLocked, StepFinished),
)
async def complete(
    enrolment_id: PathId, step_id: PathId, caller: CallerDep, locale: Locale, db: Db
) -> Response:
    """Finish a step; starting it is implied, and twice is once."""
    await courses.complete_step(
        db, enrolment_id=enrolment_id, step_id=step_id, locale=locale, **asking(caller)
    )
    return await _seen(db, caller, locale, enrolment_id)


@router.post(
    "/enrolments/{enrolment_id}/steps/{step_id}/skip",
    response_model=EnrolmentShape,
    responses=refuses(NotFound, StepLocked, StepFinished),
)
async def skip(
    enrolment_id: PathId,
    step_id: PathId,
    caller: CallerDep,
    locale: Locale,
    body: SkipBody,
    db: Db,
) -> Response:
    """Pass a step by, for a reason."""
    await courses.skip_step(
        db,
        enrolment_id=enrolment_id,
        step_id=step_id,
        reason=body.reason,
        locale=locale,
        **asking(caller),
    )
    return await _seen(db, caller, locale, enrolment_id)


@router.post(
    "/enrolments/{enrolment_id}/restart",
    response_model=EnrolmentShape,
    responses=refuses(NotFound),
)
async def restart(enrolment_id: PathId, caller: CallerDep, locale: Locale, db: Db) -> Response:
    """Begin anew, in the newest version; the old attempt is kept for reading."""
    await courses.restart(db, enrolment_id=enrolment_id, **asking(caller))
    return await _seen(db, caller, locale, enrolment_id)


@router.post(
    "/enrolments/{enrolment_id}/move", response_model=MovedShape, responses=refuses(NotFound)
)
async def move(
    enrolment_id: PathId,
    caller: CallerDep,
    db: Db,
    dry_run: Annotated[
        bool, Query(alias="dryRun", description="Only say what would happen.")
    ] = False,
) -> Response:
    """Follow the content to its newest version; what is finished stays finished."""
    moved = await courses.move(db, enrolment_id=enrolment_id, rehearsal=dry_run, **asking(caller))
    return answer(MovedShape.model_validate(moved))


@router.put(
    "/enrolments/{enrolment_id}/reminders",
    response_model=EnrolmentShape,
    responses=refuses(NotFound),
)
async def reminders(
    enrolment_id: PathId, caller: CallerDep, locale: Locale, body: RemindersBody, db: Db
) -> Response:
    """Turn this enrolment's reminders on or off."""
    await courses.set_reminders(db, enrolment_id=enrolment_id, wanted=body.wanted, **asking(caller))
    return await _seen(db, caller, locale, enrolment_id)


@router.get(
    "/enrolments/{enrolment_id}/explain",
    response_model=ExplanationShape,
    responses=refuses(NotFound),
)
async def explain(
    enrolment_id: PathId, caller: CallerDep, locale: Locale, db: Db, day: Number = None
) -> Response:
    """Say why the course, or one day of it, is not finished."""
    told = await courses.explain(
        db, enrolment_id=enrolment_id, owners=caller.owners, locale=locale, day=day
    )
    missing = [MissingShape.model_validate(m) for m in told.missing]
    return answer(ExplanationShape(complete=told.complete, missing=missing))
