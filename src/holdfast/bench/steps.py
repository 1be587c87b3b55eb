"""Finishing a step in a long course against a short one: the cost must not grow.

Both courses are taken by turns in one run, so that a busy machine is busy for both; each person
finishes every step of his course, in order, one round trip each.
"""

import json
import statistics
import time
from dataclasses import dataclass
from uuid import UUID

from holdfast.bench.ground import Ground
from holdfast.postgres.pool import Database
from holdfast.systems import accounts, courses

SHORT, LONG = 10, 1000


@dataclass(frozen=True, slots=True)
class Steps:
    """Milliseconds to finish one step: medians over the course, and of its last tenth."""

    short: float
    long: float
    long_last_tenth: float
    round_trips: float

    @property
    def ratio(self) -> float:
        """How much dearer a step of the long course is."""
        return self.long / self.short


async def measure(ground: Ground, people: int) -> Steps:
    """Let `people` finish the long course, and as many steps of short ones beside it."""
    async with await ground.open(most=2) as db:
        for steps in (SHORT, LONG):
            await courses.publish(db, _course(steps), actor="bench")
        short: list[float] = []
        long: list[float] = []
        spent = 0
        for number in range(people):
            person = await accounts.sign_in(db, kind="dev", subject=f"learner-{number}")
            way = await _enrol(db, person.id, LONG)
            for start in range(0, LONG, SHORT):
                other = await accounts.sign_in(db, kind="dev", subject=f"short-{number}-{start}")
                beside = await _enrol(db, other.id, SHORT)
                spent -= db.round_trips
                short += await _finish(db, other.id, *beside)
                long += await _finish(db, person.id, way[0], way[1][start : start + SHORT])
                spent += db.round_trips
        last = [t for n in range(people) for t in long[n * LONG + LONG * 9 // 10 : (n + 1) * LONG]]
        return Steps(
            short=statistics.median(short) * 1000,
            long=statistics.median(long) * 1000,
            long_last_tenth=statistics.median(last) * 1000,
            round_trips=spent / (len(short) + len(long)),
        )


def _course(steps: int) -> dict[str, object]:
    """Make a course of one day: the day's own counters are what is measured."""
    day = {"steps": [{"key": f"s{n}", "title": f"Step {n}"} for n in range(steps)]}
    return courses.parse(json.dumps({"slug": f"steps-{steps}", "title": "Steps", "days": [day]}))


async def _enrol(db: Database, account: UUID, steps: int) -> tuple[UUID, list[UUID]]:
    made = await courses.enrol(db, account_id=account, slug=f"steps-{steps}", actor="bench")
    seen = await courses.get(db, enrolment_id=made.id, owners=[account])
    return made.id, [UUID(step["id"]) for step in seen.days[0]["steps"]]


async def _finish(db: Database, account: UUID, enrolment: UUID, steps: list[UUID]) -> list[float]:
    taken = []
    for step in steps:
        began = time.perf_counter()
        await courses.complete_step(
            db, enrolment_id=enrolment, step_id=step, owners=[account], actor="bench"
        )
        taken.append(time.perf_counter() - began)
    return taken
