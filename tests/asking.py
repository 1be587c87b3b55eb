"""What tests of the web door share: asking, following a stream, working as a worker does."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from holdfast.kernel import queue
from holdfast.kernel.queue import Lease
from holdfast.postgres.pool import Database


async def until(ready: Callable[[], Any], *, seconds: float = 15) -> None:
    """Wait for a condition, which may be awaited."""
    async with asyncio.timeout(seconds):
        while True:
            found = ready()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return
            await asyncio.sleep(0.01)


@dataclass
class Event:
    event: str
    data: Any
    id: str


async def events(response: httpx.Response) -> AsyncIterator[Event]:
    """Read a stream by the rules of EventSource."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
        elif fields:
            yield Event(fields["event"], json.loads(fields["data"]), fields["id"])
            fields = {}


@contextlib.asynccontextmanager
async def following(http: httpx.AsyncClient, path: str, **options: Any):
    async with http.stream("GET", path, timeout=20, **options) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        async with contextlib.aclosing(events(response)) as stream:
            yield stream


async def generate(http: httpx.AsyncClient, key: str = "k", **body: Any) -> dict[str, Any]:
    response = await http.post(
        "/api/generate", json={"prompt": "a lighthouse", **body}, headers={"Idempotency-Key": key}
    )
    assert response.status_code == 202, response.text
    return response.json()


async def claim(db: Database) -> Lease:
    """Take the next story, as a worker does."""
    (lease,) = await queue.claim(db, worker="worker:test", kinds=["story"], limit=1)
    return lease
