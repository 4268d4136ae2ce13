"""FastCGI 1.0 name-value pairs: what PARAMS, GET_VALUES and GET_VALUES_RESULT carry.

Decides what a set of parameters may be. Must not know records, nor what any parameter means.

Standard: FastCGI 1.0, section 3.4. A length below 128 is one byte; a longer one is four bytes with
the high bit set. A pair, and even a length, may be cut at any byte by a record's end.
"""

from collections.abc import Iterable, Mapping

from gateway.wire import PeerError

_LONG = 0x80000000
_BYTE = tuple(bytes((value,)) for value in range(128))

MAX_TOTAL = 256 << 10
"""Encoded bytes of one set. A head of 64 KiB and what a server adds fit several times; nginx sends
what `large_client_header_buffers` let through (32 KiB), Apache 100 fields of 8 KiB at the most."""
MAX_COUNT = 1000
"""Pairs of one set."""


def encode_params(pairs: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the pairs in their order, as one string of bytes.

    Raises ValueError for a name or value of 2 GiB or more.
    """
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    byte = _BYTE
    parts: list[bytes] = []
    for name, value in items:
        names, values = len(name), len(value)
        if names < 128 and values < 128:
            parts += (byte[names], byte[values], name, value)
        else:
            parts += (_length(names), _length(values), name, value)
    return b"".join(parts)


def _length(size: int) -> bytes:
    if size < 128:
        return _BYTE[size]
    if size >= _LONG:
        raise ValueError("a FastCGI parameter must be shorter than 2 GiB")
    return (size | _LONG).to_bytes(4)


class ParamsDecoder:
    """The contents of a stream of PARAMS records, in any pieces, to a dictionary.

    The bytes are gathered up to a bound and decoded at the end: then no length that a peer claims
    can make anything large, and no cut can matter.

    A name that comes twice has its last value. nginx sends both when a site sets a
    `fastcgi_param` again after `include fastcgi_params`, and PHP, flup and Go's fcgi all take the
    last. So each name is emitted once (CVE-2016-2381 came of an environment with two).
    """

    __slots__ = ("_count", "_held", "_status", "_total")

    def __init__(
        self, *, total: int = MAX_TOTAL, count: int = MAX_COUNT, status: int = 400
    ) -> None:
        """`total` is in encoded bytes; `status` answers what is not a set of parameters."""
        self._held = bytearray()
        self._total = total
        self._count = count
        self._status = status

    @property
    def held(self) -> int:
        """Bytes that were fed and not yet decoded."""
        return len(self._held)

    def feed(self, data: bytes) -> None:
        """Take the next content. Raises PeerError when the set becomes too large."""
        if len(self._held) + len(data) > self._total:
            raise PeerError(431, f"the FastCGI parameters are larger than {self._total} bytes")
        self._held += data

    def finish(self) -> dict[bytes, bytes]:
        """Return the set, and be ready for another.

        Raises PeerError for a pair that is cut off, for too many pairs, and for one that could
        not stand in an environment: an empty name, a name with "=" or NUL, a value with NUL.
        """
        data = bytes(self._held)
        self._held.clear()
        try:
            pairs = self._decode(data)
        except IndexError:
            raise PeerError(self._status, "the length of a FastCGI parameter is cut off") from None
        names = b"".join(pairs)
        if b"" in pairs or b"=" in names:
            raise PeerError(self._status, "a FastCGI parameter has an impossible name")
        if b"\0" in names or b"\0" in b"".join(pairs.values()):
            raise PeerError(self._status, "a FastCGI parameter has a NUL byte")
        return pairs

    def _decode(self, data: bytes) -> dict[bytes, bytes]:
        """Return the pairs. Raises IndexError where a length is cut off."""
        pairs: dict[bytes, bytes] = {}
        position, end, left = 0, len(data), self._count
        while position < end:
            names = data[position]
            position += 1
            if names > 127:
                names, position = _long(data, position)
            values = data[position]
            position += 1
            if values > 127:
                values, position = _long(data, position)
            middle = position + names
            position = middle + values
            if position > end:
                raise PeerError(self._status, "a FastCGI parameter is longer than its stream")
            if not left:
                raise PeerError(431, f"there are more than {self._count} FastCGI parameters")
            left -= 1
            pairs[data[middle - names : middle]] = data[middle:position]
        return pairs


def _long(data: bytes, position: int) -> tuple[int, int]:
    """Return the length of four bytes that began before `position`, and what follows it."""
    after = position + 3
    if after > len(data):
        raise IndexError
    return int.from_bytes(data[position - 1 : after]) & ~_LONG, after
