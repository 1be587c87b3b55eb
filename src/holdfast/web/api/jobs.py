"""Jobs as people see them: lists, one, its end by hand, another try, its files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from holdfast.errors import (
    IdempotencyKeyRequired,
    IdempotencyKeyReused,
    InsufficientTokens,
    JobFinished,
    JobNotFailed,
)
from holdfast.kernel import queue
from holdfast.kernel.queue import Job
from holdfast.kernel.queue.jobs import Submitted
from holdfast.messages import translator
from holdfast.systems import stories
from holdfast.web.body import router as json_router
from holdfast.web.progress import JobState, news
from holdfast.web.requests import CallerDep, Db, Locale, PageDep, PathId, RequiredKey, RunningDep
from holdfast.web.responses import Action, Items, Shape, answer, refuses, render
from holdfast.web.tickets import WatcherDep

router = json_router(prefix="/api/jobs", tags=["jobs"])


class ErrorShape(Shape):
    """Why a job failed: a code, and its sentence in the reader's language."""

    code: str
    detail: str


class JobShape(Shape):
    """One job. `attempt` is 1 at the first claim; money is in crystals."""

    id: UUID
    kind: str
    status: str
    price: int
    charged: int
    refunded: int
    attempt: int
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    error: ErrorShape | None
    retry_of: UUID | None
    created_at: datetime
    finished_at: datetime | None
    version: int
    allowed_actions: list[Action]


def _actions(status: str) -> list[Action]:
    """Say what may be done. Cancelling a cancelled job is allowed: it changes nothing."""
    ended = status in ("completed", "failed")
    again = status in ("failed", "cancelled")
    return [
        Action(action="cancel", allowed=not ended, reason=JobFinished.code if ended else None),
        Action(action="retry", allowed=again, reason=None if again else JobNotFailed.code),
    ]


def job_shape(job: Job, locale: str) -> JobShape:
    """Show a job in a language."""
    error = None
    if job.error_code is not None:
        facts = {"detail": job.error_detail}
        detail = translator(locale).reason(job.error_code, facts)
        error = ErrorShape(code=job.error_code, detail=detail)
    return JobShape(
        id=job.id,
        kind=job.kind,
        status=job.status,
        price=job.price,
        charged=job.charged,
        refunded=job.refunded,
        attempt=job.attempt,
        progress=job.progress,
        result=job.result,
        error=error,
        retry_of=job.retry_of,
        created_at=job.created_at,
        finished_at=job.finished_at,
        version=job.version,
        allowed_actions=_actions(job.status),
    )


def accepted(submitted: Submitted, *, kind: str, retry_of: UUID | None = None) -> Response:
    """Answer 202 with the job as it was born: a replay says the same whatever came since."""
    shape = JobShape(
        id=submitted.id,
        kind=kind,
        status="queued",
        price=submitted.price,
        charged=submitted.price,
        refunded=0,
        attempt=0,
        progress=None,
        result=None,
        error=None,
        retry_of=retry_of,
        created_at=submitted.at,
        finished_at=None,
        version=1,
        allowed_actions=_actions("queued"),
    )
    return answer(
        shape,
        202,
        replayed=submitted.replayed,
        headers={"Location": f"/api/jobs/{submitted.id}"},
    )


@router.get("", response_model=Items[JobShape])
async def list_of(caller: CallerDep, db: Db, page: PageDep, locale: Locale) -> Response:
    """The caller's jobs, newest first."""
    found = await queue.list_of(
        db, owners=caller.family, before=page.after("jobs", UUID), limit=page.fetch
    )
    return answer(page.answer("jobs", found, lambda job: job.id, lambda j: job_shape(j, locale)))


@router.get("/{job_id}", response_model=JobShape)
async def get(job_id: PathId, caller: CallerDep, db: Db, locale: Locale) -> Response:
    """One job."""
    job = await queue.get(db, job_id=job_id, owners=caller.owners)
    return answer(job_shape(job, locale), version=job.version)


@router.post("/{job_id}/cancel", response_model=JobShape, responses=refuses(JobFinished))
async def cancel(job_id: PathId, caller: CallerDep, db: Db, locale: Locale) -> Response:
    """Call a job off; what was paid comes back. A cancelled one stays as it is."""
    await queue.cancel(
        db,
        job_id=job_id,
        owners=caller.owners,
        actor=str(caller.account_id),
        request_id=caller.request_id,
    )
    job = await queue.get(db, job_id=job_id, owners=caller.owners)
    return answer(job_shape(job, locale), version=job.version)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=JobShape,
    responses=refuses(
        InsufficientTokens, JobNotFailed, IdempotencyKeyRequired, IdempotencyKeyReused
    ),
)
async def retry(
    job_id: PathId, caller: CallerDep, key: RequiredKey, db: Db, running: RunningDep
) -> Response:
    """Make a new job of one that failed or was cancelled. It is paid anew: finished stays so."""
    old = await queue.get(db, job_id=job_id, owners=caller.family)
    again = stories.retry if old.kind == stories.KIND else queue.retry
    with running.once("retry", caller.account_id, key):
        submitted = await again(
            db,
            job_id=job_id,
            owners=caller.family,
            account_id=caller.account_id,
            key=key,
            request_id=caller.request_id,
        )
    return accepted(submitted, kind=old.kind, retry_of=job_id)


async def _watched(job_id: PathId, watcher: WatcherDep, db: Db) -> Job:
    """Answer 404 while it still can be: once a stream has begun it has its status."""
    return await queue.get(db, job_id=job_id, owners=watcher.owners)


@router.get("/{job_id}/events", response_class=EventSourceResponse)
async def events(
    request: Request, job: Annotated[Job, Depends(_watched)], locale: Locale
) -> AsyncIterator[ServerSentEvent]:
    """`status` (the job), `progress`, `text` (what was written since); ends with the job.

    The first event is the present state, also after a reconnect. `id` is the job's version.
    """
    state = request.app.state
    told: JobState | None = None
    with state.metrics.streams.track_inprogress():
        async with aclosing(state.hubs["jobs"].follow(job.id)) as states:
            async for seen in states:
                for event, data in news(told, seen):
                    body = job_shape(data, locale) if isinstance(data, Job) else data
                    raw = render(body).decode()
                    yield ServerSentEvent(raw_data=raw, event=event, id=str(seen.job.version))
                if seen.final:
                    return
                told = seen
