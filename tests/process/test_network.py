"""Programs without a network: what they reach, and how they are still reached."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.process import birth, network
from gateway.process.channel import (
    PoolAt,
    WantPool,
)
from gateway.process.pools import Listener
from gateway.process.spec import KeeperSpec, ScriptRoot

NOBODY = 65534

only_root = pytest.mark.skipif(
    os.getuid() != 0 or bool(subprocess.run(["unshare", "-n", "true"], check=False).returncode),
    reason="only root with CAP_SYS_ADMIN makes network namespaces",
)

Keep = Callable[..., Any]
Until = Callable[[Callable[[], object], str], None]

WORKER = """#!/usr/bin/python3 -SE
import os, socket
listening = socket.socket(fileno=0)
while True:
    connection, _ = listening.accept()
    with connection:
        while asked := connection.recv(100):
            connection.sendall(b"%d " % os.getpid() + asked)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may enter, with one of nobody's for sockets."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "sockets").mkdir()
        os.chown(Path(name) / "sockets", NOBODY, NOBODY)
        yield Path(name)


def cut_off(place: Path, **more: Any) -> dict[str, Any]:
    return {
        "switch": True,
        "uid": NOBODY,
        "gid": NOBODY,
        "groups": (NOBODY,),
        "network": False,
        "scripts": {"r": ScriptRoot(root=os.fsencode(place), start="exec")},
        "sockets": os.fsencode(place / "sockets"),
        **more,
    }


def script(place: Path, name: str, text: str) -> None:
    (place / name).write_text(text)
    (place / name).chmod(0o755)


PROBE = """#!/usr/bin/python3
import socket, sys
def ways():
    for family, address in (
        (socket.AF_INET, ("127.0.0.1", {port})),
        (socket.AF_INET, ("192.0.2.1", 80)),
        (socket.AF_UNIX, "{path}"),
        (socket.AF_UNIX, "\\0{name}"),
    ):
        with socket.socket(family) as sock:
            try:
                sock.connect(address)
            except OSError as error:
                yield type(error).__name__ + " %d" % error.errno
            else:
                yield "connected"
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        own.listen()
        with socket.create_connection(own.getsockname()):
            yield "own loopback"
print("\\n".join(ways()))
"""


@only_root
@pytest.mark.parametrize("cut", [True, False])
def test_only_own_loopback_and_named_sockets_are_reached(
    keep: Keep, open_channel: Any, place: Path, content: Any, cut: bool
) -> None:
    name = f"gateway-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as named, \
            socket.socket(socket.AF_UNIX) as abstract:  # fmt: skip
        named.bind(os.fsencode(place / "named"))
        (place / "named").chmod(0o777)
        named.listen()
        abstract.bind("\0" + name)
        abstract.listen()
        probe = PROBE.format(port=tcp.getsockname()[1], path=place / "named", name=name)
        script(place, "probe.cgi", probe)
        kept = keep(**cut_off(place, network=not cut))
        channel = open_channel(kept)
        out, err = channel.order(1, "probe.cgi")
        said = content(out).decode().splitlines()
        assert said, content(err)
        channel.reply()
    if cut:
        assert said == [
            "ConnectionRefusedError 111", "OSError 101", "connected", "ConnectionRefusedError 111",
            "own loopback",
        ]  # fmt: skip
    else:
        assert said[0] == said[2] == said[3] == "connected"


@only_root
def test_workers_are_reached_and_stay_while_somebody_is_connected(
    keep: Keep, open_channel: Any, place: Path, until: Until
) -> None:
    script(place, "app.fcgi", WORKER)
    root = ScriptRoot(root=os.fsencode(place), pool_idle=0.3)
    kept = keep(**cut_off(place, scripts={"r": root}, idle=0.2))
    channel = open_channel(kept)
    channel.send(WantPool(1, "r", b"app.fcgi"))
    at = channel.reply()
    assert isinstance(at, PoolAt), at
    with socket.socket(socket.AF_UNIX) as front:
        front.settimeout(20)
        front.connect(at.path)
        front.sendall(b"one")
        first = front.recv(100).split()
        # The keeper has looked for connections once another pool has fallen asleep since.
        script(place, "other.fcgi", WORKER)
        channel.send(WantPool(2, "r", b"other.fcgi"))
        other = channel.reply()
        assert isinstance(other, PoolAt), other
        until(lambda: len(kept.children()) == 2, "the other worker does not start")
        until(lambda: len(kept.children()) == 1, "the other worker does not leave")
        front.sendall(b"two")
        assert front.recv(100).split() == [first[0], b"two"]
    until(lambda: not kept.children(), "the worker does not leave")


@only_root
def test_connections_are_counted_from_inside(place: Path, spec: KeeperSpec) -> None:
    reader, writer = os.pipe()
    told, tell = os.pipe()
    path = os.fsencode(place / "sockets/s")
    pid = os.fork()
    if not pid:
        try:
            birth.become(replace(spec, **cut_off(place)), (writer, told))
            listener = Listener(path)
            counts = [listener.connections()]
            os.write(writer, b"x")
            os.read(told, 1)
            with socket.socket(fileno=os.dup(listener.fileno())) as listening:
                accepted, _ = listening.accept()
            counts.append(listener.connections())
            os.write(writer, bytes(counts))
            accepted.close()
        finally:
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    with closing(socket.socket(socket.AF_UNIX)) as front:
        front.connect(path)
        os.write(tell, b"x")
        assert os.read(reader, 2) == bytes([0, 1])
    os.waitpid(pid, 0)
    for fd in (reader, told, tell):
        os.close(fd)


@only_root
def test_without_root_there_is_no_keeper(spec: KeeperSpec) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            birth.become(replace(spec, network=False), (writer,))
        except birth.BirthFailed as failed:
            os.write(writer, str(failed).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        assert file.read() == (
            "network: network = false is not possible: unshare: Operation not permitted; it takes "
            "root with CAP_SYS_ADMIN, which a container may lack; else set network = true"
        )
    os.waitpid(pid, 0)


def test_table_outside_is_the_one_of_this_network() -> None:
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as sock:
        path = os.fsencode(name) + b"/s"
        sock.bind(path)
        assert any(line.endswith(b" " + path + b"\n") for line in network.unix_sockets())
