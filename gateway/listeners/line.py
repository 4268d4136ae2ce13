"""One connection, whatever is spoken on it: reading, writing, deadlines, its running exchange.

Decides when a connection reads and when it does not, how long a peer may take nothing, that an
exchange is started in place without a task and gets one only if it has to wait, and how one is cut.
Must not know a protocol: `http.py`, `fastcgi.py` and `scgi.py` each make one of it.
"""

import asyncio
import select
import socket
from abc import abstractmethod
from collections.abc import Coroutine, Generator
from typing import Any, Protocol, cast

from gateway.exchange import Notes
from gateway.listeners.deadline import Cause, Deadline
from gateway.listeners.door import Door, Entrance
from gateway.listeners.fed import FedBody
from gateway.listeners.peers import peer_uid

WRITE_HIGH = 65536
"""Bytes in the transport's buffer at which an answer waits for its client."""
LINGER = 2.0
"""Seconds in which the peer may still send after we have said our last word; closing at once would
reset the connection and destroy the answer on its way (RFC 9112 section 9.6)."""

LOOK = 0.5
"""Seconds between two looks for a peer from which nothing is read: while a body is not taken, its
end of file waits behind it, and a script must not run on for somebody who left."""


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


class Cuttable(Protocol):
    """An answer as its line sees it; see `drive.Writer`."""

    cause: Cause | None
    started: bool
    ended: bool
    task: asyncio.Task[None] | None


class Line(asyncio.Protocol):
    """See the module."""

    transport: asyncio.Transport
    remote: tuple[str, int]
    local: tuple[str, int]
    answer: Cuttable | None
    """The answer that is being given."""

    def __init__(self, door: Door, entrance: Entrance) -> None:
        self.door = door
        self.entrance = entrance
        self.service = entrance.service
        self.loop = door.loop
        self.deadline = Deadline(door.loop, self._due)
        self.incoming: FedBody | None = None
        """The body that is on its way in."""
        self.full = False
        """The transport has as much as it takes."""
        self.reading = True
        self._buffered = 0
        self._room: asyncio.Future[None] | None = None

    @abstractmethod
    def _expired(self, cause: Cause) -> None:
        """A deadline has passed. See `reads_slowly` for `Cause.CLIENT`."""

    # -- the transport's calls ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by form only
        self.remote = _address(transport.get_extra_info("peername"))
        self.local = _address(transport.get_extra_info("sockname"))
        self.transport.set_write_buffer_limits(high=WRITE_HIGH)
        self.door.connections.add(self)
        allow = self.entrance.allow
        if allow is not None and not allow.allows(socket_of(self)):
            name = self.entrance.name
            self.door.complain(f'may not connect to {name}: not in its "allow"', self.who)
            self.transport.abort()
            return
        self.deadline.arm(Cause.HEAD, self.door.limits.head)

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline.clear()
        self.cut(Cause.GONE)
        if self.incoming is not None:
            self.incoming.fail(ConnectionResetError("the client is gone"))
            self.incoming = None
        if self._room is not None and not self._room.done():
            self._room.set_exception(ConnectionResetError("the client is gone"))
        self.door.connections.discard(self)

    def pause_writing(self) -> None:
        self.full = True
        self._buffered = self.transport.get_write_buffer_size()
        self.deadline.arm(Cause.CLIENT, self.door.limits.client)

    def resume_writing(self) -> None:
        self.full = False
        self.deadline.disarm(Cause.CLIENT)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    @property
    def who(self) -> str:
        """The peer, for the log."""
        if self.remote[0]:
            return f"{self.remote[0]} port {self.remote[1]}"
        return f"account {peer_uid(socket_of(self))}"

    # -- the exchange ------------------------------------------------------------------------

    def begin(self, exchange: Coroutine[Any, Any, None], answer: Cuttable, notes: Notes) -> None:
        """Run an exchange as far as it goes without waiting; give it a task if it has to wait."""
        try:
            waited = exchange.send(None)
        except StopIteration:
            return
        if not answer.ended:
            limits = notes.limits  # by now those of the route
            self.deadline.arm(Cause.TOTAL, limits.total)
            if not answer.started:
                self.deadline.arm(Cause.FIRST_BYTE, limits.first_byte)
        answer.task = self.loop.create_task(_go_on(exchange, waited))
        self.door.keep(answer.task)

    def cut(self, cause: Cause) -> None:
        """Cancel the exchange that runs, if one does and was not cut before."""
        answer = self.answer
        if answer is not None and answer.task is not None and answer.cause is None:
            answer.cause = cause
            self.loop.call_soon(answer.task.cancel)  # never before its first step

    # -- reading -----------------------------------------------------------------------------

    def stop_reading(self) -> None:
        if self.reading and not self.transport.is_closing():
            self.reading = False
            self.transport.pause_reading()
            self.deadline.arm(Cause.LOOK, LOOK)

    def read_again(self) -> None:
        if not self.reading and not self.transport.is_closing():
            self.reading = True
            self.transport.resume_reading()
            self.deadline.disarm(Cause.LOOK)

    def _due(self, cause: Cause) -> None:
        if cause is not Cause.LOOK:
            self._expired(cause)
        elif not (self.reading or self.transport.is_closing()):
            poll = select.poll()
            poll.register(socket_of(self).fileno(), select.POLLRDHUP)
            if poll.poll(0):
                self.cut(Cause.GONE)
            else:
                self.deadline.arm(Cause.LOOK, LOOK)

    # -- writing -----------------------------------------------------------------------------

    @property
    def sending(self) -> bool:
        """Whether the transport holds something that the peer has not taken."""
        return self.transport.get_write_buffer_size() > 0

    async def drained(self) -> None:
        """Return when the transport has room."""
        if self.full:
            await self.wait_for_room()

    async def wait_for_room(self) -> None:
        self._room = self.loop.create_future()
        try:
            await self._room
        finally:
            self._room = None

    def reads_slowly(self) -> bool:
        """Whether the peer has taken something since this was asked last; then it gets more time.

        To be asked when `Cause.CLIENT` has passed.
        """
        left = self.transport.get_write_buffer_size()
        if not self.full or left >= self._buffered:
            return False
        self._buffered = left
        self.deadline.arm(Cause.CLIENT, self.door.limits.client)
        return True

    def end_writing(self) -> None:
        """Close our sending side once what was written is out."""
        try:
            self.transport.write_eof()
        except OSError:
            self.transport.abort()  # the peer has reset the connection, and we have not read that

    def flush_slowly(self) -> None:
        """Nothing more is written: give the peer the client's time to take what is left."""
        self._buffered = self.transport.get_write_buffer_size()
        self.deadline.arm(Cause.CLIENT, self.door.limits.client)

    # -- leaving -----------------------------------------------------------------------------

    @abstractmethod
    def drain(self) -> None:
        """Finish what runs, then close; an idle connection closes now."""

    def stop(self) -> None:
        """End now what still runs."""
        self.cut(Cause.DRAIN)
        if self.answer is None or self.answer.task is None:
            self.transport.abort()


def socket_of(line: Line) -> socket.socket:
    """Return the socket of a line, for what a transport cannot be asked."""
    return cast(socket.socket, line.transport.get_extra_info("socket"))


def _address(name: object) -> tuple[str, int]:
    """Return (address, port) of a TCP peer; ("", 0) for a Unix socket's."""
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), int(name[1])
    return "", 0
