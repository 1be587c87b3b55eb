"""The application: one screen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import holdfast
from holdfast.config import Settings, signing_secret
from holdfast.postgres.pool import Database
from holdfast.systems.accounts import clerk, development
from holdfast.web import api, board, console, openapi, problems, progress
from holdfast.web.doorway import Doorway
from holdfast.web.live import Hub
from holdfast.web.metrics import Metrics
from holdfast.web.rates import Rates
from holdfast.web.running import Running
from holdfast.web.signing import Signer


def create_app(settings: Settings, db: Database) -> FastAPI:
    """Build the application on an open database, which stays the caller's to close.

    Call from the event loop that opened `db`. Raises HomeUnusable, SettingInvalid.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await close_streams(app)
        await app.state.verifier.close()

    app = FastAPI(
        title="Holdfast",
        version=holdfast.__version__,
        description="Paid, multi-step work that stays right in a race and after a crash.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.db = db
    app.state.signer = Signer(signing_secret(settings))
    app.state.verifier = development.verifier(settings)
    app.state.rates = Rates(settings)
    secret = settings.clerk_webhook_secret
    app.state.clerk_webhook = clerk.Webhook(secret) if secret else None
    app.state.metrics = Metrics()
    app.state.running = Running()
    app.state.hubs = {"jobs": Hub(progress.asker(db)), "orders": Hub(board.asker(db))}
    app.openapi = lambda: openapi.build(app, api.ROUTERS)  # type: ignore[method-assign]
    app.add_middleware(Doorway, body_bytes_max=settings.body_bytes_max, metrics=app.state.metrics)
    problems.install(app)
    app.state.methods = api.methods
    for router in api.ROUTERS:
        app.include_router(router)
    console.install(app)
    return app


async def close_streams(app: FastAPI) -> None:
    """End every event stream; a server that stops does this first, or it would wait for them."""
    hubs: dict[str, Hub[object, object]] = app.state.hubs
    for hub in hubs.values():
        await hub.close()
