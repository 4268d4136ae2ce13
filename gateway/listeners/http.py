"""The HTTP/1.1 listener (RFC 9112): one object a connection.

Decides the order of exchanges on a connection (pipelined requests are answered in order, one at a
time), when it reads and when it does not, and how it is left: kept, closed, lingered on, aborted.
What bytes mean is decided in `wire`, what is answered in `drive`.

An exchange is a coroutine that is started in place, without a task; it gets one only if it has to
wait. A static file from memory is answered inside `data_received`.
"""

import asyncio
import socket
from collections import deque

from gateway.exchange import NO_BODY, Notes, Refused, Request
from gateway.listeners.deadline import Cause
from gateway.listeners.door import Door, Entrance
from gateway.listeners.drive import drive
from gateway.listeners.fed import FedBody, Valve
from gateway.listeners.http_answer import HttpAnswer
from gateway.listeners.line import LINGER, WRITE_HIGH, Line, socket_of
from gateway.listeners.page import page
from gateway.process.descriptors import Descriptors
from gateway.wire import PeerError
from gateway.wire.http_request import Head, RequestParser

WAITING_MAX = 16
"""Pipelined requests that may wait before the connection stops reading."""
DRAIN_MAX = 1 << 20
"""Bytes of an unread request body that are read and dropped to keep the connection; nginx and
Apache read on without a bound, lighttpd closes at once."""
_NOBODY = Head(
    method="GET", target=b"-", path=b"-", query=b"", protocol=b"HTTP/1.1", headers=(), host=b"",
    length=0, keep_alive=False, expect_continue=False,
)  # fmt: skip


class HttpConnection(Line):
    """See the module. Implements `http_answer.HttpLine` for its answers."""

    scheme = b"http"
    """How the client came; `behind.py` may know better."""

    def __init__(self, door: Door, entrance: Entrance) -> None:
        super().__init__(door, entrance)
        self.answer: HttpAnswer | None = None
        self._parser = RequestParser(door.head_limits, door.known_heads)
        self._waiting: deque[tuple[Head, FedBody | None, Notes]] = deque()
        self._fault: PeerError | None = None
        self._running = False
        self._leaving = False
        self._client: socket.socket | None = None

    # -- the transport's calls ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.door.connections) > self.door.connections_max:
            self._fault = PeerError(503, "The server has too many connections.")
            self._run_waiting()

    def data_received(self, data: bytes) -> None:
        if self._leaving:
            return
        events = self._parser.feed(data)
        self._running = True
        for event in events:
            if type(event) is bytes:
                if self.incoming is not None:
                    self.incoming.feed(event)
                    self._drain_bounded(self.incoming)
            elif type(event) is Head:
                self._arrived(event)
            elif isinstance(event, PeerError):
                self._fault = event
                if self.incoming is not None:
                    self.incoming.fail(Refused(event.status, event.say))
                    self.incoming = None
            elif self.incoming is not None:
                self.incoming.end()
                self.incoming = None
                self.deadline.disarm(Cause.BODY)
        self._running = False
        if self.answer is None:
            self._run_waiting()

    def eof_received(self) -> bool:
        # A client that closes its sending side is taken to be gone, as nginx does: TCP cannot tell
        # the two apart, and a script must not run on for somebody who left.
        self.cut(Cause.GONE)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._leaving = True
        self._waiting.clear()
        super().connection_lost(exc)
        if self._client is not None:
            Descriptors.of(self.loop).remove_writer(self._client.fileno())
            self._client.close()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._waiting and self.answer is None:
            self._run_waiting()

    # -- exchanges ---------------------------------------------------------------------------

    def _arrived(self, head: Head) -> None:
        self.deadline.disarm(Cause.HEAD)
        notes = Notes(self.door.limits)
        body = None
        if head.length != 0:
            valve = Valve(self.stop_reading, self.read_again, self._say_continue)
            body = FedBody(self.loop, notes, self.deadline, valve, head.expect_continue)
            self.incoming = body
        if self.answer is None and not self._waiting and not self.full:
            self._begin(head, body, notes)
            return
        self._waiting.append((head, body, notes))
        if len(self._waiting) >= WAITING_MAX:
            self.stop_reading()

    def _run_waiting(self) -> None:
        """Start what may start now; then see how the connection goes on."""
        if self._running or self._leaving:
            return
        self._running = True
        while self._waiting and self.answer is None and not self.full and self._stays():
            self._begin(*self._waiting.popleft())
        self._running = False
        if self.answer is not None or self._waiting or self.transport.is_closing():
            return
        if self._fault is not None:
            self._reject(self._fault)
        elif self.incoming is None:
            if not self.reading:
                self.read_again()
            if self._parser.in_head:
                self.deadline.disarm(Cause.KEEPALIVE)
                self.deadline.arm_once(Cause.HEAD, self.door.limits.head)
            elif self.door.draining:
                self._leave()
            else:
                self.deadline.arm(Cause.KEEPALIVE, self.door.limits.keepalive)

    def _stays(self) -> bool:
        return not (self._leaving or self.transport.is_closing())

    def _begin(self, head: Head, body: FedBody | None, notes: Notes) -> None:
        request = Request(
            id=self.door.next_id(),
            method=head.method,
            target=head.target,
            path=head.path,
            query=head.query,
            protocol=head.protocol,
            headers=head.headers,
            host=head.host,
            scheme=self.scheme,
            remote=self.remote,
            local=self.local,
            body=NO_BODY if body is None else body,
            length=head.length,
            notes=notes,
        )
        answer = self.answer = HttpAnswer(self, head)
        self.begin(drive(self.service, request, answer), answer, notes)

    def answered(self) -> None:
        answer = self.answer
        assert answer is not None
        self.answer = None
        if answer.task is not None:
            for cause in (Cause.TOTAL, Cause.FIRST_BYTE, Cause.IDLE):
                self.deadline.disarm(cause)
        if self._leaving:
            return
        if not answer.keep:
            self._leave()
        elif self.incoming is not None:
            self.incoming.abandon()
            self.deadline.arm(Cause.BODY, self.door.limits.body)
            self._drain_bounded(self.incoming)
        if not self._running:
            self._run_waiting()

    def _reject(self, fault: PeerError) -> None:
        """Answer bytes that were no request, and leave."""
        notes = Notes(self.door.limits)
        request = Request(
            id=self.door.next_id(), method="-", target=b"-", path=b"-", query=b"",
            protocol=b"HTTP/1.1", headers=(), host=b"", scheme=self.scheme, remote=self.remote,
            local=self.local, body=NO_BODY, length=0, notes=notes,
        )  # fmt: skip
        answer = self.answer = HttpAnswer(self, _NOBODY)
        response = page(Refused(fault.status, fault.say), request.id, explain=False)
        assert isinstance(response.body, bytes)
        answer.head(response, len(response.body))
        answer.end(response.body)
        self.service.record(request, fault.status, answer.sent, 0.0)

    # -- reading -----------------------------------------------------------------------------

    def _say_continue(self) -> None:
        if self.answer is not None and not self.answer.started:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _drain_bounded(self, body: FedBody) -> None:
        if body.abandoned and body.received > DRAIN_MAX:
            self._leave()

    def may_keep(self) -> bool:
        if self.door.draining or self._fault is not None:
            return False
        body = self.incoming
        # With a body that nobody asked for yet, the client may send it or not: no way to tell.
        return body is None or not (body.held_back or body.received > DRAIN_MAX)

    # -- writing -----------------------------------------------------------------------------

    def holds_back(self) -> bool:
        return False

    def preamble(self) -> bytes:
        return self.door.preamble()

    async def emptied(self) -> socket.socket:
        if self.transport.get_write_buffer_size():
            self.transport.set_write_buffer_limits(high=0)
            self.full = True
            try:
                await self.wait_for_room()
            finally:
                self.transport.set_write_buffer_limits(high=WRITE_HIGH)
        if self._client is None:
            # A descriptor of our own: the loop refuses to watch one that a transport watches.
            shared = socket_of(self)
            self._client = socket.fromfd(shared.fileno(), shared.family, shared.type)
            self._client.setblocking(False)
        return self._client

    async def writable(self, client: socket.socket) -> None:
        ready = self.loop.create_future()
        descriptors = Descriptors.of(self.loop)
        descriptors.add_writer(client.fileno(), lambda: _set(ready))
        self.deadline.arm(Cause.CLIENT, self.door.limits.client)
        try:
            await ready
        finally:
            self.deadline.disarm(Cause.CLIENT)
            descriptors.remove_writer(client.fileno())

    # -- leaving -----------------------------------------------------------------------------

    def _expired(self, cause: Cause) -> None:
        if cause is Cause.CLIENT and self.reads_slowly():
            return
        busy = self.answer is not None or bool(self._waiting)
        if busy and cause is Cause.KEEPALIVE:
            pass  # it stays armed through an exchange: moving it once is cheaper
        elif self.answer is not None:
            self.cut(cause)
        elif cause is Cause.HEAD and self._parser.in_head:
            self._fault = PeerError(408, "The request head was not complete in time.")
            self._run_waiting()
        else:
            self.transport.abort()

    def _leave(self) -> None:
        """Say no more. What the client still sends is dropped for a while, then it is closed."""
        if self._leaving or self.transport.is_closing():
            return
        self._leaving = True
        self.deadline.clear()
        if self.incoming is None and self._fault is None and not self._waiting:
            if not self.transport.get_write_buffer_size():
                self.transport.close()
                return
            # close() would wait for ever for a client that does not read.
            self.flush_slowly()
            self.end_writing()
            return
        self._waiting.clear()
        self.read_again()
        self.deadline.arm(Cause.LINGER, LINGER)
        self.end_writing()

    def drain(self) -> None:
        """Finish what runs, then close; an idle connection closes now."""
        if self.answer is None and not self._waiting and not self._parser.in_head:
            self._leave()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
