"""What was, and the two answers to a stale step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from holdfast.errors import NotFound
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle
from holdfast.systems.projects.steps import Step, numbered, outcome, step


@dataclass(frozen=True, slots=True)
class Revision:
    """What a step held as of a version; `by` is the account that saved it."""

    version: int
    data: dict[str, Any]
    by: UUID
    at: datetime


async def revisions(
    db: Handle,
    *,
    project_id: UUID,
    number: int,
    family: Sequence[UUID],
    before: int | None = None,
    limit: int = 50,
) -> list[Revision]:
    """Return the kept revisions of a step, newest first. Raises NotFound."""
    rows = await call(
        db,
        """select * from projects.revisions(project => %(project)s, number => %(number)s,
            family => %(family)s::uuid[], before => %(before)s, at_most => %(limit)s)""",
        {
            "project": project_id,
            "number": numbered(number),
            "family": list(family),
            "before": before,
            "limit": limit,
        },
    )
    if not rows:
        await step(db, project_id=project_id, number=number, family=family)  # or is it not there?
    return [Revision(**row) for row in rows]


async def restore(
    db: Handle,
    *,
    project_id: UUID,
    number: int,
    version: int,
    actor: UUID,
    family: Sequence[UUID],
    if_version: int | None = None,
    request_id: str | None = None,
) -> Step:
    """Make an old revision's data the step's again, as a new version.

    Raises NotFound (also for a revision that is not kept any more), VersionMismatch.
    """
    if not 0 < version < 2**31:
        raise NotFound
    row = await call_one(
        db,
        """select r.code, (r.seen).* from projects.restore(project => %(project)s,
            number => %(number)s, version => %(version)s, actor => %(actor)s,
            family => %(family)s::uuid[], if_version => %(if_version)s,
            request_id => %(request)s) r""",
        {
            "project": project_id,
            "number": numbered(number),
            "version": version,
            "actor": actor,
            "family": list(family),
            "if_version": if_version,
            "request": request_id,
        },
    )
    return outcome(row, "restore")


async def accept(
    db: Handle,
    *,
    project_id: UUID,
    number: int,
    actor: UUID,
    family: Sequence[UUID],
    if_version: int | None = None,
    request_id: str | None = None,
) -> Step:
    """Take what is new under a stale step; a copy that it keeps of an input becomes the new value.

    A step that is not stale stays as it is. Raises TooLarge, VersionMismatch, NotFound.
    """
    row = await call_one(
        db,
        """select a.code, a.most, (a.seen).* from projects.accept(project => %(project)s,
            number => %(number)s, actor => %(actor)s, family => %(family)s::uuid[],
            if_version => %(if_version)s, request_id => %(request)s) a""",
        {
            "project": project_id,
            "number": numbered(number),
            "actor": actor,
            "family": list(family),
            "if_version": if_version,
            "request": request_id,
        },
    )
    return outcome(row, "accept")


async def keep(
    db: Handle,
    *,
    project_id: UUID,
    number: int,
    actor: UUID,
    family: Sequence[UUID],
    if_version: int | None = None,
    request_id: str | None = None,
) -> Step:
    """Keep a stale step as it is, until its inputs change once more.

    Raises VersionMismatch, NotFound.
    """
    row = await call_one(
        db,
        """select k.code, (k.seen).* from projects.keep(project => %(project)s,
            number => %(number)s, actor => %(actor)s, family => %(family)s::uuid[],
            if_version => %(if_version)s, request_id => %(request)s) k""",
        {
            "project": project_id,
            "number": numbered(number),
            "actor": actor,
            "family": list(family),
            "if_version": if_version,
            "request": request_id,
        },
    )
    return outcome(row, "keep")
