"""Jobs as people see them, and how one is bought: charge and job in one transaction."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from holdfast.errors import HoldfastError, JobNotFailed, NotFound, refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.combine import BatchVerb, submit_many
from holdfast.postgres.pool import Handle, Row


@dataclass(frozen=True, slots=True)
class Kind:
    """What every job of a kind obeys. Times are seconds; `backoff` grows fourfold, up to 600."""

    kind: str
    attempts: int = 3
    backoff: float = 1.0
    lease: float = 30.0
    deadline: float = 3600.0
    queue_deadline: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Job:
    """One job. `price`, `charged` and `refunded` are minor units of the asset."""

    id: UUID
    account_id: UUID
    kind: str
    status: str
    price: int
    charged: int
    refunded: int
    attempt: int
    attempts: int
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    error_code: str | None
    error_detail: str | None
    retry_of: UUID | None
    payload: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    version: int


@dataclass(frozen=True, slots=True)
class Submitted:
    """The outcome of a submit. `replayed`: the key was used before, this is the same job again."""

    id: UUID
    price: int
    at: datetime
    replayed: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """The present state of a job for whoever watches: text after the chunks already seen."""

    id: UUID
    status: str
    version: int
    attempt: int
    progress: dict[str, Any] | None
    text_from: int
    chunk: str | None
    chunks: int


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a job's whole story: a move of the job or of the money."""

    at: datetime
    what: str
    from_status: str | None
    to_status: str | None
    actor: str | None
    detail: str | None
    amount: int | None
    balance_after: int | None


SUBMIT = BatchVerb(
    name="queue.submit",
    sql="""select * from queue.submit(verb => %(verb)s, accounts => %(accounts)b::uuid[],
        kinds => %(kinds)b::text[], payloads => %(payloads)b::text[]::jsonb[],
        prices => %(prices)b::bigint[], keys => %(keys)b::text[],
        retry_ofs => %(retry_ofs)b::uuid[], request_ids => %(request_ids)b::text[],
        asset => %(asset)s, wait => %(wait)s)""",
    columns=("accounts", "kinds", "payloads", "prices", "keys", "retry_ofs", "request_ids"),
    by="accounts",
    constants={"verb": "queue.submit", "asset": "crystal"},
)


def submitted(row: Row) -> Submitted:
    """Read the outcome row of a submit, or raise its refusal."""
    outcome = _outcome(row)
    if isinstance(outcome, HoldfastError):
        raise outcome
    return outcome


def _outcome(row: Row) -> Submitted | HoldfastError:
    if row["code"] != "ok":
        return refusal(row["code"], needed=row["needed"], available=row["available"])
    return Submitted(row["job_id"], row["price"], row["at"], row["replayed"])


async def submit(
    db: Handle, members: Sequence[Mapping[str, Any]]
) -> list[Submitted | HoldfastError]:
    """Charge and enqueue many jobs: one outcome each, in order; a refusal is returned, not raised.

    A member is `{account_id, kind, payload, price, key, retry_of?, request_id?}`.
    """
    rows = await submit_many(
        db,
        SUBMIT,
        [
            {
                "accounts": m["account_id"],
                "kinds": m["kind"],
                "payloads": json.dumps(m["payload"]),
                "prices": m["price"],
                "keys": m["key"],
                "retry_ofs": m.get("retry_of"),
                "request_ids": m.get("request_id"),
            }
            for m in members
        ],
    )
    return [_outcome(row) for row in rows]


async def retry(
    db: Handle,
    *,
    job_id: UUID,
    owners: Sequence[UUID],
    account_id: UUID,
    key: str,
    price: int | None = None,
    request_id: str | None = None,
) -> Submitted:
    """Make a new job of one that failed or was cancelled, charged anew, once per key.

    `price` None is what the old one cost. Raises NotFound, JobNotFailed (status),
    InsufficientTokens, IdempotencyKeyReused.
    """
    row = await call_one(
        db,
        """select * from queue.retry(verb => 'queue.retry', job => %(job)s,
            owners => %(owners)s::uuid[], account => %(account)s, key => %(key)s,
            cost => %(price)s, request_id => %(request)s)""",
        {
            "job": job_id,
            "owners": list(owners),
            "account": account_id,
            "key": key,
            "price": price,
            "request": request_id,
        },
    )
    return resubmitted(row)


def resubmitted(row: Row) -> Submitted:
    """Read the outcome row of a retry, or raise its refusal."""
    if row["code"] == JobNotFailed.code:
        raise JobNotFailed(status=row["status"])
    return submitted(row)


async def reserve(
    db: Handle,
    *,
    account_id: UUID,
    kind: str,
    payload: Mapping[str, Any],
    estimate: int,
    key: str,
    request_id: str | None = None,
) -> Submitted:
    """Queue a job priced by use: `estimate`, the most it may cost, is held until it is settled.

    Raises InsufficientTokens (needed, available; the key stays free), IdempotencyKeyReused,
    NotFound.
    """
    row = await call_one(
        db,
        """select * from queue.reserve(verb => 'queue.reserve', account => %(account)s,
            kind => %(kind)s, payload => %(payload)s::jsonb, estimate => %(estimate)s,
            key => %(key)s, request_id => %(request)s)""",
        {
            "account": account_id,
            "kind": kind,
            "payload": json.dumps(payload),
            "estimate": estimate,
            "key": key,
            "request": request_id,
        },
    )
    return submitted(row)


async def declare_kind(db: Handle, kind: Kind) -> None:
    """Register a kind, or change its settings for jobs to come."""
    await call(
        db,
        """select queue.declare_kind(called => %(kind)s, attempts => %(attempts)s,
            backoff_seconds => %(backoff)s, lease_seconds => %(lease)s,
            deadline_seconds => %(deadline)s, queue_deadline_seconds => %(queue_deadline)s)""",
        {
            "kind": kind.kind,
            "attempts": kind.attempts,
            "backoff": kind.backoff,
            "lease": kind.lease,
            "deadline": kind.deadline,
            "queue_deadline": kind.queue_deadline,
        },
    )


def _job(row: Row) -> Job:
    return Job(**{name: row[name] for name in Job.__slots__})


async def get(db: Handle, *, job_id: UUID, owners: Sequence[UUID] | None) -> Job:
    """Return one job of these accounts (None: anybody's). Raises NotFound."""
    rows = await call(
        db,
        "select * from queue.get(job => %(job)s, owners => %(owners)b::uuid[])",
        {"job": job_id, "owners": None if owners is None else list(owners)},
    )
    if not rows:
        raise NotFound
    return _job(rows[0])


async def get_many(db: Handle, job_ids: Sequence[UUID]) -> list[Job]:
    """Return those of the jobs that are there, whoever owns them, in no order."""
    rows = await call(
        db, "select * from queue.get_many(jobs => %(jobs)s::uuid[])", {"jobs": list(job_ids)}
    )
    return [_job(row) for row in rows]


async def list_of(
    db: Handle, *, owners: Sequence[UUID], before: UUID | None = None, limit: int = 50
) -> list[Job]:
    """Return the jobs of these accounts, newest first, those made before the job `before`."""
    rows = await call(
        db,
        """select * from queue.list_of(owners => %(owners)s::uuid[], before => %(before)s,
            at_most => %(limit)s)""",
        {"owners": list(owners), "before": before, "limit": limit},
    )
    return [_job(row) for row in rows]


async def list_all(db: Handle, *, before: UUID | None = None, limit: int = 50) -> list[Job]:
    """Return everybody's jobs, newest first, those made before the job `before`."""
    rows = await call(
        db,
        "select * from queue.list_all(before => %(before)s, at_most => %(limit)s)",
        {"before": before, "limit": limit},
    )
    return [_job(row) for row in rows]


async def watch(db: Handle, seen: Mapping[UUID, int]) -> list[Watched]:
    """Return the present state of jobs; `seen` maps each to the number of its last seen chunk."""
    rows = await call(
        db,
        "select * from queue.watch(jobs => %(jobs)b::uuid[], chunks_seen => %(seen)b::int[])",
        {"jobs": list(seen), "seen": list(seen.values())},
    )
    return [Watched(**{name: row[name] for name in Watched.__slots__}) for row in rows]


async def depth(db: Handle) -> list[Row]:
    """Return per kind: waiting, leased, oldest waiting, paused_until, pause_reason."""
    return await call(db, "select * from queue.depth()")


async def story(db: Handle, *, job_id: UUID) -> list[Step]:
    """Return everything that happened to a job and its money, oldest first."""
    rows = await call(db, "select * from queue.story(job => %(job)s)", {"job": job_id})
    return [Step(**row) for row in rows]
