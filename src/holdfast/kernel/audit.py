"""Audit: who moved what from which status to which, when, in which request."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from holdfast.postgres.call import call
from holdfast.postgres.pool import Handle


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
    return [Event(**{name: row[name] for name in Event.__slots__}) for row in rows]
