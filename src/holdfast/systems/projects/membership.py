"""Projects, and who works on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from holdfast.errors import Invalid, NotFound, refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle, Row


@dataclass(frozen=True, slots=True)
class Project:
    """A wizard of stages. `seat` is what the caller is to it.

    `members` are `{accountId, at}`; `stages` are the template's: `{number, name, required, schema,
    inputs}`, `inputs` naming what a stage is made from (`3.finalScript`).
    """

    id: UUID
    title: str
    template: str
    owner_id: UUID
    seat: Literal["owner", "member"]
    members: list[dict[str, Any]]
    stages: list[dict[str, Any]]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Created:
    """A new project. `replayed`: the key was used before, this is the same project again."""

    id: UUID
    replayed: bool


def _project(row: Row) -> Project:
    return Project(**{name: row[name] for name in Project.__slots__})


async def create(
    db: Handle,
    *,
    account_id: UUID,
    title: str,
    template: str = "video",
    key: str | None = None,
    request_id: str | None = None,
) -> Created:
    """Make a project (title: 1-200 characters), once per key where one is given.

    Raises Invalid (no such template), IdempotencyKeyReused.
    """
    row = await call_one(
        db,
        """select * from projects.create(account => %(account)s, title => %(title)s,
            template => %(template)s, key => %(key)s, request_id => %(request)s)""",
        {
            "account": account_id,
            "title": title,
            "template": template,
            "key": key,
            "request": request_id,
        },
    )
    if row["code"] == "no_such_template":
        raise Invalid(errors=[{"pointer": "/template", "code": "not_found"}])
    if row["code"] != "ok":
        raise refusal(row["code"])
    return Created(row["id"], row["replayed"])


async def get(db: Handle, *, project_id: UUID, family: Sequence[UUID]) -> Project:
    """Return a project of these accounts, or shared with them. Raises NotFound."""
    rows = await call(
        db,
        "select * from projects.get(project => %(project)s, family => %(family)s::uuid[])",
        {"project": project_id, "family": list(family)},
    )
    if not rows:
        raise NotFound
    return _project(rows[0])


async def list_of(
    db: Handle, *, family: Sequence[UUID], before: UUID | None = None, limit: int = 50
) -> list[Project]:
    """Return these accounts' projects and those shared with them, newest first."""
    rows = await call(
        db,
        """select * from projects.list_of(family => %(family)s::uuid[], before => %(before)s,
            at_most => %(limit)s)""",
        {"family": list(family), "before": before, "limit": limit},
    )
    return [_project(row) for row in rows]


async def add_member(
    db: Handle,
    *,
    project_id: UUID,
    account_id: UUID,
    actor: UUID,
    family: Sequence[UUID],
    request_id: str | None = None,
) -> None:
    """Let somebody read and write in a project, as its owner.

    Raises NotFound (no such project or account), Forbidden (a member may not).
    """
    row = await call_one(
        db,
        """select projects.add_member(project => %(project)s, account => %(account)s,
            actor => %(actor)s, family => %(family)s::uuid[], request_id => %(request)s) as code""",
        {
            "project": project_id,
            "account": account_id,
            "actor": actor,
            "family": list(family),
            "request": request_id,
        },
    )
    if row["code"] != "ok":
        raise refusal(row["code"])


async def remove_member(
    db: Handle,
    *,
    project_id: UUID,
    account_id: UUID,
    actor: UUID,
    family: Sequence[UUID],
    request_id: str | None = None,
) -> None:
    """End somebody's membership, as the owner or as that member. Raises NotFound, Forbidden."""
    row = await call_one(
        db,
        """select projects.remove_member(project => %(project)s, account => %(account)s,
            actor => %(actor)s, family => %(family)s::uuid[], request_id => %(request)s) as code""",
        {
            "project": project_id,
            "account": account_id,
            "actor": actor,
            "family": list(family),
            "request": request_id,
        },
    )
    if row["code"] != "ok":
        raise refusal(row["code"])
