"""A device's account and a person's become one: nothing is lost, nothing comes twice."""

import asyncio
import signal
import sys
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from holdfast.errors import (
    DeviceLinked,
    HoldfastError,
    LinkSecretInvalid,
    LinkTaken,
    NotFound,
)
from holdfast.kernel import ledger, queue
from holdfast.kernel.queue import Kind
from holdfast.postgres.pool import Database
from holdfast.systems import accounts
from holdfast.systems.accounts import Linked

SECRET = "s" * 40
WHO = {"kind": "clerk", "subject": "user_1"}


async def device(db, name="device-0001") -> UUID:
    return (await accounts.sign_in(db, kind="device", subject=name, secret=SECRET)).id


async def person(db, subject="user_1") -> UUID:
    return (await accounts.sign_in(db, kind="clerk", subject=subject)).id


async def link(db, subject="user_1", name="device-0001", **more) -> Linked:
    return await accounts.link(
        db, kind="clerk", subject=subject, device_id=name, secret=SECRET, **more
    )


async def wallet(db, account) -> tuple[int, int]:
    found = await ledger.wallet_of(db, account_id=account)
    return found.balance, found.held


async def forwarded(db: Database) -> int:
    """What the relay does with the effects that ask for it."""
    moved = 0
    rows = await asyncio.gather(*[ledger.forward(db, account_id=a) for a in await asked(db)])
    return moved + sum(rows)


async def asked(db: Database) -> list[UUID]:
    async with db.connection() as connection:
        cursor = await connection.execute(
            "select distinct (payload ->> 'account')::uuid from outbox.effect"
            " where topic = 'ledger.forward'"
        )
        return [account for (account,) in await cursor.fetchall()]


async def sound(owner: psycopg.AsyncConnection) -> bool:
    """Lots and holds add up to wallets, entries too, and all transfers cancel out."""
    cursor = await owner.execute(
        "select bool_and(w.balance = l.remaining and w.held = l.held and w.balance = e.amount"
        " and w.held = h.amount) from ledger.wallet w,"
        " lateral (select coalesce(sum(remaining), 0) remaining, coalesce(sum(held), 0) held"
        "   from ledger.lot x where x.account_id = w.account_id) l,"
        " lateral (select coalesce(sum(amount), 0) amount from ledger.entry x"
        "   where x.account_id = w.account_id) e,"
        " lateral (select coalesce(sum(amount), 0) amount from ledger.hold x"
        "   where x.account_id = w.account_id and status = 'OPEN') h"
    )
    transfers = await owner.execute(
        "select coalesce(sum(amount), 0) = 0 from ledger.entry where kind = 'transfer'"
    )
    return bool((await cursor.fetchone())[0] and (await transfers.fetchone())[0])


async def test_to_an_identity_without_an_account_the_device_becomes_it(db, owner):
    own = await device(db)
    await ledger.grant(db, account_id=own, amount=50, key="bought")
    made = await link(db)
    assert (made.account_id, made.bonus_kept, made.moved.tokens) == (own, True, 0)
    found = await accounts.sign_in(db, **WHO)
    assert (found.id, found.created, found.balance) == (own, False, 150)
    with pytest.raises(DeviceLinked):
        await device(db)
    assert await link(db) == made  # repeating it changes nothing
    assert await sound(owner)


async def test_to_one_that_has_an_account_the_device_becomes_an_alias(db, owner):
    survivor, loser = await person(db), await device(db)
    await ledger.grant(db, account_id=loser, amount=50, key="bought")
    dry = await link(db, dry_run=True)
    assert await wallet(db, loser) == (150, 0)  # so far nothing was done
    made = await link(db)
    assert dry == made
    assert (made.account_id, made.moved.tokens, made.bonus_kept) == (survivor, 50, False)
    assert await wallet(db, survivor) == (150, 0)
    assert await wallet(db, loser) == (0, 0)
    found = await accounts.sign_in(db, **WHO)
    assert found.family == (survivor, loser)
    again = await link(db)
    assert (again.moved.tokens, again.account_id) == (0, survivor)
    assert await wallet(db, survivor) == (150, 0)
    with pytest.raises(DeviceLinked):
        await device(db)
    kinds = [e.kind for e in await ledger.transactions(db, account_id=survivor)]
    assert kinds == ["transfer", "grant"]
    assert await sound(owner)


async def test_the_clawback_is_limited_to_what_is_unspent(db, owner):
    survivor, loser = await person(db), await device(db)
    await ledger.charge(db, account_id=loser, amount=70, key="c")
    await link(db)
    assert await wallet(db, survivor) == (100, 0)
    found = await ledger.transactions(db, account_id=loser)
    assert (found[0].cause, found[0].amount) == ("clawback:welcome", -30)
    assert await sound(owner)


async def test_a_bonus_survives_where_there_was_none(db, owner):
    """The person's own bonus was never paid: the device's goes along, and none is paid later."""
    loser = await device(db)
    setting = "update kernel.setting set value = %s where name = 'welcome_bonus'"
    await owner.execute(setting, ["0"])
    survivor = await person(db)
    await owner.execute(setting, ["100"])
    made = await link(db)
    assert made.bonus_kept
    assert await wallet(db, survivor) == (100, 0)
    assert await wallet(db, loser) == (0, 0)
    assert (await accounts.sign_in(db, **WHO)).balance == 100


async def test_promotional_credit_keeps_its_end(db, owner):
    await person(db)
    loser = await device(db)
    end = datetime.now(UTC) + timedelta(hours=1)
    await ledger.grant(
        db, account_id=loser, amount=9, key="p", kind="promotional", expires_at=end, priority=3
    )
    await link(db)
    query = (
        "select kind, priority, expires_at, remaining from ledger.lot where priority = 3 and open"
    )
    assert await (await owner.execute(query)).fetchall() == [("promotional", 3, end, 9)]


async def test_wrong_secrets_unknown_devices_and_other_people(db):
    await person(db)
    with pytest.raises(NotFound):
        await link(db)
    await device(db)
    with pytest.raises(LinkSecretInvalid):
        await accounts.link(db, **WHO, device_id="device-0001", secret="t" * 40)
    await link(db)
    await person(db, "user_2")
    for subject in ("user_2", "user_3"):
        with pytest.raises(LinkTaken):
            await link(db, subject=subject)


async def test_live_holds_stay_and_settle_where_they_are(db, owner):
    survivor, loser = await person(db), await device(db)
    await ledger.grant(db, account_id=loser, amount=50, key="bought")
    taken = await ledger.hold(db, account_id=loser, amount=120, ttl=60, cause="x", key="h")
    made = await link(db)
    assert made.moved.holds == 1
    assert made.moved.tokens == 30  # the 50 bought without the 20 that are held
    assert await wallet(db, loser) == (120, 120)
    family = (await accounts.sign_in(db, **WHO)).family
    await ledger.capture(db, hold_id=taken.id, amount=90, owners=family)
    assert await wallet(db, loser) == (30, 0)
    assert await forwarded(db) == 30
    assert await wallet(db, survivor) == (160, 0)
    assert await sound(owner)


async def test_a_dry_run_counts_what_has_ended_and_nobody_swept(db, owner):
    await person(db)
    loser = await device(db)
    await ledger.grant(db, account_id=loser, amount=50, key="bought")
    await ledger.hold(db, account_id=loser, amount=120, ttl=60, cause="x", key="h")
    assert (await link(db, dry_run=True)).moved.tokens == 30
    await owner.execute("update kernel.clock set shift = interval '2 minutes'")
    assert (await link(db, dry_run=True)).moved.tokens == 50  # the hold has run out
    assert (await link(db)).moved.tokens == 50
    assert await sound(owner)


async def test_a_job_that_fails_after_the_link_refunds_the_survivor_once(db, owner):
    await queue.declare_kind(db, Kind("test", attempts=1))
    survivor, loser = await person(db), await device(db)
    job = {"account_id": loser, "kind": "test", "payload": {}, "price": 60, "key": "k"}
    await queue.submit(db, [job])
    (lease,) = await queue.claim(db, worker="w", kinds=["test"], limit=1)
    assert (await link(db)).moved.jobs == 1
    await queue.fail(
        db, job_id=lease.id, token=lease.token, code="broken", detail="x", permanent=True
    )
    assert await wallet(db, loser) == (60, 0)
    assert await forwarded(db) == 60
    assert await forwarded(db) == 0  # delivered twice, as after a relay that died
    assert await wallet(db, survivor) == (160, 0)
    assert await wallet(db, loser) == (0, 0)
    assert await sound(owner)


DIES = """
import asyncio, os, signal, sys
from uuid import UUID
from holdfast.kernel import ledger, queue
from holdfast.postgres.pool import Database

async def main(url, account, job, token):
    async with await Database.open(url) as db:
        if job:  # after the refund, before anybody forwarded it
            await queue.fail(db, job_id=UUID(job), token=UUID(token), code="x", permanent=True)
            os.kill(os.getpid(), signal.SIGKILL)
        async with db.transaction() as connection:  # while it is being forwarded
            assert await ledger.forward(connection, account_id=UUID(account)) == 60
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
"""


async def killed(app_url, *arguments) -> None:
    """Run a process that ends itself by SIGKILL at the worst moment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIES, app_url, *map(str, arguments)
    )
    assert await process.wait() == -signal.SIGKILL


async def test_a_kill_between_refund_and_forwarding_loses_and_doubles_nothing(app_url, db, owner):
    await queue.declare_kind(db, Kind("test", attempts=1))
    survivor, loser = await person(db), await device(db)
    job = {"account_id": loser, "kind": "test", "payload": {}, "price": 60, "key": "k"}
    await queue.submit(db, [job])
    (lease,) = await queue.claim(db, worker="w", kinds=["test"], limit=1)
    await link(db)
    await killed(app_url, loser, lease.id, lease.token)
    assert await wallet(db, loser) == (60, 0)  # refunded, and the effect stands beside it
    await killed(app_url, loser, "", "")
    assert await asked(db) == [loser]
    assert await forwarded(db) == 60
    assert await forwarded(db) == 0
    assert await wallet(db, survivor) == (160, 0)
    assert await sound(owner)


async def test_a_chain_of_aliases_leads_to_its_end(db, owner):
    """A is linked to B, then B to C, with something in flight at A."""
    a, c = await device(db, "device-000a"), await person(db, "user_c")
    b = await person(db, "user_b")
    hold = await ledger.hold(db, account_id=a, amount=40, ttl=60, cause="x", key="h")
    await link(db, "user_b", "device-000a")
    await owner.execute("select * from accounts._merge(%s, %s, false, null)", [b, c])
    found = await accounts.sign_in(db, kind="clerk", subject="user_b")
    assert (found.id, set(found.family)) == (c, {a, b, c})
    await ledger.release(db, hold_id=hold.id, owners=found.family)
    assert await forwarded(db) == 40
    assert await wallet(db, c) == (140, 0)
    assert await wallet(db, a) == await wallet(db, b) == (0, 0)
    query = "select count(*) from accounts.account x join accounts.account y on x.alias_of = y.id"
    assert await (await owner.execute(query + " where y.alias_of is not null")).fetchone() == (0,)
    assert await sound(owner)


async def both_ways(db, owner) -> tuple[UUID, UUID]:
    """Two accounts, each a person's and each with a device that is not linked yet."""
    made = []
    for name in ("a", "b"):
        account = await person(db, f"user_{name}")
        proof = accounts.device_proof(f"device-000{name}", SECRET)
        await owner.execute(
            "insert into accounts.identity (bucket, kind, subject, account_id, secret_hash,"
            " created_at) values (accounts._bucket('device', %(d)s), 'device', %(d)s, %(a)s,"
            " %(s)s, kernel.now())",
            {"d": f"device-000{name}", "a": account, "s": proof},
        )
        made.append(account)
    return made[0], made[1]


async def on_own_connection(app_url, call, *args, **named):
    async with await psycopg.AsyncConnection.connect(app_url, autocommit=True) as own:
        try:
            return await call(own, *args, **named)
        except HoldfastError as problem:
            return problem.code


@pytest.mark.parametrize("turn", range(5))
async def test_a_to_b_and_b_to_a_at_once_is_one_person_and_no_cycle(app_url, db, owner, turn):
    a, b = await both_ways(db, owner)
    answers = await asyncio.gather(
        on_own_connection(app_url, link, "user_a", "device-000b"),
        on_own_connection(app_url, link, "user_b", "device-000a"),
    )
    assert len({answer.account_id for answer in answers}) == 1
    ids = {(await accounts.sign_in(db, kind="clerk", subject=f"user_{n}")).id for n in "ab"}
    assert len(ids) == 1
    assert sorted([await wallet(db, a), await wallet(db, b)]) == [(0, 0), (100, 0)]
    assert await sound(owner)


@pytest.mark.parametrize("turn", range(3))
async def test_ten_links_of_one_device_at_once_move_once(app_url, db, owner, turn):
    survivor, loser = await person(db), await device(db)
    await ledger.grant(db, account_id=loser, amount=50, key="bought")
    answers = await asyncio.gather(*[on_own_connection(app_url, link) for _ in range(10)])
    assert sorted(answer.moved.tokens for answer in answers) == [0] * 9 + [50]
    assert {answer.account_id for answer in answers} == {survivor}
    assert await wallet(db, survivor) == (150, 0)
    assert await sound(owner)


async def test_first_sign_in_and_link_at_once_end_in_one_account(app_url, db, owner):
    for turn in range(5):
        name, subject = f"device-{turn:04}", f"user_{turn}"
        own = await device(db, name)
        linked, signed = await asyncio.gather(
            on_own_connection(app_url, link, subject, name),
            on_own_connection(app_url, person, subject),
        )
        found = await accounts.sign_in(db, kind="clerk", subject=subject)
        assert found.id == linked.account_id == signed
        assert own in found.family
        assert found.balance == 100
    assert await sound(owner)


async def test_charges_races_and_links_lose_nothing(app_url, db, owner):
    """Ten charges and grants on the device while it is linked: the sum is the sum."""
    survivor, loser = await person(db), await device(db)
    await ledger.grant(db, account_id=loser, amount=500, key="bought")
    jobs = [
        on_own_connection(app_url, ledger.charge, account_id=loser, amount=7, key=f"c{n}")
        for n in range(10)
    ] + [
        on_own_connection(app_url, ledger.grant, account_id=loser, amount=3, key=f"g{n}")
        for n in range(10)
    ]
    answers = await asyncio.gather(*jobs[:10], on_own_connection(app_url, link), *jobs[10:])
    charged = sum(7 for answer in answers if isinstance(answer, ledger.Charged))
    await forwarded(db)
    total = (await wallet(db, survivor))[0] + (await wallet(db, loser))[0]
    (clawed,) = await (
        await owner.execute("select coalesce(sum(amount), 0) from ledger.entry"
                            " where cause = 'clawback:welcome'")
    ).fetchone()  # fmt: skip
    assert total == 100 + 100 + 500 + 30 - charged + clawed
    assert (await wallet(db, loser))[0] == 0
    assert await sound(owner)


async def test_the_trace_names_both(db, owner):
    survivor, loser = await person(db), await device(db)
    await link(db, request_id="r1")
    query = (
        "select entity_id, from_status, to_status, actor, request_id from audit.event"
        " where action = 'accounts.link'"
    )
    assert await (await owner.execute(query)).fetchall() == [
        (loser, "ACTIVE", "LINKED", str(survivor), "r1")
    ]
