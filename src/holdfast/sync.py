"""The same verbs for callers without an event loop: Django, Flask, scripts.

    from holdfast.sync import stories
    with psycopg.connect(url) as connection:
        stories.generate(connection, account_id=…, prompt="a fox", key="order-17")

There is no second set of verbs. A verb called with a blocking `psycopg.Connection` never waits for
a loop, so one step takes the same coroutine to its end. Inside the caller's own transaction the
verb commits or rolls back with it; READ COMMITTED is assumed.
"""

import functools
import inspect
from importlib import import_module
from types import ModuleType
from typing import Any

from holdfast.postgres.call import run_sync

_HOMES = {
    "accounts": "holdfast.systems.accounts",
    "audit": "holdfast.kernel.audit",
    "courses": "holdfast.systems.courses",
    "ledger": "holdfast.kernel.ledger",
    "orders": "holdfast.systems.orders",
    "outbox": "holdfast.kernel.outbox",
    "projects": "holdfast.systems.projects",
    "queue": "holdfast.kernel.queue",
    "stories": "holdfast.systems.stories",
    "transitions": "holdfast.kernel.transitions",
}
__all__ = sorted(_HOMES)


class Face:
    """A module's names, its coroutine functions made blocking."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self.__doc__ = module.__doc__

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if not inspect.iscoroutinefunction(found):
            return found

        @functools.wraps(found)
        def blocking(*args: Any, **named: Any) -> Any:
            return run_sync(found(*args, **named))

        setattr(self, name, blocking)
        return blocking

    def __dir__(self) -> list[str]:
        return dir(self._module)


def __getattr__(name: str) -> Face:
    if name not in _HOMES:
        raise AttributeError(f"module 'holdfast.sync' has no attribute {name!r}")
    face = globals()[name] = Face(import_module(_HOMES[name]))
    return face
