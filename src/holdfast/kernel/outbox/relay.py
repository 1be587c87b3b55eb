"""A relay's side of the outbox: lease streams, send, say what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle

Outcome: TypeAlias = Literal["delivered", "cancelled", "failed", "later", "dead", "skipped"]


class DeliveryFailed(Exception):
    """It may work later. `retry_after`: seconds the receiver asked for, where it did."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class DeliveryRefused(Exception):
    """It will never work: a dead letter at once."""


class DeliveryPostponed(Exception):
    """Not now, though nothing is wrong (quiet hours): again in `seconds`, counting no attempt."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = seconds


class DeliveryPointless(Exception):
    """Nobody is there any more, or what it speaks of is over: settled as cancelled."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect of a leased stream. `id` is stable over all deliveries; `seq` is its place.

    `source` is the id receivers know it by: of a copy in a channel's stream, the original's.
    `channel` says who sends it. `valid` is false when what it speaks of is no longer so: settle it
    as cancelled, do not send; a `conditional` one is asked about again by `still_valid` right
    before sending. `blocks`: once dead it blocks its stream (settle as dead), else as skipped.
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
    channel: str
    source: UUID
    conditional: bool
    blocks: bool


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a stream's effects up to `seq`. `retry` is seconds, for failed and later.

    Delivered may speak of several at once; every other outcome of the next effect alone.
    """

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
    return [Effect(**{name: row[name] for name in Effect.__slots__}) for row in rows]


async def still_valid(db: Handle, effect: Effect) -> Literal["ok", "cancelled", "lease_lost"]:
    """Ask, right before sending: is the lease ours, and does what it speaks of still hold?"""
    row = await call_one(
        db,
        """select outbox.still_valid(stream => %(stream)s, token => %(token)s,
            seq => %(seq)s) as answer""",
        {"stream": effect.stream, "token": effect.token, "seq": effect.seq},
    )
    answer: Literal["ok", "cancelled", "lease_lost"] = row["answer"]
    return answer


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
