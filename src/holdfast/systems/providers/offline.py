"""Stories without a key or a network, by the grammar of `grammar.py`; and, in development, trouble.

In development a prompt may begin with commands, for demonstrations and tests; what follows them is
the story's prompt:

    !fail            fail for good (after `!slow`: when half of the story has been told)
    !stall SECONDS   show no sign of life for so long, then write the story as if nothing had been
    !slow SECONDS    spread the telling over so long, with progress
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from holdfast.systems.providers.grammar import compose
from holdfast.systems.providers.story import (
    OnText,
    Overloaded,
    Rejected,
    Signs,
    Story,
    StoryRequest,
    Usage,
    count_words,
    tell,
)

_COMMAND = re.compile(
    r"\s*!(?:(?P<fail>fail)|(?P<timed>stall|slow)\s+(?P<seconds>\d{1,5}(?:\.\d{1,3})?))(?:\s+|$)"
)


class OfflineProvider:
    """Writes stories with a small grammar; the same prompt and attempt give the same story."""

    name = "offline"
    model = "offline grammar"

    def __init__(self, *, dev: bool = False, words_per_second: float | None = None) -> None:
        """Make one.

        Args:
            dev: obey the commands; elsewhere they are words like any others.
            words_per_second: how fast to tell; None is as fast as the listener takes it.
        """
        self._dev = dev
        self._pace = words_per_second

    async def write(self, request: StoryRequest, *, deadline: float, on_text: OnText) -> Story:
        """Write one story; see `StoryProvider.write`."""
        orders = _orders(request.prompt) if self._dev else _Orders(request.prompt)
        seed = f"{request.language} {request.words} {request.attempt} {orders.prompt}"
        pieces = compose(orders.prompt, request.language, request.words, seed)
        text = "".join(pieces)
        try:
            async with asyncio.timeout(deadline) as overall:
                if orders.stall:
                    await _play_dead(request.signs, orders.stall)
                await self._tell(pieces, orders, on_text)
        except TimeoutError:
            if overall.expired():
                raise Overloaded("provider_slow", reason=f"over {deadline:g} s") from None
            raise
        return Story(text, count_words(text), self.model, Usage())

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""

    async def _tell(self, pieces: list[str], orders: _Orders, on_text: OnText) -> None:
        fails_at = len(pieces) // 2 if orders.slow else 0
        for n, piece in enumerate(pieces):
            if orders.fail and n == fails_at:
                raise Rejected("failed_on_request", reason="!fail")
            wait = orders.slow / len(pieces)
            if self._pace:
                wait += count_words(piece) / self._pace
            await asyncio.sleep(wait)  # at least a turn of the loop: others go on, cancelling works
            await tell(on_text, piece)


@dataclass
class _Orders:
    """What a prompt asks for besides a story; times in seconds."""

    prompt: str
    fail: bool = False
    stall: float = 0.0
    slow: float = 0.0


def _orders(prompt: str) -> _Orders:
    orders = _Orders(prompt)
    while found := _COMMAND.match(orders.prompt):
        orders.prompt = orders.prompt[found.end() :]
        seconds = float(found["seconds"] or 0)
        match found["timed"]:
            case "stall":
                orders.stall = seconds
            case "slow":
                orders.slow = seconds
            case _:
                orders.fail = True
    return orders


async def _play_dead(signs: Signs, seconds: float) -> None:
    signs.mute()
    try:
        await asyncio.sleep(seconds)
    finally:
        signs.unmute()
