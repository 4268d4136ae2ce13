"""Messages over a socket, with descriptors beside them.

Decides how a message and its descriptors travel: one send is one message on an AF_UNIX
SOCK_SEQPACKET socket, descriptors by SCM_RIGHTS and CLOEXEC from the moment they arrive. Works on a
blocking socket and on a non-blocking one alike. Must not know what a message means.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence

from gateway.process.channel import (
    MESSAGE_MAX,
    Message,
)
from gateway.process.decoding import decode

FDS_MAX = 3

_INTS = tuple(struct.Struct(f"={count}i") for count in range(FDS_MAX + 2))  # + what pads them
_SOL_SOCKET = int(socket.SOL_SOCKET)
_SCM_RIGHTS = int(socket.SCM_RIGHTS)
_FD_SPACE = socket.CMSG_SPACE(FDS_MAX * 4)
_RECEIVE_FLAGS = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0x40000000))
# Plain numbers: the members of an enum cost microseconds where thousands arrive a second.
_CTRUNC = int(socket.MSG_CTRUNC)
_CUT = int(socket.MSG_TRUNC) | _CTRUNC


class Short(OSError):
    """A message came without its descriptors: this process may not open more files (EMFILE).

    `data` is the message, so that its sender can be answered.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(errno.EMFILE, "descriptors were lost: too many open files")
        self.data = data


def send(sock: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Send one encoded message with its descriptors, which stay the caller's to close.

    Raises BlockingIOError when a non-blocking socket is full, BrokenPipeError or
    ConnectionResetError when the other end is gone.
    """
    if fds:
        rights = _INTS[len(fds)].pack(*fds)
        sock.sendmsg((data,), ((_SOL_SOCKET, _SCM_RIGHTS, rights),))
    else:
        sock.send(data)


def last_of(sock: socket.socket, size: int) -> Iterator[bytes]:
    """Let nothing more come by a socket; give what came before, of `size` bytes a message at most.

    None is lost in between: from shutdown(2) on whoever sends has EPIPE, and knows so.
    """
    sock.shutdown(socket.SHUT_RD)
    while True:
        try:
            data = sock.recv(size)
        except ConnectionResetError:
            continue  # said once, before what is there: the other end had something unread
        except OSError:
            return
        if not data:
            return
        yield data


class Inbox:
    """Reads messages with their descriptors from any number of sockets, into one buffer."""

    __slots__ = ("_buffer", "_buffers", "_view")

    def __init__(self) -> None:
        self._buffer = bytearray(MESSAGE_MAX)
        self._view = memoryview(self._buffer)
        self._buffers = (self._buffer,)

    def receive(self, sock: socket.socket) -> tuple[Message, tuple[int, ...]] | None:
        """Return the next message and its descriptors, CLOEXEC, now the caller's; None at the end.

        Raises ValueError for a malformed message (its descriptors are closed), `Short` when the
        descriptors could not be taken, BlockingIOError, ConnectionError.
        """
        size, ancillary, flags, _ = sock.recvmsg_into(self._buffers, _FD_SPACE, _RECEIVE_FLAGS)
        fds: tuple[int, ...] = ()
        for level, kind, rights in ancillary:
            if level == _SOL_SOCKET and kind == _SCM_RIGHTS:
                fds += _INTS[len(rights) // 4].unpack_from(rights)
        if not size:
            _close(fds)
            return None
        data = bytes(self._view[:size])
        try:
            if flags & _CUT:
                if flags & _CTRUNC and len(fds) < FDS_MAX:
                    raise Short(data)
                raise ValueError("a message that is too long")
            return decode(data, len(fds)), fds
        except (ValueError, Short):
            _close(fds)
            raise


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
