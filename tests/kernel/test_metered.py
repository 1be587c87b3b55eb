"""Kinds priced by use: reserve the estimate, settle to the use, give the rest back."""

import asyncio
from uuid import UUID, uuid4

import pytest

from holdfast.errors import (
    BrokenPromise,
    CaptureExceedsHold,
    IdempotencyKeyReused,
    InsufficientTokens,
    LeaseLost,
    NotFound,
    UsageRequired,
)
from holdfast.kernel import ledger, queue
from holdfast.postgres.pool import Database
from holdfast.systems import accounts


@pytest.fixture
async def person(db: Database) -> UUID:
    await queue.declare_kind(db, queue.Kind("render", attempts=1))
    account = await accounts.sign_in(db, kind="dev", subject="ann")
    await ledger.grant(db, account_id=account.id, amount=400, key="g")
    return account.id


async def _reserve(db: Database, person: UUID, **more) -> queue.Submitted:
    given = {"payload": {}, "estimate": 75, "key": uuid4().hex} | more
    return await queue.reserve(db, account_id=person, kind="render", **given)


async def _claim(db: Database) -> queue.Lease:
    [lease] = await queue.claim(db, worker="worker:a", kinds=["render"], limit=1)
    assert lease.metered
    return lease


async def _wallet(db: Database, person: UUID) -> tuple[int, int]:
    wallet = await ledger.wallet_of(db, account_id=person)
    return wallet.balance, wallet.held


@pytest.mark.parametrize("used", [0, 30, 75], ids=["at nothing", "at less", "at all"])
async def test_settle(db, person, used):
    made = await _reserve(db, person)
    assert await _wallet(db, person) == (500, 75)
    lease = await _claim(db)
    ended = await queue.settle(db, job_id=made.id, token=lease.token, result={"n": 1}, used=used)
    assert ended.status == "completed"
    assert await _wallet(db, person) == (500 - used, 0)
    job = await queue.get(db, job_id=made.id, owners=[person])
    assert (job.price, job.charged, job.refunded, job.result) == (75, used, 0, {"n": 1})
    again = await queue.settle(db, job_id=made.id, token=lease.token, result={"n": 1}, used=used)
    assert again.status == "completed"
    assert await _wallet(db, person) == (500 - used, 0)


async def test_over_settling_is_refused_and_the_lease_kept(db, person):
    made = await _reserve(db, person)
    lease = await _claim(db)
    with pytest.raises(CaptureExceedsHold):
        await queue.settle(db, job_id=made.id, token=lease.token, result={}, used=76)
    assert await queue.heartbeat(db, [queue.Beat(made.id, lease.token)]) == ["ok"]
    await queue.settle(db, job_id=made.id, token=lease.token, result={}, used=75)


async def test_twenty_reserves_of_75_on_500_at_once_exactly_six(db, person):
    async def one() -> bool:
        try:
            await _reserve(db, person)
        except InsufficientTokens as refused:
            return refused.facts["available"] != 50
        return True

    assert sum(await asyncio.gather(*(one() for _ in range(20)))) == 6
    assert await _wallet(db, person) == (500, 450)


async def test_a_failing_job_gives_everything_back(db, person):
    made = await _reserve(db, person)
    lease = await _claim(db)
    await queue.fail(db, job_id=made.id, token=lease.token, code="x", permanent=True)
    assert await _wallet(db, person) == (500, 0)
    with pytest.raises(LeaseLost):
        await queue.settle(db, job_id=made.id, token=lease.token, result={"text": "late"}, used=9)
    assert await _wallet(db, person) == (500, 0)


async def test_cancel_and_the_sweeper_give_everything_back(db, owner, person):
    made = await _reserve(db, person)
    await queue.cancel(db, job_id=made.id, owners=[person], actor=str(person))
    assert await _wallet(db, person) == (500, 0)
    await _reserve(db, person)
    await _claim(db)
    await owner.execute("update kernel.clock set shift = '1 minute'")
    [swept] = await queue.sweep(db)
    assert swept.outcome == "failed"
    assert await _wallet(db, person) == (500, 0)


async def test_a_jobs_hold_is_the_jobs(db, owner, person):
    await _reserve(db, person)
    [hold] = await (await owner.execute("select id from ledger.hold")).fetchone()
    with pytest.raises(NotFound):
        await ledger.release(db, hold_id=hold, owners=[person])
    assert await _wallet(db, person) == (500, 75)


async def test_what_is_priced_by_use_is_not_finished_without_it(db, person):
    made = await _reserve(db, person)
    lease = await _claim(db)
    with pytest.raises(UsageRequired):
        await queue.finish(db, job_id=made.id, token=lease.token, result={})
    assert await _wallet(db, person) == (500, 75)


async def test_keys(db, person):
    made = await _reserve(db, person, key="k")
    again = await _reserve(db, person, key="k")
    assert (again.id, again.at, again.replayed) == (made.id, made.at, True)
    with pytest.raises(IdempotencyKeyReused):
        await _reserve(db, person, key="k", estimate=10)


async def test_a_retry_reserves_anew_and_charges_nothing(db, person):
    made = await _reserve(db, person, payload={"n": 1})
    await queue.cancel(db, job_id=made.id, owners=[person], actor=str(person))
    again = await queue.retry(db, job_id=made.id, owners=[person], account_id=person, key="r")
    assert await _wallet(db, person) == (500, 75)
    job = await queue.get(db, job_id=again.id, owners=[person])
    assert (job.retry_of, job.payload, job.price, job.charged) == (made.id, {"n": 1}, 75, 0)
    assert (await queue.retry(
        db, job_id=made.id, owners=[person], account_id=person, key="r"
    )).replayed  # fmt: skip
    lease = await _claim(db)
    await queue.settle(db, job_id=again.id, token=lease.token, result={}, used=9)
    assert await _wallet(db, person) == (491, 0)


async def test_who_is_stale_is_told_so_and_not_asked_what_was_used(db, owner, person):
    await queue.declare_kind(db, queue.Kind("render", attempts=2, backoff=0))
    made = await _reserve(db, person)
    stale = await _claim(db)
    await queue.fail(db, job_id=made.id, token=stale.token, code="x")
    await _claim(db)
    with pytest.raises(LeaseLost):
        await queue.finish(db, job_id=made.id, token=stale.token, result={"text": "late"})
    assert [one.name for one in await queue.artifacts(db, job_id=made.id, owners=[person])]
    assert await _wallet(db, person) == (500, 75)


async def test_a_handlers_own_transaction_settles_or_writes_nothing(db, person):
    made = await _reserve(db, person)
    lease = await _claim(db)
    for used, problem in ((None, "usage_required"), (76, "capture_exceeds_hold")):
        with pytest.raises(BrokenPromise, match=problem):
            async with db.transaction() as mine:
                await queue.finish_within(
                    mine, job_id=made.id, token=lease.token, result={}, used=used
                )
    async with db.transaction() as mine:
        await queue.finish_within(mine, job_id=made.id, token=lease.token, result={}, used=30)
    assert await _wallet(db, person) == (470, 0)


async def test_the_jobs_story_tells_what_was_held_taken_and_given_back(db, person):
    made = await _reserve(db, person)
    lease = await _claim(db)
    await queue.settle(db, job_id=made.id, token=lease.token, result={}, used=30)
    told = [(step.what, step.amount) for step in await queue.story(db, job_id=made.id)]
    money = {one for one in told if one[0].startswith("ledger.")}
    assert money == {("ledger.hold", 0), ("ledger.capture", -30), ("ledger.release", 0)}
