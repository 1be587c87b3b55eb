"""How long an idle queue lets a job wait: from its charge to the first line of its handler.

A real worker (its pool, its listener, its heart, its concurrency from the settings) waits for jobs
that come one at a time, each after a pause of another length, so that no rhythm of the worker's
looks is met or missed by chance. Both ends are read from one clock in one process.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from uuid import uuid4

from holdfast.bench.ground import Ground, people
from holdfast.config import Settings
from holdfast.kernel import queue
from holdfast.kernel.queue import Attempt
from holdfast.worker.heart import Heart
from holdfast.worker.kinds import Registered
from holdfast.worker.worker import Worker

KIND = "bench-start"
_PAUSE = (0.02, 0.2)  # seconds, from and to, between two jobs
_PATIENCE = 30.0
Tell = Callable[[int], None]  # jobs started since the last call


@dataclass(frozen=True, slots=True)
class Starts:
    """Milliseconds, in order: from the call, and from its answer (the commit), to the start."""

    from_call: list[float]
    from_commit: list[float]


async def measure(
    ground: Ground, settings: Settings, jobs: int, tell: Tell | None = None
) -> Starts:
    """Submit `jobs` one at a time to an idle worker; raises TimeoutError where one never starts."""
    started = asyncio.Queue[float]()

    async def handler(_: Attempt) -> dict[str, object]:
        started.put_nowait(time.perf_counter())
        return {}

    [payer] = await people(ground.owner_url, 1)
    calls, commits = [], []
    async with await ground.open(most=1) as db, _worker(ground, settings, handler):
        for _ in range(jobs):
            await asyncio.sleep(random.uniform(*_PAUSE))
            job = {"account_id": payer, "kind": KIND, "payload": {}, "price": 1,
                   "key": uuid4().hex}  # fmt: skip
            called = time.perf_counter()
            await queue.submit(db, [job])
            answered = time.perf_counter()
            start = await asyncio.wait_for(started.get(), _PATIENCE)
            calls.append((start - called) * 1000)
            commits.append((start - answered) * 1000)
            if tell:
                tell(1)
    return Starts(sorted(calls), sorted(commits))


@contextlib.asynccontextmanager
async def _worker(
    ground: Ground, settings: Settings, handler: queue.Handler
) -> AsyncIterator[None]:
    """Run a worker of this one kind meanwhile."""
    async with await ground.open(most=settings.pool_size, combining=True) as db:
        worker = Worker(
            db,
            Heart(ground.app_url),
            {KIND: Registered(queue.Kind(KIND), handler)},
            settings,
            relay=None,
            listen_url=ground.app_url,
        )
        running = asyncio.create_task(worker.run())
        try:
            await asyncio.wait_for(worker.ready.wait(), _PATIENCE)
            yield
        finally:
            worker.stop()
            await running
