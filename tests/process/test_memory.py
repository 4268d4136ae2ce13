"""What ready interpreters take, by the kernel's account, and what is shown of them."""

import mmap
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.journal import Journal
from gateway.process.loop import Loop
from gateway.process.memory import MIB, memory_of
from gateway.process.persistent import Persistent
from gateway.process.spawn import heed_all_signals
from gateway.process.warm import Recipe
from gateway.process.zygotes import Zygotes

Until = Callable[[Callable[[], object], str], None]


@pytest.fixture
def child() -> Iterator[int]:
    """A process that shares our memory and does nothing."""
    pid = os.fork()
    if not pid:
        while True:
            signal.pause()
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_memory_that_nobody_else_has_is_private() -> None:
    before = memory_of(os.getpid())
    with mmap.mmap(-1, 8 * MIB, mmap.MAP_PRIVATE) as memory:
        memory.write(b"x" * 8 * MIB)
        after = memory_of(os.getpid())
    assert before is not None
    assert after is not None
    assert 7 * MIB < after.private - before.private < 16 * MIB


def test_memory_that_a_child_has_as_well_is_shared(child: int) -> None:
    found = memory_of(child)
    assert found is not None
    assert found.shared > 5 * MIB
    assert found.private < found.shared


def test_process_that_is_gone_has_none() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert memory_of(pid) is None
    os.waitpid(pid, 0)
    assert memory_of(pid) is None


class Orders:
    """Who is told what becomes of orders; remembers it."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.persistent: Persistent | None = None
        self.over = 0

    def started(self, token: int, pid: int) -> None:
        self.pids.append(pid)
        if self.persistent is not None:
            self.persistent.started(token, pid)

    def refused(self, token: int) -> None:
        raise AssertionError("a zygote refuses what it can do")

    returned = refused

    def ended(self, pid: int, status: int, cpu: float, memory: int) -> None:
        self.over += 1

    def done(self, pid: int, cpu: float, memory: int) -> None:
        self.over += 1


def test_rows_tell_of_zygotes_and_of_processes_that_stay(tmp_path: Path) -> None:
    heed_all_signals()
    script = tmp_path / "x.py"
    script.write_text("import os\nos.write(1, b'x')\n")
    with open(tmp_path / "log", "wb") as log, open(os.devnull, "r+b") as nothing:
        loop, orders = Loop(), Orders()
        zygotes = Zygotes(orders, loop, Journal(log.fileno(), "tests"), 60.0)
        persistent = Persistent(orders, zygotes, loop, 60.0, 4)
        recipe = Recipe("python", sys.executable, ("-S",))
        run = os.fsencode(script), os.fsencode(tmp_path), (b"PATH=/bin",), (nothing.fileno(),) * 3
        assert zygotes.run((recipe, ()), 1, *run, wait=True)
        while orders.over < 1:
            loop.turn()
        orders.persistent = persistent
        orders_given = 1
        while not persistent.rows():  # until the file is old enough to be relied upon
            orders_given += 1
            assert persistent.run((recipe, ()), orders_given, *run)
            while orders.over < orders_given:
                loop.turn()
        (zygote,), (stays, *more) = zygotes.rows(), persistent.rows()
        assert not more
        assert (zygote.interpreter, zygote.script) == (f"{sys.executable} -S", "")
        assert (stays.interpreter, stays.script) == (zygote.interpreter, str(script))
        assert (zygote.served, stays.served) == (orders_given, 1)
        assert stays.pid == orders.pids[-1]
        for row in (zygote, stays):
            assert row.private > 0
            assert row.shared > MIB  # each has the other's
            assert row.age >= row.idle >= 0
        persistent.close()
        zygotes.close()
        os.waitpid(zygote.pid, 0)
        assert zygotes.rows() == persistent.rows() == []
        loop.close()
