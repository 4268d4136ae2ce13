"""One exchange from request to answer, the same for every listener.

Decides what is answered when a handler refuses, fails or is too late, and that every exchange is
recorded exactly once. Must not know a protocol: a listener supplies a `Writer`. Handlers raise,
only this module answers. Once the head is out a failure aborts, so that the truncation shows.
"""

import asyncio
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.exchange import (
    FileSpan,
    Handler,
    Ready,
    Refused,
    Request,
    Response,
    Stream,
    Truncated,
)
from gateway.journal import Journal
from gateway.listeners.deadline import TABLE, Cause, Deadline
from gateway.listeners.page import page

DROP_MAX = 65536
"""Bytes of a body that nobody wanted which are read before its program is let go of."""


class Writer(Protocol):
    """How one answer leaves. Made by a listener for one exchange."""

    deadline: Deadline
    cause: Cause | None
    """Set before the exchange's task is cancelled: why."""
    started: bool
    """The head is out."""
    ended: bool
    """The whole answer was handed to the transport."""
    sent: int
    """Bytes of body sent."""

    def head(self, response: Response, length: int | None) -> bool:
        """Take the head; return whether a body is to follow."""
        ...

    async def data(self, piece: bytes) -> None:
        """Send a piece of body; returns when the client has room for more."""
        ...

    async def file(self, span: FileSpan) -> None:
        """Send a span of a file."""
        ...

    def end(self, last: bytes = b"") -> None:
        """Send what is left and complete the answer."""
        ...

    def abort(self) -> None:
        """Break the connection so that the client sees that its answer is not complete."""
        ...


@dataclass(frozen=True, slots=True)
class Service:
    """What all exchanges of a front have in common."""

    handler: Handler
    journal: Journal
    record: Callable[[Request, int, int, float], None]
    """Write the access record: request, status (0 = none), body bytes, duration in seconds."""
    explain: bool = False
    """Show the reasons of failures to the client: for developers only."""


async def drive(service: Service, request: Request, writer: Writer) -> None:
    """Run one exchange to its end. Never raises for what happens inside it."""
    started = time.monotonic()
    status = 0
    try:
        entry = service.handler(request)
        limit = request.notes.limits.request_body
        if request.length is not None and request.length > limit:
            raise Refused(413, f"The request body may have {limit} bytes at most.")
        if (
            type(entry) is Ready
        ):  # most answers: nothing to let go of, and often nothing to wait for
            response = entry.response
            status = response.status
            if type(response.body) is bytes:
                writer.end(response.body if writer.head(response, len(response.body)) else b"")
            else:
                await _send(request, response, writer)
        else:
            async with entry as response:
                status = response.status
                await _send(request, response, writer)
    except Refused as refused:
        status = _refuse(service, request, writer, refused) or status
    except asyncio.CancelledError:
        status = _cut(service, request, writer) or status
    except (ConnectionError, Truncated) as error:
        status = _broken(service, request, writer, error) or status
    except Exception as error:
        status = _our_fault(service, request, writer, error) or status
    duration = time.monotonic() - started
    service.record(request, status, writer.sent, duration)
    if (logs := request.notes.logs) is not None:
        logs.record(request, status, writer.sent, duration)


async def _send(request: Request, response: Response, writer: Writer) -> None:
    body = response.body
    if isinstance(body, bytes):
        wanted = writer.head(response, len(body))
        writer.end(body if wanted else b"")
        return
    deadline = writer.deadline
    deadline.disarm(Cause.FIRST_BYTE)
    if isinstance(body, FileSpan):
        if writer.head(response, body.length):
            await writer.file(body)
        writer.end()
        return
    if not writer.head(response, response.length):
        writer.end()
        await _drop(body, request.notes.limits.grace)
        return
    idle = request.notes.limits.idle
    while True:
        deadline.arm(Cause.IDLE, idle)
        piece = await body.read()
        deadline.disarm(Cause.IDLE)
        if not piece:
            break
        await writer.data(piece)
    deadline.disarm(Cause.TOTAL)
    writer.end()


async def _drop(body: Stream, seconds: float) -> None:
    """Let a program that answers HEAD with a body write it in peace, if it is a short one."""
    await asyncio.sleep(0)  # a timeout needs a task, and an exchange has one once it has waited
    dropped = 0
    try:
        async with asyncio.timeout(seconds):
            while dropped < DROP_MAX and (piece := await body.read()):
                dropped += len(piece)
    except TimeoutError:
        pass


def _answer(service: Service, request: Request, writer: Writer, refused: Refused) -> int:
    """Answer with a page of our own if that is still possible; return the status that was sent."""
    if writer.started:
        writer.abort()
        return 0
    response = page(refused, request.id, service.explain)
    assert isinstance(response.body, bytes)
    wanted = writer.head(response, len(response.body))
    writer.end(response.body if wanted else b"")
    return refused.status


def _log(service: Service, request: Request, text: str) -> None:
    notes = request.notes
    where = notes.script or notes.route
    service.journal.write("error", text, subject=where, request=request.id)
    if notes.logs is not None:
        notes.logs.complain(text, where, request.id)


def _refuse(service: Service, request: Request, writer: Writer, refused: Refused) -> int:
    if refused.log:
        _log(service, request, refused.log)
    if writer.ended:
        return 0
    return _answer(service, request, writer, refused)


def _cut(service: Service, request: Request, writer: Writer) -> int:
    """The exchange was cancelled: a deadline passed, the peer is gone, or we are leaving."""
    cause = writer.cause or Cause.DRAIN
    status, words = TABLE[cause]
    if writer.ended:
        return 0
    if cause is not Cause.GONE:
        _log(service, request, f"{words} ({cause.value})")
    if not status:
        writer.abort()
        return 0 if writer.started else 499
    headers = ((b"Retry-After", b"1"),) if status == 503 else ()
    refused = Refused(status, f"{words.capitalize()}.", headers=headers)
    return _answer(service, request, writer, refused)


def _broken(service: Service, request: Request, writer: Writer, error: Exception) -> int:
    if writer.ended:
        return 0
    if writer.cause is not Cause.GONE:
        _log(service, request, f"the answer is incomplete: {str(error) or type(error).__name__}")
    return _answer(service, request, writer, Refused(502, "The answer was incomplete."))


def _our_fault(service: Service, request: Request, writer: Writer, error: Exception) -> int:
    """A fault of ours: the client gets the request's id, the log the traceback under it."""
    for line in traceback.format_exception(error):
        for part in line.rstrip().splitlines():
            _log(service, request, part)
    if writer.ended:
        return 0
    return _answer(service, request, writer, Refused(500, "The gateway made a mistake."))
