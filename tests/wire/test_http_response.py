"""Answers: status lines, fields, framing."""

from itertools import product

import pytest

from gateway.wire.http_response import encode_fields, framing, phrase, status_line

CLOSE = b"Connection: close\r\n"
KEEP = b"Connection: keep-alive\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def test_status_line_with_the_standard_phrase() -> None:
    assert status_line(200) == b"HTTP/1.1 200 OK\r\n"
    assert status_line(413) == b"HTTP/1.1 413 Content Too Large\r\n"


def test_status_line_with_another_phrase() -> None:
    assert status_line(200, b"Tr\xe8s bien") == b"HTTP/1.1 200 Tr\xe8s bien\r\n"


def test_status_without_a_phrase_keeps_the_space() -> None:
    assert status_line(299) == b"HTTP/1.1 299 \r\n"
    assert phrase(299) == b""


@pytest.mark.parametrize("status", [-1, 0, 99, 600, 1000])
def test_status_out_of_range_is_refused(status: int) -> None:
    with pytest.raises(ValueError):
        status_line(status)


@pytest.mark.parametrize("reason", [b"a\r\nb", b"a\nb", b"\x00", b"\x1b[1m", b"\r"])
def test_reason_with_a_control_is_refused(reason: bytes) -> None:
    with pytest.raises(ValueError):
        status_line(200, reason)


def test_fields_are_encoded_in_order() -> None:
    fields = ((b"Content-Type", b"text/plain"), (b"Set-Cookie", b"a=b"), (b"Set-Cookie", b""))
    assert encode_fields(fields) == (
        b"Content-Type: text/plain\r\nSet-Cookie: a=b\r\nSet-Cookie: \r\n"
    )
    assert encode_fields(()) == b""


@pytest.mark.parametrize(
    "value",
    [b"a\r\nSet-Cookie: x", b"a\rb", b"a\nb", b"a\x00", b"\x7f", b"\r\n", b"\n\r", b"a\r\n"],
)
def test_value_that_would_split_the_answer_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError):
        encode_fields(((b"X", b"y"), (b"Location", value), (b"Z", b"")))


def test_values_that_together_look_like_line_ends_are_refused() -> None:
    with pytest.raises(ValueError):
        encode_fields(((b"X", b"a\r"), (b"Y", b"\nb")))


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"\xe9", b"a\x00", b"(a)", b"a "])
def test_name_that_is_no_token_is_refused_every_time(name: bytes) -> None:
    for _ in range(2):
        with pytest.raises(ValueError):
            encode_fields(((name, b"x"),))


def test_more_fields_than_any_table_holds() -> None:
    fields = tuple((b"X-%d" % i, b"y") for i in range(3000))
    with pytest.raises(ValueError):
        encode_fields((*fields, (b"X", b"\n")))


@pytest.mark.parametrize(
    ("method", "status", "protocol", "length", "keep", "kind", "fields", "kept"),
    [
        ("GET", 200, b"HTTP/1.1", 5, True, "length", b"Content-Length: 5\r\n", True),
        ("GET", 200, b"HTTP/1.1", 0, True, "length", b"Content-Length: 0\r\n", True),
        ("GET", 200, b"HTTP/1.1", 5, False, "length", b"Content-Length: 5\r\n" + CLOSE, False),
        ("GET", 200, b"HTTP/1.1", None, True, "chunked", CHUNKED, True),
        ("GET", 200, b"HTTP/1.1", None, False, "chunked", CHUNKED + CLOSE, False),
        ("GET", 200, b"HTTP/1.0", 5, True, "length", b"Content-Length: 5\r\n" + KEEP, True),
        ("GET", 200, b"HTTP/1.0", 5, False, "length", b"Content-Length: 5\r\n" + CLOSE, False),
        ("GET", 200, b"HTTP/1.0", None, True, "close", CLOSE, False),
        ("GET", 200, b"HTTP/1.0", None, False, "close", CLOSE, False),
        ("HEAD", 200, b"HTTP/1.1", 5, True, "none", b"Content-Length: 5\r\n", True),
        ("HEAD", 200, b"HTTP/1.1", None, True, "none", b"", True),
        ("HEAD", 200, b"HTTP/1.0", None, True, "none", KEEP, True),
        ("HEAD", 304, b"HTTP/1.1", 5, True, "none", b"", True),
        ("GET", 204, b"HTTP/1.1", 5, True, "none", b"", True),
        ("GET", 204, b"HTTP/1.0", None, True, "none", KEEP, True),
        ("GET", 304, b"HTTP/1.1", 5, True, "none", b"", True),
        ("GET", 304, b"HTTP/1.1", None, False, "none", CLOSE, False),
        ("POST", 205, b"HTTP/1.1", 5, True, "none", b"Content-Length: 0\r\n", True),
        ("GET", 100, b"HTTP/1.1", None, True, "none", b"", True),
        ("GET", 103, b"HTTP/1.1", 5, False, "none", b"", False),
        ("POST", 500, b"HTTP/1.1", 2, True, "length", b"Content-Length: 2\r\n", True),
    ],
)
def test_framing(
    method: str,
    status: int,
    protocol: bytes,
    length: int | None,
    keep: bool,
    kind: str,
    fields: bytes,
    kept: bool,
) -> None:
    found = framing(method, status, protocol, length, keep)
    assert (found.kind, found.fields, found.keep_alive) == (kind, fields, kept)


def test_framing_never_leaves_a_kept_connection_without_an_end() -> None:
    for method, status, protocol, length, keep in product(
        ("GET", "HEAD", "POST"),
        range(100, 600),
        (b"HTTP/1.0", b"HTTP/1.1"),
        (None, 7),
        (True, False),
    ):
        found = framing(method, status, protocol, length, keep)
        assert found.keep_alive <= keep
        assert (found.kind == "length") == (
            b"Content-Length: 7" in found.fields and method != "HEAD"
        )
        assert (found.kind == "chunked") == (CHUNKED in found.fields)
        if found.kind == "chunked":
            assert protocol == b"HTTP/1.1"
        if found.kind == "close":
            assert not found.keep_alive
        if status < 200 or status == 204:
            assert b"Content-Length" not in found.fields
            assert found.kind == "none"


def test_negative_length_is_refused() -> None:
    with pytest.raises(ValueError):
        framing("GET", 200, b"HTTP/1.1", -1, True)
