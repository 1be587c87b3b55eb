"""The pool: what connections are like, and that it recovers by itself whatever the server does."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.errors import DatabaseMissing, Internal, Unavailable
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Database
from holdfast.postgres.server import EmbeddedServer


@pytest.fixture
def server(fast_folder: str | None) -> Iterator[EmbeddedServer]:
    """A server of our own, to be killed."""
    home = Path(tempfile.mkdtemp(prefix="hf-", dir=fast_folder))
    started = EmbeddedServer(home, durable=False).start()
    yield started
    started.stop()
    shutil.rmtree(home)


async def test_every_connection_is_as_verbs_assume(empty_url):
    async with await Database.open(empty_url, statement_timeout=12.5) as db:
        row = await call_one(
            db,
            "select current_setting('transaction_isolation') as isolation,"
            " current_setting('TimeZone') as zone, current_setting('jit') as jit,"
            " current_setting('statement_timeout') as most,"
            " current_setting('application_name') as name",
        )
        assert row == {
            "isolation": "read committed",
            "zone": "UTC",
            "jit": "off",
            "most": "12500ms",
            "name": "holdfast",
        }
        async with db.connection() as connection:
            assert connection.autocommit


async def test_what_the_url_says_itself_stands(empty_url):
    url = psycopg.conninfo.make_conninfo(
        empty_url, application_name="mine", options="-c work_mem=3MB -c jit=on"
    )
    async with await Database.open(url) as db:
        row = await call_one(
            db,
            "select current_setting('application_name') as name,"
            " current_setting('work_mem') as mem, current_setting('jit') as jit,"
            " current_setting('TimeZone') as zone",
        )
        assert row == {"name": "mine", "mem": "3MB", "jit": "on", "zone": "UTC"}


async def test_a_role_is_taken_on_at_once_and_the_wall_holds(owner_url):
    async with await Database.open(owner_url, role="holdfast_app") as db:
        assert await call(db, "select current_user::text as me") == [{"me": "holdfast_app"}]
        async with db.connection() as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute("update ledger.wallet set balance = 1")


async def test_a_transaction_is_one_and_the_callers_errors_are_his(empty_url):
    async with await Database.open(empty_url) as db:
        await call(db, "create table t (n int unique deferrable initially deferred)")
        async with db.transaction() as connection:
            await call(connection, "insert into t values (1)")
        with pytest.raises(psycopg.errors.UndefinedTable):
            await _inside(db, 2, "select * from nowhere")
        with pytest.raises(Internal) as caught:
            await _inside(db, 1, "select 1")
        assert caught.value.facts["sqlstate"] == "23505"
        assert await call(db, "select n from t") == [{"n": 1}]


async def test_no_connection_in_time_is_an_outage(empty_url, monkeypatch):
    monkeypatch.setattr("holdfast.postgres.pool._PATIENCE", 0.1)
    async with await Database.open(empty_url, max_size=1) as db:
        async with db.connection():
            with pytest.raises(Unavailable):
                await call(db, "select 1")
        assert await call(db, "select 1 as n") == [{"n": 1}]
    with pytest.raises(Unavailable):
        await call(db, "select 1")


async def test_open_tells_why_it_cannot(empty_url):
    with pytest.raises(DatabaseMissing):
        await Database.open(psycopg.conninfo.make_conninfo(empty_url, dbname="nowhere"))


async def test_ended_connections_are_noticed_before_they_are_lent(empty_url):
    async with await Database.open(empty_url, min_size=5, max_size=5) as db:
        async with await psycopg.AsyncConnection.connect(empty_url, autocommit=True) as killer:
            cursor = await killer.execute(
                "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
            assert await cursor.fetchone() == (5,)
        began = time.monotonic()
        assert await call(db, "select 1 as n") == [{"n": 1}]
        assert time.monotonic() - began < 2  # all of them at once, not one after another
        rows = await asyncio.gather(*(call_one(db, "select 1 as n") for _ in range(20)))
        assert rows == [{"n": 1}] * 20


async def test_a_server_that_was_restarted_is_used_without_a_single_error(server):
    async with await Database.open(server.owner_url, min_size=3) as db:
        await call(db, "select 1")
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        for _ in range(5):
            assert await call(db, "select 1 as n") == [{"n": 1}]


async def test_a_server_that_was_away_is_used_soon_after_it_came_back(server, monkeypatch):
    monkeypatch.setattr("holdfast.postgres.pool._PATIENCE", 0.2)
    async with await Database.open(server.owner_url) as db:
        os.kill(server.pid, signal.SIGKILL)
        while server.running:
            await asyncio.sleep(0.01)
        failed = 0
        until = time.monotonic() + 3  # long enough for every attempt of the pool to give up
        while time.monotonic() < until:
            with pytest.raises(Unavailable):
                await call(db, "select 1")
            failed += 1
        assert failed > 3
        await asyncio.to_thread(server.ensure)
        back = time.monotonic()
        while True:
            try:
                assert await call(db, "select 1 as n") == [{"n": 1}]
                break
            except Unavailable:
                assert time.monotonic() - back < 3


async def test_who_waits_while_the_server_is_away_is_served_when_it_is_back(server):
    async with await Database.open(server.owner_url) as db:
        os.kill(server.pid, signal.SIGKILL)
        while server.running:
            await asyncio.sleep(0.01)
        waiting = [asyncio.create_task(call_one(db, "select 1 as n")) for _ in range(20)]
        await asyncio.wait(waiting, timeout=0.5)
        assert not any(task.done() for task in waiting)
        await asyncio.to_thread(server.ensure)
        assert await asyncio.gather(*waiting) == [{"n": 1}] * 20


async def test_a_cancelled_call_gives_its_connection_back(empty_url):
    async with await Database.open(empty_url, max_size=1) as db:
        task = asyncio.create_task(call(db, "select pg_sleep(60)"))
        async with await psycopg.AsyncConnection.connect(empty_url, autocommit=True) as witness:
            asked = "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'"
            async with asyncio.timeout(5):
                while await (await witness.execute(asked)).fetchone() != (1,):
                    await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await call(db, "select 1 as n") == [{"n": 1}]


async def _inside(db: Database, number: int, then: str) -> None:
    async with db.transaction() as connection:
        await call(connection, "insert into t values (%(n)s)", {"n": number})
        await connection.execute(then)
