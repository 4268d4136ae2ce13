"""Warm scripts through a real keeper: when one is warm, what is told, and that none gets lost."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.process.channel import (
    Exited,
    Failed,
    Queued,
    Release,
    Started,
)
from gateway.process.spec import ScriptRoot
from gateway.process.zygotes import FAILURES_MAX

Keep = Callable[..., Any]
Until = Callable[[Callable[[], object], str], None]
Content = Callable[[int], bytes]

PYTHON = f"""#!{sys.executable} -S
import os, sys
print("parent", open("/proc/%d/cmdline" % os.getppid()).read().replace(chr(0), " "))
print(os.environ.get("QUERY_STRING"), os.getcwd(), sys.argv[0], os.getpgid(0) == os.getpid())
"""
PERL = """#!/usr/bin/perl
use POSIX ();
open(my $parent, '<', '/proc/' . getppid() . '/cmdline'); my $line = <$parent>; $line =~ tr/\\0/ /;
print "parent $line\\n$ENV{QUERY_STRING} ", (-d '.' ? `pwd` : ''), "$0\\n";
"""
MARKS = ("guests/zygote.py", "-Mzygote=", "warm perl of cgi-gateway")
"""What the command line of a zygote has, and no other."""
LANGUAGES = [
    pytest.param("x.py", PYTHON, id="python"),
    pytest.param(
        "x.pl",
        PERL,
        id="perl",
        marks=pytest.mark.skipif(not shutil.which("perl"), reason="perl is not installed"),
    ),
]


def ask(channel: Any, content: Content, script: str, id: int = 1, query: str = "") -> str:
    """Run a script to its end; return what it wrote."""
    out, _ = channel.order(id, script, {b"QUERY_STRING": query.encode()})
    text = content(out)
    while not isinstance(reply := channel.reply(), Exited):
        assert isinstance(reply, Queued | Started), reply
    assert reply.status == 0, text
    return text.decode()


def is_warm(text: str) -> bool:
    return any(mark in text.partition("\n")[0] for mark in MARKS)


def warmed(channel: Any, content: Content, until: Until, script: str) -> None:
    """Ask until the script is warm."""
    until(lambda: is_warm(ask(channel, content, script)), f"{script} becomes warm")


def zygotes(kept: Any) -> list[int]:
    found = []
    for pid in kept.children():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if any(mark.encode() in line for mark in MARKS):
            found.append(pid)
    return found


def roots(kept_root: Path, start: str, **more: object) -> dict[str, ScriptRoot]:
    return {"r": ScriptRoot(root=os.fsencode(kept_root), start=start, **more)}  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "text"), LANGUAGES)
def test_first_is_executed_and_later_ones_are_warm(
    kept: Any, channel: Any, content: Content, until: Until, name: str, text: str
) -> None:
    path = kept.script(name, text)
    assert not is_warm(ask(channel, content, name))
    warmed(channel, content, until, name)
    said = ask(channel, content, name, query="a=b")
    assert "a=b" in said
    assert str(path.parent) in said
    assert str(path) in said


@pytest.mark.parametrize(("name", "text"), LANGUAGES)
def test_start_warm_waits_for_the_first_zygote(
    keep: Keep, open_channel: Any, content: Content, tmp_path: Path, name: str, text: str
) -> None:
    kept = keep(scripts=roots(tmp_path / "root", "warm"))
    kept.script(name, text)
    assert is_warm(ask(open_channel(kept), content, name))


def test_start_exec_is_never_warm(
    keep: Keep, open_channel: Any, content: Content, tmp_path: Path
) -> None:
    kept = keep(scripts=roots(tmp_path / "root", "exec"))
    kept.script("x.py", PYTHON)
    channel = open_channel(kept)
    assert not any(is_warm(ask(channel, content, "x.py")) for _ in range(3))
    assert zygotes(kept) == []


def test_script_that_cannot_be_warm_is_executed_and_a_route_that_wants_it_is_told_once(
    keep: Keep, open_channel: Any, content: Content, tmp_path: Path
) -> None:
    kept = keep(scripts=roots(tmp_path / "root", "warm"))
    kept.script("x.sh", "#!/bin/sh\necho parent\n")
    channel = open_channel(kept)
    for _ in range(3):
        assert ask(channel, content, "x.sh") == "parent\n"
    assert kept.log().count("neither Python nor Perl") == 1


def test_exit_status_and_processor_time_are_told(
    kept: Any, channel: Any, content: Content, until: Until
) -> None:
    kept.script("x.py", PYTHON)
    warmed(channel, content, until, "x.py")
    text = f"#!{sys.executable} -S\nfor n in range(3000000): pass\nraise SystemExit(7)\n"
    kept.script("work.py", text)
    out, _ = channel.order(5, "work.py")
    content(out)
    reply = channel.reply()
    assert isinstance(reply, Exited)
    assert (reply.id, reply.status) == (5, 7)
    assert reply.cpu > 0.01
    assert reply.memory > 1 << 20


def test_edited_script_takes_effect_at_once(
    kept: Any, channel: Any, content: Content, until: Until
) -> None:
    kept.script("x.py", PYTHON)
    warmed(channel, content, until, "x.py")
    kept.script("x.py", PYTHON + "print('edited')\n")
    said = ask(channel, content, "x.py")
    assert said.endswith("edited\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_zygote_costs_no_request(
    kept: Any, channel: Any, content: Content, until: Until, number: int
) -> None:
    kept.script("x.py", PYTHON)
    warmed(channel, content, until, "x.py")
    for _ in range(5):
        for pid in zygotes(kept):
            os.kill(pid, number)
        assert "parent" in ask(channel, content, "x.py")


def test_order_in_the_hands_of_a_dying_zygote_is_executed(
    kept: Any, channel: Any, content: Content, until: Until
) -> None:
    kept.script("x.py", PYTHON)
    warmed(channel, content, until, "x.py")
    (zygote,) = zygotes(kept)
    os.kill(zygote, signal.SIGSTOP)  # it takes the order, and never starts it
    outs = [channel.order(id, "x.py")[0] for id in (11, 12, 13)]
    channel.sync()
    os.kill(zygote, signal.SIGKILL)
    for out in outs:
        assert not is_warm(content(out).decode())
    ended = [channel.reply() for _ in outs]
    assert sorted(reply.id for reply in ended) == [11, 12, 13]
    assert {reply.status for reply in ended} == {0}


def test_zygote_that_hangs_is_replaced_and_its_order_executed(
    keep: Keep,
    open_channel: Any,
    content: Content,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.process.zygotes.STUCK", 0.2)
    monkeypatch.setattr("gateway.process.zygotes.SWEEP", 0.1)
    kept = keep()
    channel = open_channel(kept)
    kept.script("x.py", PYTHON)
    warmed(channel, content, until, "x.py")
    (zygote,) = zygotes(kept)
    os.kill(zygote, signal.SIGSTOP)
    assert not is_warm(ask(channel, content, "x.py"))
    warmed(channel, content, until, "x.py")


def test_order_that_was_let_go_of_before_it_started_is_not_started(
    kept: Any, channel: Any, content: Content, until: Until
) -> None:
    kept.script("x.py", PYTHON)
    warmed(channel, content, until, "x.py")
    (zygote,) = zygotes(kept)
    kept.script("mark.py", f"#!{sys.executable} -S\nopen('mark', 'w').close()\n")
    os.kill(zygote, signal.SIGSTOP)
    out, _ = channel.order(21, "mark.py")
    channel.send(Release(21))
    channel.sync()
    os.kill(zygote, signal.SIGKILL)
    assert content(out) == b""
    assert "parent" in ask(channel, content, "x.py")  # whatever was to be done has been done
    assert not (kept.root / "mark").exists()


def test_released_script_is_ended(
    kept: Any, channel: Any, content: Content, until: Until, lives: Callable[[int], bool]
) -> None:
    kept.script("x.py", PYTHON)
    warmed(channel, content, until, "x.py")
    text = (
        f"#!{sys.executable} -S\nimport os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(os.getpid(), flush=True)\ntime.sleep(300)\n"
    )
    kept.script("deaf.py", text)
    out, _ = channel.order(9, "deaf.py")
    pid = int(os.read(out, 100))
    channel.send(Release(9))
    until(lambda: not lives(pid), "TERM, and after the grace KILL")
    reply = channel.reply()
    assert isinstance(reply, Exited)
    assert (reply.id, reply.status) == (9, -signal.SIGKILL)


def test_scripts_of_a_killed_zygote_end_as_always(
    kept: Any, channel: Any, content: Content, until: Until
) -> None:
    kept.script("x.py", PYTHON)
    warmed(channel, content, until, "x.py")
    (kept.root / "gate").unlink(missing_ok=True)
    os.mkfifo(kept.root / "gate")
    text = (
        f"#!{sys.executable} -S\nimport sys\nprint('in', flush=True)\n"
        "open('gate').read()\nsys.exit(4)\n"
    )
    kept.script("slow.py", text)
    out, _ = channel.order(31, "slow.py")
    assert os.read(out, 10) == b"in\n"
    (zygote,) = zygotes(kept)
    os.kill(zygote, signal.SIGKILL)
    with open(kept.root / "gate", "w"):
        pass
    reply = channel.reply()
    assert isinstance(reply, Exited)
    assert (reply.id, reply.status) == (31, 4)


def test_zygote_that_cannot_be_is_given_up_and_nothing_is_lost(
    keep: Keep, open_channel: Any, content: Content, tmp_path: Path
) -> None:
    fake = tmp_path / "python3"
    fake.write_text("#!/bin/sh\ncase $1 in */zygote.py) exit 3;; esac\necho parent sh\n")
    fake.chmod(0o755)
    kept = keep(scripts=roots(tmp_path / "root", "warm"))
    kept.script("x.py", f"#!{fake}\n")
    channel = open_channel(kept)
    for _ in range(FAILURES_MAX + 2):
        assert ask(channel, content, "x.py") == "parent sh\n"
    assert kept.log().count("ended with 3") == FAILURES_MAX
    assert "for 600 s" in kept.log()


def test_end_that_a_dying_zygote_did_not_tell_is_told_and_its_place_is_free(
    keep: Keep, open_channel: Any, content: Content, tmp_path: Path
) -> None:
    fake = tmp_path / "python3"
    fake.write_text(
        f"#!{sys.executable} -S\nimport os, socket, struct, sys\n"
        "if not sys.argv[1].endswith('/zygote.py'): sys.exit(print('executed'))\n"
        "keeper = socket.socket(fileno=int(sys.argv[2]))\n"
        "keeper.send(b'H' + struct.pack('<I', os.getpid()))\n"
        "data, fds, *_ = socket.recv_fds(keeper, 1 << 17, 3)\n"
        "pid = os.fork()\n"
        "if not pid: os.setpgid(0, 0); os.write(fds[1], b'child'); os._exit(0)\n"
        "keeper.send(b'S' + data[1:5] + struct.pack('<I', pid))\n"
        "os.waitpid(pid, 0)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    fake.chmod(0o755)
    kept = keep(scripts=roots(tmp_path / "root", "warm"), concurrency=1)
    kept.script("x.py", f"#!{fake}\n")
    channel = open_channel(kept)
    for id in (1, 2):
        out, _ = channel.order(id, "x.py")
        assert content(out) == b"child"
        while not isinstance(reply := channel.reply(), Exited):
            assert isinstance(reply, Queued | Started)
        assert (reply.id, reply.status) == (id, -signal.SIGKILL)


def test_idle_zygote_leaves(
    keep: Keep, open_channel: Any, content: Content, until: Until, tmp_path: Path
) -> None:
    kept = keep(scripts=roots(tmp_path / "root", "warm"), idle=0.5)
    kept.script("x.py", PYTHON)
    assert is_warm(ask(open_channel(kept), content, "x.py"))
    until(lambda: not zygotes(kept), "it leaves")


def test_concurrency_counts_warm_ones(
    keep: Keep, open_channel: Any, content: Content, tmp_path: Path
) -> None:
    kept = keep(scripts=roots(tmp_path / "root", "warm"), concurrency=1, queue=1)
    text = f"#!{sys.executable} -S\nimport sys\nprint(sys.stdin.read())\n"
    kept.script("x.py", text)
    channel = open_channel(kept)
    reader, writer = os.pipe()
    first, _ = channel.order(1, "x.py", stdin=reader)
    os.close(reader)
    second, _ = channel.order(2, "x.py")
    assert isinstance(channel.reply(), Queued)
    channel.order(3, "x.py")
    reply = channel.reply()
    assert isinstance(reply, Failed)
    assert (reply.id, reply.status) == (3, 503)
    os.write(writer, b"go")
    os.close(writer)
    assert content(first) == b"go\n"
    assert content(second) == b"\n"
    assert [type(channel.reply()) for _ in range(3)].count(Exited) == 2


def test_many_warm_requests_leave_no_zombie_and_no_descriptor(
    kept: Any, channel: Any, content: Content, until: Until
) -> None:
    kept.script("x.py", PYTHON)
    warmed(channel, content, until, "x.py")
    before = kept.descriptors()
    for id in range(100, 300):
        out, _ = channel.order(id, "x.py")
        content(out)
        assert isinstance(channel.reply(), Exited)
        os.close(channel._fds.pop())
        os.close(channel._fds.pop())
    assert kept.descriptors() <= before
    (zygote,) = zygotes(kept)
    below = Path(f"/proc/{zygote}/task/{zygote}/children")
    until(lambda: below.read_text() == "", "all children were reaped")
