"""Worker pools under a real keeper: their sockets, restarts, and what fronts are told."""

import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.process.channel import (
    Failed,
    PoolAt,
    PoolDown,
    PoolUp,
    WantPool,
)
from gateway.process.pools import Listener
from gateway.process.spec import KeeperSpec, PoolSpec, Program
from gateway.process.workers import LINE, Lines

Keep = Callable[..., Any]
Until = Callable[[Callable[[], object], str], None]
Lives = Callable[[int], bool]

WORKER = """
import os, socket, sys
listening = socket.socket(fileno=0)
print("worker starts", file=sys.stderr, flush=True)
while True:
    connection, _ = listening.accept()
    with connection:
        asked = connection.recv(100)
        if asked == b"die":
            print("dying words", file=sys.stderr, flush=True)
            os._exit(7)
        if asked == b"leave":
            os._exit(0)
        fork = asked == b"fork" and os.fork() == 0
        connection.sendall(f"{os.getpid()} {TAG} {os.getcwd()} {os.environ.get('X')}".encode())
"""


def program(text: str, directory: Path) -> Program:
    return Program(
        argv=(os.fsencode(sys.executable), b"-SE", b"-c", text.encode()),
        directory=os.fsencode(directory),
        environment={b"X": b"set"},
    )


def pool(tmp_path: Path, text: str, **more: Any) -> PoolSpec:
    settings: dict[str, Any] = {"name": "app", "processes": 1, **more}
    return PoolSpec(
        program=program(text.replace("{TAG}", "one"), tmp_path),
        socket=os.fsencode(tmp_path / "app.sock"),
        **settings,
    )


def ask(path: bytes | Path, say: bytes = b"hello") -> list[str]:
    """Say something to a worker; return the words of its answer, [] when it hangs up."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        try:
            sock.connect(os.fsencode(path))
            sock.sendall(say)
            return sock.recv(1000).decode().split()
        except (ConnectionError, FileNotFoundError):
            return []


def test_workers_have_the_socket_as_descriptor_0_and_their_own_place(
    keep: Keep, tmp_path: Path, until: Until
) -> None:
    kept = keep(pools=(pool(tmp_path, WORKER, processes=2),))
    until(lambda: ask(tmp_path / "app.sock"), "no worker answers")
    _, tag, directory, variable = ask(tmp_path / "app.sock")
    assert (tag, directory, variable) == ("one", str(tmp_path), "set")
    assert len(kept.children()) == 2
    assert stat.S_IMODE(os.stat(tmp_path / "app.sock").st_mode) == 0o660
    until(lambda: "app: worker starts" in kept.log(), "its words are not in the log")


def test_pool_leaves_with_the_keeper_and_its_socket_too(
    keep: Keep, tmp_path: Path, until: Until, lives: Lives
) -> None:
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WORKER
    kept = keep(pools=(pool(tmp_path, deaf),))
    until(lambda: ask(tmp_path / "app.sock"), "no worker answers")
    pid = int(ask(tmp_path / "app.sock", b"fork")[0])
    kept.stop()
    assert kept.wait() == 0
    assert not lives(pid)
    assert not (tmp_path / "app.sock").exists()


def test_dead_worker_is_replaced_and_its_end_is_logged(
    keep: Keep, tmp_path: Path, until: Until
) -> None:
    kept = keep(pools=(pool(tmp_path, WORKER),))
    until(lambda: ask(tmp_path / "app.sock"), "no worker answers")
    first = ask(tmp_path / "app.sock")[0]
    os.kill(int(first), signal.SIGSEGV)

    def replaced() -> bool:
        answer = ask(tmp_path / "app.sock")
        return bool(answer) and answer[0] != first

    until(replaced, "it is not replaced")
    assert "killed by signal 11" in kept.log()
    assert "segmentation fault" in kept.log()


def test_what_a_worker_forked_goes_with_it(
    keep: Keep, tmp_path: Path, until: Until, lives: Lives
) -> None:
    keep(pools=(pool(tmp_path, WORKER),))
    until(lambda: ask(tmp_path / "app.sock"), "no worker answers")
    parent = int(ask(tmp_path / "app.sock")[0])
    child = parent
    while child == parent:
        child = int(ask(tmp_path / "app.sock", b"fork")[0])
    os.kill(parent, signal.SIGKILL)
    until(lambda: not lives(child), "its child lives")


def test_crash_loop_is_told_with_its_reason_and_nobody_hangs(
    keep: Keep, open_channel: Any, tmp_path: Path, until: Until
) -> None:
    broken = "import os, sys\nprint('one')\nimport no_such_module\n"
    kept = keep(pools=(pool(tmp_path, broken, processes=2),))
    channel = open_channel(kept)
    told = channel.reply()
    assert isinstance(told, PoolDown)
    assert told.name == "app"
    assert "no_such_module is not installed" in told.why
    assert "exit status 1" in told.why
    # A new front is told at once, and a connection does not wait for a worker that never comes.
    assert open_channel(kept).reply() == told
    assert ask(tmp_path / "app.sock") == []


def test_pool_that_recovers_is_up_again(
    keep: Keep, open_channel: Any, tmp_path: Path, until: Until
) -> None:
    gate = tmp_path / "gate"
    text = f"import os, sys\nif not os.path.exists({str(gate)!r}): sys.exit('no gate')\n" + WORKER
    channel = open_channel(keep(pools=(pool(tmp_path, text),)))
    told = channel.reply()
    assert isinstance(told, PoolDown)
    assert "no gate" in told.why
    gate.touch()
    assert channel.reply() == PoolUp("app")
    assert ask(tmp_path / "app.sock")


def test_program_that_is_not_there_is_down_with_the_reason(
    keep: Keep, open_channel: Any, tmp_path: Path
) -> None:
    missing = Program(argv=(b"/no/such/program",), directory=b"/", environment={})
    spec = PoolSpec(
        name="app", program=missing, processes=1, socket=os.fsencode(tmp_path / "app.sock")
    )
    told = open_channel(keep(pools=(spec,))).reply()
    assert isinstance(told, PoolDown)
    assert "/no/such/program" in told.why


def test_socket_that_cannot_be_made_is_down_with_the_reason(
    keep: Keep, open_channel: Any, tmp_path: Path
) -> None:
    spec = replace(pool(tmp_path, WORKER), socket=os.fsencode(tmp_path / "no" / "app.sock"))
    told = open_channel(keep(pools=(spec,))).reply()
    assert isinstance(told, PoolDown)
    assert "app.sock cannot be made" in told.why


def test_stale_socket_is_replaced_and_another_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    old = Listener(os.fsencode(path))
    new = Listener(os.fsencode(path))
    old.close()  # it is the new one's name now
    assert path.exists()
    new.close()
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(OSError, match="cannot be made"):
        Listener(os.fsencode(path))
    assert path.read_text() == "precious"


# Pools found by file.


def worker_file(kept: Any, tag: str) -> Path:
    path: Path = kept.script("app.fcgi", f"#!{sys.executable} -SE\n" + WORKER.replace("{TAG}", tag))
    return path


def want(channel: Any, id: int = 1, script: bytes = b"app.fcgi") -> Any:
    channel.send(WantPool(id, "r", script))
    while not isinstance(reply := channel.reply(), Failed | PoolAt):
        pass
    return reply


def test_file_becomes_a_pool_of_its_own(kept: Any, channel: Any, spec: KeeperSpec) -> None:
    worker_file(kept, "first")
    at = want(channel)
    assert at.path.startswith(spec.sockets + b"/")
    _, tag, directory, _ = ask(at.path)
    assert (tag, directory) == ("first", str(kept.root))
    assert want(channel, 2) == PoolAt(2, at.path)
    assert len(kept.children()) == 1


def test_edited_file_is_run_from_then_on(kept: Any, channel: Any, until: Until) -> None:
    worker_file(kept, "first")
    at = want(channel)
    first = ask(at.path)
    worker_file(kept, "second")
    assert want(channel, 2) == PoolAt(2, at.path)

    def edited() -> bool:
        answer = ask(at.path)
        return bool(answer) and answer[1] == "second"

    until(edited, "the old file is still run")
    assert len(kept.children()) == 1
    assert ask(at.path)[0] != first[0]


@pytest.mark.parametrize(
    ("name", "mode", "status", "words"),
    [
        (b"none.fcgi", 0o755, 404, "no such file"),
        (b"app.fcgi", 0o644, 403, "chmod +x"),
        (b"../app.fcgi", 0o755, 403, "leads out"),
    ],
)
def test_file_is_checked_like_a_script(
    kept: Any, channel: Any, name: bytes, mode: int, status: int, words: str
) -> None:
    worker_file(kept, "first").chmod(mode)
    failed = want(channel, 1, name)
    assert failed.status == status
    assert words in failed.why


def test_broken_file_fails_with_its_reason_until_it_is_mended(
    kept: Any, channel: Any, until: Until
) -> None:
    kept.script("app.fcgi", f"#!{sys.executable} -SE\nimport no_such_module\n")
    assert isinstance(want(channel), PoolAt)  # nothing is known yet
    assert isinstance(channel.reply(), PoolDown)
    failed = want(channel, 2)
    assert failed.status == 502
    assert "no_such_module" in failed.why
    worker_file(kept, "mended")
    at = want(channel, 3)
    assert isinstance(at, PoolAt)
    assert ask(at.path)[1] == "mended"


def test_unused_pool_sleeps_and_the_next_connection_wakes_it(
    keep: Keep, open_channel: Any, spec: KeeperSpec, until: Until
) -> None:
    kept = keep(scripts={"r": replace(spec.scripts["r"], pool_idle=0.1)})
    worker_file(kept, "first")
    at = want(open_channel(kept))
    first = ask(at.path)
    until(lambda: not kept.children(), "its worker stays")
    again = ask(at.path)
    assert again[1] == "first"
    assert again[0] != first[0]


def test_pool_with_an_open_connection_does_not_sleep(
    keep: Keep, open_channel: Any, spec: KeeperSpec, until: Until
) -> None:
    kept = keep(scripts={"r": replace(spec.scripts["r"], pool_idle=0.1)})
    worker_file(kept, "first")
    at = want(open_channel(kept))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(at.path)
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):  # longer than it would take to fall asleep
            sock.recv(1)
        assert kept.children()
        sock.sendall(b"hello")
        sock.settimeout(20)
        assert sock.recv(100)
    until(lambda: not kept.children(), "its worker stays")


# What workers write.


def test_lines_are_cut_into_bounded_pieces() -> None:
    lines = Lines()
    assert lines.feed(b"one\r\ntwo\n\nthr") == [b"one", b"two"]
    assert lines.feed(b"ee") == []
    assert lines.feed(b"\n") == [b"three"]
    assert lines.feed(b"x" * (LINE + 1)) == [b"x" * LINE + b" [cut]"]
    assert lines.feed(b"y" * 10_000_000) == []
    assert lines.feed(b"z\nnext\nlast") == [b"next"]
    assert lines.finish() == [b"last"]
    assert lines.finish() == []


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_lines_are_the_same_however_they_arrive(size: int) -> None:
    data = b"alpha\nbeta\n\ngamma\r\ndelta"
    lines = Lines()
    found = [
        line
        for start in range(0, len(data), size)
        for line in lines.feed(data[start : start + size])
    ]
    assert found + lines.finish() == [b"alpha", b"beta", b"gamma", b"delta"]


def test_endless_line_of_a_worker_is_one_cut_line_in_the_log(
    keep: Keep, tmp_path: Path, until: Until
) -> None:
    text = "import sys, time\nsys.stderr.write('x' * 10_000_000)\nprint('\\x1b[2J', flush=True)\n"
    kept = keep(pools=(pool(tmp_path, text + WORKER),))
    until(lambda: ask(tmp_path / "app.sock"), "no worker answers")
    log = kept.log()
    assert "[cut]" in log
    assert len(log) < 20_000
    assert "\x1b" not in log
