"""The FastCGI listener, over real sockets, on both event loops: requests, connections, their ends.

`row_N` in a name is the row of the field's security history that the test holds. What is believed
of a front server, deadlines and the standard error are in `test_fastcgi_bounds.py`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.exchange import FileSpan, Limits, Ready, Refused, Request, Response, Truncated
from gateway.listeners.fastcgi import FastCgiConnection
from gateway.units import Duration, Size
from gateway.wire import fcgi_record as fcgi
from gateway.wire.fcgi_params import MAX_COUNT, MAX_TOTAL, encode_params
from gateway.wire.fcgi_record import BEGIN_BODY, END_BODY, encode_record
from tests.listeners.handlers import OK, Pieces, echo, plain, until

GET = {
    b"REQUEST_METHOD": b"GET",
    b"SCRIPT_NAME": b"/a.cgi",
    b"REQUEST_URI": b"/a.cgi?x=1",
    b"QUERY_STRING": b"x=1",
    b"SERVER_PROTOCOL": b"HTTP/1.1",
    b"HTTP_HOST": b"example.org",
}
PLAIN = ((b"Content-Type", b"text/plain"),)
SOON = Duration(0.15)


def post(length: int | bytes | None) -> dict[bytes, bytes]:
    """The parameters of a POST; None: its length is not said."""
    params = GET | {b"REQUEST_METHOD": b"POST"}
    if length is not None:
        params[b"CONTENT_LENGTH"] = length if isinstance(length, bytes) else b"%d" % length
    return params


def begin(id: int = 1, *, keep: bool = True, role: int = fcgi.RESPONDER) -> bytes:
    flags = fcgi.KEEP_CONN if keep else 0
    return encode_record(fcgi.BEGIN_REQUEST, id, BEGIN_BODY.pack(role, flags))


def params(pairs: dict[bytes, bytes], id: int = 1) -> bytes:
    """PARAMS, and the end of them."""
    content = encode_record(fcgi.PARAMS, id, encode_params(pairs))
    return content + encode_record(fcgi.PARAMS, id, b"")


def stdin(data: bytes, id: int = 1) -> bytes:
    return encode_record(fcgi.STDIN, id, data)


def whole(pairs: dict[bytes, bytes], body: bytes = b"", id: int = 1, keep: bool = True) -> bytes:
    """All that a front server sends for one request."""
    sent = stdin(body, id) if body else b""
    return begin(id, keep=keep) + params(pairs, id) + sent + stdin(b"", id)


def abort(id: int = 1) -> bytes:
    return encode_record(fcgi.ABORT_REQUEST, id, b"")


class Held:
    """A handler that answers when it is let, and remembers that it was left."""

    def __init__(self, answer: Response | None = OK) -> None:
        self.answer = answer
        self.entered: list[Request] = []
        self.left: list[type[BaseException] | None] = []
        self.gates: list[asyncio.Future[None]] = []

    def __call__(self, request: Request) -> "Held._Context":
        return Held._Context(self, request)

    class _Context:
        def __init__(self, held: "Held", request: Request) -> None:
            self.held = held
            self.request = request

        async def __aenter__(self) -> Response:
            self.held.entered.append(self.request)
            gate = asyncio.get_running_loop().create_future()
            self.held.gates.append(gate)
            try:
                await gate
            except BaseException as error:
                self.held.left.append(type(error))
                raise
            assert self.held.answer is not None
            return self.held.answer

        async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
            self.held.left.append(kind)


@pytest.fixture
def fastcgi(serve: Any) -> Any:
    return partial(serve, connection=FastCgiConnection)


# When a request begins and ends


def test_handler_starts_when_params_end_not_when_stdin_ends(fastcgi: Any) -> None:
    seen: list[bytes] = []

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        seen.append(request.path)
        first = await request.body.read()
        yield Response(status=200, body=first)

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(), params(post(6)))
            await until(lambda: seen)
            await front.send(stdin(b"abc"))
            assert (await front.result()).body == b"abc"

    fastcgi(handler, test)


def test_answer_before_the_body_is_read_then_the_next_request(fastcgi: Any) -> None:
    """The front may still send all of its body: it is dropped, and the connection stays in step."""

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for id in (1, 1, 7):
                await front.send(begin(id), params(post(1 << 20), id))
                early = await front.result(id)
                assert (early.status, early.body, early.protocol_status) == (200, b"hello", 0)
                await front.send(stdin(bytes(1 << 20), id), stdin(b"", id))
            assert (await front.ask_for(GET)).body == b"hello"
        assert len(listener.records) == 4

    fastcgi(plain, test)


@pytest.mark.parametrize("unix", [False, True])
def test_early_answer_reaches_a_front_that_sends_on_and_is_not_kept(
    fastcgi: Any, unix: bool
) -> None:
    """To close with unread bytes would reset the connection, and the front would answer 502."""

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(keep=False), params(post(4 << 20)))
            await until(lambda: listener.records)
            await front.send(stdin(bytes(4 << 20)), stdin(b""))  # raises if it is reset
            assert (await front.result()).body == b"hello"
            assert await front.rest() == b""

    fastcgi(plain, test, unix=unix)


def test_kept_connection_takes_many_requests_with_ids_of_any_kind(fastcgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for id in (1, 1, 2, 65535, 3, 1):
                result = await front.ask_for(post(3), b"abc", id=id)
                assert (result.body, result.app_status, result.protocol_status) == (b"abc", 0, 0)
        assert len({request.id for request, _, _ in listener.records}) == 6

    fastcgi(echo, test)


@pytest.mark.parametrize("unix", [False, True])
def test_connection_that_is_not_kept_closes_after_the_end(fastcgi: Any, unix: bool) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            result = await front.ask_for(GET, keep=False)
            assert (result.body, result.protocol_status) == (b"hello", fcgi.REQUEST_COMPLETE)
            assert await front.rest() == b""

    fastcgi(plain, test, unix=unix)


def test_what_follows_a_request_that_is_not_kept_is_ignored(fastcgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(whole(GET, keep=False), whole(GET))
            await front.result()
            assert await front.rest() == b""
        assert len(listener.records) == 1

    fastcgi(plain, test)


def test_second_live_id_is_refused_and_the_first_goes_on(fastcgi: Any) -> None:
    held = Held()

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(whole(GET))
            await until(lambda: held.gates)
            await front.send(whole(GET, id=2, keep=False))
            refused = await front.result(2)
            assert refused.protocol_status == fcgi.CANT_MPX_CONN
            held.gates[0].set_result(None)
            assert (await front.result(1)).body == b"hello"
            await front.send(whole(GET, id=2))
            await until(lambda: len(held.gates) == 2)
            held.gates[1].set_result(None)
            assert (await front.result(2)).body == b"hello"

    fastcgi(held, test)


@pytest.mark.parametrize("role", [0, 3, 4, 65535])
def test_unknown_role_is_refused(fastcgi: Any, role: int) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            result = await front.ask_for(GET, role=role)
            assert (result.output, result.protocol_status) == (b"", fcgi.UNKNOWN_ROLE)
            assert (await front.ask_for(GET)).body == b"hello"
            assert (await front.ask_for(GET, role=role, keep=False)).output == b""
            assert await front.rest() == b""
        assert len(listener.records) == 1

    fastcgi(plain, test)


def test_values_are_told_also_in_the_middle_of_a_request(fastcgi: Any) -> None:
    asked = encode_params({b"FCGI_MPXS_CONNS": b"", b"FCGI_MAX_CONNS": b"", b"OTHER": b""})
    question = encode_record(fcgi.GET_VALUES, fcgi.NULL_REQUEST, asked)

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for before, after in ((b"", b""), (begin(), params(GET) + stdin(b""))):
                await front.send(before, question)
                kind, id, content = await front.record()
                assert (kind, id) == (fcgi.GET_VALUES_RESULT, fcgi.NULL_REQUEST)
                assert encode_params({b"FCGI_MPXS_CONNS": b"0"}) in content
                assert b"OTHER" not in content
                await front.send(after)
            assert (await front.result()).body == b"hello"

    fastcgi(plain, test)


# Aborts


def test_abort_releases_the_handler_and_the_connection_goes_on(fastcgi: Any) -> None:
    held = Held()

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for id in (1, 1, 2):
                held.gates.clear()
                await front.send(begin(id), params(post(10), id), stdin(b"abc", id))
                await until(lambda: held.gates)
                await front.send(abort(id))
                result = await front.result(id)
                assert (result.output, result.protocol_status) == (b"", fcgi.REQUEST_COMPLETE)
                assert result.app_status != 0
                await front.send(stdin(b"defghij", id), stdin(b"", id))  # was on its way
            assert held.left == [asyncio.CancelledError] * 3
            assert [status for _, status, _ in listener.records] == [499] * 3
            held.gates.clear()
            await front.send(whole(GET))
            await until(lambda: held.gates)
            held.gates[0].set_result(None)
            assert (await front.result()).body == b"hello"

    fastcgi(held, test)


def test_abort_in_the_middle_of_an_answer(fastcgi: Any) -> None:
    left: list[str] = []

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        never = asyncio.get_running_loop().create_future()
        try:
            yield Response(status=200, body=Pieces(b"x" * 40000, never))
        finally:
            left.append("left")

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(whole(GET))
            kind, _, _ = await front.record()
            assert kind == fcgi.STDOUT
            await front.send(abort())
            result = await front.result()
            assert result.protocol_status == fcgi.REQUEST_COMPLETE
            assert left == ["left"]
            await front.send(whole(GET, id=2), abort(2))
            assert (await front.result(2)).protocol_status == fcgi.REQUEST_COMPLETE

    fastcgi(handler, test)


def test_abort_before_the_params_end_starts_nothing(fastcgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(), encode_record(fcgi.PARAMS, 1, b"\x01"), abort())
            assert (await front.result()).protocol_status == fcgi.REQUEST_COMPLETE
            assert (await front.ask_for(GET)).body == b"hello"
            await front.send(begin(keep=False), abort())
            await front.result()
            assert await front.rest() == b""
        assert len(listener.records) == 1

    fastcgi(plain, test)


def test_abort_of_a_connection_that_is_not_kept_closes_it(fastcgi: Any) -> None:
    held = Held()

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(keep=False), params(GET))
            await until(lambda: held.gates)
            await front.send(abort())
            assert (await front.result()).protocol_status == fcgi.REQUEST_COMPLETE
            assert await front.rest() == b""
        assert held.left == [asyncio.CancelledError]

    fastcgi(held, test)


@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize("sent", ["nothing", "some", "all"])
def test_closed_connection_releases_the_handler(fastcgi: Any, sent: str, unix: bool) -> None:
    held = Held()
    body = {"nothing": b"", "some": stdin(b"abc"), "all": stdin(b"abcdef") + stdin(b"")}[sent]

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(), params(post(6)), body)
            await until(lambda: held.gates)
        await until(lambda: held.left)
        assert held.left == [asyncio.CancelledError]
        await until(lambda: listener.records)
        assert [status for _, status, _ in listener.records] == [499]

    fastcgi(held, test, unix=unix)


@pytest.mark.parametrize("unix", [False, True])
def test_closed_connection_is_seen_also_while_nobody_reads_the_body(
    fastcgi: Any, unix: bool
) -> None:
    """Nothing is read from the front server then, so no end of it is read either."""
    held = Held()
    more = stdin(bytes(100_000)) if unix else b""

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(), params(post(1 << 20)), stdin(bytes(100_000)), more)
            await until(lambda: held.gates)
            (connection,) = listener.door.connections
            await until(lambda: not connection.reading)
        await until(lambda: held.left)
        assert held.left == [asyncio.CancelledError]
        await until(lambda: listener.records)
        assert [status for _, status, _ in listener.records] == [499]

    fastcgi(held, test, unix=unix)


# One exchange that ends late must not touch the next


class Late:
    """A handler of a script that works on after its answer."""

    def __init__(self) -> None:
        self.ends: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def __call__(self, request: Request) -> AsyncIterator[Response]:
        request.notes.script = "/a.cgi"
        end = asyncio.get_running_loop().create_future()
        self.ends.append(end)
        yield OK
        if request.stderr is not None and len(self.ends) == 1:
            await end
            request.stderr(b"late words")
        else:
            await end
        request.notes.exit_status = 3


def test_end_waits_a_little_for_the_exit_status_and_not_for_ever(fastcgi: Any) -> None:
    late = Late()

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(whole(GET))
            await until(lambda: late.ends)
            late.ends[0].set_result(None)
            assert (await front.result()).app_status == 3
            result = await front.ask_for(GET)
            assert (result.body, result.app_status) == (b"hello", 0)
            assert not late.ends[1].done()
            late.ends[1].set_result(None)

    fastcgi(late, test)


def test_script_that_works_on_does_not_end_or_speak_in_the_next_request(fastcgi: Any) -> None:
    late = Late()

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            assert (await front.ask_for(GET)).body == b"hello"
            await front.send(begin(), params(GET | {b"REQUEST_METHOD": b"POST"}))
            await until(lambda: len(late.ends) == 2)
            late.ends[0].set_result(None)
            await until(lambda: len(listener.records) == 1)
            for _ in range(20):
                await asyncio.sleep(0)
            late.ends[1].set_result(None)
            result = await front.result()
            assert (result.app_status, result.body, result.stderr) == (3, b"hello", b"")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.15):
                    await front.record()  # nothing more, after all timers too

    fastcgi(late, test, stderr="peer")


def test_abort_while_the_exit_status_is_awaited(fastcgi: Any) -> None:
    late = Late()
    held = Held()

    def handler(request: Request) -> Any:
        return held(request) if late.ends else late(request)

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(whole(GET))
            await front.record()
            await front.send(abort())
            result = await front.result()
            assert result.protocol_status == fcgi.REQUEST_COMPLETE
            await front.send(whole(GET, id=2))
            await until(lambda: held.gates)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await front.record()  # the first one's timer ends nothing
            late.ends[0].set_result(None)
            held.gates[0].set_result(None)
            assert (await front.result(2)).body == b"hello"

    fastcgi(handler, test)


def test_rejected_request_does_not_have_the_status_of_the_one_before(fastcgi: Any) -> None:
    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        request.notes.script, request.notes.exit_status = "/a.cgi", 3
        yield OK

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            assert (await front.ask_for(GET)).app_status == 3
            rejected = await front.ask_for(post(b"-1"))
            assert (rejected.status, rejected.app_status) == (400, 0)
            assert (await front.ask_for(GET)).app_status == 3

    fastcgi(handler, test)


@pytest.mark.parametrize(("exit_status", "told"), [(0, 0), (3, 3), (-9, 137), (-15, 143)])
def test_exit_status_is_told_as_a_shell_tells_it(fastcgi: Any, exit_status: int, told: int) -> None:
    def handler(request: Request) -> Ready:
        request.notes.script, request.notes.exit_status = "/a.cgi", exit_status
        return Ready(OK)

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            assert (await front.ask_for(GET)).app_status == told

    fastcgi(handler, test)


# Answers


@pytest.mark.parametrize(
    ("method", "response", "first", "length", "body"),
    [
        (b"GET", OK, "200 OK", "5", b"hello"),
        (b"HEAD", OK, "200 OK", "5", b""),
        (b"GET", Response(status=204), "204 No Content", None, b""),
        (b"GET", Response(status=304, headers=((b"ETag", b'"1"'),)), "304 Not Modified", None, b""),
        (b"GET", Response(status=404, reason=b"Not Here", body=b"no"), "404 Not Here", "2", b"no"),
        (b"GET", Response(status=299, body=b"new"), "299 ", "3", b"new"),
        (b"GET", Response(status=302, headers=((b"Location", b"/x"),)), "302 Found", "0", b""),
        (b"POST", Response(status=201, encoded=b"X: y\r\n"), "201 Created", "0", b""),
    ],
    ids=["get", "head", "204", "304", "reason", "unknown", "redirect", "encoded"],
)
def test_head_of_an_answer(
    fastcgi: Any, method: bytes, response: Response, first: str, length: str | None, body: bytes
) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            result = await front.ask_for(GET | {b"REQUEST_METHOD": method})
            assert result.output.startswith(f"Status: {first}".encode())
            fields = result.fields
            assert (fields.get("content-length"), result.body) == (length, body)
            for name, value in response.headers:
                assert fields[name.decode().lower()] == value.decode()
            assert not {"date", "server", "connection", "transfer-encoding"} & set(fields)

    fastcgi(lambda request: Ready(response), test)


def test_stream_of_unknown_length_has_no_frame_of_its_own(fastcgi: Any) -> None:
    def handler(request: Request) -> Ready:
        return Ready(Response(status=200, body=Pieces(b"one", b"two" * 40000, b"three")))

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for method, body in ((b"GET", b"one" + b"two" * 40000 + b"three"), (b"HEAD", b"")):
                result = await front.ask_for(GET | {b"REQUEST_METHOD": method})
                assert result.body == body
                assert set(result.fields) == {"status"}

    fastcgi(handler, test)


def test_pieces_are_seen_as_they_come(fastcgi: Any) -> None:
    gates: list[asyncio.Future[bytes]] = []

    def handler(request: Request) -> Ready:
        gates.extend(asyncio.get_running_loop().create_future() for _ in range(2))
        return Ready(Response(status=200, headers=PLAIN, body=Pieces(*gates)))

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(whole(GET))
            assert (await front.record()).content.endswith(b"text/plain\r\n\r\n")
            for gate, piece in zip(gates, (b"one", b"two"), strict=True):
                gate.set_result(piece)
                assert (await front.record()).content == piece
            assert (await front.result()).output == b""

    fastcgi(handler, test)


@pytest.mark.parametrize("size", [0, 1, 65527, 65528, 65529, 200_000])
def test_file_of_any_size_is_sent_whole(fastcgi: Any, tmp_path: Path, size: int) -> None:
    content = Random(size).randbytes(size + 20)
    (tmp_path / "file").write_bytes(content)

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        fd = os.open(tmp_path / "file", os.O_RDONLY)
        try:
            yield Response(status=200, body=FileSpan(fd, 10, size))
        finally:
            os.close(fd)

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for _ in range(2):
                result = await front.ask_for(GET)
                assert result.fields["content-length"] == str(size)
                assert result.body == content[10 : 10 + size]

    fastcgi(handler, test)


@pytest.mark.parametrize("size", [65535, 65536, 65537, 1_000_000])
def test_row_12_large_body_becomes_whole_records(fastcgi: Any, size: int) -> None:
    body = Random(size).randbytes(size)

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for _ in range(2):
                assert (await front.ask_for(post(size), body)).body == body

    fastcgi(echo, test)


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_front_that_does_not_read_stops_the_answer(fastcgi: Any, tmp_path: Path, kind: str) -> None:
    total = 16 << 20
    read = 0

    class Endless:
        async def read(self) -> bytes:
            nonlocal read
            if read == total:
                return b""
            read += 65536
            return bytes(65536)

    file = tmp_path / "big"
    with file.open("wb") as out:
        out.truncate(total)

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        if kind == "stream":
            yield Response(status=200, body=Endless())
            return
        fd = os.open(file, os.O_RDONLY)
        try:
            yield Response(status=200, body=FileSpan(fd, 0, total))
        finally:
            os.close(fd)

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(whole(GET))
            await until(lambda: any(one.full for one in listener.door.connections))
            (connection,) = listener.door.connections
            for _ in range(200):
                await asyncio.sleep(0)
            assert connection.transport.get_write_buffer_size() < 300_000
            assert not listener.records
            assert len((await front.result()).body) == total

    fastcgi(handler, test)


# Failures


BEFORE = [
    (Refused(404, "Not here."), 404),
    (Refused(503, headers=((b"Retry-After", b"1"),)), 503),
    (Truncated("cut"), 502),
    (ConnectionResetError("gone"), 502),
    (RuntimeError("a mistake"), 500),
]


@pytest.mark.parametrize(("error", "status"), BEFORE, ids=lambda x: type(x).__name__)
def test_failure_before_the_head_is_a_page(fastcgi: Any, error: Exception, status: int) -> None:
    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        if request.method == "PUT":
            raise error
        yield OK

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            result = await front.ask_for(GET | {b"REQUEST_METHOD": b"PUT", b"CONTENT_LENGTH": b"0"})
            assert (result.status, result.protocol_status) == (status, fcgi.REQUEST_COMPLETE)
            assert result.body.startswith(b"<!doctype html>")
            assert (await front.ask_for(GET)).body == b"hello"
        assert ("Traceback" in listener.said()) == (status == 500)

    fastcgi(handler, test)


@pytest.mark.parametrize("length", [None, 5000])
@pytest.mark.parametrize("error", [error for error, _ in BEFORE], ids=lambda x: type(x).__name__)
def test_failure_after_the_head_closes_without_an_end(
    fastcgi: Any, error: Exception, length: int | None
) -> None:
    def handler(request: Request) -> Ready:
        body = Pieces(b"x" * 2000, error)
        return Ready(Response(status=200, body=body, length=length))

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(whole(GET))
            with pytest.raises((EOFError, ConnectionResetError)):
                await front.result()
        assert len(listener.records) == 1

    fastcgi(handler, test)


def test_body_shorter_or_longer_than_its_length(fastcgi: Any) -> None:
    def handler(request: Request) -> Ready:
        size = 3 if request.path == b"/short" else 9
        return Ready(Response(status=200, body=Pieces(b"x" * 3, b"y" * 3), length=size))

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            cut = await front.ask_for(GET | {b"SCRIPT_NAME": b"/short"})
            assert (cut.fields["content-length"], cut.body) == ("3", b"xxx")
            await front.send(whole(GET))
            with pytest.raises((EOFError, ConnectionResetError)):
                await front.result()

    fastcgi(handler, test)


# Params


def shown(request: Request) -> Ready:
    text = repr((request.method, request.target, request.host, sorted(request.params.items())))
    return Ready(Response(status=200, body=text.encode()))


def test_row_11_params_are_split_at_any_byte(fastcgi: Any) -> None:
    pairs = GET | {b"HTTP_COOKIE": b"c" * 200, b"L" * 130: b"v", b"EMPTY": b""}
    content = encode_params(pairs)
    bytewise = begin() + b"".join(
        encode_record(fcgi.PARAMS, 1, content[at : at + 1]) for at in range(len(content))
    )
    end = encode_record(fcgi.PARAMS, 1, b"") + stdin(b"")

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            expected = (await front.ask_for(pairs)).body
            for at in range(1, len(content), 7):
                first, second = content[:at], content[at:]
                split = encode_record(fcgi.PARAMS, 1, first) + encode_record(fcgi.PARAMS, 1, second)
                await front.send(begin() + split + end)
                assert (await front.result()).body == expected
            await front.send(bytewise + end)
            assert (await front.result()).body == expected
            data = whole(pairs)
            for at in range(0, len(data), 3):  # and the records themselves
                front.writer.write(data[at : at + 3])
                await asyncio.sleep(0)
            assert (await front.result()).body == expected

    fastcgi(shown, test)


@pytest.mark.parametrize(
    "content",
    [
        encode_params([(b"A%d" % n, b"v" * 60_000) for n in range(5)]),
        encode_params([(b"N%d" % n, b"") for n in range(MAX_COUNT + 1)]),
    ],
    ids=["bytes", "count"],
)
@pytest.mark.parametrize("keep", [False, True])
def test_row_11_too_many_params_are_a_431_page_and_a_closed_connection(
    fastcgi: Any, content: bytes, keep: bool
) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            sent = encode_record(fcgi.PARAMS, 1, content) + encode_record(fcgi.PARAMS, 1, b"")
            await front.send(begin(keep=keep) + sent + stdin(bytes(300_000)) + stdin(b""))
            result = await front.result()
            assert (result.status, result.app_status) == (431, 0)
            assert await front.rest() == b""
        assert [status for _, status, _ in listener.records] == [431]
        assert "431" in listener.said() or "parameters" in listener.said()

    assert len(content) > MAX_TOTAL or content.count(b"N") > MAX_COUNT
    fastcgi(plain, test)


BROKEN = {
    "version 2": b"\x02" + begin()[1:],
    "not FastCGI": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "size of BEGIN": encode_record(fcgi.BEGIN_REQUEST, 1, b"\0\1\1"),
    "id 0": encode_record(fcgi.BEGIN_REQUEST, 0, BEGIN_BODY.pack(1, 1)),
    "BEGIN twice": begin() + begin(),
    "STDIN before PARAMS": begin() + stdin(b"x"),
    "PARAMS after the end": whole(GET)[: -len(stdin(b""))] + params(GET),
    "STDIN after the end": begin() + params(post(9)) + stdin(b"") + stdin(b"x"),
    "DATA": begin() + params(GET) + encode_record(fcgi.DATA, 1, b"x"),
    "STDOUT": begin() + encode_record(fcgi.STDOUT, 1, b"x"),
    "END_REQUEST": begin() + encode_record(fcgi.END_REQUEST, 1, END_BODY.pack(0, 0)),
    "an answer": encode_record(fcgi.UNKNOWN_TYPE, 0, bytes(8)),
    "length 0x7fffffff": begin() + encode_record(fcgi.PARAMS, 1, b"\xff\xff\xff\xff" * 2)
    + encode_record(fcgi.PARAMS, 1, b""),
    "length cut off": begin() + encode_record(fcgi.PARAMS, 1, b"\x80\x00")
    + encode_record(fcgi.PARAMS, 1, b""),
    "name empty": begin() + params({b"": b"x"}),
    "name with =": begin() + params({b"A=B": b"x"}),
    "value with NUL": begin() + params({b"A": b"x\0y"}),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_row_11_broken_protocol_closes_its_connection_only(fastcgi: Any, case: str) -> None:
    held = Held()

    async def test(listener: Any) -> None:
        async with listener.front() as other, listener.front() as front:
            await other.send(whole(GET))
            await until(lambda: held.gates)
            await front.send(BROKEN[case])
            answer = await front.rest()
            if answer not in (b"", b"(reset)"):  # it had begun a request, and is told why not
                assert b"Status: 400 " in answer
                assert "a request by fastcgi: " in listener.said()
            else:
                assert "breaks the protocol (fastcgi)" in listener.said()
            assert "127.0.0.1 port" in listener.said()
            held.gates[0].set_result(None)
            assert (await other.result()).body == b"hello"
        await until(lambda: len(held.left) == len(held.gates))

    fastcgi(held, test)


# Bodies


@pytest.mark.parametrize(
    "length", [b"-1", b"+5", b"10" + b"0" * 30, b"1,1", b"0x5", b"5 ", b"\xb2"]
)
def test_row_22_impossible_content_length_is_a_400_page(fastcgi: Any, length: bytes) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for _ in range(2):
                result = await front.ask_for(post(length), b"12345")
                assert (result.status, result.protocol_status) == (400, fcgi.REQUEST_COMPLETE)
            assert (await front.ask_for(post(5), b"12345")).body == b"12345"

    fastcgi(echo, test)


@pytest.mark.parametrize("body", [b"", b"1", b"1234", b"123456", b"1" * 70_000])
def test_row_22_body_of_another_length_than_announced(fastcgi: Any, body: bytes) -> None:
    """What a handler reads ends in an error, so it takes no part for the whole."""
    read: list[bytes] = []

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        while piece := await request.body.read():
            read.append(piece)
        read.append(b"the end")
        yield OK

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            assert (await front.ask_for(post(5), body)).status == 400
            assert b"the end" not in read
            assert len(b"".join(read)) <= 5
            assert (await front.ask_for(post(0))).status == 200

    fastcgi(handler, test)


def test_row_22_body_without_a_length_ends_with_stdin(fastcgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            assert (await front.ask_for(post(None), b"abc")).body == b"abc"
            assert (await front.ask_for(post(b""), b"")).body == b""
            assert (await front.ask_for(GET, b"not said")).body == b""

    fastcgi(echo, test)


@pytest.mark.parametrize("length", [200_000, None])
def test_row_22_body_over_the_limit_is_413(fastcgi: Any, length: int | None) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for _ in range(2):
                await front.send(begin(), params(post(length)), stdin(bytes(200_000)), stdin(b""))
                assert (await front.result()).status == 413
            assert (await front.ask_for(post(5), b"12345")).body == b"12345"

    fastcgi(echo, test, Limits(request_body=Size(100_000)))


def test_body_that_nobody_reads_is_not_taken_in(fastcgi: Any) -> None:
    held = Held()

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            front.writer.write(begin() + params(post(64 << 20)) + stdin(bytes(64 << 20)))
            await until(lambda: held.gates)
            (connection,) = listener.door.connections
            await until(lambda: not connection.reading)
            for _ in range(200):
                await asyncio.sleep(0)
            assert connection.incoming.received < 2 << 20
            held.gates[0].set_result(None)
            assert (await front.result()).body == b"hello"

    fastcgi(held, test)


# Anything in any order


@pytest.mark.parametrize("seed", range(12))
def test_row_11_records_in_any_order_leave_nothing_behind(fastcgi: Any, seed: int) -> None:
    rng = Random(seed)

    @asynccontextmanager
    async def late(request: Request) -> AsyncIterator[Response]:
        request.notes.script = "/a.cgi"
        yield OK
        await asyncio.sleep(0.01)  # its script works on
        assert request.stderr is not None
        request.stderr(b"late words")
        request.notes.exit_status = 3

    def handler(request: Request) -> Any:
        return rng.choice((plain, echo, late, Held()))(request)

    def record() -> bytes:
        id = rng.choice((1, 1, 1, 2))
        return rng.choice(
            (
                begin(id, keep=rng.random() < 0.9),
                params(GET, id),
                params(post(rng.choice((0, 3, 70_000, b"-1"))), id),
                begin(id) + params(post(3), id) + stdin(b"abc", id) + stdin(b"", id),
                whole(GET, id=id),
                stdin(bytes(rng.choice((1, 3, 70_000))), id),
                stdin(b"", id),
                abort(id),
                encode_record(fcgi.GET_VALUES, 0, encode_params({b"FCGI_MAX_REQS": b""})),
                encode_record(77, 0, b"?"),
            )
        )

    async def test(listener: Any) -> None:
        for _ in range(40):
            async with listener.front() as front:
                reader = asyncio.create_task(front.reader.read(-1))
                for _ in range(rng.randrange(1, 30)):
                    data = record()
                    at = rng.randrange(len(data))
                    for piece in (data[:at], data[at:]):
                        if piece and not front.writer.is_closing():
                            front.writer.write(piece)
                        for _ in range(rng.choice((0, 0, 1, 5))):
                            await asyncio.sleep(0)
                reader.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await reader
        assert "Traceback" not in listener.said()
        async with listener.front() as front:
            front.writer.write(begin() + params(GET))  # whoever answers it
            await until(lambda: listener.door.connections)

    fastcgi(handler, test, Limits(body=SOON, first_byte=SOON, head=SOON), stderr="peer")
