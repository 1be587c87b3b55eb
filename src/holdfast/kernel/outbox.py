"""The outbox: effects leave after the commit, in order per stream. A relay's side."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from holdfast.errors import refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle

Outcome: TypeAlias = Literal["delivered", "cancelled", "failed", "dead", "skipped"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect of a leased stream. `id` is stable over all deliveries; `seq` is its place.

    `valid` is false when what it speaks of is no longer so: settle it as cancelled, do not send.
    """

    stream: UUID
    token: UUID
    attempts: int
    seq: int
    id: UUID
    topic: str
    payload: dict[str, Any]
    valid: bool
    request_id: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a stream's effects up to `seq`. `retry` is seconds, for failed."""

    stream: UUID
    token: UUID
    seq: int
    outcome: Outcome
    error: str | None = None
    retry: float = 0.0


async def lease(
    db: Handle, *, streams: int = 100, effects: int = 100, seconds: float = 30.0
) -> list[Effect]:
    """Lease up to `streams` streams for `seconds`; return up to `effects` of each, in order."""
    rows = await call(
        db,
        """select * from outbox.lease(most_streams => %(streams)s, most_effects => %(effects)s,
            lease_seconds => %(seconds)s)""",
        {"streams": streams, "effects": effects, "seconds": seconds},
    )
    return [Effect(**row) for row in rows]


async def settle(db: Handle, settlements: Sequence[Settlement]) -> list[str]:
    """Record what became of effects. Per settlement: ok or lease_lost (nothing was changed)."""
    rows = await call(
        db,
        """select * from outbox.settle(streams => %(streams)b::uuid[],
            tokens => %(tokens)b::uuid[], upto => %(upto)b::bigint[],
            outcomes => %(outcomes)b::text[], errors => %(errors)b::text[],
            retry_seconds => %(retries)b::double precision[]) order by ord""",
        {
            "streams": [s.stream for s in settlements],
            "tokens": [s.token for s in settlements],
            "upto": [s.seq for s in settlements],
            "outcomes": [s.outcome for s in settlements],
            "errors": [s.error for s in settlements],
            "retries": [s.retry for s in settlements],
        },
    )
    return [row["code"] for row in rows]


async def release(db: Handle, leases: Sequence[tuple[UUID, UUID]]) -> int:
    """Give (stream, token) leases back; what is left in them is due at once. Returns how many."""
    row = await call_one(
        db,
        """select outbox.release(streams => %(streams)b::uuid[],
            tokens => %(tokens)b::uuid[]) as released""",
        {"streams": [s for s, _ in leases], "tokens": [t for _, t in leases]},
    )
    return int(row["released"])


async def decide(
    db: Handle,
    *,
    effect_id: UUID,
    action: Literal["redrive", "skip"],
    actor: str,
    request_id: str | None = None,
) -> None:
    """Send a dead letter again, or pass it by. Raises NotFound when it is not dead."""
    row = await call_one(
        db,
        """select outbox.decide(effect_id => %(effect)s, action => %(action)s,
            actor => %(actor)s, request_id => %(request)s) as code""",
        {"effect": effect_id, "action": action, "actor": actor, "request": request_id},
    )
    if row["code"] != "ok":
        raise refusal(row["code"])
