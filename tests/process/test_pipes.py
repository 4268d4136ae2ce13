"""Pipes on an event loop: pulled, never read ahead, closed once."""

import asyncio
import os
import select
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from gateway.process.pipes import PipeReader, PipeWriter

RunLoop = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> RunLoop:
    runner: RunLoop = request.param
    return runner


def pipe() -> tuple[int, int]:
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    return reader, writer


def fill(writer: int) -> int:
    """Write until there is no room; return how much there was."""
    sent = 0
    while select.select([], [writer], [], 0)[1]:
        sent += os.write(writer, b"y" * 4096)
    return sent


async def until(condition: Callable[[], object]) -> None:
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it does not come")


def test_read_takes_what_is_there_and_waits_for_what_is_not(run: RunLoop) -> None:
    async def body() -> None:
        fd, writer = pipe()
        os.write(writer, b"early")
        reader = PipeReader(fd)
        assert await reader.read() == b"early"
        for piece in (b"one", b"two"):
            waiting = asyncio.ensure_future(reader.read())
            await until(lambda: reader.dry)
            os.write(writer, piece)
            assert await waiting == piece
        os.write(writer, b"last")
        os.close(writer)
        assert [await reader.read(), reader.ended] == [b"last", False]
        assert [await reader.read(), reader.ended] == [b"", True]
        assert await reader.read() == b""
        reader.close()

    run(body())


def test_nothing_is_read_that_nobody_waits_for(run: RunLoop) -> None:
    async def body() -> None:
        fd, writer = pipe()
        reader = PipeReader(fd)
        waiting = asyncio.ensure_future(reader.read())
        await asyncio.sleep(0)
        os.write(writer, b"x")
        await waiting
        sent = fill(writer)
        for _ in range(20):
            await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            os.write(writer, b"z")
        got = 0
        os.close(writer)
        while piece := await reader.read():
            got += len(piece)
        assert got == sent

    run(body())


def test_cancelled_read_loses_nothing(run: RunLoop) -> None:
    async def body() -> None:
        fd, writer = pipe()
        reader = PipeReader(fd)
        waiting = asyncio.ensure_future(reader.read())
        await asyncio.sleep(0)
        waiting.cancel()
        os.write(writer, b"kept")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0.01)
        assert await reader.read() == b"kept"
        os.close(writer)
        assert await reader.read() == b""

    run(body())


def test_close_ends_a_read_that_waits(run: RunLoop) -> None:
    async def body() -> None:
        fd, writer = pipe()
        reader = PipeReader(fd)
        waiting = asyncio.ensure_future(reader.read())
        await asyncio.sleep(0)
        reader.close()
        assert await waiting == b""
        reader.close()
        assert await reader.read() == b""
        assert not reader.ended
        with pytest.raises(BrokenPipeError):
            os.write(writer, b"x")
        os.close(writer)

    run(body())


def test_failure_is_raised_where_somebody_waits(run: RunLoop) -> None:
    async def body() -> None:
        fd, writer = pipe()
        reader = PipeReader(fd)
        waiting = asyncio.ensure_future(reader.read())
        await asyncio.sleep(0)
        reader.fail(ConnectionResetError("gone"))
        for read in (waiting, reader.read()):
            with pytest.raises(ConnectionResetError):
                await read
        reader.close()
        os.close(writer)

    run(body())


def test_tap_is_given_everything_and_the_end(run: RunLoop) -> None:
    async def body() -> None:
        fd, writer = pipe()
        got: list[bytes] = []
        os.write(writer, b"before")
        reader = PipeReader(fd)
        reader.tap(got.append)
        total = 6
        for _ in range(50):
            try:
                total += os.write(writer, b"x" * 30_000)
            except BlockingIOError:
                await asyncio.sleep(0.001)
        os.close(writer)
        await until(lambda: reader.ended)
        assert len(b"".join(got)) == total
        assert b"".join(got).startswith(b"before")

    run(body())


def test_closed_tap_gives_the_last_words(run: RunLoop) -> None:
    async def body() -> None:
        fd, writer = pipe()
        got: list[bytes] = []
        reader = PipeReader(fd)
        reader.tap(got.append)
        os.write(writer, b"last words")
        reader.close()
        assert got == [b"last words"]
        os.close(writer)

    run(body())


def test_descriptor_number_that_is_used_again_belongs_to_the_new_pipe(run: RunLoop) -> None:
    async def body() -> None:
        for _ in range(50):
            fd, writer = pipe()
            reader = PipeReader(fd)
            waiting = asyncio.ensure_future(reader.read())
            await asyncio.sleep(0)
            os.write(writer, b"x")
            os.close(writer)
            assert await waiting == b"x"
            reader.close()

    run(body())


def test_write_waits_for_a_slow_reader_and_ends_with_it(run: RunLoop) -> None:
    async def body() -> None:
        fd, out = pipe()
        reader, writer = PipeReader(fd), PipeWriter(out)
        data = os.urandom(1_000_000)
        writing = asyncio.ensure_future(writer.write(data))
        got = b""
        while len(got) < len(data):
            got += await reader.read()
        await writing
        assert got == data
        writing = asyncio.ensure_future(writer.write(data))
        await reader.read()
        reader.close()
        with pytest.raises(BrokenPipeError):
            await writing
        writer.close()
        writer.close()

    run(body())


def test_closed_writer_ends_a_write_that_waits(run: RunLoop) -> None:
    async def body() -> None:
        fd, out = pipe()
        writer = PipeWriter(out)
        writing = asyncio.ensure_future(writer.write(b"x" * 1_000_000))
        await asyncio.sleep(0)
        writer.close()
        with pytest.raises(BrokenPipeError):
            await writing
        os.close(fd)

    run(body())


def test_cancelled_write_can_be_followed_by_another(run: RunLoop) -> None:
    async def body() -> None:
        fd, out = pipe()
        reader, writer = PipeReader(fd), PipeWriter(out)
        writing = asyncio.ensure_future(writer.write(b"x" * 1_000_000))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        writing = asyncio.ensure_future(writer.write(b"end"))
        data = b""
        while not data.endswith(b"end"):
            data += await reader.read()
        await writing
        writer.close()
        reader.close()

    run(body())
