"""The PROXY protocol, versions 1 and 2, receiving side: who is behind the proxy that connected.

Decides where the header ends that stands before everything else on a connection, and whose
connection it announces. Must not know whether the sender may be believed, nor what follows.

The header is mandatory where it is expected: a connection that begins with anything else is
refused, never taken as one without it, or a client could choose who it is (section 2 of the
standard). So is one that matches the protocol in part only.

Standard: "The PROXY protocol, Versions 1 & 2", HAProxy, sections 2.1 and 2.2.
"""

import re
from struct import Struct
from typing import Final, NamedTuple

from gateway.wire import PeerError
from gateway.wire.ip import PORT_MAX, ip_packed, ip_text

LINE_MAX: Final = 107
"""Bytes of the longest header of version 1, with its line end (section 2.1)."""
BLOCK_MAX: Final = 4096
"""Bytes that may follow the 16 of a header of version 2. The addresses have 216 at most; the rest
is for TLVs, of which the longest that are sent are certificates of clients."""

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_LINE_START: Final = b"PROXY "

_HEADER = Struct(">12sBBH")
_HEADER_SIZE = 16
_LOCAL, _PROXY = 0x20, 0x21
_UNIX = Struct(">108s108s")
_ADDRESSES = {1: Struct(">4s4sHH"), 2: Struct(">16s16sHH"), 3: _UNIX}
"""Family (IPv4, IPv6, Unix) -> source, destination and their ports; 0 is unspecified."""
_FAMILY_MAX = 3
_TRANSPORT_MAX = 2
"""Unspecified, stream, datagram. A proxy that has the client by QUIC may say datagram."""

_CRC32C, _SSL = 0x03, 0x20
_CLIENT_SSL = 0x01
"""The bit of PP2_TYPE_SSL that says: the client came by TLS (section 2.2.5)."""
_SSL_SIZE = 5

_line = re.compile(
    rb"PROXY (?:(TCP[46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
    rb"|UNKNOWN(?: [^\r\n]*)?)\r\n"
).fullmatch


class Preface(NamedTuple):
    """What the header said."""

    source: tuple[str, int] | None
    """Address and port of the client; None when the connection's own peer counts: a health check of
    the proxy itself, a client behind a Unix socket, one that the proxy does not know."""
    destination: tuple[str, int] | None
    """Address and port that the client connected to; None together with `source`."""
    tls: bool
    """The client came to the proxy by TLS. Only version 2 can say so."""
    rest: bytes
    """What came after the header."""


class ProxyParser:
    """Takes the header off one connection. Not to be fed again once it gave a `Preface` or raised.

    Holds at most a header that is not complete: 16 + `BLOCK_MAX` bytes, besides the piece that is
    being fed.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def held(self) -> int:
        """Bytes of a header that has begun and is not whole."""
        return len(self._held)

    def feed(self, data: bytes) -> Preface | None:
        """Take what arrived; return what it says once it is whole, None while it is not.

        Raises:
            PeerError: 400 for anything that is not a whole and valid header; as soon as that is
                certain, so that the operator of the proxy notices.
        """
        held = self._held
        held += data
        if SIGNATURE.startswith(held[: len(SIGNATURE)]):
            return self._binary() if len(held) >= _HEADER_SIZE else None
        if _LINE_START.startswith(held[: len(_LINE_START)]):
            return self._text()
        raise PeerError(400, "The connection does not begin with a PROXY protocol header.")

    def _text(self) -> Preface | None:
        held = self._held
        end = held.find(b"\n", 0, LINE_MAX) + 1
        if not end:
            if len(held) >= LINE_MAX:
                raise PeerError(400, "The PROXY protocol line is too long.")
            return None
        match = _line(bytes(held[:end]))
        if match is None:
            raise PeerError(400, "The PROXY protocol line is malformed.")
        rest = bytes(held[end:])
        kind, *words = match.groups()
        if kind is None:
            return Preface(None, None, False, rest)
        # A colon in exactly the addresses of TCP6: what is mapped is written as IPv4 only later.
        six = kind == b"TCP6"
        hosts = [ip_text(word) for word in words[:2] if (b":" in word) is six]
        ports = [int(word) for word in words[2:]]
        if len(hosts) != 2 or not all(hosts) or max(ports) > PORT_MAX:
            raise PeerError(400, "The PROXY protocol line has an invalid address or port.")
        return Preface((hosts[0], ports[0]), (hosts[1], ports[1]), False, rest)

    def _binary(self) -> Preface | None:
        held = self._held
        _, command, kind, size = _HEADER.unpack_from(held)
        family, transport = kind >> 4, kind & 15
        if command not in (_LOCAL, _PROXY):
            raise PeerError(400, "The PROXY protocol header has an unknown version or command.")
        if command == _PROXY and (family > _FAMILY_MAX or transport > _TRANSPORT_MAX):
            raise PeerError(400, "The PROXY protocol header has an unknown address family.")
        if size > BLOCK_MAX:
            raise PeerError(400, "The PROXY protocol header is too long.")
        end = _HEADER_SIZE + size
        if len(held) < end:
            return None
        rest = bytes(held[end:])
        if command == _LOCAL or not family or not transport:
            # The standard: skip the block, whatever it holds, and use the real addresses.
            return Preface(None, None, False, rest)
        addresses = _ADDRESSES[family]
        start = _HEADER_SIZE + addresses.size
        if end < start:
            raise PeerError(400, "The PROXY protocol header is too short for its addresses.")
        tls = _read_tlvs(bytes(held[:end]), start)
        if addresses is _UNIX:
            return Preface(None, None, tls, rest)
        source, destination, port, other = addresses.unpack_from(held, _HEADER_SIZE)
        return Preface((ip_packed(source), port), (ip_packed(destination), other), tls, rest)


def _read_tlvs(header: bytes, position: int) -> bool:
    """Return whether the client came by TLS. Raises PeerError for TLVs that do not fit or lie."""
    tls = False
    end = len(header)
    checksum = 0
    while position < end:
        # A cut-off type and length give a size that does not fit either.
        kind = header[position]
        value = position + 3
        size = int.from_bytes(header[position + 1 : value], "big")
        position = value + size
        if value > end or position > end:
            raise PeerError(400, "The PROXY protocol header ends inside a TLV.")
        if kind == _SSL:
            if size < _SSL_SIZE:
                raise PeerError(400, "The PROXY protocol header has a malformed TLV.")
            tls = bool(header[value] & _CLIENT_SSL)
        elif kind == _CRC32C:
            if size != 4 or checksum:
                raise PeerError(400, "The PROXY protocol header has a malformed TLV.")
            checksum = value
    if checksum:
        said = int.from_bytes(header[checksum : checksum + 4], "big")
        if crc32c(header[:checksum] + bytes(4) + header[checksum + 4 :]) != said:
            raise PeerError(400, "The PROXY protocol header has a wrong checksum.")
    return tls


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC = _crc_table()


def crc32c(data: bytes) -> int:
    """Return the checksum of RFC 4960 appendix B (Castagnoli), which `zlib` has not.

    About 70 ns a byte: some 7 us for a usual header, once a connection, if the proxy sends one.
    """
    crc = 0xFFFFFFFF
    table = _CRC
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
