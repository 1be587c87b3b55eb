"""procrastinate on psycopg: jobs deferred in batches, a worker of ten that stops at the end."""

import logging
import os

import procrastinate
import uvloop
from rounds import in_batches, rounds

BATCH = 500
logging.getLogger("procrastinate").setLevel(logging.ERROR)  # warns of an app in a script


async def main() -> None:
    connector = procrastinate.PsycopgConnector(conninfo=os.environ["DATABASE_URL"])
    app = procrastinate.App(connector=connector)

    @app.task(name="noop")
    async def noop(n: int) -> None: ...

    async def send(size: int) -> None:
        await noop.batch_defer_async(*({"n": n} for n in range(size)))

    async def enqueue(jobs: int) -> None:
        await in_batches(jobs, BATCH, [send, send])

    async def work(jobs: int) -> None:
        await app.run_worker_async(wait=False, concurrency=10, install_signal_handlers=False)

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await rounds(enqueue, work)


uvloop.run(main())
