"""From a fork of the master to a keeper: each step leaves what it should."""

import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.process import birth
from gateway.process.spec import Allowance, KeeperSpec, ScriptRoot

NOBODY = 65534

only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


def born(spec: KeeperSpec, look: Callable[[], Any]) -> Any:
    """Fork, become the keeper of `spec` there, and return what `look` sees."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            birth.become(spec, (writer,))
            os.write(writer, json.dumps(look()).encode())
        except birth.BirthFailed as failed:
            os.write(writer, json.dumps(failed.step).encode())
        finally:
            os._exit(0)
    os.close(writer)
    data = b""
    while piece := os.read(reader, 65536):
        data += piece
    os.close(reader)
    os.waitpid(pid, 0)
    return json.loads(data)


def test_only_the_kept_descriptors_are_left_and_stdin_is_empty(spec: KeeperSpec) -> None:
    extra = os.open("/dev/null", os.O_RDONLY)

    def look() -> tuple[int, list[str], str]:
        names = [name for name in os.listdir("/proc/self/fd") if int(name) > 2]
        links = [os.readlink(f"/proc/self/fd/{name}") for name in names if os.path.exists(
            f"/proc/self/fd/{name}")]  # fmt: skip
        return len(links), links, os.readlink("/proc/self/fd/0")

    count, links, stdin = born(spec, look)
    os.close(extra)
    assert count == 1, links
    assert links[0].startswith("pipe:")
    assert stdin == "/dev/null"


def test_it_leads_a_session_and_reaps_orphans_and_writes_no_core(spec: KeeperSpec) -> None:
    def look() -> list[Any]:
        grandchild, told = os.pipe()
        if not (child := os.fork()):
            if not os.fork():
                os.read(grandchild, 1)
                os._exit(0)
            os._exit(0)
        os.waitpid(child, 0)
        os.write(told, b"x")
        orphan, _ = os.wait()  # it has become ours
        return [
            os.getsid(0) == os.getpid() == os.getpgrp(),
            orphan > 0,
            resource.getrlimit(resource.RLIMIT_CORE),
            os.umask(0),
            os.getcwd(),
        ]

    assert born(spec, look) == [True, True, [0, 0], 0o022, "/"]


def test_open_files_are_allowed_for_a_full_queue(spec: KeeperSpec) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    queue = soft  # three descriptors for each are more than there may be
    found = born(replace(spec, queue=queue), lambda: resource.getrlimit(resource.RLIMIT_NOFILE))
    assert found == [min(hard, 3 * (queue + spec.concurrency) + 128), hard]


@only_root
def test_it_becomes_its_user_and_there_is_no_way_back(spec: KeeperSpec) -> None:
    def look() -> list[Any]:
        ways = []
        for way in (os.setuid, os.setgid, os.seteuid):
            try:
                way(0)
            except PermissionError:
                continue
            ways.append(way.__name__)
        return [os.getresuid(), os.getresgid(), os.getgroups(), ways]

    nobody = replace(spec, switch=True, uid=NOBODY, gid=NOBODY, groups=(NOBODY, 12345))
    assert born(nobody, look) == [[NOBODY] * 3, [NOBODY] * 3, [12345, NOBODY], []]


def test_environment_is_empty(spec: KeeperSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of whoever started the daemon")

    def look() -> list[Any]:
        return [dict(os.environ), subprocess.check_output(["/usr/bin/env"]).decode()]

    assert born(spec, look) == [{}, ""]


def test_new_rights_are_refused_only_where_that_is_asked_for(spec: KeeperSpec) -> None:
    def look() -> list[str]:
        lines = Path("/proc/self/status").read_text().splitlines()
        return [line.split()[1] for line in lines if line.startswith("NoNewPrivs")]

    assert born(spec, look) == ["0"]
    assert born(replace(spec, no_new_privs=True), look) == ["1"]


@only_root
def test_set_user_id_program_gives_nothing_to_a_keeper_without_new_rights(
    spec: KeeperSpec, open_place: Path
) -> None:
    program = open_place / "id"
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)
    nobody = replace(spec, switch=True, uid=NOBODY, gid=NOBODY, groups=())

    def look() -> str:
        return subprocess.check_output([str(program), "-u"]).decode()

    if born(nobody, look) != "0\n":
        pytest.skip("set-user-id programs do not work in this file system")
    assert born(replace(nobody, no_new_privs=True), look) == "65534\n"


def test_limits_and_niceness_are_those_of_the_allowance(spec: KeeperSpec) -> None:
    asked = Allowance(memory=512 << 20, processes=500, nice=3, file_size=1 << 20, cpu_time=5)

    def look() -> list[Any]:
        numbers = (
            resource.RLIMIT_DATA,
            resource.RLIMIT_NPROC,
            resource.RLIMIT_FSIZE,
            resource.RLIMIT_CPU,
        )
        return [os.nice(0), *map(resource.getrlimit, numbers)]

    free = [resource.getrlimit(number) for number in (resource.RLIMIT_FSIZE, resource.RLIMIT_CPU)]
    nice, data, processes, file_size, cpu = born(replace(spec, allowance=asked), look)
    assert nice == min(19, os.nice(0) + 3)
    assert data == [512 << 20] * 2  # no group holds it
    assert processes == [501] * 2
    assert [tuple(file_size), tuple(cpu)] == free  # those are for programs, not for the keeper


def test_group_that_cannot_be_entered_is_a_failed_step(spec: KeeperSpec) -> None:
    assert born(replace(spec, cgroup=(b"/nowhere",)), lambda: "born") == "cgroup"


@only_root
def test_daemon_that_is_spared_when_memory_runs_out_does_not_spare_its_keepers(
    spec: KeeperSpec,
) -> None:
    score = Path("/proc/self/oom_score_adj")
    before = score.read_text()
    try:
        score.write_text("-900")
    except PermissionError:
        pytest.skip("needs CAP_SYS_RESOURCE, which this root has not")
    try:
        asked = replace(spec, allowance=Allowance(memory=512 << 20))
        assert born(asked, lambda: score.read_text()) == "0\n"
    finally:
        score.write_text(before)


@only_root
def test_user_that_cannot_be_become_is_a_failed_step(spec: KeeperSpec) -> None:
    def as_nobody() -> Any:
        other = replace(spec, switch=True, uid=1, gid=NOBODY, groups=())
        try:
            birth.become(other, range(256))
        except birth.BirthFailed as failed:
            return failed.step
        return "born"

    nobody = replace(spec, switch=True, uid=NOBODY, gid=NOBODY, groups=())
    assert born(nobody, as_nobody) == "groups"


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@only_root
def test_script_runs_as_the_keepers_user(
    keep: Callable[..., Any], open_channel: Any, open_place: Path, content: Any
) -> None:
    script = open_place / "who.cgi"
    script.write_text("#!/bin/sh\nid -u; id -g; id -G\n")
    script.chmod(0o755)
    secret = open_place / "secret.cgi"
    secret.write_text("#!/bin/sh\n")
    secret.chmod(0o700)
    closed = open_place / "closed"
    closed.mkdir(mode=0o700)
    kept = keep(
        switch=True,
        uid=NOBODY,
        gid=NOBODY,
        groups=(NOBODY,),
        scripts={"r": ScriptRoot(root=os.fsencode(open_place))},
    )
    channel = open_channel(kept)
    out, _ = channel.order(1, "who.cgi")
    assert content(out).split() == [b"65534"] * 3
    channel.reply()
    channel.order(2, "secret.cgi")
    assert channel.reply().status == 403
    channel.order(3, "closed/x.cgi")
    failed = channel.reply()
    assert failed.status == 403
    assert "may not be searched" in failed.why


@only_root
def test_keeper_that_cannot_be_born_says_which_step(keep: Callable[..., Any]) -> None:
    kept = keep(switch=True, uid=-5, gid=NOBODY, groups=())  # a number that no user has
    assert kept.wait() == 1
    assert "cannot start: uid" in kept.log()
    kept.code = 0


def test_keeper_ignores_the_terminals_signals(kept: Any, channel: Any) -> None:
    kept.script("ok.cgi", "#!/bin/sh\n")
    channel.order(1, "ok.cgi")
    channel.reply()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        os.kill(kept.pid, number)
    channel.order(2, "ok.cgi")
    assert channel.reply().id == 2
