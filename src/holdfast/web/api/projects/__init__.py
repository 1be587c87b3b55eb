"""Projects, their stages, and the voice."""

from __future__ import annotations

from holdfast.web.api.projects import history, membership, steps, voice

ROUTERS = (membership.router, steps.router, history.router, voice.router)
