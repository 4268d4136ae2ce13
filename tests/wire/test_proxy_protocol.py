"""The PROXY protocol: fed whole, byte by byte and in random splits."""

import random
from itertools import pairwise
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import PeerError
from gateway.wire.proxy_protocol import BLOCK_MAX, SIGNATURE, Preface, ProxyParser, crc32c

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
FOUR = bytes((192, 0, 2, 1, 198, 51, 100, 9)) + pack(">HH", 56324, 443)
SIX = bytes.fromhex("20010db8" + "0" * 23 + "1" + "20010db8" + "0" * 23 + "2") + pack(">HH", 1, 2)
UNIX = b"/run/a.sock".ljust(108, b"\0") + b"/run/b.sock".ljust(108, b"\0")
PROXY, LOCAL = 0x21, 0x20
TCP4, TCP6, STREAM = 0x11, 0x21, 0x31
TO_FOUR = (("192.0.2.1", 56324), ("198.51.100.9", 443))
TO_SIX = (("2001:db8::1", 1), ("2001:db8::2", 2))


def header(block: bytes, kind: int = TCP4, command: int = PROXY) -> bytes:
    return SIGNATURE + bytes((command, kind)) + pack(">H", len(block)) + block


def tlv(kind: int, value: bytes) -> bytes:
    return pack(">BH", kind, len(value)) + value


def with_checksum(block: bytes, kind: int = TCP4) -> bytes:
    """Return a header whose checksum stands between its other TLVs."""
    blank = header(block + tlv(3, bytes(4)) + tlv(4, b"after"), kind)
    at = 16 + len(block) + 3
    return blank[:at] + pack(">I", crc32c(blank)) + blank[at + 4 :]


def ssl(client: int, more: bytes = b"") -> bytes:
    return tlv(0x20, bytes((client,)) + bytes(4) + more)


def run(data: bytes, places: list[int]) -> Preface | None:
    """Feed `data` cut at `places`, and what is left after the preface as its rest."""
    parser = ProxyParser()
    for start, stop in pairwise([0, *places, len(data)]):
        preface = parser.feed(data[start:stop])
        if preface is not None:
            return preface._replace(rest=preface.rest + data[stop:])
        assert parser.held <= 16 + BLOCK_MAX
    return None


def cuts(data: bytes) -> list[list[int]]:
    dice = random.Random(len(data))
    return [[], list(range(1, len(data)))] + [
        sorted(dice.choices(range(len(data) + 1), k=5)) for _ in range(5)
    ]


GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.9 56324 443\r\n", TO_FOUR, False),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
     (("255.255.255.255", 65535), ("255.255.255.255", 65535)), False),
    (b"PROXY TCP4 192.0.2.1 198.51.100.9 0 0\r\n",
     (("192.0.2.1", 0), ("198.51.100.9", 0)), False),
    (b"PROXY TCP6 2001:DB8::1 2001:db8:0:0:0:0:0:2 1 2\r\n", TO_SIX, False),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", (("192.0.2.1", 1), ("::1", 2)), False),
    (b"PROXY UNKNOWN\r\n", None, False),
    (b"PROXY UNKNOWN what ever, \xff\0 stands here\r\n", None, False),
    (b"PROXY UNKNOWN" + b" ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" * 2 + b" 65535 65535\r\n",
     None, False),
    (header(FOUR), TO_FOUR, False),
    (header(FOUR, 0x12), TO_FOUR, False),
    (header(SIX, TCP6), TO_SIX, False),
    (header(SIX, 0x22), TO_SIX, False),
    (header(UNIX, STREAM), None, False),
    (header(UNIX + ssl(1), 0x32), None, True),
    (header(b"", 0), None, False),
    (header(b"\xff" * 99, 0), None, False),
    (header(b"", 0x10), None, False),
    (header(b"", 0x01), None, False),
    (header(b"", 0, LOCAL), None, False),
    (header(FOUR + ssl(1), TCP4, LOCAL), None, False),
    (header(b"\xff" * 7, 0xFF, LOCAL), None, False),
    (header(FOUR + tlv(4, b"") + ssl(1, tlv(0x21, b"TLSv1.3")) + tlv(0xEA, b"v")), TO_FOUR, True),
    (header(FOUR + ssl(0x07)), TO_FOUR, True),
    (header(FOUR + ssl(0x06)), TO_FOUR, False),
    (header(FOUR + tlv(4, bytes(BLOCK_MAX - len(FOUR) - 3))), TO_FOUR, False),
    (with_checksum(FOUR + ssl(1)), TO_FOUR, True),
    (with_checksum(SIX, TCP6), TO_SIX, False),
]  # fmt: skip


@pytest.mark.parametrize(("data", "ends", "tls"), GOOD)
@pytest.mark.parametrize("rest", [b"", GET, b"\r\n\r\n", b"PROXY UNKNOWN\r\n"])
def test_header_is_read_however_cut(
    data: bytes,
    ends: tuple[tuple[str, int], tuple[str, int]] | None,
    tls: bool,
    rest: bytes,
) -> None:
    source, destination = ends or (None, None)
    expected = Preface(source, destination, tls, rest)
    for places in cuts(data + rest):
        assert run(data + rest, places) == expected


@pytest.mark.parametrize("data", [data for data, _, _ in GOOD])
def test_a_header_that_is_not_whole_is_waited_for(data: bytes) -> None:
    parser = ProxyParser()
    for index in range(len(data) - 1):
        assert parser.feed(data[index : index + 1]) is None
        assert parser.held == index + 1


BAD = [
    GET,
    b"\x16\x03\x01\x02\x00\x01",
    b"X",
    b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY\tTCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b" PROXY UNKNOWN\r\n",
    b"\r\nPROXY UNKNOWN\r\n",
    b"PROXYv1",
    b"PROXY \r\n",
    b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\nGET / HTTP/1.1\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rGET / HTTP/1.1\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 00\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 100000\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 \xd9\xa1 2\r\n",
    b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 localhost 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP4 ::ffff:1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP6 ::1 5.6.7.8 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY TCP6 [::1] [::1] 1 2\r\n",
    b"PROXY TCP6 1::2::3 ::1 1 2\r\n",
    b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY unknown\r\n",
    b"PROXY UNKNOWN\n",
    b"PROXY UNKNOWN a\rb\r\n",
    b"PROXY UNKNOWN a\nb\r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY TCP4 1.2.3.4 " + b"5" * 200,
    SIGNATURE[:11] + b"\r" + header(FOUR)[12:],
    header(FOUR, command=0x11),
    header(FOUR, command=0x31),
    header(FOUR, command=0x22),
    header(FOUR, command=0x2F),
    header(FOUR, 0x13),
    header(FOUR, 0x41),
    header(FOUR, 0xFF),
    header(b""),
    header(FOUR[:-1]),
    header(SIX[:-1], TCP6),
    header(FOUR, TCP6),
    header(UNIX[:-1], STREAM),
    header(FOUR + b"\x04"),
    header(FOUR + b"\x04\x00"),
    header(FOUR + b"\x04\x00\x01"),
    header(FOUR + tlv(4, b"x")[:-1]),
    header(FOUR + b"\x04\xff\xff" + b"x" * 100),
    header(FOUR + tlv(4, b"") + b"\x04\x00"),
    header(FOUR + tlv(0x20, b"\x01")),
    header(FOUR + tlv(0x20, b"")),
    header(FOUR + tlv(3, b"\0\0\0")),
    header(FOUR + tlv(3, bytes(4))),
    with_checksum(FOUR).replace(b"after", b"later"),
    header(FOUR + tlv(3, bytes(4)) * 2),
    header(bytes(BLOCK_MAX + 1)),
    header(bytes(65535), 0, LOCAL),
]


@pytest.mark.parametrize("data", BAD)
def test_anything_else_is_refused_however_cut(data: bytes) -> None:
    for places in cuts(data):
        with pytest.raises(PeerError) as refused:
            run(data, places)
        assert refused.value.status == 400


@pytest.mark.parametrize(
    ("data", "enough"),
    [
        (GET, 1),
        (b"POST /", 2),
        (b"PUT /", 2),
        (b"PROXYing", 6),
        (b"\r\nGET /", 3),
        (header(FOUR, 0x41), 16),
        (header(bytes(BLOCK_MAX + 1)), 16),
        (b"PROXY UNKNOWN " + b"x" * 200, 107),
    ],
)
def test_refused_as_soon_as_it_is_certain(data: bytes, enough: int) -> None:
    parser = ProxyParser()
    for index in range(enough - 1):
        assert parser.feed(data[index : index + 1]) is None
    with pytest.raises(PeerError):
        parser.feed(data[enough - 1 : enough])


def test_what_is_said_has_no_byte_of_the_peer() -> None:
    for data in BAD:
        with pytest.raises(PeerError) as refused:
            ProxyParser().feed(data)
        assert refused.value.say.isascii()
        assert refused.value.say.isprintable()


def test_checksum_of_the_standards_example() -> None:
    # RFC 3720 appendix B.4 has these for the same polynomial.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@given(st.binary(max_size=120), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21"]))
def test_nothing_but_a_preface_or_a_refusal_comes_of_any_bytes(tail: bytes, start: bytes) -> None:
    try:
        preface = ProxyParser().feed(start + tail)
    except PeerError:
        return
    assert preface is None or (start + tail).endswith(preface.rest)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6), st.integers(0, 65535), st.integers(0, 65535))
def test_every_address_and_port_comes_through_both_versions(
    address: object, port: int, other: int
) -> None:
    four = "." in str(address) and ":" not in str(address)
    word = b"TCP4" if four else b"TCP6"
    text = str(address).encode()
    line = b"PROXY %b %b %b %d %d\r\n" % (word, text, text, port, other)
    packed: bytes = address.packed  # type: ignore[attr-defined]
    block = packed + packed + pack(">HH", port, other)
    one = ProxyParser().feed(line)
    assert one is not None
    assert one.source is not None
    assert one == ProxyParser().feed(header(block, TCP4 if four else TCP6))
    assert one.source[1] == port
    assert one.destination == (one.source[0], other)
