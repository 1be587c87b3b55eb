"""What changes on the desks, for everybody who watches: one question per tick, whoever asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from holdfast.postgres.pool import Database
from holdfast.systems import orders
from holdfast.systems.orders import Order

EVERYTHING = "orders"  # the one topic of the hub: followers choose what is theirs
_KEPT = 2000  # changed orders remembered for a slow reader


@dataclass(frozen=True, slots=True)
class Board:
    """The orders that changed lately, each as it is now, oldest change first.

    `place` rises by one with each question that found something; `latest` holds for each order
    the place at which it was found. `forgotten`: changes up to there are not remembered.
    """

    place: int
    latest: Mapping[UUID, tuple[int, Order]]
    forgotten: int = 0

    def since(self, place: int) -> Iterator[Order]:
        """Yield what changed after `place`."""
        for at, order in self.latest.values():
            if at > place:
                yield order

    def then(self, found: list[Order]) -> Board:
        """Return the board with more changes, the oldest forgotten."""
        place = self.place + 1
        kept = {
            key: value for key, value in self.latest.items() if key not in {o.id for o in found}
        }
        kept |= {order.id: (place, order) for order in found}
        forgotten = self.forgotten
        while len(kept) > _KEPT:
            forgotten, _ = kept.pop(next(iter(kept)))
        return Board(place, kept, forgotten)


def asker(
    db: Database,
) -> Callable[[Mapping[str, Board | None]], Awaitable[dict[str, Board]]]:
    """Return the question for a Hub: one statement, however many watch."""
    horizon: int | None = None

    async def ask(known: Mapping[str, Board | None]) -> dict[str, Board]:
        nonlocal horizon
        board = known[EVERYTHING]
        if board is None:
            horizon = (await orders.changes(db)).horizon
            return {EVERYTHING: Board(0, {})}
        found = await orders.changes(db, since=horizon)
        horizon = found.horizon
        news = [o for o in found.orders if board.latest.get(o.id, (0, None))[1] != o]
        return {EVERYTHING: board.then(news)} if news else {}

    return ask
