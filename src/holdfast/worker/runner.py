"""One attempt from its lease to its end: run the handler, then tell the database what came of it.

What an attempt comes to is decided here, once: a result, a failure, a pause, a lost lease, or
nothing at all (the worker stops, and hands the job back).
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from holdfast.errors import CaptureExceedsHold, HoldfastError, LeaseLost, UsageRequired
from holdfast.kernel import queue
from holdfast.kernel.queue import Attempt, AttemptFailed, Ended, OutOfService
from holdfast.kernel.queue.attempts import storable
from holdfast.postgres.pool import Database
from holdfast.worker.heart import Heart
from holdfast.worker.kinds import Registered
from holdfast.worker.outage import Outage

_LETTING_GO = 5.0  # seconds a cancelled handler gets to let go of what it holds
_PAUSE_MOST = 600.0  # seconds; a provider may wish for a day, but its account is refilled sooner

log = structlog.get_logger("holdfast.worker")


# Used more than the estimate, or a kind priced by use whose handler did not say what it used.
_UNSETTLED = (CaptureExceedsHold, UsageRequired)


@dataclass(frozen=True, slots=True)
class _Lost:
    """The lease went; `result` is what the handler had all the same."""

    result: Mapping[str, Any]


_Ending = Mapping[str, Any] | AttemptFailed | OutOfService | _Lost


class Runner:
    """Runs attempts. `pause_seconds` is how long a kind rests whose provider is out of service."""

    def __init__(self, db: Database, heart: Heart, outage: Outage, *, pause_seconds: float) -> None:
        self._db = db
        self._heart = heart
        self._outage = outage
        self._pause_seconds = pause_seconds
        self._pause_most = max(_PAUSE_MOST, pause_seconds)
        self._abandoned: set[asyncio.Task[Any]] = set()

    async def run(self, attempt: Attempt, registered: Registered) -> None:
        """Make one attempt. Cancelled, it ends the handler and tells the database nothing."""
        self._heart.add(attempt)
        try:
            ending = await self._made(attempt, registered)
            await self._tell(attempt, ending)
        except HoldfastError as problem:
            _needs_a_hand(attempt, problem)
        finally:
            self._heart.remove(attempt)

    async def _made(self, attempt: Attempt, registered: Registered) -> _Ending:
        """Run the handler to whatever end it comes."""
        task = asyncio.create_task(_call(registered, attempt), name=f"job {attempt.id}")
        loop = asyncio.get_running_loop()
        attempt.when_lost(lambda: loop.call_soon_threadsafe(task.cancel))
        try:
            done, _ = await asyncio.wait({task}, timeout=max(0.0, attempt.remaining))
            late = not done
            if late:
                task.cancel()
                await self._let_go(attempt, task)
        except asyncio.CancelledError:
            task.cancel()
            await self._let_go(attempt, task)
            raise
        if attempt.lost == "lease_lost":
            return _Lost(_result_of(task) or {"text": attempt.said})
        if late or attempt.lost:
            return AttemptFailed("deadline_exceeded", permanent=True)
        return self._ending_of(attempt, task)

    def _ending_of(self, attempt: Attempt, task: asyncio.Task[Any]) -> _Ending:
        if task.cancelled():
            return AttemptFailed("handler_failed", "The handler cancelled itself.")
        problem = task.exception()
        match problem:
            case None:
                return self._checked(attempt, task.result())
            case AttemptFailed() | OutOfService():
                return problem
            case LeaseLost():
                return _Lost(attempt.finished_with or {"text": attempt.said})
            case _:
                log.warning(
                    "a handler raised", job=str(attempt.id), kind=attempt.lease.kind,
                    attempt=attempt.lease.attempt, exc_info=problem,
                )  # fmt: skip
                return AttemptFailed("handler_failed")

    def _checked(self, attempt: Attempt, result: object) -> _Ending:
        """Accept what can be stored as a result; a defect of one handler stays with its job."""
        try:
            if result is not None and not isinstance(result, Mapping):
                raise TypeError(f"a handler returns a JSON object, not {type(result).__name__}")
            text = json.dumps(dict(result or {}), allow_nan=False)
            if "\\u0000" in text or "\\ud8" in text.lower():
                text = json.dumps(_clean(result), allow_nan=False)
            made: dict[str, Any] = json.loads(text)
        except (TypeError, ValueError, RecursionError) as problem:
            log.warning(
                "a handler's result cannot be stored", job=str(attempt.id),
                kind=attempt.lease.kind, problem=str(problem),
            )  # fmt: skip
            return AttemptFailed("handler_failed", permanent=True)
        return made

    async def _tell(self, attempt: Attempt, ending: _Ending) -> None:
        """Bring the ending to the database, however long that is away."""
        try:
            match ending:
                case _Lost():
                    await self._refused(attempt, ending.result)
                case AttemptFailed():
                    await self._fail(attempt, ending)
                case OutOfService():
                    await self._pause(attempt, ending)
                case _ if attempt.finished_with is not None:
                    await self._finished_within(attempt)
                case _:
                    await self._finish(attempt, ending)
        except LeaseLost as lost:
            _tell_lost(attempt, lost.facts.get("status"))

    async def _finish(self, attempt: Attempt, result: Mapping[str, Any]) -> None:
        lease, used = attempt.lease, attempt.used

        async def finish() -> Ended:
            if used is None:
                return await queue.finish(
                    self._db, job_id=lease.id, token=lease.token, result=result
                )
            return await queue.settle(
                self._db, job_id=lease.id, token=lease.token, result=result, used=used
            )

        try:
            await self._outage.patiently(finish)
        except _UNSETTLED as problem:
            log.warning("a handler's use cannot be settled", **_named(attempt), used=used,
                        problem=str(problem))  # fmt: skip
            await self._fail(attempt, AttemptFailed("handler_failed", permanent=True))
            return
        log.info("job completed", **_named(attempt))

    async def _finished_within(self, attempt: Attempt) -> None:
        """See whether the transaction in which the handler finished was committed."""
        job = await self._outage.patiently(
            lambda: queue.get(self._db, job_id=attempt.id, owners=None)
        )
        if job.status == "completed":
            log.info("job completed", **_named(attempt))
            return
        await self._fail(attempt, AttemptFailed("handler_failed"))

    async def _fail(self, attempt: Attempt, problem: AttemptFailed) -> None:
        lease = attempt.lease
        ended: Ended = await self._outage.patiently(
            lambda: queue.fail(
                self._db,
                job_id=lease.id,
                token=lease.token,
                code=problem.code,
                detail=problem.detail,
                permanent=problem.permanent,
                retry_after=problem.retry_after,
            )
        )
        reason = {"code": problem.code, "cause": str(problem.__cause__ or "") or None}
        told = {name: value for name, value in reason.items() if value}
        if ended.status == "failed":
            log.warning("job failed", **_named(attempt), **told, refunded=ended.refunded)
        else:
            at = ended.run_at and ended.run_at.isoformat(timespec="milliseconds")
            log.info("attempt failed, the job is tried again", **_named(attempt), **told, at=at)

    async def _pause(self, attempt: Attempt, problem: OutOfService) -> None:
        lease = attempt.lease
        alert, until = await self._outage.patiently(
            lambda: queue.pause(
                self._db,
                job_id=lease.id,
                token=lease.token,
                seconds=min(problem.seconds or self._pause_seconds, self._pause_most),
                reason=problem.reason,
            )
        )
        tell = log.error if alert else log.info
        tell(
            "the provider is out of service: its jobs wait, nobody is charged twice and none is "
            "lost; put its account right, the next attempt is made by itself",
            **_named(attempt), amount=lease.price, reason=problem.reason,
            cause=str(problem.__cause__ or "") or None,
            next_try=until.isoformat(timespec="seconds"),
            command=f"holdfast jobs show {lease.id}",
        )  # fmt: skip

    async def _refused(self, attempt: Attempt, result: Mapping[str, Any]) -> None:
        """Offer a late result all the same: it is refused, and its text kept, unpaid."""
        made = self._checked(attempt, result)
        await self._finish(attempt, made if isinstance(made, Mapping) else {})

    async def _let_go(self, attempt: Attempt, task: asyncio.Task[Any]) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=_LETTING_GO)
        if not task.done():
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned.discard)
            log.warning("a handler does not end; it was left alone", **_named(attempt))


async def _call(registered: Registered, attempt: Attempt) -> Mapping[str, Any] | None:
    return await registered.handler(attempt)


def _result_of(task: asyncio.Task[Any]) -> Mapping[str, Any] | None:
    if not task.done() or task.cancelled() or task.exception() is not None:
        return None
    result = task.result()
    return result if isinstance(result, Mapping) else None


def _clean(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case Mapping():
            return {storable(str(name)): _clean(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_clean(inner) for inner in value]
    return value


def _named(attempt: Attempt) -> dict[str, Any]:
    lease = attempt.lease
    return {"job": str(lease.id), "kind": lease.kind, "account": str(lease.account_id),
            "attempt": lease.attempt}  # fmt: skip


def _tell_lost(attempt: Attempt, status: str | None) -> None:
    if status == "cancelled":
        log.info("job was cancelled; the attempt was stopped", **_named(attempt))
        return
    log.warning(
        "late completion refused (lease_lost): somebody else decides about this job; the text, if "
        "any, is kept as an unpaid artifact",
        **_named(attempt), status=status,
    )  # fmt: skip


def _needs_a_hand(attempt: Attempt, problem: HoldfastError) -> None:
    log.error(
        "the end of an attempt could not be written; the sweeper decides when its lease ends",
        **_named(attempt), amount=attempt.lease.price, problem=str(problem),
        facts=problem.facts or None, command=f"holdfast jobs show {attempt.id}",
    )  # fmt: skip
