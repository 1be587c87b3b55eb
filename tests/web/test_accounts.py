"""Accounts over HTTP: who I am, my wallet, linking a device, adjustments, roles, erasure."""

import asyncio
import base64
import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from standardwebhooks import Webhook

from holdfast.config import Settings
from holdfast.kernel import ledger, verify
from holdfast.web.app import create_app

SECRET = "s" * 40


def device(name: str, secret: str = SECRET) -> dict[str, str]:
    return {"X-Device-Id": f"device-{name}", "X-Device-Secret": secret}


@pytest.fixture
async def admin(client, bearer, owner):
    headers = bearer("root")
    me = (await client.get("/api/me", headers=headers)).json()["id"]
    await owner.execute("update accounts.account set role = 'admin' where id = %s", [me])
    return headers


async def _me(client, headers) -> dict:
    answer = await client.get("/api/me", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_me_has_the_contracts_members(alice):
    me = (await alice.get("/api/me")).json()
    assert {"id", "role", "name", "locale", "timeZone", "created", "tokens"} <= set(me)
    assert (me["role"], me["created"]) == ("user", True)
    assert me["tokens"] == {"balance": 100, "held": 0, "available": 100}
    assert (await alice.get("/api/me")).json()["created"] is False


async def test_fifty_first_calls_of_a_device_are_one_account(client):
    answers = await asyncio.gather(
        *(client.get("/api/me", headers=device("many")) for _ in range(50))
    )
    assert {a.status_code for a in answers} == {200}
    assert len({a.json()["id"] for a in answers}) == 1
    assert (await _me(client, device("many")))["tokens"]["balance"] == 100


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "token_missing"),
        ({"Authorization": "Bearer nonsense"}, 401, None),
        ({"X-Device-Id": "short", "X-Device-Secret": SECRET}, 400, "device_id_invalid"),
        ({"X-Device-Id": "device one two", "X-Device-Secret": SECRET}, 400, "device_id_invalid"),
        ({"X-Device-Id": "device-12345"}, 401, "device_secret_required"),
        (device("unknown", "short"), 400, "device_secret_malformed"),
        (device("unknown", "s" * 129), 400, "device_secret_malformed"),
    ],
)
async def test_who_is_not_known_is_told_why(client, owner, headers, status, code):
    answer = await client.get("/api/me", headers=headers)
    assert answer.status_code == status
    assert code is None or answer.json()["code"] == code
    [count] = await (await owner.execute("select count(*) from accounts.account")).fetchone()
    assert count == 0


async def test_a_wrong_secret_is_no_account(client):
    await _me(client, device("one"))
    answer = await client.get("/api/me", headers=device("one", "t" * 40))
    assert (answer.status_code, answer.json()["code"]) == (401, "device_secret_invalid")


async def test_patch_changes_what_is_sent_and_nothing_else(alice):
    answer = await alice.patch(
        "/api/me", json={"locale": "uk", "timeZone": "Europe/Kyiv", "name": "Аліса"}
    )
    assert answer.status_code == 200
    answer = await alice.patch("/api/me", json={"locale": "ru"})
    me = answer.json()
    assert (me["locale"], me["timeZone"], me["name"]) == ("ru", "Europe/Kyiv", "Аліса")
    for wrong in ({"locale": "fr"}, {"timeZone": "Mars/Base"}, {"name": ""}, {"role": "admin"}):
        answer = await alice.patch("/api/me", json=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), wrong


async def _link(client, headers, name="phone", secret=SECRET, **query):
    return await client.post(
        "/api/me/link",
        json={"deviceId": f"device-{name}", "deviceSecret": secret},
        headers=headers,
        params=query,
    )


async def test_link_to_somebody_new_keeps_the_account(client, bearer):
    phone = await _me(client, device("phone"))
    answer = await _link(client, bearer("ann"))
    assert answer.status_code == 200
    assert answer.json() == {
        "moved": dict.fromkeys(("tokens", "holds", "jobs", "orders", "projects", "enrolments"), 0),
        "bonusKept": True,
    }
    assert (await _me(client, bearer("ann")))["id"] == phone["id"]


async def test_link_to_an_account_moves_what_is_left(client, bearer, db):
    ann = await _me(client, bearer("ann"))
    phone = await _me(client, device("phone"))
    await ledger.grant(db, account_id=UUID(phone["id"]), amount=30, key="bought")
    story = await client.post(
        "/api/generate",
        json={"prompt": "a fox"},
        headers=device("phone") | {"Idempotency-Key": "k"},
    )
    dry = (await _link(client, bearer("ann"), dryRun="true")).json()
    assert (await _me(client, bearer("ann")))["tokens"]["balance"] == 100
    told = (await _link(client, bearer("ann"))).json()
    assert told == dry
    assert (told["bonusKept"], told["moved"]["jobs"]) == (False, 1)
    now = await _me(client, bearer("ann"))
    assert now["id"] == ann["id"]
    assert now["tokens"]["balance"] == 100 + told["moved"]["tokens"]
    jobs = (await client.get("/api/jobs", headers=bearer("ann"))).json()["items"]
    assert [job["id"] for job in jobs] == [story.json()["id"]]
    items = (await client.get("/api/me/transactions", headers=bearer("ann"))).json()["items"]
    assert sum(i["amount"] for i in items) == now["tokens"]["balance"]
    answer = await client.get("/api/me", headers=device("phone"))
    assert (answer.status_code, answer.json()["code"]) == (401, "device_linked")
    again = await _link(client, bearer("ann"))
    assert (again.status_code, again.json()["moved"]["tokens"]) == (200, 0)
    assert (await _me(client, bearer("ann")))["tokens"] == now["tokens"]


async def test_link_refusals(client, bearer):
    await _me(client, device("phone"))
    answer = await _link(client, bearer("ann"), secret="t" * 40)
    assert (answer.status_code, answer.json()["code"]) == (403, "device_secret_invalid")
    answer = await _link(client, bearer("ann"), name="nobody")
    assert answer.status_code == 404
    answer = await _link(client, device("phone"))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    await _link(client, bearer("ann"))
    answer = await _link(client, bearer("bob"))
    assert (answer.status_code, answer.json()["code"]) == (409, "device_linked")


async def _adjust(client, admin, account, key="k", **body):
    return await client.post(
        f"/api/accounts/{account}/adjustments",
        json={"amount": -40, "reason": "a mistake of ours"} | body,
        headers=admin | ({"Idempotency-Key": key} if key else {}),
    )


async def test_adjustments(client, bearer, admin):
    ann = (await _me(client, bearer("ann")))["id"]
    made = await _adjust(client, admin, ann)
    assert made.status_code == 201
    told = made.json()
    assert (told["kind"], told["amount"], told["balanceAfter"]) == ("adjustment", -40, 60)
    again = await _adjust(client, admin, ann)
    assert (again.status_code, again.json()["id"]) == (201, told["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await _adjust(client, admin, ann, amount=-41)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    below = await _adjust(client, admin, ann, key="b", amount=-61)
    assert (below.status_code, below.json()["code"]) == (409, "balance_below_floor")
    none = await _adjust(client, admin, ann, key=None)
    assert (none.status_code, none.json()["code"]) == (400, "idempotency_key_required")
    zero = await _adjust(client, admin, ann, key="z", amount=0)
    assert (zero.status_code, zero.json()["errors"][0]["pointer"]) == (422, "/amount")
    up = await _adjust(client, admin, ann, key="u", amount=5)
    assert up.json()["balanceAfter"] == 65
    items = (await client.get("/api/me/transactions", headers=bearer("ann"))).json()["items"]
    assert [(i["kind"], i["amount"]) for i in items] == [
        ("adjustment", 5),
        ("adjustment", -40),
        ("grant", 100),
    ]
    refused = await _adjust(client, bearer("bob"), ann, key="x")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert (await _adjust(client, admin, uuid4(), key="n")).status_code == 404


async def test_roles_are_given_by_admins_and_audited(client, bearer, admin, owner):
    ann = (await _me(client, bearer("ann")))["id"]
    answer = await client.put(
        f"/api/accounts/{ann}/role", json={"role": "operator"}, headers=bearer("ann")
    )
    assert answer.status_code == 403
    answer = await client.put(f"/api/accounts/{ann}/role", json={"role": "operator"}, headers=admin)
    assert (answer.status_code, answer.json()["role"]) == (200, "operator")
    assert (await _me(client, bearer("ann")))["role"] == "operator"
    trace = await (
        await owner.execute(
            "select old_value, new_value from audit.event where entity_id = %s"
            " and action like 'accounts.%%role'",
            [ann],
        )
    ).fetchall()
    assert trace == [("user", "operator")]
    answer = await client.put(f"/api/accounts/{ann}/role", json={"role": "king"}, headers=admin)
    assert answer.status_code == 422


async def test_erasure_cancels_forfeits_forgets_and_pays_no_second_bonus(client, bearer, owner, db):
    ann = bearer("ann")
    before = await _me(client, ann)
    await client.patch("/api/me", json={"name": "Ann Secret"}, headers=ann)
    job = await client.post(
        "/api/generate",
        json={"prompt": "my secret prompt"},
        headers=ann | {"Idempotency-Key": "k"},
    )
    await client.post(
        "/api/holds", json={"amount": 10, "ttlSeconds": 600, "cause": "x"}, headers=ann
    )
    answer = await client.delete("/api/me", headers=ann)
    assert answer.status_code == 204
    rows = await (
        await owner.execute(
            "select a.status, a.name, w.balance, w.held from accounts.account a"
            " join ledger.wallet w on w.account_id = a.id where a.id = %s",
            [before["id"]],
        )
    ).fetchall()
    assert rows == [("ERASED", None, 0, 0)]
    told = await (
        await owner.execute(
            "select status, payload::text from queue.job where id = %s", [job.json()["id"]]
        )
    ).fetchone()
    assert told[0] == "cancelled"
    assert "secret" not in told[1]
    broken = [one for one in await verify.run(db) if one.violations]
    assert broken == []
    again = await _me(client, ann)
    assert again["id"] != before["id"]
    assert again["tokens"]["balance"] == 0, "no second bonus"


def _signed(secret: str, event: dict, at: datetime | None = None) -> tuple[bytes, dict[str, str]]:
    body = json.dumps(event)
    at = at or datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", at, body)
    return body.encode(), {
        "svix-id": "msg_1",
        "svix-timestamp": str(int(at.timestamp())),
        "svix-signature": signature,
    }


async def test_clerks_webhooks(tmp_path, combined, owner):
    secret = "whsec_" + base64.b64encode(b"k" * 24).decode()
    settings = Settings(home=tmp_path, clerk_webhook_secret=secret)
    app = create_app(settings, combined)
    import httpx

    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://h.test") as client:
            event = {"type": "user.created", "data": {"id": "user_1", "first_name": "Ann"}}
            body, headers = _signed(secret, event)
            for _ in range(2):
                answer = await client.post("/webhooks/clerk", content=body, headers=headers)
                assert answer.status_code == 204
            forged = headers | {"svix-signature": "v1,AAAA"}
            for wrong in (forged, headers | {"svix-timestamp": "soon"}, {}):
                answer = await client.post("/webhooks/clerk", content=body, headers=wrong)
                assert (answer.status_code, answer.json()["code"]) == (401, "signature_invalid")
            old = _signed(secret, event, datetime(2020, 1, 1, tzinfo=UTC))
            answer = await client.post("/webhooks/clerk", content=old[0], headers=old[1])
            assert answer.status_code == 401
            gone = {"type": "user.deleted", "data": {"id": "user_1", "deleted": True}}
            body, headers = _signed(secret, gone)
            answer = await client.post("/webhooks/clerk", content=body, headers=headers)
            assert answer.status_code == 204
    rows = await (await owner.execute("select status from accounts.account")).fetchall()
    assert rows == [("ERASED",)]
