"""The keeper's end of one front's channel.

Decides how replies get out without ever waiting for a front, and when a channel is given up: at
its end, at the first malformed message, or when the front takes no replies. Must not know what an
order does.
"""

import errno
import os
import socket
from collections import deque
from collections.abc import Callable

from gateway.process.channel import (
    CHECK,
    EXITS_MAX,
    OPEN,
    WANT_TERMS,
    Check,
    Exited,
    Failed,
    FromFront,
    Open,
    Order,
    Release,
    ToFront,
    WantPool,
    WantTerms,
)
from gateway.process.decoding import decode
from gateway.process.loop import Loop
from gateway.process.post import Inbox, Short

_OUTBOX_MAX = 10_000
"""Replies that may wait for a front that does not read; then it is dropped."""

_TURN = 2
"""Messages taken from one front before others have their turn, and what has ended is told: with 8,
front and keeper work by turns instead of side by side (2,070 scripts a second against 2,180)."""

_NO_FDS = "the keeper has too many open files (RLIMIT_NOFILE)"

_FROM_FRONT = (Order, Release, WantPool, Open, WantTerms, Check)
_WITH_SOCKET = (OPEN, WANT_TERMS, CHECK)

Take = Callable[["Front", FromFront, tuple[int, ...]], None]
Lost = Callable[["Front", str], None]


class Front:
    """One attached front. `take` gets its messages, `lost` is told once when it is gone."""

    __slots__ = ("_exits", "_inbox", "_loop", "_lost", "_outbox", "_sock", "_take", "name")

    def __init__(
        self, sock: socket.socket, name: str, loop: Loop, inbox: Inbox, take: Take, lost: Lost
    ) -> None:
        sock.setblocking(False)
        self.name = name
        self._sock = sock
        self._loop = loop
        self._inbox = inbox
        self._take = take
        self._lost = lost
        self._outbox: deque[bytes] = deque()
        self._exits: list[bytes] = []
        loop.watch(sock.fileno(), self._readable)

    @property
    def open(self) -> bool:
        return self._sock.fileno() >= 0

    def ended(self, exit: Exited) -> None:
        """Tell this with others: call `flush` once this turn's are all known."""
        self._exits.append(exit.encode())
        if len(self._exits) >= EXITS_MAX:
            self.flush()

    def flush(self) -> None:
        """Send the ends that `ended` was told of, in one message: each one wakes the front."""
        if self._exits:
            exits, self._exits = self._exits, []
            self._post(b"".join(exits))

    def send(self, message: ToFront) -> None:
        """Send `message` now, or when the front has room for it."""
        self._post(message.encode())

    def _post(self, data: bytes) -> None:
        if not self.open:
            return
        if not self._outbox:
            try:
                self._sock.send(data)
                return
            except BlockingIOError:
                self._loop.watch(self._sock.fileno(), self._readable, self._writable)
            except OSError:
                return  # it is gone: reading will say so, in its turn
        self._outbox.append(data)
        if len(self._outbox) > _OUTBOX_MAX:
            self._end("it takes no replies")

    def close(self) -> None:
        """Let go of the channel without telling anybody."""
        if self.open:
            self._loop.unwatch(self._sock.fileno())
            self._sock.close()
            self._outbox.clear()

    def _end(self, why: str) -> None:
        if self.open:
            self.close()
            self._lost(self, why)

    def _writable(self) -> None:
        outbox = self._outbox
        try:
            while outbox:
                self._sock.send(outbox[0])
                outbox.popleft()
        except BlockingIOError:
            return
        except OSError:
            outbox.clear()
        self._loop.watch(self._sock.fileno(), self._readable)

    def _readable(self) -> None:
        for _ in range(_TURN):
            try:
                received = self._inbox.receive(self._sock)
            except BlockingIOError:
                return
            except Short as short:
                self._refuse(short.data)
                continue
            except ValueError as error:
                return self._end(str(error))
            except OSError as error:
                return self._end(os.strerror(error.errno or 0))
            if received is None:
                return self._end("")
            message, fds = received
            if not isinstance(message, _FROM_FRONT):
                for fd in fds:
                    os.close(fd)
                return self._end("a message that is not a front's")
            self._take(self, message, fds)
            if not self.open:
                return

    def _refuse(self, data: bytes) -> None:
        """Answer an order whose descriptors did not fit into this process."""
        if data[0] in _WITH_SOCKET:
            return  # what the answer goes by is closed with it, and that tells
        try:
            order = decode(data, 2 + data[1])
        except ValueError as error:
            return self._end(str(error))
        if not isinstance(order, Order):
            return self._end("a message with the wrong descriptors")
        self.send(Failed(order.id, errno.EMFILE, "receive", 503, _NO_FDS))
