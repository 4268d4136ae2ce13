"""SCGI requests. `row_22` is the row on CONTENT_LENGTH of the field's security history."""

import itertools
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import PeerError
from gateway.wire.scgi import (
    MAX_COUNT,
    MAX_TOTAL,
    Begin,
    Event,
    RequestParser,
    Stdin,
    StdinEnd,
)

Pairs = Sequence[tuple[bytes, bytes]]

MOST_HELD = MAX_TOTAL + len(b"262144:,")


def netstring(content: bytes) -> bytes:
    return b"%d:%b," % (len(content), content)


def head(pairs: Pairs) -> bytes:
    return netstring(b"".join(name + b"\0" + value + b"\0" for name, value in pairs))


def request(*more: tuple[bytes, bytes], length: bytes = b"0") -> bytes:
    return head([(b"CONTENT_LENGTH", length), (b"SCGI", b"1"), *more])


def plain(events: Iterable[Event]) -> list[object]:
    """Events without regard to how a body was cut; an error as its status and sentence."""
    made: list[object] = []
    for event in events:
        last = made[-1] if made else None
        if isinstance(event, PeerError):
            made.append((event.status, event.say))
        elif isinstance(event, Stdin) and isinstance(last, Stdin):
            made[-1] = Stdin(last.data + event.data)
        else:
            made.append(event)
    return made


def feed(pieces: Iterable[bytes]) -> list[object]:
    parser = RequestParser()
    return plain(event for piece in pieces for event in parser.feed(piece))


def the_error(raw: bytes) -> PeerError:
    """Feed it whole and byte by byte; return the one event, which is an error."""
    parser = RequestParser()
    events = parser.feed(raw)
    assert feed(bytes((byte,)) for byte in raw) == plain(events)
    (error,) = events
    assert isinstance(error, PeerError)
    assert error.say.isascii()
    assert parser.held == 0
    assert parser.feed(request()) == [], "nothing after it is looked at"
    return error


def test_example_of_the_specification() -> None:
    raw = (
        b"70:"
        b"CONTENT_LENGTH\x0027\0"
        b"SCGI\x001\0"
        b"REQUEST_METHOD\0POST\0"
        b"REQUEST_URI\0/deepthought\0"
        b","
        b"What is the answer to life?"
    )
    expected = [
        Begin(
            {
                b"CONTENT_LENGTH": b"27",
                b"SCGI": b"1",
                b"REQUEST_METHOD": b"POST",
                b"REQUEST_URI": b"/deepthought",
            },
            27,
        ),
        Stdin(b"What is the answer to life?"),
        StdinEnd(),
    ]
    assert RequestParser().feed(raw) == expected
    assert feed(bytes((byte,)) for byte in raw) == expected


NGINX = [
    (b"CONTENT_LENGTH", b"0"),
    (b"REQUEST_METHOD", b"GET"),
    (b"QUERY_STRING", b""),
    (b"SCGI", b"1"),
    (b"SERVER_NAME", b""),
    (b"SERVER_NAME", b"again"),
    (b"HTTP_X_A", b"1"),
    (b"HTTP_X_A", b"2"),
]
"""As nginx 1.22 sends it: SCGI somewhere, a `scgi_param` that was set again, a repeated field."""

LIGHTTPD = [(b"CONTENT_LENGTH", b"0"), (b"REQUEST_URI", b"/s?a=b"), (b"SCGI", b"1")]
"""As lighttpd 1.4 sends it: SCGI comes last."""


@pytest.mark.parametrize("pairs", [NGINX, LIGHTTPD], ids=["nginx", "lighttpd"])
def test_what_front_servers_send_is_taken(pairs: Pairs) -> None:
    assert RequestParser().feed(head(pairs)) == [Begin(dict(pairs), 0), StdinEnd()]


def test_repeated_name_has_its_last_value() -> None:
    (begin, _) = RequestParser().feed(head(NGINX))
    assert isinstance(begin, Begin)
    assert begin.params[b"SERVER_NAME"] == b"again"
    assert begin.params[b"HTTP_X_A"] == b"2"


@pytest.mark.parametrize(
    ("raw", "status", "say"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, "netstring", id="HTTP"),
        pytest.param(b"\1\1\0\1\0\x08\0\0", 400, "netstring", id="FastCGI"),
        pytest.param(b":,", 400, "netstring", id="no length"),
        pytest.param(b"-1:,", 400, "netstring", id="negative length"),
        pytest.param(b"+1:,", 400, "netstring", id="signed length"),
        pytest.param(b" 1:,", 400, "netstring", id="space"),
        pytest.param(b"1 :,", 400, "netstring", id="space after"),
        pytest.param(b"0x10:", 400, "netstring", id="hexadecimal length"),
        pytest.param(b"1_0:", 400, "netstring", id="underscore"),
        pytest.param("\u0661:".encode(), 400, "netstring", id="digit that is not ASCII"),
        pytest.param(b"\xb2:", 400, "netstring", id="Latin-1 digit"),
        pytest.param(b"0" + request(), 400, "netstring", id="leading zero"),
        pytest.param(b"00:,", 400, "netstring", id="two zeros"),
        pytest.param(b"1" * 8, 400, "netstring", id="eight digits"),
        pytest.param(b"9999999:", 431, "larger", id="largest length looked at"),
        pytest.param(b"%d:" % (MAX_TOTAL + 1), 431, "larger", id="one byte too many"),
        pytest.param(request()[:-1] + b";", 400, "do not end", id="no comma"),
        pytest.param(b"0:,", 400, "CONTENT_LENGTH", id="no parameter"),
        pytest.param(netstring(b"\0"), 400, "cut off", id="one NUL"),
        pytest.param(
            netstring(b"CONTENT_LENGTH\x000\0SCGI\x001"), 400, "cut off", id="no last NUL"
        ),
        pytest.param(netstring(b"CONTENT_LENGTH\x000\0SCGI\0"), 400, "cut off", id="no value"),
        pytest.param(head([(b"SCGI", b"1")]), 400, "first", id="no CONTENT_LENGTH"),
        pytest.param(
            head([(b"SCGI", b"1"), (b"CONTENT_LENGTH", b"0")]), 400, "first", id="SCGI first"
        ),
        pytest.param(head([(b"CONTENT_LENGTH", b"0")]), 400, "no parameter SCGI", id="no SCGI"),
        pytest.param(
            head([(b"CONTENT_LENGTH", b"0"), (b"SCGI", b"2")]), 400, "SCGI", id="version 2"
        ),
        pytest.param(request((b"", b"x")), 400, "impossible name", id="empty name"),
        pytest.param(request((b"LA=B", b"x")), 400, "impossible name", id="name with ="),
        pytest.param(request((b"CONTENT_LENGTH", b"0")), 400, "twice", id="CONTENT_LENGTH twice"),
        pytest.param(request((b"SCGI", b"1")), 400, "twice", id="SCGI twice"),
        pytest.param(request(*[(b"A", b"")] * (MAX_COUNT - 1)), 431, "more than", id="too many"),
    ],
)
def test_what_is_no_request_is_refused(raw: bytes, status: int, say: str) -> None:
    error = the_error(raw)
    assert error.status == status
    assert say in error.say


@pytest.mark.parametrize(
    "length",
    [b"", b"-1", b"+1", b" 1", b"1 ", b"1,1", b"0x1", b"1e3", b"1_0", b"1.0", b"1\n", b"NaN",
     b"\xb2", "\u0661".encode(), b"9" * 19, b"9223372036854775808", b"1" + b"0" * 30],
)  # fmt: skip
def test_row_22_content_length_that_is_no_number_is_refused(length: bytes) -> None:
    error = the_error(request(length=length))
    assert error.status == 400
    assert "CONTENT_LENGTH" in error.say


@pytest.mark.parametrize("length", [b"3", b"0003"])
def test_row_22_body_is_what_content_length_says(length: bytes) -> None:
    begin, *body = feed([request(length=length) + b"abc"])
    assert isinstance(begin, Begin)
    assert begin.length == 3
    assert body == [Stdin(b"abc"), StdinEnd()]


def test_row_22_body_cut_short_never_ends() -> None:
    parser = RequestParser()
    assert parser.feed(request(length=b"4") + b"abc")[1:] == [Stdin(b"abc")]
    assert parser.feed(b"") == []
    assert parser.feed(b"d") == [Stdin(b"d"), StdinEnd()]


def test_row_22_largest_content_length_costs_nothing() -> None:
    parser = RequestParser()
    events = parser.feed(request(length=b"9" * 18) + b"x")
    assert isinstance(events[0], Begin)
    assert events[0].length == 10**18 - 1
    for _ in range(100):
        assert parser.feed(bytes(65536)) == [Stdin(bytes(65536))]
    assert parser.held == 0


def test_what_follows_the_body_is_dropped() -> None:
    for rest in (b"\r\n", request(), bytes(100_000)):
        parser = RequestParser()
        assert parser.feed(request(length=b"1") + b"x" + rest)[1:] == [Stdin(b"x"), StdinEnd()]
        assert parser.feed(rest) == []
        assert parser.held == 0


def test_request_begins_when_its_parameters_end() -> None:
    parser = RequestParser()
    raw = request(length=b"1")
    heads = [parser.in_head]
    for byte in raw[:-1]:
        assert parser.feed(bytes((byte,))) == []
        heads.append(parser.in_head)
    assert heads == [False] + [True] * (len(raw) - 1)
    assert [type(event) for event in parser.feed(raw[-1:])] == [Begin]
    assert parser.held == 0
    assert parser.feed(b"x") == [Stdin(b"x"), StdinEnd()]


def test_largest_set_of_parameters() -> None:
    pairs = [(b"CONTENT_LENGTH", b"0"), (b"SCGI", b"1")]
    pairs += [(b"N%d" % number, b"") for number in range(MAX_COUNT - 3)]
    used = sum(len(name) + len(value) + 2 for name, value in pairs)
    pairs.append((b"BIG", b"x" * (MAX_TOTAL - used - len(b"BIG\0\0"))))
    raw = head(pairs)
    assert raw.startswith(b"%d:" % MAX_TOTAL)
    parser = RequestParser()
    assert parser.feed(raw) == [Begin(dict(pairs), 0), StdinEnd()]
    assert len(dict(pairs)) == MAX_COUNT


def test_memory_is_bounded_by_the_largest_netstring() -> None:
    hostile = [
        b"%d:" % MAX_TOTAL + bytes(4 << 20),
        b"%d:" % MAX_TOTAL + b"x" * (4 << 20),
        b"1" * (4 << 20),
        request(length=b"9" * 18) + bytes(4 << 20),
    ]
    for raw in hostile:
        parser = RequestParser()
        for start in range(0, len(raw), 1000):
            parser.feed(raw[start : start + 1000])
            assert parser.held <= MOST_HELD


@given(
    pairs=st.dictionaries(
        st.binary(min_size=1, max_size=20).map(
            lambda name: b"X" + name.replace(b"\0", b"0").replace(b"=", b"-")
        ),
        st.binary(max_size=300).map(lambda value: value.replace(b"\0", b"0")),
        max_size=8,
    ),
    body=st.binary(max_size=300)
    | st.sampled_from((65535, 65536, 65537, 99000)).map(lambda size: b"b" * size),
    rest=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 1 << 20), max_size=12),
)
@settings(deadline=None, max_examples=100)
def test_request_comes_back_however_it_is_cut(
    pairs: dict[bytes, bytes], body: bytes, rest: bytes, cuts: list[int]
) -> None:
    given_params = {b"CONTENT_LENGTH": b"%d" % len(body)} | pairs | {b"SCGI": b"1"}
    raw = head(list(given_params.items())) + body + rest
    places = [0, *sorted(place % (len(raw) + 1) for place in cuts), len(raw)]
    assert feed(raw[start:stop] for start, stop in itertools.pairwise(places)) == [
        Begin(given_params, len(body)),
        *([Stdin(body)] if body else []),
        StdinEnd(),
    ]
