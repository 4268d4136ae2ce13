"""From a fork of the master to a keeper: each step leaves what it should."""

import json
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.process import birth
from gateway.process.spec import KeeperSpec, ScriptRoot

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
