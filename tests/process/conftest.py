"""A real keeper in a real process, for tests that order scripts from it."""

import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.journal import Journal
from gateway.process import keeper
from gateway.process.channel import (
    EXITED,
    REPLY_MAX,
    Exited,
    Failed,
    Message,
    Order,
    ToFront,
    WantPool,
    environment_block,
)
from gateway.process.decoding import decode, decode_exits
from gateway.process.mastering import (
    Attach,
    Stop,
)
from gateway.process.post import send
from gateway.process.spec import KeeperSpec, ScriptRoot

PATIENCE = 20.0
"""Seconds after which a condition that does not come is a failure."""


class Kept:
    """A running keeper, as its master sees it."""

    def __init__(self, pid: int, control: socket.socket, root: Path, journal: Path) -> None:
        self.pid = pid
        self.control = control
        self.root = root
        self.journal = journal
        self.code: int | None = None
        control.settimeout(PATIENCE)

    def attach(self) -> socket.socket:
        """Return a front's end of a new channel."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            send(self.control, Attach().encode(), (theirs.fileno(),))
        ours.settimeout(PATIENCE)
        return ours

    async def connect(self) -> socket.socket:
        """`attach`, as a RemoteKeeper wants it."""
        return self.attach()

    def stop(self, drain: float = 0.0) -> None:
        send(self.control, Stop(drain).encode())

    def wait(self) -> int:
        """Wait for the keeper's end; return its exit code (or minus a signal)."""
        if self.code is None:
            eventually(self._gone, "the keeper does not leave")
        assert self.code is not None
        return self.code

    def _gone(self) -> bool:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.code = os.waitstatus_to_exitcode(status)
        return bool(pid)

    def log(self) -> str:
        return self.journal.read_text()

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def children(self) -> list[int]:
        found: list[int] = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    fields = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                if int(fields[1]) == self.pid and fields[0] != "Z":
                    found.append(int(name))
        return found

    def script(self, name: str, text: str, mode: int = 0o755) -> Path:
        """Write a script below the root."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written under another name: no other process of the tests may hold it open for writing.
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(text)
        fresh.chmod(mode)
        fresh.rename(path)
        return path


class Channel:
    """A front's end of a channel, without asyncio: orders out, replies in."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._exits: list[ToFront] = []
        self._fds: list[int] = []

    def order(
        self, id: int, script: str, env: dict[bytes, bytes] | None = None, *, stdin: int = -1
    ) -> tuple[int, int]:
        """Order a script; return the reading ends of its stdout and stderr."""
        out, out_theirs = os.pipe()
        err, err_theirs = os.pipe()
        self._fds += (out, err)
        fds = (out_theirs, err_theirs) if stdin < 0 else (stdin, out_theirs, err_theirs)
        block = environment_block(env or {})
        send(self.sock, Order(id, "r", script.encode(), block, stdin >= 0).encode(), fds)
        os.close(out_theirs)
        os.close(err_theirs)
        return out, err

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        send(self.sock, message.encode(), fds)

    def reply(self) -> ToFront | None:
        """Return the next reply; None at the end of the channel."""
        if self._exits:
            return self._exits.pop(0)
        try:
            data = self.sock.recv(REPLY_MAX)
        except ConnectionResetError:
            return None
        if not data:
            return None
        if data[0] == EXITED:
            self._exits = [Exited(*how) for how in decode_exits(data)]
            return self._exits.pop(0)
        return decode(data)  # type: ignore[return-value]

    def sync(self) -> None:
        """Return once all that was sent before has been taken; for scripts that run on."""
        send(self.sock, WantPool(0, "no such route", b"x").encode())
        reply = self.reply()
        assert isinstance(reply, Failed), reply
        assert reply.id == 0

    def close_pipes(self) -> None:
        """Close the reading ends of all orders."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def close(self) -> None:
        self.sock.close()
        self.close_pipes()


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(what)
        time.sleep(0.005)


def read_all(fd: int) -> bytes:
    data = b""
    while piece := os.read(fd, 65536):
        data += piece
    return data


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def _fork(spec: KeeperSpec, journal: Path) -> tuple[int, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    code = 70
    try:
        ours.close()
        fd = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        code = keeper.run(spec, theirs, Journal(fd, f"keeper {spec.user}"))
    except BaseException:
        with open(journal, "a") as file:
            traceback.print_exc(file=file)
    finally:
        os._exit(code)


@pytest.fixture
def spec(tmp_path: Path) -> KeeperSpec:
    root = tmp_path / "root"
    root.mkdir()
    return KeeperSpec(
        user="tests",
        uid=os.getuid(),
        gid=os.getgid(),
        groups=(),
        switch=False,
        scripts={"r": ScriptRoot(root=os.fsencode(root))},
        pools=(),
        sockets=os.fsencode(tmp_path / "sockets"),
        concurrency=8,
        queue=16,
        grace=0.3,
    )


@pytest.fixture
def keep(spec: KeeperSpec, tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    """Start keepers: `keep()` for the plain spec, `keep(queue=2)` for another."""
    started: list[Kept] = []

    def start(**changes: object) -> Kept:
        journal = tmp_path / f"journal{len(started)}"
        journal.touch()
        changed = replace(spec, **changes)  # type: ignore[arg-type]
        pid, control = _fork(changed, journal)
        kept = Kept(pid, control, tmp_path / "root", journal)
        started.append(kept)
        return kept

    yield start
    for kept in started:
        kept.control.close()
        try:
            kept.wait()
        except BaseException:
            os.kill(kept.pid, signal.SIGKILL)
            os.waitpid(kept.pid, 0)
            raise
        # Our own trouble is written from a line's start; a worker's has time and name before it.
        assert "\nTraceback" not in "\n" + kept.log(), kept.log()
        assert kept.code == 0


@pytest.fixture
def kept(keep: Callable[..., Kept]) -> Kept:
    return keep()


@pytest.fixture
def channel(kept: Kept) -> Iterator[Channel]:
    opened = Channel(kept.attach())
    yield opened
    opened.close()


@pytest.fixture
def open_channel() -> Iterator[Callable[[Kept], Channel]]:
    """More channels than one: `open_channel(kept)`."""
    opened: list[Channel] = []

    def start(kept: Kept) -> Channel:
        opened.append(Channel(kept.attach()))
        return opened[-1]

    yield start
    for channel in opened:
        channel.close()


@pytest.fixture
def until() -> Callable[[Callable[[], object], str], None]:
    return eventually


@pytest.fixture
def content() -> Callable[[int], bytes]:
    return read_all


@pytest.fixture
def lives() -> Callable[[int], bool]:
    return alive
