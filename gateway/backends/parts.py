"""A multipart/byteranges body (RFC 9110 section 14.6): several ranges of one file in one answer."""

import os
import secrets
from collections.abc import Sequence

from gateway.exchange import Truncated

PIECE = 65536
"""Bytes of the file that are read at once."""


class Parts:
    """The body, as a `Stream`. `length` is exact, so the answer has a Content-Length."""

    __slots__ = ("_fd", "_pieces", "boundary", "length")

    def __init__(
        self, fd: int, ranges: Sequence[tuple[int, int]], size: int, content_type: bytes
    ) -> None:
        """Read the half-open `ranges` from `fd`, which stays its owner's."""
        self._fd = fd
        self.boundary = secrets.token_hex(16).encode()  # no file can be made to hold it
        pieces: list[bytes | tuple[int, int]] = []
        for start, stop in ranges:
            pieces.append(
                b"\r\n--%b\r\nContent-Type: %b\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"
                % (self.boundary, content_type, start, stop - 1, size)
            )
            pieces.append((start, stop))
        pieces.append(b"\r\n--%b--\r\n" % self.boundary)
        self.length = sum(
            len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces
        )
        self._pieces = pieces
        pieces.reverse()  # the next piece is the last of the list

    async def read(self) -> bytes:
        """Return the next piece. Raises `Truncated` when the file has become shorter."""
        if not self._pieces:
            return b""
        piece = self._pieces.pop()
        if isinstance(piece, bytes):
            return piece
        start, stop = piece
        data = os.pread(self._fd, min(stop - start, PIECE), start)
        if not data:
            raise Truncated("the file became shorter while it was sent")
        if start + len(data) < stop:
            self._pieces.append((start + len(data), stop))
        return data
