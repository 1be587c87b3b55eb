"""Finishing a step moves the step, its day and its course, or nothing at all."""

import asyncio
from uuid import uuid4

import psycopg
import pytest
import structlog.testing

from courses_content import Learner, effects, publish, sound
from holdfast.errors import NotFound, StepFinished, StepLocked
from holdfast.systems import courses


async def test_the_seed(db, owner, new_account):
    """Finish all steps of a day: the day is COMPLETED. All days: the course. Logs count."""
    await publish(db, "c", ["a", "b"], ["c"])
    person = await new_account()
    learner = await Learner.enrol(db, person)
    seen = await learner.see()
    assert (seen.status, seen.percent, seen.started_at) == ("NOT_STARTED", 0, None)
    with structlog.testing.capture_logs() as logs:
        first = await learner.complete("a")
    assert (first.step_status, first.day_status, first.course_status) == (
        "COMPLETED",
        "IN_PROGRESS",
        "IN_PROGRESS",
    )
    (log,) = [entry for entry in logs if entry["event"] == "course_step_moved"]
    assert log["training_day_steps_count"] == 2
    assert log["user_steps_count"] == 1
    assert log["all_completed"] is False
    assert log["next_current_step_index"] == 1
    started = (await learner.see()).started_at
    assert started is not None
    assert (await learner.complete("b")).day_status == "COMPLETED"
    seen = await learner.see()
    assert [day["status"] for day in seen.days] == ["COMPLETED", "NOT_STARTED"]
    assert [day["currentStepIndex"] for day in seen.days] == [2, 0]
    assert (seen.status, seen.percent, seen.started_at) == ("IN_PROGRESS", 66, started)
    last = await learner.complete("c")
    assert (last.day_status, last.course_status, last.next_index) == ("COMPLETED", "COMPLETED", 1)
    seen = await learner.see()
    assert (seen.status, seen.percent) == ("COMPLETED", 100)
    assert [(topic, payload.get("day")) for topic, payload in await effects(owner, person)] == [
        ("courses.day_finished", 1),
        ("courses.day_finished", 2),
        ("courses.course_finished", None),
    ]
    await sound(db)


async def test_one_round_trip_each(db, new_account):
    await publish(db, "c", ["a", "b", "c"])
    learner = await Learner.enrol(db, await new_account())
    steps = await learner.steps()
    for verb, key, more in (
        (courses.start_step, "a", {}),
        (courses.complete_step, "a", {}),
        (courses.skip_step, "b", {"reason": "known"}),
        (courses.complete_step, "c", {}),
    ):
        before = db.round_trips
        await verb(db, step_id=steps[key]["id"], **learner.who, **more)
        assert db.round_trips == before + 1
    for verb in (courses.restart, courses.move):
        before = db.round_trips
        await verb(db, **learner.who)
        assert db.round_trips == before + 1


async def test_twice_is_once(db, owner, new_account):
    await publish(db, "c", ["a"])
    person = await new_account()
    learner = await Learner.enrol(db, person)
    again = await courses.enrol(db, account_id=person, slug="c", actor="x")
    assert (again.id, again.created) == (learner.id, False)
    assert (await learner.complete("a")).changed
    done = await learner.see()
    again = await learner.complete("a")
    assert not again.changed
    assert (again.step_status, again.course_status) == ("COMPLETED", "COMPLETED")
    assert not (await learner.start("a")).changed, "no regression"
    assert await learner.see() == done
    assert len(await effects(owner, person)) == 2


async def test_what_was_finished_one_way_is_not_finished_the_other(db, new_account):
    await publish(db, "c", ["a", "b"])
    learner = await Learner.enrol(db, await new_account())
    await learner.complete("a")
    await learner.skip("b", "heard it before")
    with pytest.raises(StepFinished) as caught:
        await learner.skip("a")
    assert caught.value.facts["status"] == "COMPLETED"
    with pytest.raises(StepFinished):
        await learner.complete("b")
    assert not (await learner.skip("b")).changed
    assert (await learner.step("b"))["skipReason"] == "heard it before"


async def test_a_skip_counts_and_its_reason_and_actor_are_kept(db, owner, new_account):
    await publish(db, "c", ["a"])
    learner = await Learner.enrol(db, await new_account())
    assert (await learner.skip("a", "too easy")).course_status == "COMPLETED"
    row = await (
        await owner.execute("select status, skip_reason, actor, completed_on from courses.step")
    ).fetchone()
    assert row == ("SKIPPED", "too easy", str(learner.account), None)
    with pytest.raises(psycopg.errors.CheckViolation):
        await owner.execute("update courses.step set skip_reason = null")


async def test_linear_order_names_what_is_missing(db, new_account):
    await publish(db, "c", ["a", ("extra", {"required": False}), "b"], ["c"])
    learner = await Learner.enrol(db, await new_account())
    for verb in (learner.start, learner.complete, learner.skip):
        with pytest.raises(StepLocked) as caught:
            await verb("c")
        assert [m["title"] for m in caught.value.facts["missing"]] == ["a", "b"]
    with pytest.raises(StepLocked):
        await learner.complete("extra")
    steps = await learner.steps()
    assert {step["status"] for step in steps.values()} == {"NOT_STARTED"}
    await learner.complete("a")
    await learner.complete("b")
    await learner.complete("c")
    after = await learner.complete("extra")
    assert (after.changed, after.day_status, after.next_index) == (True, "COMPLETED", 3)


async def test_free_order_with_all_and_any(db, new_account):
    await publish(
        db,
        "c",
        ["a", "b"],
        [("both", {"needs": ["a", "b"]}), ("one", {"needs": {"any": ["a", "b"]}})],
        flow="free",
    )
    learner = await Learner.enrol(db, await new_account())
    for key in ("both", "one"):
        with pytest.raises(StepLocked) as caught:
            await learner.complete(key)
        assert [m["title"] for m in caught.value.facts["missing"]] == ["a", "b"]
    await learner.skip("b")
    await learner.complete("one")
    with pytest.raises(StepLocked) as caught:
        await learner.complete("both")
    missing = [m["title"] for m in caught.value.facts["missing"]]
    assert missing == ["a"]
    seen = await learner.see()
    assert [day["currentStepIndex"] for day in seen.days] == [0, 0]
    await learner.complete("a")
    await learner.complete("both")
    assert (await learner.see()).status == "COMPLETED"


async def test_not_there_and_not_yours_are_the_same(db, new_account):
    await publish(db, "c", ["a"])
    learner = await Learner.enrol(db, await new_account())
    other = await Learner.enrol(db, await new_account())
    step = (await learner.step("a"))["id"]
    theirs = (await other.step("a"))["id"]
    for who, what in (
        (learner.who | {"owners": [other.account]}, step),
        (learner.who | {"enrolment_id": uuid4()}, step),
        (learner.who, uuid4()),
        (learner.who, theirs),
    ):
        with pytest.raises(NotFound):
            await courses.complete_step(db, step_id=what, **who)
    with pytest.raises(NotFound):
        await courses.enrol(db, account_id=learner.account, slug="nothing", actor="x")
    admin = await courses.complete_step(db, step_id=step, **(learner.who | {"owners": None}))
    assert admin.changed


async def test_a_step_of_an_old_attempt_is_gone(db, owner, new_account):
    await publish(db, "c", ["a", "b"])
    learner = await Learner.enrol(db, await new_account())
    assert await learner.restart() == 1, "what was never begun is not begun again"
    old = (await learner.step("a"))["id"]
    await learner.complete("a")
    assert await learner.restart() == 2
    with pytest.raises(NotFound):
        await courses.complete_step(db, step_id=old, **learner.who)
    fresh = await learner.see()
    assert (fresh.status, fresh.attempt, fresh.percent, fresh.started_at) == (
        "NOT_STARTED",
        2,
        0,
        None,
    )
    past = await learner.see(attempt=1)
    assert (past.status, past.percent) == ("IN_PROGRESS", 50)
    assert [step["status"] for step in past.days[0]["steps"]] == ["COMPLETED", "NOT_STARTED"]
    with pytest.raises(NotFound):
        await learner.see(attempt=7)
    await sound(db)


async def test_everything_leaves_a_trace(db, owner, new_account):
    await publish(db, "c", ["a"])
    learner = await Learner.enrol(db, await new_account())
    step = (await learner.step("a"))["id"]
    await courses.start_step(db, step_id=step, **learner.who, request_id="r1")
    await courses.complete_step(db, step_id=step, **learner.who, request_id="r2")
    rows = await (
        await owner.execute(
            "select entity, action, from_status, to_status, actor, request_id from audit.event"
            " where request_id in ('r1', 'r2') order by id"
        )
    ).fetchall()
    who = str(learner.account)
    assert sorted(rows) == sorted(
        [
            ("enrolment_step", "courses.start_step", "NOT_STARTED", "IN_PROGRESS", who, "r1"),
            ("enrolment_day", "courses.roll_up", "NOT_STARTED", "IN_PROGRESS", who, "r1"),
            ("enrolment", "courses.roll_up", "NOT_STARTED", "IN_PROGRESS", who, "r1"),
            ("enrolment_step", "courses.complete_step", "IN_PROGRESS", "COMPLETED", who, "r2"),
            ("enrolment_day", "courses.roll_up", "IN_PROGRESS", "COMPLETED", who, "r2"),
            ("enrolment", "courses.roll_up", "IN_PROGRESS", "COMPLETED", who, "r2"),
        ]
    )


async def test_rolled_back_is_nothing(db, owner, new_account):
    await publish(db, "c", ["a"])
    person = await new_account()
    learner = await Learner.enrol(db, person)
    before = await learner.see()
    step = (await learner.step("a"))["id"]
    async with db.transaction() as connection:
        await courses.complete_step(connection, step_id=step, **learner.who)
        raise psycopg.Rollback
    assert await learner.see() == before
    assert await effects(owner, person) == []


async def test_a_day_cannot_be_finished_by_hand(db, owner, new_account):
    await publish(db, "c", ["a", "b"])
    await Learner.enrol(db, await new_account())
    with pytest.raises(psycopg.errors.CheckViolation):
        await owner.execute(
            "update courses.day set status = 'COMPLETED', completed_at = kernel.now()"
        )
    learner = await Learner.enrol(db, await new_account())
    await learner.complete("a")
    with pytest.raises(psycopg.Error, match="may not go"):
        await owner.execute(
            "update courses.step set status = 'IN_PROGRESS', completed_on = null,"
            " completed_at = null where status = 'COMPLETED'"
        )


async def test_two_clients_enrol_at_once(db, new_account):
    await publish(db, "c", ["a", "b"])
    person = await new_account()
    made = await asyncio.gather(
        *(courses.enrol(db, account_id=person, slug="c", actor="x") for _ in range(8))
    )
    assert len({enrolled.id for enrolled in made}) == 1
    assert sum(enrolled.created for enrolled in made) == 1
    await sound(db)


async def test_explain(db, new_account):
    await publish(db, "c", ["a", ("extra", {"required": False})], ["b"])
    learner = await Learner.enrol(db, await new_account())
    told = await courses.explain(db, enrolment_id=learner.id, owners=[learner.account])
    assert (told.complete, [m["title"] for m in told.missing]) == (False, ["a", "b"])
    await learner.complete("a")
    day = await courses.explain(db, enrolment_id=learner.id, owners=[learner.account], day=1)
    assert (day.complete, day.missing) == (True, [])
    told = await courses.explain(db, enrolment_id=learner.id, owners=[learner.account])
    assert [m["stepId"] for m in told.missing] == [(await learner.step("b"))["id"]]
    with pytest.raises(NotFound):
        await courses.explain(db, enrolment_id=learner.id, owners=[learner.account], day=9)


async def test_linking_counts_enrolments(db, owner, new_account):
    await publish(db, "c", ["a"])
    learner = await Learner.enrol(db, await new_account())
    counted = "select accounts._belongings(array[%s]::uuid[]) ->> 'enrolments'"
    row = await (await owner.execute(counted, [learner.account])).fetchone()
    assert row == ("1",)
