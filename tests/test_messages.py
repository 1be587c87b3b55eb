"""The catalogues: complete and equal in three languages, plural forms, negotiation."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from babel import Locale
from hypothesis import given
from hypothesis import strategies as st

from holdfast import errors, messages
from holdfast.systems.providers import story

LOCALES = messages.LOCALES
PARTS = ("title", "detail", "next")
FORMATTER = string.Formatter()


def texts(locale: str) -> dict[str, tuple[str, ...]]:
    found = {}
    for message in messages.catalog(locale):
        if message.id:
            plural = isinstance(message.id, tuple)
            found[message.id[0] if plural else message.id] = (
                tuple(message.string) if plural else (message.string,)
            )
    return found


def parameters(text: str) -> set[tuple[str, str | None]]:
    return {(name, spec) for _, name, spec, _ in FORMATTER.parse(text) if name is not None}


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("kind", errors.classes(), ids=lambda kind: kind.__name__)
def test_every_error_has_its_three_texts(kind, locale):
    known = texts(locale)
    for part in PARTS:
        assert all(known[f"{kind.code}.{part}"]), (locale, kind.code, part)


def test_the_catalogues_hold_the_same_texts_with_the_same_parameters():
    english = texts("en")
    for locale in LOCALES:
        told = texts(locale)
        assert told.keys() == english.keys(), locale
        for key, (text, *_) in told.items():
            assert parameters(text) == parameters(english[key][0]), (locale, key)


def test_the_catalogues_hold_nothing_that_no_class_uses():
    codes = {kind.code for kind in errors.classes()}
    codes |= {"field", "reason", "count", "console", "notice"}
    assert {key.split(".")[0] for key in texts("en")} <= codes


@pytest.mark.parametrize("locale", LOCALES)
def test_every_noun_is_declared_with_the_plural_forms_of_its_language(locale):
    told = texts(locale)
    forms = {"en": 2, "ru": 3, "uk": 3}[locale]
    for key, variants in told.items():
        if key.startswith("count."):
            assert len(variants) == forms, key
            assert all("{n}" in variant for variant in variants), key
            continue
        for _, spec in parameters(variants[0]):
            assert not spec or f"count.{spec}" in told, (key, spec)


@pytest.mark.parametrize("locale", LOCALES)
def test_plural_forms_agree_with_cldr_for_every_number(locale):
    told = messages.translator(locale)
    forms = texts(locale)["count.crystals"]
    order = {"en": ("one", "other"), "ru": ("one", "few", "many"), "uk": ("one", "few", "many")}
    rule = Locale(locale).plural_form
    for number in [*range(130), 1000, 1001, 1002, 1011, 1_000_000]:
        noun = forms[order[locale].index(rule(number))].replace("{n}", "").strip()
        assert re.fullmatch(rf"[\d\s,.]+{noun}", told.count(number, "crystals")), number


def test_the_seeds_sentence_for_a_taken_order_is_kept_word_by_word():
    error = errors.OrderAlreadyAssigned()
    assert error.detail("en") == "Order has already been assigned to another operator"
    assert error.detail("ru") == "Заявка уже взята другим оператором"
    assert error.detail("uk") == "Заявку вже взяв інший оператор"


@pytest.mark.parametrize(
    ("locale", "sentence"),
    [
        ("en", "This costs 1 crystal; you have 0 crystals."),
        ("ru", "Это стоит 1 кристалл, а у вас 0 кристаллов."),
        ("uk", "Це коштує 1 кристал, а у вас 0 кристалів."),
    ],
)
def test_facts_fill_the_sentence(locale, sentence):
    assert errors.InsufficientTokens(needed=1, available=0).detail(locale) == sentence


def test_a_missing_fact_leaves_a_plain_sentence_and_never_an_error():
    assert errors.InsufficientTokens().detail() == "Not enough crystals."
    assert errors.RateLimited().next() == ""
    assert messages.translator("en").title("brand_new_code") == "Brand new code"


def test_texts_cannot_reach_into_their_facts():
    told = messages.translator("en")
    status = "{0.__class__}{name!r:>9}"
    assert status in told.detail("job_finished", {"status": status})


def test_scripts_do_not_mix():
    latin = re.compile(r"[A-Za-z]")
    for locale in ("ru", "uk"):
        foreign = {"ru": "іїєґ", "uk": "ыэъё"}[locale]
        for key, variants in texts(locale).items():
            for word in re.findall(r"\w+", " ".join(variants).lower()):
                assert not (latin.search(word) and re.search("[а-яіїєґ]", word)), (locale, key)
                assert not set(word) & set(foreign), (locale, key, word)


@pytest.mark.parametrize(
    ("header", "locale"),
    [
        (None, "en"),
        ("", "en"),
        ("ru", "ru"),
        ("RU-ru", "ru"),
        ("uk-UA,uk;q=0.9,en;q=0.8", "uk"),
        ("en;q=0.1, ru;q=0.9", "ru"),
        ("fr, de;q=0.9", "en"),
        ("fr, uk;q=0.2", "uk"),
        ("ru;q=0", "en"),
        ("en;q=0, *", "ru"),
        ("*", "en"),
        ("ru;q=1.000, uk;q=1", "ru"),
        ("ru; q = 0.5 , uk;q=0.7", "uk"),
        ("ru;q=2", "en"),
        ("ru;q=0.1234", "en"),
        ("ru;q=abc", "en"),
        ("ru;level=1", "en"),
        ("<script>", "en"),
        ("\x00", "en"),
        (",,ru,,", "ru"),
    ],
)
def test_accept_language(header, locale):
    assert messages.negotiate(header) == locale


@given(st.text(max_size=200))
def test_no_header_breaks_the_negotiation(header):
    assert messages.negotiate(header) in LOCALES


def test_the_default_may_be_another_language():
    assert messages.negotiate("fr", default="uk") == "uk"
    assert messages.translator("fr").locale == "en"


def test_the_catalogues_are_part_of_the_package():
    folder = Path(messages.__file__).parent / "locales"
    assert {path.stem for path in folder.glob("*.po")} == set(LOCALES)


def test_every_reason_for_a_failed_job_is_told():
    told = {key.removeprefix("reason.") for key in texts("en") if key.startswith("reason.")}
    ends = {"stalled", "deadline_exceeded", "queue_deadline_exceeded", "cancelled"}
    assert story.CODES | ends <= told
