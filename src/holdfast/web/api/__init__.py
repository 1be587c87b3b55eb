"""The routes, a file per system. A system adds its router here."""

from __future__ import annotations

from holdfast.web.api import artifacts, catalogue, health, jobs, me, stories, tickets

ROUTERS = (
    health.router,
    catalogue.router,
    me.router,
    stories.router,
    jobs.router,
    artifacts.router,
    tickets.router,
)
