import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import PeerError
from gateway.wire.fcgi_params import MAX_COUNT, MAX_TOTAL, ParamsDecoder, encode_params


def decode(*pieces: bytes, decoder: ParamsDecoder | None = None) -> dict[bytes, bytes]:
    decoder = decoder or ParamsDecoder()
    for piece in pieces:
        decoder.feed(piece)
    return decoder.finish()


@pytest.mark.parametrize(
    ("pairs", "raw"),
    [
        ({}, b""),
        ({b"A": b""}, b"\1\0A"),
        ({b"A": b"1", b"BB": b"22"}, b"\1\1A1\2\2BB22"),
        ({b"A": b"x" * 127}, b"\1\x7fA" + b"x" * 127),
        ({b"A": b"x" * 128}, b"\1\x80\0\0\x80A" + b"x" * 128),
        ({b"n" * 128: b"v"}, b"\x80\0\0\x80\1" + b"n" * 128 + b"v"),
        ({b"n" * 300: b"v" * 70000}, b"\x80\0\1\x2c\x80\1\x11\x70" + b"n" * 300 + b"v" * 70000),
    ],
)
def test_pairs_and_their_bytes(pairs: dict[bytes, bytes], raw: bytes) -> None:
    assert encode_params(pairs) == raw
    assert encode_params(list(pairs.items())) == raw
    assert decode(raw) == pairs


names = st.binary(min_size=1, max_size=40) | st.integers(126, 129).map(lambda n: b"n" * n)
values = st.binary(max_size=40) | st.sampled_from((126, 127, 128, 129, 255, 256, 65535, 65536)).map(
    lambda n: b"v" * n
)


def clean(text: bytes) -> bytes:
    return text.replace(b"\0", b"0").replace(b"=", b"-")


@given(
    pairs=st.dictionaries(names.map(clean), values.map(clean), max_size=8),
    cuts=st.lists(st.integers(0, 1 << 20), max_size=20),
)
@settings(deadline=None, max_examples=100)
def test_pairs_come_back_however_they_are_cut(pairs: dict[bytes, bytes], cuts: list[int]) -> None:
    raw = encode_params(pairs)
    places = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    pieces = [raw[start:stop] for start, stop in itertools.pairwise(places)]
    back = decode(*pieces, decoder=ParamsDecoder(total=1 << 20))
    assert list(back.items()) == list(pairs.items())


def test_cut_at_every_byte_also_inside_a_length() -> None:
    pairs = {b"SHORT": b"1", b"n" * 200: b"v" * 200, b"EMPTY": b""}
    raw = encode_params(pairs)
    for place in range(len(raw) + 1):
        assert decode(raw[:place], raw[place:]) == pairs


def test_every_cut_off_end_is_refused() -> None:
    whole = encode_params({b"A": b"1", b"LONG": b"v" * 200})
    ends_of_pairs = (0, 4)
    for place in range(len(whole)):
        if place in ends_of_pairs:
            continue
        with pytest.raises(PeerError) as caught:
            decode(whole[:place])
        assert caught.value.status == 400


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff\xff\xff\1A",  # 0x7fffffff, the length that libfcgi added up (CVE-2025-23016)
        b"\xff\xff\xff\xff\xff\xff\xff\xffAB",
        b"\1\xff\xff\xff\xffA",
        b"\1\2A1",
        b"\x80",
        b"\1",
        b"\1\x80\0\0",
        b"\0\1x",  # no name
        b"\x80\0\0\0\1x",
        b"\4\1LA=Bx",
        b"\2\1A\0x",
        b"\1\2Ax\0",
        b"\0\0" * 10,
    ],
)
def test_impossible_pair_is_refused(raw: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        decode(raw)
    assert caught.value.status == 400


def test_last_value_of_a_repeated_name_counts_once() -> None:
    raw = encode_params([(b"SCRIPT_FILENAME", b"/a"), (b"B", b"b"), (b"SCRIPT_FILENAME", b"/c")])
    assert decode(raw) == {b"SCRIPT_FILENAME": b"/c", b"B": b"b"}


def test_long_form_of_a_short_length_is_taken() -> None:
    assert decode(b"\x80\0\0\1\x80\0\0\1A1") == {b"A": b"1"}


def test_total_is_bounded_while_it_arrives() -> None:
    decoder = ParamsDecoder()
    decoder.feed(bytes(MAX_TOTAL))
    with pytest.raises(PeerError) as caught:
        decoder.feed(b"x")
    assert caught.value.status == 431


def test_number_is_bounded_also_for_one_name_repeated() -> None:
    assert decode(b"\1\0A" * MAX_COUNT) == {b"A": b""}
    with pytest.raises(PeerError) as caught:
        decode(b"\1\0A" * (MAX_COUNT + 1))
    assert caught.value.status == 431


def test_status_for_a_worker_is_the_one_that_was_asked_for() -> None:
    with pytest.raises(PeerError) as caught:
        decode(b"\1", decoder=ParamsDecoder(status=502))
    assert caught.value.status == 502


def test_decoder_can_be_used_again() -> None:
    decoder = ParamsDecoder()
    assert decode(b"\1\1A1", decoder=decoder) == {b"A": b"1"}
    assert decode(b"\1\1B2", decoder=decoder) == {b"B": b"2"}


def test_held_is_what_waits_to_be_decoded() -> None:
    decoder = ParamsDecoder()
    decoder.feed(b"\1\1A")
    assert decoder.held == 3
    decoder.feed(b"1")
    assert decoder.finish() == {b"A": b"1"}
    assert decoder.held == 0
