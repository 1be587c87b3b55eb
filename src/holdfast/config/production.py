"""What production refuses to start with, and what it only warns of."""

from __future__ import annotations

from pathlib import Path

from holdfast.config.settings import Settings
from holdfast.errors import ProductionRefused


def development_key(settings: Settings) -> Path:
    """Return where `holdfast token` keeps its private key; its public half is `.pub` beside it."""
    return settings.home / "development-key.pem"


def production_problems(settings: Settings, *, clock_shift_seconds: float = 0) -> list[str]:
    """Return why production must not start, each the end of a sentence; none in dev.

    `clock_shift_seconds` is what `kernel.clock` holds: only tests move it.
    """
    if not settings.production:
        return []
    problems = []
    if not settings.clerk_parties:
        problems.append("HOLDFAST_CLERK_PARTIES does not name the sites whose tokens are accepted")
    if settings.clerk_pem and settings.clerk_pem == _development_public_key(settings):
        problems.append("HOLDFAST_CLERK_PEM is the development key of this machine")
    if clock_shift_seconds:
        problems.append(f"the database's clock is shifted by {clock_shift_seconds:g} s")
    if settings.embedded and not {"database_url", "home"} & settings.explicit.keys():
        problems.append(
            "no database was chosen: set HOLDFAST_DATABASE_URL, or to `embedded` on purpose"
        )
    if "story_provider" not in settings.explicit:
        problems.append("no story provider was chosen: set HOLDFAST_STORY_PROVIDER")
    return problems


def production_warnings(settings: Settings) -> list[str]:
    """Return what production accepts when chosen, and says aloud at start; none in dev."""
    if not settings.production:
        return []
    doubts = {
        "the database is the embedded one: one machine, no standby": settings.embedded,
        "the stories come from the offline grammar": settings.story_provider == "offline",
        "no key verifies session tokens: only devices can sign in": not (
            settings.clerk_jwks_url or settings.clerk_pem
        ),
        "HOLDFAST_CLERK_ISSUER is not pinned": not settings.clerk_issuer,
        "devices are accepted by their id alone": settings.device_auth == "id",
        "there is no rate limit": settings.requests_per_minute is None,
        "webhooks may go to private addresses": settings.webhook_allow_private,
        "HOLDFAST_SECRET is made on this machine: a second server would not share it": (
            settings.secret is None and not settings.embedded
        ),
    }
    return [doubt for doubt, real in doubts.items() if real]


def refuse_unfit_production(settings: Settings, *, clock_shift_seconds: float = 0) -> None:
    """Raise ProductionRefused with the first problem, where there is one."""
    for problem in production_problems(settings, clock_shift_seconds=clock_shift_seconds):
        raise ProductionRefused(reason=problem)


def _development_public_key(settings: Settings) -> str | None:
    try:
        return development_key(settings).with_suffix(".pub").read_text("ascii").strip() + "\n"
    except (OSError, UnicodeDecodeError):
        return None
