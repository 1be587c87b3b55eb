"""The offline grammar: the wanted length, the right forms, and trouble only where it is allowed."""

from __future__ import annotations

import asyncio
import re
import time
import tomllib
from importlib import resources
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.systems.providers import OfflineProvider, StoryProvider, story_provider
from holdfast.systems.providers.grammar import compose
from holdfast.systems.providers.story import (
    Language,
    Overloaded,
    Rejected,
    Signs,
    Story,
    StoryRequest,
    count_words,
    storable,
)

LANGUAGES: tuple[Language, ...] = ("en", "ru", "uk")
FOREIGN = {"en": r"[а-яёєіїґ]", "ru": r"[a-zєіїґ]", "uk": r"[a-zёъыэ]"}


async def told(
    request: StoryRequest, *, dev: bool = False, deadline: float = 20.0
) -> tuple[Story, list[str]]:
    pieces: list[str] = []
    provider: StoryProvider = OfflineProvider(dev=dev)
    story = await provider.write(request, deadline=deadline, on_text=pieces.append)
    return story, pieces


@given(
    prompt=st.text(max_size=300),
    language=st.sampled_from(LANGUAGES),
    words=st.integers(50, 5000),
    attempt=st.integers(1, 5),
)
@settings(max_examples=300, deadline=None)
def test_the_length_is_the_wanted_one_for_any_prompt(
    prompt: str, language: Language, words: int, attempt: int
) -> None:
    pieces = compose(prompt, language, words, f"{attempt}")
    text = "".join(pieces)
    assert abs(count_words(text) - words) <= words / 10
    assert text == text.strip()
    assert text == storable(text)
    assert "{" not in text.replace(prompt, "") or "{" in prompt


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("words", [50, 51, 75, 119, 120, 500, 5000])
def test_the_length_holds_at_the_edges_for_many_prompts(language: Language, words: int) -> None:
    for n in range(40):
        text = "".join(compose(f"{n} very long words " * n, language, words, str(n)))
        assert abs(count_words(text) - words) <= words / 10


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_story_is_about_its_prompt_and_comes_sentence_by_sentence(
    language: Language,
) -> None:
    story, pieces = await told(StoryRequest("Blue №7 ёж є", language=language, words=400))
    assert "Blue №7 ёж є" in story.text
    assert "".join(pieces) == story.text
    assert story.words == count_words(story.text)
    assert (story.model, story.partial) == ("offline grammar", False)
    assert len(pieces) > 30
    for piece in pieces:
        assert re.search(r"[.!?…][»”]?\s*$", piece), piece
        assert piece[0] in "«“" or piece[0].isupper(), piece


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_same_attempt_is_the_same_story_and_another_is_another(
    language: Language,
) -> None:
    def request(attempt: int, prompt: str = "A fox") -> StoryRequest:
        return StoryRequest(prompt, language=language, words=300, attempt=attempt)

    first, again, second, other = [
        (await told(one))[0].text
        for one in (request(1), request(1), request(2), request(1, "A hen"))
    ]
    assert first == again
    assert len({first, second, other}) == 3


@pytest.mark.parametrize("language", LANGUAGES)
def test_only_letters_of_the_language_are_in_its_grammar(language: Language) -> None:
    text = "".join(compose("7", language, 5000, "letters")).lower()
    assert not re.findall(FOREIGN[language], text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_long_story_does_not_repeat_itself_much(language: Language) -> None:
    pieces = [piece.strip() for piece in compose("A fox", language, 1000, "1")]
    assert len(set(pieces)) > 0.8 * len(pieces)
    assert all(one != two for one, two in pairwise(pieces))


def grammar(language: Language) -> dict[str, Any]:
    place = resources.files("holdfast.systems.providers") / "grammars" / f"{language}.toml"
    return tomllib.loads(place.read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sign_in_the_grammar_has_words_and_every_word_is_used(language: Language) -> None:
    made = grammar(language)
    cast = {
        "hero": made["people"],
        "friend": made["people"],
        "stranger": made["strangers"],
        "thing": made["things"],
        "place": made["places"],
        "next": made["places"],
    }
    used: set[str] = {"theme"}
    forms: dict[str, set[str]] = {"people": {"nom"}, "strangers": set(), "things": set()}
    for beat, sentences in made["beats"].items():
        for sentence in sentences:
            assert re.search(r"[.!?]”?$", sentence), (beat, sentence)
            for name, form, by_sex in re.findall(r"\{(\w+)(?:\.(\w+))?(\?[^{}]*)?\}", sentence):
                used.add(name)
                if name in cast:
                    need = "sex" if by_sex else form or "nom"
                    assert all(need in one for one in cast[name]), (sentence, need)
                    group = {"hero": "people", "friend": "people"}.get(name, f"{name}s")
                    forms.setdefault(group, set()).add(need)
                else:
                    assert name in made["slots"] or name == "theme", sentence
            assert sentence.count("{") == sentence.count("}")
    assert set(made["slots"]) <= used, set(made["slots"]) - used
    for group, needed in forms.items():
        if group in made:
            assert set(made[group][0]) - {"sex"} <= needed, (group, needed)
    assert all(len(sentences) == len(set(sentences)) for sentences in made["beats"].values())


def test_the_three_grammars_have_the_same_beats() -> None:
    beats = [{beat: len(of) for beat, of in grammar(one)["beats"].items()} for one in LANGUAGES]
    assert beats[0].keys() == beats[1].keys() == beats[2].keys()
    assert all(min(one.values()) >= 5 for one in beats)


@pytest.mark.parametrize(
    "prompt", ["", "   ", "\n\0\t", "«»“”", "{hero} {theme} {nothing}", "x" * 4000, "…", "🦊"]
)
@pytest.mark.parametrize("language", LANGUAGES)
def test_odd_prompts_are_only_text(prompt: str, language: Language) -> None:
    text = "".join(compose(prompt, language, 200, "1"))
    assert "\0" not in text
    assert "«»" not in text
    assert "“”" not in text
    assert abs(count_words(text) - 200) <= 20
    if "{" in prompt:
        assert prompt in text


async def test_fail_is_final_and_tells_nothing() -> None:
    pieces: list[str] = []
    with pytest.raises(Rejected) as caught:
        await OfflineProvider(dev=True).write(
            StoryRequest("!fail a fox"), deadline=5, on_text=pieces.append
        )
    assert caught.value.permanent
    assert caught.value.code == "failed_on_request"
    assert pieces == []


async def test_slow_and_fail_fails_half_way() -> None:
    pieces: list[str] = []
    with pytest.raises(Rejected):
        await OfflineProvider(dev=True).write(
            StoryRequest("!slow 0.2 !fail a fox", words=200), deadline=5, on_text=pieces.append
        )
    assert 50 < count_words("".join(pieces)) < 150


async def test_slow_spreads_the_story_and_leaves_the_signs_alone() -> None:
    times: list[float] = []
    signs = Signs()

    def note(_: str) -> None:
        times.append(time.monotonic())
        assert not signs.muted

    begun = time.monotonic()
    story = await OfflineProvider(dev=True).write(
        StoryRequest("!slow 0.5 a fox", words=200, signs=signs), deadline=20, on_text=note
    )
    assert time.monotonic() - begun >= 0.5
    assert times[len(times) // 2] - begun >= 0.2
    assert "a fox" in story.text
    assert "!slow" not in story.text


async def test_stall_mutes_the_signs_and_then_writes_as_if_nothing_had_been() -> None:
    signs = Signs()
    pieces: list[str] = []
    provider = OfflineProvider(dev=True)
    request = StoryRequest("!stall 0.3 a fox", words=100, signs=signs)
    begun = time.monotonic()
    task = asyncio.create_task(provider.write(request, deadline=20, on_text=pieces.append))
    async with asyncio.timeout(10):
        while not signs.muted:
            await asyncio.sleep(0)
        assert pieces == []
        story = await task
    assert time.monotonic() - begun >= 0.3
    assert not signs.muted
    assert "a fox" in story.text


async def test_a_stalled_story_that_is_cancelled_unmutes() -> None:
    signs = Signs()
    request = StoryRequest("!stall 9999", signs=signs)
    provider = OfflineProvider(dev=True)
    task = asyncio.create_task(provider.write(request, deadline=20, on_text=lambda _: None))
    async with asyncio.timeout(10):
        while not signs.muted:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not signs.muted


@pytest.mark.parametrize("prompt", ["!stall 60 a fox", "!slow 60 a fox"])
async def test_the_deadline_holds_for_commands_too(prompt: str) -> None:
    signs = Signs()
    with pytest.raises(Overloaded) as caught:
        await told(StoryRequest(prompt, signs=signs), dev=True, deadline=0.2)
    assert caught.value.code == "provider_slow"
    assert not signs.muted


@pytest.mark.parametrize(
    ("prompt", "dev"),
    [
        ("!fail a fox", False),
        ("!stall 60 a fox", False),
        ("!failure of a fox", True),
        ("!stall a fox", True),
        ("!slow down, fox", True),
        ("!slow -5 a fox", True),
        ("A fox that says !fail", True),
    ],
)
async def test_what_is_no_command_is_a_prompt(prompt: str, dev: bool) -> None:
    async with asyncio.timeout(5):
        story, _ = await told(StoryRequest(prompt, words=300), dev=dev)
    assert prompt in story.text


async def test_a_pace_is_kept() -> None:
    begun = time.monotonic()
    provider = OfflineProvider(words_per_second=200)
    await provider.write(StoryRequest("A fox", words=60), deadline=20, on_text=lambda _: None)
    assert time.monotonic() - begun >= 0.25


async def test_many_at_once_share_the_loop() -> None:
    """One story of 5,000 words must not hold the others up until its end."""
    order: list[int] = []
    provider = OfflineProvider()

    async def write(n: int, words: int) -> None:
        request = StoryRequest("A fox", words=words)
        await provider.write(request, deadline=20, on_text=lambda _: None)
        order.append(n)

    await asyncio.gather(write(1, 5000), write(2, 50))
    assert order == [2, 1]


async def test_generators_are_made_by_name() -> None:
    offline = story_provider("offline", dev=True)
    claude = story_provider("anthropic", api_key="k", base_url="http://127.0.0.1:9", silence=1)
    assert (offline.name, claude.name) == ("offline", "anthropic")
    for provider in (offline, claude):
        await provider.aclose()
    with pytest.raises(ValueError, match="'gpt'"):
        story_provider("gpt")
