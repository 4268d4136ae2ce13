"""A front's listener without the daemon: real sockets, a handler made by the test."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from gateway.exchange import Handler, Limits, Request
from gateway.journal import Journal
from gateway.listeners.door import Door
from gateway.listeners.drive import Service
from gateway.listeners.http import HttpConnection
from gateway.wire.http_request import HeadLimits


@dataclass
class Client:
    """One connection to the listener, in bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, text: str, body: bytes = b"") -> None:
        """Send request lines that are separated by a plain newline."""
        self.writer.write(text.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read one answer's head."""
        async with asyncio.timeout(10):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").rstrip().split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        fields = {name.lower(): value for name, _, value in pairs}
        return int(first.split(" ")[1]), fields

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one whole answer that has a Content-Length or chunks."""
        status, fields = await self.head()
        async with asyncio.timeout(10):
            if fields.get("transfer-encoding") == "chunked":
                return status, fields, await self._chunks()
            return status, fields, await self.reader.readexactly(int(fields["content-length"]))

    async def _chunks(self) -> bytes:
        body = b""
        while size := int((await self.reader.readline()).strip(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return body

    async def rest(self) -> bytes:
        """Read until the listener closes."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read(-1)
            except ConnectionResetError:
                return b"(reset)"


@dataclass
class Listener:
    """A listener that is being tested."""

    door: Door
    port: int
    log: Path
    records: list[tuple[Request, int, int]] = field(default_factory=list)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                pass  # it was reset, which the test has seen


Test = Callable[[Listener], Awaitable[None]]
Serve = Callable[..., None]


@pytest.fixture(params=["asyncio", "uvloop"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Serve]:
    """Return a function that runs a test against a listener with a handler, on each loop."""
    log = tmp_path / "error.log"
    fd = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    async def with_listener(handler: Handler, test: Test, limits: Limits, explain: bool) -> None:
        loop = asyncio.get_running_loop()
        records: list[tuple[Request, int, int]] = []

        def record(asked: Request, status: int, sent: int, duration: float) -> None:
            records.append((asked, status, sent))

        service = Service(handler, Journal(fd, "test"), record, explain)
        door = Door(
            loop, service, limits, prefix="t-", connections_max=50, head_limits=HeadLimits()
        )
        server = await loop.create_server(lambda: HttpConnection(door), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            await test(Listener(door, port, log, records))
        finally:
            server.close()
            await door.drain(0.0)
            await asyncio.sleep(0)

    def run(
        handler: Handler, test: Test, limits: Limits | None = None, explain: bool = False
    ) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(with_listener(handler, test, limits or Limits(), explain))

    yield run
    os.close(fd)
