"""How a page of the console is made: its templates, its language, its looks, its way around."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from holdfast import messages
from holdfast.web.actor import Caller
from holdfast.web.problems import locale_of

LOCALE_COOKIE, THEME_COOKIE = "holdfast_locale", "holdfast_theme"
THEMES = ("auto", "light", "dark")
LANGUAGES = {
    "en": "English",
    "ru": "\u0420\u0443\u0441\u0441\u043a\u0438\u0439",
    "uk": "\u0423\u043a\u0440\u0430\u0457\u043d\u0441\u044c\u043a\u0430",
}


@dataclass(frozen=True, slots=True)
class Place:
    """One entry of the way around: an address, its text, and who finds it there."""

    path: str
    text: str
    roles: tuple[str, ...] = ("user", "operator", "supervisor", "admin")


# The order in which they stand; each page puts itself here by its address.
PLACES = (
    Place("/console/orders", "nav.orders"),
    Place("/console/projects", "nav.projects"),
    Place("/console/courses", "nav.courses"),
)


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("holdfast.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def language(request: Request) -> str:
    """Return the reader's language: as he chose on the console, else as the browser asks."""
    chosen = request.cookies.get(LOCALE_COOKIE)
    return chosen if chosen in messages.LOCALES else locale_of(request.scope)


def fragment(request: Request, template: str, viewer: Caller | None, **values: Any) -> str:
    """Render a part of a page."""
    return part(template, language(request), viewer, **values)


def part(template: str, locale: str, viewer: Caller | None, **values: Any) -> str:
    """Render a part of a page, in a language, for who looks at it."""
    told = messages.translator(locale)
    return (
        _templates()
        .get_template(f"console/{template}")
        .render(
            t=lambda key, **facts: told.text(f"console.{key}", facts),
            locale=locale,
            viewer=viewer,
            **values,
        )
    )


def page(
    request: Request,
    template: str,
    viewer: Caller | None,
    *,
    csrf: str = "",
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    """Render a whole page."""
    theme = request.cookies.get(THEME_COOKIE)
    made = fragment(
        request,
        template,
        viewer,
        csrf=csrf,
        here=request.url.path,
        places=[p for p in PLACES if viewer and viewer.role in p.roles],
        themes=THEMES,
        theme=theme if theme in THEMES else "auto",
        languages=LANGUAGES,
        **values,
    )
    headers = {"Cache-Control": "no-store", "Content-Language": language(request)}
    return HTMLResponse(made, status, {**headers, "Vary": "Accept-Language, Cookie"})


def plain(told: str, status: int = 200) -> HTMLResponse:
    """Answer with a part of a page."""
    return HTMLResponse(told, status, {"Cache-Control": "no-store"})
