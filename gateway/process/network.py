"""Programs without a network: a network namespace of their own, in which there is only loopback.

Decides what is left: 127.0.0.1 and ::1 of this keeper's own, and Unix sockets with a name in the
file system, of whoever made them; those belong to no network namespace. That is how the fronts
reach its workers, and how a script reaches a database on this machine. Abstract Unix sockets
outside cannot be reached. Must not know who is asked to live so.

Source: network_namespaces(7), unix(7).
"""

import errno
import os

from gateway.process import kernel

_UNIX = "/proc/net/unix"
_outside: list[int] = []
"""Once the network has been left: a descriptor of the table of Unix sockets there."""


def leave() -> None:
    """Leave the network for an empty one. Raises OSError in words; takes root."""
    # A connection is in the table of the namespace that it comes from, which is the fronts'.
    table = os.open(_UNIX, os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.unshare(kernel.NEW_NETWORK)
        kernel.raise_loopback()
    except OSError as error:
        os.close(table)
        why = f"network = false is not possible: {error.strerror or error}"
        if error.errno == errno.EPERM:
            why += "; it takes root with CAP_SYS_ADMIN, which a container may lack"
        raise OSError(f"{why}; else set network = true") from error
    _outside[:] = [table]


def unix_sockets() -> list[bytes]:
    """Return the lines of /proc/net/unix of the network in which this process was born."""
    if not _outside:
        with open(_UNIX, "rb") as file:
            return file.readlines()
    os.lseek(_outside[0], 0, os.SEEK_SET)
    text = bytearray()
    while piece := os.read(_outside[0], 1 << 16):
        text += piece
    return bytes(text).splitlines(keepends=True)
