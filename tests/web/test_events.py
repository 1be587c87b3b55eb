"""Event streams, over real sockets: the present first, then what follows; nothing is held."""

import asyncio
import contextlib

import httpx
import pytest

from asking import claim, events, following, generate, until
from holdfast.kernel import queue
from holdfast.kernel.queue import Beat


@pytest.fixture
async def http(served, bearer):
    async with httpx.AsyncClient(
        base_url=served, headers=bearer("alice"), limits=httpx.Limits(max_connections=200)
    ) as opened:
        yield opened


async def say(db, lease, text, done):
    progress = {"phase": "draft", "done": done, "total": 500}
    assert await queue.heartbeat(db, [Beat(lease.id, lease.token, progress, text)]) == ["ok"]


async def next_of(stream, kind):
    """The next event of a kind."""
    async for event in stream:
        if event.event == kind:
            return event
    raise AssertionError(f"the stream ended without {kind}")


async def test_a_job_is_followed_from_its_start_to_its_end(http, combined):
    job = await generate(http)
    async with following(http, f"/api/jobs/{job['id']}/events") as stream:
        first = await anext(stream)
        assert (first.event, first.data["status"], first.id) == ("status", "queued", "1")
        assert first.data["id"] == job["id"]
        lease = await claim(combined)
        started = await next_of(stream, "status")
        assert (started.data["status"], started.data["attempt"]) == ("processing", 1)
        assert int(started.id) == started.data["version"] > 1
        await say(combined, lease, "Once ", 1)
        assert (await next_of(stream, "progress")).data["done"] == 1
        await say(combined, lease, "upon", 2)
        text = await next_of(stream, "text")
        while not text.data["text"].endswith("upon"):
            assert text.data == {"attempt": 1, "from": 0, "text": "Once "}
            text = await next_of(stream, "text")
        await queue.finish(
            combined, job_id=lease.id, token=lease.token, result={"text": "Once upon a time."}
        )
        rest = [event async for event in stream]
        *_, said, last = rest
        assert (said.event, said.data["text"]) == ("text", " a time.")
        assert (last.event, last.data["status"]) == ("status", "completed")
        assert last.data["result"]["text"] == "Once upon a time."


async def test_a_late_or_returning_watcher_gets_the_present_first(http, combined):
    job = await generate(http)
    lease = await claim(combined)
    await say(combined, lease, "Once ", 1)
    await say(combined, lease, "upon", 2)
    for headers in ({}, {"Last-Event-ID": "1"}, {"Last-Event-ID": "nonsense"}):
        async with following(http, f"/api/jobs/{job['id']}/events", headers=headers) as stream:
            status, progress, text = [await anext(stream) for _ in range(3)]
            assert (status.event, status.data["status"]) == ("status", "processing")
            assert (progress.event, progress.data["done"]) == ("progress", 2)
            assert text.data == {"attempt": 1, "from": 0, "text": "Once upon"}
    await http.post(f"/api/jobs/{job['id']}/cancel")
    async with following(http, f"/api/jobs/{job['id']}/events") as stream:
        (only,) = [event async for event in stream]
        assert (only.event, only.data["status"]) == ("status", "cancelled")


async def test_a_new_attempt_tells_its_text_from_the_beginning(http, combined):
    job = await generate(http)
    lease = await claim(combined)
    async with following(http, f"/api/jobs/{job['id']}/events") as stream:
        await say(combined, lease, "First try", 1)
        assert (await next_of(stream, "text")).data["text"] == "First try"
        await queue.hand_back(combined, [lease])
        again = await claim(combined)
        await say(combined, again, "Second", 1)
        await say(combined, again, " try", 2)
        heard = ""
        while heard != "Second try":
            text = (await next_of(stream, "text")).data
            assert text["from"] == len(heard)
            heard += text["text"]


async def test_a_ticket_opens_a_stream_and_only_its_owners(http, served, bearer):
    job = await generate(http)
    path = f"/api/jobs/{job['id']}/events"
    made = await http.post("/api/tickets")
    assert made.status_code == 201
    ticket = made.json()["ticket"]
    async with httpx.AsyncClient(base_url=served) as stranger:
        for _ in range(2):  # reusable within its minute
            async with following(stranger, path, params={"ticket": ticket}) as stream:
                assert (await anext(stream)).data["status"] == "queued"
        for bad in ("", "x", ticket[:-2] + "AA", ticket + "x", "\x00"):
            refused = await stranger.get(path, params={"ticket": bad})
            assert (refused.status_code, refused.json()["code"]) == (401, "ticket_invalid"), bad
        assert (await stranger.get(path)).json()["code"] == "token_missing"
        other = (await http.post("/api/tickets", headers=bearer("mallory"))).json()["ticket"]
        assert (await stranger.get(path, params={"ticket": other})).status_code == 404


async def test_a_ticket_ends(http, monkeypatch):
    job = await generate(http)
    ticket = (await http.post("/api/tickets")).json()["ticket"]
    from holdfast.web import tickets

    now = tickets.time.time()
    monkeypatch.setattr(tickets.time, "time", lambda: now + tickets.LIFE + 1)
    refused = await http.get(f"/api/jobs/{job['id']}/events", params={"ticket": ticket})
    assert refused.json()["code"] == "ticket_invalid"


async def test_50_streams_hold_no_connection_and_ask_together(http, combined):
    job = await generate(http)
    other = await generate(http, "other")
    async with contextlib.AsyncExitStack() as opened:
        streams = [
            await opened.enter_async_context(following(http, f"/api/jobs/{one['id']}/events"))
            for one in (job, other)
            for _ in range(25)
        ]
        firsts = await asyncio.gather(*(anext(stream) for stream in streams))
        assert {first.data["status"] for first in firsts} == {"queued"}
        # every connection of the pool can be had at once
        async with asyncio.timeout(10), contextlib.AsyncExitStack() as held:
            for _ in range(combined.size):
                await held.enter_async_context(combined.connection())
        before = combined.round_trips
        await asyncio.sleep(2)  # a span to count in
        assert combined.round_trips - before <= 10
        await http.post(f"/api/jobs/{job['id']}/cancel")
        await http.post(f"/api/jobs/{other['id']}/cancel")
        for stream in streams:
            assert [event.data["status"] async for event in stream] == ["cancelled"]


async def test_streams_that_are_left_are_forgotten(http, app_url, served, combined):
    job = await generate(http)
    async with following(http, f"/api/jobs/{job['id']}/events") as stream:
        await anext(stream)
        assert "holdfast_event_streams 1.0" in (await http.get("/metrics")).text

    async def gone():
        return "holdfast_event_streams 0.0" in (await http.get("/metrics")).text

    await until(gone)
    before = combined.round_trips
    await asyncio.sleep(1)  # a span to count in: several ticks
    assert combined.round_trips - before <= 1


async def test_an_idle_stream_is_kept_alive_by_comments(http, monkeypatch):
    from fastapi import routing

    monkeypatch.setattr(routing, "_PING_INTERVAL", 0.05)
    job = await generate(http)
    async with http.stream("GET", f"/api/jobs/{job['id']}/events", timeout=10) as response:
        async for line in response.aiter_lines():
            if line.startswith(":"):
                break
        else:
            raise AssertionError("no comment came")


async def test_a_server_that_stops_ends_its_streams(settings, combined, kinds, bearer):
    from holdfast.web import serve

    bound = serve.listen(settings)
    server = serve.server(settings, combined)
    running = asyncio.create_task(server.serve(sockets=[bound]))
    await until(lambda: server.started)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, headers=bearer("alice")) as http:
        job = await generate(http)
        async with http.stream("GET", f"/api/jobs/{job['id']}/events") as response:
            stream = events(response)
            await anext(stream)
            server.should_exit = True
            async with asyncio.timeout(5):
                assert [event async for event in stream] == []
                await running
