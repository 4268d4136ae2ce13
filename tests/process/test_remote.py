"""A front with a real keeper: orders through asyncio's loop and through uvloop's."""

import asyncio
import errno
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from gateway.process import channel
from gateway.process.channel import (
    AGAIN,
    Exited,
    Failed,
    Leaving,
    Order,
    Queued,
    Started,
)
from gateway.process.pipes import PipeReader
from gateway.process.post import Inbox, send
from gateway.process.remote import LOST, RemoteKeeper, Run
from gateway.process.running import LOOK
from gateway.process.spec import SpawnFailed

PATIENCE = 20.0

T = TypeVar("T")
RunLoop = Callable[[Coroutine[Any, Any, T]], T]
Until = Callable[[Callable[[], object], str], None]
Lives = Callable[[int], bool]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> RunLoop[Any]:
    runner: RunLoop[Any] = request.param
    runner(asyncio.sleep(0))  # libuv opens a pipe of its own at its first use, for good
    return runner


async def all_of(reader: PipeReader) -> bytes:
    data = b""
    while piece := await reader.read():
        data += piece
    return data


class HandedBack(Exception):
    """The keeper leaves and has not started it."""


async def answer_of(script: Run) -> bytes:
    try:
        return await script.stdout.read()
    except SpawnFailed as failed:
        script.release()
        if failed.step != AGAIN:
            raise
        raise HandedBack from failed


async def until(condition: Callable[[], object]) -> None:
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it does not come")


def own_descriptors() -> list[str]:
    gc.collect()  # a closed event loop has its last descriptors until it is collected
    return sorted(os.listdir("/proc/self/fd"))


def test_script_answers_and_its_end_is_known(kept: Any, run: RunLoop[Any]) -> None:
    kept.script("hello.cgi", '#!/bin/sh\necho "hello $NAME"\necho oops >&2\nexit 3\n')
    before = own_descriptors()

    async def exchange() -> None:
        remote = RemoteKeeper(kept.connect)
        script = await remote.start("r", b"hello.cgi", {b"NAME": b"you"})
        assert script.stdin is None
        assert await all_of(script.stdout) == b"hello you\n"
        assert await all_of(script.stderr) == b"oops\n"
        ended = await script.exited()
        assert ended.status == 3
        assert ended.cpu > 0
        assert await script.exited() is ended
        script.release()
        script.release()
        remote.close()

    run(exchange())
    assert own_descriptors() == before


def test_body_streams_in_while_the_answer_streams_out(kept: Any, run: RunLoop[Any]) -> None:
    """20 MB through `cat`: both pipes are full most of the time."""
    kept.script("cat.cgi", "#!/bin/sh\nexec cat\n")
    block = bytes(range(256)) * 4096

    async def exchange() -> int:
        remote = RemoteKeeper(kept.connect)
        script = await remote.start("r", b"cat.cgi", {}, body=True)

        async def feed() -> None:
            assert script.stdin is not None
            for _ in range(20):
                await script.stdin.write(block)
            script.stdin.close()

        feeding = asyncio.ensure_future(feed())
        total = 0
        while piece := await script.stdout.read():
            assert len(piece) <= 65536
            total += len(piece)
        await feeding
        assert (await script.exited()).status == 0
        script.release()
        remote.close()
        return total

    assert run(exchange()) == 20 * len(block)


def test_script_that_does_not_read_its_body_is_a_broken_pipe(kept: Any, run: RunLoop[Any]) -> None:
    kept.script("deaf.cgi", "#!/bin/sh\nexec 0<&-\necho done\n")

    async def exchange() -> None:
        remote = RemoteKeeper(kept.connect)
        script = await remote.start("r", b"deaf.cgi", {}, body=True)
        assert script.stdin is not None
        with pytest.raises(BrokenPipeError):
            await script.stdin.write(b"x" * 1_000_000)
        assert await all_of(script.stdout) == b"done\n"
        script.release()
        with pytest.raises(BrokenPipeError):
            await script.stdin.write(b"x")
        remote.close()

    run(exchange())


def test_file_becomes_standard_input(kept: Any, run: RunLoop[Any], tmp_path: Path) -> None:
    kept.script("cat.cgi", "#!/bin/sh\nexec cat\n")
    (tmp_path / "body").write_bytes(b"spooled")

    async def exchange() -> None:
        remote = RemoteKeeper(kept.connect)
        fd = os.open(tmp_path / "body", os.O_RDONLY)
        script = await remote.start("r", b"cat.cgi", {}, stdin=fd)
        assert await all_of(script.stdout) == b"spooled"
        os.close(fd)  # it is still ours
        script.release()
        remote.close()

    run(exchange())


def test_failure_to_start_is_raised_with_its_reason(kept: Any, run: RunLoop[Any]) -> None:
    before = own_descriptors()

    async def exchange() -> None:
        remote = RemoteKeeper(kept.connect)
        script = await remote.start("r", b"none.cgi", {}, body=True)
        for asked in (script.stdout.read, script.exited):
            with pytest.raises(SpawnFailed) as caught:
                await asked()
        failed = caught.value
        assert await script.settled(PATIENCE) is None
        script.release()
        assert (failed.errno, failed.step, failed.status) == (errno.ENOENT, "open", 404)
        with pytest.raises(ValueError):
            await remote.start("r", b"none.cgi", {b"A": b"\0"})
        with pytest.raises(SpawnFailed) as caught:
            await remote.start("r", b"none.cgi", {b"A": b"x" * channel.MESSAGE_MAX})
        assert caught.value.status == 431
        remote.close()

    run(exchange())
    assert own_descriptors() == before


def test_release_stops_the_script_and_its_end_is_still_told(
    kept: Any, run: RunLoop[Any], lives: Lives
) -> None:
    kept.script("sleep.cgi", "#!/bin/sh\necho $$\nexec sleep 300\n")

    async def exchange() -> int:
        remote = RemoteKeeper(kept.connect)
        script = await remote.start("r", b"sleep.cgi", {})
        pid = int(await script.stdout.read())
        waiting = asyncio.ensure_future(script.stdout.read())
        await asyncio.sleep(0)
        script.release()
        assert await waiting == b""
        assert (await script.exited()).status == -signal.SIGTERM
        remote.close()
        return pid

    assert not lives(run(exchange()))


def test_released_order_that_waits_for_its_turn_never_runs(
    keep: Callable[..., Any], run: RunLoop[Any], lives: Lives
) -> None:
    kept = keep(concurrency=1)
    kept.script("wait.cgi", "#!/bin/sh\necho up\nread line\n")
    kept.script("mark.cgi", "#!/bin/sh\ntouch ran\n")
    before = own_descriptors()

    async def exchange() -> None:
        remote = RemoteKeeper(kept.connect)
        first = await remote.start("r", b"wait.cgi", {}, body=True)
        queued = await remote.start("r", b"mark.cgi", {})
        await first.stdout.read()
        queued.release()
        assert first.stdin is not None
        first.stdin.close()
        await first.exited()
        first.release()
        # The slot is free again, and the released order has not taken it.
        third = await remote.start("r", b"wait.cgi", {})
        await third.exited()
        third.release()
        remote.close()

    run(exchange())
    assert not (kept.root / "ran").exists()
    assert own_descriptors() == before


def test_order_that_waits_too_long_for_its_turn_is_503(
    keep: Callable[..., Any], run: RunLoop[Any]
) -> None:
    kept = keep(concurrency=1)
    kept.script("wait.cgi", "#!/bin/sh\nread line\necho done\n")

    async def exchange() -> None:
        remote = RemoteKeeper(kept.connect)
        first = await remote.start("r", b"wait.cgi", {}, body=True)
        queued = await remote.start("r", b"wait.cgi", {}, patience=0.01)
        with pytest.raises(SpawnFailed) as caught:
            await queued.stdout.read()
        assert (caught.value.step, caught.value.status) == ("queue", 503)
        queued.release()
        # One that gets its turn in time runs for as long as it likes.
        third = await remote.start("r", b"wait.cgi", {}, body=True, patience=0.5)
        assert first.stdin is not None
        first.stdin.close()
        assert await all_of(first.stdout) == b"done\n"
        await asyncio.sleep(0.6)
        assert third.stdin is not None
        third.stdin.close()
        assert await all_of(third.stdout) == b"done\n"
        first.release()
        third.release()
        remote.close()

    run(exchange())


def test_order_to_a_keeper_that_leaves_is_handed_back_or_goes_to_the_next_one(
    keep: Callable[..., Any], run: RunLoop[Any]
) -> None:
    old, new = keep(), keep()
    old.script("who.cgi", "#!/bin/sh\necho $PPID\nread line\n")
    turns = iter((old, new))

    async def connect() -> socket.socket:
        sock: socket.socket = next(turns).attach()
        return sock

    async def exchange() -> None:
        remote = RemoteKeeper(connect)
        first = await remote.start("r", b"who.cgi", {}, body=True)
        assert int(await first.stdout.read()) == old.pid
        old.stop(60.0)
        # Until it takes note of its stop, the old one starts what it gets.
        pids: list[int] = []
        while new.pid not in pids:
            second = await remote.start("r", b"who.cgi", {})
            with suppress(HandedBack):  # sent before the front has heard of it
                pids.append(int(await answer_of(second)))
            second.release()
        assert {*pids} <= {old.pid, new.pid}
        # What ran goes on in the old one, to its own end.
        assert first.stdin is not None
        first.stdin.close()
        assert (await first.exited()).status == 1
        first.release()
        remote.close()

    run(exchange())
    assert old.wait() == 0


def test_keeper_that_is_killed_loses_what_runs_and_is_replaced(
    keep: Callable[..., Any], run: RunLoop[Any]
) -> None:
    one, other = keep(), keep()
    one.script("sleep.cgi", "#!/bin/sh\necho $$ $PPID\nexec sleep 300\n")
    turns = iter((one, other))

    async def connect() -> socket.socket:
        sock: socket.socket = next(turns).attach()
        return sock

    async def exchange() -> None:
        remote = RemoteKeeper(connect)
        first = await remote.start("r", b"sleep.cgi", {})
        pid = int((await first.stdout.read()).split()[0])
        os.kill(one.pid, signal.SIGKILL)
        assert await first.exited() == LOST
        first.release()
        os.kill(pid, signal.SIGKILL)  # in the daemon the master does it
        second = await remote.start("r", b"sleep.cgi", {})
        assert int((await second.stdout.read()).split()[1]) == other.pid
        second.release()
        remote.close()

    run(exchange())
    os.waitpid(one.pid, 0)
    one.code = 0


def test_no_keeper_to_be_had_is_503(run: RunLoop[Any]) -> None:
    async def refuse() -> socket.socket:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "no keeper today")

    async def hang_up() -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.close()
        return ours

    async def exchange() -> None:
        for connect in (refuse, hang_up):
            remote = RemoteKeeper(connect)
            for asked in (remote.start("r", b"x", {}), remote.pool("r", b"x")):
                with pytest.raises(SpawnFailed) as caught:
                    await asked
                assert caught.value.status == 503
            remote.close()

    run(exchange())


class Liar:
    """A keeper that says what the test wants."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []
        self._inbox = Inbox()

    async def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        self.ends.append(theirs)
        return ours

    async def message(self) -> channel.Message:
        await until(lambda: self.ends and select.select([self.ends[-1]], [], [], 0)[0])
        received = self._inbox.receive(self.ends[-1])
        assert received is not None
        message, fds = received
        for fd in fds:
            os.close(fd)
        return message

    async def order(self) -> Order:
        message = await self.message()
        assert isinstance(message, Order)
        return message

    def close(self) -> None:
        for end in self.ends:
            end.close()


@pytest.mark.parametrize(
    "nonsense",
    [b"\xff", b"\x10", b"\x01" * 40, b"x" * 9000, Exited(1, 300, 0.0, 0).encode()],
)
def test_keeper_that_speaks_nonsense_is_left(run: RunLoop[Any], nonsense: bytes) -> None:
    async def exchange() -> None:
        liar = Liar()
        remote = RemoteKeeper(liar.connect)
        script = await remote.start("r", b"x", {})
        await liar.order()
        liar.ends[-1].send(nonsense)
        # Whether it ran is not known, so it is not ordered again.
        with pytest.raises(SpawnFailed) as caught:
            await script.stdout.read()
        assert caught.value.status == 502
        assert caught.value.step != AGAIN
        assert await script.exited() == LOST
        script.release()
        other = await remote.start("r", b"x", {})
        assert len(liar.ends) == 2
        other.release()
        remote.close()
        liar.close()

    run(exchange())


def test_order_that_is_handed_back_says_so(run: RunLoop[Any]) -> None:
    async def exchange() -> None:
        liar = Liar()
        remote = RemoteKeeper(liar.connect)
        script = await remote.start("r", b"x", {})
        order = await liar.order()
        send(liar.ends[-1], Leaving().encode())
        send(liar.ends[-1], Failed(order.id, errno.EAGAIN, AGAIN, 503, "it leaves").encode())
        with pytest.raises(SpawnFailed) as caught:
            await script.stdout.read()
        assert caught.value.step == AGAIN
        script.release()
        (await remote.start("r", b"x", {})).release()
        assert len(liar.ends) == 2
        assert liar.ends[0].recv(1) == b""  # nothing of ours is there: the channel is closed
        remote.close()
        liar.close()

    run(exchange())


def test_replies_about_unknown_orders_are_nothing(run: RunLoop[Any]) -> None:
    async def exchange() -> None:
        liar = Liar()
        remote = RemoteKeeper(liar.connect)
        script = await remote.start("r", b"x", {})
        order = await liar.order()
        for reply in (Started(99), Queued(96), Failed(97, 0, "x", 500, "y")):
            send(liar.ends[-1], reply.encode())
        exits = Exited(98, 0, 0.0, 0), Exited(order.id, 0, 0.5, 4096)
        liar.ends[-1].send(b"".join(exit.encode() for exit in exits))
        assert (await script.exited()).cpu == 0.5
        script.release()
        remote.close()
        liar.close()

    run(exchange())


def test_orders_that_a_busy_keeper_has_no_room_for_wait_their_turn(run: RunLoop[Any]) -> None:
    count = 60

    async def exchange() -> None:
        liar = Liar()
        remote = RemoteKeeper(liar.connect)
        env = {b"HTTP_COOKIE": b"x" * 20_000}
        scripts = [await remote.start("r", b"x", env) for _ in range(count)]
        for _ in range(count):
            order = await liar.order()
            send(liar.ends[0], Exited(order.id, 0, 0.0, 0).encode())
        for script in scripts:
            assert (await script.exited()).status == 0
            script.release()
        remote.close()
        liar.close()

    before = own_descriptors()
    run(exchange())
    assert own_descriptors() == before


SOMETIMES = """#!/bin/sh
echo first
echo complaint >&2
test -z "$MORE" || { read line; echo second; }
"""


def test_brief_script_is_read_when_it_has_ended_and_watched_when_it_has_not(
    kept: Any, run: RunLoop[Any]
) -> None:
    kept.script("sometimes.cgi", SOMETIMES)
    before = own_descriptors()

    async def exchange() -> None:
        remote = RemoteKeeper(kept.connect)
        briefs = []
        for _ in range(3):
            script = await remote.start("r", b"sometimes.cgi", {})
            complaints: list[bytes] = []
            script.stderr.tap(complaints.append)
            assert await all_of(script.stdout) == b"first\n"
            assert (await script.exited()).status == 0
            script.release()
            assert b"".join(complaints) == b"complaint\n"
            briefs.append(script.brief)
        assert briefs == [False, True, True]
        script = await remote.start("r", b"sometimes.cgi", {b"MORE": b"yes"}, body=True)
        script.stderr.tap(complaints.append)
        assert script.brief
        assert await script.stdout.read() == b"first\n"
        assert script.exit is None
        await asyncio.sleep(2 * LOOK)
        assert script.stdin is not None
        script.stdin.close()
        assert await all_of(script.stdout) == b"second\n"
        script.release()
        assert b"".join(complaints) == b"complaint\ncomplaint\n"
        script = await remote.start("r", b"sometimes.cgi", {})
        assert not script.brief
        script.release()
        remote.close()

    run(exchange())
    assert own_descriptors() == before


def test_brief_script_that_leaves_a_child_with_its_output_is_heard_out(
    kept: Any, run: RunLoop[Any]
) -> None:
    kept.script("leaves.cgi", "#!/bin/sh\necho first\ntest -z $MORE || sleep 300 &\n")

    async def exchange() -> None:
        remote = RemoteKeeper(kept.connect)
        for env in ({}, {b"MORE": b"yes"}):
            script = await remote.start("r", b"leaves.cgi", env, linger=0.05)
            assert script.patience == 0.05
            assert await all_of(script.stdout) == b"first\n"
            assert script.stdout.hung_up is (not env)
            assert (await script.exited()).status == 0
            script.release()
        assert script.brief
        remote.close()

    run(exchange())


def test_pool_of_a_file_and_its_state(kept: Any, run: RunLoop[Any]) -> None:
    path = kept.script("broken.fcgi", f"#!{sys.executable} -SE\nimport no_such_module\n")

    async def exchange() -> None:
        remote = RemoteKeeper(kept.connect)
        assert remote.pool_state(str(path)) == ""
        assert (await remote.pool("r", b"broken.fcgi")).endswith(b".sock")
        await until(lambda: remote.pool_state(str(path)))
        assert "no_such_module" in remote.pool_state(str(path))
        with pytest.raises(SpawnFailed) as caught:
            await remote.pool("r", b"broken.fcgi")
        assert caught.value.status == 502
        remote.close()

    run(exchange())


def test_full_queue_is_believed_for_a_moment_without_another_order(run: RunLoop[Any]) -> None:
    async def exchange() -> None:
        liar = Liar()
        remote = RemoteKeeper(liar.connect)
        script = await remote.start("r", b"x", {})
        order = await liar.order()
        send(liar.ends[-1], Failed(order.id, 0, "queue", 503, "it is full").encode())
        with pytest.raises(SpawnFailed, match="it is full"):
            await script.stdout.read()
        script.release()
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(SpawnFailed, match="it is full") as caught:
            await remote.start("r", b"x", {})
        assert caught.value.status == 503
        assert len(os.listdir("/proc/self/fd")) == before
        while True:
            with suppress(SpawnFailed):
                other = await remote.start("r", b"x", {})
                break
            await asyncio.sleep(0)
        other.release()
        assert isinstance(await liar.message(), Order)
        remote.close()
        liar.close()

    run(exchange())


def test_leaving_keeper_hands_back_a_wish_for_a_pool(run: RunLoop[Any]) -> None:
    async def exchange() -> None:
        liar = Liar()
        remote = RemoteKeeper(liar.connect)
        asked = asyncio.ensure_future(remote.pool("r", b"x.fcgi"))
        await liar.message()
        send(liar.ends[0], Leaving().encode())
        await until(lambda: len(liar.ends) == 2)
        assert isinstance(await liar.message(), channel.WantPool)  # else it would not know the id
        send(liar.ends[1], channel.PoolAt(1, b"/run/x.sock").encode())
        assert await asked == b"/run/x.sock"
        remote.close()
        liar.close()

    run(exchange())
