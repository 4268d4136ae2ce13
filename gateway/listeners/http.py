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
from collections.abc import Coroutine, Generator
from typing import Any, cast

from gateway.exchange import NO_BODY, Notes, Refused, Request
from gateway.listeners.deadline import Cause, Deadline
from gateway.listeners.door import Door
from gateway.listeners.drive import drive
from gateway.listeners.http_answer import HttpAnswer
from gateway.listeners.http_body import HttpBody, Valve
from gateway.listeners.page import page
from gateway.process.descriptors import Descriptors
from gateway.wire import PeerError
from gateway.wire.http_request import Head, RequestParser

WAITING_MAX = 16
"""Pipelined requests that may wait before the connection stops reading."""
DRAIN_MAX = 1 << 20
"""Bytes of an unread request body that are read and dropped to keep the connection; nginx and
Apache read on without a bound, lighttpd closes at once."""
LINGER = 2.0
"""Seconds in which the client may still send after we have said our last word; closing at once
would reset the connection and destroy the answer on its way (RFC 9112 section 9.6)."""
WRITE_HIGH = 65536
"""Bytes in the transport's buffer at which an answer waits for its client."""

_NOBODY = Head(
    method="GET", target=b"-", path=b"-", query=b"", protocol=b"HTTP/1.1", headers=(), host=b"",
    length=0, keep_alive=False, expect_continue=False,
)  # fmt: skip


class _Waited:
    """What a coroutine waits for that another one has begun to wait for."""

    __slots__ = ("_future",)

    def __init__(self, future: object) -> None:
        self._future = future

    def __await__(self) -> Generator[object, Any, Any]:
        return (yield self._future)


async def _go_on(started: Coroutine[Any, Any, None], waited: object) -> None:
    """Run a coroutine that has already been started and waits for the future `waited`."""
    while True:
        thrown = None
        value = None
        try:
            value = await _Waited(waited)
        except BaseException as error:  # whatever a task throws in belongs to the coroutine
            thrown = error
        try:
            waited = started.send(value) if thrown is None else started.throw(thrown)
        except StopIteration:
            return


class HttpConnection(asyncio.Protocol):
    """See the module. Implements `http_answer.Line` for its answers."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.loop = door.loop
        self.deadline = Deadline(door.loop, self._expired)
        self._parser = RequestParser(door.head_limits, door.known_heads)
        self._waiting: deque[tuple[Head, HttpBody | None, Notes]] = deque()
        self._answer: HttpAnswer | None = None
        self._incoming: HttpBody | None = None
        self._fault: PeerError | None = None
        self._running = False
        self._leaving = False
        self._reading = True
        self._full = False
        self._buffered = 0
        self._room: asyncio.Future[None] | None = None
        self._client: socket.socket | None = None

    # -- the transport's calls ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by form only
        self.remote = _address(transport.get_extra_info("peername"))
        self.local = _address(transport.get_extra_info("sockname"))
        self.transport.set_write_buffer_limits(high=WRITE_HIGH)
        self.door.connections.add(self)
        self.deadline.arm(Cause.HEAD, self.door.limits.head)
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
                if self._incoming is not None:
                    self._incoming.feed(event)
                    self._drain_bounded(self._incoming)
            elif type(event) is Head:
                self._arrived(event)
            elif isinstance(event, PeerError):
                self._fault = event
                if self._incoming is not None:
                    self._incoming.fail(Refused(event.status, event.say))
                    self._incoming = None
            elif self._incoming is not None:
                self._incoming.end()
                self._incoming = None
                self.deadline.disarm(Cause.BODY)
        self._running = False
        if self._answer is None:
            self._run_waiting()

    def eof_received(self) -> bool:
        # A client that closes its sending side is taken to be gone, as nginx does: TCP cannot tell
        # the two apart, and a script must not run on for somebody who left.
        self._cancel(Cause.GONE)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._leaving = True
        self.deadline.clear()
        self._cancel(Cause.GONE)
        self._waiting.clear()
        if self._incoming is not None:
            self._incoming.fail(ConnectionResetError("the client is gone"))
            self._incoming = None
        if self._room is not None and not self._room.done():
            self._room.set_exception(ConnectionResetError("the client is gone"))
        if self._client is not None:
            Descriptors.of(self.loop).remove_writer(self._client.fileno())
            self._client.close()
        self.door.connections.discard(self)

    def pause_writing(self) -> None:
        self._full = True
        self._buffered = self.transport.get_write_buffer_size()
        self.deadline.arm(Cause.CLIENT, self.door.limits.client)

    def resume_writing(self) -> None:
        self._full = False
        self.deadline.disarm(Cause.CLIENT)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        if self._waiting and self._answer is None:
            self._run_waiting()

    # -- exchanges ---------------------------------------------------------------------------

    def _arrived(self, head: Head) -> None:
        self.deadline.disarm(Cause.HEAD)
        notes = Notes(self.door.limits)
        body = None
        if head.length != 0:
            valve = Valve(self._stop_reading, self._read_again, self._say_continue)
            body = HttpBody(self.loop, notes, self.deadline, valve, head.expect_continue)
            self._incoming = body
        if self._answer is None and not self._waiting and not self._full:
            self._begin(head, body, notes)
            return
        self._waiting.append((head, body, notes))
        if len(self._waiting) >= WAITING_MAX:
            self._stop_reading()

    def _run_waiting(self) -> None:
        """Start what may start now; then see how the connection goes on."""
        if self._running or self._leaving:
            return
        self._running = True
        while self._waiting and self._answer is None and not self._full and self._stays():
            self._begin(*self._waiting.popleft())
        self._running = False
        if self._answer is not None or self._waiting or self.transport.is_closing():
            return
        if self._fault is not None:
            self._reject(self._fault)
        elif self._incoming is None:
            if not self._reading:
                self._read_again()
            if self._parser.in_head:
                self.deadline.disarm(Cause.KEEPALIVE)
                self.deadline.arm_once(Cause.HEAD, self.door.limits.head)
            elif self.door.draining:
                self._leave()
            else:
                self.deadline.arm(Cause.KEEPALIVE, self.door.limits.keepalive)

    def _stays(self) -> bool:
        return not (self._leaving or self.transport.is_closing())

    def _begin(self, head: Head, body: HttpBody | None, notes: Notes) -> None:
        request = Request(
            id=self.door.next_id(),
            method=head.method,
            target=head.target,
            path=head.path,
            query=head.query,
            protocol=head.protocol,
            headers=head.headers,
            host=head.host,
            scheme=b"http",
            remote=self.remote,
            local=self.local,
            body=NO_BODY if body is None else body,
            length=head.length,
            notes=notes,
        )
        answer = self._answer = HttpAnswer(self, head)
        exchange = drive(self.door.service, request, answer)
        try:
            waited = exchange.send(None)
        except StopIteration:
            return
        if not answer.ended:
            self.deadline.arm(Cause.TOTAL, notes.limits.total)
            if not answer.started:
                self.deadline.arm(Cause.FIRST_BYTE, notes.limits.first_byte)
        answer.task = self.loop.create_task(_go_on(exchange, waited))
        self.door.keep(answer.task)

    def answered(self) -> None:
        answer = self._answer
        assert answer is not None
        self._answer = None
        if answer.task is not None:
            for cause in (Cause.TOTAL, Cause.FIRST_BYTE, Cause.IDLE):
                self.deadline.disarm(cause)
        if self._leaving:
            return
        if not answer.keep:
            self._leave()
        elif self._incoming is not None:
            self._incoming.abandon()
            self.deadline.arm(Cause.BODY, self.door.limits.body)
            self._drain_bounded(self._incoming)
        if not self._running:
            self._run_waiting()

    def _reject(self, fault: PeerError) -> None:
        """Answer bytes that were no request, and leave."""
        notes = Notes(self.door.limits)
        request = Request(
            id=self.door.next_id(), method="-", target=b"-", path=b"-", query=b"",
            protocol=b"HTTP/1.1", headers=(), host=b"", scheme=b"http", remote=self.remote,
            local=self.local, body=NO_BODY, length=0, notes=notes,
        )  # fmt: skip
        answer = self._answer = HttpAnswer(self, _NOBODY)
        response = page(Refused(fault.status, fault.say), request.id, explain=False)
        assert isinstance(response.body, bytes)
        answer.head(response, len(response.body))
        answer.end(response.body)
        self.door.service.record(request, fault.status, answer.sent, 0.0)

    # -- reading -----------------------------------------------------------------------------

    def _stop_reading(self) -> None:
        if self._reading and not self.transport.is_closing():
            self._reading = False
            self.transport.pause_reading()

    def _read_again(self) -> None:
        if not self._reading and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()

    def _say_continue(self) -> None:
        if self._answer is not None and not self._answer.started:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _drain_bounded(self, body: HttpBody) -> None:
        if body.abandoned and body.received > DRAIN_MAX:
            self._leave()

    def may_keep(self) -> bool:
        if self.door.draining or self._fault is not None:
            return False
        body = self._incoming
        # With a body that nobody asked for yet, the client may send it or not: no way to tell.
        return body is None or not (body.held_back or body.received > DRAIN_MAX)

    # -- writing -----------------------------------------------------------------------------

    def preamble(self) -> bytes:
        return self.door.preamble()

    async def drained(self) -> None:
        if self._full:
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        self._room = self.loop.create_future()
        try:
            await self._room
        finally:
            self._room = None

    async def emptied(self) -> socket.socket:
        if self.transport.get_write_buffer_size():
            self.transport.set_write_buffer_limits(high=0)
            self._full = True
            try:
                await self._wait_for_room()
            finally:
                self.transport.set_write_buffer_limits(high=WRITE_HIGH)
        if self._client is None:
            # A descriptor of our own: the loop refuses to watch one that a transport watches.
            shared = self.transport.get_extra_info("socket")
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
        if cause is Cause.CLIENT and self._full:
            left = self.transport.get_write_buffer_size()
            if left < self._buffered:  # slow, but it reads
                self._buffered = left
                self.deadline.arm(Cause.CLIENT, self.door.limits.client)
                return
        busy = self._answer is not None or bool(self._waiting)
        if busy and cause is Cause.KEEPALIVE:
            pass  # it stays armed through an exchange: moving it once is cheaper
        elif self._answer is not None:
            self._cancel(cause)
        elif cause is Cause.HEAD and self._parser.in_head:
            self._fault = PeerError(408, "The request head was not complete in time.")
            self._run_waiting()
        else:
            self.transport.abort()

    def _cancel(self, cause: Cause) -> None:
        answer = self._answer
        if answer is not None and answer.task is not None and answer.cause is None:
            answer.cause = cause
            self.loop.call_soon(answer.task.cancel)  # never before its first step

    def _leave(self) -> None:
        """Say no more. What the client still sends is dropped for a while, then it is closed."""
        if self._leaving or self.transport.is_closing():
            return
        self._leaving = True
        self.deadline.clear()
        if self._incoming is None and self._fault is None and not self._waiting:
            if not self.transport.get_write_buffer_size():
                self.transport.close()
                return
            # close() would wait for ever for a client that does not read.
            self._buffered = self.transport.get_write_buffer_size()
            self.deadline.arm(Cause.CLIENT, self.door.limits.client)
            self.transport.write_eof()
            return
        self._waiting.clear()
        self._read_again()
        self.deadline.arm(Cause.LINGER, LINGER)
        self.transport.write_eof()

    def drain(self) -> None:
        """Finish what runs, then close; an idle connection closes now."""
        if self._answer is None and not self._waiting and not self._parser.in_head:
            self._leave()

    def stop(self) -> None:
        """End now what still runs."""
        self._cancel(Cause.DRAIN)
        if self._answer is None or self._answer.task is None:
            self.transport.abort()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _address(name: object) -> tuple[str, int]:
    """Return (address, port) of a TCP peer; ("", 0) for a Unix socket's."""
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), int(name[1])
    return "", 0
