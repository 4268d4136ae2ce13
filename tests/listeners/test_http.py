"""The HTTP listener, over real sockets, on both event loops."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.exchange import FileSpan, Limits, Ready, Refused, Request, Response, Truncated
from gateway.units import Duration, Size
from tests.listeners.handlers import OK, Pieces, echo, plain, until

SOON = Duration(0.15)


def streaming(*pieces: Any, length: int | None = None) -> Callable[[Request], Ready]:
    return lambda request: Ready(Response(status=200, body=Pieces(*pieces), length=length))


def test_two_requests_on_one_connection(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            for _ in range(2):
                await client.ask("GET / HTTP/1.1\nHost: a")
                status, fields, body = await client.answer()
                assert (status, body) == (200, b"hello")
                assert fields["date"].endswith("GMT")
                assert "connection" not in fields
        assert [(status, sent) for _, status, sent in listener.records] == [(200, 5), (200, 5)]
        assert len({request.id for request, _, _ in listener.records}) == 2

    serve(plain, test)


def test_pipelined_requests_are_answered_in_order(serve: Any) -> None:
    gates: dict[bytes, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        if request.path == b"/slow":
            gates[b"slow"] = asyncio.get_running_loop().create_future()
            await gates[b"slow"]
        yield Response(status=200, body=request.path)

    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET /slow HTTP/1.1\nHost: a\n\nGET /fast HTTP/1.1\nHost: a")
            await until(lambda: b"slow" in gates)
            gates[b"slow"].set_result(None)
            assert (await client.answer())[2] == b"/slow"
            assert (await client.answer())[2] == b"/fast"

    serve(handler, test)


def test_a_thousand_pipelined_requests(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            client.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
            for _ in range(1000):
                assert (await client.answer())[0] == 200

    serve(plain, test)


def test_pipelining_client_that_does_not_read_is_not_served_ahead(serve: Any) -> None:
    big = Response(status=200, body=bytes(200_000))

    async def test(listener: Any) -> None:
        async with listener.client() as client:
            client.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
            await until(lambda: bool(listener.door.connections))
            (connection,) = listener.door.connections
            seen = -1
            while seen != len(listener.records):
                seen = len(listener.records)
                for _ in range(50):
                    await asyncio.sleep(0)
            assert connection.transport.get_write_buffer_size() < 500_000
            assert len(listener.records) < 100

    serve(lambda request: Ready(big), test)


def test_body_by_length_and_by_chunks(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("POST / HTTP/1.1\nHost: a\nContent-Length: 5", b"12345")
            assert (await client.answer())[2] == b"12345"
            chunks = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: dropped\r\n\r\n"
            await client.ask("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked", chunks)
            assert (await client.answer())[2] == b"abcde"
            await client.ask("GET / HTTP/1.1\nHost: a")
            assert (await client.answer())[2] == b""

    serve(echo, test)


def test_continue_is_sent_when_the_body_is_asked_for(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("POST / HTTP/1.1\nHost: a\nContent-Length: 2\nExpect: 100-continue")
            assert (await client.head())[0] == 100
            client.writer.write(b"ok")
            assert (await client.answer())[2] == b"ok"

    serve(echo, test)


def test_no_continue_and_close_when_nobody_reads(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("POST / HTTP/1.1\nHost: a\nContent-Length: 2\nExpect: 100-continue")
            status, fields, _ = await client.answer()
            assert (status, fields["connection"]) == (200, "close")
            assert await client.rest() == b""

    serve(plain, test)


def test_head_has_the_length_and_no_body(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("HEAD / HTTP/1.1\nHost: a\nConnection: close")
            status, fields = await client.head()
            assert (status, fields["content-length"]) == (200, "5")
            assert await client.rest() == b""

    serve(plain, test)


def test_stream_is_chunked_and_on_http_1_0_ends_with_the_connection(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            _, fields, body = await client.answer()
            assert (fields["transfer-encoding"], body) == ("chunked", b"onetwo")
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.0")
            _, fields = await client.head()
            assert "transfer-encoding" not in fields
            assert await client.rest() == b"onetwo"

    def handler(request: Request) -> Ready:
        return streaming(b"one", b"two")(request)

    serve(handler, test)


def test_a_head_goes_out_before_a_body_that_waits(serve: Any) -> None:
    gates: list[asyncio.Future[bytes]] = []

    def handler(request: Request) -> Ready:
        gates.append(asyncio.get_running_loop().create_future())
        return streaming(gates[0], b"x")(request)

    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            assert (await client.head())[0] == 200
            gates[0].set_result(b"first")
            assert await client.reader.readuntil(b"0\r\n\r\n") == (
                b"5\r\nfirst\r\n1\r\nx\r\n0\r\n\r\n"
            )

    serve(handler, test)


def test_small_unread_body_is_dropped_and_the_connection_kept(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("POST / HTTP/1.1\nHost: a\nContent-Length: 3000")
            assert (await client.answer())[0] == 200
            client.writer.write(bytes(3000))
            await client.ask("GET / HTTP/1.1\nHost: a")
            assert (await client.answer())[0] == 200

    serve(plain, test)


def test_large_unread_body_closes_after_the_answer(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("POST / HTTP/1.1\nHost: a\nContent-Length: 50000000")
            assert (await client.answer())[0] == 200
            try:
                for _ in range(50):
                    client.writer.write(bytes(1 << 20))
                    await client.writer.drain()
            except ConnectionError:
                pass
            assert await client.rest() in (b"", b"(reset)")
            await until(lambda: not listener.door.connections)

    limits = Limits(body=SOON)
    serve(plain, test, limits)


def test_body_over_the_limit_is_413(serve: Any) -> None:
    limits = Limits(request_body=Size(10))

    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("POST / HTTP/1.1\nHost: a\nContent-Length: 11", bytes(11))
            assert (await client.answer())[0] == 413
        async with listener.client() as client:
            await client.ask(
                "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked", b"b\r\n" + bytes(11)
            )
            assert (await client.answer())[0] == 413

    serve(echo, test, limits)


def test_garbage_is_answered_after_the_request_before_it(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            client.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\x00\x01garbage\r\n\r\n")
            assert (await client.answer())[0] == 200
            status, fields, _ = await client.answer()
            assert (status, fields["connection"]) == (400, "close")
            assert await client.rest() == b""

    serve(plain, test)


def test_broken_chunk_is_400_for_a_handler_that_reads(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked", b"zz\r\n")
            assert (await client.answer())[0] == 400
            assert await client.rest() == b""

    serve(echo, test)


def test_incomplete_head_is_408(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            client.writer.write(b"GET / HTTP/1.1\r\nHos")
            assert (await client.answer())[0] == 408
            assert await client.rest() == b""

    serve(plain, test, Limits(head=SOON))


def test_silent_connection_is_closed_without_a_word(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            assert await client.rest() in (b"", b"(reset)")
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            await client.answer()
            assert await client.rest() in (b"", b"(reset)")

    serve(plain, test, Limits(head=SOON, keepalive=SOON))


def test_body_that_stops_is_408(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("POST / HTTP/1.1\nHost: a\nContent-Length: 10", b"12345")
            status, fields, _ = await client.answer()
            assert (status, fields["connection"]) == (408, "close")

    serve(echo, test, Limits(body=SOON))


@asynccontextmanager
async def never(request: Request) -> AsyncIterator[Response]:
    await asyncio.get_running_loop().create_future()
    yield OK


def test_no_head_in_time_is_504(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            assert (await client.answer())[0] == 504
            await client.ask("GET / HTTP/1.1\nHost: a")
            assert (await client.answer())[0] == 504
        assert "first_byte" in listener.log.read_text()

    serve(never, test, Limits(first_byte=SOON))


def test_whole_exchange_has_a_deadline(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            assert (await client.answer())[0] == 504

    serve(never, test, Limits(total=SOON))


def test_silence_inside_an_answer_aborts_it_visibly(serve: Any) -> None:
    def handler(request: Request) -> Ready:
        return streaming(b"start", asyncio.get_running_loop().create_future())(request)

    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            assert (await client.head())[0] == 200
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
        assert [status for _, status, _ in listener.records] == [200]

    serve(handler, test, Limits(idle=SOON))


class Endless:
    async def read(self) -> bytes:
        return bytes(65536)


def test_client_that_stops_reading_is_dropped(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            await until(lambda: bool(listener.records))
            assert listener.records[0][1] == 200
        assert "client" in listener.log.read_text()

    serve(lambda request: Ready(Response(status=200, body=Endless())), test, Limits(client=SOON))


def test_handler_is_left_when_the_client_is_gone(serve: Any) -> None:
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
            await client.ask("GET / HTTP/1.1\nHost: a")
            await until(lambda: bool(entered))
        await until(lambda: bool(left))
        await until(lambda: bool(listener.records))
        assert listener.records[0][1] == 499

    serve(handler, test)


def test_our_own_mistake_is_500_with_an_id_that_finds_the_traceback(serve: Any) -> None:
    def handler(request: Request) -> Ready:
        raise KeyError("oops")

    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            status, _, body = await client.answer()
            assert status == 500
            log = listener.log.read_text()
            assert "KeyError" in log
            assert "KeyError" not in body.decode()
            number = listener.records[0][0].id
            assert number in log
            assert number in body.decode()
            await client.ask("GET / HTTP/1.1\nHost: a")
            assert (await client.answer())[0] == 500

    serve(handler, test)


def test_reasons_are_shown_only_where_they_are_explained(serve: Any) -> None:
    def handler(request: Request) -> Ready:
        raise Refused(502, "It broke.", log="the <why>", detail="line \x1b[1m")

    async def hidden(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            assert b"why" not in (await client.answer())[2]
        assert "the <why>" in listener.log.read_text()
        assert "\x1b" not in listener.log.read_text()

    async def shown(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            body = (await client.answer())[2]
            assert b"the &lt;why&gt;" in body
            assert b"\x1b" not in body

    serve(handler, hidden)
    serve(handler, shown, explain=True)


def test_error_that_is_waited_for_reaches_the_exchange(serve: Any) -> None:
    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        loop = asyncio.get_running_loop()
        later = loop.create_future()
        loop.call_soon(later.set_exception, Refused(403, "Not you."))
        await later
        yield OK

    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            status, _, body = await client.answer()
            assert status == 403
            assert b"Not you." in body

    serve(handler, test)


def test_stream_that_breaks_aborts(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            assert (await client.head())[0] == 200
            assert b"0\r\n\r\n" not in await client.rest()

    def handler(request: Request) -> Ready:
        return streaming(b"start", Truncated("the worker died"))(request)

    serve(handler, test)


def test_body_shorter_than_announced_aborts(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            _, fields = await client.head()
            assert fields["content-length"] == "10"
            assert len((await client.rest()).replace(b"(reset)", b"")) < 10
            assert "fewer" in listener.log.read_text()

    def handler(request: Request) -> Ready:
        return streaming(b"short", length=10)(request)

    serve(handler, test)


def test_body_longer_than_announced_is_cut_and_the_connection_closed(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\nHost: a")
            assert (await client.answer())[2] == b"1234"
            assert await client.rest() in (b"", b"(reset)")

    def handler(request: Request) -> Ready:
        return streaming(b"12345678", length=4)(request)

    serve(handler, test)


def test_large_file_goes_out_whole_between_other_answers(serve: Any, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "big").write_bytes(data)
    fd = os.open(tmp_path / "big", os.O_RDONLY)

    def handler(request: Request) -> Ready:
        if request.path == b"/part":
            return Ready(Response(status=200, body=FileSpan(fd, 1000, len(data) - 2000)))
        return Ready(OK)

    async def test(listener: Any) -> None:
        async with listener.client() as client:
            line = "GET {} HTTP/1.1\nHost: a"
            await client.ask("\n\n".join(line.format(path) for path in ("/", "/part", "/")))
            assert (await client.answer())[2] == b"hello"
            assert (await client.answer())[2] == data[1000:-1000]
            assert (await client.answer())[2] == b"hello"

    serve(handler, test)
    os.close(fd)


def test_file_that_shrinks_aborts(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    fd = os.open(tmp_path / "file", os.O_RDONLY)

    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            await client.head()
            assert len((await client.rest()).replace(b"(reset)", b"")) <= 4

    serve(lambda request: Ready(Response(status=200, body=FileSpan(fd, 0, 1000))), test)
    os.close(fd)


def test_drain_finishes_what_runs_and_closes_what_is_idle(serve: Any) -> None:
    gates: list[asyncio.Future[bytes]] = []

    def handler(request: Request) -> Ready:
        if request.path == b"/idle":
            return Ready(OK)
        gates.append(asyncio.get_running_loop().create_future())
        return streaming(gates[0])(request)

    async def test(listener: Any) -> None:
        async with listener.client() as idle, listener.client() as busy:
            await idle.ask("GET /idle HTTP/1.1\nHost: a")
            await idle.answer()
            await busy.ask("GET /busy HTTP/1.1\nHost: a")
            await busy.head()
            leaving = asyncio.ensure_future(listener.door.drain(5.0))
            assert await idle.rest() == b""
            gates[0].set_result(b"done")
            assert await busy.rest() == b"4\r\ndone\r\n0\r\n\r\n"
            await leaving

    serve(handler, test)


def test_drain_answers_who_was_connected_in_the_same_turn(serve: Any) -> None:
    async def test(listener: Any) -> None:
        # Without a turn of the loop: the kernel has connection and request, the listener neither.
        with socket.create_connection(("127.0.0.1", listener.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await listener.door.drain(5.0)
            client.setblocking(False)
            answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in answer

    serve(lambda request: Ready(OK), test)


def test_what_runs_after_the_drain_is_ended(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.client() as client:
            await client.ask("GET / HTTP/1.1\nHost: a")
            await until(lambda: bool(listener.door.connections))
            (connection,) = listener.door.connections
            await until(lambda: connection.answer is not None)
            await listener.door.drain(0.0)
            status, fields, _ = await client.answer()
            assert (status, fields["retry-after"], fields["connection"]) == (503, "1", "close")

    serve(never, test)


def test_too_many_connections_are_refused_in_words(serve: Any) -> None:
    async def test(listener: Any) -> None:
        listener.door.connections_max = 1
        async with listener.client() as first, listener.client() as second:
            await first.ask("GET / HTTP/1.1\nHost: a")
            assert (await first.answer())[0] == 200
            assert (await second.answer())[0] == 503

    serve(plain, test)
