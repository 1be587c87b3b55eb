"""As root and as an ordinary user: who runs the server, and who is let through to it."""

import errno
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.errors import EmbeddedServerFailed
from holdfast.postgres import account
from holdfast.postgres.account import Account, let_read, let_through, server_account
from holdfast.postgres.server import EmbeddedServer

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

USE = """
import sys, os, psycopg
from pathlib import Path
from holdfast.errors import HoldfastError
from holdfast.postgres.server import EmbeddedServer
try:
    with EmbeddedServer(Path(sys.argv[1]), durable=False) as server:
        with psycopg.connect(server.owner_url) as connection:
            print(connection.execute("select current_user").fetchone()[0])
        print(os.stat(f"/proc/{server.pid}").st_uid)
except HoldfastError as problem:
    print(problem.code, problem.facts["reason"])
"""


@pytest.fixture
def folder(fast_folder: str | None) -> Iterator[Path]:
    """A folder that only we may enter."""
    made = Path(tempfile.mkdtemp(prefix="hf-", dir=fast_folder))
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    yield made
    shutil.rmtree(made)


@pytest.fixture
def nobody() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switch=True)


def may(who: Account, *command: str) -> bool:
    """Whether `who` can do it, asked of the kernel."""
    try:
        done = subprocess.run(
            command, user=who.uid, group=who.gid, extra_groups=[], capture_output=True, cwd="/"
        )
    except PermissionError:  # already on the way to the program
        return False
    return done.returncode == 0


def use_as(who: Account, home: Path) -> list[str]:
    """Start and use a server as an ordinary user, in a process of his."""
    for python in (sys.executable, getattr(sys, "_base_executable", ""), "/usr/bin/python3"):
        if not python or not may(who, python, "-c", "pass"):
            continue
        asked = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
        if may(who, python, "-c", asked):
            break
    else:
        pytest.skip(f"no Python {sys.version_info[:2]} that {who.name} can run")
    paths = [str(Path(account.__file__).parents[2]), *(p for p in sys.path if "-packages" in p)]
    if not may(who, "ls", *paths):
        pytest.skip(f"{who.name} cannot read the packages")
    done = subprocess.run(
        [python, "-c", USE, str(home)],
        user=who.uid,
        group=who.gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PYTHONPATH": ":".join(paths), "HOME": str(home), "PATH": os.defpath},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@root_only
def test_as_root_an_unprivileged_account_runs_it_in_a_folder_closed_to_others(folder, nobody):
    home = folder / "inner" / "home"
    (folder / "inner").mkdir(mode=0o700)
    with EmbeddedServer(home, durable=False) as server:
        runs_as = Path(f"/proc/{server.pid}").stat().st_uid
        assert runs_as != 0
        with psycopg.connect(server.owner_url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        data = home / "postgres" / "data"
        assert data.stat().st_uid == runs_as
        for closed in (folder, folder / "inner", home):
            assert stat.S_IMODE(closed.stat().st_mode) & 0o007 == 0
            assert not may(nobody, "ls", "-d", str(closed / "x" / ".."))
        runner = Account("", runs_as, runs_as, switch=True)
        assert not may(runner, "ls", str(folder))  # walk through, and see nothing
        assert not may(nobody, "ls", str(data))


@root_only
def test_the_account_that_owns_the_data_keeps_it(folder, nobody):
    made = folder / "data"
    made.mkdir()
    os.chown(made, nobody.uid, nobody.gid)
    assert server_account(made) == nobody
    assert server_account(folder / "none").uid != 0


@root_only
def test_without_the_account_another_unprivileged_one_is_taken(folder, monkeypatch):
    monkeypatch.setattr(account, "_NAME", "no-such-account")
    monkeypatch.setattr(account, "_create", lambda name: False)
    assert server_account(folder / "none").name in {"postgres", "nobody"}
    monkeypatch.setattr(account, "_FALLBACKS", ())
    with pytest.raises(EmbeddedServerFailed) as caught:
        EmbeddedServer(folder, durable=False).start()
    assert "PostgreSQL does not run as root" in caught.value.facts["reason"]


@root_only
def test_exactly_one_account_is_let_through(folder, nobody):
    inner = folder / "inner" / "data"
    inner.mkdir(parents=True, mode=0o700)
    (folder / "inner").chmod(0o750)
    (folder / "inner" / "file").write_text("")
    let_through(nobody, inner, [])
    for closed in (folder, folder / "inner"):
        assert may(nobody, "test", "-x", str(closed))
        assert not may(nobody, "ls", str(closed))
        other = Account("", 4711, 4711, switch=True)
        assert not may(other, "test", "-x", str(closed))
    assert stat.S_IMODE((folder / "inner").stat().st_mode) == 0o750
    before = os.getxattr(folder, "system.posix_acl_access")
    let_through(nobody, inner, [])
    second = Account("", 4712, 4712, switch=True)
    let_through(second, inner, [])
    assert may(nobody, "test", "-x", str(folder / "inner"))
    assert may(second, "test", "-x", str(folder / "inner"))
    assert len(os.getxattr(folder, "system.posix_acl_access")) == len(before) + 8


@root_only
def test_programs_installed_for_one_user_only_can_be_read_by_the_account(folder, nobody):
    tree = folder / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy("/bin/true", tree / "bin" / "postgres")
    (tree / "bin" / "postgres").chmod(0o700)
    (tree / "share").write_text("text")
    (tree / "share").chmod(0o600)
    let_through(nobody, tree / "bin", [])
    let_read(nobody, tree, [])
    assert may(nobody, str(tree / "bin" / "postgres"))
    assert may(nobody, "cat", str(tree / "share"))
    assert not may(Account("", 4711, 4711, switch=True), "cat", str(tree / "share"))


@root_only
def test_without_access_control_lists_our_own_folders_are_opened_to_walk_through(
    folder, nobody, monkeypatch
):
    def none(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", none)
    inner = folder / "home" / "data"
    inner.mkdir(parents=True, mode=0o700)
    (folder / "home").chmod(0o700)
    with pytest.raises(PermissionError):
        let_through(nobody, inner, [folder / "home"])  # the folder above it is not ours
    let_through(nobody, inner, [folder])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o701
    assert stat.S_IMODE((folder / "home").stat().st_mode) == 0o701
    with pytest.raises(PermissionError):
        let_read(nobody, folder / "home", [folder])  # reading is never opened to everybody
    folder.chmod(0o700)
    with pytest.raises(EmbeddedServerFailed) as caught:
        EmbeddedServer(folder / "home", durable=False).start()
    assert caught.value.facts["reason"].endswith(f"which runs it, may not pass {folder}")
    assert caught.value.facts["reason"] in str(caught.value)


@root_only
def test_an_ordinary_user_runs_it_himself(folder, nobody):
    folder.chmod(0o711)
    home = folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.uid, nobody.gid)
    assert use_as(nobody, home) == ["holdfast_owner", str(nobody.uid)]
    with EmbeddedServer(home, durable=False) as server:  # root, in the same home, is his guest
        assert Path(f"/proc/{server.pid}").stat().st_uid == nobody.uid


@root_only
def test_an_ordinary_user_is_told_what_he_may_not(folder, nobody):
    folder.chmod(0o711)
    closed = folder / "closed"
    closed.mkdir(mode=0o755)
    assert use_as(nobody, closed) == ["home_unusable Permission denied"]
    with EmbeddedServer(folder / "roots", durable=False):
        pass
    (folder / "roots").chmod(0o711)
    assert use_as(nobody, folder / "roots") == ["home_unusable no right to write there"]


@root_only
def test_a_full_disk_is_told(folder):
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(disk)])
    if mounted.returncode != 0:
        pytest.skip("no right to mount a small disk")
    try:
        with pytest.raises(EmbeddedServerFailed) as caught:
            EmbeddedServer(disk).start()
        assert caught.value.facts["reason"] == "the disk is full"
    finally:
        subprocess.run(["umount", str(disk)], check=True)
