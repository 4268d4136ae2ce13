"""The FastCGI listener's deadlines, what it believes, where complaints go, and how it leaves."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest

from gateway.exchange import Limits, Ready, Request, Response
from gateway.listeners.fastcgi import STDERR_MAX, FastCgiConnection
from gateway.listeners.peers import Peers
from gateway.units import Duration
from gateway.wire import fcgi_record as fcgi
from gateway.wire.fcgi_params import encode_params
from gateway.wire.fcgi_record import BEGIN_BODY, encode_record
from tests.listeners.handlers import OK, plain, until

GET = {
    b"REQUEST_METHOD": b"GET",
    b"SCRIPT_NAME": b"/a.cgi",
    b"QUERY_STRING": b"",
    b"HTTP_HOST": b"example.org",
}
POST = GET | {b"REQUEST_METHOD": b"POST", b"CONTENT_LENGTH": b"5"}
CLAIMS = {
    b"REMOTE_ADDR": b"192.0.2.7",
    b"REMOTE_PORT": b"1234",
    b"HTTPS": b"on",
    b"SERVER_NAME": b"front.example",
    b"SERVER_ADDR": b"192.0.2.1",
    b"SERVER_PORT": b"443",
    b"REMOTE_USER": b"alice",
    b"AUTH_TYPE": b"Basic",
}
SOON = Duration(0.15)
LOOPBACK = Peers.parse(["127.0.0.1"])
ELSEWHERE = Peers.parse(["192.0.2.0/24"])
NOBODY = Peers()
US = Peers.parse([f"uid:{os.getuid()}"])
NOT_US = Peers.parse([f"uid:{os.getuid() + 1}"])


def begin(id: int = 1, keep: bool = True) -> bytes:
    flags = fcgi.KEEP_CONN if keep else 0
    return encode_record(fcgi.BEGIN_REQUEST, id, BEGIN_BODY.pack(fcgi.RESPONDER, flags))


def params(pairs: dict[bytes, bytes], id: int = 1) -> bytes:
    content = encode_record(fcgi.PARAMS, id, encode_params(pairs))
    return content + encode_record(fcgi.PARAMS, id, b"")


def stdin(data: bytes, id: int = 1) -> bytes:
    return encode_record(fcgi.STDIN, id, data)


@asynccontextmanager
async def never(request: Request) -> AsyncIterator[Response]:
    await asyncio.get_running_loop().create_future()
    yield OK


@asynccontextmanager
async def reading(request: Request) -> AsyncIterator[Response]:
    while await request.body.read():
        pass
    yield OK


class Silent:
    """A body that never comes."""

    async def read(self) -> bytes:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


class Endless:
    """A body without an end."""

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        return bytes(65536)


@pytest.fixture
def fastcgi(serve: Any) -> Any:
    return partial(serve, connection=FastCgiConnection)


# Deadlines


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        begin()[:3],
        begin(),
        begin() + encode_record(fcgi.PARAMS, 1, encode_params(GET)),
        begin() + params(GET)[:-3],
    ],
    ids=["nothing", "header", "begin", "params", "cut"],
)
def test_params_that_never_end(fastcgi: Any, sent: bytes) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(sent)
            assert await front.rest() in (b"", b"(reset)")
        assert not listener.records
        assert ("were not complete in time" in listener.said()) == bool(sent)

    fastcgi(plain, test, Limits(head=SOON))


def test_params_of_a_later_request_have_the_same_time(fastcgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.ask_for(GET)
            await front.send(begin())
            assert await front.rest() in (b"", b"(reset)")
            assert "were not complete in time" in listener.said()

    fastcgi(plain, test, Limits(head=SOON))


def test_time_for_params_is_not_that_of_a_kept_connection(fastcgi: Any) -> None:
    """What is left of a body, a question, or an abort ends no connection that waits."""
    late = stdin(b"12345")

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.ask_for(GET)
            await front.send(late[:5])
            await front.send(late[5:])
            await front.send(begin(), encode_record(fcgi.ABORT_REQUEST, 1, b""))
            await front.result()
            question = encode_record(fcgi.GET_VALUES, 0, b"")
            await front.send(question[:4])
            await front.send(question[4:])
            assert (await front.record()).kind == fcgi.GET_VALUES_RESULT
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.4):
                    await front.record()
            assert (await front.ask_for(GET)).body == b"hello"

    fastcgi(plain, test, Limits(head=SOON))


def test_silent_body_is_408(fastcgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(), params(POST), stdin(b"123"))
            result = await front.result()
            assert (result.status, result.protocol_status) == (408, fcgi.REQUEST_COMPLETE)
            assert (await front.ask_for(POST, b"12345")).body == b"hello"

    fastcgi(reading, test, Limits(body=SOON))


def test_no_answer_in_time_is_504(fastcgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for _ in range(2):
                assert (await front.ask_for(GET)).status == 504
        assert "no answer came in time" in listener.said()

    fastcgi(never, test, Limits(first_byte=SOON))


@pytest.mark.parametrize("limits", [Limits(idle=SOON), Limits(total=SOON)], ids=["idle", "total"])
def test_answer_that_stops_coming_closes_without_an_end(fastcgi: Any, limits: Limits) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(), params(GET), stdin(b""))
            with pytest.raises((EOFError, ConnectionResetError)):
                await front.result()

    fastcgi(lambda request: Ready(Response(status=200, body=Silent())), test, limits)


def test_kept_connection_closes_silently(fastcgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for _ in range(2):
                await front.ask_for(GET)
            assert await front.rest() in (b"", b"(reset)")
        assert listener.said() == ""

    fastcgi(plain, test, Limits(keepalive=SOON))


def test_front_that_takes_nothing_is_dropped(fastcgi: Any) -> None:
    left: list[str] = []

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        try:
            yield Response(status=200, body=Endless())
        finally:
            left.append("left")

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(), params(GET), stdin(b""))
            await until(lambda: left)
            await until(lambda: not listener.door.connections)
        assert "the client stopped reading" in listener.said()

    fastcgi(handler, test, Limits(client=SOON))


@pytest.mark.parametrize(
    ("first", "question"),
    [
        (b"", encode_record(fcgi.GET_VALUES, 0, encode_params({b"FCGI_MAX_CONNS": b""}))),
        (b"", encode_record(99, 0, b"")),
        (begin() + params(GET), begin(2)),
    ],
    ids=["values", "unknown", "second id"],
)
def test_row_11_front_that_asks_without_reading_is_not_answered_ahead(
    fastcgi: Any, first: bytes, question: bytes
) -> None:
    most = 0

    async def test(listener: Any) -> None:
        nonlocal most
        async with listener.front() as front:
            front.writer.transport.pause_reading()
            task = asyncio.create_task(front.send(first + question * 2_000_000))
            await until(lambda: listener.door.connections)
            (connection,) = listener.door.connections
            while listener.door.connections:
                most = max(most, connection.transport.get_write_buffer_size())
                await asyncio.sleep(0)
            front.writer.transport.abort()
            with suppress(ConnectionError):
                await task
        assert most < 3 << 20

    fastcgi(never, test, Limits(client=SOON))
    assert most > 0


def test_front_that_asks_a_lot_and_reads_is_answered(fastcgi: Any) -> None:
    question = encode_record(99, 0, b"")
    count = 100_000

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            task = asyncio.create_task(front.send(question * count))
            for _ in range(count):
                assert (await front.record()).kind == fcgi.UNKNOWN_TYPE
            await task
            assert (await front.ask_for(GET)).body == b"hello"

    fastcgi(plain, test)


def test_silent_body_has_its_time_also_after_a_reader_that_was_left(fastcgi: Any) -> None:
    """The reader of an earlier body that is cancelled late must not take the next one's time."""
    readers: list[asyncio.Task[bytes]] = []

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        reader = asyncio.ensure_future(request.body.read())
        await asyncio.sleep(0)
        readers.append(reader)
        if len(readers) == 2:
            readers[0].cancel()
            await reader
        yield OK

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(), params(POST))
            assert (await front.result()).body == b"hello"
            await front.send(begin(), params(POST))
            assert (await front.result()).status == 408

    fastcgi(handler, test, Limits(body=SOON))


# What scripts complain of


class Complaining:
    """A handler whose program writes to its standard error."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.logged: list[bool] = []

    @asynccontextmanager
    async def __call__(self, request: Request) -> AsyncIterator[Response]:
        for piece in self.pieces:
            self.logged.append(True if request.stderr is None else request.stderr(piece))
        yield OK


@pytest.mark.parametrize(
    ("stderr", "passed", "logged"),
    [("log", False, True), ("peer", True, False), ("both", True, True)],
)
def test_complaints_go_where_the_listener_says(
    fastcgi: Any, stderr: str, passed: bool, logged: bool
) -> None:
    handler = Complaining(b"one\n", b"two\n")

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for id in (1, 2):
                result = await front.ask_for(GET, id=id)
                assert result.stderr == (b"one\ntwo\n" if passed else b"")
                assert (result.body, result.protocol_status) == (b"hello", 0)
        assert handler.logged == [logged] * 4

    fastcgi(handler, test, stderr=stderr)


def test_complaints_to_the_front_are_bounded(fastcgi: Any) -> None:
    handler = Complaining(*[b"x" * 30_000] * 100)

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for _ in range(2):
                assert len((await front.ask_for(GET)).stderr) == STDERR_MAX

    fastcgi(handler, test, stderr="peer")


def test_complaint_after_the_end_is_logged(fastcgi: Any) -> None:
    asked: list[Request] = []

    def handler(request: Request) -> Ready:
        asked.append(request)
        return Ready(OK)

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.ask_for(GET)
            await front.send(begin())
            assert asked[0].stderr is not None
            assert asked[0].stderr(b"late")
        await until(lambda: not listener.door.connections)
        assert asked[0].stderr(b"later")

    fastcgi(handler, test, stderr="peer")


# Who is believed, and who may connect


def described(request: Request) -> Ready:
    user = request.params.get(b"REMOTE_USER", b"-"), request.params.get(b"AUTH_TYPE", b"-")
    words = (*request.remote, request.scheme, request.host, *user)
    texts = [word.decode() if isinstance(word, bytes) else str(word) for word in words]
    return Ready(Response(status=200, body=" ".join(texts).encode()))


@pytest.mark.parametrize(
    ("trust", "believed"),
    [(None, True), (LOOPBACK, True), (ELSEWHERE, False), (NOBODY, False), (US, False)],
)
def test_row_4_front_server_is_believed_where_it_is_trusted(
    fastcgi: Any, trust: Peers | None, believed: bool
) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            for pairs, host in ((GET, "example.org"), (dict(GET), "front.example")):
                asked = pairs | CLAIMS
                if host == "front.example":
                    del asked[b"HTTP_HOST"]
                address, port, *words = (await front.ask_for(asked)).body.decode().split(" ")
                if believed:
                    assert (address, port) == ("192.0.2.7", "1234")
                    assert words == ["https", host, "alice", "Basic"]
                else:
                    assert address == "127.0.0.1"
                    assert port != "1234"
                    assert words == ["http", host if host == "example.org" else "", "-", "-"]
        assert {request.remote[0] for request, _, _ in listener.records} == {address}

    fastcgi(described, test, trust=trust)


@pytest.mark.parametrize(("trust", "believed"), [(None, True), (US, True), (NOT_US, False)])
def test_account_behind_a_unix_socket_is_believed_where_it_is_trusted(
    fastcgi: Any, trust: Peers | None, believed: bool
) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            result = await front.ask_for(GET | CLAIMS)
            address, port, *_ = result.body.decode().split(" ")
            assert (address, port) == (("192.0.2.7", "1234") if believed else ("", "0"))

    fastcgi(described, test, trust=trust, unix=True)


@pytest.mark.parametrize(
    ("allow", "unix", "allowed"),
    [
        (LOOPBACK, False, True),
        (ELSEWHERE, False, False),
        (US, True, True),
        (NOT_US, True, False),
        (LOOPBACK, True, False),
    ],
)
def test_row_13_who_is_not_listed_is_closed_at_once(
    fastcgi: Any, allow: Peers, unix: bool, allowed: bool
) -> None:
    async def test(listener: Any) -> None:
        for _ in range(20):
            async with listener.front() as front:
                if allowed:
                    assert (await front.ask_for(GET)).body == b"hello"
                    continue
                with suppress(ConnectionError):
                    await front.send(begin(), params(GET), stdin(b""))
                assert await front.rest() in (b"", b"(reset)")
        assert bool(listener.records) == allowed
        lines = listener.said().count("may not connect to the entrance")
        assert lines == 0 if allowed else 1 <= lines < 20

    fastcgi(plain, test, allow=allow, trust=allow, unix=unix)


# Other roles


def test_authorizer_is_sent_its_role_and_no_body(fastcgi: Any) -> None:
    fields = ((b"Variable-USER", b"alice"), (b"Variable-GROUP", b"staff"))

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        assert await request.body.read() == b""
        assert request.length == 0
        role = request.params.get(b"FCGI_ROLE", b"none")
        yield Response(status=200, headers=fields, body=role)

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            asked = POST | {b"FCGI_ROLE": b"FORGED"}
            await front.send(
                encode_record(
                    fcgi.BEGIN_REQUEST, 1, BEGIN_BODY.pack(fcgi.AUTHORIZER, fcgi.KEEP_CONN)
                ),
                params(asked),  # and no STDIN
            )
            result = await front.result()
            assert (result.status, result.body) == (200, b"AUTHORIZER")
            assert (result.fields["variable-user"], result.fields["variable-group"]) == (
                "alice",
                "staff",
            )
            assert (await front.ask_for(POST | {b"CONTENT_LENGTH": b"0"})).body == b"none"

    fastcgi(handler, test)


# Leaving


def test_draining_finishes_what_runs_and_closes(fastcgi: Any) -> None:
    gates: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        gates.append(asyncio.get_running_loop().create_future())
        await gates[-1]
        yield Response(status=200, body=b"x" * 100_000)

    async def test(listener: Any) -> None:
        async with listener.front() as front, listener.front() as idle:
            await front.send(begin(), params(POST))
            await until(lambda: gates)
            await until(lambda: len(listener.door.connections) == 2)
            draining = asyncio.create_task(listener.door.drain(10.0))
            assert await idle.rest() == b""
            assert not draining.done()
            gates[0].set_result(None)
            result = await front.result()
            assert (len(result.body), result.protocol_status) == (100_000, 0)
            assert await front.rest() == b""
            await draining
        assert len(listener.records) == 1

    fastcgi(handler, test)


def test_draining_waits_for_an_answer_that_is_being_taken(fastcgi: Any) -> None:
    """It was given, and its exchange is over; most of it is still in the transport's buffer."""
    size = 8 << 20

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(), params(GET), stdin(b""))
            await until(lambda: listener.records)
            draining = asyncio.create_task(listener.door.drain(10.0))
            assert len((await front.result()).body) == size
            await draining

    fastcgi(lambda request: Ready(Response(status=200, body=bytes(size))), test)


def test_draining_does_not_wait_for_ever_for_who_takes_nothing(fastcgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(), params(GET), stdin(b""))
            await until(lambda: listener.records)
            await listener.door.drain(0.1)
            with pytest.raises((EOFError, ConnectionResetError)):
                await front.result()

    fastcgi(lambda request: Ready(Response(status=200, body=bytes(32 << 20))), test)


def test_draining_ends_what_takes_too_long(fastcgi: Any) -> None:
    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(), params(GET), stdin(b""))
            await until(lambda: any(one.answer for one in listener.door.connections))
            await listener.door.drain(0.0)
            assert (await front.result()).status == 503
            assert await front.rest() == b""

    fastcgi(never, test)


def test_request_that_comes_while_draining_is_not_taken(fastcgi: Any) -> None:
    entered: list[Request] = []
    gates: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def handler(request: Request) -> AsyncIterator[Response]:
        entered.append(request)
        gates.append(asyncio.get_running_loop().create_future())
        await gates[-1]
        yield OK

    async def test(listener: Any) -> None:
        async with listener.front() as front:
            await front.send(begin(), params(POST))
            await until(lambda: gates)
            draining = asyncio.create_task(listener.door.drain(10.0))
            await asyncio.sleep(0)
            gates[0].set_result(None)
            await front.result()
            await front.send(stdin(b"12345"), stdin(b""), begin(), params(GET), stdin(b""))
            assert await front.rest() in (b"", b"(reset)")
            await draining
        assert len(entered) == 1

    fastcgi(handler, test)


def test_too_many_connections_are_503(fastcgi: Any) -> None:
    async def test(listener: Any) -> None:
        listener.door.connections_max = 1
        async with listener.front() as first, listener.front() as second:
            await until(lambda: len(listener.door.connections) == 2)
            assert (await second.ask_for(GET)).status == 503
            await second.send(b"\x02" * 8)
            await second.rest()
            await until(lambda: len(listener.door.connections) == 1)
            assert (await first.ask_for(GET)).status == 200

    fastcgi(plain, test)
