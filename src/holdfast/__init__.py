"""Holdfast keeps paid, multi-step work right in a race and after a crash.

Verbs are awaitable functions of the system or idea they belong to: `stories.generate(db, …)`,
`ledger.charge(db, …)`. Their first argument is a `Database`, or the caller's own connection.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast import errors as errors
    from holdfast.config import Settings as Settings
    from holdfast.errors import HoldfastError as HoldfastError
    from holdfast.errors import Refusal as Refusal
    from holdfast.errors import Retryable as Retryable
    from holdfast.errors import Unavailable as Unavailable
    from holdfast.kernel import audit as audit
    from holdfast.kernel import ledger as ledger
    from holdfast.kernel import outbox as outbox
    from holdfast.kernel import queue as queue
    from holdfast.kernel import transitions as transitions
    from holdfast.kernel.queue import enqueue as enqueue
    from holdfast.kernel.queue import job as job
    from holdfast.postgres.pool import Database as Database
    from holdfast.systems import accounts as accounts
    from holdfast.systems import courses as courses
    from holdfast.systems import orders as orders
    from holdfast.systems import projects as projects
    from holdfast.systems import stories as stories

__version__ = "0.1.0"

# Public names and where they live (`module:` for what is no module itself); looked up at first
# use, so that importing Holdfast is cheap.
_HOMES = {
    "Database": "holdfast.postgres.pool",
    "HoldfastError": "holdfast.errors",
    "Refusal": "holdfast.errors",
    "Retryable": "holdfast.errors",
    "Settings": "holdfast.config",
    "Unavailable": "holdfast.errors",
    "accounts": "holdfast.systems",
    "audit": "holdfast.kernel",
    "courses": "holdfast.systems",
    "enqueue": "holdfast.kernel.queue:",
    "errors": "holdfast",
    "job": "holdfast.kernel.queue:",
    "ledger": "holdfast.kernel",
    "orders": "holdfast.systems",
    "outbox": "holdfast.kernel",
    "projects": "holdfast.systems",
    "queue": "holdfast.kernel",
    "stories": "holdfast.systems",
    "transitions": "holdfast.kernel",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    if name[0].isupper() or home.endswith(":"):
        return getattr(import_module(home.rstrip(":")), name)
    return import_module(f"{home}.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
