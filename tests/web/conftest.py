"""An application on this test's own database, asked without a socket or over a real one."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from asking import until
from holdfast.config import Settings
from holdfast.kernel import queue
from holdfast.postgres.pool import Database
from holdfast.systems import stories
from holdfast.systems.accounts.development import mint
from holdfast.web import serve
from holdfast.web.app import create_app


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path, port=0, stop_seconds=1)


@pytest.fixture
async def kinds(combined: Database) -> None:
    """The kinds of jobs a server or worker declares when it starts."""
    await queue.declare_kind(
        combined, stories.kind(attempts=3, backoff=0.01, lease=30, deadline=3600)
    )


@pytest.fixture
async def app(settings, combined: Database, kinds):
    made = create_app(settings, combined)
    async with made.router.lifespan_context(made):
        yield made


@pytest.fixture
async def client(app) -> AsyncIterator[httpx.AsyncClient]:
    """A stranger, without a socket."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast.test") as opened:
        yield opened


@pytest.fixture
def bearer(settings) -> Callable[[str], dict[str, str]]:
    """Headers of a person, by name."""
    return lambda name: {"Authorization": f"Bearer {mint(settings, name)}"}


@pytest.fixture
async def alice(client, bearer) -> httpx.AsyncClient:
    client.headers.update(bearer("alice"))
    return client


@pytest.fixture
async def served(settings, combined: Database, kinds) -> AsyncIterator[str]:
    """The address of a real server."""
    bound = serve.listen(settings)
    server = serve.server(settings, combined)
    running = asyncio.create_task(server.serve(sockets=[bound]))
    await until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
