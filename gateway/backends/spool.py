"""Request bodies of unknown length, kept in an unnamed file until their length is known.

Decides where a chunked body waits when the program that takes it must be told CONTENT_LENGTH. Must
not know programs or protocols; how large a body may be is the request body stream's own decision.
"""

import os
import tempfile
from typing import IO

from gateway.exchange import Request

BLOCK = 65536
"""Bytes of one piece read back."""


class Spooled:
    """A whole request body in an unnamed file. Also a Stream over it, from its beginning."""

    __slots__ = ("_file", "_offset", "length")

    def __init__(self, file: IO[bytes], length: int) -> None:
        self._file = file
        self._offset = 0
        self.length = length
        """In bytes."""

    @property
    def fd(self) -> int:
        """Open for reading, its offset at 0; closed by `close`, so dup it to keep it."""
        return self._file.fileno()

    async def read(self) -> bytes:
        piece = os.pread(self._file.fileno(), BLOCK, self._offset)
        self._offset += len(piece)
        return piece

    def close(self) -> None:
        """Let go of the file, and with it of the data. Idempotent."""
        self._file.close()


async def spool(request: Request) -> Spooled:
    """Read the whole body of `request` into an unnamed temporary file (O_TMPFILE where it exists).

    Raises what the body raises (`Refused` 413 when it is too large), OSError when the disk is full.
    """
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it outlives this function
    length = 0
    try:
        while piece := await request.body.read():
            view = memoryview(piece)
            while view:
                view = view[os.write(file.fileno(), view) :]
            length += len(piece)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        spooled, file = Spooled(file, length), None  # type: ignore[assignment]
        return spooled
    finally:
        if file is not None:
            file.close()
