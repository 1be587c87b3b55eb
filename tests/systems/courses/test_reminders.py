"""Reminders: timed effects, cancelled in the transaction that makes them pointless."""

from datetime import UTC

import psycopg
import pytest

from courses_content import Learner, at, publish
from holdfast.kernel import outbox
from holdfast.kernel.outbox import Settlement
from holdfast.systems import courses


@pytest.fixture
async def learner(db, owner, new_account):
    await at(owner, "2026-07-01T12:00")
    await publish(db, "c", ["a", "b"], ["d"])
    person = await new_account()
    await owner.execute(
        "update accounts.account set time_zone = 'Europe/Kyiv' where id = %s", [person]
    )
    return await Learner.enrol(db, person)


async def due(db, learner):
    found = await outbox.timers(db, stream=learner.account)
    return [f"{timer.due_at.astimezone(UTC):%m-%d %H:%M}" for timer in found]


async def sent(db):
    """Lease everything; return reminders with whether they are valid, and settle them."""
    got = await outbox.lease(db)
    for effect in got:
        outcome = "delivered" if effect.valid else "cancelled"
        await outbox.settle(db, [Settlement(effect.stream, effect.token, effect.seq, outcome)])
    return [(e.topic, e.valid) for e in got if e.topic == "courses.reminder"]


async def test_one_three_and_seven_days_after_at_six_in_the_evening(db, learner):
    assert await due(db, learner) == ["07-02 15:00", "07-04 15:00", "07-08 15:00"]


async def test_they_begin_anew_with_the_first_completion_of_a_date(db, owner, learner):
    await at(owner, "2026-07-02T06:00")
    await learner.complete("a")
    assert await due(db, learner) == ["07-03 15:00", "07-05 15:00", "07-09 15:00"]
    before = await outbox.timers(db, stream=learner.account)
    await at(owner, "2026-07-02T08:00")
    await learner.complete("b")
    assert await outbox.timers(db, stream=learner.account) == before, "once a date"


async def test_a_finished_course_reminds_of_nothing(db, owner, learner):
    for key in ("a", "b", "d"):
        await learner.complete(key)
    assert await due(db, learner) == []
    await at(owner, "2026-08-01T12:00")
    assert await sent(db) == []


async def test_rolled_back_completion_keeps_its_reminder(db, owner, learner):
    before = await outbox.timers(db, stream=learner.account)
    await at(owner, "2026-07-02T06:00")
    async with db.transaction() as connection:
        await Learner(connection, learner.account, learner.id).complete("a")
        raise psycopg.Rollback
    assert await outbox.timers(db, stream=learner.account) == before


async def test_sent_when_due(db, owner, learner):
    await at(owner, "2026-07-02T14:59")
    assert await sent(db) == []
    await at(owner, "2026-07-02T15:01")
    assert await sent(db) == [("courses.reminder", True)]
    await at(owner, "2026-07-04T15:01")
    assert await sent(db) == [("courses.reminder", True)]


@pytest.mark.parametrize("way", ["complete", "restart", "turn off"])
async def test_one_that_left_its_timer_and_is_pointless_now_is_never_sent(db, owner, learner, way):
    """It waits in its stream (the relay was away, or quiet hours held it) while all is done."""
    await learner.complete("a")
    await at(owner, "2026-07-02T15:01")
    got = [e for e in await outbox.lease(db, seconds=1) if e.topic == "courses.reminder"]
    assert [(e.valid, e.conditional) for e in got] == [(True, True)]
    if way == "complete":
        await learner.complete("b")
    elif way == "restart":
        await learner.restart()
    else:
        await courses.set_reminders(db, wanted=False, **learner.who)
    assert await outbox.still_valid(db, got[0]) == "cancelled"
    await at(owner, "2026-07-02T15:05")
    assert await sent(db) == [("courses.reminder", False)]


async def test_turned_off_and_on(db, learner):
    await courses.set_reminders(db, wanted=False, **learner.who)
    assert await due(db, learner) == []
    assert not (await learner.see()).reminders
    await learner.complete("a")
    assert await due(db, learner) == []
    await courses.set_reminders(db, wanted=True, **learner.who)
    assert len(await due(db, learner)) == 3


async def test_they_follow_into_another_time_zone(db, owner, learner):
    await owner.execute(
        "update accounts.account set time_zone = 'America/New_York' where id = %s",
        [learner.account],
    )
    assert await due(db, learner) == ["07-02 22:00", "07-04 22:00", "07-08 22:00"]
