"""Figures that a process hands to its master: JSON in a memory file that cannot change any more.

Decides that its size does not matter to the channel, and that the reader never waits and never
reads more than it wants: a keeper belongs to a user, who may hand over whatever he likes. Only a
memory file can have seals (memfd_create(2)); a pipe or a file of another file system has none. Must
not know what the figures mean.
"""

import fcntl
import json
import os
from collections.abc import Mapping

FIGURES_MAX = 16 << 20
"""Longest document in bytes that is read: 2,000 sites are about 1.5 MB."""

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def sealed(figures: Mapping[str, object]) -> int:
    """Return a descriptor of the figures, the caller's to close. Raises OSError."""
    data = json.dumps(figures, separators=(",", ":")).encode()
    fd = os.memfd_create("figures", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        written = 0
        while written < len(data):
            written += os.write(fd, data[written:])
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def unsealed(fd: int, most: int = FIGURES_MAX) -> dict[str, object]:
    """Return the figures behind a descriptor, which stays the caller's to close.

    Raises ValueError for what `sealed` cannot have made, or has more than `most` bytes.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        size = os.fstat(fd).st_size
        if seals & _SEALS != _SEALS:
            raise ValueError("figures that may still change")
        if size > most:
            raise ValueError(f"figures of {size} bytes; {most} are read")
        found = json.loads(os.pread(fd, size, 0))
    except OSError as error:
        raise ValueError(f"figures that cannot be read: {error.strerror}") from None
    except RecursionError:
        raise ValueError("figures that are too deep") from None
    if not isinstance(found, dict):
        raise ValueError("figures that are no table")
    return found
