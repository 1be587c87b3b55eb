"""Holdfast by its batch calls: charge + job with audit and effects, then claim and finish."""

import asyncio
import os

from rounds import rounds

from holdfast.bench import lifecycle
from holdfast.bench.ground import Ground
from holdfast.postgres.install import install


async def main() -> None:
    ground = Ground.at(os.environ["DATABASE_URL"])
    install(ground.owner_url)
    async with await ground.open(most=lifecycle.CONNECTIONS) as db:
        payers = await lifecycle.prepare(ground, db, 0)

        async def enqueue(jobs: int) -> None:
            await lifecycle.enqueue(db, payers, jobs)

        async def work(jobs: int) -> None:
            await lifecycle.process(db, jobs)

        await rounds(enqueue, work)


asyncio.run(main())
