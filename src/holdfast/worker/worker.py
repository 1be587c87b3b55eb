"""The worker: claims jobs, runs them side by side, and looks after what nobody else looks after.

Polling is the truth: a notification only makes it look sooner. It claims as many jobs as it has
room for, from behind the last one it got, and from the true head at least once a second.
"""

import asyncio
import contextlib
import os
import random
import secrets
import socket
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self, TypeVar

import structlog

from holdfast.config import Settings
from holdfast.errors import HoldfastError, Unavailable
from holdfast.kernel import queue
from holdfast.kernel.queue import Attempt, Lease, LowWater
from holdfast.postgres.listen import Ear, Listener
from holdfast.postgres.pool import Database
from holdfast.systems.providers.channels import channels as outside
from holdfast.systems.providers.channels import outward
from holdfast.worker import kinds
from holdfast.worker.heart import Heart
from holdfast.worker.kinds import Registered
from holdfast.worker.outage import Outage
from holdfast.worker.relay import Channel, LogChannel, Relay
from holdfast.worker.runner import Runner
from holdfast.worker.sweeps import SWEEPS, Sweep

CHANNEL = "holdfast_jobs"
_HEAD_EVERY = 1.0  # seconds between two claims from the true head
_GATHER = 0.004  # seconds in which a busy worker lets more room come together
_SOON = 0.05  # seconds; longer than the end of a transaction
_AFTER_DEFECT = 5.0

log = structlog.get_logger("holdfast.worker")
_T = TypeVar("_T")


class Worker:
    """Runs jobs of its kinds until it is told to stop. Made by `open`, run by `run`."""

    def __init__(
        self,
        db: Database,
        heart: Heart,
        registered: Mapping[str, Registered],
        settings: Settings,
        *,
        relay: Relay | None,
        listen_url: str | None = None,
        sweeps: Mapping[str, Sweep] = SWEEPS,
        concurrency: int | None = None,
    ) -> None:
        self.name = f"worker:{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.ready = asyncio.Event()
        self._db = db
        self._heart = heart
        self._registered = dict(registered)
        self._settings = settings
        self._relay = relay
        self._sweeps = dict(sweeps)
        self._listen_url = listen_url
        self._most = concurrency or settings.worker_concurrency
        self._outage = Outage()
        self._runner = Runner(db, heart, self._outage, pause_seconds=settings.outage_pause_seconds)
        self._running: dict[asyncio.Task[None], Attempt] = {}
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._ear: Ear | None = None
        self._ending = AsyncExitStack()

    @classmethod
    async def open(
        cls,
        url: str,
        settings: Settings,
        *,
        role: str | None = None,
        modules: Sequence[str] = (),
        channels: Mapping[str, Channel] | None = None,
        concurrency: int | None = None,
    ) -> Self:
        """Open what a worker needs: a pool of its own, the kinds, the heart's thread.

        `modules` declare kinds of the user's; `role` is taken on by every connection. Raises what
        `Database.open` raises, and ImportError.
        """
        async with AsyncExitStack() as opening:
            made = await kinds.of_systems(settings, opening)
            made |= kinds.of_modules(tuple(modules))
            db = await opening.enter_async_context(
                await Database.open(
                    url, role=role, max_size=settings.pool_size, combining=True,
                    application_name="holdfast-worker",
                    statement_timeout=settings.statement_timeout_seconds,
                )
            )  # fmt: skip
            way = outward(settings)
            opening.push_async_callback(way.close)
            ways: dict[str, Channel] = {"log": LogChannel(), **outside(settings, db, way)}
            ways |= channels or {}
            self = cls(
                db, Heart(url, role=role), made, settings,
                relay=Relay(db, ways, tries=settings.effect_tries),
                listen_url=settings.listen_url or url, concurrency=concurrency,
            )  # fmt: skip
            self._ending = opening.pop_all()
            return self
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Let go of everything `open` opened."""
        await self._ending.aclose()

    @property
    def running(self) -> int:
        """How many jobs are being made right now."""
        return len(self._running)

    @property
    def stopping(self) -> bool:
        """Whether somebody has asked it to stop."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Stop: claim nothing more, finish what can be finished in time, hand the rest back.

        Asked a second time it ends at once; the leases then end by themselves.
        """
        if self._stopping.is_set():
            self._at_once.set()
        self._stopping.set()
        self._room.set()
        if self._ear is not None:
            self._ear.wake()

    async def run(self) -> None:
        """Work until `stop`."""
        self._heart.start()
        loops: list[asyncio.Task[None]] = []
        try:
            await self._unless_stopped(self._outage.patiently(self._declare))
            async with Listener(self._listen_url, [CHANNEL]) as listener:
                self._ear = listener.ear(CHANNEL)
                loops = [asyncio.create_task(loop) for loop in self._loops()]
                log.info("worker started", worker=self.name, kinds=sorted(self._registered),
                         concurrency=self._most)  # fmt: skip
                self.ready.set()
                await self._claim_and_run(self._ear)
                await self._drain()
        finally:
            for task in [*loops, *self._running]:
                task.cancel()
            await asyncio.gather(*loops, *self._running, return_exceptions=True)
            await asyncio.to_thread(self._heart.stop)
            log.info("worker stopped", worker=self.name)

    async def _declare(self) -> None:
        for registered in self._registered.values():
            await queue.declare_kind(self._db, registered.kind)

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        return [self._sweep(), *([self._deliver(self._relay)] if self._relay else [])]

    async def _claim_and_run(self, ear: Ear) -> None:
        marks = LowWater()
        clock = asyncio.get_running_loop().time
        head_at, looks = clock() + _HEAD_EVERY, 0
        while not self._stopping.is_set():
            room = await self._wait_for_room()
            if room == 0:
                continue
            if clock() >= head_at:
                marks.reset()
                head_at = clock() + _HEAD_EVERY
            leases = await self._claim(room, marks, say_idle=not (marks.keys or looks))
            for lease in leases or ():
                self._start(lease)
            if leases:
                continue
            if leases is not None and marks.keys:  # nothing behind the last one: the true head
                marks.reset()
                continue
            if leases is not None and not looks:
                # Marked as waiting, look once more for what came between the look and the mark;
                # without touching the mark, because one that is locked calls nobody. And soon
                # again for what saw no mark, and was committed after that.
                looks = 1
                continue
            pause = _SOON if looks == 1 else self._settings.poll_seconds * random.uniform(0.8, 1.0)
            heard = await ear.wait(pause)
            looks = 0 if heard or leases is None else 2

    async def _wait_for_room(self) -> int:
        """Wait until jobs may be claimed; returns how many."""
        while not self._stopping.is_set():
            room = self._most - len(self._running)
            if room >= min(self._most, max(1, self._most // 4)):
                return room
            self._room.clear()
            try:
                async with asyncio.timeout(_GATHER if room else None):
                    await self._room.wait()
            except TimeoutError:
                return self._most - len(self._running)
        return 0

    async def _claim(self, room: int, marks: LowWater, *, say_idle: bool) -> list[Lease] | None:
        """Claim; None where the database or a defect of ours was in the way."""
        try:
            return await self._unless_stopped(
                self._outage.patiently(
                    lambda: queue.claim(
                        self._db, worker=self.name, kinds=list(self._registered), limit=room,
                        low_water=marks, say_idle=say_idle,
                    )
                )
            )  # fmt: skip
        except HoldfastError as problem:
            _defect("jobs could not be claimed", problem)
            await asyncio.sleep(_AFTER_DEFECT)
        return None

    def _start(self, lease: Lease) -> None:
        attempt = Attempt(lease, self._db)
        run = self._runner.run(attempt, self._registered[lease.kind])
        task = asyncio.create_task(run, name=f"attempt {lease.id}")
        self._running[task] = attempt
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._room.set()
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("an attempt ended in a defect of Holdfast", exc_info=problem,
                      command="holdfast verify")  # fmt: skip

    async def _drain(self) -> None:
        """Let running jobs finish for a while, then hand back what is left."""
        if self._running:
            log.info("stopping: running jobs may finish", jobs=len(self._running),
                     seconds=self._settings.stop_seconds)  # fmt: skip
        end = asyncio.create_task(self._at_once.wait())
        try:
            until = asyncio.get_running_loop().time() + self._settings.stop_seconds
            while self._running and not self._at_once.is_set():
                left = until - asyncio.get_running_loop().time()
                if left <= 0:
                    break
                await asyncio.wait(
                    {end, *self._running}, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            end.cancel()
        if self._at_once.is_set():
            return
        leases = [attempt.lease for attempt in self._running.values()]
        for task in [*self._running]:
            task.cancel()
        if leases:
            await self._hand_back(leases)

    async def _hand_back(self, leases: Sequence[Lease]) -> None:
        try:
            codes = await self._outage.patiently(
                lambda: queue.hand_back(self._db, leases), within=5.0
            )
        except HoldfastError as problem:
            log.warning("jobs could not be handed back; their leases end by themselves",
                        jobs=len(leases), problem=str(problem))  # fmt: skip
        else:
            log.info("handed back", jobs=codes.count("ok"))

    async def _sweep(self) -> None:
        """Sweep every so often; a sweep that fails keeps no other from its turn."""
        while True:
            for name, sweep in self._sweeps.items():
                try:
                    await sweep(self._db)
                except Unavailable:
                    continue
                except HoldfastError as problem:
                    _defect(f"sweeping {name} failed", problem)
            await asyncio.sleep(self._settings.sweep_seconds * random.uniform(0.8, 1.0))

    async def _deliver(self, relay: Relay) -> None:
        while True:
            left = 0
            try:
                left = await relay.once()
            except Unavailable:
                pass
            except HoldfastError as problem:
                _defect("effects could not be delivered", problem)
                await asyncio.sleep(_AFTER_DEFECT)
            if not left:
                await asyncio.sleep(
                    min(0.5, self._settings.poll_seconds) * random.uniform(0.8, 1.0)
                )

    async def _unless_stopped(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """Wait for the database only as long as nobody wants us to stop."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        if not task.done():
            # A claim under way may have taken leases: wait for it a moment, or they would stall.
            with contextlib.suppress(TimeoutError, HoldfastError):
                async with asyncio.timeout(2.0):
                    return await task
            return None
        return task.result()


def _defect(what: str, problem: HoldfastError) -> None:
    log.error(what, problem=str(problem), facts=problem.facts or None, command="holdfast doctor")
