"""Signs of life, from a thread and a connection of their own.

Not from the event loop: a handler that computes or waits without `await` would stop the heart of
every job beside it. One call carries all jobs that are due: each a third of its lease apart, and
those with news (progress, text) at most twice a second.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog

from holdfast.errors import HoldfastError
from holdfast.kernel import queue
from holdfast.kernel.queue import Attempt, Beat
from holdfast.postgres.call import run_sync
from holdfast.postgres.conninfo import conninfo
from holdfast.postgres.failures import error_for

NEWS_EVERY = 0.5  # seconds between two writes of one job's progress and text
_TICK = 0.1
_BEATS = 500  # of one call
_STATEMENT = 10.0  # seconds; a beat that takes longer is better sent again
_PAUSE_FIRST, _PAUSE_MOST = 0.1, 2.0

log = structlog.get_logger("holdfast.worker")


@dataclass(slots=True)
class _Pulse:
    attempt: Attempt
    last: float


class Heart:
    """Keeps leases alive while the process lives, whatever its handlers do."""

    def __init__(self, url: str, *, role: str | None = None) -> None:
        self._address = conninfo(
            url, role=role, application_name="holdfast-heart", statement_timeout=_STATEMENT
        )
        self._connection: psycopg.Connection[Any] | None = None
        self._pulses: dict[Any, _Pulse] = {}
        self._lock = threading.Lock()
        self._something = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def start(self) -> None:
        """Start beating."""
        self._thread.start()

    def stop(self) -> None:
        """Stop beating. Blocking; returns within a statement's time."""
        self._stopping.set()
        self._something.set()
        if self._thread.is_alive():
            self._thread.join(_STATEMENT)

    def add(self, attempt: Attempt) -> None:
        """Beat for this attempt from now on."""
        with self._lock:
            self._pulses[attempt.lease.token] = _Pulse(attempt, time.monotonic())
        self._something.set()

    def remove(self, attempt: Attempt) -> None:
        """Stop beating for it."""
        with self._lock:
            self._pulses.pop(attempt.lease.token, None)
            if not self._pulses:
                self._something.clear()

    def _run(self) -> None:
        pause = _PAUSE_FIRST
        while not self._stopping.is_set():
            self._something.wait()
            due = self._due()
            if due and not self._beat(due):
                self._stopping.wait(pause)
                pause = min(pause * 2, _PAUSE_MOST)
                continue
            pause = _PAUSE_FIRST
            self._stopping.wait(self._tick())
        if self._connection is not None:
            self._connection.close()

    def _tick(self) -> float:
        with self._lock:
            leases = [pulse.attempt.lease.lease_seconds for pulse in self._pulses.values()]
        return min([_TICK, *(lease / 6 for lease in leases)])

    def _due(self) -> list[_Pulse]:
        now = time.monotonic()
        with self._lock:
            pulses = [*self._pulses.values()]
        return [
            pulse
            for pulse in pulses
            if now - pulse.last
            >= (
                min(NEWS_EVERY, pulse.attempt.lease.lease_seconds / 3)
                if pulse.attempt.has_news
                else pulse.attempt.lease.lease_seconds / 3
            )
            and not pulse.attempt.lost
            and not pulse.attempt.silent()
        ]

    def _beat(self, due: Sequence[_Pulse]) -> bool:
        """Send what is due; False where the database did not answer."""
        for start in range(0, len(due), _BEATS):
            part = due[start : start + _BEATS]
            beats = [pulse.attempt.news() for pulse in part]
            now = time.monotonic()
            try:
                outcomes = run_sync(queue.heartbeat(self._connected(), beats))
            except (psycopg.Error, HoldfastError) as problem:
                self._failed(part, beats, problem)
                return False
            for pulse, beat, outcome in zip(part, beats, outcomes, strict=True):
                if outcome == "busy":  # somebody decides about the job right now
                    pulse.attempt.not_sent(beat)
                elif outcome == "ok":
                    pulse.last = now
                else:
                    pulse.attempt.lose(outcome)
        return True

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.Connection.connect(self._address, autocommit=True)
        return self._connection

    def _failed(
        self, part: Sequence[_Pulse], beats: Sequence[Beat], problem: psycopg.Error | HoldfastError
    ) -> None:
        for pulse, beat in zip(part, beats, strict=True):
            pulse.attempt.not_sent(beat)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        told = error_for(problem) if isinstance(problem, psycopg.Error) else problem
        log.debug("heartbeat not taken", problem=str(told), jobs=len(part))
