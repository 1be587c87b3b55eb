"""What scale-out needs of the schema, checked on plain PostgreSQL.

An owned table is one whose rows belong to an account, a desk or another owner: it has a `bucket`.
"""

import re
from pathlib import Path

import psycopg
import pytest

# Not owned: settings, catalogues and other small tables that every node keeps a copy of.
REFERENCE = {
    "accounts._key",
    "courses.course",
    "courses.plan_day",
    "courses.plan_step",
    "courses.version",
    "kernel.clock",
    "kernel.installation",
    "kernel.migration",
    "kernel.setting",
    "ledger.price",
    "outbox.kind",
    "projects.input",
    "projects.stage",
    "projects.template",
    "queue.idle",
    "queue.kind",
    "transitions.edge",
    "transitions.machine",
    "transitions.status",
}
# Owned, but routed by another key than an id of the same owner.
BY_HASH = {"accounts.identity", "accounts.past_person"}

TABLES = """
    select n.nspname || '.' || c.relname, c.oid,
           exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'bucket'
                   and a.attgenerated = '' and a.atttypid = 'smallint'::regtype)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname !~ '^(pg_|information_schema|public)'
"""


async def _rows(owner: psycopg.AsyncConnection, query: str, *args: object) -> list[tuple]:
    return await (await owner.execute(query, args or None)).fetchall()


async def _owned(owner: psycopg.AsyncConnection) -> dict[str, int]:
    return {name: oid for name, oid, bucket in await _rows(owner, TABLES) if bucket}


async def test_every_table_is_owned_or_a_reference_table(owner):
    loose = {name for name, _, bucket in await _rows(owner, TABLES) if not bucket} - REFERENCE
    assert loose == set(), "give it a bucket, or name it as a reference table here"


async def test_bucket_leads_every_primary_key_and_unique_index(owner):
    wrong = []
    for name, oid in (await _owned(owner)).items():
        keys = await _rows(
            owner,
            "select i.indexrelid::regclass::text, a.attname from pg_index i"
            " join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]"
            " where i.indrelid = %s and i.indisunique",
            oid,
        )
        assert keys, f"{name} has no key"
        wrong += [
            f"{name}: {index} begins with {first}" for index, first in keys if first != "bucket"
        ]
    assert wrong == []


async def test_bucket_leads_every_foreign_key_between_owned_tables(owner):
    owned = await _owned(owner)
    wrong = await _rows(
        owner,
        "select c.conrelid::regclass::text, c.conname from pg_constraint c"
        " join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]"
        " where c.contype = 'f' and c.confrelid = any (%s) and a.attname <> 'bucket'",
        list(owned.values()),
    )
    assert wrong == []


async def test_a_check_holds_the_bucket_to_the_id(owner):
    wrong = []
    for name, oid in (await _owned(owner)).items():
        checks = await _rows(
            owner,
            # The check itself, and the functions it calls.
            "select concat_ws(' ', pg_get_constraintdef(c.oid), string_agg(p.prosrc, ' '))"
            " from pg_constraint c left join pg_depend d on d.objid = c.oid"
            "  and d.classid = 'pg_constraint'::regclass and d.refclassid = 'pg_proc'::regclass"
            " left join pg_proc p on p.oid = d.refobjid"
            " where c.contype = 'c' and c.conrelid = %s group by c.oid",
            oid,
        )
        held = any("bucket = get_byte(uuid_send(" in d for (d,) in checks)
        if not held and name not in BY_HASH:
            wrong.append(name)
    assert wrong == []


async def test_no_sequence_and_no_identity_column(owner):
    assert (
        await _rows(
            owner,
            "select oid::regclass::text from pg_class where relkind = 'S'"
            " and relnamespace::regnamespace::text !~ '^(pg_|information_schema)'",
        )
        == []
    )


async def test_money_is_bigint(owner):
    """'NaN'::numeric > 0 is true."""
    assert (
        await _rows(
            owner,
            "select table_schema, table_name, column_name from information_schema.columns"
            " where table_schema in ('ledger', 'queue') and data_type = 'numeric'",
        )
        == []
    )


async def test_a_public_verb_is_a_definer_with_a_pinned_search_path(owner):
    wrong = await _rows(
        owner,
        "select p.oid::regprocedure::text from pg_proc p join pg_namespace n"
        " on n.oid = p.pronamespace where n.nspname !~ '^(pg_|information_schema|public|kernel)'"
        " and has_function_privilege('holdfast_app', p.oid, 'execute')"
        " and not (p.prosecdef and array_to_string(p.proconfig, ',') ~ 'search_path=')",
    )
    assert wrong == []


async def test_nobody_else_may_execute_a_verb(owner):
    wrong = await _rows(
        owner,
        "select p.oid::regprocedure::text from pg_proc p join pg_namespace n"
        " on n.oid = p.pronamespace where n.nspname !~ '^(pg_|information_schema|public)'"
        " and has_function_privilege('public', p.oid, 'execute')",
    )
    assert wrong == []


SOURCES = sorted(Path(__file__).parents[2].joinpath("src/holdfast").rglob("*.sql"))


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_sql_that_does_not_distribute(file):
    """now() is the time the transaction began; MERGE, SERIALIZABLE and random ids in arguments
    do not cross nodes."""
    text = re.sub(r"--.*", "", file.read_text("utf-8"))
    text = re.sub(r"'[^']*'", "''", text)
    for word in (
        r"(?<!kernel)(?<!\.)\bnow\(\)",
        r"\bmerge into\b",
        r"\bserializable\b",
        r"\bcurrent_timestamp\b",
        r"\bnextval\b",
        r"\block table\b",
    ):
        assert not re.search(word, text, re.IGNORECASE), word
