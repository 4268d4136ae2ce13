"""The HTTP listener behind a proxy, over real sockets, on both event loops."""

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from struct import pack
from typing import Any

import pytest

from gateway.exchange import Limits, Ready, Request, Response
from gateway.listeners.behind import http_connections
from gateway.listeners.door import Entrance
from gateway.listeners.drive import Service
from gateway.listeners.http import HttpConnection
from gateway.listeners.peers import Peers
from gateway.units import Duration
from gateway.wire.proxy_protocol import SIGNATURE

SOON = Duration(0.15)
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.9 5678 443\r\n"
ASK = "GET / HTTP/1.1\nHost: Inner"
FORGED = "\nX-Forwarded-For: 192.0.2.7\nX-Forwarded-Proto: https\nX-Forwarded-Host: example.org"
FORWARDED = "\nForwarded: for=192.0.2.7;proto=https;host=example.org"
UNIX_TRUST = Peers.parse([f"uid:{os.getuid()}", "10.0.0.0/8"])
LOOPBACK = Peers.parse(["127.0.0.1", "10.0.0.0/8"])


def described(request: Request) -> Ready:
    """Answer with what the request says of its client, once its own fields are as they came."""
    ((address, port), (_, local)) = request.remote, request.local
    forged = [value.decode() for name, value in request.headers if name == b"x-forwarded-for"]
    words = (
        address, str(port), request.scheme.decode(), request.host.decode(), str(local), *forged
    )  # fmt: skip
    return Ready(Response(status=200, body=" ".join(words).encode()))


@asynccontextmanager
async def behind(listener: Any, path: Path | None = None, **settings: Any) -> AsyncIterator[str]:
    """Open another entrance of a listener's door, and give the words of a request told nothing."""
    loop = asyncio.get_running_loop()

    def record(asked: Request, status: int, sent: int, duration: float) -> None:
        listener.records.append((asked, status, sent))

    service = Service(described, listener.door.journal, record)
    entrance = Entrance(service=service, name="the entrance", **settings)
    make = http_connections(entrance)
    connection = lambda: make(listener.door, entrance)  # noqa: E731
    if path is None:
        server = await loop.create_server(connection, "127.0.0.1", 0)
        listener.port = server.sockets[0].getsockname()[1]
    else:
        server = await loop.create_unix_server(connection, path)
    try:
        yield f"http inner {listener.port}"
    finally:
        server.close()


async def answer(client: Any) -> list[str]:
    status, _, body = await client.answer()
    assert status == 200
    words: list[str] = body.decode().split(" ")
    return words


@pytest.mark.parametrize("fields", [FORGED, FORWARDED, FORGED + FORWARDED])
@pytest.mark.parametrize(
    "trust", [None, Peers(), Peers.parse(["10.0.0.0/8"]), Peers.parse([f"uid:{os.getuid()}"])]
)
def test_forged_fields_of_an_untrusted_client_change_nothing(
    serve: Any, trust: Peers | None, fields: str
) -> None:
    async def test(listener: Any) -> None:
        for believed in ("x-forwarded", "forwarded"):
            async with behind(listener, trust=trust, forwarded=believed) as own:
                async with listener.client() as client:
                    await client.ask(ASK + fields)
                    address, _, *words = await answer(client)
                    assert address == "127.0.0.1"
                    assert " ".join(words[:3]) == own
        for request, _, _ in listener.records:
            assert request.remote[0] == "127.0.0.1"  # and so in the access log
            assert request.remote[1] > 0
        assert len(listener.records) == 2

    serve(described, test)


def test_listener_that_believes_nobody_is_the_plain_one() -> None:
    entrance = Entrance(service=Service(described, None, None))  # type: ignore[arg-type]
    assert http_connections(entrance) is HttpConnection
    assert http_connections(replace(entrance, trust=Peers())) is not HttpConnection
    assert http_connections(replace(entrance, proxy_protocol=True)) is not HttpConnection


def test_fields_of_a_trusted_proxy_tell_of_its_client(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with behind(listener, trust=LOOPBACK), listener.client() as client:
            await client.ask(ASK + FORGED)
            # The field itself stays as it came.
            assert await answer(client) == [
                "192.0.2.7", "0", "https", "example.org", "443", "192.0.2.7"
            ]  # fmt: skip
        ((request, status, _),) = listener.records
        assert (request.remote, status) == (("192.0.2.7", 0), 200)
        assert (b"host", b"Inner") in request.headers

    serve(described, test)


def test_forwarded_is_believed_where_it_is_named(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with behind(listener, trust=LOOPBACK, forwarded="forwarded") as own:
            async with listener.client() as client:
                await client.ask(
                    ASK + '\nForwarded: for="192.0.2.7:99";proto=http;host="example.org:8080"'
                )
                assert await answer(client) == ["192.0.2.7", "99", "http", "example.org", "8080"]
                await client.ask(ASK + FORGED)
                address, _, *words = await answer(client)
                assert address == "127.0.0.1"
                assert " ".join(words[:3]) == own

    serve(described, test)


def test_each_request_of_a_proxys_connection_has_its_own_client(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with behind(listener, trust=LOOPBACK) as own, listener.client() as client:
            await client.ask(
                f"{ASK}{FORGED}\n\n{ASK}\n\n{ASK}\nX-Forwarded-For: 192.0.2.8\n\n"
                f"{ASK}\nX-Forwarded-Proto: https"
            )
            assert (await answer(client))[:4] == ["192.0.2.7", "0", "https", "example.org"]
            address, _, *words = await answer(client)
            assert (address, " ".join(words)) == ("127.0.0.1", own)
            address, port, *words = await answer(client)
            assert (address, port, " ".join(words[:3])) == ("192.0.2.8", "0", own)
            address, port, *words = await answer(client)
            assert (address, words) == ("127.0.0.1", ["https", "inner", "443"])
            assert int(port) > 0

    serve(described, test)


def test_proxy_behind_a_unix_socket_is_trusted_by_its_account(serve: Any, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"

    async def ask(fields: str) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write((ASK + fields).replace("\n", "\r\n").encode() + b"\r\n\r\n")
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            size = re.search(rb"Content-Length: ([0-9]+)", head)
            assert size is not None
            body = await reader.readexactly(int(size[1]))
        writer.close()
        await writer.wait_closed()
        return body

    async def test(listener: Any) -> None:
        async with behind(listener, path, trust=UNIX_TRUST):
            fields = FORGED.replace("192.0.2.7", "192.0.2.7, 10.0.0.2")
            assert (await ask(fields)).startswith(b"192.0.2.7 0 https example.org 443")
        path.unlink(missing_ok=True)
        nobody = Peers.parse(["uid:4294967294", "0.0.0.0/0", "::/0"])
        async with behind(listener, path, trust=nobody):
            assert (await ask(FORGED)).startswith(b" 0 http inner 0")

    serve(described, test)


# The PROXY protocol


def binary(block: bytes, kind: int = 0x11, command: int = 0x21) -> bytes:
    return SIGNATURE + bytes((command, kind)) + pack(">H", len(block)) + block


FOUR = bytes((192, 0, 2, 7, 198, 51, 100, 9)) + pack(">HH", 5678, 443)
TLS = b"\x20\x00\x05\x01\x00\x00\x00\x00"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (LINE, "192.0.2.7 5678 http inner 443"),
        (b"PROXY TCP6 2001:db8::7 ::1 5678 80\r\n", "2001:db8::7 5678 http inner 80"),
        (binary(FOUR), "192.0.2.7 5678 http inner 443"),
        (binary(FOUR + TLS), "192.0.2.7 5678 https inner 443"),
    ],
)
def test_header_of_the_proxy_protocol_tells_of_the_client(
    serve: Any, header: bytes, words: str
) -> None:
    async def test(listener: Any) -> None:
        async with behind(listener, proxy_protocol=True), listener.client() as client:
            client.writer.write(header)
            for _ in range(2):
                await client.ask(ASK)
                assert await answer(client) == words.split(" ")
        assert listener.records[0][0].remote == (words.split(" ")[0], 5678)

    serve(described, test)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", binary(b"", 0, 0x20), binary(b"", 0)])
def test_header_that_names_nobody_keeps_the_real_peer(serve: Any, header: bytes) -> None:
    async def test(listener: Any) -> None:
        async with behind(listener, proxy_protocol=True) as own, listener.client() as client:
            client.writer.write(header)
            await client.ask(ASK)
            address, _, *words = await answer(client)
            assert (address, " ".join(words)) == ("127.0.0.1", own)

    serve(described, test)


def test_header_may_come_in_pieces_and_with_requests_behind_it(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with behind(listener, proxy_protocol=True), listener.client() as client:
            shared = client.writer.get_extra_info("socket")
            shared.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            whole = LINE + (ASK + "\n\n" + ASK + "\n\n").replace("\n", "\r\n").encode()
            for start in range(len(whole)):
                client.writer.write(whole[start : start + 1])
                await client.writer.drain()
                await asyncio.sleep(0)
            for _ in range(2):
                assert (await answer(client))[:2] == ["192.0.2.7", "5678"]

    serve(described, test)


def test_fields_count_if_the_client_of_the_proxy_protocol_is_trusted(serve: Any) -> None:
    async def test(listener: Any) -> None:
        inner = Peers.parse(["10.0.0.0/8"])
        async with behind(listener, proxy_protocol=True, trust=inner):
            async with listener.client() as client:
                client.writer.write(LINE.replace(b"192.0.2.7", b"10.0.0.7"))
                await client.ask(ASK + FORGED)
                assert (await answer(client))[:4] == ["192.0.2.7", "0", "https", "example.org"]
        async with behind(listener, proxy_protocol=True, trust=LOOPBACK):
            async with listener.client() as client:
                client.writer.write(b"PROXY TCP4 192.0.2.66 198.51.100.9 1 80\r\n")
                await client.ask(ASK + FORGED)
                # The proxy is trusted, but what it passes on comes from a client that is not.
                assert (await answer(client))[:4] == ["192.0.2.66", "1", "http", "inner"]

    serve(described, test)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 5678\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 5678 443\n" + b"GET / HTTP/1.1\r\n\r\n",
        binary(FOUR, 0x41),
        b"PROXY " + b"x" * 200,
    ],
)
def test_connection_without_a_good_header_is_closed_and_logged(serve: Any, data: bytes) -> None:
    async def test(listener: Any) -> None:
        async with behind(listener, proxy_protocol=True, trust=LOOPBACK):
            async with listener.client() as client:
                client.writer.write(data)
                assert await client.rest() in (b"", b"(reset)")
        assert listener.records == []
        assert not listener.door.connections
        (line,) = listener.log.read_text().splitlines()
        assert " warn " in line
        assert "127.0.0.1" in line
        assert "breaks the protocol (proxy_protocol): The " in line

    serve(described, test)


@pytest.mark.parametrize(
    ("data", "lines"), [(b"", 0), (LINE[:20], 1), (binary(FOUR)[:-1], 1), (LINE, 0)]
)
def test_header_has_the_time_of_a_head(serve: Any, data: bytes, lines: int) -> None:
    async def test(listener: Any) -> None:
        async with behind(listener, proxy_protocol=True), listener.client() as client:
            client.writer.write(data)
            assert await client.rest() in (b"", b"(reset)")
        assert len(listener.log.read_text().splitlines()) == lines

    serve(described, test, Limits(head=SOON))


def test_header_of_a_proxy_that_may_not_connect_is_not_read(serve: Any) -> None:
    async def test(listener: Any) -> None:
        allow = Peers.parse(["192.0.2.7", "10.0.0.0/8"])  # the one that the header names, too
        async with behind(listener, proxy_protocol=True, allow=allow, trust=allow):
            async with listener.client() as client:
                client.writer.write(LINE + (ASK + "\n\n").replace("\n", "\r\n").encode())
                assert await client.rest() in (b"", b"(reset)")
            await until(lambda: not listener.door.connections)
        assert listener.records == []

    serve(described, test)


def test_draining_lets_a_connection_without_a_header_go(serve: Any) -> None:
    async def test(listener: Any) -> None:
        async with behind(listener, proxy_protocol=True), listener.client() as client:
            client.writer.write(LINE[:5])
            await until(lambda: bool(listener.door.connections))
            await listener.door.drain(5.0)
            assert await client.rest() in (b"", b"(reset)")

    serve(described, test)


def test_overloaded_listener_says_so_before_the_header(serve: Any) -> None:
    async def test(listener: Any) -> None:
        listener.door.connections_max = 0
        async with behind(listener, proxy_protocol=True), listener.client() as client:
            client.writer.write(LINE)
            assert (await client.rest()).startswith(b"HTTP/1.1 503 ")

    serve(described, test)


async def until(true: Callable[[], bool]) -> None:
    """Let the loop turn until a condition holds."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - the condition is not ours to signal
            await asyncio.sleep(0)
