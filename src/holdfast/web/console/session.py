"""Who looks at the console: the session cookie, the guard of its forms, the personas of dev."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from holdfast import messages
from holdfast.errors import CsrfFailed, NotFound, Unauthenticated
from holdfast.systems.accounts import Role, development
from holdfast.web import actor
from holdfast.web.actor import SESSION_COOKIE, Caller
from holdfast.web.console.forms import Fields
from holdfast.web.console.page import LOCALE_COOKIE, THEME_COOKIE, THEMES, page
from holdfast.web.signing import Signer

router = APIRouter(prefix="/console")

HOME, SIGN_IN = "/console/orders", "/console/sign-in"


@dataclass(frozen=True, slots=True)
class Persona:
    """Somebody to be in development; the command line makes him and gives him his role."""

    subject: str
    name: str
    role: Role


# Subjects that no token for tests would be asked for by chance: these people have roles.
PERSONAS = (
    Persona("persona:carol", "Carol", "user"),
    Persona("persona:alice", "Alice", "operator"),
    Persona("persona:bob", "Bob", "operator"),
    Persona("persona:sam", "Sam", "supervisor"),
    Persona("persona:ada", "Ada", "admin"),
)
_YEAR = 365 * 24 * 3600


class SignInFirst(Exception):
    """Nobody is signed in: the way leads to the sign-in page."""


async def viewer(request: Request) -> Caller:
    """Say who looks (a dependency)."""
    try:
        return await actor.session(request)
    except Unauthenticated as problem:
        raise SignInFirst from problem


async def guarded(
    request: Request,
    who: Annotated[Caller, Depends(viewer)],
    given: Fields,
) -> Caller:
    """Say who sends a form, and that it is a form of ours (a dependency). Raises CsrfFailed."""
    _same_origin(request)
    shown = request.headers.get("x-csrf-token") or given.get("csrf", "")
    if not hmac.compare_digest(shown.encode(), csrf_token(request, who).encode()):
        raise CsrfFailed
    return who


Viewer = Annotated[Caller, Depends(viewer)]
Guarded = Annotated[Caller, Depends(guarded)]


def csrf_token(request: Request, who: Caller) -> str:
    """Return the token of this session's forms: of no use to any other session."""
    signer: Signer = request.app.state.signer
    session = request.cookies.get(SESSION_COOKIE, "")
    return signer.seal("csrf", [str(who.account_id), hashlib.sha256(session.encode()).hexdigest()])


def _same_origin(request: Request) -> None:
    """Refuse a form that another site sent; a browser says where it stood."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise CsrfFailed


async def on_sign_in_first(request: Request, problem: Exception) -> Response:
    """Lead to the sign-in page; a part of a page leads the whole page there."""
    del problem
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": SIGN_IN})
    return RedirectResponse(SIGN_IN, 303)


@router.get("")
async def home() -> Response:
    """The way in."""
    return RedirectResponse(HOME, 303)


@router.get("/sign-in")
async def sign_in_page(request: Request) -> Response:
    """Choose who to be (dev), or learn where to sign in (production)."""
    production = request.app.state.settings.production
    return page(request, "sign_in.html", None, personas=() if production else PERSONAS)


@router.post("/sign-in")
async def sign_in(request: Request, given: Fields) -> Response:
    """Become a persona. Development only: elsewhere this page does not exist."""
    settings = request.app.state.settings
    if settings.production:
        raise NotFound
    _same_origin(request)
    name = given.get("name", "").strip()[:200]
    if not name:
        return RedirectResponse(SIGN_IN, 303)
    answer = RedirectResponse(HOME, 303)
    answer.set_cookie(
        SESSION_COOKIE,
        development.mint(settings, name),
        max_age=development.TOKEN_SECONDS,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/sign-out")
async def sign_out(who: Guarded) -> Response:
    """Be nobody again."""
    del who
    answer = RedirectResponse(SIGN_IN, 303)
    answer.delete_cookie(SESSION_COOKIE)
    return answer


@router.post("/looks")
async def looks(request: Request, given: Fields) -> Response:
    """Choose a language or a theme, kept in the browser; no account needed."""
    _same_origin(request)
    back, locale, theme = (given.get(name, "") for name in ("back", "locale", "theme"))
    ours = back.startswith("/console") and "\\" not in back
    answer = RedirectResponse(back if ours else HOME, 303)
    if locale in messages.LOCALES:
        answer.set_cookie(LOCALE_COOKIE, locale, max_age=_YEAR, samesite="lax")
    if theme in THEMES:
        answer.set_cookie(THEME_COOKIE, theme, max_age=_YEAR, samesite="lax")
    return answer
