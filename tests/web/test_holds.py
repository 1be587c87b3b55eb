"""Holds over HTTP: reserved, then captured or released by one winner."""

import asyncio

import pytest

HOLD = {"id", "status", "amount", "captured", "expiresAt"}


async def reserve(http, key="h", **body):
    asked = {"amount": 75, "ttlSeconds": 60, "cause": "celery:1", **body}
    return await http.post("/api/holds", json=asked, headers={"Idempotency-Key": key})


async def tokens(http):
    return (await http.get("/api/me")).json()["tokens"]


async def test_a_hold_is_captured_in_part_and_the_rest_comes_back(alice):
    made = await reserve(alice)
    assert made.status_code == 201
    hold = made.json()
    assert set(hold) == HOLD
    assert (hold["status"], hold["amount"], hold["captured"]) == ("OPEN", 75, 0)
    assert await tokens(alice) == {"balance": 100, "held": 75, "available": 25}
    poor = await reserve(alice, "h2", amount=26)
    assert poor.status_code == 402
    assert (poor.json()["needed"], poor.json()["available"]) == (26, 25)
    over = await alice.post(f"/api/holds/{hold['id']}/capture", json={"amount": 76})
    assert (over.status_code, over.json()["code"]) == (409, "capture_exceeds_hold")
    assert (over.json()["held"], over.json()["asked"]) == (75, 76)
    taken = await alice.post(f"/api/holds/{hold['id']}/capture", json={"amount": 30})
    assert (taken.json()["status"], taken.json()["captured"]) == ("CAPTURED", 30)
    assert await tokens(alice) == {"balance": 70, "held": 0, "available": 70}
    assert (await alice.get(f"/api/holds/{hold['id']}")).json() == taken.json()
    for verb, body in (("capture", {"amount": 1}), ("release", None)):
        late = await alice.post(f"/api/holds/{hold['id']}/{verb}", json=body)
        assert (late.status_code, late.json()["code"]) == (409, "hold_finished")
        assert late.json()["currentStatus"] == "CAPTURED"
    again = await reserve(alice)
    assert (again.status_code, again.json()) == (201, hold)
    assert again.headers["idempotency-replayed"] == "true"
    kinds = [t["kind"] for t in (await alice.get("/api/me/transactions")).json()["items"]]
    assert kinds == ["release", "capture", "hold", "grant"]


async def test_a_key_makes_a_capture_answer_again(alice):
    hold = (await reserve(alice)).json()
    answers = await asyncio.gather(
        *(
            alice.post(
                f"/api/holds/{hold['id']}/capture",
                json={"amount": 75},
                headers={"Idempotency-Key": "c"},
            )
            for _ in range(8)
        )
    )
    assert {a.status_code for a in answers} == {200}
    assert len({a.content for a in answers}) == 1
    assert sum("idempotency-replayed" in a.headers for a in answers) == 7
    assert (await tokens(alice))["balance"] == 25


async def test_a_hold_is_released_whole_and_is_nobody_elses(alice, bearer):
    hold = (await reserve(alice)).json()
    for method, verb in (("GET", ""), ("POST", "/capture"), ("POST", "/release")):
        response = await alice.request(
            method,
            f"/api/holds/{hold['id']}{verb}",
            json={"amount": 1} if verb == "/capture" else None,
            headers=bearer("mallory"),
        )
        assert response.status_code == 404
    freed = await alice.post(f"/api/holds/{hold['id']}/release")
    assert (freed.json()["status"], freed.json()["captured"]) == ("RELEASED", 0)
    assert (await tokens(alice))["available"] == 100


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"amount": 0}, "/amount"),
        ({"amount": 2**63}, "/amount"),
        ({"ttlSeconds": 0}, "/ttlSeconds"),
        ({"ttlSeconds": 86_401}, "/ttlSeconds"),
        ({"ttlSeconds": 1.5}, "/ttlSeconds"),
        ({"cause": ""}, "/cause"),
        ({"cause": "x" * 201}, "/cause"),
    ],
)
async def test_a_wrong_hold_is_told_where(alice, wrong, pointer):
    response = await reserve(alice, **wrong)
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == pointer


async def test_without_a_key_each_call_is_a_hold(alice):
    asked = {"amount": 40, "ttlSeconds": 60, "cause": "render"}
    ids = {(await alice.post("/api/holds", json=asked)).json()["id"] for _ in range(2)}
    assert len(ids) == 2
    refused = await alice.post("/api/holds", json=asked)
    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_tokens")
    assert (refused.json()["needed"], refused.json()["available"]) == (40, 20)
