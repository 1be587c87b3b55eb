"""Two walls: the application's role cannot write, and the owner cannot break a machine."""

import re
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from holdfast.kernel import queue, transitions
from holdfast.kernel.prelude import new_id
from holdfast.postgres.pool import Database
from holdfast.systems import accounts, stories

OURS = """
    select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname in (select schemaname from pg_tables
          where schemaname !~ '^pg_' and schemaname <> 'information_schema')
    order by 1, 2
"""


@pytest.fixture
async def job(db: Database) -> UUID:
    await queue.declare_kind(db, queue.Kind("story"))
    person = await accounts.sign_in(db, kind="dev", subject="ann")
    return (await stories.generate(db, account_id=person.id, prompt="a fox", key="k")).id


async def _tables(connection: psycopg.AsyncConnection) -> list[tuple[str, str]]:
    return await (await connection.execute(OURS)).fetchall()


async def test_the_application_cannot_write_a_single_table(app_url, owner, job):
    tables = await _tables(owner)
    assert len(tables) >= 15
    async with await psycopg.AsyncConnection.connect(app_url, autocommit=True) as app:
        for schema, table in tables:
            name = sql.Identifier(schema, table)
            columns = await (
                await owner.execute(
                    "select column_name from information_schema.columns"
                    " where table_schema = %s and table_name = %s",
                    [schema, table],
                )
            ).fetchall()
            column = sql.Identifier(columns[-1][0])
            for statement in (
                sql.SQL("update {0} set {1} = {1}").format(name, column),
                sql.SQL("delete from {0}").format(name),
                sql.SQL("truncate {0}").format(name),
                sql.SQL("insert into {0} select * from {0}").format(name),
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await app.execute(statement)


async def test_the_application_cannot_call_what_is_internal(app_url, owner, job):
    internal = await (
        await owner.execute(
            "select p.oid::regprocedure::text,"
            " has_function_privilege('holdfast_app', p.oid, 'execute')"
            " from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
            " where p.proname like '\\_%' and n.nspname in"
            " ('ledger', 'queue', 'outbox', 'audit', 'idempotency', 'transitions', 'accounts')"
        )
    ).fetchall()
    assert len(internal) > 20
    assert [name for name, allowed in internal if allowed] == []


async def test_entries_and_audit_are_written_once_even_by_the_owner(owner, job):
    for table in ("ledger.entry", "audit.event"):
        name = sql.Identifier(*table.split("."))
        for statement in (
            sql.SQL("update {0} set at = at").format(name),
            sql.SQL("delete from {0}").format(name),
            sql.SQL("truncate {0}").format(name),
        ):
            with pytest.raises(psycopg.DatabaseError) as refused:
                await owner.execute(statement)
            assert refused.value.sqlstate == "KH002", table


async def test_every_pair_of_every_machine(db, owner):
    """The same guard, on a bare table: exactly the declared pairs pass, for every machine.

    Then the guard of the machine's own table must say the same, to the letter.
    """
    machines = await transitions.machines(db)
    assert {"job", "hold", "effect", "account"} <= {m.machine for m in machines}
    for machine in machines:
        probe = f"public.probe_{machine.machine.replace(' ', '_')}"
        name = sql.Identifier(*probe.split("."))
        create = "create table {} (id uuid primary key, status text)"
        await owner.execute(sql.SQL(create).format(name))
        await owner.execute(
            "select transitions._guard(%s, %s, %s, '')", [machine.machine, probe, machine.initial]
        )
        declared = {(e.from_status, e.to_status) for e in machine.edges}
        for start in machine.statuses:
            for end in machine.statuses:
                if start != end:
                    state = await _moved(owner, name, start, end)
                    expected = None if (start, end) in declared else "KH001"
                    assert state == expected, (machine.machine, start, end)
        assert await _guards(owner, machine.entity) == await _guards(owner, probe)


async def _moved(owner, name, start, end) -> str | None:
    """Try a move by raw SQL; returns the SQLSTATE of the refusal."""
    async with owner.transaction(force_rollback=True):
        await owner.execute(sql.SQL("alter table {} disable trigger all").format(name))
        await owner.execute(
            sql.SQL("insert into {} values (%s, %s)").format(name), [new_id(7), start]
        )
        await owner.execute(sql.SQL("alter table {} enable trigger all").format(name))
        try:
            async with owner.transaction():
                await owner.execute(sql.SQL("update {} set status = %s").format(name), [end])
        except psycopg.DatabaseError as refused:
            return refused.sqlstate
    return None


async def _guards(owner, entity: str) -> list[str]:
    """What the guards of a table say, without its name and who the verbs run as."""
    rows = await (
        await owner.execute(
            "select case t.tgname when 'guard_move' then p.prosrc else pg_get_triggerdef(t.oid) end"
            " from pg_trigger t join pg_proc p on p.oid = t.tgfoid"
            " where t.tgrelid = %s::regclass and t.tgname in ('guard_start', 'guard_move')"
            " order by t.tgname",
            [entity],
        )
    ).fetchall()
    unlike = re.compile(r"or current_user <> '\w+'|perform audit\._trace_raw\(.*?\);| ON \S+ |\s+")
    return [unlike.sub("", said) for (said,) in rows]


@pytest.mark.parametrize(("start", "end"), [("failed", "completed"), ("completed", "failed")])
async def test_the_seeds_two_overwrites_are_refused(db, owner, job, start, end):
    [lease] = await queue.claim(db, worker="worker:a", kinds=["story"], limit=1)
    if start == "failed":
        await queue.fail(db, job_id=job, token=lease.token, code="x", permanent=True)
    else:
        await queue.finish(db, job_id=job, token=lease.token, result={"text": "x"})
    with pytest.raises(psycopg.DatabaseError) as refused:
        await owner.execute("update queue.job set status = %s where id = %s", [end, job])
    assert refused.value.sqlstate == "KH001"


async def test_a_row_starts_as_declared(owner, job):
    with pytest.raises(psycopg.DatabaseError) as refused:
        await owner.execute(
            "insert into queue.job (bucket, id, account_id, kind, status, payload, asset, price,"
            " attempts, created_at) select bucket, id, account_id, kind, 'completed', payload,"
            " asset, price, attempts, created_at from queue.job"
        )
    assert refused.value.sqlstate == "KH003"


async def test_a_legal_move_by_hand_leaves_its_trace(owner, job):
    await owner.execute("update queue.job set status = 'cancelled' where id = %s", [job])
    traced = await (
        await owner.execute(
            "select action, from_status, to_status, actor from audit.event"
            " where entity_id = %s order by id desc limit 1",
            [job],
        )
    ).fetchone()
    assert traced == ("job.raw_sql", "queued", "cancelled", f"sql:{owner.info.user}")


async def test_verbs_do_not_trace_twice(db, owner, job):
    [lease] = await queue.claim(db, worker="worker:a", kinds=["story"], limit=1)
    await queue.finish(db, job_id=job, token=lease.token, result={"text": "x"})
    actions = await (
        await owner.execute(
            "select action from audit.event where entity_id = %s order by id", [job]
        )
    ).fetchall()
    assert actions == [("stories.generate",), ("queue.claim",), ("queue.finish",)]


async def test_a_bucket_that_does_not_match_is_refused(owner, job):
    with pytest.raises(psycopg.errors.CheckViolation):
        await owner.execute(
            "insert into ledger.wallet (bucket, account_id, asset) values (0, %s, 'crystal')",
            [UUID("01936f00-0000-7000-8000-0000000000ff")],
        )
    assert uuid4()
