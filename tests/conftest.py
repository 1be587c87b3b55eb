"""A real server for the whole session, the schema installed once, a fresh database per test.

By default the embedded server, in a temporary folder. HOLDFAST_TEST_POSTGRES=/path/to/bin runs
another version's programs instead; HOLDFAST_TEST_DATABASE_URL uses a server that is there already
(a role that may create databases and roles). Whatever is made is removed at the end.
"""

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from holdfast.postgres.account import let_through, server_account
from holdfast.postgres.install import install
from holdfast.postgres.pool import Database
from holdfast.postgres.postmaster import as_account, environment
from holdfast.postgres.server import EmbeddedServer
from holdfast.postgres.walls import APPLICATION

_numbers = itertools.count(1)


@dataclass
class Cluster:
    """A server where tests make databases; `url` is its owner's."""

    url: str
    embedded: EmbeddedServer | None = None
    made: list[str] = field(default_factory=list)

    def owner_url(self, database: str) -> str:
        return make_conninfo(self.url, dbname=database)

    def app_url(self, database: str) -> str:
        given: dict[str, Any] = conninfo_to_dict(self.owner_url(database))
        if self.embedded:
            return make_conninfo(**(given | {"user": APPLICATION}))
        return make_conninfo(**(given | {"options": f"-c role={APPLICATION}"}))

    def create(self, template: str | None = None) -> str:
        """Make a database (a copy of `template`) and return its name."""
        name = f"holdfast_test_{os.getpid()}_{next(_numbers)}"
        statement = sql.SQL("create database {} template {}")
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                statement.format(sql.Identifier(name), sql.Identifier(template or "template0"))
            )
        self.made.append(name)
        return name

    def drop(self, name: str) -> None:
        statement = sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        until = time.monotonic() + 30
        with psycopg.connect(self.url, autocommit=True) as connection:
            while True:
                try:
                    connection.execute(statement)
                    break
                except psycopg.errors.InsufficientPrivilege:  # autovacuum is there: it ends soon
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)
        self.made.remove(name)


def _fast_folder() -> str | None:
    """Memory where there is plenty: making and dropping databases waits for disks otherwise."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4 * 1024**3
    return str(memory) if roomy else None


@pytest.fixture(scope="session")
def fast_folder() -> str | None:
    """Where to make folders for servers; None is the usual temporary folder."""
    return _fast_folder()


@contextlib.contextmanager
def _other_version(programs: Path) -> Iterator[str]:
    """Run the server whose programs lie in `programs`; gives the URL of a superuser."""
    root = Path(tempfile.mkdtemp(prefix="hf-", dir=_fast_folder()))
    account = server_account(root)
    data, sockets = root / "data", root / "s"
    for folder in (data, sockets):
        folder.mkdir(mode=0o700)
        if account.switch:
            os.chown(folder, account.uid, account.gid)
    if account.switch:
        let_through(account, data, [root])

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(data), *arguments]
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            env=environment(),
            cwd="/",
            **as_account(account),
        )

    run("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
    options = f"-c listen_addresses= -c unix_socket_directories={sockets} -c port=5432"
    options += " -c synchronous_commit=off -c max_connections=200"
    run("pg_ctl", "start", "-w", "-l", str(data / "log"), "-o", options)
    try:
        yield f"postgresql://postgres@/postgres?host={sockets}&port=5432"
    finally:
        run("pg_ctl", "stop", "-w", "-m", "fast")
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with contextlib.ExitStack() as ending:
        if url := os.environ.get("HOLDFAST_TEST_DATABASE_URL"):
            made = Cluster(url)
        elif programs := os.environ.get("HOLDFAST_TEST_POSTGRES"):
            made = Cluster(ending.enter_context(_other_version(Path(programs))))
        else:
            home = Path(tempfile.mkdtemp(prefix="hf-", dir=_fast_folder()))
            ending.callback(shutil.rmtree, home)
            server = ending.enter_context(EmbeddedServer(home, durable=False))
            made = Cluster(server.owner_url, server)
        yield made
        for name in [*made.made]:
            made.drop(name)


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> str:
    """The name of a database with the schema, of which every test gets a copy."""
    name = cluster.create()
    install(cluster.owner_url(name))
    return name


@pytest.fixture
def empty_url(cluster: Cluster) -> Iterator[str]:
    """The owner's URL of a fresh database without a schema."""
    name = cluster.create()
    yield cluster.owner_url(name)
    cluster.drop(name)


@pytest.fixture
def database(cluster: Cluster, template: str) -> Iterator[str]:
    """The name of this test's own database, with the schema."""
    name = cluster.create(template)
    yield name
    cluster.drop(name)


@pytest.fixture
def owner_url(cluster: Cluster, database: str) -> str:
    return cluster.owner_url(database)


@pytest.fixture
def app_url(cluster: Cluster, database: str) -> str:
    return cluster.app_url(database)


@pytest.fixture
async def db(app_url: str) -> AsyncIterator[Database]:
    """A pool as the application's role."""
    async with await Database.open(app_url) as opened:
        yield opened


@pytest.fixture
async def combined(app_url: str) -> AsyncIterator[Database]:
    """A pool as the application's role that gathers concurrent calls of a verb."""
    async with await Database.open(app_url, combining=True) as opened:
        yield opened


@pytest.fixture
async def owner(owner_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection in autocommit as the owner of everything."""
    async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def new_account(owner: psycopg.AsyncConnection) -> Callable[[], Awaitable[UUID]]:
    """Make an account as any program does, by a plain INSERT: it has its welcome bonus."""

    async def make() -> UUID:
        cursor = await owner.execute(
            "insert into accounts.account (bucket, id)"
            " select kernel.bucket_of(made), made"
            " from kernel.new_id((random() * 255)::int::smallint) made returning id"
        )
        row = await cursor.fetchone()
        assert row is not None
        made: UUID = row[0]
        return made

    return make
