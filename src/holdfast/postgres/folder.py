"""The folder of one embedded server: what lies where, who owns it, how it is made."""

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from holdfast.errors import EmbeddedServerFailed, HomeUnusable
from holdfast.postgres.account import Account
from holdfast.postgres.postmaster import as_account, environment

_SOCKET_NAME = ".s.PGSQL.5432.lock"
_SOCKET_MOST = 103  # bytes of a whole path; 107 on Linux, 103 on macOS


class Folder:
    """`data` (the cluster), `server.log`, three lock files and the name of the socket folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.log = root / "server.log"
        self.starting = root / "starting.lock"  # held while somebody starts or stops it
        self.users = root / "users.lock"  # held, shared, by everybody who uses it
        self.lock = root / "server.lock"  # held by the server's processes
        self._sockets = root / "sockets"  # names the folder of the sockets

    def make(self) -> None:
        """Make the folder. Raises HomeUnusable."""
        try:
            self.root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.mkdir(mode=0o711, exist_ok=True)
        except OSError as problem:
            raise self._unusable(problem.strerror or str(problem)) from problem
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise self._unusable("no right to write there")

    @property
    def initialised(self) -> bool:
        """Whether the cluster was made (it appears whole, by a rename)."""
        return (self.data / "PG_VERSION").exists()

    def check_version(self, major: int) -> None:
        """Raise EmbeddedServerFailed where the cluster is another version's."""
        found = (self.data / "PG_VERSION").read_text().strip() if self.initialised else str(major)
        if found != str(major):
            raise EmbeddedServerFailed(
                reason=f"{self.data} was made by PostgreSQL {found} and this is {major}; "
                "move it away, or dump it with its own version and load it here"
            )

    def check_holder(self, account: Account) -> None:
        """Raise EmbeddedServerFailed where the cluster belongs to somebody else."""
        if self.data.exists() and self.data.stat().st_uid != account.uid:
            raise EmbeddedServerFailed(
                reason=f"{self.data} belongs to another user; start Holdfast as that one"
            )

    def initialise(self, tree: Path, account: Account, *, durable: bool) -> None:
        """Make the cluster, beside its place, then move it there: whole or not at all."""
        made = self.root / "data.new"
        shutil.rmtree(made, ignore_errors=True)
        try:
            made.mkdir(mode=0o700)
            if account.switch:
                os.chown(made, account.uid, account.gid)
        except OSError as problem:
            raise self._unusable(problem.strerror or str(problem)) from problem
        command = [str(tree / "bin" / "initdb"), "-D", str(made), "-U", "postgres"]
        command += ["--auth-local=trust", "--auth-host=reject", "--encoding=UTF8"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command += [] if durable else ["--no-sync"]
        done = subprocess.run(
            command,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd="/",
            **as_account(account),
        )
        self.log.write_text(done.stdout + done.stderr)
        if done.returncode != 0:
            shutil.rmtree(made, ignore_errors=True)
            raise EmbeddedServerFailed(reason=why(self.log), log=str(self.log))
        made.rename(self.data)

    def sockets(self, account: Account) -> Path:
        """Return the folder for the sockets: short, private, and the same at every start.

        A path to a socket may have no more than 103 bytes and homes are long, so it lies in the
        temporary folder, under a name nobody can guess before us.
        """
        if self._sockets.exists():
            known = Path(self._sockets.read_text())
            if _private(known, account):
                return known
        for base in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - the folder inside is private
            if len(os.fsencode(base)) + len("/holdfast-12345678/" + _SOCKET_NAME) <= _SOCKET_MOST:
                break
        made = Path(tempfile.mkdtemp(prefix="holdfast-", dir=base))
        if account.switch:
            os.chown(made, account.uid, account.gid)
        self._sockets.write_text(str(made))
        return made

    def turn_log(self, most: int) -> None:
        """Put the log aside when it has grown beyond `most` bytes."""
        if self.log.exists() and self.log.stat().st_size > most:
            self.log.replace(self.log.with_suffix(".log.1"))

    def _unusable(self, reason: str) -> HomeUnusable:
        return HomeUnusable(path=str(self.root), reason=reason)


def _private(path: Path, account: Account) -> bool:
    """Whether the socket folder is ours alone; made again where the system has tidied it away."""
    try:
        path.mkdir(mode=0o700)
        if account.switch:
            os.chown(path, account.uid, account.gid)
    except FileExistsError:
        pass
    except OSError:
        return False
    entry = path.lstat()
    return (
        stat.S_ISDIR(entry.st_mode)
        and entry.st_uid == account.uid
        and stat.S_IMODE(entry.st_mode) == 0o700
    )


def why(log: Path) -> str:
    """Say in a few words why the server did not start, from the end of its log."""
    told = log.read_text(errors="replace")[-8000:] if log.exists() else ""
    if "No space left on device" in told:
        return "the disk is full"
    if "could not create shared memory" in told or "could not map anonymous" in told:
        return "there is not enough memory"
    lines = [line for line in told.splitlines() if "FATAL" in line or "error:" in line]
    return lines[-1].split("FATAL:")[-1].strip() if lines else "it ended without a word"
