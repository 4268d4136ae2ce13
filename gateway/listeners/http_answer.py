"""One HTTP/1.1 answer: the `Writer` that `drive` fills for the HTTP listener.

Decides how an answer is laid on the wire: files by sendfile, streams in chunks (RFC 9112 section
7.1) or by length. How a body is framed is decided in `wire/http_response.framing`.
"""

import os
import socket
from typing import Protocol

from gateway.exchange import FileSpan, Response, Truncated
from gateway.listeners.answer import Answer, AnswerLine
from gateway.listeners.deadline import Cause
from gateway.wire.http_request import Head
from gateway.wire.http_response import LAST_CHUNK, encode_fields, framing, status_line

SENDFILE_MAX = 1 << 20
"""Bytes asked of one sendfile call, so that one client cannot hold the loop."""


class HttpLine(AnswerLine, Protocol):
    """What an answer needs of its connection."""

    def preamble(self) -> bytes:
        """The Server and Date lines."""
        ...

    def may_keep(self) -> bool:
        """Whether the connection can carry another request after this answer."""
        ...

    async def emptied(self) -> socket.socket:
        """Return the socket once the transport has handed all it had to the kernel."""
        ...

    async def writable(self, client: socket.socket) -> None:
        """Return when the kernel takes more for `client`."""
        ...


class HttpAnswer(Answer):
    """The answer to one request."""

    __slots__ = ("_chunked", "_head")

    _line: HttpLine

    def __init__(self, line: HttpLine, head: Head) -> None:
        super().__init__(line)
        self._head = head
        self._chunked = False

    def head(self, response: Response, length: int | None) -> bool:
        head = self._head
        keep = head.keep_alive and self.cause is not Cause.BODY and self._line.may_keep()
        frame = framing(head.method, response.status, head.protocol, length, keep)
        fields = response.encoded or encode_fields(response.headers)
        line = status_line(response.status, response.reason)
        text = b"".join((line, self._line.preamble(), fields, frame.fields, b"\r\n"))
        self.keep = frame.keep_alive
        kind = frame.kind
        self._chunked = kind == "chunked"
        self._begin(response, text, length if kind == "length" else None)
        return kind != "none"

    def _lay(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece

    def _write(self, data: bytes) -> None:
        self._line.transport.write(data)

    def _finish(self, data: bytes) -> None:
        if self._chunked:
            data += LAST_CHUNK
        if data:
            self._line.transport.write(data)

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
