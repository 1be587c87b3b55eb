"""The server process: uvicorn around the application, stopping in the right order."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from holdfast.config import Settings
from holdfast.errors import PortTaken
from holdfast.postgres.pool import Database
from holdfast.web.app import close_streams, create_app


class _Server(uvicorn.Server):
    """Ends event streams before it waits for its requests: a stream would never end by itself."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: streams first, then whatever still runs."""
        await close_streams(self.config.app)  # type: ignore[arg-type]
        self._on_stop()
        await super().shutdown(sockets)


def server(
    settings: Settings,
    db: Database,
    *,
    on_stop: Callable[[], object] = lambda: None,
) -> uvicorn.Server:
    """Return a server for `await server.serve(sockets=[listen(settings)])`.

    It takes SIGINT and SIGTERM while it serves; `on_stop` is called when it begins to stop. To stop
    it from within, set its `should_exit`.
    """
    config = uvicorn.Config(
        create_app(settings, db),
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
    )
    return _Server(config, on_stop)


def listen(settings: Settings) -> socket.socket:
    """Bind the address of the settings; port 0 takes a free one. Raises PortTaken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
    except OSError as problem:
        bound.close()
        raise PortTaken(host=settings.host, port=settings.port) from problem
    bound.set_inheritable(True)
    return bound


async def run(settings: Settings, db: Database) -> None:
    """Serve until a signal ends it. Raises PortTaken."""
    await server(settings, db).serve(sockets=[listen(settings)])
