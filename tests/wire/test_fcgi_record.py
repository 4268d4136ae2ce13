import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import PeerError
from gateway.wire.fcgi_record import (
    BEGIN_REQUEST,
    END_REQUEST,
    MAX_CONTENT,
    PARAMS,
    STDIN,
    STDOUT,
    Record,
    RecordParser,
    encode_record,
)

ONE_RECORD = 8 + 65535 + 255


def feed_cut(parser: RecordParser, data: bytes, cuts: list[int]) -> list[Record]:
    """Feed `data` cut at these places, and return all records."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    records: list[Record] = []
    for start, stop in itertools.pairwise(places):
        records += parser.feed(data[start:stop])
    return records


@pytest.mark.parametrize(
    ("kind", "id", "content", "raw"),
    [
        (BEGIN_REQUEST, 1, b"\0\1\1\0\0\0\0\0", b"\1\1\0\1\0\x08\0\0\0\1\1\0\0\0\0\0"),
        (STDIN, 1, b"", b"\1\5\0\1\0\0\0\0"),
        (STDIN, 0x1234, b"abc", b"\1\5\x12\x34\0\3\5\0abc\0\0\0\0\0"),
        (END_REQUEST, 0xFFFF, b"12345678", b"\1\3\xff\xff\0\x08\0\x0012345678"),
    ],
)
def test_record_and_its_bytes(kind: int, id: int, content: bytes, raw: bytes) -> None:
    assert encode_record(kind, id, content) == raw
    assert RecordParser().feed(raw) == [Record(kind, id, content)]


@pytest.mark.parametrize(
    "size", [0, 1, 7, 8, 9, 65528, 65534, 65535, 65536, 65537, 99000, 131070, 131071, 200000]
)
def test_content_of_any_size_comes_back_and_nothing_else(size: int) -> None:
    # The content is itself a row of records: a length cut to 16 bits would set them free.
    forged = b"\1\1\0\1\0\x08\0\0\0\1\0\0\0\0\0\0"
    content = (forged * (size // len(forged) + 1))[:size]
    raw = encode_record(STDIN, 1, content)
    assert len(raw) % 8 == 0
    records = RecordParser().feed(raw)
    assert b"".join(record.content for record in records) == content
    assert {(record.kind, record.id) for record in records} == {(STDIN, 1)}
    assert all(0 < len(record.content) <= MAX_CONTENT for record in records) or not size
    assert len(records) == max(1, -(-size // MAX_CONTENT))


def test_discrete_record_is_never_cut_in_two() -> None:
    assert len(encode_record(BEGIN_REQUEST, 1, bytes(65535))) == 8 + 65536
    with pytest.raises(ValueError, match="do not fit"):
        encode_record(BEGIN_REQUEST, 1, bytes(65536))


@pytest.mark.parametrize(("kind", "id"), [(256, 1), (-1, 1), (5, 65536), (5, -1)])
def test_numbers_that_no_record_can_carry_are_refused(kind: int, id: int) -> None:
    with pytest.raises(ValueError, match="no such record"):
        encode_record(kind, id, b"")


@given(
    records=st.lists(
        st.tuples(
            st.integers(0, 255),
            st.integers(0, 65535),
            st.binary(max_size=300) | st.integers(65500, 65535).map(bytes),
        ),
        max_size=6,
    ),
    cuts=st.lists(st.integers(0, 1 << 20), max_size=20),
)
@settings(deadline=None, max_examples=100)
def test_records_come_back_however_they_are_cut(
    records: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    raw = b"".join(encode_record(*record) for record in records)
    assert feed_cut(RecordParser(), raw, cuts) == records


def test_records_fed_byte_by_byte() -> None:
    raw = encode_record(PARAMS, 1, b"abc") + encode_record(PARAMS, 1, b"")
    parser = RecordParser()
    records = [record for byte in raw for record in parser.feed(bytes((byte,)))]
    assert records == [Record(PARAMS, 1, b"abc"), Record(PARAMS, 1, b"")]
    assert parser.held == 0


@pytest.mark.parametrize("padding", [0, 1, 7, 8, 255])
def test_any_padding_is_left_out(padding: int) -> None:
    raw = b"\1\6\0\1\0\3" + bytes((padding, 0)) + b"abc" + b"\1" * padding
    parser = RecordParser()
    assert parser.feed(raw + raw) == [Record(STDOUT, 1, b"abc")] * 2
    assert parser.feed(raw[:-1]) == []
    assert parser.feed(raw[-1:]) == [Record(STDOUT, 1, b"abc")]


@pytest.mark.parametrize("version", [0, 2, 72, 255])
def test_other_version_is_refused_and_the_parser_stays_dead(version: int) -> None:
    parser = RecordParser(502)
    good = encode_record(STDOUT, 1, b"x")
    with pytest.raises(PeerError) as caught:
        parser.feed(good + bytes((version,)) + good[1:])
    assert caught.value.status == 502
    for _ in range(2):
        with pytest.raises(PeerError):
            parser.feed(good)


def test_records_before_a_fault_can_be_kept() -> None:
    records: list[Record] = []
    with pytest.raises(PeerError):
        RecordParser().take(encode_record(STDOUT, 1, b"x") + bytes(8), records)
    assert records == [Record(STDOUT, 1, b"x")]


def test_nothing_is_decided_before_a_header_is_whole() -> None:
    parser = RecordParser()
    assert parser.feed(b"\2\1\0\1\0\0\0") == []
    with pytest.raises(PeerError) as caught:
        parser.feed(b"\0")
    assert caught.value.status == 400


def test_no_more_than_one_record_is_held() -> None:
    parser = RecordParser()
    raw = (b"\1\6\0\1\xff\xff\xff\0" + bytes(65535 + 255)) * 4
    for start in range(0, len(raw), 1000):
        parser.feed(raw[start : start + 1000])
        assert parser.held < ONE_RECORD
