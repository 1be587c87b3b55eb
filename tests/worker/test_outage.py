"""The database goes and comes back; server, worker and demo as whole processes."""

import asyncio
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import httpx
import pytest

from holdfast.kernel import queue
from holdfast.postgres.pool import Database
from holdfast.postgres.server import EmbeddedServer
from processes import Process, ran, until

pytestmark = pytest.mark.slow


@pytest.fixture
def home():
    made = Path(tempfile.mkdtemp(prefix="hf-out-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
async def serve(home):
    """A server with a worker inside, on a database of its own; gives (process, url)."""
    variables = {
        "HOLDFAST_HOME": str(home / "home"), "HOLDFAST_SWEEP_SECONDS": "0.3",
        "HOLDFAST_POLL_SECONDS": "0.3", "HOLDFAST_JOB_LEASE_SECONDS": "20",
    }  # fmt: skip
    process = await Process(home, "serve", "serve", "--port", "0", **variables).start()
    try:
        await process.says("worker started", within=60)
        [line] = process.lines("serving", "url=")
        yield process, line.split("url=")[1].split()[0], variables
        process.send(signal.SIGTERM)
        assert await process.ended(30) == 0
    finally:
        await process.end()


async def generate(url: str, token: str, prompt: str) -> dict:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": prompt}
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:
        answer = await client.post("/api/generate", json={"prompt": prompt, "words": 60})
        assert answer.status_code == 202, answer.text
        return answer.json()


async def job_of(url: str, token: str, job: str) -> dict:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:
        return (await client.get(f"/api/jobs/{job}")).json()


async def test_a_running_story_survives_the_death_of_postgresql(serve, home):
    process, url, variables = serve
    token = (await ran(home, "token", "--as", "ada", **variables)).out.strip()
    slow = await generate(url, token, "!slow 4 a fox")

    async def writing() -> bool:
        return bool((await job_of(url, token, slow["id"]))["progress"])

    await until(writing, what="it is being written")
    found = json.loads((await ran(home, "doctor", "--json", **variables)).out)
    assert found["databaseUrl"]
    server = EmbeddedServer(home / "home")
    killed = server.pid
    assert killed
    os.kill(killed, signal.SIGKILL)
    await until(lambda: server.pid not in (None, killed), within=30, what="it is started again")

    async def told() -> bool:
        return (await job_of(url, token, slow["id"])).get("status") == "completed"

    await until(told, within=30, what="the story is delivered")
    job = await job_of(url, token, slow["id"])
    assert (job["attempt"], job["charged"], job["refunded"]) == (1, 50, 0)
    again = await generate(url, token, "another fox")
    await until(lambda: process.lines("job completed", again["id"]), within=30, what="life goes on")
    verified = await ran(home, "verify", "--json", **variables)
    assert json.loads(verified.out)["ok"] is True
    assert process.lines("[error") == []


async def test_demo_once_shows_everything_and_ends(home):
    done = await ran(home, "demo", "--once", "--port", "0", within=120,
                     HOLDFAST_HOME=str(home / "home"))  # fmt: skip
    assert done.code == 0, done.log
    ends = [line.split()[1:4] for line in done.out.splitlines() if " 50 " in line]
    assert sorted(end for end in ends if len(end) == 3 and end[1] == "50") == [
        *[["completed", "50", "0"]] * 4, ["failed", "50", "50"]
    ]  # fmt: skip
    assert "BROKEN" not in done.out
    assert "Traceback" not in done.log


async def test_several_commands_share_one_embedded_server(home):
    variables = {"HOLDFAST_HOME": str(home / "home")}
    commands = (["token", "--as", "ada"], ["verify", "--json"], ["jobs", "list", "--json"])
    done = await asyncio.gather(*(ran(home, *command, **variables) for command in commands))
    assert [one.code for one in done] == [0, 0, 0], [one.log for one in done]
    assert not EmbeddedServer(home / "home").running  # the last one out stopped it


async def test_a_worker_waits_for_a_database_that_is_away(bench, monkeypatch):
    """Claims, sweeps and beats fail for a while; afterwards everything goes on."""

    async def made(attempt):
        return {"text": "made"}

    worker = await bench.worker({"made": made})
    await bench.owner.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    async with await Database.open(bench.url) as db:
        bench.db = db
        job = await bench.buy("made")
        assert (await bench.until(job, "completed")).attempt == 1
        assert not any(row["leased"] for row in await queue.depth(db))
    assert not worker.stopping
