"""The one place that executes: rows, mapping of errors, prepared statements, round trips."""

import asyncio

import psycopg
import pytest

from holdfast.errors import (
    BrokenPromise,
    DatabaseReadOnly,
    DatabaseRights,
    IllegalTransition,
    Internal,
    LeaseLost,
    Retryable,
    Unavailable,
)
from holdfast.postgres.call import call, call_one, run_sync
from holdfast.postgres.failures import error_for
from holdfast.postgres.pool import Database


@pytest.fixture
async def plain(empty_url: str):
    async with await Database.open(empty_url) as opened:
        yield opened


async def test_rows_are_dicts_of_python_values(plain):
    rows = await call(
        plain,
        "select %(id)s::uuid as id, %(n)s::bigint as n, now() as at, '{\"a\": 1}'::jsonb as doc",
        {"id": "018f0000-0000-7000-8000-000000000001", "n": 2**62},
    )
    assert rows[0]["n"] == 2**62
    assert rows[0]["id"].version == 7
    assert rows[0]["at"].utcoffset().total_seconds() == 0
    assert rows[0]["doc"] == {"a": 1}
    assert await call(plain, "create table t ()") == []


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("40001", Retryable),
        ("40P01", Retryable),
        ("55P03", Retryable),
        ("57P01", Unavailable),
        ("53300", Unavailable),
        ("53100", Unavailable),
        ("57014", Unavailable),
        ("08006", Unavailable),
        ("25006", DatabaseReadOnly),
        ("42501", DatabaseRights),
        ("KH000", BrokenPromise),
        ("KH001", IllegalTransition),
        ("KH004", LeaseLost),
        ("KH999", BrokenPromise),
        ("23505", Internal),
        ("22012", Internal),
    ],
)
async def test_what_the_database_raises_is_one_class(plain, sqlstate, kind):
    await call(
        plain,
        "create function fails(state text) returns void language plpgsql as"
        " $$ begin raise exception 'told so' using errcode = state; end $$",
    )
    with pytest.raises(kind) as caught:
        await call(plain, "select fails(%(state)s)", {"state": sqlstate})
    assert type(caught.value) is kind
    if kind is Internal:
        assert caught.value.facts == {"reason": "told so", "sqlstate": sqlstate}
    assert (await call_one(plain, "select 1 as n"))["n"] == 1


async def test_real_failures_are_mapped_too(empty_url, plain):
    async with await Database.open(empty_url, statement_timeout=0.05) as hasty:
        with pytest.raises(Unavailable):
            await call(hasty, "select pg_sleep(5)")
    await call(plain, "create table t (n int)")
    async with plain.transaction() as holder:
        await call(holder, "lock table t")
        async with plain.transaction() as other:
            await call(other, "set local lock_timeout = 10")
            with pytest.raises(Retryable):
                await call(other, "select * from t")
    with pytest.raises(Internal) as caught:
        await call(plain, "select * from nowhere")
    assert caught.value.facts["sqlstate"] == "42P01"
    with pytest.raises(Internal):
        await call(plain, "select %(missing)s", {"n": 1})


async def test_a_connection_that_breaks_in_a_call_is_an_outage(plain, empty_url):
    async def kill() -> None:
        async with await psycopg.AsyncConnection.connect(empty_url, autocommit=True) as killer:
            found = (0,)
            while found == (0,):
                cursor = await killer.execute(
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                    " where query like 'select pg_sleep%' and state = 'active'"
                )
                found = await cursor.fetchone()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(kill())
        with pytest.raises(Unavailable):
            await call(plain, "select pg_sleep(60)")
    assert await call(plain, "select 1 as n") == [{"n": 1}]


async def test_exactly_one_row_or_a_broken_promise(plain):
    assert await call_one(plain, "select 1 as n") == {"n": 1}
    for query in ("select 1 where false", "select generate_series(1, 2)"):
        with pytest.raises(BrokenPromise):
            await call_one(plain, query)


async def test_statements_are_prepared_and_survive_new_columns(plain, owner_connection):
    await owner_connection.execute(
        "create function f() returns table (a int) language sql as 'select 1'"
    )
    async with plain.connection() as connection:
        assert await call(connection, "select * from f()") == [{"a": 1}]
        prepared = "select count(*) as n from pg_prepared_statements where statement like '%f()%'"
        assert (await call_one(connection, prepared))["n"] == 2  # and this one
        await owner_connection.execute("drop function f()")
        await owner_connection.execute(
            "create function f() returns table (a int, b int) language sql as 'select 1, 2'"
        )
        assert await call(connection, "select * from f()") == [{"a": 1, "b": 2}]
        await owner_connection.execute("drop function f()")
        await owner_connection.execute(
            "create function f() returns table (c int) language sql as 'select 3'"
        )
        async with connection.transaction(force_rollback=True):
            with pytest.raises(Retryable):  # too late inside a transaction, but worth another try
                await call(connection, "select * from f()")
        assert await call(connection, "select * from f()") == [{"c": 3}]


def test_a_function_that_vanished_under_a_running_call_is_worth_another_try():
    vanished = psycopg.errors.InternalError_("cache lookup failed for function 4711")
    assert type(error_for(vanished)) is Retryable


async def test_a_call_is_one_round_trip(empty_url):
    """Counted where it is true: in the bytes between the client and the server."""
    async with _Tap(empty_url) as tap, await Database.open(tap.url) as tapped:
        await call(tapped, "select 1 as n")  # a connection, and the statement is prepared
        before, counted = tap.trips, tapped.round_trips
        for _ in range(10):
            await call(tapped, "select 1 as n")
        assert tap.trips - before == 10
        assert tapped.round_trips - counted == 10


def test_a_blocking_connection_serves_the_same_coroutines(empty_url):
    with psycopg.connect(empty_url, autocommit=True) as connection:
        assert run_sync(call_one(connection, "select %(n)s::int as n", {"n": 5})) == {"n": 5}
        with pytest.raises(Internal):
            run_sync(call(connection, "select * from nowhere"))
        connection.execute("create function f() returns table (a int) language sql as 'select 1'")
        assert run_sync(call(connection, "select * from f()")) == [{"a": 1}]
        with psycopg.connect(empty_url, autocommit=True) as other:
            other.execute("drop function f()")
            other.execute("create function f() returns table (b int) language sql as 'select 2'")
        assert run_sync(call(connection, "select * from f()")) == [{"b": 2}]


def test_only_a_blocking_connection_goes_without_a_loop():
    async def waits() -> None:
        await asyncio.sleep(0)

    with pytest.raises(TypeError, match=r"only a psycopg\.Connection"):
        run_sync(waits())


@pytest.fixture
async def owner_connection(empty_url: str):
    async with await psycopg.AsyncConnection.connect(empty_url, autocommit=True) as connection:
        yield connection


class _Tap:
    """A relay on a TCP port that counts how often the client waits for the server."""

    def __init__(self, url: str) -> None:
        self._given = psycopg.conninfo.conninfo_to_dict(url)
        self.trips = 0
        self._pipes: set[asyncio.Task] = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = psycopg.conninfo.make_conninfo(
            **(self._given | {"host": "127.0.0.1", "port": port, "sslmode": "disable"})
        )
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _relay(self, reader, writer):
        host, port = self._given["host"], self._given.get("port", 5432)
        opened = (
            asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            if str(host).startswith("/")
            else asyncio.open_connection(host, port)
        )
        to_reader, to_writer = await opened
        for source, target, asks in ((reader, to_writer, True), (to_reader, writer, False)):
            task = asyncio.create_task(self._pipe(source, target, asks))
            self._pipes.add(task)

    async def _pipe(self, source, target, asks):
        try:
            while data := await source.read(65536):
                self.trips += asks and data != b"X\0\0\0\4"  # a farewell has no answer
                target.write(data)
                await target.drain()
        finally:
            target.close()
            await target.wait_closed()
