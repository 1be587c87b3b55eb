"""The real SDK against a server that misbehaves: never half a story as a whole one."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests import messages_api as api_of
from tests.messages_api import MODEL, Behaviour, MessagesApi, tale

from holdfast.systems.providers import anthropic as module
from holdfast.systems.providers.anthropic import AnthropicProvider
from holdfast.systems.providers.story import (
    OutOfService,
    Overloaded,
    ProviderError,
    Rejected,
    Story,
    StoryRequest,
    count_words,
)

REQUEST = StoryRequest("A lighthouse that is afraid of the dark", words=100)


@pytest.fixture
async def api() -> AsyncIterator[MessagesApi]:
    async with MessagesApi() as server:
        yield server


class Reader:
    """A provider on the scripted server, and what it told on the way."""

    def __init__(self, url: str, **options: Any) -> None:
        self.provider = AnthropicProvider(api_key="sk-test", base_url=url, **options)
        self.pieces: list[str] = []

    async def read(self, request: StoryRequest = REQUEST, *, deadline: float = 20.0) -> Story:
        return await self.provider.write(request, deadline=deadline, on_text=self.pieces.append)

    async def failure(self, **how: Any) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            await self.read(**how)
        assert caught.value.detail.endswith(".")
        return caught.value

    async def __aenter__(self) -> Reader:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.provider.aclose()


@pytest.fixture
async def reader(api: MessagesApi) -> AsyncIterator[Reader]:
    async with Reader(api.url) as one:
        yield one


def is_failure(error: ProviderError, kind: type[ProviderError], code: str) -> None:
    assert (type(error), error.code) == (kind, code), error


async def test_a_story_is_delivered_whole(api: MessagesApi, reader: Reader) -> None:
    request = StoryRequest("Про лисицю", language="uk", words=120)
    story = await reader.read(request)

    assert story.text == tale(120) == "".join(reader.pieces)
    assert (story.words, story.model, story.partial) == (120, MODEL, False)
    assert (story.usage.input_tokens, story.usage.output_tokens) == (25, 321)
    assert len(reader.pieces) > 10
    sent = api.requests[0]
    assert sent.path == "/v1/messages"
    assert sent.headers["authorization"] == "Bearer sk-test"
    assert sent.body["stream"] is True
    assert sent.body["messages"] == [{"role": "user", "content": "Про лисицю"}]
    assert "Ukrainian" in sent.body["system"]
    assert "120 words" in sent.body["system"]
    assert sent.body["max_tokens"] > 120 * 4


async def test_an_async_listener_is_waited_for(reader: Reader) -> None:
    told: list[str] = []

    async def slowly(piece: str) -> None:
        await asyncio.sleep(0)
        told.append(piece)

    story = await reader.provider.write(REQUEST, deadline=20, on_text=slowly)
    assert "".join(told) == story.text


async def test_what_the_listener_raises_comes_out_unchanged(
    api: MessagesApi, reader: Reader
) -> None:
    def stop(_: str) -> None:
        raise ValueError("the lease is lost")

    api.script(api_of.silent(after="Once"))
    with pytest.raises(ValueError, match="the lease is lost"):
        await reader.provider.write(REQUEST, deadline=20, on_text=stop)
    async with asyncio.timeout(5):
        await api.requests[0].ended.wait()


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(api_of.cut_before_stop(), id="politely"),
        pytest.param(api_of.cut_before_stop(politely=False), id="between events"),
        pytest.param(api_of.cut_after_reason(), id="after the stop reason"),
        pytest.param(api_of.cut_mid_event(), id="mid-event"),
        pytest.param(api_of.cut_mid_event(reset=True), id="reset"),
        pytest.param(api_of.story(stop_reason=None), id="no stop reason"),
    ],
)
async def test_a_cut_stream_is_not_a_story(
    api: MessagesApi, reader: Reader, cut: Behaviour
) -> None:
    api.script(cut)
    error = await reader.failure()
    is_failure(error, Overloaded, "provider_cut")
    assert not error.permanent


async def test_the_sdk_alone_takes_a_cut_stream_for_a_success(api: MessagesApi) -> None:
    """Why the provider looks for `message_stop` itself; when this fails, it may stop doing so."""
    api.script(api_of.cut_before_stop("Half a story"))
    client = AsyncAnthropic(api_key="k", base_url=api.url, max_retries=0)
    async with (
        client,
        client.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "?"}]
        ) as stream,
    ):
        message = await stream.get_final_message()
        text = await stream.get_final_text()
    assert message.stop_reason is None
    assert text == "Half a story"


@pytest.mark.parametrize(
    ("kind", "message", "expected", "code"),
    [
        ("overloaded_error", "Overloaded", Overloaded, "provider_overloaded"),
        ("rate_limit_error", "Slow down", Overloaded, "provider_rate_limited"),
        ("api_error", "Internal", Overloaded, "provider_failed"),
        ("timeout_error", "Too long", Overloaded, "provider_failed"),
        ("a_new_error", "Who knows", Overloaded, "provider_failed"),
        ("invalid_request_error", "No", Rejected, "provider_rejected"),
        ("invalid_request_error", api_of.CREDIT, OutOfService, "provider_out_of_credit"),
        ("billing_error", "Pay", OutOfService, "provider_out_of_credit"),
        ("permission_error", "No", OutOfService, "provider_key_refused"),
    ],
)
async def test_an_error_event_in_a_stream_that_began_with_200(
    api: MessagesApi,
    reader: Reader,
    kind: str,
    message: str,
    expected: type[ProviderError],
    code: str,
) -> None:
    api.script(api_of.error_event(kind, message))
    error = await reader.failure()
    is_failure(error, expected, code)
    assert message in error.reason
    assert message not in error.detail


@pytest.mark.parametrize(
    ("behaviour", "expected", "code"),
    [
        (api_of.overloaded(), Overloaded, "provider_overloaded"),
        (api_of.status(503), Overloaded, "provider_overloaded"),
        (api_of.status(500), Overloaded, "provider_failed"),
        (api_of.status(502), Overloaded, "provider_failed"),
        (api_of.status(504, "timeout_error"), Overloaded, "provider_failed"),
        (api_of.status(408), Overloaded, "provider_failed"),
        (api_of.status(409, "conflict_error"), Overloaded, "provider_failed"),
        (api_of.status(400, "invalid_request_error"), Rejected, "provider_rejected"),
        (api_of.status(413, "request_too_large"), Rejected, "provider_rejected"),
        (api_of.no_credit(400), OutOfService, "provider_out_of_credit"),
        (api_of.no_credit(402), OutOfService, "provider_out_of_credit"),
        (
            api_of.status(
                400,
                "invalid_request_error",
                "You have reached your specified API usage limits. You will regain access on …",
            ),
            OutOfService,
            "provider_out_of_credit",
        ),
        (
            api_of.status(
                429,
                "rate_limit_error",
                details={"error_code": "contract_spend_limit_reached"},
            ),
            OutOfService,
            "provider_out_of_credit",
        ),
        (
            api_of.status(
                400,
                "invalid_request_error",
                details={"error_code": "organization_on_hold"},
            ),
            OutOfService,
            "provider_key_refused",
        ),
        (api_of.status(401, "authentication_error"), OutOfService, "provider_key_refused"),
        (api_of.status(403, "permission_error"), OutOfService, "provider_key_refused"),
        (api_of.status(404, "not_found_error"), OutOfService, "provider_misconfigured"),
        (api_of.html(400), Overloaded, "provider_failed"),
        (api_of.html(502), Overloaded, "provider_failed"),
        (api_of.html(), Overloaded, "provider_failed"),
        (api_of.body(b'{"type": "message"}', "application/json"), Overloaded, "provider_failed"),
        (api_of.body(b"", "application/json", 529), Overloaded, "provider_overloaded"),
    ],
)
async def test_an_answer_that_is_no_stream(
    api: MessagesApi,
    reader: Reader,
    behaviour: Behaviour,
    expected: type[ProviderError],
    code: str,
) -> None:
    api.script(behaviour)
    is_failure(await reader.failure(), expected, code)
    assert len(api.requests) == 1, "the SDK must not retry by itself"
    assert reader.pieces == []


async def test_retry_after_is_told_as_it_is(api: MessagesApi, reader: Reader) -> None:
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    api.script(
        api_of.rate_limited("86400"),
        api_of.rate_limited(in_an_hour),
        api_of.rate_limited("-5"),
        api_of.rate_limited("soon"),
        api_of.rate_limited("nan"),
        api_of.status(529, "overloaded_error", retry_after="2.5"),
    )
    waits = [(await reader.failure()).retry_after for _ in range(6)]
    assert waits[0] == 86400
    assert waits[1] == pytest.approx(3600, abs=10)
    assert waits[2:] == [None, None, None, 2.5]
    assert len(api.requests) == 6


@pytest.mark.parametrize("after", [None, "Once upon a time"])
async def test_silence_is_noticed_long_before_the_deadline(
    api: MessagesApi, after: str | None
) -> None:
    api.script(api_of.silent(after=after))
    async with Reader(api.url, silence=0.2) as reader, asyncio.timeout(10):
        is_failure(await reader.failure(deadline=60), Overloaded, "provider_silent")
        await api.requests[0].ended.wait()


async def test_pings_alone_are_no_sign_of_life(api: MessagesApi) -> None:
    api.script(api_of.only_pings())
    async with Reader(api.url, patience=0.3) as reader, asyncio.timeout(10):
        is_failure(await reader.failure(deadline=60), Overloaded, "provider_silent")


@pytest.mark.parametrize("behaviour", [api_of.dribble(), api_of.silent()])
async def test_the_deadline_ends_everything(api: MessagesApi, behaviour: Behaviour) -> None:
    api.script(behaviour)
    async with Reader(api.url) as reader, asyncio.timeout(10):
        is_failure(await reader.failure(deadline=0.4), Overloaded, "provider_slow")
        await api.requests[0].ended.wait()


async def test_a_listener_that_takes_too_long_meets_the_deadline_too(reader: Reader) -> None:
    async def never(_: str) -> None:
        await asyncio.Event().wait()

    async with asyncio.timeout(10):
        with pytest.raises(Overloaded) as caught:
            await reader.provider.write(REQUEST, deadline=0.3, on_text=never)
    assert caught.value.code == "provider_slow"


async def test_a_timeout_of_the_listener_is_the_listeners(reader: Reader) -> None:
    def late(_: str) -> None:
        raise TimeoutError("the database")

    with pytest.raises(TimeoutError, match="the database"):
        await reader.provider.write(REQUEST, deadline=20, on_text=late)


@pytest.mark.parametrize(
    ("words", "share", "outcome"),
    [
        (100, 0.8, "partial"),
        (125, 0.8, "partial"),
        (126, 0.8, "story_incomplete"),
        (100, None, "story_incomplete"),
        (100, 1.0, "partial"),
        (101, 1.0, "story_incomplete"),
    ],
)
async def test_the_length_limit_gives_part_of_a_story_by_policy(
    api: MessagesApi, words: int, share: float | None, outcome: str
) -> None:
    api.script(api_of.story(tale(100) + " And then he sa", stop_reason="max_tokens"))
    async with Reader(api.url, partial_share=share) as reader:
        request = StoryRequest("A clock", words=words)
        if outcome == "partial":
            story = await reader.read(request)
            assert (story.text, story.words, story.partial) == (tale(100), 100, True)
            assert "".join(reader.pieces).startswith(story.text)
        else:
            is_failure(await reader.failure(request=request), Overloaded, outcome)


async def test_a_refusal_is_final(api: MessagesApi, reader: Reader) -> None:
    api.script(api_of.story("I would rather", stop_reason="refusal"))
    error = await reader.failure()
    is_failure(error, Rejected, "provider_refused")
    assert error.permanent


@pytest.mark.parametrize("reason", ["tool_use", "pause_turn", "a_new_reason"])
async def test_an_unknown_end_is_not_a_story(api: MessagesApi, reader: Reader, reason: str) -> None:
    api.script(api_of.story(stop_reason=reason))
    is_failure(await reader.failure(), Overloaded, "provider_failed")


@pytest.mark.parametrize("text", ["", " \n ", "—\n* * *"])
async def test_no_text_is_not_a_story(api: MessagesApi, reader: Reader, text: str) -> None:
    api.script(api_of.story(text))
    is_failure(await reader.failure(), Overloaded, "story_empty")


@pytest.mark.parametrize(
    "data",
    [
        b"event: content_block_delta\ndata: {not json\n\n",
        b'event: content_block_delta\ndata: ["a", "list"]\n\n',
        b"event: content_block_delta\ndata: 7\n\n",
        b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0}\n\n',
        b'event: content_block_delta\ndata: {"type": "content_block_delta", "delta": 5}\n\n',
        b'event: message_start\ndata: {"type": "message_start"}\n\n',
        b"event: content_block_delta\ndata: \xff\xfe\n\n",
    ],
)
async def test_a_garbled_stream_is_not_a_story(
    api: MessagesApi, reader: Reader, data: bytes
) -> None:
    api.script(api_of.stream_of(data))
    is_failure(await reader.failure(), Overloaded, "provider_failed")


async def test_garbled_framing_is_not_a_story(api: MessagesApi, reader: Reader) -> None:
    async def behave(exchange: api_of.Exchange) -> None:
        await exchange.open_text()
        await exchange.raw(b"this is no chunk length\r\n")
        await exchange.gone()

    api.script(behave)
    is_failure(await reader.failure(), Overloaded, "provider_cut")


async def test_a_story_without_end_is_ended(api: MessagesApi, reader: Reader) -> None:
    delta = {"type": "text_delta", "text": "and then " * 500}
    event = {"type": "content_block_delta", "index": 0, "delta": delta}
    api.script(api_of.endless(api_of.encoded(event)))
    is_failure(await reader.failure(), Overloaded, "story_too_long")


@pytest.mark.parametrize("code", [200, 500])
async def test_an_answer_without_end_cannot_fill_the_memory(
    api: MessagesApi, reader: Reader, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(module, "_BYTES_MOST", 300_000)

    async def behave(exchange: api_of.Exchange) -> None:
        await exchange.head(code, {"content-type": "text/event-stream"})
        await exchange.raw(b"data: ")
        while True:
            await exchange.raw(b"x" * 10_000)

    api.script(behave)
    is_failure(await reader.failure(), Overloaded, "story_too_long")


async def test_what_postgresql_cannot_hold_is_taken_out(api: MessagesApi, reader: Reader) -> None:
    text = "A fox\0 and a star \ud83e and \U0001f98a."
    api.script(api_of.story(text))
    story = await reader.read()
    assert "\0" not in story.text
    assert story.text.encode().decode() == story.text
    assert story.text.endswith("\U0001f98a.")


async def test_events_of_later_versions_are_passed_over(api: MessagesApi, reader: Reader) -> None:
    async def behave(exchange: api_of.Exchange) -> None:
        await exchange.open_text()
        await exchange.event({"type": "novelty", "what": {"ever": 1}})
        thought = {"type": "thinking_delta", "thinking": "A fox, then."}
        await exchange.event({"type": "content_block_delta", "index": 1, "delta": thought})
        await exchange.text("The fox slept.")
        await exchange.close_text()
        await exchange.event({"type": "message_stop"})
        await exchange.end()

    api.script(behave)
    assert (await reader.read()).text == "The fox slept."


async def test_nothing_after_message_stop_can_spoil_the_story(
    api: MessagesApi, reader: Reader
) -> None:
    async def behave(exchange: api_of.Exchange) -> None:
        await exchange.open_text()
        await exchange.text("The fox slept.")
        await exchange.close_text()
        await exchange.event({"type": "message_stop"})
        await exchange.gone()

    api.script(behave)
    async with asyncio.timeout(5):
        assert (await reader.read()).text == "The fox slept."


async def test_cancelling_closes_the_connection_at_once(api: MessagesApi, reader: Reader) -> None:
    api.script(api_of.silent(after="Once"))
    task = asyncio.create_task(reader.read(deadline=600))
    request = await api.arrived()
    async with asyncio.timeout(10):
        while not reader.pieces:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await request.ended.wait()


async def test_cancelling_before_the_first_byte(api: MessagesApi, reader: Reader) -> None:
    api.script(api_of.silent())
    task = asyncio.create_task(reader.read(deadline=600))
    request = await api.arrived()
    async with asyncio.timeout(10):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await request.ended.wait()


async def test_many_at_once_each_get_their_own(api: MessagesApi) -> None:
    async def echo(exchange: api_of.Exchange) -> None:
        said = exchange.request.body["messages"][0]["content"]
        await api_of.story(f"A story of {said}.")(exchange)

    api.otherwise = echo
    async with Reader(api.url) as reader:
        stories = await asyncio.gather(
            *(reader.read(StoryRequest(f"number {n}", words=50)) for n in range(40))
        )
    assert [s.text for s in stories] == [f"A story of number {n}." for n in range(40)]
    assert all(s.words == count_words(s.text) for s in stories)


async def test_a_refused_connection_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
        async with Reader(f"http://127.0.0.1:{taken.getsockname()[1]}") as reader:
            is_failure(await reader.failure(), Overloaded, "provider_unreachable")


async def test_a_name_that_is_no_host_is_unreachable() -> None:
    async with Reader("http://nobody.invalid") as reader:
        is_failure(await reader.failure(), Overloaded, "provider_unreachable")


async def test_a_certificate_nobody_signed_is_unreachable(tmp_path: Path) -> None:
    async with MessagesApi(tls=own_certificate(tmp_path)) as api:
        async with Reader(api.url.replace("http:", "https:")) as reader:
            error = await reader.failure()
        assert api.requests == []
    is_failure(error, Overloaded, "provider_unreachable")
    assert "CERTIFICATE_VERIFY_FAILED" in error.reason


def own_certificate(folder: Path) -> ssl.SSLContext:
    """Make a certificate that no authority has signed, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = folder / "own.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def test_a_server_that_hangs_up_without_a_word(api: MessagesApi, reader: Reader) -> None:
    async def behave(exchange: api_of.Exchange) -> None:
        exchange.cut()

    api.script(behave)
    is_failure(await reader.failure(), Overloaded, "provider_cut")


async def test_a_redirect_that_leads_round_is_a_wrong_address(
    api: MessagesApi, reader: Reader
) -> None:
    async def behave(exchange: api_of.Exchange) -> None:
        await exchange.answer(307, b"", "text/plain", {"location": "/v1/messages"})

    api.otherwise = behave
    is_failure(await reader.failure(), OutOfService, "provider_misconfigured")


async def test_an_address_of_another_kind_is_a_wrong_address() -> None:
    async with Reader("gopher://127.0.0.1") as reader:
        is_failure(await reader.failure(), OutOfService, "provider_misconfigured")
    with pytest.raises(ValueError, match="ANTHROPIC_BASE_URL is not a URL"):
        AnthropicProvider(api_key="k", base_url="http://[::1")


@pytest.mark.parametrize("key", [None, "", " \n"])
async def test_without_a_key_nothing_is_sent(
    api: MessagesApi, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "somebody-else's")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "somebody-else's")
    provider = AnthropicProvider(api_key=key, base_url=api.url)
    with pytest.raises(OutOfService) as caught:
        await provider.write(REQUEST, deadline=5, on_text=lambda _: None)
    await provider.aclose()
    assert caught.value.code == "provider_key_missing"
    assert api.requests == []


async def test_a_key_with_a_line_break_inside_is_told_apart(api: MessagesApi) -> None:
    provider = AnthropicProvider(api_key="sk\nbroken", base_url=api.url)
    with pytest.raises(OutOfService):
        await provider.write(REQUEST, deadline=5, on_text=lambda _: None)
    await provider.aclose()
    assert api.requests == []


async def test_the_model_is_a_setting(api: MessagesApi) -> None:
    async with Reader(api.url, model="claude-other") as reader:
        await reader.read()
    assert api.requests[0].body["model"] == "claude-other"
