"""Verify: the promises, counted in a live database. Takes no lock and mends nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from holdfast.errors import NotFound
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle

_BUCKETS = 256


@dataclass(frozen=True, slots=True)
class Invariant:
    """One promise: how many rows were looked at, how many break it, and one of those."""

    name: str
    about: str
    checked: int
    violations: int
    example: str | None


@dataclass(frozen=True, slots=True)
class Mendable:
    """What `mend` would do about one job: give `amount` back, or queue it again."""

    what: str
    job_id: UUID
    account_id: UUID
    amount: int


async def run(
    db: Handle, on_step: Callable[[str, int, int], None] | None = None
) -> list[Invariant]:
    """Count every invariant; large databases are walked in slices, each a short snapshot.

    `on_step` is told the invariant at hand, and how many steps of how many are done.
    """
    found = await call(db, "select * from verify.invariants()")
    total, done = sum(row["slices"] for row in found), 0
    made = []
    for row in found:
        checked = violations = 0
        example = None
        for first, last in _slices(row["slices"]):
            if on_step is not None:
                on_step(row["name"], done, total)
            part = await call_one(
                db,
                """select * from verify.count(name => %(name)s, first => %(first)s,
                    last => %(last)s)""",
                {"name": row["name"], "first": first, "last": last},
            )
            checked += part["checked"]
            violations += part["violations"]
            example = example or part["example"]
            done += 1
        made.append(Invariant(row["name"], row["about"], checked, violations, example))
    return made


def _slices(parts: int) -> list[tuple[int, int]]:
    edges = [_BUCKETS * n // parts for n in range(parts + 1)]
    return [(edges[n], edges[n + 1] - 1) for n in range(parts)]


async def mendable(owner: Handle) -> list[Mendable]:
    """Return what `mend` would do now. Needs the owner's connection."""
    rows = await call(owner, "select * from verify._mendable()")
    return [Mendable(row["what"], row["job"], row["account"], row["amount"]) for row in rows]


async def mend(owner: Handle, *, job_id: UUID, actor: str, reason: str) -> str | None:
    """Correct one job by entries and moves that say why; None when nothing is wrong with it.

    Needs the owner's connection. Raises NotFound.
    """
    row = await call_one(
        owner,
        """select exists (select from queue.job j where j.bucket = kernel.bucket_of(%(job)s)
            and j.id = %(job)s) as there""",
        {"job": job_id},
    )
    if not row["there"]:
        raise NotFound
    row = await call_one(
        owner,
        """select verify._mend(job => %(job)s, actor => %(actor)s, reason => %(reason)s)
            as what""",
        {"job": job_id, "actor": actor, "reason": reason},
    )
    what: str | None = row["what"]
    return what
