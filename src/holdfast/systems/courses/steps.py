"""Steps: begin one, finish it, pass it by. Step, day, course and effects move together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import structlog

from holdfast.errors import StepFinished, StepLocked, refusal
from holdfast.messages import DEFAULT
from holdfast.postgres.call import call_one
from holdfast.postgres.pool import Handle

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RollUp:
    """What a verb moved: the step, its day, its course.

    `changed` is false when the step was there already. `day_steps` and `day_finished` count the
    day's steps, `next_index` is the 0-based next unfinished one (= `day_steps` when the day is
    COMPLETED); `done` of `required` counts the course's.
    """

    changed: bool
    step_status: str
    day: int
    day_status: str
    course_status: str
    day_steps: int
    day_finished: int
    next_index: int
    done: int
    required: int
    revision: int


async def start_step(
    db: Handle,
    *,
    enrolment_id: UUID,
    step_id: UUID,
    owners: Sequence[UUID] | None,
    actor: str,
    request_id: str | None = None,
    locale: str = DEFAULT,
) -> RollUp:
    """Begin a step; one that is begun or finished stays as it is.

    `owners` None: whosever it is. Raises StepLocked (missing [{stepId, title}]), NotFound.
    """
    return await _move(
        db,
        """select * from courses.start_step(enrolment => %(enrolment)s, step => %(step)s,
            owners => %(owners)s::uuid[], actor => %(actor)s, request => %(request)s,
            language => %(locale)s)""",
        _arguments(enrolment_id, step_id, owners, actor, request_id, locale),
    )


async def complete_step(
    db: Handle,
    *,
    enrolment_id: UUID,
    step_id: UUID,
    owners: Sequence[UUID] | None,
    actor: str,
    request_id: str | None = None,
    locale: str = DEFAULT,
) -> RollUp:
    """Finish a step (starting it is implied); one that is COMPLETED stays as it is.

    Raises StepLocked (missing [{stepId, title}]), StepFinished (it was skipped), NotFound.
    """
    return await _move(
        db,
        """select * from courses.complete_step(enrolment => %(enrolment)s, step => %(step)s,
            owners => %(owners)s::uuid[], actor => %(actor)s, request => %(request)s,
            language => %(locale)s)""",
        _arguments(enrolment_id, step_id, owners, actor, request_id, locale),
    )


async def skip_step(
    db: Handle,
    *,
    enrolment_id: UUID,
    step_id: UUID,
    owners: Sequence[UUID] | None,
    actor: str,
    reason: str,
    request_id: str | None = None,
    locale: str = DEFAULT,
) -> RollUp:
    """Pass a step by, for a reason; it counts as finished. One that is SKIPPED stays as it is.

    Raises StepLocked (missing [{stepId, title}]), StepFinished (it was completed), NotFound.
    """
    return await _move(
        db,
        """select * from courses.skip_step(enrolment => %(enrolment)s, step => %(step)s,
            owners => %(owners)s::uuid[], actor => %(actor)s, reason => %(reason)s,
            request => %(request)s, language => %(locale)s)""",
        _arguments(enrolment_id, step_id, owners, actor, request_id, locale) | {"reason": reason},
    )


def _arguments(
    enrolment_id: UUID,
    step_id: UUID,
    owners: Sequence[UUID] | None,
    actor: str,
    request_id: str | None,
    locale: str,
) -> dict[str, Any]:
    return {
        "enrolment": enrolment_id,
        "step": step_id,
        "owners": None if owners is None else list(owners),
        "actor": actor,
        "request": request_id,
        "locale": locale,
    }


async def _move(db: Handle, sql: LiteralString, arguments: dict[str, Any]) -> RollUp:
    row = await call_one(db, sql, arguments)
    if row["code"] == StepLocked.code:
        raise StepLocked(missing=row["missing"])
    if row["code"] == StepFinished.code:
        raise StepFinished(status=row["step_status"])
    if row["code"] != "ok":
        raise refusal(row["code"])
    moved = RollUp(**{name: row[name] for name in RollUp.__slots__})
    if moved.changed:
        _log.info(
            "course_step_moved",
            enrolment_id=str(arguments["enrolment"]),
            step_id=str(arguments["step"]),
            training_day_steps_count=moved.day_steps,
            user_steps_count=moved.day_finished,
            all_completed=moved.day_status == "COMPLETED",
            step_status=moved.step_status,
            day_status=moved.day_status,
            course_status=moved.course_status,
            next_current_step_index=moved.next_index,
        )
    return moved
