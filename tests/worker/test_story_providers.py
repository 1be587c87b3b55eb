"""Stories by a worker's own process and the real SDK, from a provider that does everything wrong.

Whatever it does: never half a story as a whole one, attempts are bounded, and who paid has either
the story or exactly one refund.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from tests import messages_api as api_of
from tests.messages_api import MessagesApi, tale

from holdfast.kernel import ledger, queue
from holdfast.postgres.pool import Database
from holdfast.systems import stories
from processes import Process, ran, url_of


@dataclass
class Shop:
    """A database, a scripted provider, and a worker between them in a process of its own."""

    db: Database
    owner: psycopg.AsyncConnection
    api: MessagesApi
    env: dict[str, str]
    folder: Path
    account: UUID

    @contextlib.asynccontextmanager
    async def worker(self, **settings: object) -> AsyncIterator[Process]:
        """Run `holdfast work`; afterwards it has ended as it should."""
        changed = {f"HOLDFAST_{name.upper()}": str(value) for name, value in settings.items()}
        worker = Process(self.folder, "worker", "work", **(self.env | changed))
        await worker.start()
        try:
            await worker.says("worker started")
            yield worker
            worker.send(signal.SIGTERM)
            assert await worker.ended() == 0
        finally:
            await worker.end()

    async def buy(self, words: int = 120) -> UUID:
        given = {"prompt": "A lighthouse", "words": words, "key": uuid4().hex}
        return (await stories.generate(self.db, account_id=self.account, **given)).id

    async def until(self, job: UUID, *statuses: str, within: float = 30) -> queue.Job:
        end = time.monotonic() + within
        while True:
            found = await queue.get(self.db, job_id=job, owners=None)
            if found.status in statuses:
                return found
            assert time.monotonic() < end, f"still {found.status}, attempt {found.attempt}"
            await asyncio.sleep(0.02)

    async def one(self, statement: str, *values: object) -> Any:
        row = await (await self.owner.execute(statement, values)).fetchone()
        assert row is not None
        return row[0]

    async def balance(self) -> int:
        return (await ledger.wallet_of(self.db, account_id=self.account)).balance

    async def money(self, job: UUID) -> list[str]:
        """The kinds of the entries that a job has caused, in order."""
        steps = await queue.story(self.db, job_id=job)
        return sorted(s.what for s in steps if s.what.startswith("ledger."))

    async def nothing_is_left_of(self, job: UUID) -> None:
        """No half text stands anywhere: not as the result, not growing, not kept as late."""
        found = await queue.get(self.db, job_id=job, owners=None)
        assert found.result is None
        assert await self.one("select count(*) from queue.job_chunk where job_id = %s", job) == 0
        assert not await queue.artifacts(self.db, job_id=job, owners=None)


def errors(worker: Process) -> list[dict[str, Any]]:
    """Return its lines at ERROR, parsed."""
    return [json.loads(line) for line in worker.lines('"level": "error"')]


@pytest.fixture
async def shop(db, owner, app_url, owner_url, new_account, tmp_path):
    async with MessagesApi() as api:
        env = {
            "HOLDFAST_DATABASE_URL": url_of(app_url),
            "HOLDFAST_OWNER_URL": url_of(owner_url),
            "HOLDFAST_HOME": str(tmp_path),
            "HOLDFAST_LOG_FORMAT": "json",
            "HOLDFAST_STORY_PROVIDER": "anthropic",
            "ANTHROPIC_API_KEY": "sk-test",
            "ANTHROPIC_BASE_URL": api.url,
            "HOLDFAST_PROVIDER_SILENCE_SECONDS": "0.3",
            "HOLDFAST_JOB_LEASE_SECONDS": "1",
            "HOLDFAST_JOB_BACKOFF_SECONDS": "0.05",
            "HOLDFAST_OUTAGE_PAUSE_SECONDS": "0.5",
            "HOLDFAST_SWEEP_SECONDS": "0.2",
            "HOLDFAST_POLL_SECONDS": "0.1",
        }
        account = await new_account()
        await ledger.grant(db, account_id=account, amount=400, key="g")
        yield Shop(db, owner, api, env, tmp_path, account)


WRONG = {
    "cut politely": (api_of.cut_before_stop(), "provider_cut"),
    "cut rudely": (api_of.cut_before_stop(politely=False), "provider_cut"),
    "cut after the reason": (api_of.cut_after_reason(), "provider_cut"),
    "reset in an event": (api_of.cut_mid_event(reset=True), "provider_cut"),
    "an error event": (api_of.error_event(), "provider_overloaded"),
    "silent at once": (api_of.silent(), "provider_silent"),
    "silent half way": (api_of.silent(after=tale(60)), "provider_silent"),
    "529": (api_of.overloaded(), "provider_overloaded"),
    "500": (api_of.status(500), "provider_failed"),
    "a page of a proxy": (api_of.html(), "provider_failed"),
    "max_tokens too soon": (
        api_of.story(tale(30), stop_reason="max_tokens"), "story_incomplete",
    ),
    "an empty story": (api_of.story(""), "story_empty"),
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
async def test_a_provider_that_stays_wrong_costs_nothing(shop, how):
    shop.api.otherwise, code = WRONG[how]
    job = await shop.buy()
    async with shop.worker() as worker:
        failed = await shop.until(job, "failed")
    assert (failed.error_code, failed.attempt, len(shop.api.requests)) == (code, 3, 3)
    assert (failed.charged, failed.refunded, await shop.balance()) == (50, 50, 500)
    assert await shop.money(job) == ["ledger.charge", "ledger.refund"]
    await shop.nothing_is_left_of(job)
    assert not errors(worker), "nothing that needs a hand"


@pytest.mark.parametrize("how", ["cut politely", "an error event", "silent half way", "529"])
async def test_one_wrong_answer_is_tried_again_and_only_the_whole_story_delivered(shop, how):
    shop.api.script(WRONG[how][0])
    job = await shop.buy()
    async with shop.worker():
        done = await shop.until(job, "completed")
    assert (done.result["text"], done.result["partial"]) == (tale(120), False)
    assert (done.attempt, len(shop.api.requests)) == (2, 2)
    assert (await shop.money(job), await shop.balance()) == (["ledger.charge"], 450)


async def test_what_ran_into_the_length_limit_is_partial_and_says_so(shop):
    shop.api.otherwise = api_of.story(tale(115) + " and then", stop_reason="max_tokens")
    job = await shop.buy()
    async with shop.worker():
        done = await shop.until(job, "completed")
    assert done.result["partial"]
    assert done.result["text"].endswith(".")
    assert await shop.money(job) == ["ledger.charge"]


async def test_a_prompt_the_provider_rejects_is_refunded_at_the_first_attempt(shop):
    shop.api.otherwise = api_of.status(400, "invalid_request_error", "prompt: no")
    job = await shop.buy()
    async with shop.worker():
        failed = await shop.until(job, "failed")
    assert (failed.error_code, failed.attempt) == ("provider_rejected", 1)
    assert (len(shop.api.requests), await shop.balance()) == (1, 500)


async def test_a_day_of_retry_after_is_ten_minutes_here(shop):
    shop.api.script(api_of.rate_limited("86400"))
    job = await shop.buy()
    async with shop.worker():
        await shop.api.arrived()
        waits = "select extract(epoch from run_at - clock_timestamp())::float from queue.job_ready"
        end = time.monotonic() + 20
        while not 500 < (wait := await shop.one(waits)) < 86_400:
            assert time.monotonic() < end, wait
            await asyncio.sleep(0.02)
        assert wait <= 600
        assert (await shop.until(job, "queued")).attempt == 1
        await shop.owner.execute("update kernel.clock set shift = '601 seconds'")
        done = await shop.until(job, "completed")
    assert (done.attempt, await shop.money(job)) == (2, ["ledger.charge"])


async def test_a_slow_story_keeps_its_lease(shop):
    go = asyncio.Event()
    shop.api.otherwise = api_of.pieces_when(go, "Once. ", tale(120))
    job = await shop.buy()
    async with shop.worker(provider_silence_seconds=30, job_lease_seconds=0.4):
        await shop.api.arrived()
        first = "select due_at from queue.job_ready where id = %s"
        leased = await shop.one(first, job)
        for _ in range(4):  # four leases end while the provider thinks
            end = time.monotonic() + 20
            while await shop.one("select clock_timestamp() <= %s", leased):
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            leased = await shop.one(first, job)
        go.set()
        done = await shop.until(job, "completed")
    assert (done.attempt, len(shop.api.requests)) == (1, 1)


@pytest.mark.parametrize("code", [400, 402])
async def test_our_empty_account_pauses_the_kind_and_costs_nobody_anything(shop, code):
    shop.api.otherwise = api_of.no_credit(code)
    jobs = [await shop.buy() for _ in range(4)]
    async with shop.worker() as worker:
        await shop.api.arrived(len(jobs) + 3, within=30)  # and three single tries after pauses
        [kind] = [row for row in await queue.depth(shop.db) if row["kind"] == "story"]
        assert (kind["pause_reason"], await shop.balance()) == ("provider_out_of_credit", 300)
        for job in jobs:
            kept = await shop.until(job, "queued", "processing")
            assert kept.attempt <= 1, "an empty account of ours is nobody's attempt"
        shop.api.otherwise = api_of.story()
        for job in jobs:
            done = await shop.until(job, "completed")
            assert (done.result["text"], done.refunded) == (tale(120), 0)
    assert await shop.balance() == 300
    [alert] = errors(worker)
    assert {"account", "amount", "job"} <= set(alert)
    assert alert["command"] == f"holdfast jobs show {alert['job']}"
    assert "credit balance is too low" in alert["cause"]
    [kind] = [row for row in await queue.depth(shop.db) if row["kind"] == "story"]
    assert kind["pause_reason"] is None


async def test_one_job_tries_after_a_pause_not_all(shop):
    shop.api.otherwise = api_of.no_credit()
    for _ in range(6):
        await shop.buy()
    async with shop.worker(worker_concurrency=1, outage_pause_seconds=0.4):
        began = time.monotonic()
        await shop.api.arrived(5, within=30)
        assert time.monotonic() - began >= 4 * 0.4, "a request a pause, whatever waits"


async def test_the_whole_story_of_a_failed_job_is_one_view(shop):
    shop.api.script(api_of.overloaded(), api_of.silent())
    shop.api.otherwise = api_of.cut_before_stop()
    job = await shop.buy()
    async with shop.worker():
        await shop.until(job, "failed")
    done = await ran(shop.folder, "jobs", "show", str(job), "--json", **shop.env)
    shown = json.loads(done.out)
    told = [step["what"] for step in shown["story"]]
    assert {"ledger.charge", "stories.generate", "queue.claim", "queue.fail", "ledger.refund"} <= (
        set(told)
    )
    assert told.count("queue.claim") == 3
    why = " ".join(str(step["detail"]) for step in shown["story"])
    for code in ("provider_overloaded", "provider_silent", "provider_cut"):
        assert code in why
