"""What a job leaves beside its result: files, and texts that came too late."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from holdfast.errors import NotFound
from holdfast.postgres.call import call
from holdfast.postgres.pool import Handle

WHOLE = 8_388_608  # bytes, the most an artifact has


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact. `late`: of a worker that had lost its lease; nobody paid for it."""

    n: int
    name: str
    media_type: str
    late: bool
    bytes: int
    seconds: float | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of an artifact: `data`, which begins at `first`."""

    artifact: Artifact
    first: int
    data: bytes


async def artifacts(db: Handle, *, job_id: UUID, owners: Sequence[UUID] | None) -> list[Artifact]:
    """Return what a job of these accounts (None: anybody's) has left, without the bytes."""
    rows = await call(
        db,
        "select * from queue.artifacts(job => %(job)s, owners => %(owners)s::uuid[])",
        {"job": job_id, "owners": None if owners is None else list(owners)},
    )
    return [Artifact(**{name: row[name] for name in Artifact.__slots__}) for row in rows]


async def artifact(
    db: Handle,
    *,
    job_id: UUID,
    n: int,
    owners: Sequence[UUID] | None,
    skip: int = 0,
    most: int = WHOLE,
) -> Part:
    """Return up to `most` bytes after `skip` (negative: from the end). Raises NotFound."""
    rows = await call(
        db,
        """select * from queue.artifact(job => %(job)s, n => %(n)s, owners => %(owners)s::uuid[],
            skip => %(skip)s, most => %(most)s)""",
        {
            "job": job_id,
            "n": n,
            "owners": None if owners is None else list(owners),
            "skip": skip,
            "most": most,
        },
    )
    if not rows:
        raise NotFound
    known = Artifact(n=n, **{name: rows[0][name] for name in Artifact.__slots__ if name != "n"})
    return Part(known, rows[0]["first"], rows[0]["data"])
