"""The seven scenarios of the seed's table, and what else happens to real worker processes.

Where a process dies or freezes in a scenario, one does here. Each ends in an exact number of
charges and refunds.
"""

import asyncio
import os
import signal
import sys
from uuid import UUID, uuid4

import pytest

from holdfast.errors import InsufficientTokens
from holdfast.kernel import ledger, queue, verify
from holdfast.postgres.conninfo import as_url
from holdfast.systems import stories
from processes import SOURCES, Process, until

pytestmark = pytest.mark.slow


@pytest.fixture
async def stage(bench, tmp_path, app_url, owner_url):
    """Starts workers that play a part, and checks at the end that every promise was kept."""
    made: list[Process] = []

    class Stage:
        db = bench.db
        signs = tmp_path

        async def worker(self, part: str, name: str = "", **variables: str) -> Process:
            given = {
                "HOLDFAST_DATABASE_URL": as_url(app_url), "HOLDFAST_OWNER_URL": as_url(owner_url),
                "HOLDFAST_HOME": str(tmp_path / "home"), "HANDLER": part, "SIGNS": str(tmp_path),
                "MINE": app_url, "HOLDFAST_SWEEP_SECONDS": "0.2", "HOLDFAST_POLL_SECONDS": "0.2",
                "HOLDFAST_JOB_LEASE_SECONDS": "1", "HOLDFAST_JOB_BACKOFF_SECONDS": "0",
                "LEASE": "1", **variables,
            }  # fmt: skip
            named = name or part.replace(" ", "-")
            process = Process(tmp_path, named, "work", "--import", "rehearsed_jobs", **given)
            made.append(process)
            await process.start()
            await process.says("worker started")
            return process

        async def buy(self, kind: str = "work") -> UUID:
            await queue.declare_kind(bench.db, queue.Kind("work", 3, 0, 1))
            return await bench.buy(kind)

        async def has(self, part: str, job: UUID) -> None:
            await until(lambda: (tmp_path / f"{part}-has-{job}").exists(), what=f"{part} has it")

    yield Stage()
    for process in made:
        await process.end()
    broken = [one for one in await verify.run(bench.db) if one.violations]
    assert broken == []
    assert [line for p in made for line in p.lines("[error") if "effect" not in line] == []


async def story(stage, bench, prompt: str) -> UUID:
    account = await bench.new_account()
    bought = await stories.generate(
        stage.db, account_id=account, prompt=prompt, words=60, key=uuid4().hex
    )
    return bought.id


async def test_normal_flow_is_one_charge_and_no_refund(stage, bench):
    worker = await stage.worker("works")
    job = await story(stage, bench, "a fox")
    done = await bench.until(job, "completed")
    assert done.result is not None
    assert done.result["words"] >= 40
    assert await bench.money(job) == (1, 0)
    await worker.says("job completed", str(job))


async def test_a_worker_that_fails_is_one_charge_and_one_refund(stage, bench):
    await stage.worker("works")
    job = await story(stage, bench, "!fail a fox")
    failed = await bench.until(job, "failed")
    assert (failed.error_code, failed.attempt) == ("failed_on_request", 1)
    assert await bench.money(job) == (1, 1)


async def test_a_creation_that_fails_is_no_charge(stage, bench, db):
    await queue.declare_kind(db, stories.kind(attempts=3, backoff=1, lease=1, deadline=60))
    account = await bench.new_account()
    with pytest.raises(InsufficientTokens):
        await stories.generate(db, account_id=account, prompt="long", words=5000, key="a")
    wallet = await ledger.wallet_of(db, account_id=account)
    assert wallet.balance == 100
    assert await queue.list_of(db, owners=[account]) == []


DIES = """
import asyncio, os, signal, sys
import psycopg
from holdfast import stories

async def main(url, account, when):
    async with await psycopg.AsyncConnection.connect(url) as mine:
        await stories.generate(mine, account_id=account, prompt="a fox", key="k")
        if when == "before the commit":
            os.kill(os.getpid(), signal.SIGKILL)
        await mine.commit()
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
async def test_a_buyer_killed_between_charge_and_answer(stage, bench, db, app_url, when):
    """Queue add fails, exception between debit and enqueue: there is no between."""
    await queue.declare_kind(db, stories.kind(attempts=3, backoff=1, lease=1, deadline=60))
    account = await bench.new_account()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIES, app_url, str(account), when,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )  # fmt: skip
    assert await process.wait() == -signal.SIGKILL
    found = await queue.list_of(db, owners=[account])
    if when == "before the commit":
        assert found == []
        assert (await ledger.wallet_of(db, account_id=account)).balance == 100
        return
    await stage.worker("works")
    [job] = found
    await bench.until(job.id, "completed")
    assert await bench.money(job.id) == (1, 0)
    again = await stories.generate(db, account_id=account, prompt="a fox", key="k")
    assert (again.id, again.replayed) == (job.id, True)


@pytest.mark.parametrize(
    ("second", "status", "money"), [("works", "completed", (1, 0)), ("fails", "failed", (1, 1))]
)
async def test_a_worker_killed_between_claim_and_finish(stage, bench, second, status, money):
    first = await stage.worker("dies")
    job = await stage.buy()
    assert await first.ended() == -signal.SIGKILL
    other = await stage.worker(second)
    ended = await bench.until(job, status)
    assert ended.attempt == 2
    assert await bench.money(job) == money
    await other.says("no sign of life", str(job))


async def test_a_worker_killed_after_its_finish_has_delivered(stage, bench):
    first = await stage.worker("dies after its finish")
    job = await stage.buy()
    assert await first.ended() == -signal.SIGKILL
    await stage.worker("fails")
    done = await bench.until(job, "completed")
    assert done.attempt == 1
    assert await bench.money(job) == (1, 0)


@pytest.mark.parametrize(
    ("second", "status", "money"), [("fails", "failed", (1, 1)), ("works", "completed", (1, 0))]
)
async def test_a_frozen_worker_wakes_after_another_has_decided(stage, bench, second, status, money):
    """Stalled and then a concurrent completion: the late one is refused, and both sides say so."""
    frozen = await stage.worker("waits")
    job = await stage.buy()
    await stage.has("waits", job)
    frozen.send(signal.SIGSTOP)
    other = await stage.worker(second)
    ended = await bench.until(job, status)
    result = ended.result
    assert await bench.money(job) == money
    (stage.signs / "go").touch()
    frozen.send(signal.SIGCONT)
    await frozen.says("late completion refused (lease_lost)", str(job), f"status={status}")
    await other.says("no sign of life", str(job))
    after = await bench.until(job, status)
    assert after.result == result
    assert after.version == ended.version
    assert await bench.money(job) == money
    kept = "select convert_from(data, 'UTF8') from queue.artifact where job_id = %s and late"
    text = await bench.one(kept, job)
    assert text in ("told before; ", "made by the one who waited")


async def test_a_graceful_stop_finishes_what_it_can(stage, bench):
    worker = await stage.worker("waits")
    job = await stage.buy()
    await stage.has("waits", job)
    worker.send(signal.SIGTERM)
    await worker.says("running jobs may finish")
    (stage.signs / "go").touch()
    assert await worker.ended() == 0
    assert (await bench.until(job, "completed")).attempt == 1


async def test_a_graceful_stop_hands_back_what_takes_too_long(stage, bench):
    worker = await stage.worker("waits", HOLDFAST_STOP_SECONDS="0.3")
    job = await stage.buy()
    await stage.has("waits", job)
    worker.send(signal.SIGINT)
    assert await worker.ended() == 0
    back = await bench.until(job, "queued")
    assert back.attempt in (0, 1)
    await stage.worker("works")
    assert (await bench.until(job, "completed")).attempt == 1
    assert await bench.money(job) == (1, 0)


async def test_a_second_signal_ends_at_once(stage, bench):
    worker = await stage.worker("waits", HOLDFAST_STOP_SECONDS="60")
    job = await stage.buy()
    await stage.has("waits", job)
    worker.send(signal.SIGTERM)
    await worker.says("running jobs may finish")
    worker.send(signal.SIGTERM)
    assert await worker.ended(5) == 143
    await stage.worker("works")  # the lease ends by itself
    assert (await bench.until(job, "completed")).attempt == 2


async def test_stall_in_a_prompt_ends_in_one_refund(stage, bench):
    worker = await stage.worker("works", HOLDFAST_JOB_ATTEMPTS="1")
    job = await story(stage, bench, "!stall 3 a fox")
    failed = await bench.until(job, "failed")
    assert failed.error_code == "stalled"
    assert await bench.money(job) == (1, 1)
    await worker.says("late completion refused (lease_lost)", str(job))
