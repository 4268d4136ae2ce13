"""A front's listener without the daemon: real sockets, a handler made by the test."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.exchange import Handler, Limits, Request
from gateway.journal import Journal
from gateway.listeners.door import Door, Entrance
from gateway.listeners.drive import Service
from gateway.listeners.http import HttpConnection
from gateway.listeners.line import Line
from gateway.wire import fcgi_record as fcgi
from gateway.wire.fcgi_params import encode_params
from gateway.wire.fcgi_record import BEGIN_BODY, END_BODY, Record, RecordParser, encode_record
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
            except ConnectionError:
                return b"(reset)"


@dataclass
class Result:
    """One answer to a FastCGI request."""

    output: bytes = b""
    stderr: bytes = b""
    app_status: int = -1
    protocol_status: int = -1

    @property
    def status(self) -> int:
        return int(self.fields["status"].split(" ")[0])

    @property
    def fields(self) -> dict[str, str]:
        lines = self.output.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def body(self) -> bytes:
        return self.output.partition(b"\r\n\r\n")[2]


@dataclass
class FrontServer(Client):
    """One connection of a front server to the FastCGI listener, in records."""

    parser: RecordParser = field(default_factory=RecordParser)
    records: list[Record] = field(default_factory=list)

    async def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def ask_for(
        self, params: Mapping[bytes, bytes], body: bytes = b"", **begin: Any
    ) -> Result:
        """Send one whole request and return its answer."""
        id = begin.get("id", 1)
        await self.send(head(params, **begin), stdin(body, id) if body else b"", stdin(b"", id))
        return await self.result(id)

    async def record(self) -> Record:
        """Return the next record. Raises EOFError where the listener has closed."""
        async with asyncio.timeout(10):
            while not self.records:
                if not (data := await self.reader.read(65536)):
                    raise EOFError
                self.records += self.parser.feed(data)
        return self.records.pop(0)

    async def result(self, id: int = 1) -> Result:
        """Read until the end of a request."""
        result = Result()
        while True:
            kind, of, content = await self.record()
            assert of == id, "a record of another request"
            if kind == fcgi.STDOUT:
                result.output += content
            elif kind == fcgi.STDERR:
                result.stderr += content
            else:
                assert kind == fcgi.END_REQUEST
                result.app_status, result.protocol_status = END_BODY.unpack(content)
                return result


def head(
    params: Mapping[bytes, bytes], *, id: int = 1, keep: bool = True, role: int = fcgi.RESPONDER
) -> bytes:
    """Return the records that begin a request, and all of its parameters."""
    begin = encode_record(
        fcgi.BEGIN_REQUEST, id, BEGIN_BODY.pack(role, fcgi.KEEP_CONN if keep else 0)
    )
    content = encode_params(params)
    end = encode_record(fcgi.PARAMS, id, b"")
    return begin + (encode_record(fcgi.PARAMS, id, content) if content else b"") + end


def stdin(data: bytes, id: int = 1) -> bytes:
    return encode_record(fcgi.STDIN, id, data)


@dataclass
class Listener:
    """A listener that is being tested."""

    door: Door
    port: int
    log: Path
    records: list[tuple[Request, int, int]] = field(default_factory=list)
    path: str = ""
    """Of a Unix socket; then there is no port."""

    @asynccontextmanager
    async def client(self, kind: type[Client] = Client) -> AsyncIterator[Any]:
        if self.path:
            reader, writer = await asyncio.open_unix_connection(self.path)
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield kind(reader, writer)
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                pass  # it was reset, which the test has seen

    def front(self) -> Any:
        """Return the context of a connection in FastCGI."""
        return self.client(FrontServer)

    def said(self) -> str:
        """Return the error log."""
        return self.log.read_text()


Test = Callable[[Listener], Awaitable[None]]
Serve = Callable[..., None]


@pytest.fixture(params=["asyncio", "uvloop"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Serve]:
    """Return a function that runs a test against a listener with a handler, on each loop."""
    log = tmp_path / "error.log"
    fd = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    async def with_listener(
        handler: Handler,
        test: Test,
        limits: Limits,
        explain: bool,
        connection: Callable[[Door, Entrance], Line],
        unix: bool,
        entered: dict[str, Any],
    ) -> None:
        loop = asyncio.get_running_loop()
        records: list[tuple[Request, int, int]] = []
        faults: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda loop, context: faults.append(context))

        def record(asked: Request, status: int, sent: int, duration: float) -> None:
            records.append((asked, status, sent))

        journal = Journal(fd, "test")
        service = Service(handler, journal, record, explain)
        entrance = Entrance(service=service, name="the entrance", **entered)
        door = Door(
            loop, journal, limits, prefix="t-", connections_max=50, head_limits=HeadLimits()
        )
        if unix:
            path = str(tmp_path / "listener.sock")
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(path)
            server = await loop.create_unix_server(
                lambda: connection(door, entrance), sock=listening
            )
            listener = Listener(door, 0, log, records, path)
        else:
            server = await loop.create_server(lambda: connection(door, entrance), "127.0.0.1", 0)
            listener = Listener(door, server.sockets[0].getsockname()[1], log, records)
        try:
            await test(listener)
        finally:
            server.close()
            await door.drain(0.0)
            await asyncio.sleep(0)
        await _nothing_left(door)
        assert not faults, "what nobody caught"

    def run(
        handler: Handler,
        test: Test,
        limits: Limits | None = None,
        explain: bool = False,
        connection: Callable[[Door, Entrance], Line] = HttpConnection,
        unix: bool = False,
        **entered: Any,
    ) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        factory().close()  # uvloop opens some for the process with its first loop
        before = _sockets()
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(
                with_listener(handler, test, limits or Limits(), explain, connection, unix, entered)
            )
        assert _sockets() <= before, "sockets that were left open"

    yield run
    os.close(fd)


def _sockets() -> set[str]:
    """Return the sockets and pipes that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one of the listing itself
        if target.startswith(("socket:", "pipe:")):
            found.add(target)
    return found


async def _nothing_left(door: Door) -> None:
    """Assert that no connection and no task outlives a listener."""
    async with asyncio.timeout(5):
        while door.connections or len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - none is ours
            await asyncio.sleep(0)
