"""The console: pages made on the server, a file per system. A system adds its router here."""

from __future__ import annotations

from importlib import resources

from fastapi import FastAPI
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

from holdfast.web.console import courses, orders, projects, session, voice

ROUTERS = (session.router, orders.router, projects.router, voice.router, courses.router)


def install(app: FastAPI) -> None:
    """Add the console to the application."""
    app.add_exception_handler(session.SignInFirst, session.on_sign_in_first)
    folder = resources.files("holdfast.web") / "static" / "console"
    app.mount("/console/static", StaticFiles(directory=str(folder)), name="console-static")
    app.add_api_route("/", _home, include_in_schema=False)
    for router in ROUTERS:
        app.include_router(router, include_in_schema=False)


async def _home() -> RedirectResponse:
    """Whoever types the bare address is a person."""
    return RedirectResponse("/console", 303)
