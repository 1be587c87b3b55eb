"""The database stops and comes back: an outage is told as one, and ends by itself."""

import asyncio

import httpx
import pytest

from asking import generate, until
from holdfast.kernel import queue
from holdfast.postgres.install import install
from holdfast.postgres.pool import Database
from holdfast.postgres.server import EmbeddedServer
from holdfast.systems import stories
from holdfast.web.app import create_app


@pytest.fixture
async def server(tmp_path):
    """A server of this test's own, to be stopped."""
    made = await asyncio.to_thread(EmbeddedServer(tmp_path, durable=False).start)
    yield made
    await asyncio.to_thread(made.stop)


async def test_an_outage_is_503_with_retry_after_and_ends_by_itself(settings, server, bearer):
    await asyncio.to_thread(install, server.owner_url)
    async with await Database.open(server.app_url, combining=True) as db:
        await queue.declare_kind(db, stories.kind(attempts=3, backoff=1, lease=30, deadline=3600))
        app = create_app(settings, db)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://holdfast.test", headers=bearer("alice")
        ) as http:
            job = await generate(http)
            await asyncio.to_thread(server.stop)
            for path in ("/api/me", f"/api/jobs/{job['id']}", "/api/prices", "/readyz"):
                response = await http.get(path, headers={"Accept-Language": "ru"})
                assert (response.status_code, response.json()["code"]) == (503, "unavailable"), path
                assert int(response.headers["retry-after"]) >= 1
                assert response.headers["content-language"] == "ru"
            lost = await http.post(
                "/api/generate", json={"prompt": "x"}, headers={"Idempotency-Key": "lost"}
            )
            assert lost.status_code == 503
            assert (await http.get("/livez")).status_code == 200
            assert "holdfast_database_up 0.0" in (await http.get("/metrics")).text
            await asyncio.to_thread(server.start)

            async def back():
                return (await http.get("/readyz")).status_code == 200

            await until(back)
            assert (await http.get(f"/api/jobs/{job['id']}")).json() == job
            await generate(http, "lost")
            assert (await http.get("/api/me")).json()["tokens"]["balance"] == 0
