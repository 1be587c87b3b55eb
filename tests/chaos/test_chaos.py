"""Chaos: real workers and a real PostgreSQL, killed and frozen at random, and nothing is lost.

HOLDFAST_TEST_CHAOS_SECONDS says for how long (20 unless given; `make chaos` takes two minutes),
HOLDFAST_TEST_CHAOS_SEED repeats a run's choices.
"""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from holdfast.errors import HoldfastError, Unavailable
from holdfast.kernel import ledger, queue
from holdfast.postgres.install import install
from holdfast.postgres.pool import Database
from holdfast.postgres.server import EmbeddedServer
from holdfast.systems import accounts
from processes import Process, ran, until

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("HOLDFAST_TEST_CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("HOLDFAST_TEST_CHAOS_SEED", str(random.randrange(10**6))))
LEASE = 1.0
WORKERS = 3
BUYERS = 4


@dataclass
class Chaos:
    server: EmbeddedServer
    folder: Path
    chance: random.Random
    variables: dict[str, str]
    workers: list[Process] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    bought: dict[UUID, bool] = field(default_factory=dict)  # job → whether it was to fail
    started: int = 0

    async def worker(self) -> Process:
        self.started += 1
        process = Process(
            self.folder, f"worker-{self.started}", "work", "--import", "rehearsed_jobs",
            **self.variables,
        )  # fmt: skip
        await process.start()
        self.workers.append(process)
        return process

    async def hurt(self) -> None:
        """One fault, chosen by chance; what it ended is started again."""
        victim = self.chance.choice([one for one in self.workers if one.code is None])
        kind = self.chance.choices(
            ["kill a worker", "freeze a worker", "kill PostgreSQL", "end the connections"],
            [5, 5, 1, 2],
        )[0]
        self.faults[kind] = self.faults.get(kind, 0) + 1
        match kind:
            case "kill a worker":
                victim.kill()
                await victim.ended()
                await self.worker()
            case "freeze a worker":
                victim.send(signal.SIGSTOP)
                await asyncio.sleep(self.chance.uniform(0.2, 2.5) * LEASE)
                victim.send(signal.SIGCONT)
            case "kill PostgreSQL":
                await until(lambda: self.server.pid, what="PostgreSQL runs")
                if pid := self.server.pid:  # never 0, which would be our own group
                    os.kill(pid, signal.SIGKILL)
            case _:
                with contextlib.suppress(psycopg.Error):
                    await self.end_connections()

    async def end_connections(self) -> None:
        url = self.server.url(database="holdfast")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = 'holdfast' and pid <> pg_backend_pid()"
            )

    async def buy(self, db: Database, account: UUID, ends: float) -> None:
        """Buy job after job, each until it is answered, as a client with keys does."""
        while time.monotonic() < ends:
            key, fails = uuid4().hex, self.chance.random() < 0.3
            while True:
                try:
                    bought = await queue.enqueue(
                        db, "busy", account_id=account, key=key, payload={"fails": fails}
                    )
                except Unavailable:  # nobody knows whether it happened: the key does
                    await asyncio.sleep(0.1)
                else:
                    break
            assert bought.id not in self.bought
            self.bought[bought.id] = fails
            await asyncio.sleep(self.chance.uniform(0, 0.05))


@pytest.fixture
async def chaos(monkeypatch):
    monkeypatch.setenv("HANDLER", "works")
    folder = Path(tempfile.mkdtemp(prefix="hf-chaos-"))
    server = EmbeddedServer(folder / "home", keep_alive=True).start()
    variables = {
        "HOLDFAST_HOME": str(folder / "home"), "HANDLER": "works", "SIGNS": str(folder),
        "LEASE": str(LEASE), "HOLDFAST_SWEEP_SECONDS": "0.3", "HOLDFAST_POLL_SECONDS": "0.3",
        "HOLDFAST_LOG_LEVEL": "warning",
    }  # fmt: skip
    made = Chaos(server, folder, random.Random(SEED), variables)
    try:
        await asyncio.to_thread(install, server.owner_url)
        for _ in range(WORKERS):
            await made.worker()
        yield made
    finally:
        for process in made.workers:
            await process.end()
        await asyncio.to_thread(server.stop)
        shutil.rmtree(folder)


@pytest.mark.usefixtures("template")  # the session's own server stays out of it, but is up first
async def test_whatever_dies_nothing_is_lost(chaos: Chaos):
    import rehearsed_jobs  # noqa: F401 - declares the kinds, as a client's program does

    async with await Database.open(chaos.server.app_url) as db:
        payers = []
        for n in range(BUYERS):
            payer = await accounts.sign_in(db, kind="dev", subject=f"payer-{n}")
            await ledger.grant(db, account_id=payer.id, amount=10**6, key="chaos")
            payers.append(payer.id)
        ends = time.monotonic() + SECONDS
        buying = [asyncio.create_task(chaos.buy(db, payer, ends)) for payer in payers]
        while time.monotonic() < ends:
            await asyncio.sleep(chaos.chance.uniform(0.05, 0.6))
            await chaos.hurt()
        await asyncio.gather(*buying)
        await until(lambda: _settled(db, chaos), within=90, what=f"all ended (seed {SEED})")
        await _judge(db, chaos, payers)
    print(f"\nseed {SEED}: {len(chaos.bought)} jobs, {chaos.faults}")


async def _settled(db: Database, chaos: Chaos) -> bool:
    try:
        depth = [row for row in await queue.depth(db) if row["kind"] == "busy"]
    except HoldfastError:
        return False
    return depth[0]["waiting"] == depth[0]["leased"] == 0


async def _judge(db: Database, chaos: Chaos, payers: list[UUID]) -> None:
    """Every job that was answered has its one right end; nothing else was made or paid."""
    found = {}
    for payer in payers:
        before = None
        while page := await queue.list_of(db, owners=[payer], before=before, limit=200):
            found |= {job.id: job for job in page}
            before = page[-1].id
    assert set(found) == set(chaos.bought)
    for job_id, fails in chaos.bought.items():
        job = found[job_id]
        ended = (job.status, job.charged, job.refunded)
        # Fifty attempts are not used up, whatever dies.
        assert ended == (("failed", 1, 1) if fails else ("completed", 1, 0)), (job, SEED)
    left = [(await ledger.wallet_of(db, account_id=payer)).balance for payer in payers]
    paid = sum(1 for fails in chaos.bought.values() if not fails)
    assert sum(left) == BUYERS * (10**6 + 100) - paid
    told = await ran(chaos.folder, "verify", "--json", **chaos.variables)
    assert told.code == 0, told.out + told.log
    answer = json.loads(told.out)
    assert answer["ok"] is True
    counts = {one["name"]: one["checked"] for one in answer["invariants"]}
    assert counts["failures_are_refunded_once"] == len(chaos.bought)
    assert sum(chaos.faults.values()) >= SECONDS / 5
    # Frozen, killed and cut off, no worker needs a hand, and none told of a defect of its own.
    assert [line for one in chaos.workers for line in one.lines("[error")] == []
