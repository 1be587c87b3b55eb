"""The voice on the console: what was ordered, how far it is, and the sounds to be heard."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from holdfast.errors import NotFound
from holdfast.kernel import queue
from holdfast.messages import translator
from holdfast.postgres.pool import Database
from holdfast.systems import projects
from holdfast.systems.projects import Voicing
from holdfast.web.actor import Caller
from holdfast.web.api.artifacts import artifact
from holdfast.web.console.page import fragment, language, plain
from holdfast.web.console.session import Viewer
from holdfast.web.requests import Db

router = APIRouter(prefix="/console/projects")

_SHOWN = 5  # orders, the newest


@dataclass(frozen=True, slots=True)
class Heard:
    """One order as it is shown; `sounds` once it is done, `reason` where it failed."""

    order: Voicing
    sounds: list[queue.Artifact]
    reason: str

    @property
    def live(self) -> bool:
        """Whether it is still worth looking again."""
        return self.order.status in ("queued", "processing")


async def heard(request: Request, db: Database, project_id: UUID, who: Caller) -> list[Heard]:
    """Return the newest orders for a voice in a project, with their sounds."""
    made = []
    told = translator(language(request))
    for order in await projects.voicings(
        db, project_id=project_id, family=who.family, limit=_SHOWN
    ):
        sounds = []
        if order.status == "completed":
            sounds = await queue.artifacts(db, job_id=order.job_id, owners=[order.account_id])
        reason = told.reason(order.error_code) if order.error_code else ""
        made.append(Heard(order, sounds, reason))
    return made


@router.get("/{project_id}/voice/orders")
async def orders(request: Request, project_id: UUID, who: Viewer, db: Db) -> Response:
    """The part of the page that shows the orders; asked again while one is under way."""
    found = await heard(request, db, project_id, who)
    return plain(fragment(request, "voicings.html", who, voicings=found, project_id=project_id))


@router.get("/{project_id}/voice/{job_id}/{n}.wav")
async def sound(
    project_id: UUID,
    job_id: UUID,
    n: int,
    who: Viewer,
    db: Db,
    range_: Annotated[str | None, Header(alias="Range")] = None,
) -> Response:
    """One sound, for everybody in the project, whoever paid for it."""
    for order in await projects.voicings(db, project_id=project_id, family=who.family, limit=100):
        if order.job_id == job_id:
            payer = dataclasses.replace(who, family=(order.account_id,), role="user")
            return await artifact(job_id=job_id, n=n, caller=payer, db=db, range_=range_)
    raise NotFound
