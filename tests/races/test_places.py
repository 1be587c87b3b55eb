"""A locked row is written by its place: also when it moved while somebody waited for its lock."""

import asyncio
from uuid import UUID

import psycopg
import pytest

from holdfast.kernel import ledger, queue, verify
from holdfast.postgres.pool import Database
from holdfast.systems import stories
from processes import somebody_waits, until


@pytest.fixture
async def person(db: Database, new_account) -> UUID:
    await queue.declare_kind(db, queue.Kind("story", lease=60))
    return await new_account()


async def _one(owner: psycopg.AsyncConnection, statement: str, *arguments: object) -> object:
    row = await (await owner.execute(statement, arguments)).fetchone()
    return row and row[0]


async def _claimed(db: Database, person: UUID) -> queue.Lease:
    await stories.generate(db, account_id=person, prompt="a fox", key="k")
    [lease] = await queue.claim(db, worker="worker:a", kinds=["story"], limit=1)
    return lease


async def _nothing_is_wrong(db: Database) -> None:
    assert not [found for found in await verify.run(db) if found.violations]


async def test_a_finish_that_waits_for_a_heartbeat_finishes_the_row_where_it_is_then(
    db, app_url, owner, person
):
    lease = await _claimed(db, person)
    place = "select ctid::text from queue.job_ready where id = %s"
    before = await _one(owner, place, lease.id)
    async with await psycopg.AsyncConnection.connect(app_url) as other:
        assert await queue.heartbeat(other, [queue.Beat(lease.id, lease.token)]) == ["ok"]
        inside = await (await other.execute(place, [lease.id])).fetchone()
        assert inside != (before,), "the row has moved"
        late = asyncio.create_task(
            queue.finish(db, job_id=lease.id, token=lease.token, result={"text": "x"})
        )
        await until(lambda: somebody_waits(owner), what="the finish waits")
        await other.commit()
    assert (await late).status == "completed"
    assert await _one(owner, "select count(*) from queue.job_ready where id = %s", lease.id) == 0
    await _nothing_is_wrong(db)


async def test_a_charge_that_waits_for_another_charges_what_is_left_then(
    db, app_url, owner, person
):
    async with await psycopg.AsyncConnection.connect(app_url) as other:
        await ledger.charge(other, account_id=person, amount=30, key="first")
        late = asyncio.create_task(ledger.charge(db, account_id=person, amount=60, key="second"))
        await until(lambda: somebody_waits(owner), what="the charge waits")
        await other.commit()
    await late
    assert (await ledger.wallet_of(db, account_id=person)).balance == 10
    await _nothing_is_wrong(db)


async def test_a_claim_passes_over_what_moves_and_finds_it_afterwards(db, owner, owner_url, person):
    made = await stories.generate(db, account_id=person, prompt="a fox", key="k")
    async with await psycopg.AsyncConnection.connect(owner_url) as other:
        await other.execute("update queue.job_ready set priority = 1 where id = %s", [made.id])
        assert await queue.claim(db, worker="worker:a", kinds=["story"], limit=5) == []
        await other.commit()
    [lease] = await queue.claim(db, worker="worker:a", kinds=["story"], limit=5)
    assert (lease.id, lease.priority) == (made.id, 1)
    await queue.finish(db, job_id=lease.id, token=lease.token, result={"text": "x"})
    await _nothing_is_wrong(db)
