"""Two clients of one person at the same moment: the roll-up happens once."""

import asyncio
import random

import pytest

from courses_content import Learner, publish, sound
from holdfast.errors import Refusal
from holdfast.postgres.pool import Database
from holdfast.systems import courses

TIMES = 1000
AT_ONCE = 5  # pairs; each takes two connections


@pytest.fixture
async def wide(app_url):
    async with await Database.open(app_url, max_size=2 * AT_ONCE, min_size=2 * AT_ONCE) as opened:
        yield opened


async def count(owner, sql, *arguments):
    row = await (await owner.execute(sql, arguments)).fetchone()
    return row[0]


async def test_the_last_two_steps_in_two_transactions(wide, owner, new_account):
    """Both transactions are open before either finishes its step; both commit."""
    await publish(wide, "c", ["a", "b"], flow="free")
    gate = asyncio.Semaphore(AT_ONCE)

    async def finish(learner, step_id, both):
        async with wide.transaction() as connection:
            await connection.execute("select 1")
            await both.wait()
            return await courses.complete_step(connection, step_id=step_id, **learner.who)

    async def pair():
        async with gate:
            learner = await Learner.enrol(wide, await new_account())
            steps = await learner.steps()
            both = asyncio.Barrier(2)
            moved = await asyncio.gather(
                *(finish(learner, steps[key]["id"], both) for key in ("a", "b"))
            )
            assert sorted(m.course_status for m in moved) == ["COMPLETED", "IN_PROGRESS"]
            assert sorted(m.day_status for m in moved) == ["COMPLETED", "IN_PROGRESS"]

    await asyncio.gather(*(pair() for _ in range(TIMES)))
    completed = "select count(*) from courses.enrolment where status = 'COMPLETED'"
    assert await count(owner, completed) == TIMES
    for topic in ("courses.day_finished", "courses.course_finished"):
        told = "select count(*) from outbox.effect where topic = %s"
        assert await count(owner, told, topic) == TIMES
        streams = "select count(distinct stream) from outbox.effect where topic = %s"
        assert await count(owner, streams, topic) == TIMES
    await sound(wide)


async def test_random_sequences_at_once(wide, owner, new_account):
    """Two clients do whatever they like, 1,000 times in all; every promise holds."""
    await publish(wide, "c", ["a", "b", ("x", {"required": False})], ["c", "d"], flow="free")
    dice = random.Random(7)
    gate = asyncio.Semaphore(AT_ONCE)

    async def client(learner, steps, script):
        for verb, key in script:
            try:
                if verb == "skip":
                    await courses.skip_step(
                        wide, step_id=steps[key]["id"], reason="r", **learner.who
                    )
                else:
                    chosen = courses.start_step if verb == "start" else courses.complete_step
                    await chosen(wide, step_id=steps[key]["id"], **learner.who)
            except Refusal:
                continue

    async def two_clients():
        async with gate:
            learner = await Learner.enrol(wide, await new_account())
            steps = await learner.steps()
            scripts = [
                [
                    (dice.choice(("start", "complete", "complete", "skip")), dice.choice([*steps]))
                    for _ in range(dice.randint(1, 8))
                ]
                for _ in range(2)
            ]
            await asyncio.gather(*(client(learner, steps, script) for script in scripts))

    await asyncio.gather(*(two_clients() for _ in range(TIMES // 2)))
    await sound(wide)
    once = """select count(*) from (
        select stream, topic, payload from outbox.effect where topic like 'courses.%%'
        group by stream, topic, payload having count(*) > 1) t"""
    assert await count(owner, once) == 0
    finished = await count(owner, "select count(*) from courses.day where status = 'COMPLETED'")
    told = "select count(*) from outbox.effect where topic = 'courses.day_finished'"
    assert finished == await count(owner, told) > 0


async def test_complete_against_restart(wide, owner, new_account):
    """A step of the old attempt is finished before the restart, or not at all."""
    await publish(wide, "c", ["a", "b"], flow="free")
    for _ in range(50):
        learner = await Learner.enrol(wide, await new_account())
        steps = await learner.steps()
        await learner.complete("a")
        done, attempt = await asyncio.gather(
            courses.complete_step(wide, step_id=steps["b"]["id"], **learner.who),
            learner.restart(),
            return_exceptions=True,
        )
        assert attempt == 2
        past = await learner.see(attempt=1)
        assert (past.status == "COMPLETED") == (not isinstance(done, Refusal))
    await sound(wide)
