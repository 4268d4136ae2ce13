"""The whole daemon, started as a person would start it."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.wire.fcgi_record import RESPONDER
from gateway.wire.fcgi_requester import Ended, Requester, Stderr, Stdout


def until(true: Callable[[], object], what: str, seconds: float = 15.0) -> None:
    """Return when a condition holds; fail in words when it does not in time."""
    end = time.monotonic() + seconds
    pause = 0.001
    while not true():
        assert time.monotonic() < end, f"in vain: {what}"
        os.sched_yield()
        time.sleep(pause)  # between two looks, never instead of one
        pause = min(pause * 2, 0.05)


@dataclass
class Answer:
    """What a front server was answered."""

    output: bytes = b""
    stderr: bytes = b""
    app_status: int = -1
    ended: bool = False
    """The request was ended, not the connection alone."""

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


class FrontServer:
    """One connection of a front server to a FastCGI socket."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(15)
        self.socket.connect(path)
        self.requester = Requester()

    def begin(
        self, params: Mapping[bytes, bytes], *, keep: bool = True, role: int = RESPONDER
    ) -> None:
        self.requester = Requester()
        self.socket.sendall(self.requester.begin(params, keep=keep, role=role))

    def send(self, body: bytes, *, end: bool = True) -> None:
        self.socket.sendall(self.requester.stdin(body))
        if end:
            self.socket.sendall(self.requester.stdin_end())

    def answer(self, *, until: bytes = b"") -> Answer:
        """Read to the end of the request, or until this has come."""
        found = Answer()
        while not found.ended and not (until and until in found.output):
            if not (data := self.socket.recv(65536)):
                break
            for event in self.requester.feed(data):
                if isinstance(event, Stdout):
                    found.output += event.data
                elif isinstance(event, Stderr):
                    found.stderr += event.data
                else:
                    assert isinstance(event, Ended)
                    assert event.protocol_status == 0
                    found.app_status, found.ended = event.app_status, True
        return found

    def ask(self, params: Mapping[bytes, bytes], body: bytes = b"", *, keep: bool = True) -> Answer:
        self.begin(params, keep=keep)
        self.send(body)
        return self.answer()


@dataclass
class Daemon:
    """A running daemon."""

    process: "subprocess.Popen[bytes]"
    port: int
    directory: Path

    def get(self, path: str = "/") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    @contextmanager
    def front(self, name: str = "fastcgi.sock") -> Iterator[FrontServer]:
        """Connect to a FastCGI socket in the test's directory."""
        front = FrontServer(str(self.directory / name))
        try:
            yield front
        finally:
            front.socket.close()

    def log(self, name: str = "error.log") -> str:
        return (self.directory / name).read_text()

    def children(self) -> dict[int, list[int]]:
        """Return the processes below the master, each with those below it."""
        return {pid: _children(pid) for pid in _children(self.process.pid)}

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def wait() -> Callable[..., None]:
    return until


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Return a function that starts a daemon with these sites; `{dir}` is the test's directory."""
    started: list[Daemon] = []

    def start(
        sites: str, head: str = "", fronts: int = 1, listen: str = "", user: str = ""
    ) -> Daemon:
        port = _free_port()
        text = (
            f'[server]\nuser = "{user}"\nfronts = {fronts}\nruntime = "{tmp_path}/run"\n'
            f'[listen]\nhttp = ["127.0.0.1:{port}"]\n{listen}'
            f'[log]\naccess = "{tmp_path}/access.log"\nerror = "{tmp_path}/error.log"\n'
            + head
            + sites
        )
        (tmp_path / "gateway.toml").write_text(text.replace("{dir}", str(tmp_path)))
        command = [sys.executable, "-m", "gateway", "run", "-c", str(tmp_path / "gateway.toml")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        running = Daemon(process, port, tmp_path)
        started.append(running)
        # The master listens before it has forked a front, so an open port is not yet a daemon.
        until(
            lambda: process.poll() is not None or (_answers(port) and running.children()),
            "the daemon listens and has a front",
        )
        assert process.poll() is None, "the daemon ended"
        return running

    yield start
    for running in started:
        below = [pid for one, more in running.children().items() for pid in (one, *more)]
        if running.process.poll() is None:
            running.process.terminate()
            running.process.wait(30)
        until(
            lambda below=below: not any(_alive(pid) for pid in below),  # type: ignore[misc]
            f"all of {below} are gone",
        )


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
