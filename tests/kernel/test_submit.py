"""Charge and job commit together, once per key, in batches of any size."""

import asyncio
from uuid import UUID, uuid4

import psycopg
import pytest

from holdfast.errors import IdempotencyKeyReused, InsufficientTokens, NotFound
from holdfast.kernel import ledger, queue
from holdfast.kernel.prelude import bucket_of, new_id
from holdfast.kernel.queue.jobs import SUBMIT
from holdfast.postgres.call import call
from holdfast.postgres.pool import Database
from holdfast.systems import accounts, stories


@pytest.fixture
async def person(db: Database) -> UUID:
    await queue.declare_kind(db, queue.Kind("story"))
    account = await accounts.sign_in(db, kind="dev", subject="ann")
    assert account.balance == 100
    return account.id


async def _count(owner: psycopg.AsyncConnection, query: str) -> int:
    row = await (await owner.execute(query)).fetchone()
    return int(row[0])


async def test_one_story_leaves_every_trace(db, owner, person):
    made = await stories.generate(db, account_id=person, prompt="a fox", key="k1")
    assert bucket_of(made.id) == bucket_of(person)
    assert (await ledger.wallet_of(db, account_id=person)).balance == 50
    job = await queue.get(db, job_id=made.id, owners=[person])
    assert (job.status, job.price, job.charged, job.refunded) == ("queued", 50, 50, 0)
    steps = [s.what for s in await queue.story(db, job_id=made.id)]
    assert sorted(steps) == ["ledger.charge", "stories.generate"]
    assert await _count(owner, "select count(*) from outbox.effect") == 1


async def test_same_key_same_job_other_payload_refused(db, person):
    first = await stories.generate(db, account_id=person, prompt="a fox", key="k1")
    again = await stories.generate(db, account_id=person, prompt="a fox", key="k1")
    assert again.id == first.id
    assert again.replayed
    assert not first.replayed
    assert again.at == first.at
    with pytest.raises(IdempotencyKeyReused):
        await stories.generate(db, account_id=person, prompt="a bear", key="k1")
    assert (await ledger.wallet_of(db, account_id=person)).balance == 50


async def test_who_passed_is_told_the_same_whether_all_passed_or_not(db, person, new_account):
    people = [person, await new_account(), await new_account()]

    async def ask(prices: list[int], key: str) -> list[tuple[object, ...]]:
        members = [
            {"accounts": who, "kinds": "story", "payloads": "{}", "prices": price, "keys": key,
             "retry_ofs": None, "request_ids": None}
            for who, price in zip(people, prices, strict=True)
        ]  # fmt: skip
        rows = await call(db, SUBMIT.sql, SUBMIT.arguments(members, wait=True))
        assert len({row["at"] for row in rows}) == 1
        for row, who in zip(rows, people, strict=True):
            assert (row["job_id"] is not None) == (row["code"] == "ok")
            assert row["job_id"] is None or bucket_of(row["job_id"]) == bucket_of(who)
        told = ("ord", "code", "price", "needed", "available", "replayed")
        return [tuple(row[name] for name in told) for row in rows]

    all_passed = [(n, "ok", price, price, 100, False) for n, price in ((1, 10), (2, 20), (3, 30))]
    assert await ask([10, 20, 30], "all") == all_passed
    assert await ask([15, 25, 500], "two") == [
        (1, "ok", 15, 15, 90, False),
        (2, "ok", 25, 25, 80, False),
        (3, "insufficient_tokens", 500, 500, 70, False),
    ]


async def test_a_replay_tells_the_price_that_was_paid(db, owner, person):
    await stories.generate(db, account_id=person, prompt="a fox", key="k1")
    await owner.execute("update kernel.setting set value = '70' where name = 'story_price'")
    again = await stories.generate(db, account_id=person, prompt="a fox", key="k1")
    assert (again.price, again.replayed) == (50, True)
    with pytest.raises(InsufficientTokens) as refused:
        await stories.generate(db, account_id=person, prompt="a fox", key="k2")
    assert refused.value.facts["needed"] == 70


async def test_a_refusal_burns_no_key(db, person):
    with pytest.raises(InsufficientTokens) as refused:
        await stories.generate(db, account_id=person, prompt="long", words=2000, key="k")
    assert refused.value.facts["needed"] == 200
    assert refused.value.facts["available"] == 100
    await ledger.grant(db, account_id=person, amount=100, key="bought")
    assert not (
        await stories.generate(db, account_id=person, prompt="long", words=2000, key="k")
    ).replayed


async def test_no_such_account(db, person):
    with pytest.raises(NotFound):
        await stories.generate(db, account_id=new_id(7), prompt="x", key="k")


async def test_sixty_four_at_once_with_one_key(combined, person):
    made = await asyncio.gather(
        *(
            stories.generate(combined, account_id=person, prompt="a fox", key="same")
            for _ in range(64)
        )
    )
    assert len({m.id for m in made}) == 1
    assert sum(m.replayed for m in made) == 63
    assert (await ledger.wallet_of(combined, account_id=person)).balance == 50


@pytest.mark.parametrize("handle", ["db", "combined"])
async def test_sixty_four_charges_of_ten_on_a_hundred(handle, db, combined, person):
    db = {"db": db, "combined": combined}[handle]

    async def charge(n: int) -> bool:
        try:
            await ledger.charge(db, account_id=person, amount=10, key=f"c{n}")
        except InsufficientTokens:
            return False
        return True

    passed = await asyncio.gather(*(charge(n) for n in range(64)))
    assert sum(passed) == 10
    assert (await ledger.wallet_of(db, account_id=person)).balance == 0


async def test_members_are_judged_in_order_one_by_one(db, person):
    """A refused member must not spoil a smaller one after it."""
    members = [
        {"account_id": person, "kind": "story", "payload": {}, "price": price, "key": f"k{i}"}
        for i, price in enumerate([60, 50, 30, 20, 10])
    ]
    outcomes = await queue.submit(db, members)
    assert [isinstance(o, queue.Submitted) for o in outcomes] == [True, False, True, False, True]
    assert (await ledger.wallet_of(db, account_id=person)).balance == 0


async def test_equal_keys_in_one_batch_are_one_charge(db, person):
    same = {"account_id": person, "kind": "story", "payload": {"a": 1}, "price": 20, "key": "k"}
    other = same | {"payload": {"a": 2}}
    outcomes = await queue.submit(db, [same, same, other, same])
    assert outcomes[0].id == outcomes[1].id == outcomes[3].id
    assert isinstance(outcomes[2], IdempotencyKeyReused)
    assert (await ledger.wallet_of(db, account_id=person)).balance == 80


async def test_a_batch_with_a_poison_member_and_a_locked_one(combined, db, owner_url, person):
    """499 unharmed and not delayed: the poison fails alone, the locked one waits alone."""
    people = [(await accounts.sign_in(db, kind="dev", subject=f"p{n}")).id for n in range(24)] + [
        person
    ]
    locked = people[0]
    async with await psycopg.AsyncConnection.connect(owner_url) as blocker:
        await blocker.execute(
            "select 1 from ledger.wallet where account_id = %s for update", [locked]
        )
        tasks = {
            n: asyncio.create_task(
                ledger.charge(
                    combined,
                    account_id=people[n % 25] if n else locked,
                    amount=1,
                    key=f"k{n}",
                    cause="x\x00" if n == 7 else None,
                )
            )
            for n in range(500)
            if n % 25 or n == 0
        }
        waiting = tasks.pop(0)
        results = await asyncio.wait_for(
            asyncio.gather(*tasks.values(), return_exceptions=True), timeout=20
        )
        failures = [r for r in results if isinstance(r, BaseException)]
        assert len(failures) == 1
        assert not waiting.done()
        await blocker.rollback()
    assert not (await waiting).replayed


async def test_lots_burn_by_priority_then_end_then_kind(db, owner, person):
    from datetime import UTC, datetime, timedelta

    soon = datetime.now(UTC) + timedelta(days=1)
    late = datetime.now(UTC) + timedelta(days=9)
    for key, kind, priority, end in [
        ("a", "bought", 1, None),
        ("b", "promotional", 0, late),
        ("c", "promotional", 0, soon),
        ("d", "bought", 0, None),
    ]:
        await ledger.grant(
            db, account_id=person, amount=10, key=key, kind=kind, priority=priority, expires_at=end
        )
    await ledger.charge(db, account_id=person, amount=25, key=str(uuid4()))
    rows = await (
        await owner.execute(
            "select cause, remaining from ledger.lot where account_id = %s", [person]
        )
    ).fetchall()
    left = dict(rows)
    assert left["grant:key:c"] == 0
    assert left["grant:key:b"] == 0
    assert left["grant:welcome"] == 95
    assert left["grant:key:d"] == left["grant:key:a"] == 10


async def test_expired_credit_is_not_spendable_and_is_an_entry(db, owner, person):
    from datetime import UTC, datetime, timedelta

    past = datetime.now(UTC) + timedelta(seconds=60)
    await ledger.grant(
        db, account_id=person, amount=50, key="promo", kind="promotional", expires_at=past
    )
    await owner.execute("update kernel.clock set shift = '2 minutes'")
    with pytest.raises(InsufficientTokens) as refused:
        await ledger.charge(db, account_id=person, amount=120, key="c")
    assert refused.value.facts["available"] == 100
    await ledger.charge(db, account_id=person, amount=100, key="c2")
    kinds = [(e.kind, e.amount) for e in await ledger.transactions(db, account_id=person)]
    assert kinds == [("charge", -100), ("expiry", -50), ("grant", 50), ("grant", 100)]
