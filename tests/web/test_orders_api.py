"""The order desk over HTTP."""

import asyncio
import json

import httpx
import psycopg
import pytest

from holdfast.postgres.pool import Database
from holdfast.systems import accounts
from holdfast.systems.accounts.development import mint
from holdfast.web.app import create_app


@pytest.fixture
def person(client, combined, owner, settings):
    """Headers of a person with a role, by name."""

    async def make(name: str, role: str = "user") -> dict[str, str]:
        found = await accounts.sign_in(combined, kind="dev", subject=name, name=name)
        if role != "user":
            await accounts.set_role(owner, account_id=found.id, role=role, actor="test")
        return {"Authorization": f"Bearer {mint(settings, name)}", "id": str(found.id)}

    return make


@pytest.fixture
async def order(client, person) -> dict:
    made = await client.post("/api/orders", json={"title": "A parcel"}, headers=await person("eve"))
    assert made.status_code == 201
    assert made.headers["ETag"] == '"1"'
    assert made.headers["Location"] == f"/api/orders/{made.json()['id']}"
    return made.json()


async def test_a_hundred_operators_want_one_order(client, person, order, owner):
    people = [await person(f"op{n}", "operator") for n in range(100)]
    answers = await asyncio.gather(
        *(client.post(f"/api/orders/{order['id']}/take", headers=h) for h in people)
    )
    won = [n for n, answer in enumerate(answers) if answer.status_code == 200]
    assert len(won) == 1
    winner = answers[won[0]].json()
    assert winner["assignedOperatorId"] == people[won[0]]["id"]
    lost = [answer for n, answer in enumerate(answers) if n != won[0]]
    assert {answer.status_code for answer in lost} == {409}
    for answer in lost:
        told = answer.json()
        assert told["code"] == "order_already_assigned"
        assert told["holder"] == {"id": people[won[0]]["id"], "name": f"op{won[0]}"}
        assert told["since"] == winner["assignedAt"].replace("+00:00", "Z")
        assert told["version"] == 2
    cursor = await owner.execute(
        "select old_value, new_value, actor from audit.event where action = 'ASSIGNED_TO_OPERATOR'"
    )
    holder = people[won[0]]["id"]
    assert await cursor.fetchall() == [(None, holder, holder)]
    trail = await client.get(f"/api/orders/{order['id']}/audit", headers=people[0])
    taken = trail.json()["items"][1]
    assert (taken["action"], taken["from"], taken["to"], taken["actor"]) == (
        "ASSIGNED_TO_OPERATOR",
        None,
        holder,
        holder,
    )
    assert taken["requestId"] == answers[won[0]].headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("accepted", "language", "sentence"),
    [
        ("en", "en", "Order has already been assigned to another operator"),
        ("de, ru;q=0.9, en;q=0.1", "ru", "Заявка уже взята другим оператором"),
        ("uk-UA", "uk", None),
        ("q=;;", "en", "Order has already been assigned to another operator"),
    ],
)
async def test_the_loser_is_told_in_his_language(
    client, person, order, accepted, language, sentence
):
    await client.post(f"/api/orders/{order['id']}/take", headers=await person("ann", "operator"))
    headers = {**await person("bob", "operator"), "Accept-Language": accepted}
    told = await client.post(f"/api/orders/{order['id']}/take", headers=headers)
    assert told.status_code == 409
    assert told.headers["Content-Language"] == language
    assert "Accept-Language" in told.headers["Vary"]
    assert sentence is None or told.json()["detail"] == sentence


async def test_if_match_is_judged_first_and_the_current_version_told(client, person, order):
    ann, bob = await person("ann", "operator"), await person("bob", "operator")
    path = f"/api/orders/{order['id']}"
    taken = await client.post(f"{path}/take", headers={**ann, "If-Match": '"1"'})
    assert (taken.status_code, taken.headers["ETag"]) == (200, '"2"')
    for verb in ("take", "release", "complete", "heartbeat", "cancel"):
        stale = await client.post(f"{path}/{verb}", headers={**bob, "If-Match": '"1"'})
        assert (stale.status_code, stale.json()["version"]) == (412, 2), verb
    for verb in ("release", "complete", "heartbeat"):
        assert (await client.post(f"{path}/{verb}", headers=bob)).status_code == 403
    again = await client.post(f"{path}/take", headers=ann)
    assert again.json() == taken.json()
    released = await client.post(f"{path}/release", headers={**ann, "If-Match": '"2"'})
    assert released.json()["status"] == "PENDING"
    lost = await client.post(f"{path}/complete", headers=ann)
    assert (lost.status_code, lost.json()["code"]) == (409, "lease_lost")
    await client.post(f"{path}/take", headers=bob)
    done = await client.post(f"{path}/complete", headers=bob)
    assert (done.json()["status"], done.headers["ETag"]) == ("COMPLETED", '"5"')
    late = await client.post(f"{path}/take", headers=ann)
    assert (late.status_code, late.json()["code"], late.json()["currentStatus"]) == (
        409,
        "order_not_pending",
        "COMPLETED",
    )


async def test_a_key_places_once_and_says_that_it_replays(client, person):
    headers = {**await person("eve"), "Idempotency-Key": "k-1"}
    first = await client.post("/api/orders", json={"title": "One"}, headers=headers)
    again = await client.post("/api/orders", json={"title": "One"}, headers=headers)
    assert again.json() == first.json()
    assert again.status_code == 201
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    other = await client.post("/api/orders", json={"title": "Two"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/title"),
        ({"title": ""}, "/title"),
        ({"title": "x" * 201}, "/title"),
        ({"title": "x", "priority": 10}, "/priority"),
        ({"title": "x", "priority": True}, "/priority"),
        ({"title": "x", "priority": "1"}, "/priority"),
        ({"title": "x", "desk": "No such desk!"}, "/desk"),
        ({"title": "x", "more": 1}, "/more"),
        ({"title": "x\0"}, "/title"),
    ],
)
async def test_a_bad_order_is_422_with_a_pointer(client, person, body, pointer):
    answer = await client.post("/api/orders", json=body, headers=await person("eve"))
    assert answer.status_code == 422
    assert [e["pointer"] for e in answer.json()["errors"]] == [pointer]


async def test_what_is_not_there(client, person):
    ann = await person("ann", "operator")
    for path in ("not-an-id", "00000000-0000-7000-8000-000000000000"):
        for answer in (
            await client.get(f"/api/orders/{path}", headers=ann),
            await client.post(f"/api/orders/{path}/take", headers=ann),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "order_not_found")
    nowhere = await client.post("/api/orders/take-next", json={"desk": "x"}, headers=ann)
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "desk_not_found")
    empty = await client.post("/api/orders/take-next", headers=ann)
    assert (empty.status_code, empty.content) == (204, b"")


async def test_bulk_moves(client, person, order):
    ann, bob = await person("ann", "operator"), await person("bob", "operator")
    chief, missing = await person("chief", "supervisor"), "00000000-0000-7000-8000-000000000000"
    ids = {"ids": [order["id"], missing, order["id"]]}
    took = await client.post("/api/orders/bulk/take", json=ids, headers=ann)
    assert [(i["id"], i["outcome"]) for i in took.json()["items"]] == [
        (order["id"], "ok"),
        (missing, "order_not_found"),
    ]
    assert took.json()["items"][0]["order"]["assignedOperatorId"] == ann["id"]
    body = {"ids": [order["id"]], "operatorId": bob["id"], "reason": "balance"}
    denied = await client.post("/api/orders/bulk/reassign", json=body, headers=ann)
    assert denied.json()["items"] == [{"id": order["id"], "outcome": "forbidden", "order": None}]
    moved = await client.post("/api/orders/bulk/reassign", json=body, headers=chief)
    assert moved.json()["items"][0]["order"]["holder"] == {"id": bob["id"], "name": "bob"}
    nobody = {"operatorId": missing, "reason": "x"}
    answer = await client.post(f"/api/orders/{order['id']}/reassign", json=nobody, headers=chief)
    assert (answer.status_code, answer.json()["code"]) == (422, "operator_not_found")
    trail = await client.get(f"/api/orders/{order['id']}/audit", headers=chief)
    last = trail.json()["items"][-1]
    assert (last["action"], last["from"], last["to"], last["reason"]) == (
        "orders.reassign",
        ann["id"],
        bob["id"],
        "balance",
    )


async def test_desks_are_made_by_supervisors_and_name_their_operators(client, person):
    ann, chief = await person("ann", "operator"), await person("chief", "supervisor")
    assert (await client.put("/api/desks/vip", headers=ann)).status_code == 403
    made = await client.put("/api/desks/vip", json={"wipLimit": 1}, headers=chief)
    assert (made.status_code, made.json()["wipLimit"]) == (201, 1)
    assert (await client.put("/api/desks/vip", headers=chief)).status_code == 200
    assert (await client.put("/api/desks/No!", headers=chief)).status_code == 422
    names = await client.put(f"/api/desks/vip/operators/{chief['id']}", headers=chief)
    assert names.status_code == 204
    refused = await client.get("/api/orders?desk=vip", headers=ann)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    await client.put(f"/api/desks/vip/operators/{ann['id']}", headers=chief)
    assert (await client.get("/api/orders?desk=vip", headers=ann)).json()["items"] == []


async def test_lists_go_page_by_page(client, person):
    eve, ann = await person("eve"), await person("ann", "operator")
    for priority in (0, 9, 5):
        await client.post("/api/orders", json={"title": "x", "priority": priority}, headers=eve)
    for headers, wanted in ((eve, [5, 9, 0]), (ann, [9, 5, 0])):
        got, cursor = [], ""
        while cursor is not None:
            query = "limit=1&status=PENDING" + (f"&cursor={cursor}" if cursor else "")
            page = (await client.get(f"/api/orders?{query}", headers=headers)).json()
            got += [item["priority"] for item in page["items"]]
            cursor = page["nextCursor"]
        assert got == wanted
    assert (await client.get("/api/orders?status=OPEN", headers=eve)).status_code == 422


async def test_an_audit_that_cannot_be_written_is_a_500_and_no_conflict(
    app, client, person, order, owner
):
    ann = await person("ann", "operator")
    await owner.execute(
        """create function audit.broken() returns trigger language plpgsql as
           $$ begin raise exception 'the disk of the audit is full'; end $$;
           create trigger broken before insert on audit.event
           for each row execute function audit.broken()"""
    )
    answer = await client.post(f"/api/orders/{order['id']}/take", headers=ann)
    assert answer.status_code >= 500
    assert answer.json()["code"] != "order_already_assigned"
    cursor = await owner.execute("select status, assigned_operator_id from orders.order")
    assert await cursor.fetchall() == [("PENDING", None)]


async def test_a_database_that_is_gone_is_503_with_retry_after(
    settings, app_url, database, cluster
):
    async with await Database.open(app_url) as db:
        app = create_app(settings, db)
        found = await accounts.sign_in(db, kind="dev", subject="ann", name="ann")
        headers = {"Authorization": f"Bearer {mint(settings, 'ann')}"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x.test") as client:
            placed = await client.post("/api/orders", json={"title": "x"}, headers=headers)
            with psycopg.connect(cluster.url, autocommit=True) as admin:
                admin.execute(
                    psycopg.sql.SQL("alter database {} allow_connections false").format(
                        psycopg.sql.Identifier(database)
                    )
                )
                admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s",
                    [database],
                )
            path = f"/api/orders/{placed.json()['id']}/take"
            answer = await client.post(path, headers=headers)
            with psycopg.connect(cluster.url, autocommit=True) as admin:
                admin.execute(
                    psycopg.sql.SQL("alter database {} allow_connections true").format(
                        psycopg.sql.Identifier(database)
                    )
                )
    assert found.id
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


async def test_metrics_of_the_desk(client, person, order):
    for name in ("ann", "bob"):
        headers = await person(name, "operator")
        await client.post(f"/api/orders/{order['id']}/take", headers=headers)
    page = (await client.get("/metrics")).text
    figures = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")
    assert float(figures["holdfast_order_takes_total"]) >= 1
    refusals = 'holdfast_order_take_refusals_total{code="order_already_assigned"}'
    assert float(figures[refusals]) >= 1
    assert float(figures["holdfast_order_take_seconds_count"]) >= 2
    assert figures['holdfast_orders_open{status="PROCESSING"}'] == "1.0"
    assert "holdfast_orders_oldest_seconds" in figures
    assert order["id"] not in page


async def test_the_ticket_of_a_stream_and_who_may_watch(client, person):
    refused = await client.get(
        "/api/orders/events?desk=nowhere", headers=await person("a", "admin")
    )
    assert (refused.status_code, json.loads(refused.text)["code"]) == (404, "desk_not_found")
    assert (await client.get("/api/orders/events?ticket=x")).status_code == 401
