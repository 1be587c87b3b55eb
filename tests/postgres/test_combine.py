"""The combiner's rules, on a wallet of one column and real connections."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest

from holdfast.errors import BrokenPromise, Internal, Retryable, Unavailable
from holdfast.postgres.call import run_sync
from holdfast.postgres.combine import BatchVerb, submit, submit_many
from holdfast.postgres.pool import Database

SCHEMA = """
create table wallet (id int primary key, balance int not null check (balance >= 0));
create table entry (key text primary key, wallet int not null, at bigserial, call uuid not null);
insert into wallet select n, 1000 from generate_series(1, 1000) n;

create function pay(wallets int[], keys text[], wait boolean)
returns table (ord int, code text, left_over int, size int) language plpgsql as $$
declare
    free int[];
    this uuid := gen_random_uuid();
begin
    if wait then
        perform from wallet where id = any (wallets) order by id for update;
        free := wallets;
    else
        free := array(select id from wallet where id = any (wallets) order by id
                      for update skip locked);
    end if;
    for i in 1 .. cardinality(wallets) loop
        ord := i; size := cardinality(wallets); code := 'busy'; left_over := null;
        if keys[i] like 'poison%' then
            raise exception 'poison' using errcode = 'KH001';
        elsif keys[i] like 'slow%' then
            perform pg_sleep(0.3);
        end if;
        if wallets[i] = any (free) then
            insert into entry values (keys[i], wallets[i], default, this) on conflict do nothing;
            if found then
                update wallet set balance = balance - 10 where id = wallets[i] and balance >= 10;
                code := case when found then 'ok' else 'insufficient_tokens' end;
                if not found then delete from entry where key = keys[i]; end if;
            else
                code := 'ok';
            end if;
            select balance into left_over from wallet where id = wallets[i];
        end if;
        return next;
    end loop;
end $$;
"""

PAY = BatchVerb(
    "pay",
    "select * from pay(wallets => %(wallets)s::int[], keys => %(keys)s::text[], wait => %(wait)s)",
    ("wallets", "keys"),
)


PAY_BY_WALLET = replace(PAY, name="pay by wallet", by="wallets")


def pay(db, wallet, key, verb=PAY):
    return submit(db, verb, {"wallets": wallet, "keys": key})


@pytest.fixture
async def wallets(empty_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(empty_url, autocommit=True) as connection:
        await connection.execute(SCHEMA)
        yield connection


@pytest.fixture
async def combined(empty_url: str, wallets) -> AsyncIterator[Database]:
    async with await Database.open(empty_url, combining=True) as opened:
        yield opened


async def one(connection, sql, *args):
    row = await (await connection.execute(sql, args)).fetchone()
    return row[0]


async def test_a_thousand_concurrent_members_travel_in_few_calls(combined, wallets):
    rows = await asyncio.gather(*(pay(combined, n % 100 + 1, f"k{n}") for n in range(1000)))
    assert {row["code"] for row in rows} == {"ok"}
    assert await one(wallets, "select count(*) from entry") == 1000
    assert await one(wallets, "select sum(1000 - balance) from wallet") == 10_000
    assert combined.round_trips <= 5
    assert max(row["size"] for row in rows) == PAY.most


async def test_one_hot_wallet_gives_exactly_what_it_has(combined, wallets):
    await wallets.execute("update wallet set balance = 100 where id = 1")
    rows = await asyncio.gather(*(pay(combined, 1, f"k{n}") for n in range(64)))
    codes = [row["code"] for row in rows]
    assert codes == ["ok"] * 10 + ["insufficient_tokens"] * 54


async def test_members_are_judged_in_the_order_they_came(combined, wallets):
    await asyncio.gather(*(pay(combined, 1, f"k{n:04}") for n in range(90)))
    cursor = await wallets.execute("select key from entry order by at")
    assert [key for (key,) in await cursor.fetchall()] == [f"k{n:04}" for n in range(90)]


async def test_a_lone_call_waits_for_nobody(combined):
    row = await pay(combined, 1, "k")
    assert (row["code"], row["size"]) == ("ok", 1)


async def test_who_comes_while_a_call_is_in_flight_leaves_with_the_next(combined, wallets):
    first = asyncio.create_task(pay(combined, 1, "slow"))
    await _until(
        wallets,
        "select count(*) = 1 from pg_stat_activity where query like '%%from pay(%%'"
        " and state = 'active' and pid <> pg_backend_pid()",
    )
    rest = await asyncio.gather(*(pay(combined, n, f"k{n}") for n in range(2, 50)))
    assert first.done()  # one call of a verb at a time: what it locks meets no other of ours
    assert (await first)["size"] == 1
    assert {row["size"] for row in rest} == {48}
    assert combined.round_trips == 2


async def test_a_poison_member_harms_only_itself(combined, wallets):
    calls = [pay(combined, n + 1, "poison" if n == 311 else f"k{n}") for n in range(500)]
    started = time.monotonic()
    rows = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(rows[311], BrokenPromise)
    assert rows[311].code == "illegal_transition"
    del rows[311]
    assert {row["code"] for row in rows} == {"ok"}
    assert await one(wallets, "select count(*) from entry") == 499
    assert combined.round_trips <= 1 + 2 * 9  # in halves, not one by one
    assert time.monotonic() - started < 5


async def test_every_member_poison_every_member_told(combined, wallets):
    calls = [pay(combined, n, f"poison{n}") for n in range(1, 9)]
    rows = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(row, BrokenPromise) for row in rows)
    assert len({id(row) for row in rows}) == 8
    assert (await pay(combined, 1, "k"))["code"] == "ok"


async def test_a_locked_member_delays_nobody_and_gets_its_turn(combined, wallets, empty_url):
    async with await psycopg.AsyncConnection.connect(empty_url) as holder:
        await holder.execute("update wallet set balance = 20 where id = 250")
        calls = [asyncio.create_task(pay(combined, n, f"k{n}")) for n in range(1, 501)]
        locked = calls.pop(249)
        rows = await asyncio.wait_for(asyncio.gather(*calls), 2)
        assert {row["code"] for row in rows} == {"ok"}
        await _until(
            wallets,
            "select count(*) = 1 from pg_stat_activity"
            " where wait_event_type = 'Lock' and query like '%%from pay(%%'",
        )
        assert not locked.done()
        await holder.commit()
    row = await asyncio.wait_for(locked, 2)
    assert (row["code"], row["left_over"]) == ("ok", 10)


async def test_many_locked_members_leave_connections_for_the_others(combined, wallets, empty_url):
    async with await psycopg.AsyncConnection.connect(empty_url) as holder:
        await holder.execute("update wallet set balance = balance where id <= 100")
        held = [asyncio.create_task(pay(combined, n, f"k{n}")) for n in range(1, 101)]
        await _until(
            wallets,
            "select count(*) = 2 from pg_stat_activity"
            " where wait_event_type = 'Lock' and query like '%%from pay(%%'",
        )
        rows = await asyncio.wait_for(
            asyncio.gather(*(pay(combined, n, f"k{n}") for n in range(101, 200))), 2
        )
        assert {row["code"] for row in rows} == {"ok"}
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        assert await one(wallets, waiting) == 2  # a quarter of ten
        await holder.commit()
    rows = await asyncio.wait_for(asyncio.gather(*held), 5)
    assert {row["code"] for row in rows} == {"ok"}


async def test_a_row_that_stays_locked_is_told_as_busy(combined, wallets, empty_url, monkeypatch):
    monkeypatch.setattr("holdfast.postgres.combine._PATIENCE", 0.3)
    async with await psycopg.AsyncConnection.connect(empty_url) as holder:
        await holder.execute("update wallet set balance = balance where id <= 6")
        rows = await asyncio.gather(
            *(pay(combined, n, f"k{n}") for n in range(1, 7)), return_exceptions=True
        )
    assert [type(row) for row in rows] == [Retryable] * 6
    assert await one(wallets, "select count(*) from entry") == 0


async def test_a_lost_connection_in_mid_batch_is_run_again_by_key(combined, wallets):
    calls = asyncio.gather(
        *(pay(combined, n, f"slow{n}" if n == 1 else f"k{n}") for n in range(1, 101))
    )
    await _kill_in_call(wallets)
    rows = await asyncio.wait_for(calls, 10)
    assert {row["code"] for row in rows} == {"ok"}
    assert await one(wallets, "select count(*) from entry") == 100
    assert await one(wallets, "select sum(1000 - balance) from wallet") == 1000


async def test_a_verb_without_keys_is_never_run_again(combined, wallets):
    unkeyed = BatchVerb(PAY.name, PAY.sql, PAY.columns, keyed=False)
    members = [{"wallets": 1, "keys": "slow"}, {"wallets": 2, "keys": "k"}]
    told = asyncio.gather(
        *(submit(combined, unkeyed, member) for member in members), return_exceptions=True
    )
    await _kill_in_call(wallets)
    first, second = await asyncio.wait_for(told, 10)
    assert type(first) is type(second) is Unavailable
    assert first is not second  # each is raised in a task of its own
    assert await one(wallets, "select count(*) from entry") == 0


async def test_who_finds_no_turn_for_the_lock_is_told_in_time(wallets, empty_url, monkeypatch):
    async with (
        await Database.open(empty_url, combining=True, max_size=4) as db,
        await psycopg.AsyncConnection.connect(empty_url) as holder,
    ):
        await holder.execute("update wallet set balance = 20 where id = 1")
        first = asyncio.create_task(pay(db, 1, "first"))
        await _until(
            wallets,
            "select count(*) = 1 from pg_stat_activity"
            " where wait_event_type = 'Lock' and query like '%%from pay(%%'",
        )
        monkeypatch.setattr("holdfast.postgres.combine._PATIENCE", 0.1)
        with pytest.raises(Retryable):
            await asyncio.wait_for(pay(db, 1, "second"), 2)
        assert not first.done()
        await holder.commit()
        assert (await first)["code"] == "ok"


async def test_who_locks_another_row_flies_beside_and_who_locks_the_same_waits(combined, wallets):
    first = asyncio.create_task(pay(combined, 1, "slow", PAY_BY_WALLET))
    await _until(
        wallets,
        "select count(*) = 1 from pg_stat_activity where query like '%%from pay(%%'"
        " and state = 'active' and pid <> pg_backend_pid()",
    )
    same = [asyncio.create_task(pay(combined, 1, f"same{n}", PAY_BY_WALLET)) for n in range(3)]
    others = [pay(combined, n, f"k{n}", PAY_BY_WALLET) for n in range(2, 12)]
    await asyncio.gather(*others)
    assert not first.done()
    assert not any(task.done() for task in same)
    # One call took them all: none was ever 'busy', nor tried aside.
    assert [(await task)["size"] for task in same] == [3, 3, 3]
    assert first.done()
    cursor = await wallets.execute("select key from entry where wallet = 1 order by at")
    assert [key for (key,) in await cursor.fetchall()] == ["slow", "same0", "same1", "same2"]


async def test_two_flights_share_who_waits(combined, wallets):
    for tag in "ab":
        rows = await asyncio.gather(
            *(pay(combined, n + 1, f"{tag}{n}", PAY_BY_WALLET) for n in range(64))
        )
        assert [row["size"] for row in rows] == [32] * 64
    assert await one(wallets, "select count(distinct call) from entry") == 4


async def test_one_hot_row_travels_together_also_where_two_may_fly(combined, wallets):
    await wallets.execute("update wallet set balance = 100 where id = 1")
    rows = await asyncio.gather(*(pay(combined, 1, f"k{n}", PAY_BY_WALLET) for n in range(64)))
    assert [row["code"] for row in rows] == ["ok"] * 10 + ["insufficient_tokens"] * 54
    assert {row["size"] for row in rows} == {64}


async def test_closing_waits_for_who_may_not_fly_yet(empty_url, wallets):
    async with await Database.open(empty_url, combining=True) as db:
        first = asyncio.create_task(pay(db, 1, "slow", PAY_BY_WALLET))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second = asyncio.create_task(pay(db, 1, "k", PAY_BY_WALLET))
        await asyncio.sleep(0)
    # Closing waits for both, the second of which had not left.
    assert (await first)["code"] == (await second)["code"] == "ok"


async def test_a_cancelled_caller_takes_nothing_with_it(combined, wallets):
    gone = asyncio.create_task(pay(combined, 1, "slow"))
    stay = asyncio.create_task(pay(combined, 2, "k2"))
    await _until(
        wallets,
        "select count(*) = 1 from pg_stat_activity where query like '%%from pay(%%'"
        " and state = 'active' and pid <> pg_backend_pid()",
    )
    never = asyncio.create_task(pay(combined, 3, "k3"))
    await asyncio.sleep(0)
    never.cancel()
    gone.cancel()
    assert (await stay)["size"] == 2
    assert (await pay(combined, 4, "k4"))["code"] == "ok"
    cursor = await wallets.execute("select key from entry order by key")
    assert [key for (key,) in await cursor.fetchall()] == ["k2", "k4", "slow"]


async def test_a_verb_that_forgets_a_member_breaks_a_promise_and_is_not_run_again(combined):
    forgetful = BatchVerb("f", "select 1 as ord, 'ok' as code, %(a)s::int[], %(wait)s", ("a",))
    rows = await asyncio.gather(
        *(submit(combined, forgetful, {"a": n}) for n in range(2)), return_exceptions=True
    )
    assert [type(row) for row in rows] == [BrokenPromise, BrokenPromise]
    assert combined.round_trips == 1


async def test_a_defect_in_the_arguments_reaches_every_caller(combined):
    with pytest.raises(KeyError):
        await submit(combined, PAY, {"wallets": 1})
    with pytest.raises(Internal):
        await pay(combined, "no number", "k")
    assert (await pay(combined, 1, "k"))["code"] == "ok"


async def test_close_waits_for_what_is_in_flight(empty_url, wallets):
    db = await Database.open(empty_url, combining=True)
    told = asyncio.create_task(pay(db, 1, "slow"))
    await asyncio.sleep(0)
    await db.close()
    assert (await told)["code"] == "ok"


async def test_many_at_once_keep_their_order_and_skip_the_locked(combined, wallets, empty_url):
    members = [{"wallets": n % 1000 + 1, "keys": f"k{n}"} for n in range(1200)]
    async with await psycopg.AsyncConnection.connect(empty_url) as holder:
        await holder.execute("update wallet set balance = 20 where id = 3")
        asked = asyncio.create_task(submit_many(combined, PAY, members))
        await _until(wallets, "select count(*) = 1198 from entry")
        await holder.commit()
    rows = await asked
    assert [row["code"] for row in rows] == ["ok"] * 1200
    assert [row["left_over"] for row in (rows[0], rows[1], rows[3])] == [990, 990, 990]
    assert {rows[2]["left_over"], rows[1002]["left_over"]} == {10, 0}


async def test_without_combining_and_on_connections_a_member_is_a_batch_of_one(empty_url, wallets):
    async with await Database.open(empty_url) as plain:
        assert (await pay(plain, 1, "a"))["size"] == 1
        assert plain.round_trips == 1
    assert (await pay(wallets, 1, "b"))["left_over"] == 980
    with psycopg.connect(empty_url) as blocking:
        assert run_sync(pay(blocking, 1, "c"))["left_over"] == 970
        blocking.rollback()
    assert await one(wallets, "select balance from wallet where id = 1") == 980
    async with wallets.transaction(force_rollback=True):
        rows = await submit_many(wallets, PAY, [{"wallets": 1, "keys": f"{n}"} for n in range(600)])
        assert [row["code"] for row in rows] == ["ok"] * 98 + ["insufficient_tokens"] * 502
        assert {row["size"] for row in rows} == {500, 100}


async def _kill_in_call(connection) -> None:
    await _until(
        connection,
        "select count(pg_terminate_backend(pid)) = 1 from pg_stat_activity"
        " where query like '%%from pay(%%' and state = 'active'"
        " and pid <> pg_backend_pid()",
    )


async def _until(connection, sql: str, seconds: float = 5) -> None:
    """Ask until the answer is true."""
    deadline = time.monotonic() + seconds
    while not await one(connection, sql):
        assert time.monotonic() < deadline, sql
        await asyncio.sleep(0.01)
