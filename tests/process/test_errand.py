"""A piece of work that is done as another user, and what is heard of it."""

import os
import pwd
import signal
from dataclasses import replace
from typing import Any

import pytest

from gateway.process.errand import ErrandFailed, Tell, errand
from gateway.process.spec import KeeperSpec

NOBODY = 65534


@pytest.fixture
def spec() -> KeeperSpec:
    return KeeperSpec(
        user=pwd.getpwuid(os.geteuid()).pw_name,
        uid=os.geteuid(),
        gid=os.getegid(),
        groups=(),
        switch=False,
        scripts={},
        pools=(),
        sockets=b"",
        concurrency=1,
        queue=0,
        grace=1.0,
    )


def test_what_is_told_is_heard_in_order(spec: KeeperSpec) -> None:
    heard: list[Any] = []

    def work(tell: Tell, stop: int) -> None:
        tell([os.getpid() == parent, "\udcff\x1b"])
        tell({"large": "x" * 200_000})

    parent = os.getpid()
    errand(spec, work, heard.append)
    assert heard == [[False, "\udcff\x1b"], {"large": "x" * 200_000}]


def test_only_what_is_kept_is_open(spec: KeeperSpec) -> None:
    heard: list[Any] = []
    kept, other = os.pipe()

    def work(tell: Tell, stop: int) -> None:
        for fd in (kept, other):
            try:
                os.fstat(fd)
                tell(True)
            except OSError:
                tell(False)

    try:
        errand(spec, work, heard.append, (kept,))
    finally:
        os.close(kept)
        os.close(other)
    assert heard == [True, False]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_it_is_the_user(spec: KeeperSpec) -> None:
    heard: list[Any] = []
    nobody = replace(spec, user="nobody", uid=NOBODY, gid=NOBODY, groups=(NOBODY,), switch=True)
    errand(nobody, lambda tell, stop: tell([os.getresuid(), os.getgroups()]), heard.append)
    assert heard == [[[NOBODY] * 3, [NOBODY]]]


def test_account_that_cannot_be_had(spec: KeeperSpec) -> None:
    other = replace(spec, user="x", uid=-5, gid=NOBODY, switch=True)
    with pytest.raises(ErrandFailed, match="cannot become x: "):
        errand(other, lambda tell, stop: tell(1), lambda value: None)


def test_work_that_fails_says_so(spec: KeeperSpec) -> None:
    def work(tell: Tell, stop: int) -> None:
        raise KeyError("of the work")

    with pytest.raises(ErrandFailed, match=r"KeyError: 'of the work' \(.*test_errand.py:"):
        errand(spec, work, lambda value: None)


def test_work_that_is_killed_says_nothing(spec: KeeperSpec) -> None:
    def work(tell: Tell, stop: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ErrandFailed, match="without a word"):
        errand(spec, work, lambda value: None)


def test_caller_that_leaves_is_seen_and_nothing_stays(spec: KeeperSpec) -> None:
    pids: list[int] = []

    def work(tell: Tell, stop: int) -> None:
        tell(os.getpid())
        os.read(stop, 1)  # until the caller is gone

    def heard(pid: int) -> None:
        pids.append(pid)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        errand(spec, work, heard)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
