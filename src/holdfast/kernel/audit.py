"""Audit: who moved what from which status to which, when, in which request."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from holdfast.postgres.call import call
from holdfast.postgres.pool import Handle, Row


@dataclass(frozen=True, slots=True)
class Event:
    """One trace. `actor` is an account's id, `worker:…`, `sweeper`, or `sql:role` (by hand)."""

    id: UUID
    entity: str
    entity_id: UUID
    action: str
    from_status: str | None
    to_status: str | None
    actor: str
    old_value: str | None
    new_value: str | None
    reason: str | None
    request_id: str | None
    at: datetime


async def trail(db: Handle, *, entity_id: UUID) -> list[Event]:
    """Return the whole trail of one entity, oldest first."""
    rows = await call(db, "select * from audit.trail(entity_id => %(id)s)", {"id": entity_id})
    return [_event(row) for row in rows]


async def recent(
    db: Handle, *, before: tuple[datetime, UUID] | None = None, limit: int = 50
) -> list[Event]:
    """Return what happened lately to anything, newest first, before a moment and its event's id."""
    at, event_id = before or (None, None)
    rows = await call(
        db,
        """select * from audit.recent(before_at => %(at)s, before => %(id)s,
            at_most => %(limit)s)""",
        {"at": at, "id": event_id, "limit": limit},
    )
    return [_event(row) for row in rows]


def _event(row: Row) -> Event:
    return Event(**{name: row[name] for name in Event.__slots__})
