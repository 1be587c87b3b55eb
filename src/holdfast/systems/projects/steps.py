"""Steps: saved leniently, completed strictly, skipped with a reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Literal, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from holdfast.errors import Invalid, NotFound, Retryable, refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle, Row
from holdfast.systems.projects.difference import Change, changes
from holdfast.systems.projects.judging import require_complete, require_storable

_log = logging.getLogger("holdfast.projects")
_CHECKS = 5  # of a step that somebody changes while its data is being checked


class Unset(Enum):
    """What a field is that was not sent, where None clears it."""

    UNSET = "unset"


UNSET = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a project. Never saved: EMPTY, version 0.

    `changes` says, of a stale step, how its inputs differ from what it was made from.
    """

    project_id: UUID
    step_number: int
    name: str
    required: bool
    status: Literal["EMPTY", "DRAFT", "COMPLETED", "SKIPPED"]
    stale: bool
    data: dict[str, Any]
    completed_at: datetime | None
    skip_reason: str | None
    version: int
    created_at: datetime | None
    updated_at: datetime | None
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Saved:
    """The step as it is now. `created`: it was not there before.

    `late`: this tab has saved later typing already, so nothing was changed. `replayed`: its key was
    used before, so it was not saved once more.
    """

    step: Step
    created: bool
    late: bool
    replayed: bool


@dataclass(frozen=True, slots=True)
class Autosave:
    """Which browser tab saves (1-64 characters), and its count of saves, which only grows."""

    tab: str
    seq: int


def seen(row: Row) -> Step:
    """Read the columns of `projects.step_seen`."""
    read = {name: row[name] for name in Step.__slots__ if name != "changes"}
    return Step(**read, changes=changes(row["inputs"]))


def outcome(row: Row, action: str) -> Step:
    """Return the step of a verb's row, or raise its refusal."""
    code = row["code"]
    if code == "ok":
        return seen(row)
    match code:
        case "version_mismatch":
            raise refusal(code, version=row["version"])
        case "wrong_status":
            raise refusal(code, action=action, status=row["status"])
        case "too_large":
            raise refusal(code, most=row["most"])
        case "no_such_stage":
            raise NotFound
    raise refusal(code)


def numbered(number: int) -> int:
    """Return the number of a stage, or raise NotFound where no template could have it."""
    if not 0 < number < 2**15:
        raise NotFound(step_number=number)
    return number


async def steps(db: Handle, *, project_id: UUID, family: Sequence[UUID]) -> list[Step]:
    """Return every stage of a project, in order. Raises NotFound."""
    rows = await call(
        db,
        "select * from projects.steps(project => %(project)s, family => %(family)s::uuid[])",
        {"project": project_id, "family": list(family)},
    )
    if not rows:
        raise NotFound
    return [seen(row) for row in rows]


async def step(db: Handle, *, project_id: UUID, number: int, family: Sequence[UUID]) -> Step:
    """Return one stage of a project. Raises NotFound."""
    for one in await steps(db, project_id=project_id, family=family):
        if one.step_number == number:
            return one
    raise NotFound


async def save(
    db: Handle,
    *,
    project_id: UUID,
    number: int,
    actor: UUID,
    family: Sequence[UUID],
    data: Mapping[str, Any] | Unset | None = UNSET,
    merge: bool = False,
    completed_at: datetime | Unset | None = UNSET,
    skip_reason: str | Unset | None = UNSET,
    if_version: int | None = None,
    only_new: bool = False,
    autosave: Autosave | None = None,
    key: str | None = None,
    request_id: str | None = None,
) -> Saved:
    """Make a step or change it, in one round trip; what is UNSET stays, None clears.

    `data` replaces what is there, or with `merge` is merged into it (RFC 7396). `completed_at`
    marks the step COMPLETED as given; None opens it again. A `skip_reason` that is not "" marks it
    SKIPPED. With a `key` it happens once.

    Raises Invalid (with pointers below /data), TooLarge (most, in bytes), VersionMismatch
    (version), IdempotencyKeyReused, NotFound, Retryable.
    """
    if isinstance(data, Mapping):
        require_storable(data)
    if isinstance(skip_reason, str):
        require_storable({"skipReason": skip_reason}, "")
    given = {
        "content": None if data is UNSET else Jsonb(dict(data or {})),
        "merging": merge and data is not None,
        "completed_given": completed_at is not UNSET,
        "completed_at": None if completed_at is UNSET else completed_at,
        "skip_given": skip_reason is not UNSET,
        "skip_reason": None if skip_reason is UNSET else skip_reason,
        "if_version": if_version,
        "only_new": only_new,
        "tab": autosave.tab if autosave else None,
        "tab_seq": autosave.seq if autosave else None,
        "key": key,
    }
    who = {"project": project_id, "number": numbered(number), "actor": actor,
           "family": list(family), "request": request_id}  # fmt: skip
    return _saved(await call_one(db, _SAVE, {**who, **given}), number)


_SAVE: LiteralString = """select s.code, s.was_new, s.late, s.replayed, s.most, (s.seen).*
    from projects.save(
        project => %(project)s, number => %(number)s, actor => %(actor)s,
        family => %(family)s::uuid[], content => %(content)s::jsonb, merging => %(merging)s,
        completed_given => %(completed_given)s, completed_at => %(completed_at)s,
        skip_given => %(skip_given)s, skip_reason => %(skip_reason)s,
        if_version => %(if_version)s, only_new => %(only_new)s, tab => %(tab)s,
        tab_seq => %(tab_seq)s, key => %(key)s, request_id => %(request)s) s"""


def _saved(row: Row, number: int) -> Saved:
    if row["code"] == "no_such_stage":
        raise NotFound(step_number=number)
    saved = Saved(outcome(row, "save"), row["was_new"], row["late"], row["replayed"])
    if not (saved.late or saved.replayed):
        _log.info(
            "step %s", "created" if saved.created else "updated",
            extra={"project": str(saved.step.project_id), "step": number,
                   "version": saved.step.version},
        )  # fmt: skip
    return saved


async def complete(
    db: Handle,
    *,
    project_id: UUID,
    number: int,
    actor: UUID,
    family: Sequence[UUID],
    if_version: int | None = None,
    request_id: str | None = None,
) -> Step:
    """Complete a step whose data satisfies its stage; a completed one keeps its time.

    Two round trips: the data is checked here, and written only if it is still what was checked.
    Raises Invalid (with pointers below /data), StepLocked (missing), WrongStatus, VersionMismatch,
    NotFound, Retryable.
    """
    for _ in range(_CHECKS):
        found = await _checked(db, project_id, number, family)
        row = await call_one(
            db,
            """select c.code, c.missing, (c.seen).* from projects.complete(project => %(project)s,
                number => %(number)s, actor => %(actor)s, family => %(family)s::uuid[],
                checked_version => %(checked)s, if_version => %(if_version)s,
                request_id => %(request)s) c""",
            {
                "project": project_id,
                "number": numbered(number),
                "actor": actor,
                "family": list(family),
                "checked": found,
                "if_version": if_version,
                "request": request_id,
            },
        )
        if row["code"] == "step_locked":
            raise refusal("step_locked", missing=row["missing"])
        if row["code"] != "changed":
            return outcome(row, "complete")
    raise Retryable


async def _checked(db: Handle, project_id: UUID, number: int, family: Sequence[UUID]) -> int:
    """Check the data of a step that could be completed; return the version that was looked at."""
    rows = await call(
        db,
        "select * from projects.steps(project => %(project)s, family => %(family)s::uuid[])",
        {"project": project_id, "family": list(family)},
    )
    for row in rows:
        if row["step_number"] == number:
            if row["status"] != "SKIPPED":
                require_complete(row["data"], row["schema"])
            return int(row["version"])
    raise NotFound


async def skip(
    db: Handle,
    *,
    project_id: UUID,
    number: int,
    actor: UUID,
    family: Sequence[UUID],
    reason: str,
    if_version: int | None = None,
    request_id: str | None = None,
) -> Step:
    """Pass a step by, with a reason that is not blank.

    Raises Invalid, WrongStatus (a completed one), VersionMismatch, NotFound.
    """
    if not reason.strip():
        raise Invalid(errors=[{"pointer": "/reason", "code": "too_short", "least": 1}])
    require_storable({"reason": reason}, "")
    row = await call_one(
        db,
        """select s.code, (s.seen).* from projects.skip(project => %(project)s,
            number => %(number)s, actor => %(actor)s, family => %(family)s::uuid[],
            reason => %(reason)s, if_version => %(if_version)s, request_id => %(request)s) s""",
        {
            "project": project_id,
            "number": numbered(number),
            "actor": actor,
            "family": list(family),
            "reason": reason,
            "if_version": if_version,
            "request": request_id,
        },
    )
    return outcome(row, "skip")
