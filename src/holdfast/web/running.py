"""Which keyed requests this process is working on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from holdfast.errors import IdempotencyInFlight, Retryable


class Running:
    """Tells a duplicate that waited in vain that its first still runs, apart from other locks.

    The database alone decides what happens once. A duplicate waits there for the first one's row
    lock; only when that takes longer than the lock's time-out does this say why.
    """

    def __init__(self) -> None:
        self._counts: Counter[Hashable] = Counter()

    @contextmanager
    def once(self, *name: Hashable) -> Iterator[None]:
        """Run one request named by who asks, what, and the key. Raises IdempotencyInFlight."""
        follows = self._counts[name] > 0
        self._counts[name] += 1
        try:
            yield
        except Retryable as problem:
            if follows:
                raise IdempotencyInFlight(retry_after=1) from problem
            raise
        finally:
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]
