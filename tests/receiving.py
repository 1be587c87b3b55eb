"""A receiver of webhooks and pushes on this machine: it answers as it is told, and remembers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """`answers` are given in turn (the last one for ever): a status, or (status, headers)."""

    port: int = 0
    got: list[Received] = field(default_factory=list)
    answers: list = field(default_factory=lambda: [204])
    hold: asyncio.Event | None = None  # answers wait for it
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/in"

    async def serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            cased = dict(line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in cased.items()}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.got.append(Received(head[0].split(" ")[1], headers, body))
            self.arrived.set()
            if self.hold is not None:
                await self.hold.wait()
            given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            status, more = given if isinstance(given, tuple) else (given, {})
            lines = [f"HTTP/1.1 {status} X", "content-length: 0", "connection: close"]
            lines += [f"{name}: {value}" for name, value in more.items()]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator["Receiver"]:
        """Listen, on the same port as before if there was one."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()
