"""Leases: a worker's side of the queue, up to the end of an attempt."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import args_row

from holdfast.errors import refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle


class Lease(NamedTuple):
    """One claimed job. Whoever holds the current `token` may write; nobody else.

    `metered`: it is priced by use; finish it by `settle`, with what was used of `price`.
    """

    id: UUID
    account_id: UUID
    kind: str
    payload: dict[str, Any]
    price: int
    attempt: int
    attempts: int
    token: UUID
    due_at: datetime
    deadline_at: datetime
    lease_seconds: float
    priority: int
    run_at: datetime
    request_id: str | None
    metered: bool = False


@dataclass(slots=True)
class LowWater:
    """Where a worker's next claims may begin: behind the last job it got, per kind.

    Dead index entries of finished jobs lie before it; under an open snapshot nobody can remove
    them, and a claim from the true head would walk them each time. `reset` goes back to the head.
    """

    keys: dict[str, tuple[int, datetime, UUID]] = field(default_factory=dict)

    def reset(self) -> None:
        """Look from the true head next time."""
        self.keys.clear()

    def advance(self, leases: Sequence[Lease]) -> None:
        """Remember the last of each kind."""
        for lease in leases:
            self.keys[lease.kind] = (lease.priority, lease.run_at, lease.id)


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life: `progress` {phase, done, total} replaces, `chunk` is text that came since."""

    id: UUID
    token: UUID
    progress: Mapping[str, Any] | None = None
    chunk: str | None = None


async def claim(
    db: Handle,
    *,
    worker: str,
    kinds: Sequence[str],
    limit: int,
    low_water: LowWater | None = None,
    say_idle: bool = False,
) -> list[Lease]:
    """Lease up to `limit` jobs of these kinds to `worker`, in order (priority, run_at, id).

    With `say_idle`, a worker that gets none is marked as waiting for a NOTIFY on holdfast_jobs.
    """
    marks = low_water or LowWater()
    at = [marks.keys.get(kind, (None, None, None)) for kind in kinds]
    leases = await call(
        db,
        """select id, account_id, kind, payload, price, attempt, attempts, token, due_at,
            deadline_at, lease_seconds, priority, run_at, request_id, metered
            from queue.claim(worker => %(worker)s, kinds => %(kinds)b::text[],
            at_most => %(limit)s, after_priorities => %(priorities)b::smallint[],
            after_runs => %(runs)b::timestamptz[], after_ids => %(ids)b::uuid[],
            say_idle => %(say_idle)s)""",
        {
            "worker": worker,
            "kinds": list(kinds),
            "limit": limit,
            "priorities": [key[0] for key in at],
            "runs": [key[1] for key in at],
            "ids": [key[2] for key in at],
            "say_idle": say_idle,
        },
        args_row(Lease),
    )
    marks.advance(leases)
    return leases


async def heartbeat(db: Handle, beats: Sequence[Beat]) -> list[str]:
    """Extend leases. Per beat: ok, lease_lost, deadline_exceeded, or busy (being decided now)."""
    rows = await call(
        db,
        """select * from queue.heartbeat(jobs => %(jobs)b::uuid[], tokens => %(tokens)b::uuid[],
            progresses => %(progresses)b::text[]::jsonb[], chunks => %(chunks)b::text[])""",
        {
            "jobs": [beat.id for beat in beats],
            "tokens": [beat.token for beat in beats],
            "progresses": [b.progress and json.dumps(b.progress) for b in beats],
            "chunks": [beat.chunk for beat in beats],
        },
    )
    return [row["code"] for row in rows]


async def hand_back(db: Handle, leases: Sequence[Lease]) -> list[str]:
    """Give leases back on a graceful stop, counting no attempt. Per lease: ok or lease_lost."""
    rows = await call(
        db,
        """select * from queue.hand_back(jobs => %(jobs)b::uuid[],
            tokens => %(tokens)b::uuid[]) order by ord""",
        {"jobs": [lease.id for lease in leases], "tokens": [lease.token for lease in leases]},
    )
    return [row["code"] for row in rows]


async def pause(
    db: Handle, *, job_id: UUID, token: UUID, seconds: float, reason: str
) -> tuple[bool, datetime]:
    """Hand a job back uncounted and pause its kind for `seconds`: the provider is out of service.

    Returns (alert, until); `alert` is true for one caller a pause. Raises LeaseLost.
    """
    row = await call_one(
        db,
        """select * from queue.pause(job => %(job)s, token => %(token)s,
            seconds => %(seconds)s, why => %(reason)s)""",
        {"job": job_id, "token": token, "seconds": seconds, "reason": reason},
    )
    if row["code"] != "ok":
        raise refusal(row["code"])
    return row["alert"], row["until"]
