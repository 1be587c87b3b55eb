"""What the worker and a story generator say to each other; every generator speaks this.

A provider gets a `StoryRequest`, tells its text piece by piece while it comes, and either returns
the whole `Story` or raises one of three kinds of `ProviderError`: it is never both, and half a text
is never returned as a whole one.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from holdfast import messages

Language: TypeAlias = Literal["en", "ru", "uk"]
OnText: TypeAlias = Callable[[str], Awaitable[None] | None]


class Signs:
    """Whether this attempt may show signs of life; the worker reads it, a provider sets it.

    The heartbeat comes from a task that knows nothing of the stream, so a provider that plays
    dead (`!stall` in development) has to say so. While `muted`, the worker sends neither heartbeat
    nor progress for the job, exactly as if its process had been stopped.
    """

    __slots__ = ("_muted",)

    def __init__(self) -> None:
        self._muted = False

    @property
    def muted(self) -> bool:
        """Whether to be silent now."""
        return self._muted

    def mute(self) -> None:
        """Send no sign of life from now on."""
        self._muted = True

    def unmute(self) -> None:
        """Go on as usual."""
        self._muted = False


@dataclass(frozen=True, slots=True)
class StoryRequest:
    """One story that somebody paid for.

    `prompt` is the person's own text, `words` the wanted length (50-5,000), `attempt` counts from
    1 and makes another attempt another story.
    """

    prompt: str
    language: Language = "en"
    words: int = 500
    attempt: int = 1
    signs: Signs = field(default_factory=Signs, compare=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one story used, in the provider's tokens; 0 where it counts none."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Story:
    """A finished story.

    `text` is what the person gets. The pieces told on the way, put together, begin with it: only
    a `partial` story, which the provider ended at its length limit, is cut back to the end of its
    last whole sentence. `words` counts `text`; `model` names what wrote it.
    """

    text: str
    words: int
    model: str
    usage: Usage
    partial: bool = False


class StoryProvider(Protocol):
    """A story generator."""

    name: str

    async def write(self, request: StoryRequest, *, deadline: float, on_text: OnText) -> Story:
        """Write one story within `deadline` seconds, telling each piece to `on_text`.

        `on_text` may be a plain or an async function and is waited for; what it raises ends the
        story and comes out unchanged. Cancelling the task stops the work and closes its connection.

        Raises:
            Rejected: this request will never succeed.
            Overloaded: not this time; a later attempt may.
            OutOfService: no request can succeed before somebody has put the account right.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections; no call may be under way."""
        ...


# Every code has a sentence in the catalogues, under `reason.`.
CODES = frozenset(
    {
        "failed_on_request",
        "provider_cut",
        "provider_failed",
        "provider_key_missing",
        "provider_key_refused",
        "provider_misconfigured",
        "provider_out_of_credit",
        "provider_overloaded",
        "provider_rate_limited",
        "provider_refused",
        "provider_rejected",
        "provider_silent",
        "provider_slow",
        "provider_unreachable",
        "story_empty",
        "story_incomplete",
        "story_too_long",
    }
)


class ProviderError(Exception):
    """Why there is no story.

    `code` is stable, one of CODES; `detail` is its sentence: both may be shown to the customer.
    `reason` is the provider's own words, for the log only. `retry_after` is the provider's wish in
    seconds, unbounded: whoever retries decides how much of it to grant.
    """

    permanent = False

    def __init__(self, code: str, *, reason: str = "", retry_after: float | None = None) -> None:
        self.code = code
        self.detail = messages.translator().reason(code)
        self.reason = reason[:500]
        self.retry_after = retry_after
        super().__init__(code)

    def __str__(self) -> str:
        return f"{self.code}: {self.reason or self.detail}"


class Rejected(ProviderError):
    """Final: this request will fail every time. Fail the job and refund."""

    permanent = True


class Overloaded(ProviderError):
    """Not now: busy, unreachable, cut off, silent, too slow, garbled. Retry while attempts last."""


class OutOfService(ProviderError):
    """The account with the provider is at fault, not the request: no credit, or no valid key.

    Pause this provider's jobs, alert once, keep the jobs, count no attempt and charge nobody.
    """


async def tell(on_text: OnText, piece: str) -> None:
    """Hand one piece of text over, whether `on_text` is a plain or an async function."""
    answer = on_text(piece)
    if inspect.isawaitable(answer):
        await answer


def count_words(text: str) -> int:
    """Count the words a reader would: a dash or an ornament between spaces is none."""
    return sum(1 for part in text.split() if any(char.isalnum() for char in part))


_SENTENCE_END = re.compile(r"""[.!?\u2026]+["'\u00bb\u201d\u2019)\]]*(?=\s|$)""")


def whole_sentences(text: str) -> str:
    """Cut a text back to the end of its last whole sentence; '' where there is none."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else ""


def storable(text: str) -> str:
    """Take out what PostgreSQL's text cannot hold: NUL and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
