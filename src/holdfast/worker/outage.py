"""The database goes and comes back: said once each time, waited for without hammering it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from holdfast.errors import Unavailable

_FIRST, _MOST = 0.1, 2.0  # seconds between two tries

log = structlog.get_logger("holdfast.worker")
_T = TypeVar("_T")


class Outage:
    """What a worker's loops know together about the database."""

    def __init__(self) -> None:
        self._since: float | None = None

    async def patiently(
        self, verb: Callable[[], Awaitable[_T]], *, within: float | None = None
    ) -> _T:
        """Call a verb that may be called twice, until the database answers.

        `within` seconds it gives up and raises the last Unavailable; None never does.
        """
        loop = asyncio.get_running_loop()
        start, pause = loop.time(), _FIRST
        while True:
            try:
                answer = await verb()
            except Unavailable as problem:
                if within is not None and loop.time() - start + pause > within:
                    raise
                self._gone(problem, loop.time())
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, _MOST)
            else:
                self._back(loop.time())
                return answer

    def _gone(self, problem: Unavailable, now: float) -> None:
        if self._since is None and problem.code != "busy":
            self._since = now
            log.warning(
                "the database does not answer; running jobs go on, nothing new is claimed",
                problem=problem.facts.get("reason", problem.code),
            )

    def _back(self, now: float) -> None:
        if self._since is not None:
            log.info("the database is back", after_seconds=round(now - self._since, 1))
            self._since = None
