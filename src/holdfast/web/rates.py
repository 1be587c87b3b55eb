"""How often: a caller's requests, an address's new accounts, and sign-ins that fail.

Counted in this process, by the minute. What is told are the `RateLimit` headers of
draft-ietf-httpapi-ratelimit-headers: what is left (`r`) and for how many seconds (`t`).
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache

from starlette.types import Scope

from holdfast.config import Settings
from holdfast.errors import RateLimited

WINDOW_SECONDS = 60
_MOST_NAMES = 100_000  # that are remembered; beyond it the oldest are forgotten

Header = tuple[bytes, bytes]


class Rate:
    """At most `most` a minute for each name; None: no limit. `clock` gives seconds."""

    def __init__(
        self, title: str, most: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.title = title
        self.most = most
        self._clock = clock
        self._windows: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def used(self, name: Hashable) -> tuple[int, float]:
        """Return how many were counted in the current minute, and the seconds left of it."""
        began, count = self._windows.get(name, (0.0, 0))
        left = began + WINDOW_SECONDS - self._clock()
        return (count, left) if count and left > 0 else (0, float(WINDOW_SECONDS))

    def spent(self, name: Hashable) -> bool:
        """Tell whether nothing is left for this name now."""
        return self.most is not None and self.used(name)[0] >= self.most

    def count(self, name: Hashable, change: int = 1) -> None:
        """Count one, or take one back."""
        if self.most is None:
            return
        count, left = self.used(name)
        began = self._clock() - (WINDOW_SECONDS - left)
        self._windows[name] = (began, max(0, count + change))
        self._windows.move_to_end(name)
        if len(self._windows) > _MOST_NAMES:
            self._windows.popitem(last=False)

    def refuse_spent(self, name: Hashable) -> None:
        """Raise RateLimited, with the seconds to wait, where nothing is left."""
        if self.spent(name):
            raise RateLimited(retry_after=max(1, round(self.used(name)[1])))

    def tell(self, scope: Scope, name: Hashable) -> None:
        """Have the answer to this request say how it stands, where there is a limit."""
        if self.most is None:
            return
        count, left = self.used(name)
        standing = f'"{self.title}";r={max(0, self.most - count)};t={max(1, round(left))}'
        policy = f'"{self.title}";q={self.most};w={WINDOW_SECONDS}'
        told: dict[str, tuple[str, str]] = scope["state"].setdefault("rates", {})
        told[self.title] = (standing, policy)


class Rates:
    """The three limits of one server."""

    def __init__(self, settings: Settings) -> None:
        self.requests = Rate("requests", settings.requests_per_minute)
        self.accounts = Rate("accounts", settings.accounts_per_minute)
        self.failures = Rate("failures", settings.accounts_per_minute)


def headers(scope: Scope) -> list[Header]:
    """Return the `RateLimit` headers for the answer to a request; none where nothing was told."""
    told = (scope.get("state") or {}).get("rates")
    if not told:
        return []
    standings, policies = zip(*told.values(), strict=True)
    return [
        (b"ratelimit", ", ".join(standings).encode()),
        (b"ratelimit-policy", ", ".join(policies).encode()),
    ]


def address(scope: Scope) -> str:
    """Return whom an address stands for: itself, or in IPv6 the network that one person has."""
    client = scope.get("client")
    return _network(str(client[0])) if client else ""


@lru_cache(maxsize=1024)
def _network(host: str) -> str:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return host
