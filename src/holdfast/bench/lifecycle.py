"""Whole metered lifecycles: charge + enqueue + claim + finish, each with its traces.

A lifecycle writes the entry, the idempotency key, the job, three audit rows and two effects, all
durable. `arrays` sends explicit batches, as the batch calls of other queues do; `combined` is
many callers who each wait for the commit of their own job; `single` is one caller at a time.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, cycle
from typing import Any
from uuid import UUID, uuid4

from holdfast.bench.ground import Ground, held_snapshot, people
from holdfast.kernel import queue
from holdfast.kernel.queue.ends import FINISH
from holdfast.postgres.call import call
from holdfast.postgres.pool import Database
from holdfast.systems import stories

BATCH = 1000  # of 500, 1,000 and 2,000 the fastest here
CONNECTIONS = 3  # two cores, and a third while one waits for the disk or for us
Tell = Callable[[int], None]  # jobs done since the last call

_RUN, _NUMBERS = uuid4().hex, count()  # keys: what a caller has at hand, not what is measured


@dataclass(frozen=True, slots=True)
class Rates:
    """Jobs per second: enqueued (with the charge), processed, and the whole life of one."""

    enqueued: float
    processed: float

    @property
    def whole(self) -> float:
        """Lifecycles per second, both halves one after the other on the same machine."""
        return 1 / (1 / self.enqueued + 1 / self.processed)


def _member(account: UUID) -> dict[str, Any]:
    return {
        "accounts": account,
        "prompts": "a fox",
        "languages": "en",
        "words": 100,
        "keys": f"{_RUN}{next(_NUMBERS)}",
        "request_ids": None,
    }


async def prepare(ground: Ground, db: Database, jobs: int) -> list[UUID]:
    """Declare the kind and make the payers: one for twenty jobs, nobody named twice a batch."""
    await queue.declare_kind(db, queue.Kind(stories.KIND, lease=300))
    return await people(ground.owner_url, max(CONNECTIONS * BATCH, jobs // 20))


async def enqueue(db: Database, payers: list[UUID], jobs: int, tell: Tell | None = None) -> float:
    """Charge for and enqueue `jobs` in arrays; returns seconds. Each sender has its own people."""
    left = [jobs]

    async def sender(mine: list[UUID]) -> None:
        people = cycle(mine)
        async with db.connection() as connection:
            while left[0] > 0:
                size = min(BATCH, left[0])
                left[0] -= size
                members = [_member(next(people)) for _ in range(size)]
                rows = await call(
                    connection,
                    stories.GENERATE.sql,
                    stories.GENERATE.arguments(members, wait=True),
                )
                _all_ok(rows)
                if tell:
                    tell(size)

    began = time.perf_counter()
    await asyncio.gather(*(sender(payers[n::CONNECTIONS]) for n in range(CONNECTIONS)))
    return time.perf_counter() - began


async def process(
    db: Database, jobs: int, tell: Tell | None = None, marks: list[float] | None = None
) -> float:
    """Claim and finish `jobs` in arrays; returns seconds. `marks` gets a time per batch."""
    done = [0]

    async def worker(name: str) -> None:
        mark, looked = queue.LowWater(), time.monotonic()
        async with db.connection() as connection:
            while done[0] < jobs:
                if time.monotonic() - looked > 1.0:
                    mark.reset()
                    looked = time.monotonic()
                leases = await queue.claim(
                    connection, worker=name, kinds=[stories.KIND], limit=BATCH, low_water=mark
                )
                if not leases:
                    mark.reset()
                    if done[0] < jobs:
                        await asyncio.sleep(0.001)
                    continue
                members = [
                    {"jobs": x.id, "tokens": x.token, "results": '{"words": 0}'} for x in leases
                ]
                _all_ok(await call(connection, FINISH.sql, FINISH.arguments(members, wait=True)))
                done[0] += len(leases)
                if marks is not None:
                    marks.extend([time.perf_counter()] * len(leases))
                if tell:
                    tell(len(leases))

    began = time.perf_counter()
    await asyncio.gather(*(worker(f"worker:bench-{n}") for n in range(CONNECTIONS)))
    return time.perf_counter() - began


def _all_ok(rows: list[dict[str, Any]]) -> None:
    wrong = [row["code"] for row in rows if row["code"] != "ok"]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {len(rows)} members were refused: {wrong[0]}")


async def arrays(ground: Ground, jobs: int, rounds: int, tell: Tell | None = None) -> Rates:
    """Measure explicit batches; the median of `rounds`."""
    async with await ground.open(most=CONNECTIONS) as db:
        payers = await prepare(ground, db, jobs)
        await enqueue(db, payers, BATCH * 4)
        await process(db, BATCH * 4)
        enqueued, processed = [], []
        for _ in range(rounds):
            enqueued.append(jobs / await enqueue(db, payers, jobs, tell))
            processed.append(jobs / await process(db, jobs, tell))
    return Rates(statistics.median(enqueued), statistics.median(processed))


async def combined(
    ground: Ground, jobs: int, callers: int, rounds: int, tell: Tell | None = None
) -> Rates:
    """Measure many callers at a time, each answered after its own commit."""
    async with await ground.open(most=4, combining=True) as db:
        payers = await prepare(ground, db, jobs)
        enqueued, processed = [], []
        for _ in range(rounds):
            began = time.perf_counter()
            await _callers(callers, jobs, lambda n: _generate(db, payers[n % len(payers)]), tell)
            enqueued.append(jobs / (time.perf_counter() - began))
            began = time.perf_counter()
            await _work(db, jobs, callers, tell)
            processed.append(jobs / (time.perf_counter() - began))
    return Rates(statistics.median(enqueued), statistics.median(processed))


async def _generate(db: Database, account: UUID) -> None:
    await stories.generate(db, account_id=account, prompt="a fox", words=100, key=uuid4().hex)


async def _callers(callers: int, jobs: int, do: Callable[[int], Any], tell: Tell | None) -> None:
    numbers = iter(range(jobs))

    async def caller() -> None:
        for n in numbers:
            await do(n)
            if tell:
                tell(1)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def _work(db: Database, jobs: int, callers: int, tell: Tell | None) -> None:
    """A worker's loop: claims in batches, every job finished by a call of its own."""
    mark, done = queue.LowWater(), 0
    while done < jobs:
        leases = await queue.claim(
            db, worker="worker:bench", kinds=[stories.KIND], limit=callers, low_water=mark
        )
        if not leases:
            mark.reset()
        await asyncio.gather(
            *(queue.finish(db, job_id=x.id, token=x.token, result={"words": 0}) for x in leases)
        )
        done += len(leases)
        if tell:
            tell(len(leases))


async def single(ground: Ground, jobs: int) -> tuple[Rates, float]:
    """Measure one caller at a time; returns the rates and the median ms of a charge + enqueue."""
    async with await ground.open(most=1) as db:
        payers = await prepare(ground, db, jobs)
        took, began = [], time.perf_counter()
        for n in range(jobs):
            start = time.perf_counter()
            await _generate(db, payers[n % len(payers)])
            took.append(time.perf_counter() - start)
        enqueued = time.perf_counter() - began
        began = time.perf_counter()
        mark = queue.LowWater()
        for _ in range(jobs):
            [lease] = await queue.claim(
                db, worker="worker:bench", kinds=[stories.KIND], limit=1, low_water=mark
            )
            await queue.finish(db, job_id=lease.id, token=lease.token, result={"words": 0})
        processed = time.perf_counter() - began
    return Rates(jobs / enqueued, jobs / processed), statistics.median(took) * 1000


async def drain(ground: Ground, jobs: int, *, hold: bool, tell: Tell | None = None) -> list[float]:
    """Drain `jobs` waiting jobs; returns the jobs per second of each tenth.

    With `hold`, a transaction stays open from before the first job is enqueued.
    """
    async with (
        await ground.open(most=CONNECTIONS) as db,
        held_snapshot(ground.owner_url, hold=hold),
    ):
        payers = await prepare(ground, db, jobs)
        await enqueue(db, payers, jobs, tell)
        began, marks = time.perf_counter(), list[float]()
        await process(db, jobs, tell, marks)
    marks = [began, *sorted(marks)]
    tenth = jobs // 10
    return [tenth / (marks[(n + 1) * tenth] - marks[n * tenth]) for n in range(10)]
