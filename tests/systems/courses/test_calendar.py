"""Days by the calendar on the person's clock: midnight, DST, journeys."""

import pytest

from courses_content import Learner, at, publish, sound

STEPS = [f"s{n}" for n in range(12)]


@pytest.fixture
async def learner(db, owner, new_account):
    await at(owner, "2026-10-01T00:00")
    await publish(db, "c", STEPS, flow="free")
    return await Learner.enrol(db, await new_account())


async def live_in(owner, learner, zone):
    await owner.execute(
        "update accounts.account set time_zone = %s where id = %s", [zone, learner.account]
    )


async def do(owner, learner, *moments):
    """Finish one more step at each moment; returns the streak after each."""
    streaks = []
    for moment in moments:
        await at(owner, moment)
        steps = await learner.steps()
        await learner.complete(next(k for k in STEPS if steps[k]["status"] == "NOT_STARTED"))
        streaks.append((await learner.see()).streak)
    return streaks


async def dates(owner, learner):
    rows = await (
        await owner.execute(
            "select completed_on::text from courses.step where enrolment_id = %s"
            " and completed_on is not null order by completed_at",
            [learner.id],
        )
    ).fetchall()
    return [row[0] for row in rows]


async def test_around_midnight_on_the_persons_clock(db, owner, learner):
    """23:59 and 00:01 in Kyiv are two dates, although one in UTC; and a day between breaks."""
    await live_in(owner, learner, "Europe/Kyiv")  # UTC+3 in summer
    assert await do(
        owner,
        learner,
        "2026-07-01T23:59+03:00",
        "2026-07-02T00:01+03:00",
        "2026-07-02T22:00+03:00",
        "2026-07-04T00:00+03:00",
    ) == [1, 2, 2, 1]
    assert await dates(owner, learner) == ["2026-07-01", "2026-07-02", "2026-07-02", "2026-07-04"]
    await sound(db)


async def test_across_the_end_of_dst(db, owner, learner):
    """Kyiv puts its clocks back on 25 October 2026 at 04:00: the date has 25 hours."""
    await live_in(owner, learner, "Europe/Kyiv")
    assert await do(
        owner,
        learner,
        "2026-10-24T23:30+03:00",
        "2026-10-25T00:30+03:00",
        "2026-10-25T23:30+02:00",  # 24 hours after the one before it, the same date
        "2026-10-26T23:59+02:00",
    ) == [1, 2, 2, 3]
    assert await dates(owner, learner) == ["2026-10-24", "2026-10-25", "2026-10-25", "2026-10-26"]


async def test_across_the_beginning_of_dst(db, owner, learner):
    """New York, 8 March 2026: the date has 23 hours, and every date counts once."""
    await live_in(owner, learner, "America/New_York")
    assert await do(
        owner,
        learner,
        "2026-03-07T00:10-05:00",
        "2026-03-08T23:50-04:00",
        "2026-03-09T00:10-04:00",
    ) == [1, 2, 3]


async def test_a_journey_west_repeats_a_date_and_loses_nothing(db, owner, learner):
    await live_in(owner, learner, "Asia/Tokyo")
    assert await do(owner, learner, "2026-05-01T10:00+09:00", "2026-05-02T10:00+09:00") == [1, 2]
    await live_in(owner, learner, "America/Los_Angeles")
    assert await do(
        owner,
        learner,
        "2026-05-01T20:00-07:00",  # later, and yet the day before
        "2026-05-02T20:00-07:00",
        "2026-05-03T20:00-07:00",
    ) == [2, 2, 3]
    assert await dates(owner, learner) == [
        "2026-05-01",
        "2026-05-02",
        "2026-05-01",
        "2026-05-02",
        "2026-05-03",
    ]
    await sound(db)


@pytest.mark.parametrize(
    ("left", "arrived"),
    [
        # 18 hours later; on the clock he left it is the next date
        ("2026-05-01T20:00-07:00", "2026-05-03T06:00+09:00"),
        # 47 hours later; on the clock he left, and on that one alone, it is the next date
        ("2026-05-01T00:10-07:00", "2026-05-03T15:50+09:00"),
        # 27 hours later; on the clock he came to, the one before was the day before
        ("2026-05-01T23:50-07:00", "2026-05-03T19:00+09:00"),
    ],
)
async def test_a_journey_east_that_loses_a_date_keeps_the_streak(db, owner, learner, left, arrived):
    await live_in(owner, learner, "America/Los_Angeles")
    assert await do(owner, learner, left) == [1]
    await live_in(owner, learner, "Asia/Tokyo")
    assert await do(owner, learner, arrived) == [2]
    assert await dates(owner, learner) == ["2026-05-01", "2026-05-03"]


async def test_a_change_of_zone_changes_no_date_that_was(db, owner, learner):
    await live_in(owner, learner, "Asia/Tokyo")
    await do(owner, learner, "2026-05-01T01:00+09:00", "2026-05-02T01:00+09:00")
    before = await dates(owner, learner)
    for zone in ("America/Los_Angeles", "Pacific/Kiritimati", "UTC"):
        await live_in(owner, learner, zone)
        assert await dates(owner, learner) == before


async def test_a_streak_stands_until_a_whole_date_was_missed(db, owner, learner):
    await live_in(owner, learner, "Europe/Kyiv")
    await do(owner, learner, "2026-07-01T12:00+03:00", "2026-07-02T12:00+03:00")
    for moment, streak in (
        ("2026-07-02T23:59+03:00", 2),
        ("2026-07-03T23:59+03:00", 2),
        ("2026-07-04T00:00+03:00", 0),
    ):
        await at(owner, moment)
        assert (await learner.see()).streak == streak
    seen = await learner.see()
    assert [str(day) for day in seen.active_on] == ["2026-07-01", "2026-07-02"]
    assert str(seen.today) == "2026-07-04"


async def test_a_skip_is_no_activity(db, owner, learner):
    await at(owner, "2026-07-01T12:00")
    await learner.skip("s0")
    assert (await learner.see()).streak == 0


async def test_an_alias_lives_by_its_persons_clock(db, owner, learner, new_account):
    """A device was linked to a person in Kyiv: what it does there happens on his dates."""
    person = await new_account()
    await owner.execute(
        "update accounts.account set time_zone = 'Europe/Kyiv' where id = %s", [person]
    )
    await owner.execute(
        "update accounts.account set status = 'LINKED', alias_of = %s where id = %s",
        [person, learner.account],
    )
    await do(owner, learner, "2026-07-01T23:30")  # 02:30 of the next date in Kyiv
    assert await dates(owner, learner) == ["2026-07-02"]
