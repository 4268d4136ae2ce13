"""One answer on its way out: what is the same for all that `drive` fills.

Decides what waits for what, so that a small answer leaves in one write, and that a body longer than
its declared length is cut and a shorter one aborts. Must not know how a head or a piece looks on
the wire: `http_answer.py` and `cgi_answer.py` do.
"""

import asyncio
from abc import abstractmethod
from typing import Protocol

from gateway.exchange import FileSpan, Response, Truncated
from gateway.listeners.deadline import Cause, Deadline

JOINED_MAX = 16384
"""Bytes of a head with first pieces that may wait for the end; see `HELD`."""
HELD = 0.001
"""Seconds in which a head and small first pieces wait for the end of the answer, to leave with it
in one write: most answers of scripts are small, and a write that wakes its reader costs 10-40 us.
"""


HELD_BACK_MAX = 65536
"""Bytes of an answer that wait for the end of its request's body; see `holds_back`."""


class AnswerLine(Protocol):
    """What every answer needs of its connection."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    deadline: Deadline

    async def drained(self) -> None:
        """Return when the transport has room."""
        ...

    def answered(self) -> None:
        """The answer is complete, or broken."""
        ...

    def holds_back(self) -> bool:
        """Whether the peer would stop sending the request's body once it has seen an answer."""
        ...


class Answer:
    """See `drive.Writer`, which this implements but for `head` and `file`."""

    __slots__ = (
        "_held", "_left", "_line", "_most", "_pending", "cause", "deadline", "ended", "keep",
        "sent", "started", "task",
    )  # fmt: skip

    def __init__(self, line: AnswerLine) -> None:
        self._line = line
        self._pending = b""
        """Laid out, and not written yet."""
        self._left: int | None = None
        """Bytes of body that are still to come, where their number was declared."""
        self._held: asyncio.TimerHandle | None = None
        self._most = JOINED_MAX
        """Bytes that may wait."""
        self.deadline = line.deadline
        self.cause: Cause | None = None
        self.started = False
        self.ended = False
        self.keep = False
        """The connection stays open after this answer."""
        self.sent = 0
        self.task: asyncio.Task[None] | None = None

    def _begin(self, response: Response, head: bytes, length: int | None) -> None:
        """Take the head as it is laid out; `length` is that of the body, None: nobody knows."""
        self._pending = head
        self._left = length
        self.started = True
        if self._line.holds_back():
            self._most = HELD_BACK_MAX
        elif not isinstance(response.body, bytes | FileSpan):
            self._held = self._line.loop.call_later(HELD, self._flush)

    def _lay(self, piece: bytes) -> bytes:
        """Return a piece of the body as it stands between others."""
        return piece

    @abstractmethod
    def _write(self, data: bytes) -> None:
        """Hand what was laid out to the transport."""

    @abstractmethod
    def _finish(self, data: bytes) -> None:
        """Hand over the last of it, which may be b"", with whatever ends an answer."""

    def _flush(self) -> None:
        if self._pending and not self.ended:
            pending, self._pending = self._pending, b""
            self._write(pending)

    def release(self) -> None:
        """Send what was held back: the request's body is there."""
        if self._most != JOINED_MAX:
            self._most = JOINED_MAX
            self._flush()

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.cancel()

    async def data(self, piece: bytes) -> None:
        size = len(piece)
        if self._left is not None:
            if size > self._left:
                piece = piece[: self._left]
                size = len(piece)
                self.keep = False  # the script does not keep its word; trust nothing after it
            self._left -= size
        self.sent += size
        pending, self._pending = self._pending, b""
        # Joined, not `writelines`: asyncio's own loop does not stop us there when a client does not
        # read (CVE-2024-12254), and copying 64 KiB costs less than a second write.
        joined = pending + self._lay(piece)
        if pending and len(joined) <= self._most:
            self._pending = joined  # `_flush` sends it, `release`, or the end of the answer
            return
        self._write(joined)
        await self._line.drained()

    def end(self, last: bytes = b"") -> None:
        if self._left and not last:
            raise Truncated(f"{self._left} bytes fewer than the Content-Length that was announced")
        pending, self._pending = self._pending, b""
        self.sent += len(last)
        self.ended = True
        self._let_go()
        self._finish(pending + last)
        self._line.answered()

    def abort(self) -> None:
        self.ended = True
        self.keep = False
        self._let_go()
        pending, self._pending = self._pending, b""
        if pending:  # the client is to see that there was an answer, and that it broke
            self._write(pending)
        self._line.transport.abort()
        self._line.answered()
