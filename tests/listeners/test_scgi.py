"""The SCGI listener, over real sockets, on both event loops.

What it shares with FastCGI (`relay.py`) is tested in `test_fastcgi.py` and its neighbour; here is
what is its own: one request a connection, whose end is the end of the answer.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import FileSpan, Limits, Ready, Refused, Request, Response, Truncated
from gateway.listeners.peers import Peers
from gateway.listeners.scgi import ScgiConnection
from gateway.units import Duration, Size
from tests.listeners.handlers import OK, echo, plain, until

GET = {b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/a.cgi", b"HTTP_HOST": b"example.org"}
SOON = Duration(0.15)


def netstring(content: bytes) -> bytes:
    return b"%d:%b," % (len(content), content)


def asked(pairs: dict[bytes, bytes], length: int | bytes = 0) -> bytes:
    """Return the parameters of a request, with those that SCGI itself has."""
    size = length if isinstance(length, bytes) else b"%d" % length
    every = {b"CONTENT_LENGTH": size, b"SCGI": b"1"} | pairs
    return netstring(b"".join(name + b"\0" + value + b"\0" for name, value in every.items()))


POST = GET | {b"REQUEST_METHOD": b"POST"}


@asynccontextmanager
async def never(request: Request) -> AsyncIterator[Response]:
    await asyncio.get_running_loop().create_future()
    yield OK


class Pieces:
    """A body of given pieces; an exception among them is raised."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)

    async def read(self) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece


class Endless:
    """A body without an end."""

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        return bytes(65536)


async def answer(listener: Any, *parts: bytes) -> tuple[bytes, bytes]:
    """Send one request; return head and body of all that comes until the listener closes."""
    async with listener.client() as client:
        for part in parts:
            client.writer.write(part)
            with suppress(ConnectionError):
                await client.writer.drain()
        head, _, body = (await client.rest()).partition(b"\r\n\r\n")
        return head, body


@pytest.fixture
def scgi(serve: Any) -> Any:
    return partial(serve, connection=ScgiConnection)


@pytest.mark.parametrize("unix", [False, True])
def test_one_request_and_the_end_of_the_connection(scgi: Any, unix: bool) -> None:
    async def test(listener: Any) -> None:
        head, body = await answer(listener, asked(GET))
        assert head == b"Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5"
        assert body == b"hello"
        head, body = await answer(listener, asked(GET | {b"REQUEST_METHOD": b"HEAD"}))
        assert (head.endswith(b"Content-Length: 5"), body) == (True, b"")
        assert [request.via for request, _, _ in listener.records] == ["scgi", "scgi"]

    scgi(plain, test, unix=unix)


def test_request_in_single_bytes(scgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            for byte in asked(POST, 5) + b"12345":
                client.writer.write(bytes((byte,)))
                await asyncio.sleep(0)
            assert (await client.rest()).endswith(b"\r\n\r\n12345")

    scgi(echo, test)


def test_second_request_is_ignored(scgi: Any) -> None:
    async def test(listener: Any) -> None:
        _, body = await answer(listener, asked(POST, 2) + b"ab" + asked(POST, 2) + b"cd")
        assert body == b"ab"
        assert len(listener.records) == 1

    scgi(echo, test)


def test_handler_starts_before_the_body_is_there(scgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            client.writer.write(asked(POST, 1 << 20))
            await until(lambda: listener.records)  # it has answered
            client.writer.write(bytes(1 << 20))
            await client.writer.drain()  # raises if it is reset
            assert (await client.rest()).endswith(b"hello")

    scgi(plain, test)


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 1_000_000])
def test_body_and_answer_of_any_size(scgi: Any, size: int) -> None:
    async def test(listener: Any) -> None:
        assert (await answer(listener, asked(POST, size), b"x" * size))[1] == b"x" * size

    scgi(echo, test)


def test_stream_and_file(scgi: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"f" * 200_000)

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        if request.path == b"/stream":
            yield Response(status=200, body=Pieces(b"one", b"two"))
            return
        fd = os.open(tmp_path / "file", os.O_RDONLY)
        try:
            yield Response(status=200, body=FileSpan(fd, 0, 200_000))
        finally:
            os.close(fd)

    async def test(listener: Any) -> None:
        head, body = await answer(listener, asked(GET | {b"SCRIPT_NAME": b"/stream"}))
        assert (head, body) == (b"Status: 200 OK", b"onetwo")
        assert (await answer(listener, asked(GET)))[1] == b"f" * 200_000

    scgi(handler, test)


@pytest.mark.parametrize("sent", [b"", b"123"])
@pytest.mark.parametrize("unix", [False, True])
def test_closed_connection_releases_the_handler(scgi: Any, sent: bytes, unix: bool) -> None:
    left: list[str] = []
    entered: list[str] = []

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        entered.append("entered")
        try:
            await asyncio.get_running_loop().create_future()
            yield OK
        finally:
            left.append("left")

    async def test(listener: Any) -> None:
        async with listener.client() as client:
            client.writer.write(asked(POST, 5) + sent)
            await until(lambda: entered)
        await until(lambda: left)
        await until(lambda: listener.records)
        assert listener.records[0][1] == 499

    scgi(handler, test, unix=unix)


def test_body_cut_short_is_never_taken_for_the_whole(scgi: Any) -> None:
    read: list[bytes] = []

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        while piece := await request.body.read():
            read.append(piece)
        read.append(b"the end")
        yield OK

    async def test(listener: Any) -> None:
        async with listener.client() as client:
            client.writer.write(asked(POST, 5) + b"123")
            client.writer.write_eof()
            assert b"hello" not in await client.rest()
        await until(lambda: listener.records)
        assert b"the end" not in read

    scgi(handler, test)


# Failures


@pytest.mark.parametrize("error", [Refused(404), Truncated("cut"), RuntimeError("a mistake")])
def test_failure_before_the_head_is_a_page(scgi: Any, error: Exception) -> None:
    def handler(request: Request) -> Ready:
        raise error

    async def test(listener: Any) -> None:
        status = {Refused: b"404", Truncated: b"502", RuntimeError: b"500"}[type(error)]
        head, body = await answer(listener, asked(GET))
        assert head.startswith(b"Status: " + status)
        assert body.startswith(b"<!doctype html>")

    scgi(handler, test)


def test_failure_after_the_head_resets_the_connection(scgi: Any) -> None:
    """The end of the connection is the end of the answer: closing it would look whole."""

    def handler(request: Request) -> Ready:
        return Ready(Response(status=200, body=Pieces(b"x" * 40_000, Truncated("cut"))))

    async def test(listener: Any) -> None:
        async with listener.client() as client:
            client.writer.write(asked(GET))
            assert await client.rest() == b"(reset)"

    scgi(handler, test)


BROKEN = {
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "sign": b"+70:CONTENT_LENGTH\x000\0",
    "leading zero": b"0" + asked(GET),
    "no comma": asked(GET)[:-1] + b";",
    "empty": b"0:,",
    "no SCGI": netstring(b"CONTENT_LENGTH\x000\0"),
    "not first": netstring(b"SCGI\x001\0CONTENT_LENGTH\x000\0"),
    "twice": netstring(b"CONTENT_LENGTH\x000\0SCGI\x001\0CONTENT_LENGTH\x005\0"),
    "name empty": asked(GET | {b"": b"x"}),
    "name with =": asked(GET | {b"A=B": b"x"}),
    "no method": asked({b"SCRIPT_NAME": b"/a"}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_row_11_what_is_no_request_is_a_400_page(scgi: Any, case: str) -> None:
    async def test(listener: Any) -> None:
        head, _ = await answer(listener, BROKEN[case])
        assert head.startswith(b"Status: 400 ")
        assert "a request by scgi: " in listener.said()
        assert (await answer(listener, asked(GET)))[1] == b"hello"
        assert [status for _, status, _ in listener.records] == [400, 200]

    scgi(plain, test)


@pytest.mark.parametrize("length", [b"-1", b"+5", b"10" + b"0" * 30, b"1,1", b"0x5", b"5 ", b""])
def test_row_22_impossible_content_length_is_a_400_page(scgi: Any, length: bytes) -> None:
    async def test(listener: Any) -> None:
        assert (await answer(listener, asked(POST, length), b"12345"))[0].startswith(b"Status: 400")

    scgi(echo, test)


@pytest.mark.parametrize("size", [300_000, 9_999_999])
def test_too_many_params_are_a_431_page(scgi: Any, size: int) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            client.writer.write(b"%d:" % size + bytes(200_000))
            assert (await client.rest()).startswith(b"Status: 431 ")

    scgi(plain, test)


def test_row_22_body_over_the_limit_is_413(scgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            client.writer.write(asked(POST, 4 << 20) + bytes(4 << 20))
            await client.writer.drain()
            assert (await client.rest()).startswith(b"Status: 413 ")

    scgi(echo, test, Limits(request_body=Size(100_000)))


# Deadlines


@pytest.mark.parametrize("sent", [b"", b"7", asked(GET)[:-1]], ids=["nothing", "digit", "cut"])
def test_params_that_never_end(scgi: Any, sent: bytes) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            client.writer.write(sent)
            assert await client.rest() in (b"", b"(reset)")
        assert ("were not complete in time" in listener.said()) == bool(sent)

    scgi(plain, test, Limits(head=SOON))


def test_silent_body_is_408(scgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            client.writer.write(asked(POST, 5) + b"123")
            assert (await client.rest()).startswith(b"Status: 408 ")

    scgi(echo, test, Limits(body=SOON))


def test_no_answer_in_time_is_504(scgi: Any) -> None:
    async def test(listener: Any) -> None:
        assert (await answer(listener, asked(GET)))[0].startswith(b"Status: 504 ")

    scgi(never, test, Limits(first_byte=SOON))


def test_front_that_takes_nothing_is_dropped(scgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            client.writer.write(asked(GET))
            await until(lambda: listener.records)
            await until(lambda: not listener.door.connections)
        assert "the client stopped reading" in listener.said()

    scgi(lambda request: Ready(Response(status=200, body=Endless())), test, Limits(client=SOON))


# Who is believed, who may connect, and leaving


@pytest.mark.parametrize(
    ("trust", "believed"), [(None, True), (["127.0.0.1"], True), (["192.0.2.1"], False)]
)
def test_row_4_front_server_is_believed_where_it_is_trusted(
    scgi: Any, trust: list[str] | None, believed: bool
) -> None:
    def handler(request: Request) -> Ready:
        user = request.params.get(b"REMOTE_USER", b"-")
        words = (request.remote[0].encode(), request.scheme, user)
        return Ready(Response(status=200, body=b" ".join(words)))

    async def test(listener: Any) -> None:
        claims = {b"REMOTE_ADDR": b"192.0.2.7", b"HTTPS": b"on", b"REMOTE_USER": b"alice"}
        _, body = await answer(listener, asked(GET | claims))
        assert body == (b"192.0.2.7 https alice" if believed else b"127.0.0.1 http -")

    scgi(handler, test, trust=None if trust is None else Peers.parse(trust))


def test_who_is_not_listed_is_closed_at_once(scgi: Any) -> None:
    async def test(listener: Any) -> None:
        assert (await answer(listener, asked(GET)))[0] in (b"", b"(reset)")
        assert not listener.records
        assert "may not connect to the entrance" in listener.said()

    scgi(plain, test, allow=Peers.parse(["192.0.2.1"]))


def test_draining_finishes_what_runs_and_closes_the_idle(scgi: Any) -> None:
    gates: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        gates.append(asyncio.get_running_loop().create_future())
        await gates[0]
        yield Response(status=200, body=b"x" * 100_000)

    async def test(listener: Any) -> None:
        async with listener.client() as client, listener.client() as idle:
            client.writer.write(asked(GET))
            await until(lambda: gates)
            await until(lambda: len(listener.door.connections) == 2)
            draining = asyncio.create_task(listener.door.drain(10.0))
            assert await idle.rest() == b""
            gates[0].set_result(None)
            assert len((await client.rest()).partition(b"\r\n\r\n")[2]) == 100_000
            await draining

    scgi(handler, test)
