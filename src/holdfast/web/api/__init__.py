"""The routes, a file per system. A system adds its router here."""

from __future__ import annotations

from fastapi.routing import APIRoute

from holdfast.web.api import (
    accounts,
    admin,
    artifacts,
    catalogue,
    clerk,
    courses,
    health,
    holds,
    jobs,
    me,
    notifications,
    orders,
    projects,
    stories,
    tickets,
)

# Matched from the top: what is asked most stands first.
ROUTERS = (
    stories.router,
    jobs.router,
    health.router,
    admin.router,
    catalogue.router,
    me.router,
    accounts.router,
    clerk.router,
    holds.router,
    artifacts.router,
    tickets.router,
    courses.router,
    notifications.router,
    *orders.ROUTERS,
    *projects.ROUTERS,
)


def methods(path: str) -> str:
    """Return every method that an address takes, as `Allow` lists them; empty for an unknown one.

    Each of our routes has one method, and the framework tells only that of the first.
    """
    found = {
        method
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.path_regex.match(path)
        for method in route.methods or ()
    }
    return ", ".join(sorted(found))
