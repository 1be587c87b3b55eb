"""How an attempt ends. A holder whose token is no longer current changes nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from holdfast.errors import refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.combine import BatchVerb
from holdfast.postgres.combine import submit as combined
from holdfast.postgres.pool import Handle, Row

FINISH = BatchVerb(
    name="queue.finish",
    sql="""select * from queue.finish(jobs => %(jobs)b::uuid[], tokens => %(tokens)b::uuid[],
        results => %(results)b::text[]::jsonb[], wait => %(wait)s)""",
    columns=("jobs", "tokens", "results"),
)

FAIL = BatchVerb(
    name="queue.fail",
    sql="""select * from queue.fail(jobs => %(jobs)b::uuid[], tokens => %(tokens)b::uuid[],
        problems => %(problems)b::text[], details => %(details)b::text[],
        permanents => %(permanents)b::boolean[],
        retry_afters => %(retry_afters)b::double precision[], wait => %(wait)s)""",
    columns=("jobs", "tokens", "problems", "details", "permanents", "retry_afters"),
)


@dataclass(frozen=True, slots=True)
class Ended:
    """What stands after an end: the job's status, what was refunded, when it runs again."""

    status: str
    refunded: int = 0
    run_at: datetime | None = None


def _ended(row: Row) -> Ended:
    if row["code"] != "ok":
        raise refusal(row["code"], status=row["status"])
    return Ended(row["status"], row.get("refunded", 0), row.get("run_at"))


async def finish(db: Handle, *, job_id: UUID, token: UUID, result: Mapping[str, Any]) -> Ended:
    """Complete a job. Asking twice with the same token answers the same.

    Raises LeaseLost with the `status` that stands (the text of `result` is then kept as an unpaid
    artifact), NotFound.
    """
    row = await combined(
        db, FINISH, {"jobs": job_id, "tokens": token, "results": json.dumps(result)}
    )
    return _ended(row)


async def settle(
    db: Handle, *, job_id: UUID, token: UUID, result: Mapping[str, Any], used: int
) -> Ended:
    """Complete a job priced by use: `used` of its estimate is taken, the rest given back.

    Raises CaptureExceedsHold (nothing changed, the lease is still held), LeaseLost, NotFound.
    """
    row = await call_one(
        db,
        """select * from queue.settle(job => %(job)s, token => %(token)s,
            result => %(result)s::jsonb, used => %(used)s)""",
        {"job": job_id, "token": token, "result": json.dumps(result), "used": used},
    )
    return _ended(row)


async def finish_within(
    db: Handle, *, job_id: UUID, token: UUID, result: Mapping[str, Any], used: int | None = None
) -> None:
    """Complete a job inside the caller's own transaction, together with his rows.

    `used` (minor units) settles a job priced by use.

    Raises LeaseLost when the lease was lost, and aborts the transaction with it: a handler that is
    stale writes nothing anywhere. Nothing is combined and nothing is kept of a late result.
    """
    await call(
        db,
        """select queue.finish_within(job => %(job)s, token => %(token)s,
            result => %(result)s::jsonb, used => %(used)s)""",
        {"job": job_id, "token": token, "result": json.dumps(dict(result)), "used": used},
    )


async def fail(
    db: Handle,
    *,
    job_id: UUID,
    token: UUID,
    code: str,
    detail: str | None = None,
    permanent: bool = False,
    retry_after: float | None = None,
) -> Ended:
    """End an attempt that did not work: queued again, or failed with the refund.

    `retry_after` (seconds) lengthens the back-off, up to ten minutes. Raises LeaseLost, NotFound.
    """
    row = await combined(
        db,
        FAIL,
        {
            "jobs": job_id,
            "tokens": token,
            "problems": code,
            "details": detail,
            "permanents": permanent,
            "retry_afters": retry_after,
        },
    )
    return _ended(row)


async def cancel(
    db: Handle,
    *,
    job_id: UUID,
    owners: Sequence[UUID] | None,
    actor: str,
    request_id: str | None = None,
) -> Ended:
    """Call a job off, with its refund; a cancelled one stays as it is.

    `owners` None is an admin. Raises NotFound, JobFinished.
    """
    row = await call_one(
        db,
        """select * from queue.cancel(job => %(job)s, owners => %(owners)b::uuid[],
            actor => %(actor)s, request => %(request)s)""",
        {
            "job": job_id,
            "owners": None if owners is None else list(owners),
            "actor": actor,
            "request": request_id,
        },
    )
    return _ended(row)
