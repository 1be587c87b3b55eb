"""The server's process: is it alive, is it ready, ask it to stop.

Whether any process of a data folder is alive is told by a lock, not by a process id: the server
is started with a locked file open, every one of its processes inherits it, and the kernel frees
it when the last one is gone. A stale postmaster.pid, a reused process id, a zombie nobody has
collected, or back ends that outlive a killed postmaster cannot deceive it.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.postgres.account import Account

_TICK = 0.01


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What postmaster.pid says; `status` is 'starting', 'ready', 'stopping' or ''."""

    pid: int
    sockets: str
    status: str


def read_pid_file(data: Path) -> Postmaster | None:
    """Read postmaster.pid; None where there is none, or it is not written to its end yet."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        status = lines[7].strip() if len(lines) > 7 else ""
        return Postmaster(int(lines[0]), lines[4].strip(), status)
    except (OSError, ValueError, IndexError):
        return None


@contextlib.contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[int]:
    """Hold a lock file; blocks until it is free. The kernel frees it if we die."""
    with opened(path) as file:
        fcntl.flock(file, how)
        yield file


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a lock file, made where missing."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def try_lock(file: int, how: int = fcntl.LOCK_EX) -> bool:
    """Take a lock if it is free now."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def alive(lock: Path) -> bool:
    """Say whether any process of the server lives."""
    with opened(lock) as file:
        return not try_lock(file, fcntl.LOCK_SH)


def until(met: Callable[[], bool], seconds: float) -> bool:
    """Wait until `met()`, at most so long; say whether it was."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            return False
        time.sleep(_TICK)
    return True


def living(data: Path) -> Postmaster | None:
    """Return the postmaster of `data` if that very process lives; its id may be another's now."""
    found = read_pid_file(data)
    if found is None:
        return None
    try:
        if Path("/proc/self").exists():
            ours = Path(f"/proc/{found.pid}/cwd").readlink() == data
        else:
            command = ["ps", "-o", "command=", "-p", str(found.pid)]
            ours = (
                str(data)
                in subprocess.run(command, capture_output=True, text=True, check=False).stdout
            )
    except OSError:
        return None
    return found if ours else None


def end(data: Path, lock: Path, patience: float) -> bool:
    """Stop the server: fast first, after `patience` seconds hard. False if it still lives."""
    for wanted in (signal.SIGINT, signal.SIGQUIT):
        if (found := living(data)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, wanted)
        if until(lambda: not alive(lock), patience):
            return True
    return end_orphans(data, lock, patience)


def end_orphans(data: Path, lock: Path, patience: float) -> bool:
    """End back ends whose postmaster was killed; they notice by themselves unless they compute.

    Waits for `patience` seconds, then kills what works in the data folder (where /proc tells).
    """
    if until(lambda: not alive(lock), patience):
        return True
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == data:
                os.kill(int(entry.name), signal.SIGKILL)
    return until(lambda: not alive(lock), patience)


def spawn(command: list[str], account: Account, log: Path, lock: int) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own (our Ctrl-C is not its), holding `lock`."""
    with log.open("ab") as output:
        child: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(),
            start_new_session=True,
            pass_fds=(lock,),
            cwd="/",
            **as_account(account),
        )
    # It may outlive us, or die while we live: collected by a thread that does nothing else.
    threading.Thread(target=child.wait, name="postgres-exit", daemon=True).start()
    return child


def as_account(account: Account) -> dict[str, Any]:
    """Return the subprocess arguments that run a program as `account`."""
    if not account.switch:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def environment() -> Mapping[str, str]:
    """Return a clean environment: none of the caller's PG* variables reaches the server."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
