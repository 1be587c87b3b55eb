"""An issuer's JWKS on this machine: it answers as it is told, and counts."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from hostile_tokens import Issuer


@dataclass
class Endpoint:
    """`asked` counts; answers wait for `hold`; `body` stands in for the keys of `issuers`."""

    issuers: list[Issuer] = field(default_factory=list)
    status: int = 200
    body: bytes | None = None
    asked: int = 0
    port: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jwks"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            self.arrived.set()
            if self.hold is not None:
                await self.hold.wait()
            body = self.body
            if body is None:
                body = json.dumps({"keys": [i.jwk for i in self.issuers]}).encode()
            head = f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(body)}\r\n"
            writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
            await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()
