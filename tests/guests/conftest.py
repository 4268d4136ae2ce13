"""Real workers, and a FastCGI client in bytes that shares no code with what it tests."""

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.guests import FLUP_WORKER, WORKER

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR = 1, 2, 3, 4, 5, 6, 7

APPLICATION = """
import hashlib, json, os, sys, time


def text(start_response, body, status="200 OK", more=()):
    if not isinstance(body, bytes):
        body = str(body).encode("utf-8")
    start_response(status, [("Content-Type", "text/plain")] + list(more))
    return [body]


class Closing:
    def __init__(self, path, pieces):
        self.path, self.pieces = path, pieces

    def __iter__(self):
        return iter(self.pieces)

    def close(self):
        with open(self.path, "a") as file:
            file.write("closed\\n")


def failing(start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"some"
    raise RuntimeError("in the middle")


def gated(path):
    yield b"first"
    open(path).read()
    yield b"second"


def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    body = environ["wsgi.input"]
    if path == "/environ":
        shown = {k: v for k, v in environ.items() if isinstance(v, (str, bool, tuple))}
        return text(start_response, json.dumps(shown))
    if path == "/pid":
        return text(start_response, os.getpid())
    if path == "/wait":  # until the test writes to a FIFO
        pid = os.getpid()
        open(query).read()
        return text(start_response, pid)
    if path == "/hash":
        data = body.read(int(environ.get("CONTENT_LENGTH") or 0))
        return text(start_response, "%d %s" % (len(data), hashlib.sha256(data).hexdigest()))
    if path == "/read":
        return text(start_response, repr(eval(query, {"body": body})))
    if path == "/size":
        return text(start_response, b"x" * int(query))
    if path == "/pieces":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"x" * int(size) for size in query.split(","))
    if path == "/echo":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter(lambda: body.read(1000), b"")
    if path == "/gated":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return gated(query)
    if path == "/closing":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Closing(query, [b"a", b"b"])
    if path == "/failing":
        return failing(start_response)
    if path == "/raise":
        raise RuntimeError("on purpose")
    if path == "/exit":
        sys.exit(5)
    if path == "/write":
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"written ")
        return [b"returned"]
    if path == "/twice":
        start_response("200 OK", [])
        start_response("200 OK", [])
    if path == "/again":
        start_response("200 OK", [("X-Old", "1")])
        try:
            raise RuntimeError
        except RuntimeError:
            start_response("503 Busy", [("X-New", "1")], sys.exc_info())
        return [b"changed"]
    if path == "/split":
        return text(start_response, "", more=[("X-A", "b\\r\\nX-Forged: 1")])
    if path == "/status":
        return text(start_response, "", status=query)
    if path == "/str":
        start_response("200 OK", [])
        return ["no bytes"]
    if path == "/errors":
        environ["wsgi.errors"].write("one\\ntwo")
        environ["wsgi.errors"].flush()
        print("three", file=environ["wsgi.errors"])
        return text(start_response, "done")
    if path == "/stdin":
        return text(start_response, os.readlink("/proc/self/fd/0"))
    if path == "/file":
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](open(query, "rb"))
    if path == "/none":
        return None
    return text(start_response, "hello world\\n")


class inner:
    application = staticmethod(application)


def make():
    return application


number = 7
"""


def record(kind: int, content: bytes = b"", request: int = 1, *, padding: int = 0) -> bytes:
    head = struct.pack(">BBHHBx", 1, kind, request, len(content), padding)
    return head + content + b"\xaa" * padding


def pair(name: bytes, value: bytes) -> bytes:
    sizes = b""
    for size in (len(name), len(value)):
        sizes += bytes((size,)) if size < 128 else struct.pack(">I", size | 1 << 31)
    return sizes + name + value


@dataclass
class Reply:
    stdout: bytes = b""
    stderr: bytes = b""
    app_status: int = -1
    """-1: the connection ended before the request did."""
    protocol_status: int = -1

    @property
    def body(self) -> bytes:
        return self.stdout.partition(b"\r\n\r\n")[2]

    @property
    def head(self) -> list[bytes]:
        return self.stdout.partition(b"\r\n\r\n")[0].split(b"\r\n")


class Client:
    """One connection to a worker."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(15)

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    @staticmethod
    def params(path: str, query: str = "", **more: str) -> bytes:
        env = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            **more,
        }
        return b"".join(pair(k.encode(), v.encode("latin-1")) for k, v in env.items())

    def begin(
        self, path: str, query: str = "", *, keep: bool = True, request: int = 1, **more: str
    ) -> None:
        """Send all but the body."""
        params = self.params(path, query, **more)
        self.send(
            record(BEGIN, struct.pack(">HB5x", 1, keep), request)
            + record(PARAMS, params, request)
            + record(PARAMS, b"", request)
        )

    def body(self, data: bytes, request: int = 1, *, piece: int = 65535) -> None:
        for at in range(0, len(data), piece):
            self.send(record(STDIN, data[at : at + piece], request))
        self.send(record(STDIN, b"", request))

    def ask(self, path: str, query: str = "", data: bytes = b"", **more: str) -> Reply:
        """Make a request on the kept connection and read its whole answer."""
        if data:
            more = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(data)), **more}
        self.begin(path, query, **more)
        self.body(data)
        return self.reply()

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            if not more:
                raise EOFError(data)
            data += more
        return data

    def record(self) -> tuple[int, int, bytes]:
        """Read one record: type, request id, content."""
        version, kind, request, length, padding = struct.unpack(">BBHHBx", self.receive(8))
        assert version == 1
        return kind, request, self.receive(length + padding)[:length]

    def reply(self, request: int = 1) -> Reply:
        """Read until the request ends, or the connection does."""
        reply = Reply()
        while True:
            try:
                kind, number, content = self.record()
            except (EOFError, ConnectionError):
                return reply
            assert number == request
            if kind == STDOUT:
                reply.stdout += content
            elif kind == STDERR:
                reply.stderr += content
            else:
                assert kind == END
                reply.app_status, reply.protocol_status = struct.unpack(">IB3x", content)
                return reply

    def ended(self) -> bool:
        """Whether the worker has closed the connection, and sent nothing before."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionError:
            return True


@dataclass
class Pool:
    """A listening socket and the workers that were started on it."""

    listener: socket.socket
    path: str
    directory: Path
    guest: str = WORKER
    python: str = sys.executable
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    def start(self, *options: str, application: str = "app") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [self.python, self.guest, "--directory", str(self.directory), *options, application],
            stdin=self.listener,
            stderr=subprocess.PIPE,
        )
        self.processes.append(process)
        return process

    def connect(self) -> Client:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        self.clients.append(Client(sock))
        return self.clients[-1]

    def outcome(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Wait for the end of a worker: its exit code and what it said."""
        _, errors = process.communicate(timeout=15)
        return process.returncode, errors.decode()

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for process in self.processes:
            if process.returncode is None:
                process.kill()
                process.communicate()
        self.listener.close()


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[Callable[..., Pool]]:
    pools: list[Pool] = []

    def make(application: str = APPLICATION, **options: str) -> Pool:
        (tmp_path / "app.py").write_text(application)
        listener = socket.socket(socket.AF_UNIX)
        path = str(tmp_path / f"{len(pools)}.sock")
        listener.bind(path)
        listener.listen(64)
        pools.append(Pool(listener, path, tmp_path, **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def pool(make_pool: Callable[..., Pool]) -> Pool:
    """A listening socket; no worker is started yet."""
    return make_pool()


@pytest.fixture
def client(pool: Pool) -> Client:
    """A connection to one worker with one thread."""
    pool.start()
    return pool.connect()


@pytest.fixture
def threaded(pool: Pool) -> Client:
    """A connection to one worker with three threads."""
    pool.start("--threads", "3")
    return pool.connect()


@pytest.fixture
def flup_pool(make_pool: Callable[..., Pool]) -> Pool:
    return make_pool(guest=FLUP_WORKER)


def interpreters() -> list[str]:
    """Every Python from 3.8 on that is on PATH and runs, and this one."""
    found = {sys.version_info[1]: sys.executable}
    for minor in range(8, 15):
        name = shutil.which(f"python3.{minor}")
        if name and minor not in found:
            ran = subprocess.run([name, "-c", ""], capture_output=True, check=False)
            if ran.returncode == 0:
                found[minor] = name
    return [found[minor] for minor in sorted(found)]


@pytest.fixture(params=interpreters(), ids=os.path.basename)
def any_python(request: pytest.FixtureRequest) -> str:
    python: str = request.param
    return python


@pytest.fixture
def gate(tmp_path: Path) -> str:
    """A FIFO: an application that reads it waits until `opened` writes."""
    path = str(tmp_path / "gate")
    os.mkfifo(path)
    return path


@pytest.fixture
def opened() -> Callable[[str], None]:
    """Let the application that waits at a gate go on; first wait until it is there."""

    def open_gate(path: str) -> None:
        with open(path, "w") as file:  # blocks until somebody reads
            file.write("go")

    return open_gate


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Look at a condition until it holds, for at most ten seconds."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "it did not come about in ten seconds"
            time.sleep(0.005)

    return wait


@pytest.fixture
def wire() -> type:
    """The bytes of records, for what `Client` would never send."""

    class Wire:
        record = staticmethod(record)
        pair = staticmethod(pair)

    return Wire
