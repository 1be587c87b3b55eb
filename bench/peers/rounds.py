"""The peer's side of a measurement.

A number of jobs comes in, a line each; how many seconds each half took goes out.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

Do = Callable[[int], Awaitable[None]]


async def rounds(enqueue: Do, work: Do) -> None:
    """Answer rounds until the driver closes the pipe. Both take a number of jobs."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        jobs = int(line)
        began = time.perf_counter()
        await enqueue(jobs)
        between = time.perf_counter()
        await work(jobs)
        seconds = {"enqueue": between - began, "work": time.perf_counter() - between}
        print(json.dumps(seconds), flush=True)


async def in_batches(jobs: int, size: int, senders: list[Do]) -> None:
    """Hand out `jobs` in batches to all senders at a time."""
    left = jobs

    async def run(send: Do) -> None:
        nonlocal left
        while left > 0:
            batch = min(size, left)
            left -= batch
            await send(batch)

    await asyncio.gather(*(run(send) for send in senders))
