"""Stories by Claude, over Anthropic's own SDK.

The SDK is used for the wire only: its retries are off (the queue retries, with a lease and a limit)
and its notion of success is not ours. It returns a stream that was cut before `message_stop` like
a finished one, and lets errors of the connection out of a running stream as they are; so this file
reads the events itself and believes a story only with a stop reason and a `message_stop`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

import anthropic
import httpx2
from anthropic.types import RawMessageStreamEvent

from holdfast.systems.providers.anthropic_failures import UNUSABLE, TooMuch, failure_of
from holdfast.systems.providers.story import (
    OnText,
    OutOfService,
    Overloaded,
    Rejected,
    Story,
    StoryRequest,
    Usage,
    count_words,
    storable,
    tell,
    whole_sentences,
)

DEFAULT_MODEL = "claude-sonnet-5-5"

_LANGUAGES = {"en": "English", "ru": "Russian", "uk": "Ukrainian"}
_TOKENS_PER_WORD = {"en": 2, "ru": 5, "uk": 5}  # twice what is usual: the limit is for runaways
_TOKENS_FOR_THOUGHT = 8_000  # current models may think first, and that counts as output
_BYTES_MOST = 64 * 1024 * 1024  # of one answer; an event has no end that must come
_SYSTEM = """You write stories for readers of all ages. Write one whole story in {language}, of \
about {words} words (within ten per cent), about what the user asks for. Answer with the story \
alone: plain text, paragraphs separated by an empty line, no heading, no remarks before or after. \
Bring the story to its end within that length."""


class AnthropicProvider:
    """Writes stories with Anthropic's Messages API, streaming."""

    name = "anthropic"

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        model: str = DEFAULT_MODEL,
        partial_share: float | None = 0.8,
        silence: float = 20.0,
        patience: float = 120.0,
        connect: float = 10.0,
    ) -> None:
        """Prepare a client; nothing is sent before the first story.

        Args:
            api_key: the key; without one every story is `OutOfService`. The SDK would look into
                the environment and the profiles of whoever runs this, and spend their money.
            base_url: another address than Anthropic's own.
            model: the model's id.
            partial_share: accept a story that ran into the length limit when its whole sentences
                hold this share of the wanted words; None never accepts one.
            silence: seconds without a byte after which a connection counts as dead.
            patience: seconds without an event, pings not counted.
            connect: seconds to connect.

        Raises:
            ValueError: `base_url` is not a URL.
        """
        timeout = anthropic.Timeout(silence, connect=connect)
        key = (api_key or "").strip()
        self._has_key = bool(key)
        try:
            self._client = anthropic.AsyncAnthropic(
                api_key=key or "none",
                base_url=base_url or None,
                max_retries=0,
                timeout=timeout,
                default_headers={"Accept-Encoding": "identity"},
                http_client=anthropic.DefaultAsyncHttpxClient(
                    timeout=timeout, event_hooks={"response": [_bound]}
                ),
            )
        except httpx2.InvalidURL as error:
            raise ValueError(f"ANTHROPIC_BASE_URL is not a URL: {base_url!r} ({error})") from None
        self._model = model
        self._partial_share = partial_share
        self._patience = patience

    async def write(self, request: StoryRequest, *, deadline: float, on_text: OnText) -> Story:
        """Write one story; see `StoryProvider.write`."""
        if not self._has_key:
            raise OutOfService("provider_key_missing")
        draft = _Draft(most=20_000 + 40 * request.words)
        try:
            async with asyncio.timeout(deadline) as overall:
                async with aclosing(self._events(request)) as events:
                    async for event in events:
                        piece = draft.take(event)
                        if piece:
                            await tell(on_text, piece)
                        if draft.ended:
                            break
        except TimeoutError:
            if overall.expired():
                raise Overloaded("provider_slow", reason=f"over {deadline:g} s") from None
            raise
        return self._judge(draft, request.words)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _events(self, request: StoryRequest) -> AsyncGenerator[RawMessageStreamEvent, None]:
        """Yield the stream's events; whatever goes wrong in the SDK comes out as ProviderError."""
        words, language = request.words, request.language
        try:
            async with asyncio.timeout(self._patience):
                stream = await self._client.messages.create(
                    model=self._model,
                    max_tokens=words * _TOKENS_PER_WORD[language] + _TOKENS_FOR_THOUGHT,
                    system=_SYSTEM.format(language=_LANGUAGES[language], words=words),
                    messages=[{"role": "user", "content": request.prompt}],
                    stream=True,
                )
            async with stream:
                kind = stream.response.headers.get("content-type", "")
                if not kind.startswith("text/event-stream"):
                    raise Overloaded("provider_failed", reason=f"an answer of type {kind!r}")
                while True:
                    async with asyncio.timeout(self._patience):
                        event = await anext(stream, None)
                    if event is None:
                        return
                    yield event
        except TimeoutError:
            raise Overloaded("provider_silent", reason=f"{self._patience:g} s of pings") from None
        except UNUSABLE as error:
            raise failure_of(error) from error

    def _judge(self, draft: _Draft, words: int) -> Story:
        """Decide whether what came is a story."""
        if not draft.ended or draft.stop_reason is None:
            raise Overloaded("provider_cut", reason="the stream ended before message_stop")
        text = draft.text.rstrip()
        match draft.stop_reason:
            case "end_turn" | "stop_sequence":
                partial = False
            case "max_tokens" | "model_context_window_exceeded":
                partial = True
                text = whole_sentences(text)
                got = count_words(text)
                if self._partial_share is None or got < self._partial_share * words:
                    raise Overloaded("story_incomplete", reason=f"{got} of {words} words")
            case "refusal":
                raise Rejected("provider_refused", reason="the model's stop reason is refusal")
            case other:
                raise Overloaded("provider_failed", reason=f"unknown stop reason {other!r}")
        if not count_words(text):
            raise Overloaded("story_empty", reason=f"stop reason {draft.stop_reason}")
        return Story(text, count_words(text), draft.model or self._model, draft.usage, partial)


@dataclass
class _Draft:
    """What has come so far; `most` is its limit in characters."""

    most: int
    ended: bool = False
    model: str = ""
    stop_reason: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    length: int = 0
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def usage(self) -> Usage:
        return Usage(self.input_tokens, self.output_tokens)

    def take(self, event: RawMessageStreamEvent) -> str:
        """Note one event and return its text, '' where it has none."""
        try:
            piece = storable(self._note(event))
        except (AttributeError, TypeError) as error:  # the SDK builds events without checking
            raise Overloaded("provider_failed", reason=f"an event of no known form: {error}") from (
                error
            )
        if not self.pieces:
            piece = piece.lstrip()
        if piece:
            self.pieces.append(piece)
            self.length += len(piece)
        if self.length > self.most:
            raise Overloaded("story_too_long", reason=f"over {self.most} characters")
        return piece

    def _note(self, event: RawMessageStreamEvent) -> str:
        match event.type:
            case "message_start":
                self.model = event.message.model
                self.input_tokens = event.message.usage.input_tokens
            case "content_block_start" if event.content_block.type == "text":
                return event.content_block.text
            case "content_block_delta" if event.delta.type == "text_delta":
                return event.delta.text
            case "message_delta":
                self.stop_reason = event.delta.stop_reason
                self.output_tokens = event.usage.output_tokens
            case "message_stop":
                self.ended = True
            case _:
                pass  # thoughts, and what later versions of the API may add
        return ""


class _Bounded(httpx2.AsyncByteStream):
    """A response's bytes up to a limit, so that no answer can fill the worker's memory."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = _BYTES_MOST
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise TooMuch(f"more than {_BYTES_MOST} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream)
