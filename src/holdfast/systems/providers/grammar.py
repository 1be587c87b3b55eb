"""A small grammar that writes a readable story about a prompt, in English, Russian or Ukrainian.

Not a language model and not meant as one: a cast, a road, and beats drawn like cards from
`grammars/<language>.toml`. Forms of words are written there by hand, so that they are right.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any, TypeAlias

from holdfast.systems.providers.story import Language, count_words

_Forms: TypeAlias = dict[str, str]  # of a word: its cases and its sex

# {name}, {name.form}, or {name?one|other} by the sex of that name
_SLOT = re.compile(r"\{(\w+)(?:\.(\w+)|(\?)([^|{}]*)\|([^|{}]*))?\}")
_QUOTES = re.compile(r"[\"«»„“”]")

# The paragraphs of one scene: its beats in order. A story is scene after scene along a road.
_SCENE = (
    ("arrive", "setting", "setting"),
    ("meet", "ask", "answer"),
    ("trouble", "act", "act", "turn"),
    ("talk", "reflect"),
    ("act", "quiet", "leave"),
)
_RECALL_EVERY = 3  # scenes: the prompt comes up again
_COMPANY_FROM = 120  # words: shorter stories have no room to introduce the friend


def compose(prompt: str, language: Language, words: int, seed: str) -> list[str]:
    """Write a story of about so many words; equal arguments give equal stories.

    Returns sentences with the space or empty line that follows them: joined, they are the text.
    The length is within a tenth of `words` from 50 words on.
    """
    return _Teller(_load(language), random.Random(seed), prompt, words).tell()


@cache
def _load(language: Language) -> dict[str, Any]:
    place = resources.files(__package__) / "grammars" / f"{language}.toml"
    return tomllib.loads(place.read_text(encoding="utf-8"))


class _Teller:
    """One telling: who is in it, what has been used, how many words are left."""

    def __init__(
        self, grammar: dict[str, Any], rng: random.Random, prompt: str, words: int
    ) -> None:
        self._grammar = grammar
        self._rng = rng
        self._words = words
        opening, closing = grammar["quote"]
        theme = _excerpt(prompt, 6 if words < _COMPANY_FROM else 12) or grammar["theme"]
        self._theme = f"{opening}{theme}{closing}"
        self._decks: dict[str, _Deck] = {}
        self._cast: dict[str, _Forms] = {"hero": rng.choice(grammar["people"])}
        # The friend is of the other sex: "both" has two forms in the Slavic languages.
        self._cast["friend"] = rng.choice(
            [one for one in grammar["people"] if one["sex"] != self._cast["hero"]["sex"]]
        )
        self._cast["thing"] = rng.choice(grammar["things"])
        self._cast["next"] = self._draw("places", grammar["places"])
        self._travel()

    def tell(self) -> list[str]:
        """Write it: the end first, so that the middle can fill what is left."""
        ending = self._fitting("closing", self._words * 3 // 10) or self._sentence("closing")
        left = self._words - count_words(ending)
        paragraphs: list[list[str]] = [[]]
        for beat, begins in self._beats():
            if begins and paragraphs[-1]:
                paragraphs.append([])
            sentence = self._fitting(beat, left)
            if not sentence:
                break
            paragraphs[-1].append(self._after(sentence, paragraphs[-1]))
            left -= count_words(sentence)
        while left > self._words // 25:  # too little for the next beat: small ones fill it
            sentence = self._fitting("quiet", left)
            if not sentence:
                break
            paragraphs[-1].append(sentence)
            left -= count_words(sentence)
        paragraphs.append([ending])
        return _joined([paragraph for paragraph in paragraphs if paragraph])

    def _beats(self) -> Iterator[tuple[str, bool]]:
        """Yield beats without end, each with whether a paragraph begins there."""
        yield "opening", True
        yield "premise", False
        if self._words >= _COMPANY_FROM:
            yield "company", False
        scene = 0
        while True:
            scene += 1
            for paragraph in _SCENE:
                for n, beat in enumerate(paragraph):
                    yield beat, n == 0
            if scene % _RECALL_EVERY == 0:
                yield "recall", False
            self._travel()

    def _travel(self) -> None:
        """Go on to the next place and meet somebody else there."""
        self._cast["place"] = self._cast["next"]
        self._cast["next"] = self._draw("places", self._grammar["places"])
        self._cast["stranger"] = self._draw("strangers", self._grammar["strangers"])

    def _draw(self, deck: str, cards: list[Any]) -> Any:
        return self._decks.setdefault(deck, _Deck(cards)).draw(self._rng)

    def _sentence(self, beat: str) -> str:
        return self._capital(self._filled(self._draw(beat, self._grammar["beats"][beat])))

    def _after(self, sentence: str, before: list[str]) -> str:
        """Say he or she of the hero whom the sentence before began with, too."""
        hero = self._cast["hero"]
        name = f"{hero['nom']} "
        if before and before[-1].startswith(name) and sentence.startswith(name):
            pronoun: str = self._grammar["pronoun"][hero["sex"]]
            return f"{pronoun} {sentence.removeprefix(name)}"
        return sentence

    def _fitting(self, beat: str, most: int) -> str:
        """Return a sentence of at most so many words, or '' where a whole deck has none."""
        for _ in self._grammar["beats"][beat]:
            sentence = self._sentence(beat)
            if count_words(sentence) <= most:
                return sentence
        return ""

    def _filled(self, template: str) -> str:
        """Put words in for the signs; what is put in is never read as a template again."""

        def word(found: re.Match[str]) -> str:
            name, form, by_sex, he, she = found.groups(default="")
            if name == "theme":
                return self._theme
            if name not in self._cast:
                return str(self._draw(f"slot {name}", self._grammar["slots"][name]))
            one = self._cast[name]
            if by_sex:
                return he if one["sex"] == "m" else she
            return one[form or "nom"]

        return _SLOT.sub(word, template)

    def _capital(self, sentence: str) -> str:
        at = 1 if sentence[0] in self._grammar["quote"] else 0
        return sentence[:at] + sentence[at].upper() + sentence[at + 1 :]


class _Deck:
    """Cards that all come once before one comes again, and none twice running."""

    def __init__(self, cards: list[Any]) -> None:
        self._cards = cards
        self._left: list[Any] = []
        self._last: Any = None

    def draw(self, rng: random.Random) -> Any:
        if not self._left:
            self._left = rng.sample(self._cards, len(self._cards))
            if self._left[-1] == self._last:
                self._left.insert(0, self._left.pop())
        self._last = self._left.pop()
        return self._last


def _excerpt(prompt: str, words: int) -> str:
    """Shorten a prompt to what can stand between quotation marks in a sentence."""
    plain = "".join(char if char.isprintable() else " " for char in _QUOTES.sub("", prompt))
    parts = plain.split()
    text = " ".join(parts[:words])[:100].strip(" .,;:")
    return text + "…" if text and (len(parts) > words or len(text) == 100) else text


def _joined(paragraphs: list[list[str]]) -> list[str]:
    pieces = [f"{sentence} " for paragraph in paragraphs for sentence in paragraph]
    at = -1
    for paragraph in paragraphs[:-1]:
        at += len(paragraph)
        pieces[at] = pieces[at].rstrip() + "\n\n"
    pieces[-1] = pieces[-1].rstrip()
    return pieces
