"""The sweeper: notices silence."""

from dataclasses import dataclass
from uuid import UUID

from holdfast.postgres.call import call
from holdfast.postgres.pool import Handle


@dataclass(frozen=True, slots=True)
class Swept:
    """One job the sweeper moved: requeued, failed or expired, and what it refunded."""

    id: UUID
    account_id: UUID
    kind: str
    attempt: int
    outcome: str
    refunded: int


async def sweep(db: Handle, *, limit: int = 500) -> list[Swept]:
    """Move up to `limit` jobs whose lease or queue deadline has passed."""
    rows = await call(db, "select * from queue.sweep(at_most => %(limit)s)", {"limit": limit})
    return [Swept(**row) for row in rows]
