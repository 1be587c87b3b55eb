"""Projects on the console: the stages as a path, each with what is typed saved as it is typed."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, RedirectResponse, Response

from holdfast.errors import HoldfastError, Invalid, NotFound, VersionMismatch
from holdfast.kernel import ledger, queue
from holdfast.messages import translator
from holdfast.postgres.pool import Database
from holdfast.systems import projects
from holdfast.systems.projects import Autosave, Step
from holdfast.systems.providers.voice import VOICES
from holdfast.web.actor import Caller
from holdfast.web.console.forms import Fields, read
from holdfast.web.console.page import language, page
from holdfast.web.console.session import Guarded, Viewer, csrf_token
from holdfast.web.console.voice import heard
from holdfast.web.requests import Db

router = APIRouter(prefix="/console/projects")

_STORIES = 30  # the newest jobs among which finished stories are looked for
_FINISHED = ("COMPLETED", "SKIPPED")


class CreateForm(BaseModel):
    """A new project. `key` is the page's: a double click makes one."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    key: Annotated[str, Field(min_length=1, max_length=100)] | None = None


class SaveForm(BaseModel):
    """Where an autosave comes from, and what it was typed upon."""

    version: Annotated[int, Field(ge=0, lt=2**31)]
    tab: Annotated[str, Field(min_length=1, max_length=64)]
    seq: Annotated[int, Field(ge=0, lt=2**53)]


@router.get("")
async def show_all(request: Request, who: Viewer, db: Db) -> Response:
    """The projects of who looks, and a way to begin one."""
    found = await projects.list_of(db, family=who.family, limit=100)
    csrf = csrf_token(request, who)
    return page(request, "projects.html", who, csrf=csrf, projects=found, key=str(uuid4()))


@router.post("")
async def create(who: Guarded, given: Fields, db: Db) -> Response:
    """Begin a project."""
    form = read(CreateForm, given)
    made = await projects.create(
        db, account_id=who.account_id, title=form.title, key=form.key, request_id=who.request_id
    )
    return RedirectResponse(f"/console/projects/{made.id}", 303)


@router.get("/{project_id}")
async def enter(project_id: UUID, who: Viewer, db: Db) -> Response:
    """Go to the first stage that is not finished."""
    steps = await projects.steps(db, project_id=project_id, family=who.family)
    ahead = [step.step_number for step in steps if step.status not in _FINISHED]
    return RedirectResponse(f"/console/projects/{project_id}/{(ahead or [1])[0]}", 303)


@router.get("/{project_id}/{number}")
async def show(request: Request, project_id: UUID, number: int, who: Viewer, db: Db) -> Response:
    """One stage of a project."""
    return await _page(request, project_id, number, who, db)


async def _page(
    request: Request,
    project_id: UUID,
    number: int,
    who: Caller,
    db: Database,
    problem: HoldfastError | None = None,
) -> Response:
    project = await projects.get(db, project_id=project_id, family=who.family)
    steps = await projects.steps(db, project_id=project_id, family=who.family)
    step = _numbered(steps, number)
    source = next((one for one in steps if projects.scenes_of(one.data)), None)
    return page(
        request,
        "project.html",
        who,
        csrf=csrf_token(request, who),
        status=problem.status if problem else 200,
        project=project,
        steps=steps,
        step=step,
        fields=projects.fields_of(step),
        revisions=await projects.revisions(
            db, project_id=project_id, number=number, family=who.family, limit=10
        ),
        stories=await _stories(db, who) if step.name == "script" else [],
        scenes=projects.scenes_of(source.data) if source and step.name == "voice" else [],
        voicings=await heard(request, db, project_id, who) if step.name == "voice" else [],
        voices=VOICES,
        price=await _price(db),
        key=str(uuid4()),
        told=_sentences(request, problem),
    )


def _numbered(steps: list[Step], number: int) -> Step:
    for step in steps:
        if step.step_number == number:
            return step
    raise NotFound


async def _stories(db: Database, who: Caller) -> list[queue.Job]:
    """Return the finished jobs that have a text: what could become a script."""
    jobs = await queue.list_of(db, owners=who.family, limit=_STORIES)
    return [job for job in jobs if job.status == "completed" and (job.result or {}).get("text")]


async def _price(db: Database) -> ledger.Price | None:
    return next((p for p in await ledger.prices(db) if p.kind == projects.KIND), None)


def _sentences(request: Request, problem: HoldfastError | None) -> list[str]:
    """Say what stood in the way, each field of an invalid one with its place."""
    if problem is None:
        return []
    locale = language(request)
    if isinstance(problem, Invalid) and problem.facts.get("errors"):
        told = translator(locale)
        return [
            f"{p['pointer'].removeprefix('/data/')}: {told.field(p['code'], p)}"
            for p in problem.facts["errors"]
        ]
    return [f"{problem.detail(locale)} {problem.next(locale)}".strip()]


@router.post("/{project_id}/{number}/save")
async def save(
    request: Request, project_id: UUID, number: int, who: Guarded, given: Fields, db: Db
) -> Response:
    """Keep what was typed. 412 with what stands there when somebody else saved meanwhile."""
    form = read(SaveForm, given)
    before = await projects.step(db, project_id=project_id, number=number, family=who.family)
    try:
        data, merge = projects.patch_of(before, given)
        saved = await projects.save(
            db,
            project_id=project_id,
            number=number,
            actor=who.account_id,
            family=who.family,
            data=data,
            merge=merge,
            if_version=form.version,
            autosave=Autosave(form.tab, form.seq),
            request_id=who.request_id,
        )
    except VersionMismatch as problem:
        now = await projects.step(db, project_id=project_id, number=number, family=who.family)
        return _state(now, problem.status, told=_sentences(request, problem))
    except HoldfastError as problem:
        return _state(before, problem.status, told=_sentences(request, problem))
    return _state(saved.step, 200, late=saved.late)


def _state(step: Step, status: int, **more: Any) -> Response:
    fields = {field.name: field.text for field in projects.fields_of(step)}
    content = {"version": step.version, "status": step.status, "fields": fields, **more}
    return JSONResponse(content, status, {"Cache-Control": "no-store"})


@router.post("/{project_id}/{number}/script")
async def script(
    request: Request, project_id: UUID, number: int, who: Guarded, given: Fields, db: Db
) -> Response:
    """Make a story of who asks the script."""
    try:
        job_id = UUID(given.get("job", ""))
    except ValueError:
        raise NotFound from None
    return await _done(
        request, project_id, number, who, db,
        lambda asked: projects.adopt(db, **asked, job_id=job_id),
    )  # fmt: skip


@router.post("/{project_id}/{number}/restore/{version}")
async def restore(
    request: Request, project_id: UUID, number: int, version: int, who: Guarded, db: Db
) -> Response:
    """Bring an old revision back."""
    return await _done(
        request, project_id, number, who, db,
        lambda asked: projects.restore(db, **asked, version=version),
    )  # fmt: skip


@router.post("/{project_id}/{number}/voice")
async def voice(
    request: Request, project_id: UUID, number: int, who: Guarded, given: Fields, db: Db
) -> Response:
    """Order the voice: once for each page that was shown."""
    key, chosen = given.get("key") or str(uuid4()), given.get("voice") or None
    return await _done(
        request, project_id, number, who, db,
        lambda asked: projects.voice(db, **asked, key=key, voice=chosen),
    )  # fmt: skip


@router.post("/{project_id}/{number}/{verb}")
async def move(
    request: Request,
    project_id: UUID,
    number: int,
    verb: str,
    who: Guarded,
    given: Fields,
    db: Db,
) -> Response:
    """Complete or skip a stage; accept what is new under it, or keep it."""
    moves = {
        "complete": projects.complete, "accept": projects.accept, "keep": projects.keep,
    }  # fmt: skip
    if verb == "skip":
        return await _done(
            request, project_id, number, who, db,
            lambda asked: projects.skip(db, **asked, reason=given.get("reason", "")),
        )  # fmt: skip
    if verb not in moves:
        raise NotFound
    return await _done(request, project_id, number, who, db, lambda asked: moves[verb](db, **asked))


async def _done(
    request: Request, project_id: UUID, number: int, who: Caller, db: Database, act: Any
) -> Response:
    """Do it and show the stage again; what stood in the way is told on it."""
    asked = {
        "project_id": project_id, "number": number, "actor": who.account_id,
        "family": who.family, "request_id": who.request_id,
    }  # fmt: skip
    try:
        await act(asked)
    except NotFound:
        raise
    except HoldfastError as problem:
        return await _page(request, project_id, number, who, db, problem)
    return RedirectResponse(f"/console/projects/{project_id}/{number}", 303)
