"""What every request passes: its id, its size, its headers, its measure, its worst case.

One plain ASGI class, because it stands before every request: nothing here waits or copies.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.errors import PayloadTooLarge
from holdfast.web import problems, rates
from holdfast.web.metrics import Metrics

_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}\Z")
_POLICY = (
    b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none';"
    b" frame-ancestors 'none'; form-action 'self'"
)
_HEADERS: list[tuple[bytes, bytes]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", _POLICY),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=()"),
]
_SECURE = (b"strict-transport-security", b"max-age=31536000")
_PRIVATE = (b"cache-control", b"no-store")

_log = structlog.get_logger("holdfast.web")


class Doorway:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, *, body_bytes_max: int, metrics: Metrics) -> None:
        """Take the largest body in bytes, and where requests are counted."""
        self._app = app
        self._most = body_bytes_max
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever happens within, the answer is a proper one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        answer = _Answer(scope, send, began, self._metrics)
        try:
            await self._guarded(scope, receive, answer)
        except ClientDisconnect:
            answer.status = answer.status or 499
        except Exception as cause:  # noqa: BLE001 - the last place where a defect can be told
            response = problems.defect(scope, cause)
            if not answer.status:  # else the connection breaks: half an answer must not look whole
                await response(scope, receive, answer)
        finally:
            answer.measure()

    async def _guarded(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        length, chunked = _announced(scope["headers"])
        if length > self._most:
            response = problems.respond(scope, PayloadTooLarge(most=self._most))
            await response(scope, receive, answer)
            return
        await self._app(scope, self._counted(receive) if chunked else receive, answer)

    def _counted(self, receive: Receive) -> Receive:
        """Count a body that came without its length."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise HTTPException(413)
            return message

        return counted


class _Answer:
    """The way out of one request: adds headers, remembers the status."""

    __slots__ = ("_began", "_id", "_metrics", "_scope", "_send", "status")

    def __init__(self, scope: Scope, send: Send, began: float, metrics: Metrics) -> None:
        self._scope, self._send, self._began, self._metrics = scope, send, began, metrics
        self.status = 0
        given = next((v for name, v in scope["headers"] if name == b"x-request-id"), b"")
        self._id = given if _SANE_ID.match(given) else uuid.uuid4().hex.encode()
        # A copy: the server's own state is one for all requests.
        scope["state"] = {**scope.get("state", {}), "request_id": self._id.decode()}

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            headers.append((b"x-request-id", self._id))
            headers += rates.headers(self._scope)
            headers += [pair for pair in _HEADERS if pair[0] not in present]
            if self._scope["scheme"] == "https":
                headers.append(_SECURE)
            if b"cache-control" not in present and self._scope["path"].startswith("/api"):
                headers.append(_PRIVATE)
            message = {**message, "headers": headers}
        await self._send(message)

    def measure(self) -> None:
        """Count the request under its route's pattern: no id reaches a label."""
        route = getattr(self._scope.get("route"), "path", None) or "unmatched"
        self._metrics.request(
            self._scope["method"], route, self.status, time.perf_counter() - self._began
        )


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, bool]:
    """Return the body's announced length in bytes, and whether it comes in chunks."""
    length, chunked = 0, False
    for name, value in headers:
        if name == b"content-length":
            length = int(value) if value.isdigit() and len(value) < 19 else 2**62
        elif name == b"transfer-encoding":
            chunked = True
    return length, chunked
