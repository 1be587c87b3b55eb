"""The unprivileged account that runs PostgreSQL when Holdfast runs as root.

PostgreSQL refuses to run as root. So as root the server runs as an account of its own, which
must be able to reach the data folder and the server's programs even where those lie below
folders closed to others (/root, a 0700 temporary folder). Exactly that account is let through,
by an access control list; nothing is opened for everyone.
"""

import contextlib
import os
import pwd
import stat
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_NAME = "holdfast"
_FALLBACKS = ("postgres", "nobody")

_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
READ, TRAVERSE = 4, 1


@dataclass(frozen=True, slots=True)
class Account:
    """The account that runs the server's processes.

    `switch` says whether that is another one than ours (only root can switch).
    """

    name: str
    uid: int
    gid: int
    switch: bool


def server_account(data: Path) -> Account:
    """The account to run the server as: ourselves, or as root an unprivileged one.

    A data folder that already belongs to an unprivileged account decides: it stays with it.
    """
    if os.geteuid() != 0:
        return Account("", os.geteuid(), os.getegid(), switch=False)
    with contextlib.suppress(FileNotFoundError, KeyError):
        holder = data.stat().st_uid
        if holder != 0:
            return _account(pwd.getpwuid(holder))
    for name in (_NAME, *_FALLBACKS):
        with contextlib.suppress(KeyError):
            return _account(pwd.getpwnam(name))
        if name == _NAME and _create(name):
            return _account(pwd.getpwnam(name))
    raise LookupError("no unprivileged account to run PostgreSQL as")


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switch=True)


def _create(name: str) -> bool:
    command = ["useradd", "--system", "--user-group", "--no-create-home"]
    command += ["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", name]
    with contextlib.suppress(OSError):
        subprocess.run(command, capture_output=True, check=False)
    # Asked of the system rather than of useradd: another process may have won the race.
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def let_through(account: Account, path: Path, ours: Iterable[Path]) -> None:
    """Let `account` walk down to `path`, through every folder above it.

    Where the file system has no access control lists, the folders below one of `ours` get the
    traverse bit (never the read bit) for others. Raises PermissionError where neither works.
    """
    for folder in reversed(path.resolve().parents):
        _allow(account, folder, TRAVERSE, ours)


def let_read(account: Account, tree: Path, ours: Iterable[Path]) -> None:
    """Let `account` read and run what is in `tree` (the server's own programs)."""
    _allow(account, tree, READ | TRAVERSE, ours)
    for path in tree.rglob("*"):
        if not path.is_symlink():
            wanted = READ | TRAVERSE if path.is_dir() or os.access(path, os.X_OK) else READ
            _allow(account, path, wanted, ours)


def _allow(account: Account, path: Path, wanted: int, ours: Iterable[Path]) -> None:
    entry = path.stat()
    if _allowed(account, entry, wanted):
        return
    try:
        _grant(path, account.uid, wanted, stat.S_IMODE(entry.st_mode))
    except OSError as problem:
        inside = any(path.is_relative_to(root.resolve()) for root in ours)
        if not inside or wanted & READ:
            raise PermissionError(problem.errno, problem.strerror, str(path)) from problem
        path.chmod(stat.S_IMODE(entry.st_mode) | stat.S_IXOTH)


def _allowed(account: Account, entry: os.stat_result, wanted: int) -> bool:
    if entry.st_uid == account.uid:
        return entry.st_mode >> 6 & wanted == wanted
    if entry.st_gid == account.gid:
        return entry.st_mode >> 3 & wanted == wanted
    return entry.st_mode & wanted == wanted


def _grant(path: Path, uid: int, wanted: int, mode: int) -> None:
    """Add `wanted` for one account to the access control list of `path` (Linux only)."""
    setter = getattr(os, "setxattr", None)
    if setter is None:
        raise PermissionError(1, "no access control lists here", str(path))
    entries = _read(path, mode)
    entries[_USER, uid] = entries.get((_USER, uid), 0) | wanted
    entries[_MASK, _NO_ID] = entries.get((_MASK, _NO_ID), entries[_GROUP, _NO_ID]) | wanted
    packed = struct.pack("<I", _ACL_VERSION)
    for (tag, who), rights in sorted(entries.items()):
        packed += struct.pack("<HHI", tag, rights, who)
    setter(path, _ACL, packed)


def _read(path: Path, mode: int) -> dict[tuple[int, int], int]:
    try:
        packed = os.getxattr(path, _ACL)
    except OSError:
        return {
            (_OWNER, _NO_ID): mode >> 6 & 7,
            (_GROUP, _NO_ID): mode >> 3 & 7,
            (_OTHER, _NO_ID): mode & 7,
        }
    return {(tag, who): rights for tag, rights, who in struct.iter_unpack("<HHI", packed[4:])}
