"""Browsers, webhooks and dead letters over HTTP."""

import base64
import os
from uuid import uuid4

import pytest

from holdfast.kernel import outbox
from holdfast.kernel.outbox import Settlement
from holdfast.systems import accounts

PUBLIC = "https://93.184.215.14/in"


def browser(endpoint=PUBLIC):
    point = base64.urlsafe_b64encode(b"\4" + os.urandom(64)).rstrip(b"=").decode()
    secret = base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()
    return {
        "endpoint": endpoint,
        "expirationTime": None,
        "keys": {"p256dh": point, "auth": secret},
    }


@pytest.fixture
async def ada(client, bearer, owner):
    """An admin."""
    client.headers.update(bearer("ada"))
    who = (await client.get("/api/me")).json()["id"]
    await accounts.set_role(owner, account_id=who, role="admin", actor="test")
    return client


async def test_the_push_key_is_public(client):
    key = (await client.get("/api/push")).json()["publicKey"]
    assert len(base64.urlsafe_b64decode(key + "=")) == 65


async def test_a_browser_comes_and_goes(alice, bearer):
    body = browser()
    made = await alice.post("/api/me/subscriptions", json=body)
    assert made.status_code == 201
    assert made.json().keys() == {"id", "endpoint", "createdAt"}
    again = await alice.post("/api/me/subscriptions", json=body)
    assert (again.status_code, again.json()) == (200, made.json())
    assert (await alice.get("/api/me/subscriptions")).json()["items"] == [made.json()]
    path = f"/api/me/subscriptions/{made.json()['id']}"
    mine = dict(alice.headers)
    alice.headers.update(bearer("bob"))
    assert (await alice.delete(path)).status_code == 404
    alice.headers.update(mine)
    assert (await alice.delete(path)).status_code == 204
    assert (await alice.delete(path)).status_code == 404
    assert (await alice.get("/api/me/subscriptions")).json()["items"] == []


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"endpoint": "https://127.0.0.1/x"}, "/endpoint", "address_forbidden"),
        ({"endpoint": "http://93.184.215.14/x"}, "/endpoint", "not_a_url"),
        ({"keys": {"p256dh": "AAAA", "auth": "AAAA"}}, "/keys/p256dh", "malformed"),
        ({"keys": {}}, "/keys/p256dh", "required"),
        ({"more": 1}, "/more", "unknown"),
    ],
)
async def test_a_browser_that_is_none(alice, change, pointer, code):
    refused = await alice.post("/api/me/subscriptions", json=browser() | change)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == pointer
    assert refused.json()["errors"][0]["code"] == code


async def test_webhooks_are_for_admins(alice):
    body = {"url": PUBLIC, "topics": ["*"]}
    assert (await alice.post("/api/webhooks", json=body)).status_code == 403
    assert (await alice.get("/api/webhooks")).status_code == 403
    assert (await alice.delete(f"/api/webhooks/{uuid4()}")).status_code == 403
    assert (await alice.get("/api/admin/effects?status=DEAD")).status_code == 403
    for verb in ("redrive", "skip"):
        refused = await alice.post(f"/api/admin/effects/{uuid4()}/{verb}")
        assert refused.status_code == 403


async def test_a_webhooks_secret_is_shown_once(ada):
    made = await ada.post("/api/webhooks", json={"url": PUBLIC, "topics": ["courses.*", "*"]})
    assert made.status_code == 201
    secret = made.json()["secret"]
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    listed = (await ada.get("/api/webhooks")).json()["items"]
    assert listed[0]["id"] == made.json()["id"]
    assert secret not in str(listed)
    assert (await ada.delete(f"/api/webhooks/{made.json()['id']}")).status_code == 204
    assert (await ada.get("/api/webhooks")).json()["items"] == []
    assert (await ada.delete(f"/api/webhooks/{made.json()['id']}")).status_code == 404


@pytest.mark.parametrize(
    ("url", "topics", "pointer", "code"),
    [
        ("https://10.0.0.1/", ["*"], "/url", "address_forbidden"),
        ("https://[::1]/", ["*"], "/url", "address_forbidden"),
        ("https://localhost/", ["*"], "/url", "address_forbidden"),
        ("ftp://example.org/", ["*"], "/url", "not_a_url"),
        ("nonsense", ["*"], "/url", "not_a_url"),
        (PUBLIC, [], "/topics", "too_few"),
        (PUBLIC, ["Courses"], "/topics/0", "malformed"),
    ],
)
async def test_a_webhook_to_nowhere(ada, url, topics, pointer, code):
    refused = await ada.post("/api/webhooks", json={"url": url, "topics": topics})
    assert refused.status_code == 422
    assert [(e["pointer"], e["code"]) for e in refused.json()["errors"]] == [(pointer, code)]


async def test_dead_letters_are_redriven_or_skipped(ada, combined, owner):
    kind = "select outbox._append(array[id], array[kernel.new_id(bucket)], array['a.b'],"
    kind += " array['{}']::jsonb[], array[null], kernel.now()) from accounts.account"
    for _ in range(2):
        await owner.execute(kind)
    for effect in await outbox.lease(combined):
        if effect.topic == "a.b":
            dead = effect
            break
    settled = [Settlement(dead.stream, dead.token, dead.seq, "dead", "410: gone")]
    assert await outbox.settle(combined, settled) == ["ok"]
    listed = (await ada.get("/api/admin/effects?status=DEAD")).json()["items"]
    assert [(e["id"], e["status"], e["error"], e["behind"]) for e in listed] == [
        (str(dead.id), "DEAD", "410: gone", 1)
    ]
    path = f"/api/admin/effects/{dead.id}"
    done = await ada.post(f"{path}/redrive")
    assert (done.status_code, done.json()["status"]) == (200, "READY")
    late = await ada.post(f"{path}/skip")
    assert (late.status_code, late.json()["code"]) == (409, "effect_not_dead")
    assert (await ada.post(f"/api/admin/effects/{uuid4()}/skip")).status_code == 404
    assert (await ada.get("/api/admin/effects?status=READY")).status_code == 422
