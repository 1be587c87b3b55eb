"""Dead letters: what could not be delivered waits for an admin's decision."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from holdfast.errors import refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One undeliverable effect. `source` is the id receivers know; `behind` counts what waits."""

    id: UUID
    stream: UUID
    seq: int
    channel: str
    topic: str
    source: UUID
    attempts: int
    error: str | None
    at: datetime
    finished_at: datetime
    behind: int


async def dead_letters(
    db: Handle, *, before: UUID | None = None, limit: int = 50
) -> list[DeadLetter]:
    """Return dead letters, newest first, those with an id below `before`."""
    rows = await call(
        db,
        "select * from outbox.dead_letters(before => %(before)s, at_most => %(limit)s)",
        {"before": before, "limit": limit},
    )
    return [DeadLetter(**row) for row in rows]


async def decide(
    db: Handle,
    *,
    effect_id: UUID,
    action: Literal["redrive", "skip"],
    actor: str,
    request_id: str | None = None,
) -> str:
    """Send a dead letter again, or pass it by; returns its new status. Audited.

    Raises NotFound, or EffectNotDead with the status it has.
    """
    row = await call_one(
        db,
        """select * from outbox.decide(effect_id => %(effect)s, action => %(action)s,
            actor => %(actor)s, request_id => %(request)s)""",
        {"effect": effect_id, "action": action, "actor": actor, "request": request_id},
    )
    if row["code"] != "ok":
        raise refusal(row["code"], status=row["status"])
    return str(row["status"])
