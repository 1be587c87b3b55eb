"""Real browsers for the journeys: an installed Chromium, driven by Playwright.

HOLDFAST_TEST_CHROMIUM names one; else the usual names are looked for. Where there is none the
journeys are skipped, saying so: nothing is downloaded, and nothing needs root.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.config import Settings
from holdfast.postgres.pool import Database
from holdfast.web.serve import listen, server

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str:
    """Return the path of a Chromium, or skip the test."""
    pytest.importorskip("playwright")
    given = os.environ.get("HOLDFAST_TEST_CHROMIUM")
    if given and not Path(given).exists():
        pytest.fail(f"HOLDFAST_TEST_CHROMIUM names {given}, which is not there")
    found = given or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("no Chromium here (HOLDFAST_TEST_CHROMIUM may name one)")
    return found


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator:
    """Lend a running browser; every context of it is a person of his own."""
    from playwright.async_api import async_playwright

    path = chromium()
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield opened
        await opened.close()


@contextlib.asynccontextmanager
async def serving(settings: Settings, db: Database) -> AsyncIterator[str]:
    """Serve on a free port; gives the address."""
    socket = listen(settings)
    running = server(settings, db)
    task = asyncio.create_task(running.serve(sockets=[socket]))
    async with asyncio.timeout(20):
        while not running.started:
            await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        running.should_exit = True
        await task
