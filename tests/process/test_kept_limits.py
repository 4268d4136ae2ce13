"""Limits that hold, on the real kernel: a keeper with control groups, and scripts that hit them."""

import os
import pickle
import random
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.process.cgroup import Cgroups, look
from gateway.process.cgroupfs import Kernel, members
from gateway.process.channel import (
    Exited,
    Failed,
    Faulted,
    PoolAt,
    Release,
    WantPool,
)
from gateway.process.counters import read
from gateway.process.spec import Allowance, KeeperSpec, ScriptRoot, StartMode
from tests.process.conftest import Kept

Until = Callable[[Callable[[], object], str], None]

HERE = Path(__file__).resolve().parents[2]

MEMORY = 64 << 20
PROCESSES = 20

needs_groups = pytest.mark.skipif(
    os.getuid() != 0 or not {"memory", "cpu", "processes"} <= look(Kernel()).found.keys(),
    reason="needs root, and control groups for memory, cpu and pids",
)
needs_perl = pytest.mark.skipif(not os.path.exists("/usr/bin/perl"), reason="needs /usr/bin/perl")
only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")

HOG = "#!/bin/sh\nx=xxxxxxxx\nwhile :; do x=$x$x; done\n"
BOMB = """#!/usr/bin/perl
while (1) {
    my $pid = fork;
    if (defined $pid) { $pid or sleep 300, exit }
    else { select undef, undef, undef, 0.01 }
}
"""
FORKS = "#!/bin/sh\nwhile :; do sleep 300 & done\n"
LOOP = "#!/bin/sh\necho up\nwhile :; do :; done\n"
OK = "#!/bin/sh\necho ok\n"


SMALL = """
import os, pickle, socket, sys
from gateway.journal import Journal
from gateway.process import keeper, ledger
control, journal, ledger.LOOK = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
spec = pickle.load(sys.stdin.buffer)
fd = os.open(journal, os.O_WRONLY | os.O_APPEND)
sys.exit(keeper.run(spec, socket.socket(fileno=control), Journal(fd, "keeper " + spec.user)))
"""
"""A keeper as small as one is: a fork of these tests may be larger than all that it is allowed, and
would be what the kernel ends."""


def small(spec: KeeperSpec, journal: Path, look: float) -> tuple[int, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(reader, 0)
        theirs.set_inheritable(True)
        words = ["-c", SMALL, str(theirs.fileno()), str(journal), str(look)]
        os.execve(sys.executable, [sys.executable, *words], {"PYTHONPATH": str(HERE)})
    theirs.close()
    os.close(reader)
    with open(writer, "wb") as file:
        pickle.dump(spec, file)
    return pid, ours


class Tenant:
    """A keeper of a user without an account, in control groups of its own."""

    def __init__(self, kept: Any, channel: Any, directories: tuple[bytes, ...], root: Path) -> None:
        self.kept = kept
        self.channel = channel
        self.directories = directories
        self.root = root
        self._last = 0

    def script(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)
        (self.root / name).chmod(0o755)

    def run(self, name: str, text: str) -> list[Any]:
        """Run a script to its end; return what the keeper says of it."""
        self.script(name, text)
        self._last += 1
        self.channel.order(self._last, name)
        said = [self.channel.reply()]
        while not isinstance(said[-1], Exited | Failed):
            assert said[-1] is not None, self.kept.log()
            said.append(self.channel.reply())
        return said

    def members(self) -> set[int]:
        return members(self.directories, Kernel())

    def faults(self, kind: str) -> list[str]:
        return [line for line in self.kept.log().splitlines() if f" fault {kind}: " in line]


def limits_of(pid: int) -> dict[str, tuple[str, str]]:
    """Return name -> (soft, hard) from /proc/PID/limits."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    words = [(line[:25].strip(), line[26:].split()) for line in lines]
    return {name: (values[0], values[1]) for name, values in words}


@pytest.fixture
def groups() -> Iterator[Cgroups]:
    made = Cgroups.prepare(Kernel(), os.getpid())
    parents = {
        f"{each.directory}/gateway-{os.getpid()}" for each, _ in made.survey().found.values()
    }
    assert all(map(os.path.isdir, parents))
    yield made
    assert made.close() == []
    assert not any(map(os.path.exists, parents))


@pytest.fixture
def tenant(
    groups: Cgroups, spec: KeeperSpec, open_channel: Any, tmp_path: Path
) -> Iterator[Callable[..., Tenant]]:
    started: list[Kept] = []
    uid = random.randrange(400_000, 500_000)  # RLIMIT_NPROC counts what others run as a user
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        sockets = Path(name, "sockets")
        sockets.mkdir()
        os.chown(sockets, uid, uid)

        def start(
            allowance: Allowance,
            *,
            grouped: bool = True,
            start: StartMode = "exec",
            look: float = 5.0,
        ) -> Tenant:
            directories: tuple[bytes, ...] = ()
            if grouped:
                made = groups.make("tenant", allowance)
                assert made.missing == ()
                directories = made.directories
            changed = replace(
                spec,
                switch=True,
                uid=uid,
                gid=uid,
                groups=(),
                scripts={"r": ScriptRoot(root=os.fsencode(name), start=start)},
                allowance=allowance,
                cgroup=directories,
                sockets=os.fsencode(sockets),
            )
            journal = tmp_path / "journal"
            journal.touch()
            kept = Kept(*small(changed, journal, look), Path(name), journal)
            started.append(kept)
            return Tenant(kept, open_channel(kept), directories, Path(name))

        yield start
        for kept in started:
            kept.control.close()
            assert kept.wait() == 0, kept.log()
            assert "Traceback" not in kept.log()


@needs_groups
def test_memory_hog_is_killed_and_named(tenant: Callable[..., Tenant]) -> None:
    one = tenant(Allowance(memory=MEMORY))
    blamed, ended = one.run("hog.cgi", HOG)
    assert blamed == Faulted(1, "killed by its memory limit (64 MiB)")
    assert ended.status == -signal.SIGKILL
    (line,) = one.faults("memory")
    assert " error keeper tests fault memory: script hog.cgi (pid " in line
    assert ", limit 64 MiB, killed by its memory limit (64 MiB), running: " in line
    assert f"(pid {one.kept.pid}, " in line
    (ended,) = one.run("ok.cgi", OK)
    assert ended.status == 0


@needs_groups
def test_script_whose_child_was_killed_for_memory_is_named(tenant: Callable[..., Tenant]) -> None:
    one = tenant(Allowance(memory=MEMORY))
    one.script("hog", HOG)
    blamed, ended = one.run("parent.cgi", "#!/bin/sh\n./hog\nexit 3\n")
    assert "a process was killed by the memory limit (64 MiB) while it ran" in blamed.why
    assert ended.status == 3
    assert "script parent.cgi" in one.faults("memory")[0]


@needs_groups
def test_killed_child_is_a_fault_also_where_its_script_makes_do(
    tenant: Callable[..., Tenant], until: Until
) -> None:
    one = tenant(Allowance(memory=MEMORY), look=0.1)
    one.script("hog", HOG)
    (ended,) = one.run("parent.cgi", "#!/bin/sh\n./hog\nexit 0\n")
    assert ended.status == 0
    until(lambda: one.faults("memory"), "nobody tells of it")
    assert "fault memory: limit 64 MiB, 1 process was killed" in one.faults("memory")[0]


@needs_groups
def test_script_that_is_killed_by_hand_is_not_blamed_on_a_limit(
    tenant: Callable[..., Tenant],
) -> None:
    one = tenant(Allowance(memory=MEMORY, processes=PROCESSES, cpu_time=5))
    (ended,) = one.run("shot.cgi", "#!/bin/sh\nkill -KILL $$\n")
    assert ended.status == -signal.SIGKILL
    assert " fault " not in one.kept.log()


@needs_groups
def test_script_that_may_not_fork_is_named(tenant: Callable[..., Tenant]) -> None:
    one = tenant(Allowance(memory=MEMORY, processes=PROCESSES))
    blamed, ended = one.run("forks.cgi", FORKS)
    assert "another process or thread: the limit of processes (20) is reached" in blamed.why
    assert ended.status > 0
    assert "script forks.cgi" in one.faults("processes")[0]
    one.channel.send(Release(1))


@needs_groups
@needs_perl
def test_fork_bomb_stays_inside_and_the_keeper_answers_and_then_works_again(
    tenant: Callable[..., Tenant], until: Until
) -> None:
    one = tenant(Allowance(memory=MEMORY, processes=PROCESSES), look=0.1)
    one.script("bomb.cgi", BOMB)
    one.channel.order(100, "bomb.cgi")
    until(lambda: one.faults("processes"), "the fault is not named")
    assert "refused, running: " in one.faults("processes")[0]
    assert len(one.members()) == PROCESSES + 1  # the keeper
    (failed,) = one.run("ok.cgi", OK)
    assert isinstance(failed, Failed)
    assert failed.status == 503
    assert "may not have more processes" in failed.why
    one.channel.send(Release(100))
    until(lambda: one.members() == {one.kept.pid}, "the bomb is there")
    assert one.channel.reply().id == 100
    (ended,) = one.run("ok.cgi", OK)
    assert ended.status == 0


@needs_groups
def test_share_of_the_processor_is_held(tenant: Callable[..., Tenant], until: Until) -> None:
    one = tenant(Allowance(cpu=0.1))
    one.script("loop.cgi", LOOP)
    one.channel.order(1, "loop.cgi")
    until(lambda: read(one.directories).throttled > 0, "it is not held back")
    one.channel.send(Release(1))
    one.channel.reply()


@only_root
def test_busy_loop_ends_at_its_processor_time(tenant: Callable[..., Tenant]) -> None:
    one = tenant(Allowance(cpu_time=1), grouped=False)
    blamed, ended = one.run("loop.cgi", LOOP)
    assert blamed.why == "killed by its limit of processor time (1 s)"
    assert ended.status == -signal.SIGXCPU
    assert "script loop.cgi" in one.faults("cpu-time")[0]


@only_root
def test_busy_loop_that_does_not_heed_its_signal_ends_all_the_same(
    tenant: Callable[..., Tenant],
) -> None:
    one = tenant(Allowance(cpu_time=1), grouped=False)
    blamed, ended = one.run("deaf.cgi", "#!/bin/sh\ntrap '' XCPU\nwhile :; do :; done\n")
    assert blamed.why == "killed by its limit of processor time (1 s)"
    assert ended.status == -signal.SIGKILL


@only_root
def test_writer_ends_at_its_file_size_and_the_keepers_journal_does_not(
    tenant: Callable[..., Tenant],
) -> None:
    one = tenant(Allowance(file_size=1 << 20), grouped=False)
    (one.root / "files").mkdir()
    (one.root / "files").chmod(0o777)
    with open(one.kept.journal, "a") as journal:
        journal.write("x" * (2 << 20) + "\n")
    text = "#!/bin/sh\nexec dd if=/dev/zero of=files/big bs=65536 count=64 2>/dev/null\n"
    blamed, ended = one.run("write.cgi", text)
    assert blamed.why == "killed by its limit of file size (1 MiB)"
    assert ended.status == -signal.SIGXFSZ
    assert (one.root / "files/big").stat().st_size == 1 << 20
    assert "script write.cgi" in one.faults("file-size")[0]


@only_root
def test_program_has_its_own_number_of_open_files_and_the_keeper_what_it_needs(
    tenant: Callable[..., Tenant], content: Callable[[int], bytes]
) -> None:
    one = tenant(Allowance(open_files=40), grouped=False)
    one.script("files.cgi", "#!/bin/sh\nulimit -Sn\nwhile [ `ulimit -Hn` != 40 ]; do :; done\n")
    out, _ = one.channel.order(1, "files.cgi")
    assert content(out) == b"40\n"
    assert int(limits_of(one.kept.pid)["Max open files"][0]) > 3 * (8 + 16)


@needs_groups
@needs_perl
def test_worker_and_warm_script_are_under_the_same_limits(
    tenant: Callable[..., Tenant], until: Until, content: Callable[[int], bytes]
) -> None:
    allowance = Allowance(memory=MEMORY, processes=PROCESSES, file_size=1 << 20, cpu_time=60)
    one = tenant(allowance, start="warm")
    one.script("app.fcgi", "#!/bin/sh\nexec sleep 300\n")
    one.channel.send(WantPool(1, "r", b"app.fcgi"))
    assert isinstance(one.channel.reply(), PoolAt)
    until(lambda: any(_command(pid) == "sleep" for pid in one.members()), "the worker runs")
    one.script("warm.pl", "#!/usr/bin/perl\nprint getppid, qq(\\n); $_ = <STDIN>;\n")
    body, feed = os.pipe()
    out, _ = one.channel.order(2, "warm.pl", stdin=body)
    os.close(body)
    zygote = "warm perl of cg"  # what it calls itself, as far as the kernel keeps it
    until(lambda: _commands(one) >= {"sleep", zygote}, "the zygote is ready")
    until(lambda: len(one.members()) == 4, "the script runs, beside its zygote and the worker")
    for pid in one.members() - {one.kept.pid}:
        # The hard bound comes some microseconds after the start.
        until(lambda pid=pid: limits_of(pid)["Max cpu time"] == ("60", "62"), "cpu")
        until(lambda pid=pid: limits_of(pid)["Max file size"] == ("1048576",) * 2, "file size")
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
    assert Path(f"/proc/{one.kept.pid}/oom_score_adj").read_text() == "0\n"
    assert limits_of(one.kept.pid)["Max cpu time"] == ("unlimited", "unlimited")
    os.close(feed)
    assert int(content(out)) not in (0, one.kept.pid)  # it was a zygote's


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _commands(one: Tenant) -> set[str]:
    return {_command(pid) for pid in one.members()}


@only_root
def test_limits_hold_for_each_process_where_there_are_no_groups(
    tenant: Callable[..., Tenant],
) -> None:
    one = tenant(Allowance(memory=MEMORY, processes=PROCESSES, nice=5), grouped=False)
    (ended,) = one.run("ok.cgi", OK)
    assert ended.status == 0
    found = limits_of(one.kept.pid)
    assert found["Max data size"] == (str(MEMORY), str(MEMORY))
    assert found["Max processes"] == (str(PROCESSES + 1), str(PROCESSES + 1))
    assert os.getpriority(os.PRIO_PROCESS, one.kept.pid) == 5
    (ended,) = one.run("hog.cgi", HOG)
    assert ended.status != 0


def test_orders_that_wait_and_that_are_turned_away_are_faults(
    keep: Any, open_channel: Any, until: Until
) -> None:
    kept = keep(concurrency=1, queue=1)
    kept.script("wait.cgi", "#!/bin/sh\nread line\n")
    channel = open_channel(kept)
    body, feed = os.pipe()
    channel.order(1, "wait.cgi", stdin=body)
    os.close(body)
    channel.sync()
    channel.order(2, "wait.cgi")
    channel.order(3, "wait.cgi")
    channel.order(4, "wait.cgi")
    assert [channel.reply().id for _ in range(3)] == [2, 3, 4]
    os.close(feed)
    until(lambda: "fault queue" in kept.log(), "the full queue is not told")
    lines = [line.split(" ", 1)[1] for line in kept.log().splitlines()]
    assert lines[0].startswith(
        "warn keeper tests fault concurrency: script wait.cgi, limit 1, it waits for its turn"
    )
    assert lines[1].startswith(
        "error keeper tests fault queue: script wait.cgi, limit 1, it was answered with 503, "
        "running: wait.cgi (pid "
    )
    assert len(lines) == 2  # one line in so many seconds, whatever happens
