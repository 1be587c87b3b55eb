"""What projects, stages and revisions look like, and the headers that only stages have."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Header
from pydantic import BeforeValidator, WithJsonSchema
from starlette.responses import Response

from holdfast.errors import BadRequest, Invalid
from holdfast.systems.projects import Autosave, Step
from holdfast.web.body import wrong
from holdfast.web.responses import Shape, answer


class StageShape(Shape):
    """One stage of a template: what `complete` asks of its data, and what it is made from."""

    number: int
    name: str
    required: bool
    inputs: list[str]
    data_schema: dict[str, Any]


class MemberShape(Shape):
    """Somebody who may read and write besides the owner."""

    account_id: UUID
    at: datetime


class ProjectShape(Shape):
    """A wizard of stages. `seat`: what the caller is to it, owner or member."""

    id: UUID
    title: str
    template: str
    owner_id: UUID
    seat: str
    members: list[MemberShape]
    stages: list[StageShape]
    created_at: datetime


class ChangeShape(Shape):
    """Where an input (`3.finalScript`) differs from what a stale stage was made from."""

    input: str
    pointer: str
    kind: str
    was: Any
    now: Any


class StepShape(Shape):
    """One stage as it is. Never saved: EMPTY, version 0. `changes`: why it is stale."""

    project_id: UUID
    step_number: int
    name: str
    required: bool
    status: str
    stale: bool
    data: dict[str, Any]
    completed_at: datetime | None
    skip_reason: str | None
    version: int
    created_at: datetime | None
    updated_at: datetime | None
    changes: list[ChangeShape]


class RevisionShape(Shape):
    """What a stage held as of a version; `by` is the account that saved it."""

    version: int
    data: dict[str, Any]
    by: UUID
    at: datetime


def show(step: Step, status: int = 200, *, replayed: bool = False) -> Response:
    """Answer with a stage, its version as the ETag."""
    shape = StepShape.model_validate(step)
    headers = {}
    if status == 201:
        headers["Location"] = f"/api/projects/{step.project_id}/steps/{step.step_number}"
    return answer(shape, status, version=step.version, replayed=replayed, headers=headers)


def _time(value: object) -> object:
    """Read an ISO 8601 time; without a zone it is UTC."""
    if value is None or isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise wrong("wrong_type", expected="string")
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        raise wrong("malformed") from None
    if not 1900 < read.year < 9999:
        raise wrong("malformed")
    return read if read.tzinfo else read.replace(tzinfo=UTC)


Time = Annotated[
    datetime | None,
    BeforeValidator(_time),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),
]


async def _only_new(
    if_none_match: Annotated[
        str | None,
        Header(description="`*`: make the stage, never change it."),
        WithJsonSchema({"type": "string", "const": "*"}),
    ] = None,
) -> bool:
    if if_none_match is None:
        return False
    if if_none_match.strip() != "*":
        raise BadRequest
    return True


OnlyNew = Annotated[bool, Depends(_only_new)]

_TAB_FORM, _SEQ_FORM = "^[!-~]{1,64}$", "^[0-9]{1,15}$"
_TAB = re.compile(r"[!-~]{1,64}\Z")
_SEQ = re.compile(r"[0-9]{1,15}\Z")


async def _autosave(
    x_tab: Annotated[
        str | None,
        Header(description="Names a browser tab that saves by itself."),
        WithJsonSchema({"type": "string", "pattern": _TAB_FORM}),
    ] = None,
    x_tab_seq: Annotated[
        str | None,
        Header(description="The tab's count of saves: an older one changes nothing."),
        WithJsonSchema({"type": "string", "pattern": _SEQ_FORM}),
    ] = None,
) -> Autosave | None:
    if x_tab is None and x_tab_seq is None:
        return None
    given = (("X-Tab", x_tab, _TAB), ("X-Tab-Seq", x_tab_seq, _SEQ))
    problems = [
        {"pointer": f"/header/{name}", "code": "required" if value is None else "malformed"}
        for name, value, form in given
        if value is None or not form.match(value)
    ]
    if problems or x_tab is None or x_tab_seq is None:
        raise Invalid(errors=problems)
    return Autosave(x_tab, int(x_tab_seq))


AutosaveDep = Annotated[Autosave | None, Depends(_autosave)]
