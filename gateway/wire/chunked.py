"""The chunked coding, both ways: for request bodies, for answers, for scripts that chunk.

Decides where a chunked message ends. Must not know what the message is. RFC 9112 section 7.1.

The decoder is our own although llhttp has one, because httptools does not say at which byte a
message ended, and a request that follows in the same piece must be checked before llhttp sees it.
It takes less than the RFC allows: no white space around a size, at most 15 digits of it.
"""

import re
from enum import Enum
from typing import Final

from gateway.wire import PeerError
from gateway.wire.headers import is_field_value, is_token

LAST_CHUNK: Final = b"0\r\n\r\n"
"""Ends a chunked body that has no trailers."""

SIZE_LINE: Final = 4096
"""Longest chunk-size line with its extensions (Node.js 16 KiB, Go 4 KiB, hyper 16 KiB in sum)."""

OVERHEAD: Final = 16384
"""Bytes of size lines beyond a fair share that one message may have.

Each chunk earns room for a plain size line and two bytes for each byte of data, so that only
extensions, or thousands of one-byte chunks with them, reach it (CVE-2023-39326 in Go).
"""

TRAILER_FIELDS: Final = 100
TRAILER_BYTES: Final = 16384

_size_line = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?").fullmatch


class _State(Enum):
    SIZE = "size line"
    DATA = "data"
    DATA_END = "line end after data"
    TRAILER = "trailer"
    ENDED = "ended"


def chunk(data: bytes) -> bytes:
    """Return `data` as one chunk; b"" for b"", because an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class ChunkedDecoder:
    """Takes the chunked coding off one message, however it is cut; checks and drops trailers."""

    __slots__ = ("_fields", "_left", "_line", "_overhead", "_state", "_trailer", "rest")

    def __init__(self) -> None:
        self._state = _State.SIZE
        self._left = 0
        self._line = bytearray()
        self._overhead = 0
        self._fields = 0
        self._trailer = 0
        self.rest = b""
        """What `feed` was given beyond the end of the message."""

    @property
    def ended(self) -> bool:
        """True once the last chunk and the trailers are in."""
        return self._state is _State.ENDED

    def feed(self, data: bytes) -> bytes:
        """Return the body bytes in `data`; what follows the end of the message goes to `rest`.

        Raises:
            PeerError: 400 or 431; the decoder is of no use afterwards.
        """
        pieces: list[bytes] = []
        used = self.take(data, 0, pieces)
        self.rest += data[used:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def take(self, data: bytes, pos: int, pieces: list[bytes]) -> int:
        """Decode `data` from `pos`, append what is body to `pieces`, return where it stopped.

        It stops at the end of `data` or of the message. Pieces from before an error are appended.

        Raises:
            PeerError: as `feed`.
        """
        size = len(data)
        while pos < size and self._state is not _State.ENDED:
            if self._state is _State.DATA:
                stop = min(size, pos + self._left)
                pieces.append(data if stop - pos == size else data[pos:stop])
                self._left -= stop - pos
                pos = stop
                if not self._left:
                    self._state = _State.DATA_END
                continue
            stop = data.find(b"\n", pos) + 1
            if not stop:
                self._line += data[pos:]
                self._part()
                return size
            line = data[pos:stop]
            if self._line:
                line = bytes(self._line + line)
                self._line.clear()
            pos = stop
            self._whole(line)
        return pos

    def _part(self) -> None:
        """Refuse early what can no longer become a good line."""
        line = self._line
        if self._state is _State.DATA_END and line != b"\r":
            raise PeerError(400, "A chunk is longer than its size says.")
        if b"\r" in line[:-1]:
            raise PeerError(400, "A line of the chunked body has a bare CR.")
        if self._state is _State.SIZE and len(line) > SIZE_LINE:
            raise PeerError(400, "A chunk-size line is too long.")
        if self._state is _State.TRAILER and self._trailer + len(line) > TRAILER_BYTES:
            raise PeerError(431, "The trailer section is too large.")

    def _whole(self, line: bytes) -> None:
        """Take one line with its end."""
        if self._state is _State.DATA_END:
            if line != b"\r\n":
                raise PeerError(400, "A chunk is longer than its size says.")
            self._state = _State.SIZE
            return
        if line[-2:] != b"\r\n":
            raise PeerError(400, "A line of the chunked body ends in a bare LF.")
        if self._state is _State.SIZE:
            self._size(line)
        else:
            self._trailer_line(line)

    def _size(self, line: bytes) -> None:
        if len(line) > SIZE_LINE:
            raise PeerError(400, "A chunk-size line is too long.")
        match = _size_line(line, 0, len(line) - 2)
        if match is None:
            raise PeerError(400, "A chunk-size line is malformed.")
        self._left = int(match[1], 16)
        self._overhead = max(0, self._overhead + len(line) - 18 - 2 * self._left)
        if self._overhead > OVERHEAD:
            raise PeerError(400, "The chunked body has too many extensions.")
        self._state = _State.DATA if self._left else _State.TRAILER

    def _trailer_line(self, line: bytes) -> None:
        if line == b"\r\n":
            self._state = _State.ENDED
            return
        self._trailer += len(line)
        self._fields += 1
        if self._trailer > TRAILER_BYTES or self._fields > TRAILER_FIELDS:
            raise PeerError(431, "The trailer section is too large.")
        name, colon, value = line[:-2].partition(b":")
        if not colon or not is_token(name) or not is_field_value(value):
            raise PeerError(400, "A trailer field is malformed.")
