"""What must be true of every enrolment, counted anew from its steps."""

from dataclasses import dataclass

from holdfast.postgres.call import call
from holdfast.postgres.pool import Handle


@dataclass(frozen=True, slots=True)
class Invariant:
    """One promise: how many rows were looked at, and how many break it (0 is right)."""

    name: str
    checked: int
    violations: int


async def verify(db: Handle) -> list[Invariant]:
    """Count every promise of the courses. Locks nothing."""
    return [Invariant(**row) for row in await call(db, "select * from courses.verify()")]
