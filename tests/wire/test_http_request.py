"""Requests: the cases in requests/, and what cannot be said as a file.

Each case is fed whole, byte by byte and in random pieces; the outcome must be the same.
"""

import gc
import importlib.util
import json
import random
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import PeerError
from gateway.wire.chunked import chunk
from gateway.wire.http_head import METHODS
from gateway.wire.http_request import END, Event, Head, HeadLimits, RequestParser

CASES = Path(__file__).parent / "requests"
VALID = sorted((CASES / "valid").glob("*.http"))
INVALID = sorted((CASES / "invalid").glob("*.http"))
HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


def feed(pieces: list[bytes], limits: HeadLimits | None = None) -> list[Event]:
    """All events of the pieces, with neighbouring body pieces joined."""
    parser = RequestParser(limits or HeadLimits())
    joined: list[Event] = []
    for piece in pieces:
        for event in parser.feed(piece):
            if isinstance(event, bytes):
                assert event, "an empty body piece"
                if joined and isinstance(joined[-1], bytes):
                    joined[-1] += event
                    continue
            joined.append(event)
    return joined


def comparable(events: list[Event]) -> list[object]:
    return [event.status if isinstance(event, PeerError) else event for event in events]


def cuts(data: bytes, seed: int = 0) -> list[list[bytes]]:
    """`data` whole, in halves of each line end, byte by byte, and in ten random ways."""
    ways = [[data], [data[i : i + 1] for i in range(len(data))]]
    dice = random.Random(seed)
    for _ in range(10):
        places = sorted(dice.choices(range(len(data) + 1), k=dice.randint(1, 12)))
        ways.append([data[a:b] for a, b in pairwise([0, *places, len(data)])])
    return ways


def status_of(data: bytes, limits: HeadLimits | None = None) -> int | None:
    last = feed([data], limits)[-1:]
    return last[0].status if last and isinstance(last[0], PeerError) else None


def text(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, tuple):
        return [text(item) for item in value]
    return value


def check_message(events: list[Event], want: dict[str, Any]) -> None:
    """Take one message off `events` and compare what `want` names of it."""
    head = events.pop(0)
    assert isinstance(head, Head)
    body = events.pop(0) if events and isinstance(events[0], bytes) else b""
    if not want.pop("open", False):
        assert events.pop(0) is END
    for key, value in want.items():
        assert text(body if key == "body" else getattr(head, key)) == value, key


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.stem)
def test_valid(case: Path) -> None:
    data = case.read_bytes()
    for pieces in cuts(data):
        events = feed(pieces)
        for want in json.loads(case.with_suffix(".json").read_text()):
            check_message(events, want)
        assert events == []


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case.stem)
def test_invalid(case: Path) -> None:
    data = case.read_bytes()
    status = int(case.with_suffix(".status").read_text())
    for pieces in cuts(data):
        events = feed(pieces)
        assert events
        error = events[-1]
        assert isinstance(error, PeerError)
        assert error.status == status
        assert error.say.isascii()


@pytest.mark.parametrize("case", [*VALID, *INVALID], ids=lambda case: case.stem)
def test_case_after_a_good_request(case: Path) -> None:
    data = case.read_bytes()
    alone = comparable(feed([data]))
    for pieces in cuts(GET + data)[:4]:
        events = feed(pieces)
        assert isinstance(events[0], Head)
        assert events[1] is END
        assert comparable(events[2:]) == alone


def test_events_before_an_error_are_returned_with_it() -> None:
    events = RequestParser(HeadLimits()).feed(GET + b"garbage\r\n\r\n")
    assert isinstance(events[0], Head)
    assert events[1] is END
    assert isinstance(events[2], PeerError)
    assert len(events) == 3


def test_body_before_a_bad_chunk_is_returned() -> None:
    events = RequestParser(HeadLimits()).feed(CHUNKED + b"3\r\nabc\r\nx\r\n")
    assert events[1] == b"abc"
    assert isinstance(events[2], PeerError)


def test_nothing_is_taken_after_an_error() -> None:
    parser = RequestParser(HeadLimits())
    assert len(parser.feed(b"\x00")) == 1
    assert parser.feed(GET) == []
    assert not parser.in_head


def test_body_arrives_with_the_piece_that_brought_it() -> None:
    parser = RequestParser(HeadLimits())
    parser.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
    assert parser.feed(b"abc") == [b"abc"]
    assert parser.feed(b"def" + GET[:5]) == [b"def", END]
    assert parser.in_head


def test_chunks_arrive_with_the_piece_that_brought_them() -> None:
    parser = RequestParser(HeadLimits())
    parser.feed(CHUNKED)
    assert parser.feed(b"5\r\nab") == [b"ab"]
    assert parser.feed(b"c") == [b"c"]
    assert parser.feed(b"de\r\n1\r\nf\r\n0\r\n") == [b"def"]
    assert parser.feed(b"\r\n") == [END]


def test_in_head_only_while_a_head_is_incomplete() -> None:
    parser = RequestParser(HeadLimits())
    seen = [parser.in_head]
    for piece in (b"\r\n", GET[:-1], GET[-1:]):
        parser.feed(piece)
        seen.append(parser.in_head)
    assert seen == [False, False, True, False]


@pytest.mark.parametrize("method", sorted(METHODS.values()))
def test_every_method_of_the_table_passes_llhttp(method: str) -> None:
    events = feed([method.encode() + b" /x HTTP/1.1\r\nHost: a\r\n\r\n"])
    assert isinstance(events[0], Head)
    assert events[0].method == method
    assert events[1] is END


def test_every_byte_in_a_target() -> None:
    for code in range(256):
        data = b"GET /a" + bytes((code,)) + b"b HTTP/1.1\r\n" + HOST + b"\r\n"
        good = 0x21 <= code <= 0x7E and code != 0x23
        assert (status_of(data) is None) == good, code
        if not good:
            assert status_of(data) == 400


def test_every_byte_in_a_name_and_a_value() -> None:
    for code in range(256):
        byte = bytes((code,))
        name = b"GET / HTTP/1.1\r\n" + HOST + b"x" + byte + b"y: 1\r\n\r\n"
        value = b"GET / HTTP/1.1\r\n" + HOST + b"x: a" + byte + b"b\r\n\r\n"
        token = chr(code).isascii() and (chr(code).isalnum() or byte in b"!#$%&'*+-.^_`|~")
        # A colon there ends the name.
        assert status_of(name) == (None if token or byte == b":" else 400), code
        assert status_of(value) == (None if code == 9 or (code >= 32 and code != 127) else 400)


@pytest.mark.parametrize(
    ("limits", "data", "status"),
    [
        (HeadLimits(line=14), GET, None),
        (HeadLimits(line=13), GET, 414),
        (HeadLimits(line=13), GET[:14], 414),
        (HeadLimits(field=7), GET, None),
        (HeadLimits(field=6), GET, 431),
        (HeadLimits(field=6), GET[:-4], 431),
        (HeadLimits(fields=1), GET, None),
        (HeadLimits(fields=0), GET, 431),
        (HeadLimits(total=25), GET, None),
        (HeadLimits(total=22), GET, 431),
        (HeadLimits(total=10), GET, 414),
    ],
)
def test_limits_at_their_edges(limits: HeadLimits, data: bytes, status: int | None) -> None:
    for pieces in cuts(data):
        events = feed(pieces, limits)
        found = [event.status for event in events if isinstance(event, PeerError)]
        assert found == ([] if status is None else [status])


def test_limit_is_answered_before_the_line_ends() -> None:
    parser = RequestParser(HeadLimits(line=100))
    fed = 0
    while not (events := parser.feed(b"G")):
        fed += 1
        assert fed <= 101
    assert isinstance(events[0], PeerError)
    assert events[0].status == 414


def test_memory_of_an_endless_head_is_bounded() -> None:
    parser = RequestParser(HeadLimits())
    line = b"X: " + b"y" * 500 + b"\r\n"
    tracemalloc.start()
    try:
        parser.feed(GET[:-2])
        answered = any(parser.feed(line) for _ in range(10_000))
        for _ in range(1000):
            parser.feed(line * 100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answered
    assert peak < 1 << 20


def test_memory_of_a_dripping_chunk_line_is_bounded() -> None:
    parser = RequestParser(HeadLimits())
    parser.feed(CHUNKED + b"1;")
    fed = 0
    while not parser.feed(b"x"):
        fed += 1
        assert fed < 5000


def test_many_requests_leave_no_state_behind() -> None:
    parser = RequestParser(HeadLimits())
    first = parser.feed(GET)
    for _ in range(1000):
        assert list(parser.feed(GET)) == list(first)


def test_closed_connection_is_freed_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        parser = RequestParser(HeadLimits())
        parser.feed(GET + CHUNKED + b"1\r\nx\r\n")
        del parser
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_llhttp_that_thinks_itself_closed_is_replaced() -> None:
    # Both say keep-alive in their way; llhttp and we must not drift apart over it.
    odd = b"GET / HTTP/1.0\r\nConnection: x , keep-alive ,\r\n\r\n"
    assert len(feed([odd * 3])) == 6


@given(st.lists(st.binary(max_size=300), max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_chunked_body_survives_any_cut(pieces: list[bytes], dice: random.Random) -> None:
    data = CHUNKED + b"".join(map(chunk, pieces)) + b"0\r\n\r\n" + GET
    places = sorted(dice.choices(range(len(data) + 1), k=10))
    events = feed([data[a:b] for a, b in pairwise([0, *places, len(data)])])
    body = b"".join(pieces)
    assert events[1:-2] == ([body, END] if body else [END])
    assert isinstance(events[-2], Head)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_events_and_never_raise(data: bytes) -> None:
    for pieces in cuts(data)[:3]:
        feed(pieces)


class Collected:
    def __init__(self) -> None:
        self.body = b""
        self.ended = 0

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.ended += 1


def mutated(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.randint(1, 3)):
        place = dice.randrange(len(changed))
        kind = dice.randrange(3)
        if kind == 0:
            changed[place] = dice.choice(b"\r\n 0123456789abcdefgx;:\t\x00-+")
        elif kind == 1:
            del changed[place]
        else:
            changed.insert(place, dice.choice(b"\r\n 019af;:"))
    return bytes(changed)


def test_whatever_chunked_body_we_take_llhttp_takes_as_the_same() -> None:
    dice = random.Random(7)
    compared = 0
    for _ in range(3000):
        body = mutated(b"5\r\nhello\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n", dice)
        ours = feed([CHUNKED + body])
        if isinstance(ours[-1], PeerError) or ours.count(END) != 1 or b";" in body:
            continue  # llhttp takes no white space in extensions, which we do
        theirs = Collected()
        httptools.HttpRequestParser(theirs).feed_data(CHUNKED + body)
        assert theirs.ended == 1, body
        assert theirs.body == (ours[1] if isinstance(ours[1], bytes) else b""), body
        compared += 1
    assert compared > 50


def test_fuzzer_finds_nothing_in_two_seconds() -> None:
    path = Path(__file__).parents[1] / "fuzz" / "fuzz_http_request.py"
    spec = importlib.util.spec_from_file_location("fuzz_http_request", path)
    assert spec is not None
    assert spec.loader is not None
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    assert fuzz.run(seconds=2.0, seed=1) > 100


def test_known_head_means_what_it_meant_and_heads_that_close_are_not_known() -> None:
    known: dict[bytes, tuple[object, ...]] = {}
    first = RequestParser(HeadLimits(), known)  # type: ignore[arg-type]
    second = RequestParser(HeadLimits(), known)  # type: ignore[arg-type]
    assert list(first.feed(GET)) == list(second.feed(GET))
    assert list(known) == [GET]
    closing = GET[:-2] + b"Connection: close\r\n\r\n"
    second.feed(closing)
    assert closing not in known
    assert list(second.feed(GET)) == []


def test_known_heads_are_bounded() -> None:
    known: dict[bytes, tuple[object, ...]] = {}
    parser = RequestParser(HeadLimits(), known)  # type: ignore[arg-type]
    for number in range(2000):
        parser.feed(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    assert len(known) <= 512
    parser.feed(b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 2000))
    assert max(map(len, known)) <= 1024
