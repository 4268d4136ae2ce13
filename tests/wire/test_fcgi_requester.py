import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import PeerError
from gateway.wire import fcgi_record as fcgi
from gateway.wire.fcgi_params import ParamsDecoder
from gateway.wire.fcgi_record import Record, RecordParser, encode_record
from gateway.wire.fcgi_requester import Ended, Event, Requester, Stderr, Stdout

PARAMS = {b"REQUEST_METHOD": b"GET", b"QUERY_STRING": b"", b"HTTP_COOKIE": b"c" * 200}
END = encode_record(fcgi.END_REQUEST, 1, bytes(8))


def started(*, keep: bool = True) -> Requester:
    requester = Requester()
    requester.begin(PARAMS, keep=keep)
    requester.stdin_end()
    return requester


def stdout(data: bytes) -> bytes:
    return encode_record(fcgi.STDOUT, 1, data)


def feed_bytes(requester: Requester, data: bytes) -> None:
    for byte in data:
        requester.feed(bytes((byte,)))


def joined(events: list[Event]) -> tuple[bytes, bytes, list[Ended]]:
    """What a request gave, without regard to the pieces it came in."""
    return (
        b"".join(event.data for event in events if isinstance(event, Stdout)),
        b"".join(event.data for event in events if isinstance(event, Stderr)),
        [event for event in events if isinstance(event, Ended)],
    )


def test_request_is_begin_then_params_then_their_end() -> None:
    first, params, end = RecordParser().feed(Requester().begin(PARAMS, keep=True))
    assert first == Record(fcgi.BEGIN_REQUEST, 1, b"\0\1\1\0\0\0\0\0")
    assert (params.kind, params.id) == (fcgi.PARAMS, 1)
    decoder = ParamsDecoder()
    decoder.feed(params.content)
    assert decoder.finish() == PARAMS
    assert end == Record(fcgi.PARAMS, 1, b"")


@pytest.mark.parametrize(("keep", "flag"), [(False, 0), (True, 1)])
@pytest.mark.parametrize("role", [fcgi.RESPONDER, fcgi.AUTHORIZER, fcgi.FILTER])
def test_role_and_keep_flag(keep: bool, flag: int, role: int) -> None:
    first, *_ = RecordParser().feed(Requester().begin({}, keep=keep, role=role))
    assert first.content == bytes((0, role, flag, 0, 0, 0, 0, 0))


def test_one_object_asks_once() -> None:
    with pytest.raises(ValueError, match="one request"):
        started().begin(PARAMS, keep=True)


def test_no_params_are_an_empty_stream() -> None:
    records = RecordParser().feed(Requester().begin({}, keep=False))
    assert [record.kind for record in records] == [fcgi.BEGIN_REQUEST, fcgi.PARAMS]


@pytest.mark.parametrize("size", [1, 65534, 65535, 65536, 65537, 99000, 200000])
def test_params_and_body_above_one_record_come_back_whole(size: int) -> None:
    requester = Requester()
    sent = requester.begin({b"BIG": b"p" * size}, keep=False)
    sent += requester.stdin(b"s" * size) + requester.stdin(b"") + requester.stdin_end()
    records = RecordParser().feed(sent)
    decoder = ParamsDecoder()
    for record in records:
        if record.kind == fcgi.PARAMS:
            decoder.feed(record.content)
    assert decoder.finish() == {b"BIG": b"p" * size}
    body = [record.content for record in records if record.kind == fcgi.STDIN]
    assert b"".join(body) == b"s" * size
    assert [content for content in body if not content] == [b""], "only the end is empty"
    assert records[-1] == Record(fcgi.STDIN, 1, b"")


def test_large_params_are_cut_between_pairs() -> None:
    params = {b"N%d" % number: b"v" * 30000 for number in range(7)} | {b"LAST": b"1"}
    records = RecordParser().feed(Requester().begin(params, keep=False))
    contents = [record.content for record in records if record.kind == fcgi.PARAMS]
    assert len(contents) == 5
    found: dict[bytes, bytes] = {}
    for content in contents:
        decoder = ParamsDecoder()
        decoder.feed(content)
        found |= decoder.finish()
    assert found == params


def test_body_cannot_be_sent_before_the_beginning_or_after_its_end() -> None:
    requester = Requester()
    with pytest.raises(ValueError, match="not open"):
        requester.stdin(b"x")
    requester.begin(PARAMS, keep=False)
    requester.stdin_end()
    with pytest.raises(ValueError, match="not open"):
        requester.stdin(b"x")
    with pytest.raises(ValueError, match="not open"):
        requester.stdin_end()


ANSWER = b"".join(
    (
        stdout(b"Status: 200 OK\r\n"),
        encode_record(fcgi.STDERR, 1, b"warning\n"),
        stdout(b"\r\nHello"),
        encode_record(fcgi.UNKNOWN_TYPE, 0, bytes(8)),
        encode_record(fcgi.GET_VALUES_RESULT, 0, b"\1\1A1"),
        stdout(b""),
        encode_record(fcgi.STDERR, 1, b""),
        encode_record(fcgi.END_REQUEST, 1, b"\0\0\0\7\0\0\0\0"),
    )
)


def test_answer_in_its_order() -> None:
    requester = started()
    assert requester.feed(ANSWER) == [
        Stdout(b"Status: 200 OK\r\n"),
        Stderr(b"warning\n"),
        Stdout(b"\r\nHello"),
        Ended(7, fcgi.REQUEST_COMPLETE),
    ]
    assert requester.ended
    assert requester.reusable


@given(cuts=st.lists(st.integers(0, len(ANSWER)), max_size=20))
@settings(deadline=None, max_examples=100)
def test_answer_means_the_same_however_it_is_cut(cuts: list[int]) -> None:
    requester = started()
    events: list[Event] = []
    places = [0, *sorted(cuts), len(ANSWER)]
    for start, stop in itertools.pairwise(places):
        events += requester.feed(ANSWER[start:stop])
    assert joined(events) == joined(started().feed(ANSWER))
    assert requester.reusable


def test_neighbouring_pieces_of_output_come_as_one() -> None:
    assert started().feed(stdout(b"a") * 100) == [Stdout(b"a" * 100)]


@pytest.mark.parametrize("status", [fcgi.CANT_MPX_CONN, fcgi.OVERLOADED, fcgi.UNKNOWN_ROLE])
def test_refusal_of_the_worker_is_told(status: int) -> None:
    body = b"\xff\xff\xff\xff" + bytes((status, 0, 0, 0))
    assert started().feed(encode_record(fcgi.END_REQUEST, 1, body)) == [Ended(0xFFFFFFFF, status)]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(encode_record(fcgi.STDOUT, 2, b"x"), id="another request's output"),
        pytest.param(encode_record(fcgi.END_REQUEST, 65535, bytes(8)), id="another request's end"),
        pytest.param(encode_record(fcgi.STDOUT, 0, b"x"), id="output without a request"),
        pytest.param(encode_record(fcgi.GET_VALUES, 0, b""), id="a question"),
        pytest.param(encode_record(fcgi.BEGIN_REQUEST, 1, bytes(8)), id="a request"),
        pytest.param(encode_record(fcgi.PARAMS, 1, b"x"), id="params"),
        pytest.param(encode_record(fcgi.STDIN, 1, b"x"), id="our own body"),
        pytest.param(encode_record(200, 1, b""), id="no type at all"),
        pytest.param(stdout(b"") + stdout(b"x"), id="output after its end"),
        pytest.param(END + stdout(b"x"), id="output after the request's end"),
        pytest.param(END + END, id="a second end"),
        pytest.param(END + encode_record(fcgi.STDERR, 1, b"x"), id="errors after the end"),
        pytest.param(encode_record(fcgi.END_REQUEST, 1, bytes(7)), id="an end cut short"),
        pytest.param(encode_record(fcgi.END_REQUEST, 1, b""), id="an empty end"),
        pytest.param(encode_record(fcgi.END_REQUEST, 1, b"\0\0\0\0\4\0\0\0"), id="status 4"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="HTTP"),
    ],
)
def test_what_a_worker_must_not_send_is_502(raw: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        started().feed(raw)
    assert caught.value.status == 502
    assert caught.value.say.isascii()
    with pytest.raises(PeerError) as slowly:
        feed_bytes(started(), raw)
    assert slowly.value.say == caught.value.say


def test_management_record_after_the_end_does_no_harm() -> None:
    requester = started()
    assert requester.feed(END + encode_record(fcgi.UNKNOWN_TYPE, 0, bytes(8))) == [Ended(0, 0)]
    assert requester.reusable


def test_connection_is_not_reused_unless_it_is_in_step() -> None:
    requester = started(keep=False)
    requester.feed(END)
    assert not requester.reusable, "the worker was told to close it"
    requester = started()
    requester.feed(END + b"\1")
    assert not requester.reusable, "another record has begun"
    requester = Requester()
    requester.begin(PARAMS, keep=True)
    requester.feed(END)
    assert not requester.reusable, "our body was not sent to its end"
    assert not started().reusable, "the answer has not come"


def test_fuzzer_finds_nothing_in_two_seconds() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, root / "tests/fuzz/fuzz_fcgi.py", "--seconds", "2", "--seed", "1"],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing but PeerError" in done.stdout
