"""The protocol's own promises: codes with sentences, errors that travel, texts that can be kept."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from holdfast import messages
from holdfast.systems.providers.story import (
    CODES,
    Overloaded,
    Rejected,
    Signs,
    StoryRequest,
    count_words,
    storable,
    whole_sentences,
)


@pytest.mark.parametrize("locale", messages.LOCALES)
def test_every_code_has_its_own_sentence_in_every_language(locale: str) -> None:
    say = messages.translator(locale).reason
    sentences = {say(code) for code in CODES}
    assert len(sentences) == len(CODES)
    assert say("failed") not in sentences


def test_only_declared_codes_are_raised() -> None:
    folder = resources.files("holdfast.systems.providers")
    files = [one for one in folder.iterdir() if one.name.endswith(".py") and one.name != "voice.py"]
    texts = [one.read_text() for one in files]
    raised = re.findall(r"(?:Rejected|Overloaded|OutOfService)\(\s*\"(\w+)\"", "".join(texts))
    assert set(raised) == CODES


def test_a_failure_says_what_may_be_shown_and_what_is_for_the_log() -> None:
    error = Overloaded("provider_rate_limited", reason="429 " + "x" * 9000, retry_after=86400)
    assert error.detail == messages.translator("en").reason("provider_rate_limited")
    assert len(error.reason) == 500
    assert error.retry_after == 86400
    assert (Overloaded.permanent, Rejected.permanent) == (False, True)


def test_every_request_has_signs_of_its_own() -> None:
    one, other = StoryRequest("A fox"), StoryRequest("A fox")
    one.signs.mute()
    assert (one.signs.muted, other.signs.muted) == (True, False)
    assert one == other
    one.signs.unmute()
    assert not one.signs.muted
    assert Signs().muted is False


def test_words_are_counted_as_a_reader_would() -> None:
    assert count_words("The fox — a grey one — didn’t sleep.\n\n* * *\n") == 7
    assert count_words("") == 0


def test_a_text_is_cut_back_to_whole_sentences() -> None:
    assert whole_sentences("One. Two! «Three?» Fou") == "One. Two! «Three?»"
    assert whole_sentences("He has 3.14 of") == ""
    assert whole_sentences("“Yes.” And") == "“Yes.”"


def test_what_postgresql_cannot_hold_is_taken_out() -> None:
    assert storable("a\0b") == "ab"
    assert storable("\ud83e\udd8a!") == "\U0001f98a!"
    assert storable("\ud83e!") == "\ufffd!"
