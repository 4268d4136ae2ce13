"""The answering side of FastCGI.

`row_N` in a name is the row of the field's security history (record parsing 11, record smuggling
12, names of variables 14, CONTENT_LENGTH 22) that the test holds, as far as the bytes go.
"""

import itertools
from collections.abc import Callable, Iterable
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import PeerError
from gateway.wire import fcgi_record as fcgi
from gateway.wire.fcgi_params import MAX_COUNT, MAX_TOTAL, ParamsDecoder, encode_params
from gateway.wire.fcgi_record import BEGIN_BODY, END_BODY, Record, RecordParser, encode_record
from gateway.wire.fcgi_requester import Ended, Requester, Stderr, Stdout
from gateway.wire.fcgi_responder import (
    Abort,
    Begin,
    Event,
    Hangup,
    Reply,
    Responder,
    Stdin,
    StdinEnd,
)

PARAMS = {b"REQUEST_METHOD": b"POST", b"QUERY_STRING": b"", b"HTTP_COOKIE": b"c" * 200}
MOST_HELD = fcgi.HEADER_SIZE + fcgi.MAX_CONTENT + 255 + MAX_TOTAL
SIZES = (0, 1, 65535, 65536, 65537, 99000)


def begin(id: int = 1, *, role: int = fcgi.RESPONDER, flags: int = fcgi.KEEP_CONN) -> bytes:
    return encode_record(fcgi.BEGIN_REQUEST, id, BEGIN_BODY.pack(role, flags))


def params(content: bytes, id: int = 1) -> bytes:
    """PARAMS with this content, and the end of them."""
    whole = encode_record(fcgi.PARAMS, id, content) if content else b""
    return whole + encode_record(fcgi.PARAMS, id, b"")


def stdin(data: bytes, id: int = 1) -> bytes:
    return encode_record(fcgi.STDIN, id, data)


def head(id: int = 1, *, role: int = fcgi.RESPONDER, flags: int = fcgi.KEEP_CONN) -> bytes:
    return begin(id, role=role, flags=flags) + params(encode_params(PARAMS), id)


def started(id: int = 1, *, flags: int = fcgi.KEEP_CONN) -> Responder:
    responder = Responder()
    assert len(responder.feed(head(id, flags=flags))) == 1
    return responder


def ended(id: int, protocol_status: int, app_status: int = 0) -> bytes:
    return encode_record(fcgi.END_REQUEST, id, END_BODY.pack(app_status, protocol_status))


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    around = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(around)]


def plain(events: Iterable[Event]) -> list[object]:
    """Events without regard to how pieces were cut; an error as its status and sentence."""
    made: list[object] = []
    for event in events:
        last = made[-1] if made else None
        if isinstance(event, PeerError):
            made.append((event.status, event.say))
        elif isinstance(event, Stdin) and isinstance(last, Stdin):
            made[-1] = Stdin(last.data + event.data)
        elif isinstance(event, Reply) and isinstance(last, Reply):
            made[-1] = Reply(last.data + event.data)
        else:
            made.append(event)
    return made


def feed(responder: Responder, pieces: Iterable[bytes]) -> list[object]:
    return plain(event for piece in pieces for event in responder.feed(piece))


def the_error(raw: bytes) -> PeerError:
    """Feed it whole and byte by byte; return the one error, which must be the last event."""
    whole, slowly = Responder(), Responder()
    events = whole.feed(raw)
    assert plain(events) == feed(slowly, (bytes((byte,)) for byte in raw))
    assert [type(event) for event in events].count(PeerError) == 1
    error = events[-1]
    assert isinstance(error, PeerError)
    assert error.say.isascii()
    assert whole.keep is slowly.keep
    return error


# A request and its answer.


def test_request_begins_when_its_params_end_and_not_before() -> None:
    responder = Responder()
    assert (responder.idle, responder.in_head) == (True, False)
    assert responder.feed(begin()) == []
    assert (responder.idle, responder.in_head) == (False, True)
    assert responder.feed(encode_record(fcgi.PARAMS, 1, encode_params(PARAMS))) == []
    assert responder.feed(encode_record(fcgi.PARAMS, 1, b"")) == [Begin(1, 1, True, PARAMS)]
    assert not responder.in_head
    assert responder.feed(stdin(b"abc") + stdin(b"def")) == [Stdin(b"abcdef")]
    assert responder.feed(stdin(b"")) == [StdinEnd()]
    assert responder.live


def test_answer_in_its_records() -> None:
    responder = started()
    sent = responder.stdout(b"Status: 200 OK\r\n\r\n") + responder.stderr(b"warning")
    sent += responder.stdout(b"") + responder.stderr(b"") + responder.end(7)
    assert RecordParser().feed(sent) == [
        Record(fcgi.STDOUT, 1, b"Status: 200 OK\r\n\r\n"),
        Record(fcgi.STDERR, 1, b"warning"),
        Record(fcgi.STDOUT, 1, b""),
        Record(fcgi.STDERR, 1, b""),
        Record(fcgi.END_REQUEST, 1, END_BODY.pack(7, fcgi.REQUEST_COMPLETE)),
    ]
    assert responder.idle


def test_stderr_that_was_not_used_is_not_ended() -> None:
    assert [record.kind for record in RecordParser().feed(started().end())] == [
        fcgi.STDOUT,
        fcgi.END_REQUEST,
    ]


def test_stderr_of_one_request_is_not_ended_in_the_next() -> None:
    responder = started()
    responder.stderr(b"x")
    responder.end()
    responder.feed(head(2))
    assert [record.kind for record in RecordParser().feed(responder.end())] == [
        fcgi.STDOUT,
        fcgi.END_REQUEST,
    ]


def test_answer_needs_a_live_request() -> None:
    responder = started()
    responder.end()
    answers: list[Callable[[], bytes]] = [
        partial(responder.stdout, b"x"),
        partial(responder.stderr, b"x"),
        responder.end,
        responder.refuse,
    ]
    for answer in answers:
        with pytest.raises(ValueError, match="live"):
            answer()


@pytest.mark.parametrize("status", [-1, 1 << 32])
def test_application_status_has_32_bits(status: int) -> None:
    responder = started()
    with pytest.raises(ValueError, match="32 bits"):
        responder.end(status)
    assert responder.end(0xFFFFFFFF).endswith(ended(1, 0, 0xFFFFFFFF))


def test_request_that_comes_too_many_is_refused() -> None:
    responder = started()
    with pytest.raises(ValueError, match="status 0"):
        responder.refuse(fcgi.REQUEST_COMPLETE)
    assert responder.refuse(fcgi.OVERLOADED) == ended(1, fcgi.OVERLOADED)
    assert responder.idle
    assert responder.keep


def test_connection_without_keep_hears_nothing_after_its_request() -> None:
    responder = Responder()
    assert responder.feed(head(flags=0)) == [Begin(1, 1, False, PARAMS)]
    assert not responder.keep
    responder.end()
    assert responder.feed(head() + b"GET / HTTP/1.1\r\n\r\n" + bytes(100_000)) == []
    assert responder.idle
    assert responder.held == 0


@pytest.mark.parametrize("flags", [2, 254])
def test_other_flags_than_keep_mean_nothing(flags: int) -> None:
    assert Responder().feed(head(flags=flags)) == [Begin(1, 1, False, PARAMS)]
    assert Responder().feed(head(flags=flags | 1)) == [Begin(1, 1, True, PARAMS)]


def test_authorizer_has_no_body() -> None:
    responder = Responder()
    assert responder.feed(head(role=fcgi.AUTHORIZER)) == [
        Begin(1, fcgi.AUTHORIZER, True, PARAMS),
        StdinEnd(),
    ]
    assert responder.feed(stdin(b"a body that the standard does not have") + stdin(b"")) == []
    assert responder.live


def test_empty_data_and_a_second_end_of_stdin_do_no_harm() -> None:
    responder = started()
    empty = encode_record(fcgi.DATA, 1, b"")
    assert responder.feed(empty + stdin(b"x") + stdin(b"") + stdin(b"") + empty) == [
        Stdin(b"x"),
        StdinEnd(),
    ]


# Row 11: what stands in records and parameters.


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xff\xff\xff\xff\1A", id="name of 0x7fffffff"),
        pytest.param(b"\1\xff\xff\xff\xffA", id="value of 0x7fffffff"),
        pytest.param(b"\xff\xff\xff\xff\xff\xff\xff\xffAB", id="sum over 32 bits"),
        pytest.param(b"\3\4ABC123", id="sum above the records"),
        pytest.param(b"\1", id="one length"),
        pytest.param(b"\1\x80\0\0", id="length cut off"),
        pytest.param(b"\0\1x", id="empty name"),
        pytest.param(b"\4\1LA=Bx", id="name with ="),
        pytest.param(b"\2\1A\0x", id="name with NUL"),
        pytest.param(b"\1\2Ax\0", id="value with NUL"),
    ],
)
def test_row_11_and_14_parameters_that_cannot_be_are_400_and_can_be_answered(
    content: bytes,
) -> None:
    raw = begin() + params(content)
    assert the_error(raw).status == 400
    responder = Responder()
    responder.feed(raw)
    assert responder.live
    assert not responder.in_head
    assert responder.feed(params(b"") + stdin(b"late") + stdin(b"")) == []
    assert responder.stdout(b"Status: 400\r\n\r\n")
    assert responder.end().endswith(ended(1, 0))
    assert responder.keep
    assert responder.feed(head(2)) == [Begin(2, 1, True, PARAMS)], "the connection is in step"


def test_row_11_pair_split_over_records_at_every_byte() -> None:
    given = {b"SHORT": b"1", b"n" * 200: b"v" * 300, b"EMPTY": b""}
    encoded = encode_params(given)
    for place in range(1, len(encoded)):
        raw = begin() + b"".join(
            encode_record(fcgi.PARAMS, 1, part) for part in (encoded[:place], encoded[place:], b"")
        )
        assert Responder().feed(raw) == [Begin(1, 1, True, given)]


def test_row_11_every_byte_of_the_parameters_in_a_record_of_its_own() -> None:
    encoded = encode_params(PARAMS)
    raw = b"".join(encode_record(fcgi.PARAMS, 1, bytes((byte,))) for byte in encoded)
    assert Responder().feed(begin() + raw + params(b"")) == [Begin(1, 1, True, PARAMS)]


def test_row_11_repeated_name_has_its_last_value_once() -> None:
    raw = params(encode_params([(b"SCRIPT_FILENAME", b"/a"), (b"SCRIPT_FILENAME", b"/b")]))
    assert Responder().feed(begin() + raw) == [Begin(1, 1, True, {b"SCRIPT_FILENAME": b"/b"})]


@pytest.mark.parametrize(
    "content", [bytes(MAX_TOTAL + 1), b"\1\0A" * (MAX_COUNT + 1)], ids=["bytes", "number"]
)
def test_row_11_too_many_parameters_are_431_and_can_be_answered(content: bytes) -> None:
    responder = Responder()
    events = responder.feed(begin() + params(content) + stdin(b"body"))
    assert [event.status for event in events if isinstance(event, PeerError)] == [431]
    assert len(events) == 1
    assert responder.live
    assert responder.held == 0
    assert responder.end()
    assert responder.keep


@pytest.mark.parametrize(
    ("raw", "say"),
    [
        pytest.param(head() + params(b"\1\1A1"), "after the end", id="PARAMS after end"),
        pytest.param(head() + params(b""), "after the end", id="second end of PARAMS"),
        pytest.param(begin() + stdin(b"x"), "before the end", id="STDIN before PARAMS"),
        pytest.param(begin() + stdin(b""), "before the end", id="end of STDIN before PARAMS"),
        pytest.param(head() + stdin(b"") + stdin(b"x"), "after the end", id="STDIN after end"),
        pytest.param(head() + encode_record(fcgi.DATA, 1, b"x"), "filter", id="DATA"),
        pytest.param(begin() + begin(), "has not ended", id="BEGIN twice"),
        pytest.param(head() + begin(), "has not ended", id="BEGIN of the live id"),
        pytest.param(encode_record(fcgi.BEGIN_REQUEST, 1, bytes(7)), "size", id="short BEGIN"),
        pytest.param(encode_record(fcgi.BEGIN_REQUEST, 1, b""), "size", id="empty BEGIN"),
        pytest.param(encode_record(fcgi.BEGIN_REQUEST, 1, bytes(9)), "size", id="long BEGIN"),
        pytest.param(begin(0), "id 0", id="BEGIN with id 0"),
        pytest.param(head() + stdin(b"x", 0), "id 0", id="STDIN with id 0"),
        pytest.param(encode_record(fcgi.ABORT_REQUEST, 0, b""), "id 0", id="ABORT with id 0"),
        pytest.param(head() + encode_record(fcgi.STDOUT, 1, b"x"), "type", id="STDOUT"),
        pytest.param(head() + ended(1, 0), "type", id="END_REQUEST"),
        pytest.param(head() + encode_record(99, 1, b"x"), "type", id="unknown type"),
        pytest.param(head() + encode_record(fcgi.GET_VALUES, 1, b""), "type", id="query with id"),
        pytest.param(encode_record(fcgi.UNKNOWN_TYPE, 0, bytes(8)), "not asked", id="UNKNOWN_TYPE"),
        pytest.param(encode_record(fcgi.GET_VALUES_RESULT, 0, b""), "not asked", id="values"),
        pytest.param(encode_record(fcgi.GET_VALUES, 0, b"\1"), "cut off", id="broken query"),
        pytest.param(b"\2" + begin()[1:], "version", id="version 2"),
        pytest.param(head() + b"\0" + begin()[1:], "version", id="version 0"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "version", id="HTTP"),
    ],
)
def test_row_11_breach_of_the_protocol_breaks_the_connection(raw: bytes, say: str) -> None:
    error = the_error(raw)
    assert error.status == 400
    assert say in error.say
    responder = Responder()
    responder.feed(raw)
    assert not responder.keep
    assert not responder.in_head, "what is left to wait for is our own answer"
    assert responder.held == 0
    assert responder.feed(bytes(100_000) + head(2)) == [], "nothing after it is looked at"
    if responder.live:
        sent = responder.stdout(b"Status: 400\r\n\r\n") + responder.end()
        assert [record.kind for record in RecordParser().feed(sent)] == [
            fcgi.STDOUT,
            fcgi.STDOUT,
            fcgi.END_REQUEST,
        ]
    assert not responder.keep


def test_row_11_what_comes_before_a_fault_is_not_lost() -> None:
    events = Responder().feed(head() + stdin(b"abc") + b"\2" * 8)
    assert plain(events)[:2] == [Begin(1, 1, True, PARAMS), Stdin(b"abc")]
    assert isinstance(events[2], PeerError)


def test_row_11_unknown_role_is_refused_and_the_connection_goes_on() -> None:
    responder = Responder()
    for role in (0, fcgi.FILTER, 4, 65535):
        raw = head(5, role=role) + stdin(b"x", 5) + stdin(b"", 5)
        assert feed(responder, [raw]) == [Reply(ended(5, fcgi.UNKNOWN_ROLE))]
        assert responder.idle
    assert responder.feed(head(5)) == [Begin(5, 1, True, PARAMS)]


def test_row_11_unknown_role_without_keep_hangs_up() -> None:
    responder = Responder()
    assert responder.feed(head(5, role=fcgi.FILTER, flags=0) + head() + b"\2" * 8) == [
        Reply(ended(5, fcgi.UNKNOWN_ROLE)),
        Hangup(),
    ]
    assert responder.feed(head()) == []
    assert responder.idle


def test_role_that_a_listener_does_not_take_is_refused() -> None:
    responder = Responder(roles={fcgi.RESPONDER})
    assert responder.feed(begin(role=fcgi.AUTHORIZER)) == [Reply(ended(1, fcgi.UNKNOWN_ROLE))]


@pytest.mark.parametrize("kind", [0, 12, 99, 255])
def test_row_11_unknown_management_type_is_answered(kind: int) -> None:
    responder = started()
    answer = encode_record(fcgi.UNKNOWN_TYPE, 0, bytes((kind, 0, 0, 0, 0, 0, 0, 0)))
    assert responder.feed(encode_record(kind, 0, b"what")) == [Reply(answer)]
    assert responder.feed(stdin(b"x")) == [Stdin(b"x")], "the live request goes on"


@pytest.mark.parametrize("padding", [0, 1, 7, 255])
def test_row_11_padding_of_any_length(padding: int) -> None:
    def padded(kind: int, content: bytes) -> bytes:
        header = fcgi.HEADER.pack(1, kind, 1, len(content), padding)
        return header + content + b"\1" * padding

    raw = padded(fcgi.BEGIN_REQUEST, BEGIN_BODY.pack(1, 1))
    raw += padded(fcgi.PARAMS, encode_params(PARAMS)) + padded(fcgi.PARAMS, b"")
    raw += padded(fcgi.STDIN, b"abc") + padded(fcgi.STDIN, b"")
    expected = [Begin(1, 1, True, PARAMS), Stdin(b"abc"), StdinEnd()]
    assert Responder().feed(raw) == expected
    assert feed(Responder(), (bytes((byte,)) for byte in raw)) == expected


def test_row_11_largest_id() -> None:
    responder = started(65535)
    assert responder.feed(stdin(b"x", 65535) + stdin(b"", 65535)) == [Stdin(b"x"), StdinEnd()]
    assert responder.end() == encode_record(fcgi.STDOUT, 65535, b"") + ended(65535, 0)


def test_row_11_id_is_used_again_for_a_fresh_request() -> None:
    responder = started()
    responder.feed(stdin(b"of the first"))
    responder.end()
    late = stdin(b"still of the first") + stdin(b"")
    other = begin() + params(encode_params({b"B": b"2"})) + stdin(b"of the second")
    assert responder.feed(late + other) == [
        Begin(1, 1, True, {b"B": b"2"}),
        Stdin(b"of the second"),
    ]


def test_row_11_records_of_ids_that_are_not_live_are_dropped() -> None:
    stray = b"".join(
        encode_record(kind, 7, b"x" * 9) for kind in range(256) if kind != fcgi.BEGIN_REQUEST
    )
    assert Responder().feed(stray) == []
    responder = started()
    assert responder.feed(stray + stdin(b"x") + stray) == [Stdin(b"x")]
    responder.end()
    assert responder.feed(stray.replace(b"\0\7", b"\0\1")) == [], "late records of the ended one"


def test_row_11_memory_is_bounded_by_one_record_and_one_set_of_parameters() -> None:
    chance = Random(11)
    full = encode_record(fcgi.PARAMS, 1, bytes(65535))
    hostile = [
        begin() + full * 60,
        head() + stdin(bytes(65535)) * 60,
        head() + b"".join(begin(id) + stdin(b"x" * 50, id) for id in range(2, 60000)),
        head() + encode_record(fcgi.STDIN, 9, bytes(65535)) * 60,
        begin() + b"".join(encode_record(fcgi.PARAMS, 1, b"\1") for _ in range(200_000)),
        encode_record(fcgi.GET_VALUES, 0, b"\x0e\0FCGI_MAX_CONNS" * 900) * 100,
        head() + encode_record(99, 0, b"") * 200_000,
        (begin() + encode_record(fcgi.ABORT_REQUEST, 1, b"")) * 50_000,
        head() + encode_record(fcgi.ABORT_REQUEST, 1, b"") * 200_000,
        begin() + b"\1\4\0\1\xff\xff\xff\0",
    ]
    for raw in hostile:
        responder = Responder()
        position = 0
        while position < len(raw):
            size = chance.choice((1, 100, 65536))
            events = responder.feed(raw[position : position + size])
            position += size
            assert responder.held < MOST_HELD
            assert sum(len(e.data) for e in events if isinstance(e, Reply)) <= 4 * 65536 + 1024
        assert not responder.idle or not responder.held


def test_megabyte_in_tiny_records_is_one_event() -> None:
    raw = stdin(b"x") * 60_000
    assert started().feed(raw) == [Stdin(b"x" * 60_000)]
    assert len(started().feed(encode_record(99, 0, b"") * 60_000)) == 1


# Row 12: lengths that do not fit, and the two sides of our own against each other.


def ask(given: dict[bytes, bytes], body: bytes, *, role: int = fcgi.RESPONDER) -> bytes:
    requester = Requester()
    return (
        requester.begin(given, keep=True, role=role) + requester.stdin(body) + requester.stdin_end()
    )


@pytest.mark.parametrize("size", SIZES)
def test_row_12_body_and_answer_of_a_critical_size_set_no_record_free(size: int) -> None:
    forged = begin() + params(encode_params({b"SCRIPT_FILENAME": b"/bin/sh"}))
    body = (forged * (size // len(forged) + 1))[:size]
    assert feed(Responder(), [ask(PARAMS, body)]) == [
        Begin(1, 1, True, PARAMS),
        *([Stdin(body)] if body else []),
        StdinEnd(),
    ]
    responder = started()
    records = RecordParser().feed(responder.stdout(body) + responder.stderr(body))
    assert {record.kind for record in records} <= {fcgi.STDOUT, fcgi.STDERR}
    for kind in (fcgi.STDOUT, fcgi.STDERR):
        assert b"".join(record.content for record in records if record.kind == kind) == body
    assert all(record.content for record in records), "an empty record would end the stream"


def test_row_12_parameters_above_64_kib() -> None:
    given = {b"BIG": b"p" * 70_000} | {b"N%d" % number: b"v" * 30_000 for number in range(5)}
    assert Responder().feed(ask(given, b"")) == [Begin(1, 1, True, given), StdinEnd()]


names = st.binary(min_size=1, max_size=12).map(
    lambda name: name.replace(b"\0", b"0").replace(b"=", b"-")
)
values = st.binary(max_size=30).map(lambda value: value.replace(b"\0", b"0")) | st.sampled_from(
    (127, 128, 40_000, 65_535, 66_000)
).map(lambda size: b"v" * size)
bodies = st.binary(max_size=100) | st.sampled_from(SIZES).map(lambda size: b"b" * size)
cuts = st.lists(st.integers(0, 1 << 20), max_size=12)


@given(
    given_params=st.dictionaries(names, values, max_size=4),
    body=bodies,
    output=bodies,
    errors=bodies,
    status=st.integers(0, 0xFFFFFFFF),
    asked=cuts,
    answered=cuts,
)
@settings(deadline=None, max_examples=80)
def test_row_12_both_sides_understand_each_other_however_it_is_cut(
    given_params: dict[bytes, bytes],
    body: bytes,
    output: bytes,
    errors: bytes,
    status: int,
    asked: list[int],
    answered: list[int],
) -> None:
    requester, responder = Requester(), Responder()
    sent = requester.begin(given_params, keep=True) + requester.stdin(body) + requester.stdin_end()
    assert feed(responder, cut(sent, asked)) == [
        Begin(1, 1, True, given_params),
        *([Stdin(body)] if body else []),
        StdinEnd(),
    ]
    answer = responder.stdout(output) + responder.stderr(errors) + responder.end(status)
    events = [event for piece in cut(answer, answered) for event in requester.feed(piece)]
    assert b"".join(event.data for event in events if isinstance(event, Stdout)) == output
    assert b"".join(event.data for event in events if isinstance(event, Stderr)) == errors
    assert events[-1] == Ended(status, fcgi.REQUEST_COMPLETE)
    assert requester.reusable
    assert responder.idle


MIXED = b"".join(
    (
        encode_record(fcgi.GET_VALUES, 0, encode_params({b"FCGI_MPXS_CONNS": b""})),
        head(),
        stdin(b"one"),
        begin(2),
        params(encode_params(PARAMS), 2),
        stdin(b"two", 2),
        stdin(b"more"),
        encode_record(77, 0, b"?"),
        begin(3, role=fcgi.FILTER),
        stdin(b""),
        encode_record(fcgi.ABORT_REQUEST, 2, b""),
        encode_record(fcgi.ABORT_REQUEST, 1, b""),
        b"\7" * 9,
    )
)


@given(places=cuts)
@settings(deadline=None, max_examples=100)
def test_stream_means_the_same_however_it_is_cut(places: list[int]) -> None:
    expected = plain(Responder().feed(MIXED))
    assert [type(event) for event in expected] == [
        Reply, Begin, Stdin, Reply, Stdin, Reply, StdinEnd, Abort, tuple
    ]  # fmt: skip
    assert feed(Responder(), cut(MIXED, places)) == expected
    assert feed(Responder(), (bytes((byte,)) for byte in MIXED)) == expected


# Row 22: CONTENT_LENGTH frames nothing here.


@pytest.mark.parametrize(
    "length", [None, b"", b"-1", b"0", b"4", b"9223372036854775808", b"1" * 30]
)
def test_row_22_only_the_empty_record_ends_a_body(length: bytes | None) -> None:
    given = {} if length is None else {b"CONTENT_LENGTH": length}
    responder = Responder()
    assert responder.feed(begin() + params(encode_params(given))) == [Begin(1, 1, True, given)]
    assert responder.feed(stdin(b"123456")) == [Stdin(b"123456")]
    assert responder.feed(stdin(b"")) == [StdinEnd()]


# One request at a time, aborts and questions.


def test_second_live_id_is_told_that_there_is_no_multiplexing() -> None:
    responder = started()
    raw = head(2) + stdin(b"x", 2) + stdin(b"", 2) + stdin(b"mine")
    assert responder.feed(raw) == [Reply(ended(2, fcgi.CANT_MPX_CONN)), Stdin(b"mine")]
    responder.end()
    assert responder.feed(head(2)) == [Begin(2, 1, True, PARAMS)]


def test_second_id_without_keep_does_not_close_the_live_request() -> None:
    responder = started()
    assert responder.feed(begin(2, flags=0)) == [Reply(ended(2, fcgi.CANT_MPX_CONN))]
    assert responder.keep
    assert responder.feed(stdin(b"x")) == [Stdin(b"x")]


def test_abort_is_told_once_and_the_request_still_wants_its_end() -> None:
    responder = started()
    abort = encode_record(fcgi.ABORT_REQUEST, 1, b"")
    assert responder.feed(stdin(b"x") + abort + abort + stdin(b"y") + stdin(b"")) == [
        Stdin(b"x"),
        Abort(),
    ]
    assert responder.live
    assert responder.end(1).endswith(ended(1, 0, 1))
    assert responder.feed(abort + head()) == [Begin(1, 1, True, PARAMS)]


def test_abort_after_the_whole_body_is_told() -> None:
    responder = started()
    responder.feed(stdin(b""))
    assert responder.feed(encode_record(fcgi.ABORT_REQUEST, 1, b"")) == [Abort()]


@pytest.mark.parametrize("flags", [0, fcgi.KEEP_CONN])
def test_abort_before_the_request_was_told_of_is_ended_here(flags: int) -> None:
    responder = Responder()
    raw = begin(flags=flags) + encode_record(fcgi.PARAMS, 1, b"\1\1A1")
    answer = Reply(encode_record(fcgi.STDOUT, 1, b"") + ended(1, 0))
    assert responder.feed(raw + encode_record(fcgi.ABORT_REQUEST, 1, b"") + head(3)) == (
        [answer, Begin(3, 1, True, PARAMS)] if flags else [answer, Hangup()]
    )
    assert responder.live is bool(flags)


def test_abort_of_a_spoiled_request_is_told() -> None:
    responder = Responder()
    responder.feed(begin() + params(b"\1"))
    assert responder.feed(encode_record(fcgi.ABORT_REQUEST, 1, b"")) == [Abort()]
    assert responder.live


def test_values_that_are_asked_for_and_known_are_given() -> None:
    responder = Responder(max_conns=64, max_reqs=32)
    asked = {b"FCGI_MPXS_CONNS": b"", b"FCGI_MAX_REQS": b"", b"WHAT": b"", b"FCGI_MAX_CONNS": b""}
    (reply,) = responder.feed(encode_record(fcgi.GET_VALUES, 0, encode_params(asked)))
    assert isinstance(reply, Reply)
    (record,) = RecordParser().feed(reply.data)
    assert (record.kind, record.id) == (fcgi.GET_VALUES_RESULT, 0)
    decoder = ParamsDecoder()
    decoder.feed(record.content)
    assert decoder.finish() == {
        b"FCGI_MAX_CONNS": b"64",
        b"FCGI_MAX_REQS": b"32",
        b"FCGI_MPXS_CONNS": b"0",
    }
    assert responder.idle


def test_question_for_nothing_known_has_an_empty_answer() -> None:
    for content in (b"", encode_params({b"WHAT": b""})):
        reply = Reply(encode_record(fcgi.GET_VALUES_RESULT, 0, b""))
        assert Responder().feed(encode_record(fcgi.GET_VALUES, 0, content)) == [reply]


def test_partial_record_is_neither_idle_nor_forgotten() -> None:
    responder = Responder()
    responder.feed(b"\1")
    assert (responder.idle, responder.in_head) == (False, True)
    responder.feed(head()[1:])
    responder.end()
    assert (responder.idle, responder.in_head) == (True, False)
