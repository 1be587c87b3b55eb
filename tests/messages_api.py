"""A server on loopback that speaks Anthropic's Messages API, and misbehaves as it is told.

Plain asyncio on a real TCP socket, so that a stream can be cut in the middle of an event, reset,
or left open in silence. Point `ANTHROPIC_BASE_URL` (of this process or another) at `.url`:

    async with MessagesApi() as api:
        api.script(status(529), cut_mid_event(), story("Once."))  # one behaviour a request
        ...                                                        # after them: `api.otherwise`
        assert api.requests[0].body["stream"] is True

A behaviour is an async function of an `Exchange`; write your own where none here fits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

JsonObject: TypeAlias = dict[str, Any]
MODEL = "claude-of-the-tests"
CREDIT = (
    "Your credit balance is too low to access the Anthropic API. "
    "Please go to Plans & Billing to upgrade or purchase credits."
)


@dataclass
class Request:
    """One request as it came; `ended` is set when its connection has ended, by either side."""

    method: str
    path: str
    headers: dict[str, str]
    body: JsonObject
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Exchange:
    """One request and the raw means to answer it."""

    def __init__(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.request = request
        self._reader = reader
        self._writer = writer

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, status: int, headers: dict[str, str]) -> None:
        """Send the status line and the headers."""
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{k}: {v}" for k, v in headers.items())]
        await self.raw("\r\n".join([*lines, "", ""]).encode())

    async def answer(
        self, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None
    ) -> None:
        """Send a whole answer that is no stream."""
        length = {"content-type": content_type, "content-length": str(len(body))}
        await self.head(status, {"request-id": "req_test", **length, **(headers or {})})
        await self.raw(body)

    async def begin(self) -> None:
        """Send the head of an event stream, chunked as the real one is."""
        stream = {"content-type": "text/event-stream; charset=utf-8", "request-id": "req_test"}
        await self.head(200, {**stream, "transfer-encoding": "chunked"})

    async def chunk(self, data: bytes) -> None:
        """Send bytes of the stream, whether they end an event or not."""
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, data: JsonObject) -> None:
        """Send one whole event."""
        await self.chunk(encoded(data))

    async def end(self) -> None:
        """End the stream as HTTP wants it: to HTTP, what came is whole."""
        await self.raw(b"0\r\n\r\n")

    async def open_text(self) -> None:
        """Begin a message with one block of text."""
        await self.begin()
        message: JsonObject = {
            "id": "msg_test",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 25, "output_tokens": 1},
        }
        await self.event({"type": "message_start", "message": message})
        block = {"type": "text", "text": ""}
        await self.event({"type": "content_block_start", "index": 0, "content_block": block})
        await self.event({"type": "ping"})

    async def text(self, text: str) -> None:
        """Send one piece of text."""
        delta = {"type": "text_delta", "text": text}
        await self.event({"type": "content_block_delta", "index": 0, "delta": delta})

    async def close_text(self, stop_reason: str | None = "end_turn", tokens: int = 321) -> None:
        """End the block and say why the message ends; `message_stop` does not follow yet."""
        await self.event({"type": "content_block_stop", "index": 0})
        delta = {"stop_reason": stop_reason, "stop_sequence": None}
        usage = {"output_tokens": tokens}
        await self.event({"type": "message_delta", "delta": delta, "usage": usage})

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        while await self._reader.read(65536):
            pass

    def cut(self) -> None:
        """Close the socket in the middle of things."""
        self._writer.close()

    def reset(self) -> None:
        """Close the socket with a TCP reset."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Behaviour: TypeAlias = Callable[[Exchange], Awaitable[None]]


def encoded(data: JsonObject) -> bytes:
    """Encode one server-sent event."""
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def tale(words: int) -> str:
    """Write a text of exactly so many words, in sentences of ten."""
    parts = [f"Word{n}" + ("." if n % 10 == 0 or n == words else "") for n in range(1, words + 1)]
    return " ".join(parts)


def _pieces(text: str, size: int = 24) -> Iterable[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


def story(text: str = tale(120), *, stop_reason: str | None = "end_turn") -> Behaviour:
    """Deliver a whole story."""

    async def behave(exchange: Exchange) -> None:
        await exchange.open_text()
        for piece in _pieces(text):
            await exchange.text(piece)
        await exchange.close_text(stop_reason)
        await exchange.event({"type": "message_stop"})
        await exchange.end()

    return behave


def pieces_when(go: asyncio.Event, *pieces: str) -> Behaviour:
    """Send the first piece at once, the others and the end when `go` is set."""

    async def behave(exchange: Exchange) -> None:
        await exchange.open_text()
        for n, piece in enumerate(pieces):
            await exchange.text(piece)
            if n == 0:
                await go.wait()
        await exchange.close_text()
        await exchange.event({"type": "message_stop"})
        await exchange.end()

    return behave


def cut_before_stop(text: str = tale(120), *, politely: bool = True) -> Behaviour:
    """End the stream after the text, before it says why; politely, HTTP sees nothing wrong."""

    async def behave(exchange: Exchange) -> None:
        await exchange.open_text()
        for piece in _pieces(text):
            await exchange.text(piece)
        if politely:
            await exchange.end()
        else:
            exchange.cut()

    return behave


def cut_after_reason(text: str = tale(120)) -> Behaviour:
    """Say `end_turn`, then end the stream without `message_stop`."""

    async def behave(exchange: Exchange) -> None:
        await exchange.open_text()
        await exchange.text(text)
        await exchange.close_text()
        await exchange.end()

    return behave


def cut_mid_event(text: str = tale(120), *, reset: bool = False) -> Behaviour:
    """Close the socket (or reset it) in the middle of an event's bytes."""

    async def behave(exchange: Exchange) -> None:
        await exchange.open_text()
        await exchange.text(text)
        delta = {"type": "text_delta", "text": "never seen whole"}
        whole = encoded({"type": "content_block_delta", "index": 0, "delta": delta})
        await exchange.raw(b"%x\r\n%s" % (len(whole), whole[: len(whole) // 2]))
        if reset:
            exchange.reset()
        else:
            exchange.cut()

    return behave


def error_event(kind: str = "overloaded_error", message: str = "Overloaded") -> Behaviour:
    """Begin well with 200 and text, then send an `error` event."""

    async def behave(exchange: Exchange) -> None:
        await exchange.open_text()
        await exchange.text(tale(60))
        await exchange.event({"type": "error", "error": {"type": kind, "message": message}})
        await exchange.end()

    return behave


def silent(*, after: str | None = None) -> Behaviour:
    """Say nothing for as long as the client waits: at once, or after a piece of text."""

    async def behave(exchange: Exchange) -> None:
        if after is not None:
            await exchange.open_text()
            await exchange.text(after)
        await exchange.gone()

    return behave


def only_pings(every: float = 0.02) -> Behaviour:
    """Send pings and nothing else for as long as the client waits."""

    async def behave(exchange: Exchange) -> None:
        await exchange.open_text()
        while True:  # until the client has gone, which is a ConnectionError here
            await exchange.event({"type": "ping"})
            await asyncio.sleep(every)

    return behave


def dribble(every: float = 0.02) -> Behaviour:
    """Send a letter at a time, for ever."""

    async def behave(exchange: Exchange) -> None:
        await exchange.open_text()
        while True:  # until the client has gone, which is a ConnectionError here
            await exchange.text("a")
            await asyncio.sleep(every)

    return behave


def status(
    code: int,
    kind: str = "api_error",
    message: str = "Scripted",
    *,
    retry_after: str | None = None,
    details: JsonObject | None = None,
) -> Behaviour:
    """Answer with an error as the API words it."""
    error = {"type": kind, "message": message, **({"details": details} if details else {})}
    body = json.dumps({"type": "error", "error": error, "request_id": "req_test"}).encode()
    headers = {} if retry_after is None else {"retry-after": retry_after}

    async def behave(exchange: Exchange) -> None:
        await exchange.answer(code, body, "application/json", headers)

    return behave


def overloaded() -> Behaviour:
    """Answer 529."""
    return status(529, "overloaded_error", "Overloaded")


def rate_limited(retry_after: str = "86400") -> Behaviour:
    """Answer 429 with a wish for patience."""
    return status(429, "rate_limit_error", "Too many", retry_after=retry_after)


def no_credit(code: int = 400) -> Behaviour:
    """Answer as for an empty account: 400, told apart only by its text; or 402."""
    return status(code, "invalid_request_error" if code == 400 else "billing_error", CREDIT)


def body(data: bytes, content_type: str, code: int = 200) -> Behaviour:
    """Answer with anything at all."""

    async def behave(exchange: Exchange) -> None:
        await exchange.answer(code, data, content_type)

    return behave


def html(code: int = 200) -> Behaviour:
    """Answer with a page, as a proxy in between does."""
    return body(b"<!doctype html><h1>Please sign in</h1>", "text/html", code)


def stream_of(*chunks: bytes) -> Behaviour:
    """Begin a message, then send these bytes as its stream, and end it."""

    async def behave(exchange: Exchange) -> None:
        await exchange.open_text()
        for data in chunks:
            await exchange.chunk(data)
        await exchange.end()

    return behave


def endless(data: bytes) -> Behaviour:
    """Begin a message, then send these bytes again and again for as long as the client reads."""

    async def behave(exchange: Exchange) -> None:
        await exchange.open_text()
        while True:  # until the client has gone, which is a ConnectionError here
            await exchange.chunk(data)

    return behave


class MessagesApi:
    """The server; an async context manager that leaves nothing behind."""

    def __init__(
        self, *, otherwise: Behaviour | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self.otherwise = otherwise or story()
        self.requests: list[Request] = []
        self._script: list[Behaviour] = []
        self._arrived = asyncio.Condition()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The base URL, as `ANTHROPIC_BASE_URL` wants it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def script(self, *behaviours: Behaviour) -> None:
        """Append what the next requests get, one each."""
        self._script.extend(behaviours)

    async def arrived(self, count: int = 1, *, within: float = 10.0) -> Request:
        """Wait until so many requests have come, and return the last of them."""
        async with asyncio.timeout(within), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with contextlib.suppress(
                ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError
            ):
                while not writer.is_closing():
                    await self._one(reader, writer)
        finally:
            self._serving.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read(reader)
        async with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        behave = self._script.pop(0) if self._script else self.otherwise
        try:
            await behave(Exchange(request, reader, writer))
        finally:
            request.ended.set()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    data = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, json.loads(data) if data else {})
