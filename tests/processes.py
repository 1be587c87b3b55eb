"""Real processes of ours: started, waited for by what they log, ended by their own id."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

TESTS = Path(__file__).parent
SOURCES = TESTS.parent / "src"


async def until(condition: Callable[[], object], within: float = 20, what: str = "") -> None:
    """Wait for a condition, with a deadline; an async one is awaited."""
    end = time.monotonic() + within
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < end, f"not within {within} s: {what or condition}"
        await asyncio.sleep(0.02)


async def somebody_waits(owner: psycopg.AsyncConnection) -> bool:
    """Whether a statement in this database waits for a lock."""
    waiting = await owner.execute(
        "select count(*) > 0 from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    [(found,)] = await waiting.fetchall()
    return bool(found)


class Process:
    """One `python -m holdfast …`; its stdout and stderr go to files in `folder`."""

    def __init__(self, folder: Path, name: str, *arguments: str, **variables: str) -> None:
        self.name = name
        self.arguments = arguments
        self._out = folder / f"{name}.out"
        self._err = folder / f"{name}.err"
        kept = {
            n: v for n, v in os.environ.items() if not n.startswith(("HOLDFAST_", "ANTHROPIC_"))
        }
        self._environment = {
            **kept,
            "PYTHONPATH": f"{SOURCES}{os.pathsep}{TESTS}",
            "PYTHONUNBUFFERED": "1",
            **variables,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> "Process":
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "holdfast", *self.arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err,
                env=self._environment, cwd=TESTS,
            )  # fmt: skip
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        return self._process.returncode if self._process else None

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    @property
    def out(self) -> str:
        return self._out.read_text("utf-8")

    @property
    def log(self) -> str:
        return self._err.read_text("utf-8")

    def lines(self, *words: str) -> list[str]:
        """The lines of its log that hold all of these."""
        return [line for line in self.log.splitlines() if all(word in line for word in words)]

    async def says(self, *words: str, within: float = 20) -> None:
        """Wait for a line of its log."""
        try:
            await until(lambda: self.lines(*words) or self.code is not None, within)
            assert self.lines(*words)
        except AssertionError:
            raise AssertionError(f"{self.name} has not said {words}:\n{self.log}") from None

    async def ended(self, within: float = 20) -> int:
        """Wait until it has ended; returns its exit code."""
        assert self._process is not None
        async with asyncio.timeout(within):
            return await self._process.wait()

    async def end(self) -> None:
        """End it, whatever it does, and wait until it is gone."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        await self._process.wait()


async def ran(folder: Path, *arguments: str, within: float = 60, **variables: str) -> Process:
    """Run one command to its end."""
    process = await Process(folder, f"run-{time.monotonic_ns()}", *arguments, **variables).start()
    try:
        await process.ended(within)
    finally:
        await process.end()
    return process
