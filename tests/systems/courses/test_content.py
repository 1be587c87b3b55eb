"""Content is published in versions; who is enrolled stays where he is until he moves."""

import asyncio
import json

import psycopg
import pytest

from courses_content import Learner, document, effects, publish, sound
from holdfast.errors import Invalid
from holdfast.systems import courses


def pointers(caught):
    return [(e["pointer"], e["code"]) for e in caught.value.facts["errors"]]


async def test_the_samples(db, new_account):
    made = await courses.publish_samples(db)
    assert [(p.slug, p.version, p.created) for p in made] == [
        ("first-steps", 1, True),
        ("free-order", 1, True),
    ]
    assert await courses.publish_samples(db) == [], "never over what is there"
    person = await new_account()
    for locale, titles in (
        ("en", ["First steps", "A week of voices"]),
        ("ru", ["Первые шаги", "Неделя голосов"]),
        ("uk", ["Перші кроки", "Тиждень голосів"]),
    ):
        listed = await courses.catalogue(db, owners=[person], locale=locale)
        assert [course.title for course in listed] == titles
    assert [(c.days, c.steps, c.flow) for c in listed] == [(3, 7, "linear"), (2, 6, "free")]
    for course in listed:
        learner = await Learner.enrol(db, person, course.slug)
        for _ in range(course.steps):
            open_steps = [
                k for k, s in (await learner.steps()).items() if s["status"] == "NOT_STARTED"
            ]
            for key in open_steps:
                try:
                    await learner.complete(key)
                    break
                except courses.steps.StepLocked:
                    continue
        assert (await learner.see()).status == "COMPLETED"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", [("", "malformed")]),
        ("slug: a\nslug: b\ntitle: t\ndays: []", [("", "malformed")]),
        ("slug: a\ntitle: t\ndays: []", [("/days", "too_few")]),
        ("slug: A b\ntitle: t\ndays: [{steps: []}]", [("/slug", "malformed")]),
        ("slug: a\ntitle: {de: Titel}\ndays: [{steps: []}]", [("/title", "malformed")]),
        ("slug: a\ntitle: t\ncolour: red\ndays: [{steps: []}]", [("", "unknown")]),
        ("slug: a\ntitle: t\nremindAt: 25:00\ndays: [{steps: []}]", [("/remindAt", "malformed")]),
    ],
)
def test_a_file_that_is_no_course(text, found):
    with pytest.raises(Invalid) as caught:
        courses.parse(text)
    assert pointers(caught) == found


async def test_what_a_shape_cannot_say(db):
    for made, found in (
        (document("c", ["a"], []), [("/days/1/steps", "empty_day")]),
        (document("c", [("a", {"required": False})]), [("/days/0/steps", "empty_day")]),
        (document("c", ["a", "a"]), [("/days/0/steps/1/key", "duplicate")]),
        (document("c", ["a"], ["a"]), [("/days/1/steps/0/key", "duplicate")]),
        (document("c", [("a", {"needs": ["a"]})]), [("/days/0/steps/0/needs/0", "not_before")]),
        (
            document("c", [("a", {"needs": ["b"]}), "b"]),
            [("/days/0/steps/0/needs/0", "not_before")],
        ),
    ):
        with pytest.raises(Invalid) as caught:
            await courses.publish(db, courses.parse(json.dumps(made)), actor="x")
        assert pointers(caught) == found
    assert await courses.catalogue(db) == []


async def test_the_same_document_again_changes_nothing(db):
    assert (await publish(db, "c", ["a"])).created
    again = await publish(db, "c", ["a"])
    assert (again.version, again.created) == (1, False)
    made = await asyncio.gather(*(publish(db, "c", ["a", "b"]) for _ in range(6)))
    assert sum(p.created for p in made) == 1
    assert {p.version for p in made} == {2}


async def test_what_was_published_never_changes(db, owner):
    await publish(db, "c", ["a"])
    for table in ("version", "plan_day", "plan_step"):
        statement = psycopg.sql.SQL("delete from courses.{}").format(psycopg.sql.Identifier(table))
        with pytest.raises(psycopg.Error, match="refused"):
            await owner.execute(statement)


async def test_a_rehearsal_counts_whom_it_touches_and_leaves_nothing(db, new_account):
    await publish(db, "c", ["a", "b"], ["c"])
    learners = [await Learner.enrol(db, await new_account()) for _ in range(4)]
    await learners[0].complete("a")
    for key in ("a", "b", "c"):
        await learners[1].complete(key)
    fewer = courses.parse(json.dumps(document("c", ["a"], ["c", "d"])))
    before = [await learner.see() for learner in learners]
    told = await courses.publish(db, fewer, actor="x", rehearsal=True)
    assert (told.created, told.version) == (True, 2)
    assert (told.steps_added, told.steps_removed) == (1, 1)
    assert (told.touched, told.finishing) == (3, 1)
    assert [await learner.see() for learner in learners] == before
    real = await courses.publish(db, fewer, actor="x")
    assert real == told


async def test_publishing_leaves_the_pinned_alone_and_offers_the_move(db, owner, new_account):
    await publish(db, "c", ["a", "b"], ["c"])
    learner = await Learner.enrol(db, await new_account())
    await learner.complete("a")
    before = await learner.see()
    await publish(db, "c", ["a", "n", "b"], ["c"])
    after = await learner.see()
    assert (after.version, after.newest) == (1, 2)
    assert after.days == before.days
    told = await learner.move(rehearsal=True)
    assert (told.changed, told.version, told.steps_added, told.finished) == (True, 2, 1, False)
    assert (await learner.see()).version == 1
    assert await learner.move() == told
    seen = await learner.see()
    assert [step["title"] for step in seen.days[0]["steps"]] == ["a", "n", "b"]
    assert seen.days[0]["steps"][0]["status"] == "COMPLETED"
    assert (seen.version, seen.percent, seen.days[0]["currentStepIndex"]) == (2, 25, 1)
    assert not (await learner.move()).changed
    await sound(db)


async def test_removing_the_last_unfinished_step_completes_the_day(db, owner, new_account):
    await publish(db, "c", ["a", "b"], ["c"])
    learner = await Learner.enrol(db, await new_account())
    await learner.complete("a")
    await publish(db, "c", ["a"], ["c"])
    assert (await learner.move()).days_finished == 1
    seen = await learner.see()
    assert [day["status"] for day in seen.days] == ["COMPLETED", "NOT_STARTED"]
    await publish(db, "c", ["a"])
    moved = await learner.move()
    assert (moved.days_finished, moved.finished) == (0, True)
    seen = await learner.see()
    assert (seen.status, seen.percent) == ("COMPLETED", 100)
    assert [topic for topic, _ in await effects(owner, learner.account)] == [
        "courses.day_finished",
        "courses.course_finished",
    ]
    await sound(db)


async def test_what_is_finished_stays_finished(db, new_account):
    await publish(db, "c", ["a"], ["b"])
    learner = await Learner.enrol(db, await new_account())
    await learner.complete("a")
    await publish(db, "c", ["a", "more"], ["b"])
    await learner.move()
    seen = await learner.see()
    assert seen.days[0]["status"] == "COMPLETED"
    assert [step["required"] for step in seen.days[0]["steps"]] == [True, False]
    await learner.complete("b")
    assert (await learner.see()).status == "COMPLETED"
    await publish(db, "c", ["a", "more"], ["b"], ["extra"])
    assert not (await learner.move()).changed, "a finished course is not moved"
    await learner.restart()
    assert len((await learner.see()).days) == 3, "a new attempt takes the newest"
    await sound(db)


async def test_a_removed_step_that_comes_back_is_still_done(db, new_account):
    await publish(db, "c", ["a", "b"])
    learner = await Learner.enrol(db, await new_account())
    await learner.complete("a")
    await publish(db, "c", ["b", "z"])
    await learner.move()
    assert (await learner.see()).percent == 0
    await publish(db, "c", ["b", "a", "z"])
    await learner.move()
    assert (await learner.step("a"))["status"] == "COMPLETED"
    await sound(db)
