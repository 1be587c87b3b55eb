"""The routes, a file per system. A system adds its router here."""

from __future__ import annotations

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
