"""The chunked coding, both ways. More of it is in requests/, as whole requests."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import PeerError
from gateway.wire.http_response import LAST_CHUNK, ChunkedDecoder, chunk


def test_chunk_of_nothing_does_not_end_the_body() -> None:
    assert chunk(b"") == b""
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


@given(st.lists(st.binary(max_size=200)), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_decoder_gives_back_what_chunk_took_however_cut(
    pieces: list[bytes], dice: random.Random
) -> None:
    data = b"".join(map(chunk, pieces)) + LAST_CHUNK + b"next"
    places = sorted(dice.choices(range(len(data) + 1), k=8))
    decoder = ChunkedDecoder()
    body = b"".join(decoder.feed(data[a:b]) for a, b in pairwise([0, *places, len(data)]))
    assert body == b"".join(pieces)
    assert decoder.ended
    assert decoder.rest == b"next"


def test_decoder_is_not_ended_before_the_last_line_end() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"1\r\nx\r\n0\r\nA: b\r\n\r") == b"x"
    assert not decoder.ended
    assert decoder.feed(b"\n") == b""
    assert decoder.ended


@pytest.mark.parametrize("data", [b"x\r\n", b"1\r\nab", b"1\n", b"\r\n", b"0\r\nx\r\n", b"-1\r\n"])
def test_decoder_refuses(data: bytes) -> None:
    with pytest.raises(PeerError):
        ChunkedDecoder().feed(data)


def test_small_chunks_with_plain_size_lines_are_never_too_many() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"1\r\nx\r\n" * 20_000) == b"x" * 20_000
