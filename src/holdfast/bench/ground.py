"""A fresh database for a measurement, on the server at hand, dropped afterwards."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from holdfast.postgres.install import install
from holdfast.postgres.pool import Database
from holdfast.postgres.server import EmbeddedServer
from holdfast.postgres.walls import APPLICATION


@dataclass(frozen=True, slots=True)
class Ground:
    """A database with the schema installed; `app_url` is the application's, as in production."""

    owner_url: str
    app_url: str

    @classmethod
    def at(cls, owner_url: str) -> "Ground":
        """Name the database of `owner_url`; the application's role is the owner's to take."""
        return cls(owner_url, make_conninfo(owner_url, options=f"-c role={APPLICATION}"))

    async def open(self, *, combining: bool = False, most: int = 10) -> Database:
        """Open a pool as the application's role."""
        return await Database.open(
            self.app_url, max_size=most, combining=combining, application_name="holdfast-bench"
        )


@contextlib.contextmanager
def server(url: str | None = None) -> Iterator[str]:
    """Lend `url` itself, or an embedded server of its own.

    The embedded server is durable: what is measured includes waiting for the disk.
    """
    if url is not None:
        yield url
        return
    with TemporaryDirectory(prefix="holdfast-bench-") as home, EmbeddedServer(Path(home)) as own:
        yield own.url()  # as the superuser: an autovacuum worker in the way of a drop is his to end


@contextlib.contextmanager
def database(server_url: str) -> Iterator[str]:
    """Lend a fresh database, its owner's address, dropped afterwards."""
    name = f"holdfast_bench_{os.getpid()}_{uuid4().hex[:8]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    try:
        yield make_conninfo(server_url, dbname=name)
    finally:
        _drop(server_url, name)


@contextlib.contextmanager
def ground(server_url: str | None = None) -> Iterator[Ground]:
    """Lend a fresh database with the schema, on `server_url` (may create databases) or embedded."""
    with server(server_url) as url, database(url) as owner_url:
        install(owner_url)
        yield Ground.at(owner_url)


def _drop(server_url: str, name: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


async def people(owner_url: str, count: int, crystals: int = 10**12) -> list[UUID]:
    """Make accounts that can pay for a whole measurement from one lot: the bonus is spent."""
    async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as owner:
        made = await owner.execute(
            """with ids as (select kernel.new_id((n %% 256)::smallint) as id
                           from generate_series(1, %s) n)
               insert into accounts.account (bucket, id)
               select kernel.bucket_of(id), id from ids returning id""",
            [count],
        )
        ids = [row[0] for row in await made.fetchall()]
        await owner.execute(
            """select c.* from (
                   select array_agg(w.account_id) as ids, array_agg(w.balance) as all_of_it,
                          array_agg('bonus'::text) as keys, array_agg(null::text) as nothing
                   from ledger.wallet w
                   where w.account_id = any (%s) and w.asset = 'crystal' and w.balance > 0
                   having count(*) > 0) w
               cross join lateral ledger.charge(w.ids, w.all_of_it, w.keys, w.keys, w.nothing) c""",
            [ids],
        )
        await owner.execute(
            "select ledger.grant(i, %s, 'bought', 'bench') from unnest(%s) i", [crystals, ids]
        )
        await owner.execute("analyze")
    return ids


@contextlib.asynccontextmanager
async def held_snapshot(owner_url: str, *, hold: bool) -> AsyncIterator[None]:
    """Keep a transaction open meanwhile, so that no dead row can be removed (or do nothing)."""
    if not hold:
        yield
        return
    async with await psycopg.AsyncConnection.connect(owner_url) as holder:
        await holder.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await holder.execute("select txid_current(), count(*) from queue.job_ready")
        yield
        await holder.rollback()
