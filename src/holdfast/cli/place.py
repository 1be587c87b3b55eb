"""Where a command works: the embedded server, started and migrated, or the one of the settings."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from holdfast.cli import terminal
from holdfast.config import Settings, production_warnings, refuse_unfit_production
from holdfast.errors import HoldfastError, SchemaMissing, SchemaOutdated
from holdfast.postgres import check
from holdfast.postgres.install import install
from holdfast.postgres.pool import Database
from holdfast.postgres.server import EmbeddedServer
from holdfast.postgres.standing import Standing, standing


@dataclass(frozen=True, slots=True)
class Place:
    """A database that can be used. `url` is the application's, `owner_url` the owner's."""

    url: str
    owner_url: str
    standing: Standing
    server: EmbeddedServer | None

    async def open(self, settings: Settings, *, combining: bool = False) -> Database:
        """Open a pool as the application."""
        return await Database.open(
            self.url,
            role=self.standing.role,
            max_size=settings.pool_size,
            statement_timeout=settings.statement_timeout_seconds,
            combining=combining,
        )

    async def open_owner(self) -> Database:
        """Open a pool as the owner: for role and mend."""
        return await Database.open(self.owner_url, max_size=2)


def read_settings(**changed: object) -> Settings:
    """Read the settings; what a command line says goes before what the environment says."""
    settings = Settings.read()
    given = {name: value for name, value in changed.items() if value is not None}
    if not given:
        return settings
    explicit = {**settings.explicit, **{name: str(value) for name, value in given.items()}}
    return dataclasses.replace(settings, **given, explicit=explicit)  # type: ignore[arg-type]


@contextmanager
def place(settings: Settings, *, serving: bool = False, ready: bool = True) -> Iterator[Place]:
    """Give the database; the embedded one is started, and stopped by the last who uses it.

    `serving` restarts an embedded server that dies meanwhile. `ready=False` also accepts a
    database without our schema, or with an older one. Raises what says why it cannot be used.
    """
    if settings.embedded:
        with terminal.waiting("starting the embedded PostgreSQL …"):
            server = EmbeddedServer(settings.home, keep_alive=serving).start()
        try:
            with terminal.waiting("installing the schema …"):
                install(server.owner_url, settings.stored(explicit_only=True))
            yield Place(server.app_url, server.owner_url, standing(server.app_url), server)
        finally:
            server.stop()
        return
    url = settings.database_url
    assert url is not None
    refused: HoldfastError | None = terminal.run(check.problem(url))
    if refused is not None:
        raise refused
    found = standing(url)
    if ready and not found.installed:
        raise SchemaMissing
    if ready and found.pending:
        raise SchemaOutdated(pending=len(found.pending))
    yield Place(url, settings.owner_url or url, found, None)


def fit(settings: Settings, where: Place) -> None:
    """Refuse what production refuses, and say aloud what it only warns of."""
    refuse_unfit_production(settings, clock_shift_seconds=where.standing.clock_shift)
    for doubt in production_warnings(settings):
        terminal.say(f"in production, {doubt}.")
