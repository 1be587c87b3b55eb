"""A batch charges its members as if each had asked alone, whatever lies in their wallets."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from holdfast.kernel import ledger, verify
from holdfast.kernel.ledger.verbs import CHARGE
from holdfast.kernel.prelude import new_id
from holdfast.postgres.combine import submit_many
from holdfast.postgres.pool import Database

PRICE = 30

Shape = Callable[[Database, UUID], Awaitable[None]]


async def _grant(db: Database, person: UUID, amount: int, hours: int | None = None) -> None:
    end = None if hours is None else datetime.now(UTC) + timedelta(hours=hours)
    await ledger.grant(
        db,
        account_id=person,
        amount=amount,
        key=f"{amount} for {hours}",
        expires_at=end,
        kind="promotional",
    )


async def _hold(db: Database, person: UUID, amount: int, hours: int) -> None:
    await ledger.hold(
        db, account_id=person, amount=amount, ttl=3600.0 * hours, cause="held", key="h"
    )


async def plenty(db: Database, person: UUID) -> None:
    await _grant(db, person, 100)


async def to_the_last(db: Database, person: UUID) -> None:
    await _grant(db, person, PRICE)


async def too_little(db: Database, person: UUID) -> None:
    await _grant(db, person, PRICE - 1)


async def ends_some_day(db: Database, person: UUID) -> None:
    await _grant(db, person, 100, hours=1000)


async def nothing(db: Database, person: UUID) -> None:
    pass


async def two_lots(db: Database, person: UUID) -> None:
    await _grant(db, person, PRICE - 10, hours=1000)
    await _grant(db, person, PRICE - 5)


async def has_ended(db: Database, person: UUID) -> None:
    await _grant(db, person, 100, hours=1)


async def holds_some(db: Database, person: UUID) -> None:
    await _grant(db, person, 100)
    await _hold(db, person, 100 - PRICE + 1, hours=1000)


async def hold_has_ended(db: Database, person: UUID) -> None:
    await _grant(db, person, 100)
    await _hold(db, person, 100 - PRICE + 1, hours=1)


PLAIN: list[Shape] = [plenty, to_the_last, too_little, ends_some_day]
OTHERS: list[Shape] = [nothing, two_lots, has_ended, holds_some, hold_has_ended]
POOR = {too_little, nothing, has_ended, holds_some}


async def _people(db: Database, owner: psycopg.AsyncConnection, shapes: list[Shape]) -> list[UUID]:
    """One person a shape, in no order of their ids."""
    people = [new_id(n * 37 % 256) for n, _ in enumerate(shapes)]
    people = people[1::2] + people[::2]
    for person, shape in zip(people, shapes, strict=True):
        await owner.execute(
            "insert into accounts.account (bucket, id) values (%s, %s)", [person.bytes[15], person]
        )
        await ledger.adjust(
            db, account_id=person, amount=-100, reason="no bonus", key="x", actor="admin"
        )
        await shape(db, person)
    return people


def _members(people: list[UUID]) -> list[dict]:
    return [
        {"accounts": p, "amounts": PRICE, "keys": "c", "causes": "work", "request_ids": "r"}
        for p in people
    ]


async def _left(owner: psycopg.AsyncConnection, person: UUID) -> list:
    """What can be seen of a person's money, without ids and times."""
    found = []
    for query in (
        "select balance, held, seq from ledger.wallet where account_id = %s",
        "select amount, remaining, held, open, life from ledger.lot where account_id = %s"
        " order by id",
        "select seq, kind, amount, balance_after, held_after, contra, request_id,"
        " (select array_agg(v::bigint order by v) from jsonb_each_text(lots) as x(k, v))"
        " from ledger.entry where account_id = %s order by seq",
    ):
        found.append(await (await owner.execute(query, [person])).fetchall())
    return found


def _said(row: dict) -> tuple:
    return row["code"], row["needed"], row["available"], row["replayed"]


@pytest.mark.parametrize(
    "shapes", [PLAIN, *([*PLAIN, other] for other in OTHERS), [*PLAIN, two_lots, nothing]]
)
async def test_a_batch_does_what_its_members_alone_would_have_done(db, owner, shapes):
    alone, together = [await _people(db, owner, shapes) for _ in range(2)]
    await owner.execute("update kernel.clock set shift = shift + '2 hours'::interval")
    async with db.connection() as connection:
        by_one = [
            (await submit_many(connection, CHARGE, [member]))[0] for member in _members(alone)
        ]
        at_once = await submit_many(connection, CHARGE, _members(together))
    assert [_said(row) for row in at_once] == [_said(row) for row in by_one]
    assert [row["code"] == "insufficient_tokens" for row in at_once] == [x in POOR for x in shapes]
    for one, other in zip(alone, together, strict=True):
        assert await _left(owner, other) == await _left(owner, one)
    assert not [found for found in await verify.run(db) if found.violations]


async def test_equal_members_share_one_charge_on_the_callers_own_connection(db, owner):
    """Where nobody stands behind the batch who would run its halves again."""
    [rich, other] = await _people(db, owner, [plenty, plenty])
    same, *_ = _members([rich])
    theirs = _members([other])[0] | {"keys": "c"}
    changed = same | {"amounts": PRICE + 1}
    async with db.transaction() as connection:
        rows = await submit_many(connection, CHARGE, [same, theirs, same, changed])
    assert [row["code"] for row in rows] == ["ok", "ok", "ok", "busy"]
    assert [row["replayed"] for row in rows] == [False, False, True, False]
    assert rows[0]["entry_id"] == rows[2]["entry_id"] != rows[1]["entry_id"]
    assert (await ledger.wallet_of(db, account_id=rich)).balance == 100 - PRICE
