"""A job as its watchers see it, and what is news to one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from uuid import UUID

from holdfast.kernel import queue
from holdfast.kernel.queue import Job, Watched
from holdfast.postgres.pool import Database

News: TypeAlias = tuple[str, Job | dict[str, Any]]
FINAL = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class JobState:
    """The present state: the job, and what its running attempt has written so far."""

    job: Job
    attempt: int
    progress: dict[str, Any] | None = None
    text: str = ""
    chunks: int = 0

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return self.job.status in FINAL


def asker(
    db: Database,
) -> Callable[[Mapping[UUID, JobState | None]], Awaitable[dict[UUID, JobState]]]:
    """Return the question for a Hub of jobs: one statement, and one more when a status moved."""

    async def ask(known: Mapping[UUID, JobState | None]) -> dict[UUID, JobState]:
        rows = await queue.watch(db, {job: s.chunks if s else 0 for job, s in known.items()})
        moved = [row.id for row in rows if _version(known[row.id]) != row.version]
        jobs = {job.id: job for job in await queue.get_many(db, moved)} if moved else {}
        found = {}
        for row in rows:
            before = known[row.id]
            job = jobs.get(row.id) or (before.job if before else None)
            if job is not None:
                after = _next(before, job, row)
                if after != before:
                    found[row.id] = after
        return found

    return ask


def _version(state: JobState | None) -> int | None:
    return state.job.version if state else None


def _next(before: JobState | None, job: Job, row: Watched) -> JobState:
    """Add what came since.

    A claim writes anew, under numbers that begin again: chunks after an old count are not its own,
    so they are asked for once more from the beginning.
    """
    if before is None:
        return JobState(job, row.attempt, row.progress, row.chunk or "", row.chunks)
    if job.status in FINAL:
        return replace(before, job=job, progress=row.progress)
    if before.job.version != job.version and before.chunks:
        return JobState(job, row.attempt)
    text = before.text + (row.chunk or "")
    return JobState(job, row.attempt, row.progress, text, row.chunks)


def news(told: JobState | None, seen: JobState) -> Iterator[News]:
    """Yield what a watcher who knows `told` (None: nothing) must hear to know `seen`."""
    moved = told is None or told.job.version != seen.job.version
    if seen.final:
        yield from _rest(told, seen)
        yield "status", seen.job
        return
    if moved:
        yield "status", seen.job
    if seen.progress and (told is None or told.progress != seen.progress):
        yield "progress", {"attempt": seen.attempt, **seen.progress}
    start = len(told.text) if told and told.attempt == seen.attempt else 0
    if len(seen.text) > start:
        yield "text", {"attempt": seen.attempt, "from": start, "text": seen.text[start:]}


def _rest(told: JobState | None, seen: JobState) -> Iterator[News]:
    """Yield the end of a text that was followed from its beginning."""
    whole = (seen.job.result or {}).get("text")
    if told is None or not told.text or not isinstance(whole, str):
        return
    start = len(told.text)
    if told.attempt == seen.job.attempt and whole.startswith(told.text) and len(whole) > start:
        yield "text", {"attempt": told.attempt, "from": start, "text": whole[start:]}
