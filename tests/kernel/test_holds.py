"""Holds: reserve, then exactly one of capture, release and expiry."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from holdfast.errors import (
    CaptureExceedsHold,
    HoldFinished,
    IdempotencyKeyReused,
    InsufficientTokens,
    NotFound,
)
from holdfast.kernel import ledger
from holdfast.postgres.pool import Database
from holdfast.systems import accounts


@pytest.fixture
async def person(db: Database) -> UUID:
    account = await accounts.sign_in(db, kind="dev", subject="ann")
    await ledger.grant(db, account_id=account.id, amount=400, key="g")
    return account.id


async def _hold(
    db: Database, person: UUID, amount: int = 75, ttl: float = 60, **more
) -> ledger.Hold:
    given = {"cause": "render", "key": uuid4().hex} | more
    return await ledger.hold(db, account_id=person, amount=amount, ttl=ttl, **given)


async def _wallet(db: Database, person: UUID) -> tuple[int, int]:
    wallet = await ledger.wallet_of(db, account_id=person)
    return wallet.balance, wallet.held


async def _kinds(db: Database, person: UUID) -> list[tuple[str, int, int]]:
    entries = await ledger.transactions(db, account_id=person)
    return [(e.kind, e.amount, e.held_after) for e in reversed(entries)][2:]


async def test_capture_takes_part_and_gives_back_the_rest(db, person):
    hold = await _hold(db, person)
    assert (hold.status, await _wallet(db, person)) == ("OPEN", (500, 75))
    done = await ledger.capture(db, hold_id=hold.id, amount=30)
    assert (done.status, done.captured) == ("CAPTURED", 30)
    assert await _wallet(db, person) == (470, 0)
    assert await _kinds(db, person) == [
        ("hold", 0, 75),
        ("capture", -30, 45),
        ("release", 0, 0),
    ]


async def test_release_gives_all_back(db, person):
    hold = await _hold(db, person)
    assert (await ledger.release(db, hold_id=hold.id)).status == "RELEASED"
    assert await _wallet(db, person) == (500, 0)
    with pytest.raises(HoldFinished) as refused:
        await ledger.capture(db, hold_id=hold.id, amount=1)
    assert refused.value.facts["status"] == "RELEASED"


async def test_a_hold_ends_by_the_databases_time(db, owner, person):
    hold = await _hold(db, person, ttl=60)
    await owner.execute("update kernel.clock set shift = '61 seconds'")
    assert (await ledger.hold_of(db, hold_id=hold.id)).status == "EXPIRED"
    with pytest.raises(HoldFinished) as refused:
        await ledger.capture(db, hold_id=hold.id, amount=75)
    assert refused.value.facts["status"] == "EXPIRED"
    assert await _wallet(db, person) == (500, 0)


async def test_the_sweeper_tidies(db, owner, person):
    await _hold(db, person, ttl=60)
    assert await ledger.sweep(db) == 0
    await owner.execute("update kernel.clock set shift = '61 seconds'")
    assert await ledger.sweep(db) == 1
    assert await _wallet(db, person) == (500, 0)


async def test_twenty_holds_of_75_on_500_exactly_six(db, person):
    async def one() -> bool:
        try:
            await _hold(db, person)
        except InsufficientTokens:
            return False
        return True

    assert sum(await asyncio.gather(*(one() for _ in range(20)))) == 6
    assert await _wallet(db, person) == (500, 450)


async def test_what_is_held_cannot_be_charged(db, person):
    await _hold(db, person, amount=450)
    with pytest.raises(InsufficientTokens) as refused:
        await ledger.charge(db, account_id=person, amount=60, key="c")
    assert refused.value.facts["available"] == 50


async def test_more_than_was_held_is_not_captured(db, person):
    hold = await _hold(db, person)
    with pytest.raises(CaptureExceedsHold):
        await ledger.capture(db, hold_id=hold.id, amount=76)
    assert (await ledger.hold_of(db, hold_id=hold.id)).status == "OPEN"


async def test_keys(db, person):
    hold = await _hold(db, person, key="k")
    again = await _hold(db, person, key="k")
    assert (again.id, again.replayed) == (hold.id, True)
    with pytest.raises(IdempotencyKeyReused):
        await _hold(db, person, key="k", amount=10)
    await ledger.capture(db, hold_id=hold.id, amount=5, key="c")
    assert (await ledger.capture(db, hold_id=hold.id, amount=5, key="c")).replayed
    with pytest.raises(IdempotencyKeyReused):
        await ledger.capture(db, hold_id=hold.id, amount=6, key="c")
    with pytest.raises(HoldFinished):
        await ledger.capture(db, hold_id=hold.id, amount=5)
    assert await _wallet(db, person) == (495, 0)


async def test_somebody_elses_hold_is_not_there(db, person):
    hold = await _hold(db, person)
    for verb in (
        ledger.release(db, hold_id=hold.id, owners=[uuid4()]),
        ledger.capture(db, hold_id=hold.id, amount=1, owners=[uuid4()]),
        ledger.hold_of(db, hold_id=hold.id, owners=[uuid4()]),
    ):
        with pytest.raises(NotFound):
            await verb


@pytest.mark.parametrize("round_", range(10))
async def test_capture_and_expiry_at_the_same_instant_one_winner(db, owner, person, round_):
    hold = await _hold(db, person, ttl=60)
    await owner.execute("update kernel.clock set shift = '59.99 seconds'")

    async def capture() -> bool:
        try:
            await ledger.capture(db, hold_id=hold.id, amount=75)
        except HoldFinished:
            return False
        return True

    won, *_ = await asyncio.gather(capture(), *(ledger.sweep(db) for _ in range(5)))
    await owner.execute("update kernel.clock set shift = '70 seconds'")
    await ledger.sweep(db)
    assert await _wallet(db, person) == ((425, 0) if won else (500, 0))


async def test_two_ends_at_once_one_winner(db, person):
    hold = await _hold(db, person)

    async def end(verb) -> str:
        try:
            return (await verb).status
        except HoldFinished:
            return "refused"

    ends = await asyncio.gather(
        *(end(ledger.capture(db, hold_id=hold.id, amount=75)) for _ in range(5)),
        *(end(ledger.release(db, hold_id=hold.id)) for _ in range(5)),
    )
    assert ends.count("refused") == 9
    taken = 75 if "CAPTURED" in ends else 0
    assert await _wallet(db, person) == (500 - taken, 0)


async def test_reserved_credit_does_not_expire_until_it_is_given_back(db, owner, person):
    soon = datetime.now(UTC) + timedelta(seconds=30)
    await ledger.grant(
        db, account_id=person, amount=50, key="p", kind="promotional", expires_at=soon
    )
    hold = await _hold(db, person, amount=40, ttl=600)
    await owner.execute("update kernel.clock set shift = '1 minute'")
    await ledger.sweep(db)
    assert await _wallet(db, person) == (540, 40), "only the free 10 expired"
    await ledger.release(db, hold_id=hold.id)
    await ledger.sweep(db)
    assert await _wallet(db, person) == (500, 0)


async def test_a_refund_revives_an_expired_lot_for_the_grace_time(db, owner, person):
    soon = datetime.now(UTC) + timedelta(seconds=30)
    await ledger.grant(
        db, account_id=person, amount=50, key="p", kind="promotional", expires_at=soon
    )
    charged = await ledger.charge(db, account_id=person, amount=20, key="c")
    await owner.execute("update kernel.clock set shift = '1 minute'")
    assert await ledger.refund(db, account_id=person, entry_id=charged.entry_id, reason="sorry")
    assert not await ledger.refund(db, account_id=person, entry_id=charged.entry_id, reason="sorry")
    assert await _wallet(db, person) == (520, 0), "30 ended, 20 live again"
    await owner.execute("update kernel.clock set shift = '73 hours'")
    await ledger.sweep(db)
    assert await _wallet(db, person) == (500, 0)
