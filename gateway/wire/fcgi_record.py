"""FastCGI 1.0 records: the eight bytes of header, the content, the padding, and nothing above them.

Decides how content is cut into records and put together again. Must not know what a record means
for a request: that is `fcgi_requester` (asking) and `fcgi_responder` (answering).

Standard: FastCGI 1.0, sections 3.3 (records), 5 (application records) and 8 (types and constants).
"""

from struct import Struct
from typing import NamedTuple

from gateway.wire import PeerError

VERSION = 1
NULL_REQUEST = 0
"""The id of management records (section 3.3)."""

BEGIN_REQUEST = 1
ABORT_REQUEST = 2
END_REQUEST = 3
PARAMS = 4
STDIN = 5
STDOUT = 6
STDERR = 7
DATA = 8
GET_VALUES = 9
GET_VALUES_RESULT = 10
UNKNOWN_TYPE = 11

RESPONDER = 1
AUTHORIZER = 2
FILTER = 3

KEEP_CONN = 1
"""The one flag of BEGIN_REQUEST."""

REQUEST_COMPLETE = 0
CANT_MPX_CONN = 1
OVERLOADED = 2
UNKNOWN_ROLE = 3

MAX_CONTENT = 65535
"""The length of a content is 16 bits wide. One byte more has to be a second record: HAProxy once
stored a longer length in those 16 bits, and the bytes after it were read as records."""

HEADER = Struct(">BBHHBx")
"""Version, type, request id, content length, padding length, reserved."""
HEADER_SIZE = 8
BEGIN_BODY = Struct(">HB5x")
"""Role, flags, reserved (section 5.1)."""
END_BODY = Struct(">LB3x")
"""Application status, protocol status, reserved (section 5.5)."""

_STREAMS = frozenset((PARAMS, STDIN, STDOUT, STDERR, DATA))
_PADDING = tuple(bytes(size) for size in range(8))


class Record(NamedTuple):
    """One record as it came, without its padding. A tuple, because a hot path makes many."""

    kind: int
    id: int
    content: bytes


def encode_record(kind: int, id: int, content: bytes) -> bytes:
    """Return `content` as records of one type, padded to eight bytes.

    Empty content is one empty record, which ends a stream. Content above 65,535 bytes becomes
    several records, which only the stream types (section 3.3) may be.

    Raises ValueError for an id or type out of range, and for a discrete record that is too long.
    """
    if not (0 <= id <= 0xFFFF and 0 <= kind <= 0xFF):
        raise ValueError(f"no such record: type {kind}, request id {id}")
    size = len(content)
    if size <= MAX_CONTENT:
        padding = -size & 7
        return HEADER.pack(VERSION, kind, id, size, padding) + content + _PADDING[padding]
    if kind not in _STREAMS:
        raise ValueError(f"{size} bytes do not fit into one record of type {kind}")
    parts: list[bytes | memoryview] = []
    view = memoryview(content)
    for start in range(0, size, MAX_CONTENT):
        piece = view[start : start + MAX_CONTENT]
        padding = -len(piece) & 7
        parts += (HEADER.pack(VERSION, kind, id, len(piece), padding), piece, _PADDING[padding])
    return b"".join(parts)


class RecordParser:
    """Bytes in any pieces to whole records.

    Holds at most one record that is not yet whole: 8 + 65,535 + 255 bytes, besides the piece that
    is being fed. `status` is the HTTP status of the `PeerError` for what is not FastCGI 1.0.
    """

    __slots__ = ("_held", "_needed", "_status")

    def __init__(self, status: int = 400) -> None:
        self._held = bytearray()
        self._needed = HEADER_SIZE
        self._status = status

    @property
    def held(self) -> int:
        """Bytes of a record that has begun and is not whole."""
        return len(self._held)

    def feed(self, data: bytes) -> list[Record]:
        """Return the records that `data` completes, in order.

        Raises PeerError for a version other than 1. Whole records before it in the same piece are
        lost with it (`take` keeps them), and every later call raises again: the connection cannot
        be trusted.
        """
        records: list[Record] = []
        self.take(data, records)
        return records

    def take(self, data: bytes, records: list[Record]) -> None:
        """Append the records that `data` completes, also those before a fault. Raises as `feed`."""
        if self._held:
            # Gathered until it is enough, so that a peer who sends single bytes costs no more
            # than one who does not.
            self._held += data
            if len(self._held) < self._needed:
                return
            data = bytes(self._held)
        position, end = 0, len(data)
        needed = HEADER_SIZE
        while end - position >= HEADER_SIZE:
            version, kind, id, size, padding = HEADER.unpack_from(data, position)
            if version != VERSION:
                self._held = bytearray(data[position : position + HEADER_SIZE])
                self._needed = HEADER_SIZE
                raise PeerError(self._status, "a FastCGI record has a version other than 1")
            needed = HEADER_SIZE + size + padding
            if end - position < needed:
                break
            start = position + HEADER_SIZE
            records.append(Record(kind, id, data[start : start + size]))
            position += needed
            needed = HEADER_SIZE
        self._held = bytearray(data[position:])
        self._needed = needed
