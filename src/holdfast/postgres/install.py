"""Put the schema into a database: pending migrations, then every verb anew, then the walls.

One transaction under one lock: a database is never half installed, and two installers follow one
another. Verbs are dropped and created again because CREATE OR REPLACE would leave overloads; what
tables and triggers depend on is versioned in migrations instead and stays.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from holdfast.errors import HoldfastError, Internal, MigrationChanged, Retryable
from holdfast.postgres import walls
from holdfast.postgres.conninfo import conninfo
from holdfast.postgres.failures import error_for
from holdfast.postgres.sources import Sources, digest_of

_LOCK = 0x486F6C6466617374  # "Holdfast"
_ATTEMPTS = 5
_LOCK_WITHIN = "5s"
_VERBS = "verbs"  # the row of kernel.migration that says which verbs are installed

_Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installation did.

    `migrations` were applied now; `verbs` is how many functions were created (0: all current);
    `settings` were written; `same_role` says why there is one role only, or is None.
    """

    migrations: tuple[str, ...]
    verbs: int
    settings: tuple[str, ...]
    same_role: str | None


def install(
    url: str,
    explicit: Mapping[str, str] | None = None,
    *,
    sources: Sources | None = None,
    force: bool = False,
) -> Installed:
    """Bring the database at `url` (its owner's) up to date. Blocking; safe to run at any time.

    `explicit` are the HOLDFAST_* variables that were set; those the database must know are
    written into kernel.setting, the others are not looked at. Where the verbs are current they
    are left alone, unless `force`. Raises MigrationChanged, DatabaseRights, Unavailable, or
    Internal naming the file and the line.
    """
    given = sources or Sources()
    for attempt in range(_ATTEMPTS):
        try:
            return _install(url, explicit or {}, given, force=force)
        except Retryable:  # somebody's open transaction holds a table; nothing was changed
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.2 * 2**attempt)
    raise AssertionError("unreachable")


def pending(connection: _Connection, sources: Sources | None = None) -> list[str]:
    """Return the names of the migrations that were not applied yet, in order."""
    applied = _applied(connection)
    return [f.name for f in (sources or Sources()).migration_files() if f.name not in applied]


def _install(url: str, explicit: Mapping[str, str], sources: Sources, *, force: bool) -> Installed:
    try:
        with psycopg.connect(
            conninfo(url, application_name="holdfast-install"), autocommit=True
        ) as connection:
            roles = walls.make_roles(connection)
            with connection.transaction():
                return _inside(connection, explicit, sources, roles, force=force)
    except psycopg.Error as problem:
        raise error_for(problem) from problem


def _inside(
    connection: _Connection,
    explicit: Mapping[str, str],
    sources: Sources,
    roles: walls.Roles,
    *,
    force: bool,
) -> Installed:
    connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
    connection.execute("select set_config('lock_timeout', %s, true)", [_LOCK_WITHIN])
    connection.execute("set local client_min_messages = warning")
    applied = _applied(connection)
    for file in sources.migration_files():
        if applied.get(file.name, digest_of(file)) != digest_of(file):
            raise MigrationChanged(name=file.name)
    wanted = sources.digest(walls.DIGEST, repr(roles), str(connection.info.server_version // 10000))
    files = [file for file in sources.migration_files() if file.name not in applied]
    verbs = 0
    if force or files or applied.get(_VERBS) != wanted:
        walls.drop_verbs(connection, sources.schemas())
        for file in files:
            _run(connection, file)
            _remember(connection, file.name, digest_of(file))
        walls.refuse_views(connection, sources.schemas())
        verbs = _create_verbs(connection, sources, roles)
        _remember(connection, _VERBS, wanted)
    written = _write_settings(connection, explicit)
    return Installed(tuple(file.name for file in files), verbs, written, roles.same_role)


def _applied(connection: _Connection) -> dict[str, str]:
    row = connection.execute("select to_regclass('kernel.migration')").fetchone()
    if row is None or row[0] is None:
        return {}
    return dict(connection.execute("select name, digest from kernel.migration").fetchall())


def _remember(connection: _Connection, name: str, digest: str) -> None:
    connection.execute("create schema if not exists kernel")
    connection.execute(
        "create table if not exists kernel.migration (name text primary key, digest text not null,"
        " at timestamptz not null default clock_timestamp())"
    )
    connection.execute(
        "insert into kernel.migration (name, digest) values (%s, %s)"
        " on conflict (name) do update set digest = excluded.digest, at = excluded.at",
        [name, digest],
    )


def _create_verbs(connection: _Connection, sources: Sources, roles: walls.Roles) -> int:
    """Create every verb, generate what is generated from declarations, put up the walls."""
    # Verbs may call what a later file creates: bodies are read when all of them are there.
    connection.execute("set local check_function_bodies = off")
    for schema in sources.schemas():
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
    for file in sources.verb_files():
        _run(connection, file)
    connection.execute("set local check_function_bodies = on")
    walls.check_bodies(connection, sources.schemas())
    if connection.execute("select to_regproc('transitions.install')").fetchone() != (None,):
        connection.execute("select transitions.install(%s)", [roles.definer])
    return walls.build(connection, sources.schemas(), sources.insertable, roles)


def _write_settings(connection: _Connection, explicit: Mapping[str, str]) -> tuple[str, ...]:
    """Write the settings that the database knows by name; secrets are never among them."""
    row = connection.execute("select to_regclass('kernel.setting')").fetchone()
    if row is None or row[0] is None:
        return ()
    given = {name.removeprefix("HOLDFAST_").lower(): value for name, value in explicit.items()}
    rows = connection.execute(
        "update kernel.setting s set value = g.value"
        " from unnest(%s::text[], %s::text[]) as g (name, value)"
        " where s.name = g.name and s.value <> g.value returning s.name",
        [list(given), list(given.values())],
    ).fetchall()
    return tuple(sorted(name for (name,) in rows))


def _run(connection: _Connection, file: Path) -> None:
    """Run a file of ours. Raises with its name and the line."""
    text = file.read_text("utf-8")
    try:
        connection.execute(text.encode())
    except psycopg.Error as problem:
        raise _told(problem, f"{file.parent.name}/{file.name}", text) from problem


def _told(problem: psycopg.Error, name: str, text: str) -> HoldfastError:
    found = error_for(problem)
    if not isinstance(found, Internal):
        return found
    position = int(problem.diag.statement_position or 0)
    line = f":{text.count(chr(10), 0, position) + 1}" if position else ""
    reason = f"{name}{line}: {problem.diag.message_primary or problem}"
    if problem.diag.context:
        reason += f" ({problem.diag.context.splitlines()[0]})"
    return Internal(reason=reason, sqlstate=problem.sqlstate)
