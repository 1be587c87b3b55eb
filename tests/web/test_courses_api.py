"""Courses over HTTP: a course walked through, refusals with what is missing, in three languages."""

from uuid import uuid4

import pytest

from holdfast.systems import courses

ENROLMENT = {
    "id", "course", "title", "about", "status", "percent", "attempt", "version", "newVersion",
    "streak", "today", "activeOn", "reminders", "startedAt", "completedAt", "days",
}  # fmt: skip


@pytest.fixture
async def learner(alice, combined):
    await courses.publish_samples(combined)
    return alice


async def enrol(http, slug="first-steps"):
    return (await http.post(f"/api/courses/{slug}/enrol")).json()


async def act(http, enrolment, step, verb, body=None):
    path = f"/api/enrolments/{enrolment['id']}/steps/{step['id']}/{verb}"
    return await http.post(path, json=body) if body is not None else await http.post(path)


async def test_the_list(learner):
    listed = (await learner.get("/api/courses")).json()
    assert [(c["slug"], c["days"], c["steps"]) for c in listed["items"]] == [
        ("first-steps", 3, 7),
        ("free-order", 2, 6),
    ]
    assert listed["items"][0]["enrolmentId"] is None
    made = await enrol(learner)
    listed = (await learner.get("/api/courses", headers={"Accept-Language": "uk"})).json()
    assert listed["items"][0]["title"] == "Перші кроки"
    assert listed["items"][0]["enrolmentId"] == made["id"]


async def test_a_whole_course(learner):
    made = await learner.post("/api/courses/first-steps/enrol")
    assert made.status_code == 201
    enrolment = made.json()
    assert set(enrolment) == ENROLMENT
    assert (enrolment["course"], enrolment["status"], enrolment["percent"]) == (
        "first-steps",
        "NOT_STARTED",
        0,
    )
    again = await learner.post("/api/courses/first-steps/enrol")
    assert (again.status_code, again.json()) == (200, enrolment)
    steps = [step for day in enrolment["days"] for step in day["steps"] if step["required"]]
    started = await act(learner, enrolment, steps[0], "start")
    assert started.json()["days"][0]["steps"][0]["status"] == "IN_PROGRESS"
    percents = []
    for step in steps:
        done = await act(learner, enrolment, step, "complete")
        assert done.status_code == 200
        percents.append(done.json()["percent"])
    assert percents == sorted(percents)
    assert percents[-1] == 100
    seen = (await learner.get(f"/api/enrolments/{enrolment['id']}")).json()
    assert seen == done.json()
    assert seen["status"] == "COMPLETED"
    assert [d["currentStepIndex"] for d in seen["days"]] == [3, 2, 2]
    twice = await act(learner, enrolment, steps[-1], "complete")
    assert (twice.status_code, twice.json()) == (200, seen)
    told = (await learner.get(f"/api/enrolments/{enrolment['id']}/explain")).json()
    assert told == {"complete": True, "missing": []}
    fresh = (await learner.post(f"/api/enrolments/{enrolment['id']}/restart")).json()
    assert (fresh["id"], fresh["attempt"], fresh["status"]) == (seen["id"], 2, "NOT_STARTED")
    old = (await learner.get(f"/api/enrolments/{enrolment['id']}?attempt=1")).json()
    assert (old["status"], old["days"]) == ("COMPLETED", seen["days"])
    listed = (await learner.get("/api/enrolments")).json()
    assert [(e["course"], e["attempt"]) for e in listed["items"]] == [("first-steps", 2)]


@pytest.mark.parametrize(
    ("locale", "title"),
    [
        ("en", "Write down three things you saw today"),
        ("ru", "Запишите три вещи, которые видели сегодня"),
        ("uk", "Запишіть три речі, які бачили сьогодні"),
    ],
)
async def test_a_locked_step_says_what_is_missing(learner, locale, title):
    enrolment = await enrol(learner)
    later = enrolment["days"][2]["steps"][1]
    learner.headers["Accept-Language"] = locale
    refused = await act(learner, enrolment, later, "complete")
    assert (refused.status_code, refused.json()["code"]) == (409, "step_locked")
    missing = refused.json()["missing"]
    assert missing[0] == {"stepId": enrolment["days"][0]["steps"][0]["id"], "title": title}
    assert len(missing) == 5
    told = (await learner.get(f"/api/enrolments/{enrolment['id']}/explain?day=1")).json()
    assert (told["complete"], told["missing"][0]["title"]) == (False, title)


async def test_skip_needs_a_reason(learner):
    enrolment = await enrol(learner)
    step = enrolment["days"][0]["steps"][0]
    for body in ({}, {"reason": ""}, {"reason": 5}, {"reason": "x" * 2001}):
        refused = await act(learner, enrolment, step, "skip", body)
        assert refused.status_code == 422
    done = await act(learner, enrolment, step, "skip", {"reason": "known"})
    assert done.json()["days"][0]["steps"][0]["status"] == "SKIPPED"
    late = await act(learner, enrolment, step, "complete")
    assert (late.status_code, late.json()["code"]) == (409, "step_finished")


async def test_what_is_not_there_or_not_yours_is_404(learner, bearer):
    enrolment = await enrol(learner)
    step = enrolment["days"][0]["steps"][0]
    assert (await learner.post("/api/courses/nothing/enrol")).status_code == 404
    for path in (
        f"/api/enrolments/{uuid4()}",
        "/api/enrolments/nonsense",
        f"/api/enrolments/{enrolment['id']}?attempt=3",
        f"/api/enrolments/{uuid4()}/explain",
        f"/api/enrolments/{enrolment['id']}/explain?day=9",
    ):
        assert (await learner.get(path)).status_code == 404, path
    learner.headers.update(bearer("bob"))
    for verb, body in (("start", None), ("complete", None), ("skip", {"reason": "r"})):
        assert (await act(learner, enrolment, step, verb, body)).status_code == 404
    for path in ("restart", "move"):
        assert (await learner.post(f"/api/enrolments/{enrolment['id']}/{path}")).status_code == 404


async def test_the_move_and_reminders(learner, combined):
    enrolment = await enrol(learner, "free-order")
    assert enrolment["newVersion"] is None
    document = courses.parse(
        "slug: free-order\nflow: free\ntitle: V\n"
        "days: [{key: breath, steps: [{key: slow, title: S}]}]"
    )
    await courses.publish(combined, document, actor="test")
    path = f"/api/enrolments/{enrolment['id']}"
    assert (await learner.get(path)).json()["newVersion"] == 2
    told = (await learner.post(f"{path}/move?dryRun=true")).json()
    assert told == {
        "changed": True,
        "version": 2,
        "stepsAdded": 0,
        "stepsRemoved": 5,
        "daysFinished": 0,
        "finished": False,
    }
    assert (await learner.get(path)).json()["version"] == 1
    assert (await learner.post(f"{path}/move")).json() == told
    assert (await learner.get(path)).json()["version"] == 2
    quiet = await learner.put(f"{path}/reminders", json={"wanted": False})
    assert quiet.json()["reminders"] is False
