"""The first wall: who may do what after an installation, asked of the server itself."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from holdfast.postgres.install import install
from holdfast.postgres.pool import Database
from holdfast.postgres.server import EmbeddedServer
from holdfast.postgres.sources import Sources
from holdfast.postgres.walls import weaknesses

SCHEMA = """
create schema kernel;
create schema box;
create function kernel.refuse_change() returns trigger language plpgsql as $$
begin raise exception 'refused' using errcode = 'KH002'; end $$;
create table box.item (id int primary key, name text, secret text);
create table box.entry (id int primary key);
create table box.log (item int);
create trigger append_only before update or delete on box.entry
    for each row execute function kernel.refuse_change();
create function kernel.positive(n int) returns boolean language sql immutable return n > 0;
alter table box.item add check (kernel.positive(id));
create function box.logged() returns trigger language plpgsql security definer as $$
begin insert into box.log values (new.id); return null; end $$;
create trigger logged after insert on box.item for each row execute function box.logged();
"""
VERBS = """
create function box.put(id int) returns text language plpgsql as $$
begin
    perform box._enter(id);
    update box.item i set name = 'put' where i.id = put.id;
    return current_user;
end $$;
create function box._enter(id int) returns void language sql as 'insert into box.entry values (id)';
create function box.spoil() returns void language sql as 'update box.entry set id = 0';
create function box.where_from() returns text language sql as
    'select current_setting(''search_path'')';
create view box.seen as select id from box.item;
"""


@pytest.fixture
def tree(tmp_path: Path) -> Sources:
    for folder in ("migrations", "kernel", "systems"):
        (tmp_path / folder).mkdir()
    (tmp_path / "migrations" / "0001.sql").write_text(SCHEMA)
    (tmp_path / "systems" / "box.sql").write_text(VERBS)
    return Sources(
        tmp_path / "migrations",
        tmp_path / "kernel",
        tmp_path / "systems",
        insertable={"box.item": ("id", "name")},
    )


@pytest.fixture
def server(fast_folder: str | None) -> Iterator[EmbeddedServer]:
    """A server whose roles nobody made yet."""
    home = Path(tempfile.mkdtemp(prefix="hf-", dir=fast_folder))
    with EmbeddedServer(home, durable=False) as started:
        yield started
    shutil.rmtree(home)


@contextlib.contextmanager
def connected(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def app_url(owner_url: str) -> str:
    return psycopg.conninfo.make_conninfo(owner_url, options="-c role=holdfast_app")


def test_the_application_calls_verbs_and_reads(empty_url, tree):
    install(empty_url, sources=tree)
    with connected(app_url(empty_url)) as app:
        app.execute("insert into box.item (id, name) values (1, 'mine')")
        assert app.execute("select box.put(1)").fetchone() == ("holdfast_definer",)
        assert app.execute("select name, secret from box.item").fetchone() == ("put", None)
        assert app.execute("select id from box.seen").fetchone() == (1,)
        assert app.execute("select item from box.log").fetchone() == (1,)
        path = app.execute("select box.where_from()").fetchone()
        assert path == ("pg_catalog, pg_temp",)


@pytest.mark.parametrize(
    "statement",
    [
        "insert into box.item (id, secret) values (2, 's')",
        "insert into box.item values (2, 'n', 's')",
        "update box.item set name = 'x'",
        "delete from box.item",
        "truncate box.item",
        "insert into box.entry values (2)",
        "select box._enter(2)",
        "create table box.mine ()",
        "create function box.mine() returns int return 1",
        "drop function box.put",
        "alter table box.item disable trigger all",
        "update kernel.migration set digest = ''",
    ],
)
def test_the_application_may_nothing_else(empty_url, tree, statement):
    install(empty_url, sources=tree)
    with connected(app_url(empty_url)) as app, pytest.raises(InsufficientPrivilege):
        app.execute(statement)


def test_verbs_may_not_change_what_is_append_only(empty_url, tree):
    install(empty_url, sources=tree)
    with connected(app_url(empty_url)) as app:
        app.execute("insert into box.item (id) values (1)")
        app.execute("select box.put(1)")
        with pytest.raises(InsufficientPrivilege):
            app.execute("select box.spoil()")
    with connected(empty_url) as owner:
        with pytest.raises(psycopg.Error) as caught:
            owner.execute("update box.entry set id = 2")
        assert caught.value.sqlstate == "KH002"  # the second wall


def test_the_public_may_nothing(empty_url, tree):
    install(empty_url, sources=tree)
    with connected(empty_url) as owner:
        rows = owner.execute(
            "select count(*) filter (where has_function_privilege('pg_signal_backend', p.oid,"
            " 'execute')), count(*) from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
            " where n.nspname in ('box', 'kernel')"
        ).fetchone()
        assert rows == (0, 7)
        usage = "select has_schema_privilege('pg_signal_backend', 'box', 'usage')"
        assert owner.execute(usage).fetchone() == (False,)


def test_the_packages_own_walls(cluster, template):
    """Every verb runs as the definer with its path pinned; no internal is the application's."""
    with connected(cluster.owner_url(template)) as owner:
        rows = owner.execute(
            "select p.oid::regprocedure::text, p.proname like '\\_%%', n.nspname,"
            " has_function_privilege('holdfast_app', p.oid, 'execute'), p.prosecdef,"
            " pg_get_userbyid(p.proowner), coalesce(p.proconfig::text, '')"
            " from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
            " where n.nspname = any (%s) and p.prorettype <> 'trigger'::regtype",
            [Sources().schemas()],
        ).fetchall()
        assert len(rows) > 50
        for name, internal, schema, callable_, definer, runs_as, config in rows:
            if internal or name.startswith(("transitions.declare(", "transitions.install(")):
                assert not callable_, name
            elif schema != "kernel":
                assert callable_, name
                assert (definer, runs_as) == (True, "holdfast_definer"), name
                assert "search_path=pg_catalog, pg_temp" in config, name
        forbidden = owner.execute(
            "select c.oid::regclass::text from pg_class c"
            " join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname = any (%s) and c.relkind in ('r', 'p') and (has_table_privilege("
            " 'holdfast_app', c.oid, 'insert, update, delete, truncate')"
            " or not has_table_privilege('holdfast_app', c.oid, 'select'))",
            [Sources().schemas()],
        ).fetchall()
        assert forbidden == []
        for table in ("ledger.entry", "audit.event"):
            asked = "select has_table_privilege('holdfast_definer', %s, 'update, delete')"
            assert owner.execute(asked, [table]).fetchone() == (False,)


def test_roles_are_made_once_by_installers_of_many_databases(server, tree):
    names = [f"db{number}" for number in range(4)]
    with connected(server.url(database="postgres")) as superuser:
        for name in names:
            made = sql.SQL("create database {} owner holdfast_owner")
            superuser.execute(made.format(sql.Identifier(name)))
    urls = [server.url("holdfast_owner", name) for name in names]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda url: install(url, sources=tree), urls))
    assert [one.same_role for one in done] == [None] * 4


def test_a_role_that_another_installer_makes_at_this_moment_is_taken(server, tree):
    with ThreadPoolExecutor(1) as pool, psycopg.connect(server.url()) as faster:
        faster.execute("create role holdfast_definer nologin")
        faster.execute("grant holdfast_definer to holdfast_owner")
        asked = pool.submit(install, server.owner_url, sources=tree)
        with connected(server.url()) as witness:
            waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            deadline = time.monotonic() + 5
            while witness.execute(waiting).fetchone() != (1,):
                assert time.monotonic() < deadline
        faster.commit()
        assert asked.result().same_role is None


async def test_without_the_right_to_make_roles_there_is_one_role_and_it_is_told(server, tree):
    with connected(server.url(database="postgres")) as superuser:
        superuser.execute("create role plain login")
        superuser.execute("create database plain owner plain")
    url = server.url("plain", "plain")
    done = install(url, sources=tree)
    assert done.same_role == "the role plain may not create the role holdfast_definer"
    assert install(url, sources=tree).verbs == 0
    with connected(url) as plain:
        plain.execute("insert into box.item (id) values (1)")
        assert plain.execute("select box.put(1)").fetchone() == ("plain",)
    async with await Database.open(url) as db:
        told = await weaknesses(db, tree.schemas())
        assert [one.code for one in told] == ["owner", "one_role"]
    with connected(server.url(database="postgres")) as superuser:
        superuser.execute("alter role plain createrole")
    assert install(url, sources=tree).same_role is None  # noticed without being forced
    with connected(url) as plain:
        assert plain.execute("select box.put(2)").fetchone() == ("holdfast_definer",)


async def test_what_is_weaker_is_told_for_each_way_to_connect(server, tree):
    owner = server.owner_url
    install(owner, sources=tree)
    schemas = tree.schemas()

    async def told(url: str, role: str | None = None) -> list[str]:
        async with await Database.open(url, role=role) as db:
            return [one.code for one in await weaknesses(db, schemas)]

    assert await told(server.app_url) == []
    assert await told(owner, "holdfast_app") == ["reset"]
    assert await told(owner) == ["owner"]
    assert await told(server.url()) == ["superuser"]
    with connected(owner) as connection:
        connection.execute("grant update on box.item to holdfast_app")
    assert await told(server.app_url) == ["writes"]
    with connected(server.app_url) as app, pytest.raises(InsufficientPrivilege):
        app.execute("set role holdfast_definer")
