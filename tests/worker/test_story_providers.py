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
from collections import Counter
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
from holdfast.postgres.conninfo import as_url
from holdfast.postgres.pool import Database
from holdfast.systems import stories
from processes import Process, ran, until


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

    async def buy(self, prompt: str = "A lighthouse") -> UUID:
        given = {"prompt": prompt, "words": 120, "key": uuid4().hex}
        return (await stories.generate(self.db, account_id=self.account, **given)).id

    async def is_waiting(self, job: UUID) -> bool:
        found = await queue.get(self.db, job_id=job, owners=None)
        return found.status in ("queued", "processing")

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
            "HOLDFAST_DATABASE_URL": as_url(app_url),
            "HOLDFAST_OWNER_URL": as_url(owner_url),
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
        await ledger.grant(db, account_id=account, amount=900, key="g")
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


class ByPrompt:
    """Behaves, for each prompt, as its name says, so often (None: always); then tells a story."""

    def __init__(self, times: int | None) -> None:
        self.times = times
        self.asked: Counter[str] = Counter()

    async def __call__(self, exchange: api_of.Exchange) -> None:
        prompt = exchange.request.body["messages"][0]["content"]
        self.asked[prompt] += 1
        wrong = self.times is None or self.asked[prompt] <= self.times
        await (WRONG[prompt][0] if wrong else api_of.story())(exchange)


async def test_a_provider_that_stays_wrong_costs_nobody_anything(shop):
    shop.api.otherwise = provider = ByPrompt(None)
    jobs = {how: await shop.buy(how) for how in WRONG}
    async with shop.worker() as worker:
        ended = {how: await shop.until(job, "failed") for how, job in jobs.items()}
    assert {how: job.error_code for how, job in ended.items()} == {
        how: code for how, (_, code) in WRONG.items()
    }
    assert provider.asked == Counter(dict.fromkeys(WRONG, 3)), "attempts are bounded"
    for job in ended.values():
        assert (job.attempt, job.charged, job.refunded) == (3, 50, 50)
        assert await shop.money(job.id) == ["ledger.charge", "ledger.refund"]
        await shop.nothing_is_left_of(job.id)
    assert await shop.balance() == 1000
    assert not errors(worker), "nothing that needs a hand"


async def test_after_one_wrong_answer_the_whole_story_is_delivered_and_nothing_of_the_half(shop):
    shop.api.otherwise = provider = ByPrompt(1)
    jobs = [await shop.buy(how) for how in WRONG]
    async with shop.worker():
        for job in jobs:
            done = await shop.until(job, "completed")
            assert (done.result["text"], done.result["partial"]) == (tale(120), False)
            assert (done.attempt, await shop.money(job)) == (2, ["ledger.charge"])
    assert provider.asked == Counter(dict.fromkeys(WRONG, 2))


async def test_the_length_limit_is_partial_and_a_rejected_prompt_is_final(shop):
    cut = api_of.story(tale(115) + " and then", stop_reason="max_tokens")
    shop.api.script(cut, api_of.status(400, "invalid_request_error", "prompt: no"))
    partial = await shop.buy()
    async with shop.worker():
        done = await shop.until(partial, "completed")
        failed = await shop.until(await shop.buy(), "failed")
    assert done.result["partial"]
    assert done.result["text"] == tale(115), "whole sentences only"
    assert await shop.money(partial) == ["ledger.charge"]
    assert (failed.error_code, failed.attempt) == ("provider_rejected", 1)
    assert (len(shop.api.requests), await shop.balance()) == (2, 950)


async def test_a_day_of_retry_after_is_ten_minutes_here(shop):
    shop.api.script(api_of.rate_limited("86400"))
    job = await shop.buy()
    async with shop.worker():
        await shop.api.arrived()
        waits = (
            "select extract(epoch from run_at - clock_timestamp())::float from queue.job_ready"
            " where kind <> ''"
        )
        await until(lambda: _above(shop, waits, 500))
        assert await shop.one(waits) <= 600
        assert (await shop.until(job, "queued")).attempt == 1
        await shop.owner.execute("update kernel.clock set shift = '601 seconds'")
        done = await shop.until(job, "completed")
    assert (done.attempt, await shop.money(job)) == (2, ["ledger.charge"])


async def _above(shop: Shop, statement: str, limit: float) -> bool:
    return bool(await shop.one(statement) > limit)


async def test_a_slow_story_keeps_its_lease(shop):
    go = asyncio.Event()
    shop.api.otherwise = api_of.pieces_when(go, "Once. ", tale(120))
    job = await shop.buy()
    async with shop.worker(provider_silence_seconds=30):
        await shop.api.arrived()
        leased = "select due_at from queue.job_ready where kind <> ''"
        for _ in range(3):  # three leases end while the provider thinks
            end = await shop.one(leased)
            await until(lambda end=end: shop.one("select clock_timestamp() > %s", end))
        go.set()
        done = await shop.until(job, "completed")
    assert (done.attempt, len(shop.api.requests)) == (1, 1)


async def test_our_empty_account_pauses_the_kind_and_costs_nobody_anything(shop):
    jobs = [await shop.buy() for _ in range(4)]
    async with shop.worker() as worker:
        for outage, code in enumerate((400, 402), 1):
            shop.api.otherwise = api_of.no_credit(code)
            jobs.append(await shop.buy())
            before, began = len(shop.api.requests), time.monotonic()
            most = before + sum([(await shop.is_waiting(job)) for job in jobs])
            await shop.api.arrived(most + 3, within=30)
            assert time.monotonic() - began >= 2 * 0.5, "then one try a pause, whatever waits"
            [kind] = [row for row in await queue.depth(shop.db) if row["kind"] == "story"]
            assert kind["pause_reason"] == "provider_out_of_credit"
            for job in jobs:
                kept = await shop.until(job, "queued", "processing", "completed")
                assert kept.attempt <= 1, "an empty account of ours is nobody's attempt"
            shop.api.otherwise = api_of.story()
            for job in jobs:
                done = await shop.until(job, "completed")
                assert (done.result["text"], done.refunded) == (tale(120), 0)
            assert await shop.balance() == 1000 - 50 * len(jobs)
            assert len(errors(worker)) == outage, "one alert an outage"
    alert = errors(worker)[0]
    assert {"account", "amount", "job"} <= set(alert)
    assert alert["command"] == f"holdfast jobs show {alert['job']}"
    assert "credit balance is too low" in alert["cause"]
    [kind] = [row for row in await queue.depth(shop.db) if row["kind"] == "story"]
    assert kind["pause_reason"] is None


async def test_the_whole_story_of_a_failed_job_is_one_view(shop):
    shop.api.script(api_of.overloaded(), api_of.silent())
    shop.api.otherwise = api_of.cut_before_stop()
    job = await shop.buy()
    async with shop.worker():
        await shop.until(job, "failed")
    done = await ran(shop.folder, "jobs", "show", str(job), "--json", **shop.env)
    told = json.loads(done.out)["story"]
    what = [step["what"] for step in told]
    assert {"ledger.charge", "stories.generate", "ledger.refund"} <= set(what)
    assert what.count("queue.claim") == 3
    why = " ".join(str(step["detail"]) for step in told)
    for code in ("provider_overloaded", "provider_silent", "provider_cut"):
        assert code in why
