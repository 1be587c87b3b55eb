"""The installer, on tiny trees of SQL: one transaction, fresh = migrated, verbs anew each time."""

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from holdfast.errors import Internal, MigrationChanged, Retryable
from holdfast.postgres import catalogue
from holdfast.postgres.call import call, call_one
from holdfast.postgres.install import install, pending
from holdfast.postgres.pool import Database
from holdfast.postgres.sources import Sources

FIRST = """
create schema kernel;
create schema box;
create table kernel.setting (name text primary key, value text not null);
insert into kernel.setting values ('welcome_bonus', '200'), ('grace_days', '3');
create function kernel.double(n int) returns int language sql immutable return n * 2;
create table box.item (id int primary key check (kernel.double(id) > 0), name text);
"""
PUT = """
create function box.put(id int, name text) returns table (code text) language plpgsql as $$
begin
    insert into box.item values (put.id, put.name);
    return query select 'ok';
end $$;
"""


@pytest.fixture
def tree(tmp_path: Path) -> Sources:
    for folder in ("migrations", "kernel", "systems"):
        (tmp_path / folder).mkdir()
    sources = Sources(
        tmp_path / "migrations", tmp_path / "kernel", tmp_path / "systems", ("prelude",), {}
    )
    write(sources.migrations / "0001_first.sql", FIRST)
    write(sources.systems / "box.sql", PUT)
    return sources


def write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, "utf-8")


def ask(url: str, query: str, *values: object) -> list[tuple]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query, values).fetchall()


def lines(url: str, sources: Sources) -> list[str]:
    with psycopg.connect(url, autocommit=True) as connection:
        return catalogue.lines(connection, sources.schemas())


def routines(url: str, schema: str) -> list[str]:
    rows = ask(
        url,
        "select p.oid::regprocedure::text from pg_proc p"
        " where pronamespace = %s::regnamespace order by 1",
        schema,
    )
    return [name for (name,) in rows]


def test_nothing_to_install_is_no_error(empty_url, tmp_path):
    nothing = Sources(tmp_path / "m", tmp_path / "k", tmp_path / "s")
    assert install(empty_url, sources=nothing).migrations == ()


def test_migrations_once_and_verbs_when_they_changed(empty_url, tree):
    done = install(empty_url, sources=tree)
    assert (done.migrations, done.verbs, done.same_role) == (("0001_first.sql",), 2, None)
    again = install(empty_url, sources=tree)
    assert (again.migrations, again.verbs) == ((), 0)
    assert install(empty_url, sources=tree, force=True).verbs == 2
    write(tree.systems / "box.sql", PUT.replace("(id int, name text)", "(id int)"))
    assert install(empty_url, sources=tree).verbs == 2
    assert routines(empty_url, "box") == ["box.put(integer)"]  # no overload is left
    write(tree.migrations / "0002_more.sql", "alter table box.item add size int")
    with psycopg.connect(empty_url) as connection:
        assert pending(connection, tree) == ["0002_more.sql"]
    assert install(empty_url, sources=tree).migrations == ("0002_more.sql",)
    rows = ask(empty_url, "select name, length(digest) from kernel.migration order by name")
    assert rows == [("0001_first.sql", 64), ("0002_more.sql", 64), ("verbs", 64)]


def test_fresh_is_migrated(cluster, empty_url, tree):
    install(empty_url, sources=tree)
    write(
        tree.migrations / "0002_more.sql",
        "alter table box.item add size int; create table box.b ()",
    )
    write(tree.systems / "box.sql", PUT + "create view box.seen as select id from box.item;")
    write(tree.systems / "shelf" / "a.sql", "create function shelf._a() returns int return 1;")
    install(empty_url, sources=tree)
    fresh = cluster.create()
    install(cluster.owner_url(fresh), sources=tree)
    migrated = lines(empty_url, tree)
    assert migrated == lines(cluster.owner_url(fresh), tree)
    assert len(migrated) > 20
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("grant delete on box.item to holdfast_app")
    assert migrated != lines(empty_url, tree)  # it would have been seen
    install(empty_url, sources=tree, force=True)
    assert migrated == lines(empty_url, tree)  # and is put right


def test_an_applied_migration_may_not_change(empty_url, tree):
    install(empty_url, sources=tree)
    first = tree.migrations / "0001_first.sql"
    first.write_bytes(first.read_bytes().replace(b"\n", b"\r\n"))
    install(empty_url, sources=tree)  # a checkout on Windows
    write(first, FIRST + "create table box.sneaked_in ();")
    with pytest.raises(MigrationChanged) as caught:
        install(empty_url, sources=tree)
    assert caught.value.facts == {"name": "0001_first.sql"}
    assert "0001_first.sql" in str(caught.value)


def test_verbs_may_call_each_other_in_any_order(empty_url, tree):
    write(
        tree.systems / "aaa.sql",
        "create function aaa.f() returns int language sql as 'select zzz.f()'",
    )
    write(
        tree.systems / "zzz.sql", "create function zzz.f() returns int language sql as 'select 1'"
    )
    write(
        tree.systems / "box.sql",
        "create view box.seen as select i.*, aaa.f() from box.item i;"
        "create function box.all_seen() returns setof box.seen language sql as"
        " 'select * from box.seen';",
    )
    for _ in range(2):
        install(empty_url, sources=tree, force=True)
    assert ask(empty_url, "select aaa.f()") == [(1,)]


def test_a_mistake_is_told_with_its_place_and_changes_nothing(empty_url, tree):
    install(empty_url, sources=tree)
    before = lines(empty_url, tree)
    mistakes = {
        PUT + "\nselect no_such_column;": (
            r'systems/box\.sql:8: column "no_such_column" does not exist'
        ),
        "create function box.wrong() returns int language sql as 'select no_such()'": (
            r"box\.wrong\(\): function no_such\(\) does not exist"
        ),
        "create function box.wrong() returns int language plpgsql as 'begin no; end'": (
            r"box\.wrong\(\): syntax error"
        ),
        "select 1 / 0": r"systems/box\.sql: division by zero",
    }
    for text, told in mistakes.items():
        write(tree.systems / "box.sql", text)
        with pytest.raises(Internal) as caught:
            install(empty_url, sources=tree)
        assert re.search(told, caught.value.facts["reason"])
        assert lines(empty_url, tree) == before


def test_a_view_belongs_beside_the_verbs(empty_url, tree):
    write(tree.migrations / "0002_view.sql", "create view box.seen as select id from box.item")
    with pytest.raises(Internal) as caught:
        install(empty_url, sources=tree)
    assert "box.seen" in caught.value.facts["reason"]


def test_somebody_elses_view_is_not_dropped_with_ours(empty_url, tree):
    write(tree.systems / "box.sql", "create view box.seen as select id from box.item")
    install(empty_url, sources=tree)
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("create view public.mine as select * from box.seen")
    with pytest.raises(Internal) as caught:
        install(empty_url, sources=tree, force=True)
    assert "view mine depends on view box.seen" in caught.value.facts["reason"]
    assert ask(empty_url, "select count(*) from public.mine") == [(0,)]


def test_settings_the_database_knows_are_written_and_nothing_else(empty_url, tree):
    given = {"HOLDFAST_WELCOME_BONUS": "50", "HOLDFAST_CLERK_PEM": "secret"}
    assert install(empty_url, given, sources=tree).settings == ("welcome_bonus",)
    known = "select name, value from kernel.setting order by name"
    assert ask(empty_url, known) == [("grace_days", "3"), ("welcome_bonus", "50")]
    assert install(empty_url, sources=tree).settings == ()
    assert ask(empty_url, known) == [("grace_days", "3"), ("welcome_bonus", "50")]


def test_several_installers_of_one_database_follow_one_another(empty_url, tree):
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(install, empty_url, sources=tree) for _ in range(4)]
        done = [future.result() for future in asked]
    assert sorted(len(one.migrations) for one in done) == [0, 0, 0, 1]
    assert sorted(one.verbs for one in done) == [0, 0, 0, 2]


async def test_verbs_work_while_they_are_replaced(empty_url, tree):
    """Callers on connections that have prepared the old verbs see the old or the new, no error."""
    install(empty_url, sources=tree)
    ended = threading.Event()

    def replace() -> None:
        for number in range(8):
            more = f", added_{number} int" if number % 2 else ""
            text = PUT.replace("(code text", f"(code text{more}")
            if more:
                text = text.replace("select 'ok'", "select 'ok', 1")
            write(tree.systems / "box.sql", text)
            install(empty_url, sources=tree)
        ended.set()

    async with await Database.open(empty_url) as db:
        replacing = asyncio.create_task(asyncio.to_thread(replace))
        calls, shapes = 0, set()
        while not ended.is_set():
            row = await call_one(
                db,
                "select * from box.put(id => %(id)s::int, name => 'x')",
                {"id": calls + 1},
            )
            shapes.add(len(row))
            calls += 1
        await replacing
        assert await call(db, "select count(*)::int as n from box.item") == [{"n": calls}]
        assert shapes == {1, 2}


def test_a_table_that_stays_locked_is_told_as_busy(empty_url, tree, monkeypatch):
    monkeypatch.setattr("holdfast.postgres.install._ATTEMPTS", 2)
    monkeypatch.setattr("holdfast.postgres.install._LOCK_WITHIN", "100ms")
    install(empty_url, sources=tree)
    write(tree.migrations / "0002_more.sql", "alter table box.item add size int")
    with psycopg.connect(empty_url) as holder:
        holder.execute("select * from box.item")
        with pytest.raises(Retryable):
            install(empty_url, sources=tree)
    assert install(empty_url, sources=tree).migrations == ("0002_more.sql",)


def test_what_is_generated_from_declarations_is_made_after_them(empty_url, tree):
    write(
        tree.migrations / "0002_machines.sql",
        "create schema transitions; create table transitions.made (writer text)",
    )
    write(
        tree.kernel / "transitions.sql",
        "create function transitions.install(writer text) returns void language sql as"
        " 'insert into transitions.made values (writer)'",
    )
    install(empty_url, sources=tree)
    assert ask(empty_url, "select writer from transitions.made") == [("holdfast_definer",)]


def test_the_packages_own_schema_fresh_and_again(cluster, template):
    url = cluster.owner_url(template)
    ours = Sources()
    before = lines(url, ours)
    assert install(url).verbs == 0
    assert install(url, force=True).verbs > 50
    assert lines(url, ours) == before
