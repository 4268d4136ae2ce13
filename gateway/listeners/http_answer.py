"""One HTTP/1.1 answer: the `Writer` that `drive` fills for the HTTP listener.

Decides how an answer is laid on the wire: small ones in one write, files by sendfile, streams in
chunks (RFC 9112 section 7.1) or by length. How a body is framed is decided in
`wire/http_response.framing`. A body longer than its declared length is cut, a shorter one aborts.
"""

import asyncio
import os
import socket
from typing import Protocol

from gateway.exchange import FileSpan, Response, Truncated
from gateway.listeners.deadline import Cause, Deadline
from gateway.wire.http_request import Head
from gateway.wire.http_response import LAST_CHUNK, encode_fields, framing, status_line

SENDFILE_MAX = 1 << 20
"""Bytes asked of one sendfile call, so that one client cannot hold the loop."""
JOINED_MAX = 16384
"""Bytes of a head with first pieces that may wait for the end; see `HELD`."""
HELD = 0.001
"""Seconds in which a head and small first pieces wait for the end of the answer, to leave with it
in one write: most answers of scripts are small, and a write that wakes its reader costs 10-40 us.
"""


class Line(Protocol):
    """What an answer needs of its connection."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    deadline: Deadline

    def preamble(self) -> bytes:
        """The Server and Date lines."""
        ...

    def may_keep(self) -> bool:
        """Whether the connection can carry another request after this answer."""
        ...

    async def drained(self) -> None:
        """Return when the transport has room."""
        ...

    async def emptied(self) -> socket.socket:
        """Return the socket once the transport has handed all it had to the kernel."""
        ...

    async def writable(self, client: socket.socket) -> None:
        """Return when the kernel takes more for `client`."""
        ...

    def answered(self) -> None:
        """The answer is complete."""
        ...


class HttpAnswer:
    """The answer to one request. See `drive.Writer`."""

    __slots__ = (
        "_chunked", "_head", "_held", "_left", "_line", "_pending", "cause", "deadline", "ended",
        "keep", "sent", "started", "task",
    )  # fmt: skip

    def __init__(self, line: Line, head: Head) -> None:
        self._line = line
        self._head = head
        self._pending = b""
        self._left: int | None = None
        self._held: asyncio.TimerHandle | None = None
        self._chunked = False
        self.deadline = line.deadline
        self.cause: Cause | None = None
        self.started = False
        self.ended = False
        self.keep = False
        """The connection stays open after this answer."""
        self.sent = 0
        self.task: asyncio.Task[None] | None = None

    def head(self, response: Response, length: int | None) -> bool:
        head = self._head
        keep = head.keep_alive and self.cause is not Cause.BODY and self._line.may_keep()
        frame = framing(head.method, response.status, head.protocol, length, keep)
        fields = response.encoded or encode_fields(response.headers)
        line = status_line(response.status, response.reason)
        self._pending = b"".join((line, self._line.preamble(), fields, frame.fields, b"\r\n"))
        self.keep = frame.keep_alive
        self.started = True
        kind = frame.kind
        if kind == "chunked":
            self._chunked = True
        elif kind == "length":
            self._left = length
        if not isinstance(response.body, bytes | FileSpan):
            self._held = self._line.loop.call_later(HELD, self._flush)
        return kind != "none"

    def _flush(self) -> None:
        if self._pending and not self.ended:
            pending, self._pending = self._pending, b""
            self._line.transport.write(pending)

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
        parts = (pending, piece)
        if self._chunked:
            parts = (pending + b"%x\r\n" % size, piece + b"\r\n")
        # Joined, not `writelines`: asyncio's own loop does not stop us there when a client does not
        # read (CVE-2024-12254), and copying 64 KiB costs less than a second write.
        joined = b"".join(parts)
        if pending and len(joined) <= JOINED_MAX:
            self._pending = joined  # `_flush` sends it, or the end of the answer
            return
        self._line.transport.write(joined)
        await self._line.drained()

    async def file(self, span: FileSpan) -> None:
        """Send head and span by sendfile, beside the transport, which is empty meanwhile."""
        client = await self._line.emptied()
        try:
            await self._send_pending(client)
            await self._send_file(client, span)
        except ConnectionError:
            self.cause = Cause.GONE
            raise
        self._left = 0

    async def _send_file(self, client: socket.socket, span: FileSpan) -> None:
        offset, stop = span.offset, span.offset + span.length
        while offset < stop:
            try:
                count = os.sendfile(
                    client.fileno(), span.fd, offset, min(stop - offset, SENDFILE_MAX)
                )
            except BlockingIOError:
                await self._line.writable(client)
                continue
            if not count:
                raise Truncated("the file became shorter while it was sent")
            offset += count
            self.sent += count

    async def _send_pending(self, client: socket.socket) -> None:
        pending, self._pending = self._pending, b""
        while pending:
            try:
                count = client.send(pending, socket.MSG_MORE)
            except BlockingIOError:
                await self._line.writable(client)
            else:
                pending = pending[count:]

    def end(self, last: bytes = b"") -> None:
        if self._left and not last:
            raise Truncated(f"{self._left} bytes fewer than the Content-Length that was announced")
        pending, self._pending = self._pending, b""
        if last:
            self.sent += len(last)
            self._line.transport.write(pending + last)
        elif self._chunked:
            self._line.transport.write(pending + LAST_CHUNK)
        elif pending:
            self._line.transport.write(pending)
        self.ended = True
        self._let_go()
        self._line.answered()

    def abort(self) -> None:
        self.ended = True
        self.keep = False
        self._let_go()
        if self._pending:  # the client is to see that there was an answer, and that it broke
            self._line.transport.write(self._pending)
        self._line.transport.abort()
        self._line.answered()
