"""Capture against expiry, every order of lock and commit forced: one winner, the other is told."""

import asyncio
from uuid import UUID

import psycopg
import pytest

from holdfast.errors import HoldFinished
from holdfast.kernel import ledger
from holdfast.postgres.pool import Database
from processes import somebody_waits, until


@pytest.fixture
async def hold(db: Database, new_account) -> tuple[UUID, UUID]:
    account = await new_account()
    made = await ledger.hold(
        db, account_id=account, amount=75, ttl=60, cause="picture", key="picture"
    )
    return account, made.id


async def _wallet(db: Database, account: UUID) -> tuple[int, int]:
    wallet = await ledger.wallet_of(db, account_id=account)
    return wallet.balance, wallet.held


async def test_a_capture_that_waits_past_the_end_finds_the_hold_expired(db, owner, owner_url, hold):
    account, made = hold
    async with await psycopg.AsyncConnection.connect(owner_url) as other:
        await other.execute("select from ledger.wallet for update")
        late = asyncio.create_task(ledger.capture(db, hold_id=made, amount=75))
        await until(lambda: somebody_waits(owner), what="the capture waits")
        await owner.execute("update kernel.clock set shift = '61 seconds'")
        await other.rollback()
    with pytest.raises(HoldFinished) as refused:
        await late
    assert refused.value.facts["status"] == "EXPIRED"
    assert await _wallet(db, account) == (100, 0)


async def test_an_expiry_that_waits_for_a_capture_finds_it_captured(
    db, app_url, owner, owner_url, hold
):
    account, made = hold
    async with await psycopg.AsyncConnection.connect(app_url) as other:
        await ledger.capture(other, hold_id=made, amount=75)
        await owner.execute("update kernel.clock set shift = '61 seconds'")
        assert await ledger.sweep(db) == 0, "the sweeper waits for nobody"
        expiring = asyncio.create_task(ledger.charge(db, account_id=account, amount=5, key="c"))
        await until(lambda: somebody_waits(owner), what="the verb that expires what is due waits")
        await other.commit()
    await expiring
    assert (await ledger.hold_of(db, hold_id=made)).status == "CAPTURED"
    assert await _wallet(db, account) == (20, 0)


async def test_a_capture_that_is_rolled_back_past_the_end_leaves_it_to_expire(
    db, app_url, owner, hold
):
    account, made = hold
    async with await psycopg.AsyncConnection.connect(app_url) as other:
        await ledger.capture(other, hold_id=made, amount=75)
        await owner.execute("update kernel.clock set shift = '61 seconds'")
        await other.rollback()
    assert await ledger.sweep(db) == 1
    with pytest.raises(HoldFinished):
        await ledger.capture(db, hold_id=made, amount=75)
    assert await _wallet(db, account) == (100, 0)
