"""Why a server cannot be used: each reason a class of its own, from servers that really do it."""

import asyncio
import shutil
import signal
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from holdfast.errors import (
    DatabaseMissing,
    DatabasePassword,
    DatabaseReadOnly,
    DatabaseRights,
    DatabaseTooOld,
    DatabaseUnreachable,
    HoldfastError,
    Unavailable,
)
from holdfast.postgres import check
from holdfast.postgres.account import server_account
from holdfast.postgres.folder import Folder
from holdfast.postgres.postmaster import opened, spawn
from holdfast.postgres.programs import programs
from holdfast.postgres.server import EmbeddedServer


@pytest.fixture(scope="module")
def server(fast_folder: str | None) -> Iterator[EmbeddedServer]:
    """A server of our own, to be spoilt."""
    home = Path(tempfile.mkdtemp(prefix="hf-", dir=fast_folder))
    with EmbeddedServer(home, durable=False) as started:
        yield started
    shutil.rmtree(home)


def run(server: EmbeddedServer, *statements: str) -> None:
    with psycopg.connect(server.url(database="postgres"), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


async def why(url: str) -> HoldfastError:
    """The reason, with its sentences: no placeholder of theirs may be left unfilled."""
    found = await check.problem(url)
    assert found is not None
    for locale in ("en", "ru", "uk"):
        told = f"{found.title(locale)} {found.detail(locale)} {found.next(locale)}"
        assert "{" not in told
    return found


async def test_a_server_that_works_has_no_problem(server):
    assert await check.problem(server.owner_url) is None
    assert await check.problem(server.app_url) is None


async def test_nobody_there(server, tmp_path):
    found = await why(f"postgresql://me@/db?host={tmp_path}")
    assert isinstance(found, DatabaseUnreachable)
    assert found.facts["address"] == str(tmp_path)
    found = await why("postgresql://me:secret@127.0.0.1:1/db")
    assert isinstance(found, DatabaseUnreachable)
    assert found.facts["address"] == "127.0.0.1:1"
    assert "secret" not in str(found)
    assert "secret" not in str(found.facts)
    assert isinstance(await why("postgresql://me@no-such-host.invalid/db"), DatabaseUnreachable)


async def test_somebody_there_who_never_answers(monkeypatch):
    monkeypatch.setattr("holdfast.postgres.check._WITHIN", 0.2)
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        assert isinstance(await why(f"postgresql://me@127.0.0.1:{port}/db"), DatabaseUnreachable)
        await asyncio.wait_for(ended.wait(), 5)


async def test_a_database_that_is_not_there(server):
    found = await why(server.url("holdfast_owner", "nowhere"))
    assert type(found) is DatabaseMissing
    assert found.facts == {"database": "nowhere"}


async def test_a_user_that_is_not_there(server):
    found = await why(server.url("nobody"))
    assert type(found) is DatabasePassword
    assert found.facts == {"user": "nobody"}


async def test_a_wrong_password_and_none(server):
    run(server, "create role guarded login password 'right'")
    access = server.home / "postgres" / "data" / "pg_hba.conf"
    before = access.read_text()
    access.write_text("local all guarded scram-sha-256\n" + before)
    run(server, "select pg_reload_conf()")
    async with asyncio.timeout(5):  # the server reads it when it comes to it
        while await check.problem(server.url("guarded")) is None:
            await asyncio.sleep(0.01)
    url = server.url("guarded")
    assert type(await why(url)) is DatabasePassword
    assert type(await why(make_conninfo(url, password="wrong"))) is DatabasePassword
    assert await check.problem(make_conninfo(url, password="right")) is None
    access.write_text("local all guarded reject\n" + before)
    run(server, "select pg_reload_conf()")
    async with asyncio.timeout(5):
        while await check.problem(make_conninfo(url, password="right")) is None:
            await asyncio.sleep(0.01)
    assert type(await why(make_conninfo(url, password="right"))) is DatabasePassword


async def test_no_right_to_connect_or_to_take_on_the_role(server):
    run(
        server,
        "create role stranger login",
        "create database closed",
        "revoke connect on database closed from public",
    )
    found = await why(server.url("stranger", "closed"))
    assert type(found) is DatabaseRights
    assert found.facts == {"role": "stranger"}
    found = await why(make_conninfo(server.url("stranger"), options="-c role=holdfast_app"))
    assert type(found) is DatabaseRights


async def test_too_many_connections_is_an_outage(server):
    run(server, "create role crowded login connection limit 0")
    assert type(await why(server.url("crowded"))) is Unavailable


async def test_read_only_by_setting(server):
    run(
        server,
        "create database frozen",
        "alter database frozen set default_transaction_read_only = on",
    )
    assert type(await why(server.url("holdfast_owner", "frozen"))) is DatabaseReadOnly


async def test_a_standby(fast_folder):
    home = Path(tempfile.mkdtemp(prefix="hf-", dir=fast_folder))
    with EmbeddedServer(home, durable=False) as server:
        url = server.owner_url
    (home / "postgres" / "data" / "standby.signal").touch()
    account = server_account(home / "postgres" / "data")
    sockets = Folder(home / "postgres").sockets(account)
    command = [str(programs() / "bin" / "postgres"), "-D", str(home / "postgres" / "data")]
    command += ["-c", f"unix_socket_directories={sockets}", "-c", "listen_addresses="]
    command += ["-c", "max_connections=200"]
    with opened(home / "lock") as lock:
        standby = spawn(command, account, server.log, lock)
        async with asyncio.timeout(10):
            while isinstance(await check.problem(url), DatabaseUnreachable | Unavailable):
                await asyncio.sleep(0.01)
        assert type(await why(url)) is DatabaseReadOnly
        standby.send_signal(signal.SIGINT)
        await asyncio.to_thread(standby.wait)
    shutil.rmtree(sockets)
    shutil.rmtree(home)


async def test_an_older_server():
    """One that only says its version: none older than 15 is installed anywhere we test."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!I", len(body) + 4) + body

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(message(b"R", struct.pack("!I", 0)))
        writer.write(message(b"S", b"server_version\x0014.9\x00"))
        writer.write(message(b"K", struct.pack("!II", 1, 1)) + message(b"Z", b"I"))
        await writer.drain()
        await reader.read(4096)
        writer.close()
        await writer.wait_closed()
        ended.set()

    ended = asyncio.Event()
    async with await asyncio.start_server(old, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        found = await why(f"postgresql://me@127.0.0.1:{port}/db?sslmode=disable&gssencmode=disable")
        await asyncio.wait_for(ended.wait(), 5)
    assert type(found) is DatabaseTooOld
    assert found.facts == {"version": 14}
