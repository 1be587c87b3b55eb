"""pgqueuer as its own benchmark runs it: asyncpg, uvloop, batches, two managers that drain."""

import asyncio
import os
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries
from pgqueuer.types import QueueExecutionMode
from rounds import in_batches, rounds

BATCH = 2000  # of 500, 2,000 and 5,000 the fastest here


async def main() -> None:
    connections = [await asyncpg.connect(os.environ["DATABASE_URL"]) for _ in range(2)]
    queries = [Queries(AsyncpgDriver(connection)) for connection in connections]
    await queries[0].install()

    def sender(on: Queries):
        async def send(size: int) -> None:
            await on.enqueue(["noop"] * size, [None] * size, [0] * size)

        return send

    async def enqueue(jobs: int) -> None:
        await in_batches(jobs, BATCH, [sender(on) for on in queries])

    async def work(jobs: int) -> None:
        await asyncio.gather(*(drain(connection) for connection in connections))

    async def drain(connection) -> None:
        queue = PgQueuer(AsyncpgDriver(connection))

        @queue.entrypoint("noop")
        async def noop(job: Job) -> None: ...

        await queue.qm.run(
            dequeue_timeout=timedelta(seconds=1),
            batch_size=BATCH,
            mode=QueueExecutionMode.drain,
        )

    await rounds(enqueue, work)


uvloop.run(main())
