"""Every way in which a handler can end: returning, raising, hanging, cancelled, overtaken."""

import asyncio
import threading
import time

import psycopg
import pytest

import holdfast
from holdfast.errors import JobKindUnknown, LeaseLost
from holdfast.kernel import ledger, queue
from holdfast.kernel.queue import AttemptFailed, OutOfService


async def test_a_result_completes_the_job_and_money_stays(bench):
    async def double(attempt):
        return {"text": "done", "n": attempt.payload["n"] * 2}

    await bench.worker({"double": double})
    job = await bench.buy("double", n=21)
    done = await bench.until(job, "completed")
    assert done.result == {"text": "done", "n": 42}
    assert await bench.money(job) == (1, 0)


async def test_a_permanent_failure_refunds_at_the_first_attempt(bench):
    async def refuse(attempt):
        raise AttemptFailed("story_refused", "No.", permanent=True)

    await bench.worker({"refuse": refuse})
    job = await bench.buy("refuse")
    failed = await bench.until(job, "failed")
    assert (failed.attempt, failed.error_code, failed.refunded) == (1, "story_refused", 10)
    assert await bench.money(job) == (1, 1)


@pytest.mark.parametrize("defect", ["raises", "cancels itself", "returns a list", "returns NaN"])
async def test_a_defect_of_a_handler_ends_in_one_refund(bench, defect):
    async def broken(attempt):
        match defect:
            case "raises":
                raise ZeroDivisionError("a defect of the handler")
            case "cancels itself":
                raise asyncio.CancelledError
            case "returns a list":
                return [1]
            case _:
                return {"n": float("nan")}

    await bench.worker({"broken": broken}, {"attempts": 2})
    job = await bench.buy("broken")
    failed = await bench.until(job, "failed")
    assert failed.error_code == "handler_failed"
    assert await bench.money(job) == (1, 1)


async def test_nul_and_half_characters_reach_nobody(bench):
    async def dirty(attempt):
        await attempt.text("a\0b\ud800")
        await attempt.progress("wri\0ting", 1, 2)
        await asyncio.sleep(0.6)
        return {"text": "x\0y\udfff", "list": ["\0"]}

    await bench.worker({"dirty": dirty}, {"lease": 1})
    done = await bench.until(await bench.buy("dirty"), "completed")
    assert done.result == {"text": "xy\ufffd", "list": [""]}


async def test_attempts_are_bounded_and_then_refunded_once(bench):
    tried = []

    async def never(attempt):
        tried.append(attempt.lease.attempt)
        raise AttemptFailed("provider_overloaded")

    await bench.worker({"never": never}, {"attempts": 3})
    job = await bench.buy("never")
    failed = await bench.until(job, "failed")
    assert tried == [1, 2, 3]
    assert failed.error_code == "provider_overloaded"
    assert await bench.money(job) == (1, 1)


async def test_a_computing_thread_outlives_its_lease_because_the_heart_beats(bench):
    def compute(attempt):
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            sum(range(10_000))
        return {"text": "computed"}

    await bench.worker({"compute": compute}, {"lease": 0.6})
    done = await bench.until(await bench.buy("compute"), "completed")
    assert done.attempt == 1


async def test_an_async_handler_that_blocks_the_loop_keeps_its_lease(bench):
    async def block(attempt):
        time.sleep(2.0)  # noqa: ASYNC251 - the mistake this is about
        return {}

    await bench.worker({"block": block}, {"lease": 0.6})
    done = await bench.until(await bench.buy("block"), "completed")
    assert done.attempt == 1


async def test_a_hanging_handler_ends_at_its_deadline_with_a_refund(bench):
    async def hang(attempt):
        await asyncio.Event().wait()

    await bench.worker({"hang": hang}, {"deadline": 0.5, "attempts": 3})
    job = await bench.buy("hang")
    failed = await bench.until(job, "failed")
    assert failed.error_code == "deadline_exceeded"
    assert await bench.money(job) == (1, 1)


async def test_a_silent_attempt_loses_its_lease_and_its_late_result_is_kept_unpaid(bench):
    go = asyncio.Event()

    async def stall(attempt):
        if attempt.lease.attempt > 1:
            raise AttemptFailed("story_refused", permanent=True)
        attempt.silent = lambda: True
        await go.wait()
        return {"text": "too late"}

    await bench.worker({"stall": stall}, {"lease": 0.4, "attempts": 3})
    job = await bench.buy("stall")
    await bench.until(job, "failed")
    go.set()
    kept = "select convert_from(data, 'UTF8') from queue.artifact where job_id = %s and late"
    end = time.monotonic() + 10
    while (text := await bench.one(kept, job)) is None:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    assert text == "too late"
    assert (await bench.until(job, "failed")).result is None
    assert await bench.money(job) == (1, 1)


async def test_a_cancelled_job_stops_its_handler(bench):
    ended = asyncio.Event()

    async def long(attempt):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await bench.worker({"long": long}, {"lease": 0.6})
    job = await bench.buy("long")
    await bench.until(job, "processing")
    await queue.cancel(bench.db, job_id=job, owners=None, actor="admin")
    await asyncio.wait_for(ended.wait(), 5)
    assert await bench.money(job) == (1, 1)


async def test_a_thread_learns_that_its_lease_is_lost(bench):
    told = threading.Event()

    def long(attempt):
        while True:
            try:
                attempt.progress("waiting", 0)
            except LeaseLost:
                told.set()
                raise
            time.sleep(0.02)

    await bench.worker({"long": long}, {"lease": 0.6})
    job = await bench.buy("long")
    await bench.until(job, "processing")
    await queue.cancel(bench.db, job_id=job, owners=None, actor="admin")
    assert await asyncio.to_thread(told.wait, 5)


async def test_out_of_service_pauses_the_kind_alerts_once_and_resumes(bench, caplog, capsys):
    broke = True

    async def write(attempt):
        if broke:
            raise OutOfService("provider_out_of_credit")
        return {"text": "a story"}

    await bench.worker({"write": write}, {"lease": 0.6}, outage_pause_seconds=0.5)
    jobs = [await bench.buy("write") for _ in range(5)]
    paused = "select pause_reason from queue.kind where kind = 'write'"
    end = time.monotonic() + 10
    while await bench.one(paused) is None:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    for job in jobs:  # kept, nobody refunded, nothing counted
        assert (await bench.until(job, "queued")).attempt <= 1
        assert await bench.money(job) == (1, 0)
    broke = False
    for job in jobs:
        await bench.until(job, "completed")
        assert await bench.money(job) == (1, 0)
    assert await bench.one(paused) is None
    alerts = [line for line in capsys.readouterr().out.splitlines() if "[error" in line]
    assert len(alerts) == 1
    assert "holdfast jobs show" in alerts[0]
    assert "amount=10" in alerts[0]


@pytest.mark.parametrize("stale", [False, True])
async def test_a_handler_finishes_inside_its_own_transaction_or_writes_nothing(bench, stale):
    await bench.owner.execute("create table public.made (job uuid)")
    await bench.owner.execute("grant all on public.made to holdfast_app")
    raised = []

    async def make(attempt):
        if attempt.lease.attempt > 1:
            raise AttemptFailed("story_refused", permanent=True)
        async with await psycopg.AsyncConnection.connect(bench.url) as mine:
            await mine.execute("insert into public.made values (%s)", [attempt.id])
            if stale:
                await queue.cancel(bench.db, job_id=attempt.id, owners=None, actor="admin")
            try:
                await attempt.finish(mine, {"text": "mine"})
            except LeaseLost as lost:
                raised.append(lost)
                raise

    await bench.worker({"make": make})
    job = await bench.buy("make")
    ended = await bench.until(job, "cancelled" if stale else "completed")
    await bench.stop()
    assert await bench.one("select count(*) from public.made") == (0 if stale else 1)
    assert len(raised) == (1 if stale else 0)
    assert ended.result == (None if stale else {"text": "mine"})
    assert await bench.money(job) == (1, 1 if stale else 0)


async def test_a_blocking_handler_finishes_inside_its_own_transaction(bench):
    await bench.owner.execute("create table public.made (job uuid)")
    await bench.owner.execute("grant all on public.made to holdfast_app")

    def make(attempt):
        with psycopg.connect(bench.url) as mine:
            mine.execute("insert into public.made values (%s)", [attempt.id])
            attempt.finish(mine, {"text": "mine"})

    await bench.worker({"make": make})
    done = await bench.until(await bench.buy("make"), "completed")
    assert done.result == {"text": "mine"}
    assert await bench.one("select count(*) from public.made") == 1


async def test_a_finish_that_was_rolled_back_completes_nothing(bench):
    async def make(attempt):
        async with await psycopg.AsyncConnection.connect(bench.url) as mine:
            await attempt.finish(mine, {"text": "mine"})
            await mine.rollback()

    await bench.worker({"make": make}, {"attempts": 1})
    job = await bench.buy("make")
    assert (await bench.until(job, "failed")).error_code == "handler_failed"
    assert await bench.money(job) == (1, 1)


@pytest.mark.parametrize(
    ("used", "status", "left"),
    [(0, "completed", 100), (30, "completed", 70), (75, "completed", 25), (76, "failed", 100),
     (None, "failed", 100)],
)  # fmt: skip
async def test_a_kind_priced_by_use_is_settled_to_what_it_used(bench, used, status, left):
    async def measured(attempt):
        if used is not None:
            attempt.use(used)
        return {"text": "measured"}

    await bench.worker({"measured": measured})
    account = await bench.new_account()
    job = await queue.reserve(
        bench.db, account_id=account, kind="measured", payload={}, estimate=75, key="k"
    )
    await bench.until(job.id, status)
    wallet = await ledger.wallet_of(bench.db, account_id=account)
    assert (wallet.balance, wallet.held) == (left, 0)


async def test_a_users_kind_is_bought_by_name_or_function_once_per_key(bench, kinds):
    @holdfast.job("thumbnail", price=7, lease=5)
    async def thumbnail(attempt):
        return {"wide": attempt.payload["wide"]}

    account = await bench.new_account()
    order = {"account_id": account, "key": "k", "payload": {"wide": 3}}
    bought = await holdfast.enqueue(bench.db, thumbnail, **order)
    again = await holdfast.enqueue(bench.db, "thumbnail", **order)
    assert (again.id, again.replayed, bought.price) == (bought.id, True, 7)
    with pytest.raises(JobKindUnknown):
        await holdfast.enqueue(bench.db, "no_such_kind", **order)
    with pytest.raises(ValueError, match="twice"):
        holdfast.job("thumbnail")(lambda attempt: None)
    await bench.worker({"thumbnail": thumbnail})
    assert (await bench.until(bought.id, "completed")).result == {"wide": 3}
    assert await bench.money(bought.id) == (1, 0)


async def test_charge_and_job_join_the_callers_transaction(bench, kinds, owner):
    holdfast.job("joined", price=7)(lambda attempt: None)
    await queue.declare_kind(bench.db, kinds["joined"].kind)
    account = await bench.new_account()
    order = {"account_id": account, "payload": {}}
    async with bench.db.transaction() as mine:
        kept = await holdfast.enqueue(mine, "joined", key="kept", **order)

    async def rolled_back():
        async with bench.db.transaction() as mine:
            await holdfast.enqueue(mine, "joined", key="gone", **order)
            await mine.execute("select 1 / 0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        await rolled_back()
    found = await queue.list_of(bench.db, owners=[account])
    assert [job.id for job in found] == [kept.id]
    assert (await ledger.wallet_of(bench.db, account_id=account)).balance == 93


async def test_a_kind_priced_by_use_settles_in_its_own_transaction(bench):
    async def measure(attempt):
        attempt.use(5)
        attempt.use(12)  # the last word counts
        async with attempt.db.transaction() as mine:
            await attempt.finish(mine, {"text": "measured"})

    await bench.worker({"measure": measure})
    account = await bench.new_account()
    job = await queue.reserve(
        bench.db, account_id=account, kind="measure", payload={}, estimate=40, key="k"
    )
    await bench.until(job.id, "completed")
    wallet = await ledger.wallet_of(bench.db, account_id=account)
    assert (wallet.balance, wallet.held) == (88, 0)


async def test_use_is_not_for_fixed_prices(bench):
    async def wrong(attempt):
        attempt.use(1)

    await bench.worker({"wrong": wrong}, {"attempts": 1})
    job = await bench.buy("wrong")
    assert (await bench.until(job, "failed")).error_code == "handler_failed"
    assert await bench.money(job) == (1, 1)


async def test_no_provider_makes_a_kind_rest_for_a_day(bench):
    async def write(attempt):
        raise OutOfService("provider_out_of_credit", 86_400)

    await bench.worker({"write": write})
    await bench.buy("write")
    rest = (
        "select paused_until - clock_timestamp() < '601 seconds' from queue.kind"
        " where kind = 'write' and paused_until is not null"
    )
    end = time.monotonic() + 10
    while (short := await bench.one(rest)) is None:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    assert short


async def test_a_hanging_thread_is_left_behind_at_its_deadline_with_a_refund(bench):
    go, asked = threading.Event(), []

    def hang(attempt):
        asked.append(attempt.id)
        go.wait(30)
        return {"text": "too late"}

    await bench.worker({"hang": hang}, {"deadline": 0.5, "attempts": 3})
    job = await bench.buy("hang")
    try:
        failed = await bench.until(job, "failed")
        await bench.stop()  # and it holds up nobody who wants to go
    finally:
        go.set()
    assert (failed.error_code, asked) == ("deadline_exceeded", [job])
    assert await bench.money(job) == (1, 1)
    assert (await bench.until(job, "failed")).result is None
