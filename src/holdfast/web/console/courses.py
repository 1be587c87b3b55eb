"""Courses on the console: what there is to learn, and a person's way, day by day."""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib import resources
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_datetime
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import RedirectResponse, Response

from holdfast.errors import HoldfastError, NotFound
from holdfast.kernel import outbox
from holdfast.postgres.pool import Database
from holdfast.systems import courses
from holdfast.systems.providers.channels import sender
from holdfast.web.actor import Caller
from holdfast.web.api.courses import asking
from holdfast.web.api.notifications import SubscriptionBody, known_browser
from holdfast.web.console.forms import Fields, read
from holdfast.web.console.page import fragment, language, page, plain
from holdfast.web.console.session import Guarded, Viewer, csrf_token
from holdfast.web.requests import Db

router = APIRouter(prefix="/console")

_WEEK = 7


@router.get("/courses")
async def show(request: Request, who: Viewer, db: Db) -> Response:
    """Every course, and how far one has come."""
    locale = language(request)
    found = await courses.catalogue(db, owners=who.family, locale=locale)
    mine = {e.slug: e for e in await courses.enrolments(db, owners=who.family, locale=locale)}
    return page(
        request, "courses.html", who, csrf=csrf_token(request, who), courses=found, mine=mine
    )


@router.post("/courses/{slug}/enrol")
async def enrol(slug: str, who: Guarded, db: Db) -> Response:
    """Begin a course, or go on with it."""
    made = await courses.enrol(
        db,
        account_id=who.account_id,
        slug=slug,
        owners=who.family,
        actor=who.actor,
        request_id=who.request_id,
    )
    return RedirectResponse(f"/console/enrolments/{made.id}", 303)


@router.get("/enrolments/{enrolment_id}")
async def way(request: Request, enrolment_id: UUID, who: Viewer, db: Db) -> Response:
    """A person's way through one course."""
    sends = sender(request.app.state.settings)
    return page(
        request,
        "course.html",
        who,
        csrf=csrf_token(request, who),
        push_key=sends.public_key if sends else "",
        told="",
        **await _facts(request, db, who, enrolment_id),
    )


async def _facts(request: Request, db: Database, who: Caller, enrolment_id: UUID) -> dict[str, Any]:
    """Gather what the page shows: the way, the week, the next reminder, what a move would do."""
    locale = language(request)
    seen = await courses.get(db, enrolment_id=enrolment_id, owners=who.owners, locale=locale)
    waiting = await outbox.timers(db, stream=seen.account_id)
    own = [t for t in waiting if t.payload.get("enrolment") == str(seen.id)]
    offer = None
    if seen.newest > seen.version and seen.status != "COMPLETED":
        offer = await courses.move(db, enrolment_id=enrolment_id, rehearsal=True, **asking(who))
    days = [seen.today - timedelta(days=back) for back in range(_WEEK - 1, -1, -1)]
    current = next((d["number"] for d in seen.days if d["status"] != "COMPLETED"), None)
    return {
        "way": seen,
        "current": current,
        "offer": offer,
        "week": [
            (format_date(day, "EEEEEE", locale), format_date(day, "long", locale),
             day in seen.active_on)
            for day in days
        ],
        "reminder": _moment(own[0].due_at, who.account.time_zone, locale) if own else "",
    }  # fmt: skip


def _moment(at: datetime, zone: str, locale: str) -> str:
    return str(format_datetime(at, "EEEE, d MMMM, HH:mm", tzinfo=ZoneInfo(zone), locale=locale))


class SkipForm(BaseModel):
    """Why a step is passed by."""

    reason: str = Field(min_length=1, max_length=2000)


@router.post("/enrolments/{enrolment_id}/steps/{step_id}/{verb}")
async def step(
    request: Request,
    enrolment_id: UUID,
    step_id: UUID,
    verb: str,
    who: Guarded,
    given: Fields,
    db: Db,
) -> Response:
    """Begin, finish or pass a step by; the answer is the way as it is now."""
    what: dict[str, Any] = {"enrolment_id": enrolment_id, "step_id": step_id}
    what |= {"locale": language(request)}
    told, status = "", 200
    try:
        if verb == "skip":
            reason = read(SkipForm, given).reason
            await courses.skip_step(db, reason=reason, **what, **asking(who))
        elif verb in ("start", "complete"):
            act = courses.start_step if verb == "start" else courses.complete_step
            await act(db, **what, **asking(who))
        else:
            raise NotFound
    except HoldfastError as problem:
        told, status = _sentence(request, problem), problem.status
    return await _present(request, db, who, enrolment_id, told, status)


@router.post("/enrolments/{enrolment_id}/{verb}")
async def change(
    request: Request, enrolment_id: UUID, verb: str, who: Guarded, given: Fields, db: Db
) -> Response:
    """Begin anew, follow the content, or turn reminders on or off."""
    told, status = "", 200
    try:
        if verb == "restart":
            await courses.restart(db, enrolment_id=enrolment_id, **asking(who))
        elif verb == "move":
            await courses.move(db, enrolment_id=enrolment_id, **asking(who))
        elif verb == "reminders":
            wanted = given.get("wanted") == "yes"
            await courses.set_reminders(db, enrolment_id=enrolment_id, wanted=wanted, **asking(who))
        else:
            raise NotFound
    except HoldfastError as problem:
        told, status = _sentence(request, problem), problem.status
    return await _present(request, db, who, enrolment_id, told, status)


async def _present(
    request: Request, db: Database, who: Caller, enrolment_id: UUID, told: str, status: int
) -> Response:
    if "hx-request" not in request.headers and not told:
        return RedirectResponse(f"/console/enrolments/{enrolment_id}", 303)
    facts = await _facts(request, db, who, enrolment_id)
    return plain(fragment(request, "course_way.html", who, told=told, **facts), status)


@router.get("/enrolments/{enrolment_id}/explain")
async def explain(
    request: Request, enrolment_id: UUID, who: Viewer, db: Db, day: int | None = None
) -> Response:
    """Say why the course, or one day of it, is not finished."""
    told = await courses.explain(
        db, enrolment_id=enrolment_id, owners=who.owners, locale=language(request), day=day
    )
    return plain(fragment(request, "course_why.html", who, why=told))


def _sentence(request: Request, problem: HoldfastError) -> str:
    locale = language(request)
    missing = ", ".join(f"«{one['title']}»" for one in problem.facts.get("missing", []))
    return f"{problem.detail(locale)} {missing or problem.next(locale)}".strip()


class BrowserForm(BaseModel):
    """A PushSubscription's fields."""

    endpoint: str
    p256dh: str
    auth: str


@router.post("/subscriptions")
async def subscribe(request: Request, who: Guarded, given: Fields, db: Db) -> Response:
    """Show notifications in this browser."""
    form = read(BrowserForm, given)
    keys = {"p256dh": form.p256dh, "auth": form.auth}
    body = SubscriptionBody.model_validate({"endpoint": form.endpoint, "keys": keys})
    await known_browser(request.app.state.settings, body)
    await outbox.subscribe(db, account_id=who.account_id, endpoint=form.endpoint, **keys)
    return Response(status_code=204)


@router.get("/notices.js")
async def notices() -> Response:
    """The service worker that shows notifications; here, so that it serves the whole console."""
    file = resources.files("holdfast.web") / "static" / "console" / "notices.js"
    headers = {"Cache-Control": "no-cache"}
    return Response(file.read_bytes(), media_type="text/javascript", headers=headers)
