"""A worker in this process, with handlers that a test gives it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from holdfast.config import Settings
from holdfast.kernel import queue
from holdfast.kernel.queue.kinds import Declared
from holdfast.postgres.pool import Database
from holdfast.worker import Worker
from holdfast.worker.heart import Heart
from holdfast.worker.kinds import Registered, _called


@dataclass
class Bench:
    """Makes workers on one database, buys jobs, and waits for what becomes of them."""

    db: Database
    url: str
    new_account: Callable[[], Awaitable[UUID]]
    owner: psycopg.AsyncConnection
    workers: list[tuple[Worker, asyncio.Task]] = field(default_factory=list)

    async def worker(self, handlers, kind=None, **settings) -> Worker:
        limits = {"sweep_seconds": 0.2, "poll_seconds": 0.3, "stop_seconds": 5, **settings}
        chosen = Settings(**limits)
        made = {
            name: Registered(
                queue.Kind(name, **{"backoff": 0.01, **(kind or {})}), _called(handler)
            )
            for name, handler in handlers.items()
        }
        pool = await Database.open(self.url, combining=True)
        worker = Worker(pool, Heart(self.url), made, chosen, relay=None, listen_url=self.url)
        worker._ending.push_async_callback(pool.close)
        self.workers.append((worker, asyncio.create_task(worker.run())))
        await asyncio.wait_for(worker.ready.wait(), 10)
        return worker

    async def stop(self):
        for worker, task in self.workers:
            worker.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait_for(task, 20)
            await worker.close()
        self.workers.clear()

    async def buy(self, kind: str, price: int = 10, **payload) -> UUID:
        account = await self.new_account()
        [bought] = await queue.submit(
            self.db,
            [{"account_id": account, "kind": kind, "payload": payload, "price": price,
              "key": str(uuid4())}],
        )  # fmt: skip
        return bought.id

    async def until(self, job: UUID, *statuses: str, within: float = 15) -> queue.Job:
        end = time.monotonic() + within
        while True:
            found = await queue.get(self.db, job_id=job, owners=None)
            if found.status in statuses:
                return found
            assert time.monotonic() < end, f"still {found.status}, attempt {found.attempt}"
            await asyncio.sleep(0.02)

    async def money(self, job: UUID) -> tuple[int, int]:
        """How many charges and refunds stand in the ledger for a job."""
        cursor = await self.owner.execute(
            "select count(*) filter (where kind = 'charge'),"
            " count(*) filter (where kind = 'refund')"
            " from ledger.entry where cause = 'job:' || %s",
            [str(job)],
        )
        row = await cursor.fetchone()
        assert row is not None
        return row[0], row[1]

    async def one(self, statement: str, *values: object) -> Any:
        cursor = await self.owner.execute(statement, values)
        row = await cursor.fetchone()
        return row and row[0]


@pytest.fixture
async def bench(db, app_url, new_account, owner) -> AsyncIterator[Bench]:
    made = Bench(db, app_url, new_account, owner)
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
def kinds(monkeypatch) -> dict[str, Declared]:
    """The registry of @job, empty for this test."""
    empty: dict[str, Declared] = {}
    monkeypatch.setattr("holdfast.kernel.queue.kinds._declared", empty)
    return empty
