"""A lost lease writes nothing; a failing end and its refund are one; two never both win."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import psycopg
import pytest

from holdfast.errors import JobFinished, LeaseLost, NotFound
from holdfast.kernel import ledger, queue
from holdfast.postgres.pool import Database
from holdfast.systems import accounts, stories

Shift = Callable[[str], Awaitable[None]]


@pytest.fixture
async def person(db: Database) -> UUID:
    await queue.declare_kind(db, queue.Kind("story", backoff=0.0))
    return (await accounts.sign_in(db, kind="dev", subject="ann")).id


@pytest.fixture
def shift(owner: psycopg.AsyncConnection) -> Shift:
    async def by(interval: str) -> None:
        await owner.execute("update kernel.clock set shift = shift + %s::interval", [interval])

    return by


async def _queued(db: Database, person: UUID, words: int = 100) -> UUID:
    made = await stories.generate(
        db, account_id=person, prompt="a fox", words=words, key=uuid4().hex
    )
    return made.id


async def _claim(
    db: Database, limit: int = 1, worker: str = "worker:a", **more
) -> list[queue.Lease]:
    return await queue.claim(db, worker=worker, kinds=["story"], limit=limit, **more)


async def _money(db: Database, person: UUID) -> list[tuple[str, int]]:
    entries = await ledger.transactions(db, account_id=person)
    return [(e.kind, e.amount) for e in reversed(entries)][1:]


async def test_normal_one_charge_no_refund(db, person):
    job = await _queued(db, person)
    [lease] = await _claim(db)
    assert (lease.id, lease.attempt) == (job, 1)
    assert await _claim(db) == []
    ended = await queue.finish(db, job_id=job, token=lease.token, result={"text": "once"})
    assert ended.status == "completed"
    again = await queue.finish(db, job_id=job, token=lease.token, result={"text": "once"})
    assert again.status == "completed"
    seen = await queue.get(db, job_id=job, owners=[person])
    assert (seen.status, seen.result, seen.refunded) == ("completed", {"text": "once"}, 0)
    assert await _money(db, person) == [("charge", -50)]


async def test_failing_attempts_then_one_refund(db, person):
    job = await _queued(db, person)
    for attempt in (1, 2, 3):
        [lease] = await _claim(db)
        assert lease.attempt == attempt
        ended = await queue.fail(db, job_id=job, token=lease.token, code="provider_overloaded")
    assert (ended.status, ended.refunded) == ("failed", 50)
    again = await queue.fail(db, job_id=job, token=lease.token, code="provider_overloaded")
    assert (again.status, again.refunded) == ("failed", 50)
    assert await _money(db, person) == [("charge", -50), ("refund", 50)]
    assert await _claim(db) == []


async def test_permanent_is_not_tried_again(db, person):
    job = await _queued(db, person)
    [lease] = await _claim(db)
    ended = await queue.fail(
        db, job_id=job, token=lease.token, code="story_refused", permanent=True
    )
    assert (ended.status, ended.refunded) == ("failed", 50)


async def test_late_completion_after_the_refund_is_refused(db, owner, person, shift):
    job = await _queued(db, person)
    [stalled] = await _claim(db, worker="worker:stalled")
    await shift("31 seconds")
    assert [s.outcome for s in await queue.sweep(db)] == ["requeued"]
    [other] = await _claim(db, worker="worker:other")
    await queue.fail(db, job_id=job, token=other.token, code="story_refused", permanent=True)
    with pytest.raises(LeaseLost) as refused:
        await queue.finish(db, job_id=job, token=stalled.token, result={"text": "too late"})
    assert refused.value.facts["status"] == "failed"
    seen = await queue.get(db, job_id=job, owners=[person])
    assert (seen.status, seen.result) == ("failed", None)
    assert await _money(db, person) == [("charge", -50), ("refund", 50)]
    kept = await (
        await owner.execute("select late, convert_from(data, 'UTF8') from queue.artifact")
    ).fetchall()
    assert kept == [(True, "too late")]


async def test_the_reverse_order_is_one_charge_and_the_story(db, person, shift):
    job = await _queued(db, person)
    [stalled] = await _claim(db, worker="worker:stalled")
    await shift("31 seconds")
    await queue.sweep(db)
    [other] = await _claim(db, worker="worker:other")
    await queue.finish(db, job_id=job, token=other.token, result={"text": "delivered"})
    with pytest.raises(LeaseLost):
        await queue.fail(db, job_id=job, token=stalled.token, code="cut", permanent=True)
    seen = await queue.get(db, job_id=job, owners=[person])
    assert seen.result == {"text": "delivered"}
    assert await _money(db, person) == [("charge", -50)]


async def test_a_late_heartbeat_changes_nothing(db, person, shift):
    job = await _queued(db, person)
    [stalled] = await _claim(db)
    await shift("31 seconds")
    await queue.sweep(db)
    assert await queue.heartbeat(db, [queue.Beat(job, stalled.token, {"done": 9})]) == [
        "lease_lost"
    ]
    [other] = await _claim(db)
    assert await queue.heartbeat(
        db,
        [
            queue.Beat(job, stalled.token, {"done": 9}, "zombie"),
            queue.Beat(job, other.token, {"done": 1}, "Once "),
        ],
    ) == ["lease_lost", "ok"]
    [now] = await queue.watch(db, {job: 0})
    assert (now.progress, now.chunk) == ({"done": 1}, "Once ")


async def test_heartbeats_keep_the_lease_until_the_deadline(db, person, shift):
    job = await _queued(db, person)
    [lease] = await _claim(db)
    for _ in range(5):
        await shift("20 seconds")
        assert await queue.sweep(db) == []
        assert await queue.heartbeat(db, [queue.Beat(job, lease.token)]) == ["ok"]
    await shift("1 hour")
    assert await queue.heartbeat(db, [queue.Beat(job, lease.token)]) == ["deadline_exceeded"]
    [swept] = await queue.sweep(db)
    assert (swept.outcome, swept.refunded) == ("failed", 50)


async def test_stalled_every_time_is_one_refund(db, person, shift):
    await _queued(db, person)
    outcomes = []
    for _ in range(3):
        assert len(await _claim(db)) == 1
        await shift("31 seconds")
        outcomes += [(s.outcome, s.refunded) for s in await queue.sweep(db)]
        await shift("11 minutes")
    assert outcomes == [("requeued", 0), ("requeued", 0), ("failed", 50)]
    assert await _money(db, person) == [("charge", -50), ("refund", 50)]


async def test_a_job_nobody_takes_expires_with_its_refund(db, person, shift):
    await _queued(db, person)
    await shift("24 hours 1 second")
    assert await _claim(db) == []
    [swept] = await queue.sweep(db)
    assert (swept.outcome, swept.refunded) == ("expired", 50)
    assert await _money(db, person) == [("charge", -50), ("refund", 50)]


async def test_sweeper_and_finish_at_once_exactly_one_wins(db, owner, person, shift):
    """Twenty expired leases: finish and sweep race for each; money agrees with the winner."""
    await ledger.grant(db, account_id=person, amount=2000, key="g")
    jobs = [await _queued(db, person) for _ in range(20)]
    await owner.execute("update queue.job set attempts = 1")
    leases = await _claim(db, limit=20)
    await shift("31 seconds")

    async def finish(lease: queue.Lease) -> bool:
        try:
            await queue.finish(db, job_id=lease.id, token=lease.token, result={"text": "x"})
        except LeaseLost:
            return False
        return True

    *wins, _, _ = await asyncio.gather(
        *(finish(lease) for lease in leases), queue.sweep(db, limit=9), queue.sweep(db, limit=9)
    )
    for lease, won in zip(leases, wins, strict=True):
        job = await queue.get(db, job_id=lease.id, owners=None)
        assert (job.status, job.refunded) == (("completed", 0) if won else ("failed", 50))
    balance = (await ledger.wallet_of(db, account_id=person)).balance
    assert balance == 2100 - 50 * sum(wins)
    assert len(jobs) == 20


async def test_cancel_waiting_and_running(db, person):
    waiting, running = await _queued(db, person), await _queued(db, person)
    [lease] = await _claim(db)
    assert lease.id == waiting
    for job in (running, waiting):
        ended = await queue.cancel(db, job_id=job, owners=[person], actor=str(person))
        assert (ended.status, ended.refunded) == ("cancelled", 50)
        again = await queue.cancel(db, job_id=job, owners=[person], actor=str(person))
        assert again.status == "cancelled"
    with pytest.raises(LeaseLost):
        await queue.finish(db, job_id=waiting, token=lease.token, result={"text": "late"})
    assert (await ledger.wallet_of(db, account_id=person)).balance == 100
    with pytest.raises(NotFound):
        await queue.cancel(db, job_id=waiting, owners=[uuid4()], actor="x")


async def test_a_finished_job_is_not_cancelled(db, person):
    job = await _queued(db, person)
    [lease] = await _claim(db)
    await queue.finish(db, job_id=job, token=lease.token, result={"text": "x"})
    with pytest.raises(JobFinished):
        await queue.cancel(db, job_id=job, owners=[person], actor=str(person))


async def test_hand_back_counts_no_attempt(db, person):
    job = await _queued(db, person)
    [first] = await _claim(db)
    assert await queue.hand_back(db, [first]) == ["ok"]
    [second] = await _claim(db)
    assert (second.id, second.attempt) == (job, 1)
    assert second.token != first.token
    assert await queue.hand_back(db, [first]) == ["lease_lost"]


async def test_a_provider_out_of_service_pauses_its_kind(db, person, shift):
    jobs = [await _queued(db, person), await _queued(db, person)]
    leases = await _claim(db, limit=2)
    alerts = [
        (await queue.pause(db, job_id=x.id, token=x.token, seconds=60, reason="no credit"))[0]
        for x in leases
    ]
    assert alerts == [True, False]
    assert await _claim(db, limit=2) == []
    await shift("61 seconds")
    probe = await _claim(db, limit=2)
    assert len(probe) == 1, "one job tries the provider"
    assert probe[0].attempt == 1
    assert await _claim(db, limit=2) == []
    await queue.finish(db, job_id=probe[0].id, token=probe[0].token, result={"text": "back"})
    assert len(await _claim(db, limit=2)) == 1
    assert await _money(db, person) == [("charge", -50), ("charge", -50)]
    assert {x.id for x in leases} == set(jobs)


async def test_claims_do_not_overlap(db, person):
    await ledger.grant(db, account_id=person, amount=100_000, key="g")
    members = [
        {"account_id": person, "kind": "story", "payload": {}, "price": 1, "key": f"k{n}"}
        for n in range(400)
    ]
    await queue.submit(db, members)
    marks = [queue.LowWater() for _ in range(8)]

    async def drain(mark: queue.LowWater) -> list[UUID]:
        got: list[UUID] = []
        while True:
            leases = await _claim(db, limit=7, low_water=mark)
            if not leases:
                if not mark.keys:
                    return got
                mark.reset()
            got += [lease.id for lease in leases]

    taken = [job for part in await asyncio.gather(*map(drain, marks)) for job in part]
    assert len(taken) == len(set(taken)) == 400
