"""LISTEN on a connection of its own: a reason to look now, never the only one.

A notification may be lost (the connection breaks, a pooler stands between); whoever waits here
looks again after a while anyway. Polling is the truth, this only makes it quick.
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from weakref import WeakSet

import psycopg
from psycopg import sql

from holdfast.postgres.conninfo import conninfo

_PROBE_EVERY = 30.0  # seconds; a connection whose other end vanished is noticed by asking
_PAUSE_FIRST, _PAUSE_MOST = 0.1, 5.0


class Ear:
    """One waiter on one channel; notifications that come while it does not wait are kept as one."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self._heard = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """Wait until there is a reason to look, at most so long; says whether there was one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._heard.wait()
        heard = self._heard.is_set()
        self._heard.clear()
        return heard

    def wake(self) -> None:
        """Give a reason to look, also from inside this process."""
        self._heard.set()


class Listener:
    """Listens to `channels` at `url`, and again whenever the connection comes back.

    Every ear is woken at each (new) connection, as something may have been missed. Without a URL
    nothing is ever heard. An async context manager; opening it does not wait for the connection.
    """

    def __init__(self, url: str | None, channels: Sequence[str]) -> None:
        self.connected = asyncio.Event()
        self._url = url and conninfo(url, application_name="holdfast-listen")
        self._channels = tuple(channels)
        self._ears: WeakSet[Ear] = WeakSet()
        self._task: asyncio.Task[None] | None = None

    def ear(self, channel: str) -> Ear:
        """Return a new waiter on one of the channels; it ends with the last reference to it."""
        if channel not in self._channels:
            raise ValueError(f"not listening to {channel}")
        made = Ear(channel)
        self._ears.add(made)
        return made

    async def __aenter__(self) -> Self:
        if self._url:
            self._task = asyncio.create_task(self._listen(self._url), name="listen")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self, url: str) -> None:
        pause = _PAUSE_FIRST
        while True:
            with contextlib.suppress(psycopg.Error, TimeoutError):  # the next attempt tells
                async with await psycopg.AsyncConnection.connect(
                    url, autocommit=True
                ) as connection:
                    for channel in self._channels:
                        await connection.execute(
                            sql.SQL("listen {}").format(sql.Identifier(channel))
                        )
                    pause = _PAUSE_FIRST
                    self.connected.set()
                    self._wake(None)
                    await self._hear(connection)
            self.connected.clear()
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, _PAUSE_MOST)

    async def _hear(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            async for notification in connection.notifies(timeout=_PROBE_EVERY):
                self._wake(notification.channel)
            async with asyncio.timeout(_PROBE_EVERY):
                await connection.execute("select 1")

    def _wake(self, channel: str | None) -> None:
        for ear in [*self._ears]:
            if channel is None or ear.channel == channel:
                ear.wake()
