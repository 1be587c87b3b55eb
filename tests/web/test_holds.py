"""Holds over HTTP."""

import pytest

JSON = {"amount": 40, "ttlSeconds": 60, "cause": "render"}


async def test_hold_capture_and_the_list_of_movements(alice):
    made = await alice.post("/api/holds", json=JSON, headers={"Idempotency-Key": "k"})
    assert made.status_code == 201
    hold = made.json()
    assert set(hold) == {"id", "status", "amount", "captured", "expiresAt"}
    assert (hold["status"], hold["amount"], hold["captured"]) == ("OPEN", 40, 0)
    again = await alice.post("/api/holds", json=JSON, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"]) == (201, hold["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    me = (await alice.get("/api/me")).json()["tokens"]
    assert me == {"balance": 100, "held": 40, "available": 60}
    taken = await alice.post(f"/api/holds/{hold['id']}/capture", json={"amount": 25})
    assert (taken.status_code, taken.json()["status"]) == (200, "CAPTURED")
    twice = await alice.post(f"/api/holds/{hold['id']}/release")
    assert (twice.status_code, twice.json()["code"]) == (409, "hold_finished")
    assert twice.json()["status"] == 409
    items = (await alice.get("/api/me/transactions")).json()["items"]
    assert [(i["kind"], i["amount"]) for i in items] == [
        ("release", 0),
        ("capture", -25),
        ("hold", 0),
        ("grant", 100),
    ]
    assert sum(i["amount"] for i in items) == 75


async def test_without_a_key_each_call_is_a_hold(alice):
    ids = {(await alice.post("/api/holds", json=JSON)).json()["id"] for _ in range(2)}
    assert len(ids) == 2
    refused = await alice.post("/api/holds", json=JSON)
    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_tokens")
    assert (refused.json()["needed"], refused.json()["available"]) == (40, 20)


@pytest.mark.parametrize(
    "change",
    [{"amount": 0}, {"amount": "4"}, {"amount": 1.0}, {"ttlSeconds": 0}, {"ttlSeconds": 86_401},
     {"cause": ""}, {"cause": None}, {"more": 1}],
)  # fmt: skip
async def test_bad_bodies_are_422_with_a_pointer(alice, change):
    answer = await alice.post("/api/holds", json=JSON | change)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["errors"][0]["pointer"] == f"/{next(iter(change))}"


async def test_somebody_elses_hold_is_not_there(alice, client, bearer):
    hold = (await alice.post("/api/holds", json=JSON)).json()["id"]
    for path in (f"/api/holds/{hold}", "/api/holds/nonsense"):
        answer = await client.get(path, headers=bearer("bob"))
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = await client.post(
        f"/api/holds/{hold}/capture", json={"amount": 1}, headers=bearer("bob")
    )
    assert answer.status_code == 404


async def test_more_than_was_held(alice):
    hold = (await alice.post("/api/holds", json=JSON)).json()["id"]
    answer = await alice.post(f"/api/holds/{hold}/capture", json={"amount": 41})
    assert answer.json()["code"] == "capture_exceeds_hold"
    assert (await alice.get(f"/api/holds/{hold}")).json()["status"] == "OPEN"
