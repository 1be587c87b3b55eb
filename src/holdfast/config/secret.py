"""The secret that signs cursors, tickets and forms, made once where none was given."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from holdfast.config.settings import Settings
from holdfast.errors import HomeUnusable


def signing_secret(settings: Settings) -> bytes:
    """Return HOLDFAST_SECRET, or the one in the home folder, which is made at the first call.

    Processes that start together agree: the file appears whole, and the first one wins. Raises
    HomeUnusable.
    """
    if settings.secret is not None:
        return settings.secret.encode()
    path = settings.home / "secret"
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path.read_bytes() if path.exists() else _make(path)
    except OSError as error:
        raise HomeUnusable(path=str(settings.home)) from error


def _make(path: Path) -> bytes:
    draft = path.with_name(f"secret.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(48))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first: its secret is the one
    finally:
        draft.unlink()
    return path.read_bytes()
