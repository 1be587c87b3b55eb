"""Stories and jobs over HTTP: once means once, and every answer is the contract's."""

import asyncio
from uuid import uuid4

import httpx
import pytest

from asking import claim, generate
from holdfast.kernel import ledger, queue

JOB = {
    "id", "kind", "status", "price", "charged", "refunded", "attempt", "progress", "result",
    "error", "retryOf", "createdAt", "finishedAt", "version", "allowedActions",
}  # fmt: skip


async def test_a_story_is_charged_queued_and_found(alice):
    response = await alice.post(
        "/api/generate",
        json={"prompt": "a lighthouse", "language": "uk", "words": 501},
        headers={"Idempotency-Key": "k"},
    )
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/api/jobs/{job['id']}"
    assert "idempotency-replayed" not in response.headers
    assert set(job) == JOB
    assert (job["status"], job["price"], job["charged"], job["attempt"]) == ("queued", 100, 100, 0)
    assert job["createdAt"].endswith("Z")
    assert {a["action"]: a["allowed"] for a in job["allowedActions"]} == {
        "cancel": True,
        "retry": False,
    }
    found = await alice.get(response.headers["location"])
    assert found.json() == job
    assert found.headers["etag"] == '"1"'
    assert (await alice.get("/api/jobs")).json() == {"items": [job], "nextCursor": None}
    me = (await alice.get("/api/me")).json()
    assert me["tokens"] == {"balance": 0, "held": 0, "available": 0}


async def test_what_cannot_be_paid_is_402_and_burns_nothing(alice):
    asked = {"json": {"prompt": "x", "words": 5000}, "headers": {"Idempotency-Key": "k"}}
    for _ in range(2):
        refused = await alice.post("/api/generate", **asked)
        assert refused.status_code == 402
        told = refused.json()
        assert (told["code"], told["needed"], told["available"]) == (
            "insufficient_tokens",
            500,
            100,
        )
    assert (await alice.get("/api/me")).json()["tokens"]["balance"] == 100
    await generate(alice, "k")  # the same key, another body: it was free


async def test_64_at_once_with_one_key_are_one_job_one_charge_63_replays(alice):
    responses = await asyncio.gather(
        *(
            alice.post("/api/generate", json={"prompt": "x"}, headers={"Idempotency-Key": "one"})
            for _ in range(64)
        )
    )
    assert {r.status_code for r in responses} == {202}
    assert len({r.content for r in responses}) == 1
    assert sum(r.headers.get("idempotency-replayed") == "true" for r in responses) == 63
    assert len((await alice.get("/api/jobs")).json()["items"]) == 1
    kinds = [t["kind"] for t in (await alice.get("/api/me/transactions")).json()["items"]]
    assert kinds == ["charge", "grant"]
    other = await alice.post(
        "/api/generate", json={"prompt": "y"}, headers={"Idempotency-Key": "one"}
    )
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_replay_says_the_same_when_job_and_price_have_moved_on(alice, combined, owner):
    first = await generate(alice, "k")
    lease = await claim(combined)
    await queue.finish(combined, job_id=lease.id, token=lease.token, result={"text": "Once"})
    await owner.execute("update kernel.setting set value = '70' where name = 'story_price'")
    assert (await alice.get("/api/prices")).json()["items"][0]["amount"] == 70
    assert await generate(alice, "k") == first


async def test_the_same_key_of_another_person_is_another_key(client, bearer):
    made = [
        (
            await client.post(
                "/api/generate",
                json={"prompt": "x"},
                headers={"Idempotency-Key": "k", **bearer(name)},
            )
        ).json()["id"]
        for name in ("alice", "bob")
    ]
    assert made[0] != made[1]


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "\u00e9", "a\tb"])
async def test_a_key_that_is_none_is_refused(alice, key):
    response = await alice.post(
        "/api/generate", json={"prompt": "x"}, headers={"Idempotency-Key": key.encode("latin-1")}
    )
    assert response.status_code == 400
    assert response.json()["code"] in ("idempotency_key_malformed", "idempotency_key_required")
    assert (await alice.get("/api/jobs")).json()["items"] == []


async def test_cancel_refunds_once_and_again_changes_nothing(alice):
    job = await generate(alice)
    for _ in range(2):
        response = await alice.post(f"/api/jobs/{job['id']}/cancel")
        told = response.json()
        assert (response.status_code, told["status"]) == (200, "cancelled")
        assert (told["charged"], told["refunded"]) == (50, 50)
        assert told["error"]["code"] == "cancelled"
    amounts = [t["amount"] for t in (await alice.get("/api/me/transactions")).json()["items"]]
    assert amounts == [50, -50, 100]


async def test_a_completed_job_is_shown_and_cannot_be_cancelled_or_retried(alice, combined):
    job = await generate(alice)
    lease = await claim(combined)
    await queue.heartbeat(
        combined, [queue.Beat(lease.id, lease.token, {"phase": "draft", "done": 3, "total": 500})]
    )
    seen = (await alice.get(f"/api/jobs/{job['id']}")).json()
    assert (seen["status"], seen["attempt"]) == ("processing", 1)
    assert seen["progress"] == {"phase": "draft", "done": 3, "total": 500}
    await queue.finish(combined, job_id=lease.id, token=lease.token, result={"text": "Once."})
    seen = (await alice.get(f"/api/jobs/{job['id']}")).json()
    assert (seen["status"], seen["result"]["text"]) == ("completed", "Once.")
    assert seen["finishedAt"]
    for action in seen["allowedActions"]:
        tried = await alice.post(
            f"/api/jobs/{job['id']}/{action['action']}", headers={"Idempotency-Key": "t"}
        )
        assert (tried.status_code, tried.json()["code"]) == (409, action["reason"])
        assert not action["allowed"]
        assert "completed" in tried.json()["detail"], tried.json()


async def test_retry_makes_a_new_job_paid_anew_once_per_key(alice, combined):
    job = await generate(alice)
    lease = await claim(combined)
    await queue.fail(
        combined, job_id=lease.id, token=lease.token, code="provider_refused", permanent=True
    )
    failed = (await alice.get(f"/api/jobs/{job['id']}", headers={"Accept-Language": "ru"})).json()
    assert (failed["status"], failed["refunded"]) == ("failed", 50)
    assert failed["error"]["code"] == "provider_refused"
    assert any("\u0430" <= letter <= "\u044f" for letter in failed["error"]["detail"])
    refused = await alice.post(f"/api/jobs/{job['id']}/retry")
    assert refused.json()["code"] == "idempotency_key_required"
    made = [
        await alice.post(f"/api/jobs/{job['id']}/retry", headers={"Idempotency-Key": "again"})
        for _ in range(2)
    ]
    assert [r.status_code for r in made] == [202, 202]
    assert made[0].json() == made[1].json()
    assert made[1].headers["idempotency-replayed"] == "true"
    assert made[0].json()["retryOf"] == job["id"]
    assert made[0].headers["location"] == f"/api/jobs/{made[0].json()['id']}"
    assert (await alice.get("/api/me")).json()["tokens"]["balance"] == 50
    unfinished = await alice.post(
        f"/api/jobs/{made[0].json()['id']}/retry", headers={"Idempotency-Key": "more"}
    )
    assert (unfinished.status_code, unfinished.json()["code"]) == (409, "job_not_failed")


async def test_what_is_not_yours_or_not_there_or_no_id_is_404(alice, bearer):
    job = await generate(alice)
    for path in ("", "/events", "/artifacts", "/artifacts/1"):
        for wrong in (job["id"], uuid4(), "1", "%00", "x" * 500, "{" + job["id"] + "}"):
            response = await alice.get(f"/api/jobs/{wrong}{path}", headers=bearer("mallory"))
            assert (response.status_code, response.json()["code"]) == (404, "not_found"), (
                wrong,
                path,
            )
    for verb in ("cancel", "retry"):
        response = await alice.post(
            f"/api/jobs/{job['id']}/{verb}", headers={**bearer("mallory"), "Idempotency-Key": "k"}
        )
        assert response.status_code == 404
    assert (await alice.get(f"/api/jobs/{job['id']}")).json()["status"] == "queued"


async def test_lists_are_paged_newest_first_by_signed_cursors(alice, combined):
    account = (await alice.get("/api/me")).json()["id"]
    await ledger.grant(combined, account_id=account, amount=1000, key="more")
    made = [(await generate(alice, f"k{n}"))["id"] for n in range(5)]
    seen, cursor = [], ""
    for _ in range(3):
        page = (await alice.get(f"/api/jobs?limit=2{cursor}")).json()
        seen += [job["id"] for job in page["items"]]
        cursor = f"&cursor={page['nextCursor']}"
    assert seen == made[::-1]
    assert page["nextCursor"] is None
    first = (await alice.get("/api/jobs?limit=2")).json()["nextCursor"]
    for bad in ("abc", first[:-2] + "AA", first + "x", "", "%ff", "\u00e9", "A" * 3000):
        response = await alice.get("/api/jobs", params={"cursor": bad})
        assert response.status_code == 422, bad
        assert response.json()["errors"][0]["pointer"] == "/query/cursor"
    other = await alice.get("/api/me/transactions", params={"cursor": first})
    assert other.status_code == 422
    for limit in ("0", "201", "-1", "1.0", "1_0", "x", "", "9" * 30):
        response = await alice.get("/api/jobs", params={"limit": limit})
        assert response.status_code == 422, limit
        assert response.json()["errors"][0]["pointer"] == "/query/limit"


async def test_a_fenced_workers_text_is_an_artifact_and_never_the_result(alice, combined, bearer):
    job = await generate(alice)
    late = await claim(combined)
    await alice.post(f"/api/jobs/{job['id']}/cancel")
    with pytest.raises(Exception, match="lease_lost"):
        await queue.finish(
            combined, job_id=late.id, token=late.token, result={"text": "0123456789"}
        )
    seen = (await alice.get(f"/api/jobs/{job['id']}")).json()
    assert (seen["status"], seen["result"]) == ("cancelled", None)
    (item,) = (await alice.get(f"/api/jobs/{job['id']}/artifacts")).json()["items"]
    assert (item["n"], item["late"], item["bytes"]) == (1, True, 10)
    path = f"/api/jobs/{job['id']}/artifacts/1"
    whole = await alice.get(path)
    assert (whole.status_code, whole.content) == (200, b"0123456789")
    assert whole.headers["accept-ranges"] == "bytes"
    for asked, status, got, told in (
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=3-1", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=999999999999-", 416, None, "bytes */10"),
    ):
        response = await alice.get(path, headers={"Range": asked})
        assert response.status_code == status, asked
        assert response.headers.get("content-range") == told, asked
        if got is not None:
            assert response.content == got, asked
    for n in ("0", "2", "x", "99999999999", "-1", "1.0"):
        assert (await alice.get(f"/api/jobs/{job['id']}/artifacts/{n}")).status_code == 404, n


async def test_an_admin_sees_and_ends_the_jobs_of_others(alice, bearer, owner):
    job = await generate(alice)
    root = (await alice.get("/api/me", headers=bearer("root"))).json()
    await owner.execute("update accounts.account set role = 'admin' where id = %s", [root["id"]])
    assert (await alice.get(f"/api/jobs/{job['id']}", headers=bearer("root"))).status_code == 200
    ended = await alice.post(f"/api/jobs/{job['id']}/cancel", headers=bearer("root"))
    assert (ended.json()["status"], ended.json()["refunded"]) == ("cancelled", 50)


async def test_a_duplicate_of_one_that_hangs_is_told_so(alice, owner, monkeypatch):
    """The first waits for a lock that somebody holds; only its duplicate is `in_flight`."""
    me = (await alice.get("/api/me")).json()["id"]
    async with owner.transaction():
        await owner.execute("select from ledger.wallet where account_id = %s for update", [me])
        tries = [
            asyncio.create_task(
                alice.post("/api/generate", json={"prompt": "x"}, headers={"Idempotency-Key": "k"})
            )
            for _ in range(2)
        ]
        responses: list[httpx.Response] = await asyncio.gather(*tries)
    found = {(r.status_code, r.json()["code"]) for r in responses}
    assert found == {(503, "busy"), (409, "idempotency_in_flight")}
    assert all(int(r.headers["retry-after"]) >= 1 for r in responses)
    await generate(alice)
