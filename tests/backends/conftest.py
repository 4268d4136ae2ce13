"""Backends reached by a socket: requests made by hand, and workers that a test scripts."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.address import Address
from gateway.backends.fastcgi import FastCgi
from gateway.backends.pool import Pool
from gateway.backends.stream import StreamSettings
from gateway.backends.supply import Supply
from gateway.exchange import Limits, Notes, Place, Refused, Request, Response
from gateway.guests import FLUP_WORKER, WORKER
from gateway.journal import Journal
from gateway.wire.fcgi_params import ParamsDecoder
from gateway.wire.fcgi_record import (
    ABORT_REQUEST,
    BEGIN_REQUEST,
    END_BODY,
    END_REQUEST,
    PARAMS,
    STDERR,
    STDIN,
    STDOUT,
    Record,
    RecordParser,
    encode_record,
)

HEAD = b"Content-Type: text/plain\r\n\r\n"


class Pieces:
    """A request body of these pieces. An event among them is waited for, an exception raised."""

    def __init__(self, *pieces: bytes | Exception | asyncio.Event) -> None:
        self.pieces = list(pieces)
        self.pulled = 0
        """How often a piece was asked for."""

    async def read(self) -> bytes:
        self.pulled += 1
        while self.pieces:
            piece = self.pieces.pop(0)
            if isinstance(piece, bytes):
                return piece
            if isinstance(piece, Exception):
                raise piece
            await piece.wait()
        return b""


def make_request(
    method: str = "GET",
    *,
    body: Pieces | None = None,
    length: int | None = -1,
    path: bytes = b"/",
    query: bytes = b"",
    limits: Limits | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Request:
    notes = Notes(limits or Limits())
    notes.place = Place(root=b"/srv", file=b"/srv/app", script_name=b"", path_info=path)
    body = body or Pieces()
    if length == -1:
        length = sum(len(piece) for piece in body.pieces if isinstance(piece, bytes))
    target = path + (b"?" + query if query else b"")
    return Request(
        id="r1",
        method=method,
        target=target,
        path=path,
        query=query,
        protocol=b"HTTP/1.1",
        headers=headers,
        host=b"example.org",
        scheme=b"http",
        remote=("127.0.0.1", 4000),
        local=("127.0.0.1", 80),
        body=body,
        length=length,
        notes=notes,
    )


async def whole(response: Response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    data = b""
    assert not hasattr(response.body, "fd")
    while piece := await response.body.read():
        data += piece
    return data


class Worker:
    """The worker's end of one connection, in a test's hands."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.parser = RecordParser()
        self.records: list[Record] = []
        self.keep = False
        self.id = 1

    async def record(self) -> Record:
        while not self.records:
            data = await self.reader.read(65536)
            if not data:
                raise EOFError
            self.records = self.parser.feed(data)
        return self.records.pop(0)

    async def params(self) -> dict[bytes, bytes]:
        """Take the beginning of a request. Raises EOFError when the front closes instead."""
        begin = await self.record()
        assert begin.kind == BEGIN_REQUEST
        self.keep = bool(begin.content[2])
        self.id = begin.id
        decoder = ParamsDecoder()
        while (record := await self.record()).content:
            assert record.kind == PARAMS
            decoder.feed(record.content)
        return decoder.finish()

    async def body(self) -> bytes:
        data = b""
        while (record := await self.record()).content:
            assert record.kind == STDIN
            data += record.content
        return data

    async def request(self) -> tuple[dict[bytes, bytes], bytes]:
        return await self.params(), await self.body()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def out(self, data: bytes) -> None:
        self.send(encode_record(STDOUT, self.id, data))

    def err(self, data: bytes) -> None:
        self.send(encode_record(STDERR, self.id, data))

    def end(self, status: int = 0, protocol: int = 0) -> None:
        self.send(encode_record(END_REQUEST, self.id, END_BODY.pack(status, protocol)))

    def answer(self, data: bytes) -> None:
        self.out(data)
        self.end()

    def close(self) -> None:
        self.writer.close()

    async def left(self) -> bool:
        """Wait until the front closes; True if it asked for nothing more before."""
        try:
            record = await self.record()
        except (EOFError, ConnectionError):
            return True
        return record.kind == ABORT_REQUEST


Script = Callable[[Worker], Awaitable[None]]


@dataclass
class Setup:
    """What a test has: a directory, a log, and how to make backends and workers."""

    directory: Path
    log: int
    connections: int = 0
    """Connections that scripted workers have accepted."""
    open: int = 0
    """Those of them that have not ended."""
    waiting: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def path(self) -> str:
        return str(self.directory / "worker.sock")

    def forget(self) -> None:
        """Take away the socket of workers that have gone."""
        Path(self.path).unlink(missing_ok=True)

    def logged(self) -> str:
        return (self.directory / "log").read_text()

    def backend(
        self,
        *addresses: str | Address,
        capacity: int = 4,
        down: Callable[[], str] | None = None,
        keep: bool = True,
        stream: bool = False,
        environment: dict[bytes, bytes] | None = None,
    ) -> FastCgi:
        journal = Journal(self.log, "test")
        given = addresses or (self.path,)
        places = tuple(Address(path=item) if isinstance(item, str) else item for item in given)
        settings = StreamSettings(keep=keep, stream=stream, environment=environment or {})
        supply = Supply("app", Pool(places, capacity), journal)
        if down is None:
            return FastCgi(settings, supply, journal)
        return FastCgi(settings, supply, journal, down=down)

    @asynccontextmanager
    async def scripted(self, script: Script, host: str = "") -> AsyncIterator[int]:
        """Run `script` for each connection; what it raises fails the test.

        On the pool's Unix socket, or on a port of `host`, which is given.
        """
        errors: list[BaseException] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            self.open += 1
            try:
                await script(Worker(reader, writer))
            except (EOFError, ConnectionError):
                pass
            except BaseException as error:
                errors.append(error)
                raise
            finally:
                self.open -= 1
                writer.close()

        port = 0
        if host:
            server = await asyncio.start_server(serve, host, 0)
            port = server.sockets[0].getsockname()[1]
        else:
            server = await asyncio.start_unix_server(serve, self.path)
        try:
            yield port
            server.close()
            await self.until(lambda: not self.open)
        finally:
            server.close()
        assert not errors

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - what it waits for may be in another process
                await asyncio.sleep(0.001)

    async def ask(self, backend: FastCgi, request: Request) -> tuple[Response, bytes]:
        async with asyncio.timeout(30):
            async with backend(request) as response:
                return response, await whole(response)

    async def refused(self, backend: FastCgi, request: Request) -> Refused:
        with pytest.raises(Refused) as caught:
            await self.ask(backend, request)
        return caught.value


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    yield Setup(tmp_path, log)
    os.close(log)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine on either event loop."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main)

    return run


@pytest.fixture
def new_request() -> Callable[..., Request]:
    return make_request


@pytest.fixture
def pieces() -> type[Pieces]:
    return Pieces


@pytest.fixture
def start(setup: Setup) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a real WSGI worker on the pool's socket: `engine` "gateway" or "flup"."""
    listener = socket.socket(socket.AF_UNIX)
    processes: list[subprocess.Popen[bytes]] = []

    def start(application: str, *options: str, engine: str = "gateway") -> subprocess.Popen[bytes]:
        if not processes:
            listener.bind(setup.path)
            listener.listen(64)
        (setup.directory / "app.py").write_text(application)
        guest = WORKER if engine == "gateway" else FLUP_WORKER
        arguments = [sys.executable, guest, "--directory", str(setup.directory), *options, "app"]
        processes.append(subprocess.Popen(arguments, stdin=listener))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
    listener.close()
