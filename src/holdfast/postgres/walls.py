"""The first wall: who may do what, decided from the catalogue at every installation.

The application may call verbs and read; verbs run as a role of their own that may write; nobody
may write what is append-only but by INSERT. Where we may not make roles there is one role only
(`Roles.same_role` says why), and the guards' triggers are the only wall.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from holdfast.errors import Internal
from holdfast.postgres.call import call_one
from holdfast.postgres.pool import Handle

APPLICATION, DEFINER = "holdfast_app", "holdfast_definer"
DIGEST = "1"  # raised when what is built here changes
_OWNER_ONLY = ("transitions.declare", "transitions.install")
_READ_ONLY = ("kernel", "transitions")  # schemas no verb writes
_APPEND_ONLY = "refuse_change"  # the trigger function by which a table says so
_ATTEMPTS = 10

_Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Roles:
    """The role that verbs run as, and why it is the owner himself (or None)."""

    definer: str
    same_role: str | None


def make_roles(connection: _Connection) -> Roles:
    """Make the two roles where they are missing, and become a member of both.

    Roles belong to the whole server: installers of other databases may do the same right now.
    """
    row = connection.execute(
        "select rolname, rolsuper or rolcreaterole from pg_roles where rolname = current_user"
    ).fetchone()
    assert row is not None
    owner, may_create = row
    for role in (DEFINER, APPLICATION):
        if not _exists(connection, role):
            if not may_create:
                return Roles(owner, f"the role {owner} may not create the role {role}")
            _create(connection, role)
        if not _member(connection, role):
            try:
                _patiently(connection, sql.SQL("grant {} to current_user"), role)
            except psycopg.errors.InsufficientPrivilege:
                if role == DEFINER:
                    return Roles(owner, f"the role {owner} is no member of {role}")
    return Roles(DEFINER, None)


def _exists(connection: _Connection, role: str) -> bool:
    found = connection.execute("select 1 from pg_roles where rolname = %s", [role])
    return found.fetchone() is not None


def _member(connection: _Connection, role: str) -> bool:
    """Whether we may hand things to `role`: membership, which from 16 on has three faces."""
    face = "SET" if connection.info.server_version >= 160000 else "MEMBER"
    row = connection.execute("select pg_has_role(%s, %s)", [role, face]).fetchone()
    return bool(row and row[0])


def _create(connection: _Connection, role: str) -> None:
    faster = (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation)
    with contextlib.suppress(*faster):  # another installer
        _patiently(connection, sql.SQL("create role {} nologin"), role)


def _patiently(connection: _Connection, statement: sql.SQL, role: str) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            connection.execute(statement.format(sql.Identifier(role)))
        except psycopg.errors.InternalError_:  # "tuple concurrently updated"
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.05)
        else:
            return


def drop_verbs(connection: _Connection, schemas: Sequence[str]) -> None:
    """Drop every view and function of ours but those that tables and triggers stand on.

    Functions return views and views call functions: what others need is dropped after them.
    Never CASCADE, which would also drop a user's own view on ours.
    """
    left: list[sql.Composed] = [
        sql.SQL("drop view {}").format(sql.Identifier(schema, name))
        for schema, name in connection.execute(
            "select schemaname, viewname from pg_views where schemaname = any (%s)", [[*schemas]]
        )
    ]
    left += [
        sql.SQL("drop routine {} ({})").format(sql.Identifier(schema, name), sql.SQL(arguments))
        for schema, name, arguments in connection.execute(_ROUTINES, [[*schemas]])
        if schema != "kernel"
    ]
    while left:
        failed: list[sql.Composed] = []
        for statement in left:
            try:
                with connection.transaction():
                    connection.execute(statement)
            except psycopg.errors.DependentObjectsStillExist as problem:
                failed.append(statement)
                reason = problem.diag.message_detail or str(problem)
        if len(failed) == len(left):
            raise Internal(reason=f"a verb cannot be made anew: {reason}")
        left = failed


_ROUTINES = """
    select n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = any (%s) and p.prorettype <> 'trigger'::regtype
      and p.prokind in ('f', 'p')
      and not exists (select from pg_depend d where d.refclassid = 'pg_proc'::regclass
                      and d.refobjid = p.oid and d.classid = 'pg_constraint'::regclass)
    order by 1, 2, 3
"""


def refuse_views(connection: _Connection, schemas: Sequence[str]) -> None:
    """Raise where a migration made a view: the next installation would drop it."""
    for schema, name in connection.execute(
        "select schemaname, viewname from pg_views where schemaname = any (%s)", [[*schemas]]
    ):
        raise Internal(reason=f"the view {schema}.{name} belongs beside the verbs")


def check_bodies(connection: _Connection, schemas: Sequence[str]) -> None:
    """Have the server read every body; raises as CREATE FUNCTION would, naming the function."""
    for oid, name, language in connection.execute(
        "select p.oid, p.oid::regprocedure::text, l.lanname from pg_proc p"
        " join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang"
        " where n.nspname = any (%s) and l.lanname in ('sql', 'plpgsql') order by 2",
        [[*schemas]],
    ).fetchall():
        validator = "fmgr_sql_validator" if language == "sql" else "plpgsql_validator"
        try:
            connection.execute(sql.SQL("select {}(%s)").format(sql.Identifier(validator)), [oid])
        except psycopg.Error as problem:
            where = problem.diag.context or ""
            reason = f"{name}: {problem.diag.message_primary} {where}".strip()
            raise Internal(reason=reason, sqlstate=problem.sqlstate) from problem


def build(
    connection: _Connection,
    schemas: Sequence[str],
    insertable: Mapping[str, Sequence[str]],
    roles: Roles,
) -> int:
    """Grant and revoke, hand the verbs to their role; returns how many functions there are."""
    statements: list[sql.Composable] = []
    for schema in schemas:
        statements += _on_schema(schema, roles)
    if roles.same_role is None:
        statements += _on_tables(connection, schemas, insertable)
    verbs = _verbs(connection, schemas)
    statements += _on_verbs(verbs, schemas, roles)
    connection.execute(sql.SQL(";\n").join(statements))
    return len(verbs)


def _on_schema(schema: str, roles: Roles) -> list[sql.Composable]:
    names = {"s": sql.Identifier(schema), "d": sql.Identifier(DEFINER)}
    names["a"] = sql.Identifier(APPLICATION)
    texts = ["revoke all on schema {s} from public"]
    texts += ["revoke all on all routines in schema {s} from public"]
    texts += ["revoke all on all tables in schema {s} from public"]
    if roles.same_role is None:
        texts += ["revoke all on schema {s} from {a}, {d}"]
        texts += ["grant usage on schema {s} to {a}, {d}"]
        texts += ["revoke all on all routines in schema {s} from {a}"]
        texts += ["grant execute on all routines in schema {s} to {d}"]
        texts += ["revoke all on all tables in schema {s} from {a}, {d}"]
        texts += ["grant select on all tables in schema {s} to {a}, {d}"]
        # Up to 15 by rule, and later too: an owner of functions needs it, for this moment.
        texts += ["grant create on schema {s} to {d}"]
    return [sql.SQL(text).format(**names) for text in texts]


def _on_tables(
    connection: _Connection, schemas: Sequence[str], insertable: Mapping[str, Sequence[str]]
) -> list[sql.Composable]:
    found = connection.execute(
        "select n.nspname, c.relname, exists (select from pg_trigger t"
        "   join pg_proc p on p.oid = t.tgfoid where t.tgrelid = c.oid and p.proname = %s)"
        " from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = any (%s) and c.relkind in ('r', 'p') order by 1, 2",
        [_APPEND_ONLY, [*schemas]],
    ).fetchall()
    made: list[sql.Composable] = []
    for schema, table, append_only in found:
        where = sql.Identifier(schema, table)
        if schema not in _READ_ONLY:
            rights = "insert" if append_only else "insert, update, delete"
            made.append(
                sql.SQL("grant " + rights + " on {} to {}").format(where, sql.Identifier(DEFINER))
            )
        if columns := insertable.get(f"{schema}.{table}"):
            made.append(
                sql.SQL("grant insert ({}) on {} to {}").format(
                    sql.SQL(", ").join(map(sql.Identifier, columns)),
                    where,
                    sql.Identifier(APPLICATION),
                )
            )
    return made


@dataclass(frozen=True, slots=True)
class _Verb:
    called: sql.Composed  # as ALTER ROUTINE wants it
    public: bool
    definer: bool  # declared SECURITY DEFINER (a trigger that writes elsewhere)
    kernel: bool


def _verbs(connection: _Connection, schemas: Sequence[str]) -> list[_Verb]:
    rows = connection.execute(
        "select n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), p.prosecdef,"
        " p.prorettype = 'trigger'::regtype"
        " from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
        " where n.nspname = any (%s) and p.prokind in ('f', 'p') order by 1, 2, 3",
        [[*schemas]],
    ).fetchall()
    return [
        _Verb(
            sql.SQL("{} ({})").format(sql.Identifier(schema, name), sql.SQL(arguments)),
            public=not (name.startswith("_") or trigger or f"{schema}.{name}" in _OWNER_ONLY),
            definer=definer,
            kernel=schema == "kernel",
        )
        for schema, name, arguments, definer, trigger in rows
    ]


def _on_verbs(verbs: Sequence[_Verb], schemas: Sequence[str], roles: Roles) -> list[sql.Composable]:
    made: list[sql.Composable] = []
    two = roles.same_role is None
    names = {"a": sql.Identifier(APPLICATION), "d": sql.Identifier(roles.definer)}
    for verb in verbs:
        texts = ["grant execute on routine {f} to {a}"] if verb.public and two else []
        if verb.definer or (verb.public and not verb.kernel):
            texts += [
                "alter routine {f} security definer",
                "alter routine {f} set search_path = pg_catalog, pg_temp",
            ]
            texts += ["alter routine {f} owner to {d}"] if two else []
        made += [sql.SQL(text).format(f=verb.called, **names) for text in texts]
    for schema in schemas if two else ():
        made.append(
            sql.SQL("revoke create on schema {} from {}").format(
                sql.Identifier(schema), sql.Identifier(DEFINER)
            )
        )
    return made


@dataclass(frozen=True, slots=True)
class Weakness:
    """A wall that does not stand for this connection: a code, and a sentence for the operator."""

    code: str
    sentence: str


_WEAK = {
    "superuser": "The application connects as a superuser: no privilege holds it back.",
    "owner": "The application connects as the owner of the tables and may write them directly; "
    "only the guards' triggers are left. Connect as a member of holdfast_app.",
    "writes": "The application's role was granted direct writes on tables; revoke them.",
    "reset": "The application connects as a stronger role and only takes holdfast_app on: SQL of "
    "its own could put it off. Connect as a role that is a member of holdfast_app only.",
    "one_role": "Verbs run as the owner of the tables, as this server has no role "
    "holdfast_definer: entries and audit are append-only by their triggers alone.",
}

_WEAKER = """
    with tables as (
        select c.oid, c.relowner from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and n.nspname = any (%(schemas)s)
    ), me as (
        select rolsuper as superuser from pg_roles where rolname = current_user
    )
    select me.superuser,
           not me.superuser and exists (
               select from tables t where pg_has_role(t.relowner, 'usage')) as owner,
           not me.superuser and exists (
               select from tables t where has_table_privilege(t.oid, 'update, delete, truncate')
               and not pg_has_role(t.relowner, 'usage')) as writes,
           not me.superuser and session_user <> current_user as reset,
           exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                   where n.nspname = any (%(schemas)s) and p.prosecdef
                     and p.proowner in (select relowner from tables)) as one_role
    from me
"""


async def weaknesses(db: Handle, schemas: Sequence[str]) -> list[Weakness]:
    """Return which walls do not stand for who is connected here, for `doctor` and `/readyz`."""
    row = await call_one(db, _WEAKER, {"schemas": [*schemas]})
    return [Weakness(code, sentence) for code, sentence in _WEAK.items() if row[code]]
