"""The live desk over real sockets: the present first, then what follows; nothing is pinned."""

import asyncio
import contextlib

import httpx
import pytest

from asking import following
from holdfast.postgres.pool import Database
from holdfast.systems import accounts, orders
from holdfast.systems.accounts.development import mint
from journeys.browsers import serving

STREAMS = 50
POOL = 2


@pytest.fixture
async def narrow(app_url):
    """A pool that fifty pinned connections would empty many times over."""
    async with await Database.open(app_url, max_size=POOL) as opened:
        yield opened


@pytest.fixture
async def http(narrow, owner, settings):
    """A client of a server on the narrow pool; call it for somebody's headers."""
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(settings, narrow))
        limits = httpx.Limits(max_connections=200)
        yield await stack.enter_async_context(httpx.AsyncClient(base_url=address, limits=limits))


@pytest.fixture
async def headers(narrow, owner, settings):
    made = {}
    for name, role in {"eve": "user", "ann": "operator", "bob": "operator"}.items():
        found = await accounts.sign_in(narrow, kind="dev", subject=name, name=name)
        if role != "user":
            await accounts.set_role(owner, account_id=found.id, role=role, actor="test")
        made[name] = {"Authorization": f"Bearer {mint(settings, name)}"}
    return made


async def test_fifty_open_streams_pin_no_connection(http, headers, narrow, owner):
    http.headers.update(headers["ann"])
    placed = await http.post("/api/orders", json={"title": "A parcel"}, headers=headers["eve"])
    path = f"/api/orders/{placed.json()['id']}"
    async with contextlib.AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(following(http, "/api/orders/events"))
            for _ in range(STREAMS)
        ]
        for stream in streams:
            first = await anext(stream)
            assert (first.event, first.data["status"], first.id) == ("order", "PENDING", "1")
        # Every connection of the pool can be had at once, so no stream holds one.
        async with asyncio.timeout(20), contextlib.AsyncExitStack() as all_of_them:
            for _ in range(POOL):
                await all_of_them.enter_async_context(narrow.connection())
        taken = await http.post(f"{path}/take", headers=headers["bob"])
        assert taken.status_code == 200
        async with asyncio.timeout(20):
            for stream in streams:
                event = await anext(stream)
                while event.data["status"] != "PROCESSING":
                    event = await anext(stream)
                assert event.data["holder"]["name"] == "bob"
                assert event.id == "2"


async def test_fifty_streams_ask_the_database_no_more_than_one(http, headers, narrow):
    """Quiet seconds cost the same number of questions, whoever watches."""
    http.headers.update(headers["ann"])
    asked = []
    for count in (1, STREAMS):
        async with contextlib.AsyncExitStack() as stack:
            placed = await http.post("/api/orders", json={"title": "x"})
            streams = [
                await stack.enter_async_context(following(http, "/api/orders/events"))
                for _ in range(count)
            ]
            for stream in streams:
                await anext(stream)
            before = narrow.round_trips
            loop = asyncio.get_running_loop()
            until = loop.time() + 2
            await asyncio.sleep(until - loop.time())  # what is measured is a rate
            asked.append(narrow.round_trips - before)
        assert placed.status_code == 201
    assert asked[1] <= asked[0] + 2


async def test_a_customer_hears_of_his_own_orders_only(http, headers, narrow):
    http.headers.update(headers["eve"])
    other = await http.post("/api/orders", json={"title": "not hers"}, headers=headers["bob"])
    async with following(http, "/api/orders/events") as stream:
        mine = await http.post("/api/orders", json={"title": "hers"})
        await http.post(f"/api/orders/{other.json()['id']}/take", headers=headers["ann"])
        await http.post(f"/api/orders/{mine.json()['id']}/take", headers=headers["ann"])
        heard = []
        async with asyncio.timeout(20):
            while not heard or heard[-1].data["status"] != "PROCESSING":
                heard.append(await anext(stream))
    assert {event.data["id"] for event in heard} == {mine.json()["id"]}
    assert "allowedActions" not in heard[-1].data


async def test_a_reconnect_gets_the_present_state(http, headers, narrow):
    http.headers.update(headers["ann"])
    made = await http.post("/api/orders", json={"title": "x"})
    order = made.json()["id"]
    async with following(http, "/api/orders/events") as stream:
        assert (await anext(stream)).data["status"] == "PENDING"
    await http.post(f"/api/orders/{order}/take")
    async with following(http, "/api/orders/events") as stream:
        assert (await anext(stream)).data["status"] == "PROCESSING"


async def test_the_feed_remembers_so_much_and_says_what_it_forgot(narrow, owner, headers):
    from holdfast.web import board

    ask = board.asker(narrow)
    first = (await ask({board.EVERYTHING: None}))[board.EVERYTHING]
    account = await accounts.sign_in(narrow, kind="dev", subject="eve")
    placed = await orders.place(narrow, customer_id=account.id, title="x")
    then = (await ask({board.EVERYTHING: first}))[board.EVERYTHING]
    assert [order.id for order in then.since(first.place)] == [placed.id]
    assert await ask({board.EVERYTHING: then}) == {}, "nothing new wakes nobody"
    few = board.Board(7, {placed.id: (7, placed)})
    board_size, board._KEPT = board._KEPT, 0
    try:
        assert few.then([placed]).forgotten == 8
    finally:
        board._KEPT = board_size
