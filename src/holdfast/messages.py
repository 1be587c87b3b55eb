"""What people read: every code in English, Russian and Ukrainian, from `locales/*.po`.

A code has three texts: `title` (the kind of problem), `detail` (this time, with facts) and `next`
(what to do). Codes of single fields and of failed jobs have one, under `field.` and `reason.`.
In a text, `{status}` is a fact as it is and `{needed:crystals}` is a number with its noun in the
right plural form of the language (CLDR rules); the nouns stand in the catalogues as `count.<noun>`.
"""

from __future__ import annotations

import gettext
import io
import re
import string
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

LOCALES = ("en", "ru", "uk")
DEFAULT = "en"

_RANGE = re.compile(r"(\*|[A-Za-z]{1,8})((?:-[A-Za-z0-9]{1,8})*)\Z")
_WEIGHT = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")


class Translator:
    """The texts of one language. Never fails: what is missing is said more plainly."""

    def __init__(self, locale: str) -> None:
        """Read the catalogue of `locale`, one of LOCALES."""
        self.locale = locale
        compiled = io.BytesIO()
        write_mo(compiled, catalog(locale))
        compiled.seek(0)
        self._texts = gettext.GNUTranslations(compiled)

    def title(self, code: str) -> str:
        """Name the kind of problem."""
        return self._text(f"{code}.title") or code.replace("_", " ").capitalize()

    def detail(self, code: str, facts: Mapping[str, Any] | None = None) -> str:
        """Say what happened; without a fact the sentence names, only what kind it was."""
        return self._fill(f"{code}.detail", facts) or f"{self.title(code)}."

    def next(self, code: str, facts: Mapping[str, Any] | None = None) -> str:
        """Say what the reader can do now, or nothing where a fact is missing."""
        return self._fill(f"{code}.next", facts) or ""

    def field(self, code: str, facts: Mapping[str, Any] | None = None) -> str:
        """Say what is wrong with one field of a request."""
        return self._fill(f"field.{code}", facts) or self._fill("field.malformed", facts) or code

    def reason(self, code: str, facts: Mapping[str, Any] | None = None) -> str:
        """Say why a job failed, was stopped or waits."""
        return self._fill(f"reason.{code}", facts) or self._fill("reason.failed", facts) or code

    def text(self, key: str, facts: Mapping[str, Any] | None = None) -> str:
        """Return any other text of the catalogue, or the key itself."""
        return self._fill(key, facts) or key

    def count(self, number: float, noun: str) -> str:
        """Return a number with its noun in the right form, such as `2 crystals`."""
        return self._filler.format_field(number, noun)

    def _text(self, key: str) -> str | None:
        text = self._texts.gettext(key)
        return None if text == key else text

    def _fill(self, key: str, facts: Mapping[str, Any] | None) -> str | None:
        text = self._text(key)
        if text is None:
            return None
        try:
            return self._filler.vformat(text, (), facts or {})
        except (KeyError, ValueError, AttributeError, TypeError):
            return None

    @property
    def _filler(self) -> _Filler:
        return _Filler(self.locale, self._texts)


class _Filler(string.Formatter):
    """Fills `{name}` and `{name:noun}`; nothing of Python's format language reaches a text."""

    def __init__(self, locale: str, texts: gettext.NullTranslations) -> None:
        self._locale = locale
        self._texts = texts

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        """Look the name up as a whole: `{a.b}` and `{a[0]}` mean nothing here."""
        del args  # texts name their facts, they do not number them
        return kwargs[field_name], field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        """Write a value, and with a noun in the plural form that its number asks for."""
        if not format_spec:
            return _plain(value, self._locale)
        whole = abs(int(value))
        form = self._texts.ngettext(f"count.{format_spec}", f"count.{format_spec}", whole)
        return form.replace("{n}", format_decimal(value, locale=self._locale))


def _plain(value: Any, locale: str) -> str:
    if isinstance(value, Mapping):
        value = value.get("name") or value.get("title") or value.get("id")
    if isinstance(value, bool) or not isinstance(value, int | float | list | tuple):
        return str(value)
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner, locale) for inner in value)
    return str(format_decimal(value, locale=locale))


@cache
def translator(locale: str = DEFAULT) -> Translator:
    """Return the texts of a language; of English for one we do not speak."""
    return Translator(locale if locale in LOCALES else DEFAULT)


@cache
def catalog(locale: str) -> Catalog:
    """Read `locales/<locale>.po`."""
    source = resources.files("holdfast") / "locales" / f"{locale}.po"
    with source.open("rb") as file:
        return read_po(file, locale=locale, abort_invalid=True)


def negotiate(accept_language: str | None, *, default: str = DEFAULT) -> str:
    """Choose one of LOCALES by an Accept-Language header (RFC 9110, with q-values).

    `ru-UA` counts as `ru`. An absent, unreadable or hopeless header gives `default`; of equal
    weights the first named wins.
    """
    ranges = _ranges(accept_language or "")
    if ranges is None:
        return default
    refused = {tag for tag, weight in ranges if weight == 0}
    for tag, weight in sorted(ranges, key=lambda pair: -pair[1]):
        if weight == 0:
            break
        if tag == "*":
            return next((x for x in (default, *LOCALES) if x not in refused), default)
        if tag in LOCALES:
            return tag
    return default


def _ranges(header: str) -> list[tuple[str, float]] | None:
    """Return (language, weight) as sent, or None where the header breaks the grammar."""
    found: list[tuple[str, float]] = []
    for part in filter(None, (piece.strip() for piece in header.split(","))):
        tag, *parameters = (piece.strip() for piece in part.split(";"))
        matched = _RANGE.match(tag)
        weight = _weight(parameters)
        if matched is None or weight is None:
            return None
        found.append((matched[1].lower(), weight))
    return found


def _weight(parameters: Iterable[str]) -> float | None:
    weight = 1.0
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if name.strip().lower() != "q" or not equals or not _WEIGHT.match(value.strip()):
            return None
        weight = float(value)
    return weight
