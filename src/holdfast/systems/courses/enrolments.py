"""Enrolments: a person's way through one course."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from holdfast.errors import NotFound, refusal
from holdfast.messages import DEFAULT
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle


@dataclass(frozen=True, slots=True)
class Enrolled:
    """An enrolment's id; `created` is false when there was one."""

    id: UUID
    created: bool


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One attempt at a course, with its days and steps in wire form (camelCase).

    `version` is the content it is pinned to, `newest` the one published last. `percent` is 0-100,
    and 100 exactly when COMPLETED. `streak` counts local dates in a row up to `today` (the date on
    the person's clock) or yesterday; `active_on` are those of the last 35 days.
    """

    id: UUID
    account_id: UUID
    slug: str
    title: str
    about: str | None
    version: int
    newest: int
    attempt: int
    status: str
    percent: int
    done: int
    required: int
    streak: int
    reminders: bool
    started_at: datetime | None
    completed_at: datetime | None
    revision: int
    today: date
    active_on: list[date]
    days: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class EnrolmentSummary:
    """One enrolment in a list."""

    id: UUID
    slug: str
    title: str
    status: str
    percent: int
    attempt: int
    started_at: datetime | None
    completed_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something is not finished: `missing` [{stepId, title, day, number, status}]."""

    complete: bool
    missing: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Moved:
    """What following the content did, or would do: steps, days that it finished, the course."""

    changed: bool
    version: int
    steps_added: int
    steps_removed: int
    days_finished: int
    finished: bool


async def enrol(
    db: Handle,
    *,
    account_id: UUID,
    slug: str,
    owners: Sequence[UUID] = (),
    actor: str,
    request_id: str | None = None,
) -> Enrolled:
    """Enrol a person in the version published last; again, or by an alias: the same enrolment.

    `owners` are the person's other accounts. Raises NotFound for a course that is not there.
    """
    row = await call_one(
        db,
        """select * from courses.enrol(account => %(account)s, slug => %(slug)s,
            owners => %(owners)s::uuid[], actor => %(actor)s, request => %(request)s)""",
        {
            "account": account_id,
            "slug": slug,
            "owners": list(owners),
            "actor": actor,
            "request": request_id,
        },
    )
    if row["code"] != "ok":
        raise refusal(row["code"])
    return Enrolled(row["enrolment_id"], row["created"])


async def restart(
    db: Handle,
    *,
    enrolment_id: UUID,
    owners: Sequence[UUID] | None,
    actor: str,
    request_id: str | None = None,
) -> int:
    """Begin anew, in the version published last; returns the attempt's number.

    The old attempt is kept for reading. What was never begun is not begun again. Raises NotFound.
    """
    row = await call_one(
        db,
        """select * from courses.restart(enrolment => %(enrolment)s, owners => %(owners)s::uuid[],
            actor => %(actor)s, request => %(request)s)""",
        {
            "enrolment": enrolment_id,
            "owners": None if owners is None else list(owners),
            "actor": actor,
            "request": request_id,
        },
    )
    if row["code"] != "ok":
        raise refusal(row["code"])
    return int(row["attempt"])


async def move(
    db: Handle,
    *,
    enrolment_id: UUID,
    owners: Sequence[UUID] | None,
    actor: str,
    request_id: str | None = None,
    rehearsal: bool = False,
) -> Moved:
    """Follow the content to the version published last; a finished course stays where it is.

    What is finished stays finished. A rehearsal leaves nothing. Raises NotFound.
    """
    row = await call_one(
        db,
        """select * from courses.move(enrolment => %(enrolment)s, owners => %(owners)s::uuid[],
            actor => %(actor)s, request => %(request)s, rehearsal => %(rehearsal)s)""",
        {
            "enrolment": enrolment_id,
            "owners": None if owners is None else list(owners),
            "actor": actor,
            "request": request_id,
            "rehearsal": rehearsal,
        },
    )
    if row["code"] != "ok":
        raise refusal(row["code"])
    return Moved(**{name: row[name] for name in Moved.__slots__})


async def set_reminders(
    db: Handle,
    *,
    enrolment_id: UUID,
    owners: Sequence[UUID] | None,
    wanted: bool,
    actor: str,
    request_id: str | None = None,
) -> None:
    """Turn reminders of one enrolment on or off. Raises NotFound."""
    row = await call_one(
        db,
        """select courses.set_reminders(enrolment => %(enrolment)s,
            owners => %(owners)s::uuid[], wanted => %(wanted)s, actor => %(actor)s,
            request => %(request)s) as code""",
        {
            "enrolment": enrolment_id,
            "owners": None if owners is None else list(owners),
            "wanted": wanted,
            "actor": actor,
            "request": request_id,
        },
    )
    if row["code"] != "ok":
        raise refusal(row["code"])


async def get(
    db: Handle,
    *,
    enrolment_id: UUID,
    owners: Sequence[UUID] | None,
    locale: str = DEFAULT,
    attempt: int | None = None,
) -> Enrolment:
    """Return an enrolment, in its present attempt or an earlier one. Raises NotFound."""
    rows = await call(
        db,
        """select * from courses.get(enrolment => %(enrolment)s, owners => %(owners)s::uuid[],
            language => %(locale)s, of_attempt => %(attempt)s)""",
        {
            "enrolment": enrolment_id,
            "owners": None if owners is None else list(owners),
            "locale": locale,
            "attempt": attempt,
        },
    )
    if not rows:
        raise NotFound
    return Enrolment(**rows[0])


async def enrolments(
    db: Handle,
    *,
    owners: Sequence[UUID],
    locale: str = DEFAULT,
    before: UUID | None = None,
    limit: int = 50,
) -> list[EnrolmentSummary]:
    """Return a person's enrolments, newest first, those with an id below `before`."""
    rows = await call(
        db,
        """select * from courses.enrolments(owners => %(owners)s::uuid[],
            language => %(locale)s, before => %(before)s, at_most => %(limit)s)""",
        {"owners": list(owners), "locale": locale, "before": before, "limit": limit},
    )
    return [EnrolmentSummary(**row) for row in rows]


async def explain(
    db: Handle,
    *,
    enrolment_id: UUID,
    owners: Sequence[UUID] | None,
    locale: str = DEFAULT,
    day: int | None = None,
) -> Explanation:
    """Say why a course, or one day of it, is not finished. Raises NotFound."""
    rows = await call(
        db,
        """select * from courses.explain(enrolment => %(enrolment)s,
            owners => %(owners)s::uuid[], language => %(locale)s, of_day => %(day)s)""",
        {
            "enrolment": enrolment_id,
            "owners": None if owners is None else list(owners),
            "locale": locale,
            "day": day,
        },
    )
    if not rows:
        raise NotFound
    return Explanation(**rows[0])
