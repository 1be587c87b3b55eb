"""The one place that executes: one verb, one statement, one round trip, one mapping of errors."""

import contextlib
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, LiteralString, TypeVar, overload

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import BaseRowFactory, dict_row

from holdfast.errors import BrokenPromise
from holdfast.postgres.failures import STALE_PLAN, error_for
from holdfast.postgres.pool import Handle, Row

_T = TypeVar("_T")


@overload
async def call(
    db: Handle, sql: LiteralString, args: Mapping[str, Any] | None = None
) -> list[Row]: ...


@overload
async def call(
    db: Handle, sql: LiteralString, args: Mapping[str, Any] | None, rows: BaseRowFactory[_T]
) -> list[_T]: ...


async def call(
    db: Handle,
    sql: LiteralString,
    args: Mapping[str, Any] | None = None,
    rows: BaseRowFactory[Any] = dict_row,
) -> list[Any]:
    """Execute one statement and return its rows, as dicts, or as what `rows` makes of them.

    `db` is a Database or the caller's own connection, also a blocking one (see `run_sync`).
    Raises Unavailable (nobody knows whether it happened), Retryable (nothing was written),
    a BrokenPromise, or Internal with the `sqlstate` of a defect. The caller's transaction, if
    there is one, is aborted by any of them.
    """
    if isinstance(db, psycopg.Connection):
        with _mapped():
            return _execute_blocking(db, sql, args, rows)
    if isinstance(db, psycopg.AsyncConnection):
        with _mapped():
            return await _execute(db, sql, args, rows)
    async with db.connection() as connection:
        with _mapped():
            db.round_trips += 1
            return await _execute(connection, sql, args, rows)


async def call_one(db: Handle, sql: LiteralString, args: Mapping[str, Any] | None = None) -> Row:
    """Execute a statement that returns exactly one row. Raises BrokenPromise for any other."""
    rows = await call(db, sql, args)
    if len(rows) != 1:
        raise BrokenPromise(reason=f"{len(rows)} rows where one was promised: {sql}")
    return rows[0]


def run_sync(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a verb that was called with a blocking connection, without an event loop.

    Such a verb never waits for a loop, so one step takes it to its end.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    coroutine.close()
    raise TypeError("only a psycopg.Connection can be used without an event loop")


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as problem:
        raise error_for(problem) from problem


async def _execute(
    connection: psycopg.AsyncConnection[Any],
    sql: LiteralString,
    args: Mapping[str, Any] | None,
    rows: BaseRowFactory[Any],
) -> list[Any]:
    async with connection.cursor(binary=True, row_factory=rows) as cursor:
        try:
            await cursor.execute(sql, args, prepare=True)
        except psycopg.errors.FeatureNotSupported as problem:
            if not _outdated(problem, connection):
                raise
            await connection.execute("deallocate all")  # psycopg then forgets them too
            await cursor.execute(sql, args, prepare=True)
        return await cursor.fetchall() if _has_rows(cursor) else []


def _execute_blocking(
    connection: psycopg.Connection[Any],
    sql: LiteralString,
    args: Mapping[str, Any] | None,
    rows: BaseRowFactory[Any],
) -> list[Any]:
    with connection.cursor(binary=True, row_factory=rows) as cursor:
        try:
            cursor.execute(sql, args, prepare=True)
        except psycopg.errors.FeatureNotSupported as problem:
            if not _outdated(problem, connection):
                raise
            connection.execute("deallocate all")
            cursor.execute(sql, args, prepare=True)
        return cursor.fetchall() if _has_rows(cursor) else []


def _has_rows(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> bool:
    """Whether the statement returned any columns.

    `cursor.description` would say it too, and make an object of every column to do so.
    """
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


def _outdated(problem: psycopg.Error, connection: psycopg.BaseConnection[Any]) -> bool:
    """Whether the verb got new columns since this connection prepared it, and nothing was run.

    Inside a transaction it is too late to prepare it again.
    """
    idle = connection.info.transaction_status == TransactionStatus.IDLE
    return idle and STALE_PLAN in (problem.diag.message_primary or "")
