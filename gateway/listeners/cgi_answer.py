"""One answer to a front server, in the form in which a CGI script gives it (RFC 3875 section 6.2).

Decides the head: a Status line, the fields, and a Content-Length where it is known. What carries it
(records of FastCGI, the bare connection of SCGI) is its connection's business. Date, Server and how
the body is framed for the client are the front server's.
"""

import os
from typing import Protocol

from gateway.exchange import FileSpan, Response, Truncated
from gateway.listeners.answer import Answer, AnswerLine
from gateway.wire.http_response import encode_fields, framing, phrase

PIECE = 65528
"""Bytes of a file that are read at once: what fits into one FastCGI record, in multiples of 8."""


class CgiLine(AnswerLine, Protocol):
    """What an answer needs of its connection."""

    def write(self, data: bytes) -> None:
        """Send a part of the answer."""
        ...

    def finish(self, data: bytes) -> None:
        """Send the last part, which may be b"", and what ends the request."""
        ...

    def broken(self) -> None:
        """The answer ends here, and the front server is to see that it is not whole."""
        ...


class CgiAnswer(Answer):
    """The answer to one request."""

    __slots__ = ("_method",)

    _line: CgiLine

    def __init__(self, line: CgiLine, method: str) -> None:
        super().__init__(line)
        self._method = method

    def head(self, response: Response, length: int | None) -> bool:
        status = response.status
        # For HTTP/1.1 every body has a frame but one of unknown length, which has none here.
        frame = framing(self._method, status, b"HTTP/1.1", length, True)
        reason = response.reason or phrase(status)
        fields = response.encoded or encode_fields(response.headers)
        if frame.kind != "chunked":
            fields += frame.fields
        text = b"Status: %d %b\r\n%b\r\n" % (status, reason, fields)
        self._begin(response, text, length if frame.kind == "length" else None)
        return frame.kind != "none"

    async def file(self, span: FileSpan) -> None:
        """Send the head and the span, piece by piece."""
        offset, stop = span.offset, span.offset + span.length
        while offset < stop:
            piece = os.pread(span.fd, min(PIECE, stop - offset), offset)
            if not piece:
                raise Truncated("the file became shorter while it was sent")
            offset += len(piece)
            await self.data(piece)

    def _write(self, data: bytes) -> None:
        self._line.write(data)

    def _finish(self, data: bytes) -> None:
        self._line.finish(data)

    def abort(self) -> None:
        self.ended = True
        self._let_go()
        self._pending = b""
        self._line.broken()
        self._line.answered()
