"""Can this server be used? If not, why, in one sentence that says what to do."""

import asyncio
from typing import Any

import psycopg

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
from holdfast.postgres.conninfo import conninfo, described

OLDEST = 15
_WITHIN = 15.0  # seconds for the whole question
_REFUSED = ("28P01", "28000")
_PASSIVE = "select pg_is_in_recovery() or current_setting('default_transaction_read_only')::bool"


async def connect(url: str) -> None:
    """Connect once and see whether the server can be used.

    Raises DatabaseUnreachable, DatabasePassword, DatabaseMissing, DatabaseRights,
    DatabaseTooOld, DatabaseReadOnly, or Unavailable where it is full, starting or stopping.
    """
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    except psycopg.Error as problem:
        raise _why(url, problem) from problem
    async with connection:
        await _usable(connection)


async def problem(url: str) -> HoldfastError | None:
    """Return what `connect` would raise, for `doctor` and `/readyz`."""
    try:
        async with asyncio.timeout(_WITHIN):
            await connect(conninfo(url))
    except HoldfastError as found:
        return found
    except TimeoutError:
        return DatabaseUnreachable(address=described(url)["address"])
    return None


async def _usable(connection: psycopg.AsyncConnection[Any]) -> None:
    version = connection.info.server_version // 10000
    if version < OLDEST:
        raise DatabaseTooOld(version=version)
    cursor = await connection.execute(_PASSIVE)
    row = await cursor.fetchone()
    if row is None or row[0]:
        raise DatabaseReadOnly()


def _why(url: str, problem: psycopg.Error) -> HoldfastError:
    """Read a failed connection. libpq gives an SQLSTATE only for some; the rest is in its words."""
    told = described(url)
    words = str(problem)
    state = problem.sqlstate or ""
    if state in _REFUSED or "authentication failed" in words or "no password supplied" in words:
        return DatabasePassword(user=told["user"])
    if "pg_hba.conf" in words:
        return DatabasePassword(user=told["user"])
    if state == "3D000" or ("database" in words and "does not exist" in words):
        return DatabaseMissing(database=told["database"])
    if "permission denied" in words and ("role" in words or "database" in words):
        return DatabaseRights(role=told["user"])
    if 'role "' in words and "does not exist" in words:
        return DatabasePassword(user=told["user"])
    if state.startswith(("53", "57P")) or "too many" in words or "starting up" in words:
        return Unavailable(reason=words)
    return DatabaseUnreachable(address=told["address"], reason=words)
