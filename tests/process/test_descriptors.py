"""What both loops must tell of a descriptor."""

import asyncio
import socket

import pytest
import uvloop

from gateway.process.descriptors import Descriptors


@pytest.fixture(params=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> asyncio.Runner:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    return asyncio.Runner(loop_factory=factory)


def test_end_of_a_peer_that_left_something_unread_is_told(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        descriptors = Descriptors.of(loop)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        told = loop.create_future()

        def readable() -> None:
            descriptors.remove_reader(ours.fileno())
            told.set_result(None)

        descriptors.add_reader(ours.fileno(), readable)
        ours.send(b"unread")
        theirs.close()
        async with asyncio.timeout(10):
            await told
        with pytest.raises(ConnectionResetError):
            ours.recv(1)
        ours.close()

    with runner:
        runner.run(main())


def test_reader_and_writer_of_one_descriptor_come_and_go(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        descriptors = Descriptors.of(loop)
        assert Descriptors.of(loop) is descriptors
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        calls: list[str] = []
        changed = asyncio.Event()

        def note(what: str) -> None:
            calls.append(what)
            changed.set()

        descriptors.add_reader(ours.fileno(), lambda: note("read"))
        descriptors.add_writer(ours.fileno(), lambda: note("write"))
        async with asyncio.timeout(10):
            await changed.wait()
            descriptors.remove_writer(ours.fileno())
            assert set(calls) == {"write"}
            calls.clear()
            changed.clear()
            theirs.send(b"x")
            await changed.wait()
            assert set(calls) == {"read"}
        descriptors.remove_reader(ours.fileno())
        descriptors.remove_reader(ours.fileno())
        ours.close()
        theirs.close()

    with runner:
        runner.run(main())
