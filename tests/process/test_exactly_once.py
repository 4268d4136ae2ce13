"""Whatever becomes of an interpreter that is ready: each order runs once, and no order twice."""

import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from gateway.guests import ZYGOTE_PERL, ZYGOTE_PYTHON
from gateway.process.channel import Exited, Queued, Started
from gateway.process.post import last_of
from gateway.process.spec import ScriptRoot

Keep = Callable[..., Any]
Until = Callable[[Callable[[], object], str], None]

KILLS = 60
ROUNDS = 2000
"""Batches of orders, at most, until there have been so many kills."""
AT_ONCE = 8

PYTHON = """#!{} -S
import os
fd = os.open("ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 384)
os.write(fd, (os.environ["QUERY_STRING"] + "\\n").encode("ascii"))
os.close(fd)
"""
PERL = """#!/usr/bin/perl
use POSIX ();
sysopen(my $ran, 'ran', POSIX::O_WRONLY() | POSIX::O_APPEND() | POSIX::O_CREAT());
syswrite($ran, "$ENV{QUERY_STRING}\\n");
"""
OLD_PYTHONS = [str(path) for path in Path.home().glob(".pyenv/versions/2.7*/bin/python2.7")]
PYTHON_2 = next(iter(OLD_PYTHONS), shutil.which("python2.7") or "")
NO_PERL = pytest.mark.skipif(not shutil.which("perl"), reason="perl is not installed")
NO_OLD = pytest.mark.skipif(not PYTHON_2, reason="Python 2.7 is not installed")
SCRIPTS = [
    pytest.param("x.py", PYTHON.format(sys.executable), id="python"),
    pytest.param("x.py", PYTHON.format(PYTHON_2), id="python2.7", marks=NO_OLD),
    pytest.param("x.pl", PERL, id="perl", marks=NO_PERL),
]


def children_of(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def kill_at_random(kept: Any, over: Event, killed: list[int], seed: int) -> None:
    """Kill what the keeper has started or was left by another, at some moment, until it is over."""
    chance = random.Random(seed)
    while not over.wait(chance.uniform(0.0, 0.05)):
        for pid in children_of(kept.pid):
            over.wait(chance.uniform(0.0, 0.004))
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it was killed before, and has been replaced
            killed.append(pid)


def ran(kept: Any) -> list[str]:
    path = kept.root / "ran"
    return path.read_text().split() if path.exists() else []


def end_of(channel: Any) -> Exited:
    while not isinstance(reply := channel.reply(), Exited):
        assert isinstance(reply, Queued | Started), reply
    return reply


@pytest.mark.parametrize("start", ["warm", "persistent"])
@pytest.mark.parametrize(("name", "text"), SCRIPTS)
def test_no_order_is_lost_or_runs_twice_when_interpreters_are_killed_at_random(
    keep: Keep,
    open_channel: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    text: str,
    start: str,
) -> None:
    monkeypatch.setattr("gateway.process.zygotes.FAILURES_MAX", 1 << 30)  # some die when they start
    root = ScriptRoot(root=os.fsencode(tmp_path / "root"), start=start)  # type: ignore[arg-type]
    kept = keep(scripts={"r": root}, concurrency=AT_ONCE)
    kept.script(name, text)
    channel = open_channel(kept)
    over, killed, status = Event(), list[int](), dict[str, int]()
    killer = Thread(target=kill_at_random, args=(kept, over, killed, len(text)))
    killer.start()
    try:
        for batch in range(ROUNDS):
            ids = range(batch * AT_ONCE + 1, (batch + 1) * AT_ONCE + 1)
            for id in ids:
                channel.order(id, name, {b"QUERY_STRING": b"%d" % id})
            for _ in ids:
                ended = end_of(channel)
                assert str(ended.id) not in status
                status[str(ended.id)] = ended.status
            channel.close_pipes()
            if len(killed) >= KILLS:
                break
    finally:
        over.set()
        killer.join()
    counted = Counter(ran(kept))
    assert [id for id in counted if counted[id] > 1] == []
    # A script may be killed as well: that is told, and it is not run again.
    assert [id for id in status if id not in counted and status[id] != -signal.SIGKILL] == []
    assert len(status) == (batch + 1) * AT_ONCE
    assert len(killed) >= KILLS


@pytest.mark.parametrize(("name", "text"), SCRIPTS)
def test_child_that_cannot_say_that_it_starts_runs_nothing(
    tmp_path: Path, name: str, text: str
) -> None:
    script = tmp_path / name
    script.write_text(text)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = text[2:].split()[0]
    control = theirs.fileno()
    command = [program, "-S", ZYGOTE_PYTHON, str(control)]
    if name == "x.pl":
        folder = os.path.dirname(ZYGOTE_PERL)
        command = [program, "-I", folder, f"-Mzygote={control}", "/dev/null"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[control], env={}
    ) as zygote:
        theirs.close()
        ours.settimeout(30)
        assert ours.recv(100)[:1] == b"H"
        assert list(last_of(ours, 100)) == []
        paths = os.fsencode(script), os.fsencode(tmp_path)
        head = struct.pack("<cIHH", b"R", 1, *map(len, paths))
        with open(os.devnull, "r+b", buffering=0) as nothing:
            message = b"".join((head, *paths, b"QUERY_STRING=1"))
            socket.send_fds(ours, [message], [nothing.fileno()] * 3)
        # It leaves when it cannot say how its child ended.
        assert zygote.wait(30) == 0
    ours.close()
    assert not (tmp_path / "ran").exists()


FAKE = f"""#!{sys.executable} -S
import os, select, socket, struct, sys
if not sys.argv[1].endswith("/zygote.py"):
    name = os.environ["QUERY_STRING"]
    fd = os.open("ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 384)
    os.write(fd, b"executed%s\\n" % name.encode())
    sys.exit()
keeper = socket.socket(fileno=int(sys.argv[2]))
keeper.send(b"H" + struct.pack("<I", os.getpid()))
data, fds, *_ = socket.recv_fds(keeper, 1 << 17, 3)
"""


def faked(keep: Keep, tmp_path: Path, text: str) -> Any:
    """Start a keeper whose Python does as a zygote what the text says."""
    fake = tmp_path / "python3"
    fake.write_text(FAKE + text)
    fake.chmod(0o755)
    root = ScriptRoot(root=os.fsencode(tmp_path / "root"), start="warm")
    kept = keep(scripts={"r": root})
    kept.script("x.py", f"#!{fake}\n")
    return kept


def test_what_a_dead_zygote_had_said_is_heard_though_it_left_orders_unread(
    keep: Keep, open_channel: Any, tmp_path: Path
) -> None:
    kept = faked(
        keep,
        tmp_path,
        "pid = os.fork()\n"
        "if not pid:\n"
        "    os.setpgid(0, 0)\n"
        "    keeper.send(b'S' + data[1:5] + struct.pack('<I', os.getpid()))\n"
        f"    fd = os.open({str(tmp_path / 'root' / 'ran')!r}, os.O_WRONLY | os.O_CREAT, 384)\n"
        "    os.write(fd, b'child1\\n')\n"
        "    os._exit(0)\n"
        "os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\n"
        "select.select([keeper], [], [])\n"
        "os.kill(os.getpid(), 9)\n",
    )
    channel = open_channel(kept)
    for id in (1, 2):
        channel.order(id, "x.py", {b"QUERY_STRING": b"%d" % id})
    assert sorted((end_of(channel).id, end_of(channel).id)) == [1, 2]
    assert sorted(ran(kept)) == ["child1", "executed2"]


def test_order_whose_child_ended_before_it_started_is_executed(
    keep: Keep, open_channel: Any, tmp_path: Path
) -> None:
    kept = faked(
        keep,
        tmp_path,
        "pid = os.fork()\n"
        "if not pid: os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "keeper.send(b'X' + struct.pack('<IiQQQ', pid, 9, 0, 0, 0) + data[1:5])\n"
        "keeper.recv(1)\n",
    )
    channel = open_channel(kept)
    channel.order(1, "x.py", {b"QUERY_STRING": b"1"})
    ended = end_of(channel)
    assert (ended.id, ended.status) == (1, 0)
    assert ran(kept) == ["executed1"]
