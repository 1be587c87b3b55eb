"""One attempt at one job: what a handler is given, and the three ways in which it ends.

A handler returns the result, or raises AttemptFailed (this time it did not work) or OutOfService
(nobody can work now). Progress and text are noted here and sent by the worker's heart, together and
at most twice a second, so a handler may tell as often as it likes. Everything is safe to call from
a thread: handlers that are plain functions run in one.
"""

import math
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, Protocol
from uuid import UUID

import psycopg

from holdfast.errors import LeaseLost
from holdfast.kernel.queue.ends import finish_within
from holdfast.kernel.queue.leases import Beat, Lease
from holdfast.postgres.call import run_sync
from holdfast.postgres.pool import Database


class AttemptFailed(Exception):
    """This attempt did not work. Retried while attempts last, unless `permanent`.

    `code` is stable; `detail` is a sentence for the customer; `retry_after` (seconds) lengthens the
    back-off, up to ten minutes.
    """

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        permanent: bool = False,
        retry_after: float | None = None,
    ) -> None:
        self.code = code
        self.detail = detail
        self.permanent = permanent
        self.retry_after = retry_after
        super().__init__(f"{code}: {detail}" if detail else code)


class OutOfService(Exception):
    """No job of this kind can be made before somebody has put something right.

    The kind pauses, the job goes back and counts no attempt, one alert is logged. `seconds` until
    one job tries again, up to ten minutes; None leaves it to HOLDFAST_OUTAGE_PAUSE_SECONDS.
    """

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        self.reason = reason
        self.seconds = seconds
        super().__init__(reason)


class _Noted:
    """Nothing to wait for; may be awaited all the same."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_NOTED = _Noted()


class Attempt:
    """One attempt at a job, for as long as its lease is held.

    `db` is the worker's pool, for verbs. `silent` is asked before every sign of life: where it
    answers true the worker is as quiet as if its process had been stopped (for rehearsals).
    """

    def __init__(self, lease: Lease, db: Database) -> None:
        self.lease = lease
        self.db = db
        self.silent: Callable[[], bool] = lambda: False
        self.finished_with: Mapping[str, Any] | None = None
        self.used: int | None = None
        self._lock = threading.Lock()
        # By the worker's own clock: the database's may be another.
        until = (lease.deadline_at - lease.due_at).total_seconds() + lease.lease_seconds
        self._deadline = time.monotonic() + until
        self._progress: dict[str, Any] | None = None
        self._said: list[str] = []
        self._unsent: list[str] = []
        self._lost: str | None = None
        self._when_lost: Callable[[], object] | None = None

    @property
    def id(self) -> UUID:
        """The job's id."""
        return self.lease.id

    @property
    def payload(self) -> dict[str, Any]:
        """What the job was enqueued with."""
        return self.lease.payload

    @property
    def remaining(self) -> float:
        """Seconds until the job's overall deadline; negative when it has passed."""
        return self._deadline - time.monotonic()

    @property
    def said(self) -> str:
        """All the text told so far."""
        with self._lock:
            return "".join(self._said)

    @property
    def lost(self) -> str | None:
        """Why the lease is no longer held (lease_lost, deadline_exceeded), or None."""
        return self._lost

    def progress(self, phase: str, done: float = 0, total: float | None = None) -> Awaitable[None]:
        """Tell how far the work is: `done` of `total` units. May be awaited, need not be.

        Raises LeaseLost when the lease is known to be lost: whatever follows would be refused.
        """
        self.check()
        told = {"phase": storable(phase), "done": _number(done), "total": _number(total)}
        with self._lock:
            self._progress = told
        return _NOTED

    def text(self, chunk: str) -> Awaitable[None]:
        """Tell a piece of growing text. May be awaited, need not be. Raises LeaseLost."""
        self.check()
        if chunk := storable(chunk):
            with self._lock:
                self._said.append(chunk)
                self._unsent.append(chunk)
        return _NOTED

    def use(self, amount: int) -> None:
        """Say what the work has used so far (minor units), for a job priced by use.

        That much of its estimate is taken when it completes, the rest is given back. Raises
        ValueError for an amount below zero, and for a job with a fixed price.
        """
        if amount < 0 or not self.lease.metered:
            raise ValueError(f"a job of kind {self.lease.kind!r} cannot use {amount}")
        self.used = amount

    def check(self) -> None:
        """Raise LeaseLost when the lease is known to be lost."""
        if self._lost is not None:
            raise LeaseLost

    def finish(
        self, connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
        result: Mapping[str, Any],
    ) -> Awaitable[None]:  # fmt: skip
        """Complete the job inside the caller's own transaction: with his rows, or not at all.

        Await it on an async connection; on a blocking one it is done when it returns. Raises
        LeaseLost when the lease was lost; the transaction is then aborted, rows and all. What the
        handler returns afterwards is not looked at.
        """
        self.finished_with = result
        ending = finish_within(
            connection, job_id=self.id, token=self.lease.token, result=result, used=self.used
        )
        if isinstance(connection, psycopg.Connection):
            run_sync(ending)
            return _NOTED
        return ending

    # The worker's side.

    def news(self) -> Beat:
        """Take what has not been sent yet, as one sign of life."""
        with self._lock:
            chunk = "".join(self._unsent) or None
            self._unsent.clear()
            told, self._progress = self._progress, None
        return Beat(self.id, self.lease.token, told, chunk)

    def not_sent(self, beat: Beat) -> None:
        """Give news back that the database did not take."""
        with self._lock:
            if self._progress is None and beat.progress is not None:
                self._progress = dict(beat.progress)
            if beat.chunk:
                self._unsent.insert(0, beat.chunk)

    @property
    def has_news(self) -> bool:
        """Whether there is something to send besides the sign of life itself."""
        return self._progress is not None or bool(self._unsent)

    def lose(self, why: str) -> None:
        """Note that the lease is lost, once, and say so to whoever asked with `when_lost`."""
        with self._lock:
            if self._lost is not None:
                return
            self._lost = why
            tell = self._when_lost
        if tell is not None:
            tell()

    def when_lost(self, tell: Callable[[], object]) -> None:
        """Have `tell` called when the lease is lost, from whichever thread notices it."""
        with self._lock:
            self._when_lost = tell
            if self._lost is None:
                return
        tell()


class Handler(Protocol):
    """What makes jobs of a kind: called once an attempt, by any number of tasks at once."""

    async def __call__(self, attempt: Attempt, /) -> Mapping[str, Any] | None:
        """Do the work and return the result: JSON; its `text` is what a person reads."""
        ...


def storable(text: str) -> str:
    """Take out what PostgreSQL's text cannot hold: NUL and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
