"""Files that a handler keeps, in the transaction in which it finishes."""

from uuid import UUID

from holdfast.postgres.call import call
from holdfast.postgres.pool import Handle


async def keep_file(
    db: Handle,
    *,
    job_id: UUID,
    token: UUID,
    n: int,
    name: str,
    media_type: str,
    data: bytes,
    seconds: float | None = None,
) -> None:
    """Keep a file (at most 8 MiB) as artifact `n` of a job, for the holder of its lease.

    Call it on the connection of the transaction in which `Attempt.finish` completes the job.
    `seconds` is how long sound lasts. Raises LeaseLost, which aborts that transaction.
    """
    await call(
        db,
        """select queue.keep_file(job => %(job)s, token => %(token)s, n => %(n)s,
            name => %(name)s, media_type => %(media_type)s, seconds => %(seconds)s,
            data => %(data)s)""",
        {
            "job": job_id,
            "token": token,
            "n": n,
            "name": name,
            "media_type": media_type,
            "seconds": seconds,
            "data": data,
        },
    )
