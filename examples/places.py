"""A database for an example: yours, by URL, or an embedded one that goes away with it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from holdfast.postgres.install import install
from holdfast.postgres.server import EmbeddedServer


class Place(NamedTuple):
    """Two URLs of one database: programs use `url`; `owner_url` makes tables and rules."""

    url: str
    owner_url: str


@contextmanager
def database() -> Iterator[Place]:
    """Give a database with Holdfast's schema.

    HOLDFAST_DATABASE_URL and HOLDFAST_OWNER_URL name one that `holdfast migrate` has prepared.
    Without them PostgreSQL is started in a temporary folder, which takes a few seconds.
    """
    if url := os.environ.get("HOLDFAST_DATABASE_URL"):
        yield Place(url, os.environ.get("HOLDFAST_OWNER_URL", url))
        return
    with (
        tempfile.TemporaryDirectory(prefix="hf-", ignore_cleanup_errors=True) as folder,
        EmbeddedServer(Path(folder), durable=False) as server,
    ):
        install(server.owner_url)
        yield Place(server.app_url, server.owner_url)
