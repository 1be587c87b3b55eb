"""Live state for event streams: one question to the database per tick, for all that are open.

A stream never holds a connection, and nothing queues up behind a slow reader: each follower sees
the newest state of its topic, and whatever came between is part of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

import structlog

from holdfast.errors import HoldfastError

K = TypeVar("K", bound=Hashable)
S = TypeVar("S")

TICK = 0.25  # seconds between two questions; text grows at most twice a second
_REST = 2.0  # seconds after a question that could not be asked

_log = structlog.get_logger("holdfast.web")


class _Topic(Generic[S]):
    __slots__ = ("changed", "followers", "state")

    def __init__(self) -> None:
        self.state: S | None = None
        self.changed = asyncio.Event()
        self.followers = 0

    def tell(self, state: S) -> None:
        """Wake everybody who follows; the next change has an event of its own."""
        self.state = state
        told, self.changed = self.changed, asyncio.Event()
        told.set()


class Hub(Generic[K, S]):
    """Topics that somebody follows, asked for together.

    `ask` takes the last known state of each topic (None at first) and returns the new state of
    those that changed; a topic it does not name stays as it is.
    """

    def __init__(
        self, ask: Callable[[Mapping[K, S | None]], Awaitable[Mapping[K, S]]], *, tick: float = TICK
    ) -> None:
        self._ask = ask
        self._tick = tick
        self._topics: dict[K, _Topic[S]] = {}
        self._task: asyncio.Task[None] | None = None
        self._fresh = asyncio.Event()
        self._closed = asyncio.Event()

    async def follow(self, key: K) -> AsyncIterator[S]:
        """Yield the present state of a topic, then each newer one, until the hub closes."""
        topic = self._topics.setdefault(key, _Topic())
        topic.followers += 1
        try:
            if topic.state is None:
                self._fresh.set()
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run(), name="live")
            seen: S | None = None
            while not self._closed.is_set():
                changed = topic.changed
                if topic.state is not None and topic.state is not seen:
                    seen = topic.state
                    yield seen
                else:
                    await changed.wait()
        finally:
            topic.followers -= 1
            if not topic.followers:
                self._topics.pop(key, None)

    async def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._closed.set()
        for topic in self._topics.values():
            topic.changed.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        """Ask while anybody follows; a newcomer is asked for at once."""
        while self._topics and not self._closed.is_set():
            self._fresh.clear()
            pause = self._tick
            try:
                answers = await self._ask({k: topic.state for k, topic in self._topics.items()})
            except HoldfastError as problem:
                _log.warning("live streams wait", code=problem.code)
                answers, pause = {}, _REST
            except Exception:  # noqa: BLE001 - a defect must not leave every stream waiting
                _log.exception("live streams failed")
                answers, pause = {}, _REST
            for key, state in answers.items():
                if topic := self._topics.get(key):
                    topic.tell(state)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._fresh.wait()
