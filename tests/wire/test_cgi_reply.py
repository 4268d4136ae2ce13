import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.cgi_reply import LIMIT, BadReply, Reply, ReplyParser

PLAIN = (b"Content-Type", b"text/plain; charset=utf-8")
NOSNIFF = (b"X-Content-Type-Options", b"nosniff")
HTML = (b"Content-Type", b"text/html")


def parse(*pieces: bytes, limit: int = LIMIT) -> tuple[Reply, bytes]:
    """The reply, and the whole body behind it."""
    parser = ReplyParser(limit)
    for number, piece in enumerate(pieces, 1):
        reply = parser.feed(piece)
        if reply is not None:
            assert parser.finish() is reply
            return reply, reply.rest + b"".join(pieces[number:])
    reply = parser.finish()
    return reply, reply.rest


def why(output: bytes, limit: int = LIMIT) -> str:
    """Why this output is refused: whole, byte by byte and in random pieces alike."""
    with pytest.raises(BadReply) as whole:
        parse(output, limit=limit)
    ways = [[output[i : i + 1] for i in range(len(output))] if len(output) < 2000 else [output]]
    chance = random.Random(len(output))
    for _ in range(5):
        cuts = sorted(chance.choices(range(len(output) + 1), k=4))
        edges = [0, *cuts, len(output)]
        ways.append([output[a:b] for a, b in itertools.pairwise(edges)])
    for pieces in ways:
        with pytest.raises(BadReply) as cut:
            parse(*pieces, limit=limit)
        assert cut.value.why == whole.value.why
    text = whole.value.why
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 600
    return text


GOOD: dict[str, tuple[bytes, dict[str, Any]]] = {
    "document": (b"Content-Type: text/html\n\nbody", {"headers": (HTML,), "body": b"body"}),
    "crlf": (b"Content-Type: text/html\r\n\r\nbody", {"headers": (HTML,), "body": b"body"}),
    "mixed line ends": (
        b"Content-Type: text/html\r\nX-A: 1\nX-B: 2\r\n\nbody",
        {"headers": (HTML, (b"X-A", b"1"), (b"X-B", b"2")), "body": b"body"},
    ),
    "lf then crlf": (
        b"Content-Type: text/html\n\r\n\nbody",
        {"headers": (HTML,), "body": b"\nbody"},
    ),
    "no space, much space": (
        b"Content-Type:text/html\nX-A: \t a b \t\nX-B:\n\n",
        {"headers": (HTML, (b"X-A", b"a b"), (b"X-B", b""))},
    ),
    "bytes above ascii": (
        b"Content-Type: text/html\nX-A: \xe4\xff\n\n",
        {"headers": (HTML, (b"X-A", b"\xe4\xff"))},
    ),
    "status": (
        b"Status: 404 Not Found\nContent-Type: text/html\n\n",
        {"status": 404, "reason": b"Not Found", "headers": (HTML,)},
    ),
    "status without reason": (
        b"status:599\nContent-Type: text/html\n\n",
        {"status": 599, "headers": (HTML,)},
    ),
    "same status twice": (
        b"Status: 404\nStatus: 404\nContent-Type: text/html\n\n",
        {"status": 404, "headers": (HTML,)},
    ),
    "empty status": (b"Status:\nContent-Type: text/html\n\n", {"headers": (HTML,)}),
    "no content type": (
        b"Status: 500\n\n<script>",
        {"status": 500, "headers": (PLAIN, NOSNIFF), "body": b"<script>"},
    ),
    "empty content type": (
        b"Content-Type: \nX-A: 1\n\n<script>",
        {"headers": ((b"X-A", b"1"), PLAIN, NOSNIFF), "body": b"<script>"},
    ),
    "own nosniff": (
        b"x-content-type-options: nosniff\n\n",
        {"headers": ((b"x-content-type-options", b"nosniff"), PLAIN)},
    ),
    "no content type and no body": (b"Status: 204\n\n", {"status": 204}),
    "not modified": (
        b'Status: 304\nETag: "a"\n\n',
        {"status": 304, "headers": ((b"ETag", b'"a"'),)},
    ),
    "empty body by length": (b"Content-Length: 0\n\n", {"length": 0}),
    "length": (
        b"Content-Type: text/html\nContent-Length: 4\n\nbody",
        {"headers": (HTML,), "length": 4, "body": b"body"},
    ),
    "same length twice": (
        b"Content-Type: text/html\nContent-Length: 4\ncontent-length: 4\n\n",
        {"headers": (HTML,), "length": 4},
    ),
    "last content type counts": (
        b"Content-Type: text/plain\nX-A: 1\nContent-type: text/html\n\n",
        {"headers": ((b"X-A", b"1"), (b"Content-type", b"text/html"))},
    ),
    "cookies in their order": (
        b"Set-Cookie: b=2\nContent-Type: text/html\nSet-Cookie: a=1\nSet-Cookie: b=2\n\n",
        {
            "headers": (
                (b"Set-Cookie", b"b=2"),
                HTML,
                (b"Set-Cookie", b"a=1"),
                (b"Set-Cookie", b"b=2"),
            )
        },
    ),
    "fields of the connection": (
        b"Connection: close\nKeep-Alive: 1\nTE: x\nTrailer: X\nUpgrade: h2c\nProxy-Connection: x\n"
        b"Proxy-Authenticate: Basic\nDate: now\nServer: me\nContent-Type: text/html\n\n",
        {"headers": (HTML,)},
    ),
    "identity": (b"Transfer-Encoding: identity\nContent-Type: text/html\n\n", {"headers": (HTML,)}),
    "local redirect": (
        b"Location: /a?b=c\n\n",
        {"kind": "local-redirect", "location": b"/a?b=c"},
    ),
    "local redirect with a type, and what is dropped": (
        b"Content-Type: text/html\r\nlocation: /a\r\nServer: x\r\nContent-Length: 0\r\n\r\nbody",
        {"kind": "local-redirect", "location": b"/a", "length": 0, "body": b"body"},
    ),
    "client redirect": (
        b"Location: http://example.org/\nContent-Type: text/html\n\n",
        {
            "kind": "client-redirect",
            "status": 302,
            "location": b"http://example.org/",
            "headers": ((b"Location", b"http://example.org/"), HTML),
        },
    ),
    "client redirect with document": (
        b"Status: 301 Moved\nLocation: http://example.org/\nContent-Type: text/html\n\nhere",
        {
            "kind": "client-redirect",
            "status": 301,
            "reason": b"Moved",
            "location": b"http://example.org/",
            "headers": ((b"Location", b"http://example.org/"), HTML),
            "body": b"here",
        },
    ),
    "same location twice": (
        b"Status: 303\nLocation: /a\nLocation: /a\nContent-Type: text/html\n\n",
        {
            "kind": "client-redirect",
            "status": 303,
            "location": b"/a",
            "headers": ((b"Location", b"/a"), HTML),
        },
    ),
    "created": (
        b"Status: 201 Created\nLocation: /new\nContent-Type: text/html\n\n",
        {
            "status": 201,
            "reason": b"Created",
            "location": b"/new",
            "headers": ((b"Location", b"/new"), HTML),
        },
    ),
    "empty location": (b"Location: \nContent-Type: text/html\n\n", {"headers": (HTML,)}),
    "nph": (
        b"HTTP/1.0 200 OK\r\nDate: x\r\nServer: me\r\nConnection: close\r\nX-A: 1\r\n\r\nbody",
        {
            "kind": "nph",
            "reason": b"OK",
            "headers": ((b"Date", b"x"), (b"Server", b"me"), (b"X-A", b"1")),
            "body": b"body",
        },
    ),
    "nph without reason or fields": (b"HTTP/1.1 404\n\n", {"kind": "nph", "status": 404}),
    "nph chunked": (
        b"HTTP/1.1 200 OK\nTransfer-Encoding: Chunked\nContent-Type: text/html\n\n0\r\n\r\n",
        {
            "kind": "nph",
            "reason": b"OK",
            "chunked": True,
            "headers": (HTML,),
            "body": b"0\r\n\r\n",
        },
    ),
    "nph length and location": (
        b"HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n",
        {
            "kind": "nph",
            "status": 302,
            "reason": b"Found",
            "location": b"/a",
            "length": 0,
            "headers": ((b"Location", b"/a"),),
        },
    ),
}


@pytest.mark.parametrize("name", GOOD)
@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, 1 << 16), max_size=6))
def test_reply_is_the_same_however_it_is_cut(name: str, cuts: list[int]) -> None:
    output, expected = GOOD[name]
    expected = {
        "kind": "document",
        "status": 200,
        "reason": b"",
        "headers": (),
        "location": b"",
        "length": None,
        "chunked": False,
        "body": b"",
    } | expected
    places = [0, *sorted(cut % (len(output) + 1) for cut in cuts), len(output)]
    pieces = [output[a:b] for a, b in itertools.pairwise(places)]
    for way in (pieces, [output[i : i + 1] for i in range(len(output))]):
        reply, body = parse(*way)
        got = {key: getattr(reply, key) for key in expected if key != "body"}
        assert got | {"body": body} == expected


@pytest.mark.parametrize(
    "output",
    [
        b"Location: //example.org/\n\n",
        b"Location: /a#b\n\n",
        b"Location: a.html\n\n",
        b"Location: ?q\n\n",
        b"Location: /a\nSet-Cookie: a=1\n\n",
        b"Set-Cookie: a=1\nLocation: /a\n\n",
        b"Status: 302 Found\nLocation: /a\n\n",
        b"Status: 307\nLocation: /a\n\n",
    ],
)
def test_location_that_is_for_the_client(output: bytes) -> None:
    reply, _ = parse(output)
    assert reply.kind == "client-redirect"
    assert reply.status in (302, 307)
    assert (b"Location", reply.location) in reply.headers


@pytest.mark.parametrize("status", [b"200", b"201", b"404", b"304", b"503"])
def test_location_beside_another_status_is_a_document(status: bytes) -> None:
    reply, _ = parse(b"Status: " + status + b"\nLocation: http://example.org/\n\n")
    assert reply.kind == "document"
    assert reply.status == int(status)
    assert reply.headers[0] == (b"Location", b"http://example.org/")


BAD = [
    (b"", "without any output"),
    (b"Content-Type: text/html", "ended before the empty line"),
    (b"Content-Type: text/html\n", 'it begins "Content-Type: text/html\\n"'),
    (b'\x1b[31m\xff"\\', 'it begins "\\x1b[31m\\xff\\"\\\\"'),
    (b"x" * 100, '"' + "x" * 80 + '" ...'),
    (b"\nContent-Type: text/html\n\n", "begins with an empty line"),
    (b"\r\n\r\n", "begins with an empty line"),
    (b"<html>\n<body>", "looks like HTML: print the header and an empty line first"),
    (b"<!DOCTYPE html><p>no line end", "looks like HTML"),
    (b"  <p>\n\n", "looks like HTML"),
    (b"<?php echo 1;\n", "looks like PHP source"),
    (b"#!/usr/bin/perl\nprint 1;\n", "script's source"),
    (b'{"a": 1}\n', "looks like JSON"),
    (b"Traceback (most recent call last):\n  File\n", "Python traceback"),
    (b"\xef\xbb\xbfContent-Type: text/html\n\n", "byte order mark"),
    (b"Hello, world\n", 'the first line of the output is not a header field; it is "Hello, world"'),
    (b"Content-Type: text/html\rX: y\r\rbody", "CR alone"),
    (b"Content-Type: text/html\r\r<p>\n", "CR alone"),
    (b"Content-Type: text/html\r\r\n\r\r\n", "CR inside"),
    (b"Content-Type: a\nX: a\rSet-Cookie: b\n\n", "line 2 of the header has a CR inside"),
    (b"Content-Type: a\nX: a\0b\n\n", "line 2 of the header has a NUL byte"),
    (b"Content-Type: a\nX: a\x1bb\n\n", "line 2 of the header has a control character"),
    (b"Content-Type: a\nX: a\n b\n\n", "line 3 of the header begins with a space"),
    (b"  Content-Type: a\n\n", "the first line of the output begins with a space"),
    (b"Content-Type: a\nX : a\n\n", "line 2 of the header has a space before the colon"),
    (b"Content-Type: a\nX y: a\n\n", "line 2 of the header is not a header field"),
    (b"Content-Type: a\n: a\n\n", "line 2 of the header is not a header field"),
    (b"Content-Type: a\n<html>\n\n", "line 2 of the header is not a header field: it looks like"),
    (b"Content-Type: a\nHello\n\n", "an empty line must stand between"),
    (b"Status: OK\n\n", 'bad Status value "OK"'),
    (b"Status: 99\n\n", "bad Status"),
    (b"Status: 100 Continue\n\n", "bad Status"),
    (b"Status: 101\n\n", "bad Status"),
    (b"Status: 600\n\n", "bad Status"),
    (b"Status: 0404\n\n", "bad Status"),
    (b"Status: 404Not Found\n\n", "bad Status"),
    (b"Status: +40\n\n", "bad Status"),
    ("Status: ٤٠٤\n\n".encode(), "bad Status"),
    (b"Status: 200\nStatus: 404\n\n", "Status twice"),
    (b"Location: /a\nLocation: /b\n\n", "Location twice"),
    (b"Content-Length: 1\nContent-Length: 2\n\n", "Content-Length twice"),
    (b"Content-Length: +5\n\n", 'bad Content-Length value "+5"'),
    (b"Content-Length: -1\n\n", "bad Content-Length"),
    (b"Content-Length: 5, 5\n\n", "bad Content-Length"),
    (b"Content-Length: 1_0\n\n", "bad Content-Length"),
    (b"Content-Length: 0x5\n\n", "bad Content-Length"),
    (b"Content-Length: " + b"9" * 30 + b"\n\n", "bad Content-Length"),
    ("Content-Length: ٥\n\n".encode(), "bad Content-Length"),
    (b"Transfer-Encoding: chunked\n\n0\r\n\r\n", "Transfer-Encoding, which only an NPH"),
    (b"Content-Length: 1\nTransfer-Encoding: gzip\n\n", "Transfer-Encoding"),
    (b"HTTP/1.1 OK\n\n", 'bad status line "HTTP/1.1 OK"'),
    (b"HTTP/1.1 100 Continue\n\n", "bad status line"),
    (b"HTTP/1.2 200 OK\n\n", "bad status line"),
    (b"HTTP/1.1 200 a\rb\n\n", "bad status line"),
    (b"HTTP/2 200\n\n", "not a header field"),
    (b"HTTP/1.1 200 OK\nX\n\n", "line 2 of the header is not"),
    (b"HTTP/1.1 200 OK\nTransfer-Encoding: gzip\n\n", "only chunked is known"),
    (b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked, chunked\n\n", "only chunked is known"),
    (b"HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n", "only chunked is known"),
    (b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nContent-Length: 1\n\n", "sent both"),
    (b"HTTP/1.1 200 OK\nContent-Length: x\n\n", "bad Content-Length"),
]


@pytest.mark.parametrize(("output", "part"), BAD)
def test_bad_output_is_refused_by_its_cause(output: bytes, part: str) -> None:
    assert part in why(output)


def test_output_without_a_header_is_refused_at_its_first_line() -> None:
    parser = ReplyParser()
    assert parser.feed(b"<html>") is None
    with pytest.raises(BadReply, match="looks like HTML"):
        parser.feed(b"\n")


def test_refusal_stays() -> None:
    parser = ReplyParser()
    for _ in range(2):
        with pytest.raises(BadReply, match="HTML"):
            parser.feed(b"<html>\n")
    with pytest.raises(BadReply, match="HTML"):
        parser.finish()


def test_nothing_is_fed_after_the_reply() -> None:
    parser = ReplyParser()
    parser.feed(b"Status: 204\n\n")
    with pytest.raises(ValueError, match="complete"):
        parser.feed(b"x")


@pytest.mark.parametrize("limit", [40, 1000, LIMIT])
def test_head_up_to_the_limit_and_not_a_byte_more(limit: int) -> None:
    start, end = b"Content-Type: text/html\nX: ", b"\n\n"
    fits = start + b"a" * (limit - len(start) - len(end)) + end
    reply, body = parse(fits + b"b" * 100, limit=limit)
    assert len(reply.headers[1][1]) == limit - len(start) - len(end)
    assert body == b"b" * 100
    longer = start + b"a" * (limit - len(start) - len(end) + 1) + end
    assert f"longer than {limit} bytes" in why(longer, limit)
    assert f"longer than {limit} bytes" in why(start + b"a" * limit * 2, limit)


def test_megabyte_line_is_refused_early_and_not_kept() -> None:
    parser = ReplyParser()
    for _ in range(LIMIT // 1000):
        assert parser.feed(b"X" * 1000) is None
    with pytest.raises(BadReply, match=r"longer than 65536 bytes.*it begins"):
        parser.feed(b"X" * 1000)
    assert not parser._held
    assert "looks like HTML" in why(b"<p>" * 30000)


def test_body_behind_the_head_is_not_touched() -> None:
    body = bytes(range(256)) * 1000 + b"\n\n"
    assert parse(b"Content-Type: text/html\n\n" + body)[1] == body


def test_many_fields_keep_their_order() -> None:
    fields = tuple((b"X-%d" % number, b"%d" % number) for number in range(1000))
    output = b"".join(b"%b: %b\n" % field for field in fields) + b"Content-Type: text/html\n\n"
    assert parse(output)[0].headers == (*fields, HTML)


@given(
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [
                b"Status: 200",
                b"Location: /",
                b"HTTP/1.1 200 OK",
                b"Content-Length: 1",
                b"\n",
                b"\r\n",
                b"\r",
                b"X: y",
                b":",
                b" ",
                b"\0",
                b"Transfer-Encoding: chunked",
                b"<",
            ]
        ),
        max_size=12,
    ).map(b"".join)
)
@settings(deadline=None, max_examples=300)
def test_any_output_is_a_reply_or_a_reason(output: bytes) -> None:
    try:
        reply, _ = parse(output)
    except BadReply:
        why(output)
    else:
        assert 200 <= reply.status <= 599
        for name, value in reply.headers:
            assert not set(b"\r\n\0") & set(name + value)
            assert name.lower() not in (b"transfer-encoding", b"content-length", b"connection")
