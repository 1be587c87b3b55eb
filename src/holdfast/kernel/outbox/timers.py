"""Timers: effects that wait for their time."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from holdfast.postgres.call import call
from holdfast.postgres.pool import Handle


@dataclass(frozen=True, slots=True)
class Timer:
    """One effect that will leave at `due_at`, unless its `key` is cancelled before."""

    key: str
    id: UUID
    topic: str
    payload: dict[str, Any]
    due_at: datetime


async def timers(db: Handle, *, stream: UUID) -> list[Timer]:
    """Return what waits for its time in one stream (a person), soonest first."""
    rows = await call(db, "select * from outbox.timers(stream => %(stream)s)", {"stream": stream})
    return [Timer(**row) for row in rows]
