"""The pool: connections in autocommit, so that one verb is one round trip.

Outside autocommit psycopg sends BEGIN as a round trip of its own. `transaction()` is for callers
who join several verbs, or a verb and their own tables; READ COMMITTED is assumed.
"""

import asyncio
import contextlib
import json
import select
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeAlias

import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout
from pydantic_core import from_json

from holdfast.errors import Unavailable
from holdfast.postgres import check
from holdfast.postgres.conninfo import conninfo
from holdfast.postgres.failures import error_for

Row: TypeAlias = dict[str, Any]

_PATIENCE = 5.0  # seconds a caller waits for a connection, before it is an outage
_OPEN_WITHIN = 15.0
_REVIVE_FIRST, _REVIVE_MOST = 0.1, 1.0


class Database:
    """A pool of connections to one database. Made by `open`, ended by `close`.

    `round_trips` counts the statements sent for verbs, since the start. `combining` says whether
    concurrent calls of one verb are gathered into one (see `combine`).
    """

    def __init__(self, asked: str, *, min_size: int, max_size: int, combining: bool) -> None:
        self._pool = AsyncConnectionPool(
            asked,
            connection_class=AsyncConnection[Any],
            kwargs={"autocommit": True, "prepare_threshold": 0},
            min_size=min_size,
            max_size=max_size,
            open=False,
            configure=self._connected,
            check=self._check,
            reconnect_failed=self._revive,
            # Its own retries wait longer each time; ours (`_revive`) never more than a second.
            reconnect_timeout=0.0,
            timeout=_PATIENCE,
        )
        self.combining = combining
        self.round_trips = 0
        self.lanes: dict[object, Any] = {}  # what `combine` keeps for this pool
        self._before_close: list[Callable[[], Awaitable[None]]] = []
        self._revival: asyncio.Task[None] | None = None
        self._connections = 0  # ever made

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        role: str | None = None,
        min_size: int = 1,
        max_size: int = 10,
        application_name: str = "holdfast",
        statement_timeout: float = 30.0,
        combining: bool = False,
    ) -> Self:
        """Connect. `role` is taken on by every connection; `statement_timeout` is in seconds.

        Raises what `check.connect` raises: each reason why a server cannot be used is a class.
        """
        asked = conninfo(
            url,
            role=role,
            application_name=application_name,
            statement_timeout=statement_timeout,
        )
        await check.connect(asked)
        self = cls(asked, min_size=min_size, max_size=max_size, combining=combining)
        try:
            await self._pool.open(wait=True, timeout=_OPEN_WITHIN)
        except PoolTimeout as problem:
            raise Unavailable(reason=str(problem)) from problem
        return self

    async def close(self) -> None:
        """Wait for what is being combined, then close every connection."""
        for task in self._before_close:
            await task()
        if self._revival is not None:
            self._revival.cancel()
        await self._pool.close()

    def before_close(self, task: Callable[[], Awaitable[None]]) -> None:
        """Have `task` awaited at `close`, while connections still work."""
        self._before_close.append(task)

    @property
    def size(self) -> int:
        """The most connections there may be."""
        return self._pool.max_size

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection in autocommit. Raises Unavailable where there is none in time.

        Never hold one while waiting for something else than the database.
        """
        try:
            connection = await self._pool.getconn()
        except (PoolTimeout, PoolClosed) as problem:
            raise Unavailable(reason=str(problem)) from problem
        try:
            yield connection
        finally:
            await self._pool.putconn(connection)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection inside a transaction: committed at the end, rolled back by an error.

        What the caller's own statements raise passes as it is; a commit that fails is mapped.
        """
        theirs: BaseException | None = None
        async with self.connection() as connection:
            try:
                async with connection.transaction():
                    try:
                        yield connection
                    except BaseException as problem:
                        theirs = problem
                        raise
            except psycopg.Error as problem:
                if problem is theirs:
                    raise
                raise error_for(problem) from problem

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _check(self, connection: AsyncConnection[Any]) -> None:
        """Refuse a connection that the server has ended, without asking the server.

        An idle connection has nothing to read. Where it has, the server has spoken: mostly its
        last words, which libpq notices by reading them. Then the others are looked at as well.
        """
        try:
            while _readable(connection.fileno()):
                connection.pgconn.consume_input()  # raises at the end of the stream
        except psycopg.OperationalError:
            await self._pool.check()
            raise

    async def _connected(self, connection: AsyncConnection[Any]) -> None:
        set_json_loads(_read_json, connection)
        self._connections += 1

    async def _revive(self, _: object) -> None:
        if self._revival is None or self._revival.done():
            self._revival = asyncio.create_task(self._keep_trying(), name="pool-revival")

    async def _keep_trying(self) -> None:
        """Have the pool try again, soon and for ever, until a connection was made."""
        before, pause = self._connections, _REVIVE_FIRST
        while self._connections == before and not self._pool.closed:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _REVIVE_MOST)
            await self._pool.check()  # it also lets the pool grow


Handle: TypeAlias = Database | psycopg.AsyncConnection[Any] | psycopg.Connection[Any]


def _read_json(document: str | bytes) -> Any:
    """Read a json column: a claim of 500 jobs has 500 of them, and `json` is six times slower."""
    try:
        return from_json(document)
    except ValueError:  # more levels than it goes down
        return json.loads(document)


def _readable(file: int) -> bool:
    asked = select.poll()
    asked.register(file, select.POLLIN)
    return bool(asked.poll(0))
