"""Kinds for `holdfast work --import rehearsed_jobs`: each worker plays the part that it is given.

HANDLER says what this process does with a job; SIGNS is a folder through which a test talks to it.
"""

import asyncio
import os
import signal
from pathlib import Path

import psycopg

import holdfast
from holdfast.kernel.queue import AttemptFailed

SIGNS = Path(os.environ.get("SIGNS", "."))
LEASE = float(os.environ.get("LEASE", "1"))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@holdfast.job("work", price=10, attempts=3, backoff=0, lease=LEASE)
async def work(attempt):
    (SIGNS / f"{os.environ['HANDLER']}-has-{attempt.id}").touch()
    match os.environ["HANDLER"]:
        case "waits":  # for the test to say go
            await attempt.text("told before; ")
            while not (SIGNS / "go").exists():
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            return {"text": "made by the one who waited"}
        case "fails":
            raise AttemptFailed("refused_here", "No.", permanent=True)
        case "dies":
            _die()
        case "dies after its finish":
            async with await psycopg.AsyncConnection.connect(os.environ["MINE"]) as mine:
                await attempt.finish(mine, {"text": "finished, then died"})
            _die()
    return {"text": "made"}


@holdfast.job("busy", price=1, attempts=50, backoff=0.05, lease=LEASE)
async def busy(attempt):
    """Some work with text and progress, for chaos."""
    for n in range(3):
        await attempt.text(f"{n} ")
        await attempt.progress("busy", n, 3)
        await asyncio.sleep(float(attempt.payload.get("seconds", 0.02)))
    if attempt.payload.get("fails"):
        raise AttemptFailed("asked_for", permanent=True)
    return {"text": "0 1 2"}
