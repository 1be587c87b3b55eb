"""The routes of projects, to the letter of the contract."""

import asyncio
import json
from uuid import uuid4

import pytest

from systems.wizard import SCRIPT

BODY = {"stepNumber": 3, "data": {"finalScript": SCRIPT}}


@pytest.fixture
async def steps(alice) -> str:
    made = await alice.post("/api/projects", json={"title": "A film"})
    assert made.status_code == 201
    assert made.headers["location"] == f"/api/projects/{made.json()['id']}"
    return f"{made.headers['location']}/steps"


async def test_the_seeds_upsert(alice, steps):
    first = await alice.post(steps, json=BODY)
    second = await alice.post(
        steps, json={"stepNumber": 3, "data": {"finalScript": {**SCRIPT, "totalWords": 7}}}
    )
    assert (first.status_code, second.status_code) == (201, 200)
    assert (first.headers["etag"], second.headers["etag"]) == ('"1"', '"2"')
    listed = (await alice.get(steps)).json()["items"]
    assert [s["stepNumber"] for s in listed] == [1, 2, 3, 4]
    assert listed[2]["data"]["finalScript"]["totalWords"] == 7
    assert {
        "projectId", "stepNumber", "name", "status", "stale", "data", "completedAt", "skipReason",
        "version", "createdAt", "updatedAt",
    } <= set(listed[2])  # fmt: skip
    assert (listed[3]["status"], listed[3]["version"], listed[3]["data"]) == ("EMPTY", 0, {})


async def test_ten_first_saves_at_once(alice, steps):
    told = await asyncio.gather(
        *(alice.post(steps, json={"stepNumber": 3, "data": {"n": n}}) for n in range(10))
    )
    assert sorted(r.status_code for r in told) == [200] * 9 + [201]
    assert sorted(r.json()["version"] for r in told) == list(range(1, 11))


async def test_absent_null_and_empty(alice, steps):
    when = "2026-11-21T12:00:00Z"
    done = await alice.post(steps, json={**BODY, "completedAt": when, "skipReason": ""})
    assert (done.json()["status"], done.json()["completedAt"]) == ("COMPLETED", when)
    kept = (await alice.put(f"{steps}/3", json={"data": {}})).json()
    assert (kept["completedAt"], kept["skipReason"], kept["data"]) == (when, "", {})
    opened = await alice.patch(f"{steps}/3", json={"completedAt": None})
    assert (opened.json()["status"], opened.json()["completedAt"]) == ("DRAFT", None)
    skipped = (await alice.post(f"{steps}/3/skip", json={"reason": "no"})).json()
    assert (skipped["status"], skipped["skipReason"]) == ("SKIPPED", "no")
    again = (await alice.patch(f"{steps}/3", json={"skipReason": None})).json()
    assert (again["status"], again["skipReason"]) == ("DRAFT", None)


async def test_merge_patch(alice, steps):
    await alice.put(f"{steps}/1", json={"data": {"title": "Goodbye!", "author": {"a": 1, "b": 2}}})
    merged = await alice.patch(
        f"{steps}/1",
        content='{"data": {"title": "Hello!", "author": {"b": null}, "tags": ["x"]}}',
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert merged.json()["data"] == {"title": "Hello!", "author": {"a": 1}, "tags": ["x"]}
    assert (await alice.patch(f"{steps}/1", json={"data": None})).json()["data"] == {}


async def test_preconditions(alice, steps):
    made = await alice.put(f"{steps}/3", json={"data": {}}, headers={"If-None-Match": "*"})
    assert made.headers["etag"] == '"1"'
    twice = await alice.put(f"{steps}/3", json={"data": {}}, headers={"If-None-Match": "*"})
    stale = await alice.put(f"{steps}/3", json={"data": {"a": 1}}, headers={"If-Match": '"7"'})
    foreign = await alice.put(f"{steps}/3", json={"data": {}}, headers={"If-Match": '"abc"'})
    assert foreign.status_code == 412
    bare = await alice.put(f"{steps}/3", json={"data": {}}, headers={"If-Match": "7"})
    for refused in (twice, stale, bare):
        assert (refused.status_code, refused.json()["code"]) == (412, "version_mismatch")
        assert refused.json()["version"] == 1
    right = await alice.patch(f"{steps}/3", json={"data": {"a": 1}}, headers={"If-Match": '"1"'})
    assert right.json()["version"] == 2


def deep(levels: int) -> dict:
    return json.loads('{"a":' * levels + "1" + "}" * levels)


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ('{"stepNumber": 3, "data": {"a": "b\\u0000"}}', 422, "/data/a"),
        ('{"stepNumber": 3, "data": {"a\\u0000": 1}}', 422, "/data/a\\u0000"),
        ('{"stepNumber": 3, "data": {"a": NaN}}', 400, None),
        ('{"stepNumber": 3, "data": {"a": Infinity}}', 400, None),
        ('{"stepNumber": 3, "data": {"a": "\\ud800"}}', 400, None),
        ('{"stepNumber": 3, "data": {"a": 1, "a": 2}}', 400, None),
        ('{"stepNumber": 3, "data": {"a": 99999999999999999999}}', 422, "/data/a"),
        ('{"stepNumber": 3, "data": {"a": 1e999}}', 422, "/data/a"),
        ('{"stepNumber": 3, "data": [1]}', 422, "/data"),
        ('{"stepNumber": 3, "data": "text"}', 422, "/data"),
        ('{"stepNumber": 3, "data": null}', 422, "/data"),
        ('{"stepNumber": 3}', 422, "/data"),
        ('{"stepNumber": "3", "data": {}}', 422, "/stepNumber"),
        ('{"stepNumber": true, "data": {}}', 422, "/stepNumber"),
        ('{"stepNumber": 3.0, "data": {}}', 422, "/stepNumber"),
        ('{"stepNumber": 5, "data": {}}', 422, "/stepNumber"),
        ('{"stepNumber": -1, "data": {}}', 422, "/stepNumber"),
        ('{"stepNumber": 9007199254740993, "data": {}}', 422, "/stepNumber"),
        ('{"stepNumber": 3, "data": {}, "completedAt": "soon"}', 422, "/completedAt"),
        ('{"stepNumber": 3, "data": {}, "completedAt": 12}', 422, "/completedAt"),
        ('{"stepNumber": 3, "data": {}, "skipReason": 5}', 422, "/skipReason"),
        ('{"stepNumber": 3, "data": {}, "more": 5}', 422, "/more"),
        ("[]", 422, ""),
        ("", 422, ""),
        ("{", 400, None),
        (json.dumps({"stepNumber": 3, "data": deep(50)}), 422, "/data" + "/a" * 32),
        (json.dumps({"stepNumber": 3, "data": {"a": "x" * 600_000}}), 422, None),
        (json.dumps({"stepNumber": 3, "data": {"a": "x" * 2_000_000}}), 413, None),
        ('{"stepNumber": 3, "data": ' + '{"a":' * 20_000 + "1" + "}" * 20_000 + "}", 422, ""),
    ],
)
async def test_hostile_json_is_4xx_and_nothing_is_stored(alice, steps, body, status, pointer):
    headers = {"Content-Type": "application/json"}
    told = await alice.post(steps, content=body, headers=headers)
    assert told.status_code == status, told.text
    if pointer is not None:
        assert told.json()["errors"][0]["pointer"] == pointer
        assert told.json()["errors"][0]["detail"]
    assert (await alice.get(f"{steps}/3")).json()["version"] == 0


async def test_somebody_elses_is_404_everywhere(alice, steps, bearer):
    await alice.post(steps, json=BODY)
    stranger = bearer("mallory")
    project = steps.removesuffix("/steps")
    key = {"Idempotency-Key": "k"}
    asked = [
        ("GET", project, None), ("GET", steps, None), ("GET", f"{steps}/3", None),
        ("POST", steps, BODY), ("PUT", f"{steps}/3", {"data": {}}),
        ("PATCH", f"{steps}/3", {}), ("POST", f"{steps}/3/complete", None),
        ("POST", f"{steps}/3/skip", {"reason": "x"}), ("POST", f"{steps}/3/accept", None),
        ("POST", f"{steps}/3/keep", None), ("GET", f"{steps}/3/revisions", None),
        ("POST", f"{steps}/3/revisions/1/restore", None), ("POST", f"{steps}/4/voice", {}),
        ("PUT", f"{project}/members/{uuid4()}", None),
        ("DELETE", f"{project}/members/{uuid4()}", None),
    ]  # fmt: skip
    for method, path, body in asked:
        told = await alice.request(method, path, json=body, headers={**stranger, **key})
        assert (told.status_code, told.json()["code"]) == (404, "not_found"), (method, path)
    for path in (f"{steps}/x", f"{steps}/9", f"{steps}/0", "/api/projects/no-uuid/steps"):
        assert (await alice.get(path)).status_code == 404, path


async def test_members_read_and_write_and_their_owner_decides(alice, steps, bearer):
    bob = bearer("bob")
    his = (await alice.get("/api/me", headers=bob)).json()["id"]
    project = steps.removesuffix("/steps")
    told = await alice.put(f"{project}/members/{his}")
    assert [m["accountId"] for m in told.json()["members"]] == [his]
    assert (await alice.post(steps, json=BODY, headers=bob)).status_code == 201
    assert [p["seat"] for p in (await alice.get("/api/projects", headers=bob)).json()["items"]] == [
        "member"
    ]
    refused = await alice.put(f"{project}/members/{uuid4()}", headers=bob)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert (await alice.delete(f"{project}/members/{his}")).json()["members"] == []
    assert (await alice.get(steps, headers=bob)).status_code == 404


async def test_autosaves_of_a_tab(alice, steps):
    def tab(seq: int) -> dict:
        return {"X-Tab": "t-1", "X-Tab-Seq": str(seq)}

    await alice.put(f"{steps}/1", json={"data": {"idea": "abc"}}, headers=tab(2))
    late = await alice.put(f"{steps}/1", json={"data": {"idea": "ab"}}, headers=tab(1))
    assert (late.status_code, late.json()["data"], late.json()["version"]) == (
        200,
        {"idea": "abc"},
        1,
    )
    half = await alice.put(f"{steps}/1", json={"data": {}}, headers={"X-Tab": "t-1"})
    assert half.json()["errors"][0]["pointer"] == "/header/X-Tab-Seq"
    odd = {"X-Tab": "t-1", "X-Tab-Seq": "-1"}
    assert (await alice.put(f"{steps}/1", json={"data": {}}, headers=odd)).status_code == 422


async def test_stale_accept_keep_revisions_restore(alice, steps):
    await alice.post(steps, json=BODY)
    await alice.put(f"{steps}/4", json={"data": {"voice": "en"}})
    await alice.post(steps, json={"stepNumber": 3, "data": {"finalScript": {"scenes": ["new"]}}})
    stale = (await alice.get(f"{steps}/4")).json()
    assert stale["stale"]
    assert stale["changes"][0]["input"] == "3.finalScript"
    assert not (await alice.post(f"{steps}/4/keep")).json()["stale"]
    await alice.post(steps, json=BODY | {"data": {"finalScript": {"scenes": ["newer"]}}})
    assert (await alice.get(f"{steps}/4")).json()["stale"]
    assert not (await alice.post(f"{steps}/4/accept")).json()["stale"]
    listed = (await alice.get(f"{steps}/3/revisions?limit=2")).json()
    assert [r["version"] for r in listed["items"]] == [3, 2]
    more = await alice.get(f"{steps}/3/revisions?cursor={listed['nextCursor']}")
    assert [set(r) for r in more.json()["items"]] == [{"version", "data", "by", "at"}]
    back = (await alice.post(f"{steps}/3/revisions/1/restore")).json()
    assert (back["version"], back["data"]) == (4, BODY["data"])


async def test_complete_says_what_is_missing(alice, steps):
    await alice.post(steps, json={"stepNumber": 3, "data": {}})
    strict = await alice.post(f"{steps}/3/complete")
    assert strict.status_code == 422
    assert strict.json()["errors"][0]["pointer"] == "/data/finalScript"
    await alice.post(steps, json=BODY)
    locked = (await alice.post(f"{steps}/3/complete")).json()
    assert locked["code"] == "step_locked"
    assert locked["missing"][0] == {"stepNumber": 1, "name": "idea"}
    for number in (1, 2):
        await alice.post(f"{steps}/{number}/skip", json={"reason": "known"})
    done = await alice.post(f"{steps}/3/complete")
    assert (done.status_code, done.json()["status"]) == (200, "COMPLETED")
    wrong = await alice.post(f"{steps}/3/skip", json={"reason": "late"})
    assert (wrong.status_code, wrong.json()["code"]) == (409, "wrong_status")


async def test_a_key_saves_and_creates_once(alice, steps):
    key = {"Idempotency-Key": "once"}
    first = await alice.post(steps, json=BODY, headers=key)
    again = await alice.post(steps, json=BODY, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["version"] == 1
    other = await alice.post(steps, json=BODY | {"data": {}}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    made = [await alice.post("/api/projects", json={"title": "B"}, headers=key) for _ in "12"]
    assert made[0].json()["id"] == made[1].json()["id"]
    assert made[1].headers["idempotency-replayed"] == "true"
