"""Lots burn in order, come back where they came from, and every credit has one cause."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from holdfast.errors import IdempotencyKeyReused
from holdfast.kernel import ledger
from holdfast.postgres.pool import Database
from holdfast.systems import accounts


@pytest.fixture
async def person(db: Database) -> UUID:
    return (await accounts.sign_in(db, kind="dev", subject="ann")).id


async def wallet(db, person) -> tuple[int, int]:
    found = await ledger.wallet_of(db, account_id=person)
    return found.balance, found.held


async def later(owner: psycopg.AsyncConnection, span: str) -> None:
    await owner.execute("update kernel.clock set shift = shift + %s::interval", [span])


async def lots_hold_together(owner: psycopg.AsyncConnection) -> bool:
    cursor = await owner.execute(
        "select w.balance = coalesce(sum(l.remaining), 0) and w.held = coalesce(sum(l.held), 0)"
        " from ledger.wallet w left join ledger.lot l on l.account_id = w.account_id"
        " group by w.account_id, w.balance, w.held"
    )
    return all(good for (good,) in await cursor.fetchall())


async def grant(db, person, amount, key, *, kind="promotional", hours=None) -> None:
    end = None if hours is None else datetime.now(UTC) + timedelta(hours=hours)
    await ledger.grant(db, account_id=person, amount=amount, key=key, kind=kind, expires_at=end)


async def test_a_refund_revives_what_it_gives_back_and_nothing_else(db, owner, person):
    """The lot ends between charge and refund, and no sweeper was there."""
    await grant(db, person, 50, "promo", hours=1)
    charged = await ledger.charge(db, account_id=person, amount=20, key="c")
    await later(owner, "2 hours")
    assert await ledger.refund(db, account_id=person, entry_id=charged.entry_id, reason="broken")
    assert await wallet(db, person) == (120, 0)  # the bonus and the 20; the 30 left had ended
    assert not await ledger.refund(db, account_id=person, entry_id=charged.entry_id, reason="x")
    await later(owner, "73 hours")  # the time of grace
    await ledger.sweep(db)
    assert await wallet(db, person) == (100, 0)
    assert await lots_hold_together(owner)


async def test_burning_order_is_priority_then_end_then_promotional_first(db, owner, person):
    await grant(db, person, 10, "late promo", hours=48)
    await grant(db, person, 10, "bought", kind="bought")
    await grant(db, person, 10, "soon promo", hours=1)
    await ledger.grant(db, account_id=person, amount=10, key="first", priority=-1)
    await ledger.charge(db, account_id=person, amount=25, key="c")
    query = "select cause, remaining from ledger.lot where kind <> 'welcome' order by cause"
    assert dict(await (await owner.execute(query)).fetchall()) == {
        "grant:key:first": 0, "grant:key:soon promo": 0,
        "grant:key:late promo": 5, "grant:key:bought": 10,
    }  # fmt: skip


async def test_a_grant_is_once_per_key_and_never_taken_for_the_bonus(db, person):
    await ledger.grant(db, account_id=person, amount=7, key="welcome")
    await ledger.grant(db, account_id=person, amount=7, key="welcome")
    assert await wallet(db, person) == (107, 0)
    with pytest.raises(IdempotencyKeyReused):
        await ledger.grant(db, account_id=person, amount=8, key="welcome")


async def test_an_adjustment_is_audited(db, owner, person):
    await ledger.adjust(
        db, account_id=person, amount=-30, reason="a mistake", key="k", actor="admin"
    )
    query = "select actor, action, new_value, reason from audit.event"
    assert await (await owner.execute(query)).fetchall() == [
        ("admin", "ledger.adjust", "-30", "a mistake")
    ]
