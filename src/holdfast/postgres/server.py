"""The embedded server: a real PostgreSQL in a folder of ours, started and stopped by us.

Any number of processes share one server. Each holds a shared lock while it uses it; the last one
out stops the server. A process that is killed loses its lock by itself, the server stays, and the
next process adopts it. Nothing listens on the network.
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import threading
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg

from holdfast.errors import EmbeddedServerFailed, HomeUnusable
from holdfast.postgres import folder, postmaster, roles
from holdfast.postgres.account import Account, let_read, let_through, server_account
from holdfast.postgres.programs import MAJOR, programs, settings

DATABASE, OWNER, APPLICATION = "holdfast", "holdfast_owner", "holdfast_app"
_PORT = 5432  # only names the socket's file
_SUPERUSER = "postgres"
_READY_WITHIN = 120.0  # seconds; a crash of a busy server is replayed at start
_STOP_WITHIN = 30.0
_GONE_WITHIN = 5.0  # for the back ends of a killed server
_LOG_BYTES = 8 * 1024 * 1024


class EmbeddedServer:
    """One server per `home` folder, shared by every process that starts it.

    `durable=False` is for tests: commits no longer wait for the disk. With `keep_alive` a thread
    starts the server again when it dies while we use it. Blocking; use it from a thread in a loop.
    """

    def __init__(self, home: Path, *, durable: bool = True, keep_alive: bool = False) -> None:
        self.home = home.expanduser().resolve()
        self.durable = durable
        self._keep_alive = keep_alive
        self._folder = folder.Folder(self.home / "postgres")
        self._using = contextlib.ExitStack()
        self._started = False
        self._leaving = threading.Event()
        self._sockets = ""

    def start(self) -> Self:
        """Start the server, or join the one that runs; returns when it takes connections.

        Raises HomeUnusable or EmbeddedServerFailed, each with its reason in a sentence.
        """
        if self._started:
            return self
        self._folder.make()
        with postmaster.locked(self._folder.starting):
            self._using.enter_context(postmaster.locked(self._folder.users, fcntl.LOCK_SH))
            try:
                self._ensure()
            except BaseException:
                self._using.close()
                raise
        self._started = True
        self._leaving.clear()
        atexit.register(self.stop)
        if self._keep_alive:
            threading.Thread(target=self._watch, name="postgres-watch", daemon=True).start()
        return self

    def stop(self) -> None:
        """Leave the server; the last one out stops it (fast: open transactions are rolled back).

        Raises EmbeddedServerFailed where it does not stop.
        """
        if not self._started:
            return
        self._started = False
        self._leaving.set()
        atexit.unregister(self.stop)
        if not self._folder.root.exists():  # PostgreSQL ends by itself when its folder is gone
            self._using.close()
            return
        with (
            postmaster.locked(self._folder.starting),
            postmaster.opened(self._folder.users) as users,
        ):
            self._using.close()
            if postmaster.try_lock(users):
                self._end()

    def ensure(self) -> None:
        """Start the server again if it has died. Raises as `start` does."""
        if postmaster.living(self._folder.data) is None:
            with postmaster.locked(self._folder.starting):
                self._ensure()

    @property
    def running(self) -> bool:
        """Whether a process of the server lives (it may be starting or stopping)."""
        return self._folder.lock.exists() and postmaster.alive(self._folder.lock)

    @property
    def pid(self) -> int | None:
        """The process id of the server, or None."""
        found = postmaster.living(self._folder.data)
        return found.pid if found else None

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self._folder.log

    @property
    def owner_url(self) -> str:
        """The URL for migrate, role and mend."""
        return self.url(OWNER)

    @property
    def app_url(self) -> str:
        """The URL that may only call verbs and read."""
        return self.url(APPLICATION)

    def url(self, role: str = _SUPERUSER, database: str = DATABASE) -> str:
        """Return a URL for a role; good on this machine, for this account (and root) only."""
        return f"postgresql://{role}@/{database}?host={quote(self._sockets)}&port={_PORT}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _watch(self) -> None:
        while not self._leaving.wait(0.5):
            with contextlib.suppress(EmbeddedServerFailed, HomeUnusable):  # tried again
                self.ensure()

    def _ensure(self) -> None:
        """Have a server that takes connections. Called with the start lock held."""
        if not (postmaster.alive(self._folder.lock) and self._joined()):
            account = self._account()
            tree = programs()
            self._let_in(account, tree)
            self._folder.check_version(MAJOR)
            if not self._folder.initialised:
                self._folder.initialise(tree, account, durable=self.durable)
            self._run(account, tree)
        try:  # also in a server we join: who started it may have been killed before this
            roles.create_login_roles(
                self.url(database="postgres"),
                database=DATABASE,
                owner=OWNER,
                application=APPLICATION,
            )
        except psycopg.Error as problem:
            raise self._failed(str(problem)) from problem

    def _joined(self) -> bool:
        """Adopt the server that lives; False where it was killed, or has ended meanwhile."""

        def settled() -> bool:
            now = postmaster.read_pid_file(self._folder.data)
            return (now is not None and now.status == "ready") or not postmaster.alive(
                self._folder.lock
            )

        postmaster.until(settled, _READY_WITHIN)
        found = postmaster.living(self._folder.data)
        if found is None or found.status != "ready":
            return False
        self._sockets = found.sockets
        if Path(self._sockets, f".s.PGSQL.{_PORT}").exists():
            return True
        self._end()  # its socket was tidied away: nobody can reach it any more
        return False

    def _account(self) -> Account:
        try:
            account = server_account(self._folder.data)
        except LookupError as problem:
            raise EmbeddedServerFailed(
                reason=f"{problem}; PostgreSQL does not run as root: make the account 'holdfast'"
            ) from problem
        self._folder.check_holder(account)
        return account

    def _let_in(self, account: Account, tree: Path) -> None:
        if not account.switch:
            return
        ours = (self.home, Path(os.environ.get("VIRTUAL_ENV", tree.parent)))
        try:
            let_through(account, self._folder.data, ours)
            let_through(account, tree / "bin", ours)
            let_read(account, tree, ours)
        except PermissionError as problem:
            raise self._failed(
                f"the account {account.name}, which runs it, may not pass {problem.filename}"
            ) from problem

    def _run(self, account: Account, tree: Path) -> None:
        """Start the server's process and wait until it is ready."""
        self._sockets = str(self._folder.sockets(account))
        with postmaster.opened(self._folder.lock) as lock:
            if not postmaster.try_lock(lock):
                if postmaster.living(self._folder.data):
                    raise self._failed("it is running, and does not become ready")
                postmaster.end_orphans(self._folder.data, self._folder.lock, _GONE_WITHIN)
                if not postmaster.try_lock(lock):
                    raise self._failed("processes of a server that was killed are still there")
            # Nobody lives who could have written it: what it says is past.
            (self._folder.data / "postmaster.pid").unlink(missing_ok=True)
            self._folder.turn_log(_LOG_BYTES)
            child = postmaster.spawn(self._command(tree), account, self._folder.log, lock)

        def settled() -> bool:
            now = postmaster.read_pid_file(self._folder.data)
            return child.returncode is not None or (
                now is not None and now.pid == child.pid and now.status == "ready"
            )

        if not postmaster.until(settled, _READY_WITHIN) or child.returncode is not None:
            raise self._failed(folder.why(self._folder.log))

    def _command(self, tree: Path) -> list[str]:
        given = settings(durable=self.durable) | {
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": self._sockets,
            "unix_socket_permissions": "0700",
        }
        command = [str(tree / "bin" / "postgres"), "-D", str(self._folder.data)]
        for name, value in given.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _end(self) -> None:
        if not postmaster.end(self._folder.data, self._folder.lock, _STOP_WITHIN):
            raise self._failed("it does not stop")
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _failed(self, reason: str) -> EmbeddedServerFailed:
        return EmbeddedServerFailed(reason=reason, log=str(self._folder.log))
