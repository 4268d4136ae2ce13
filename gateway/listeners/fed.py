"""The body of one request, between the connection that receives it and the handler that pulls.

Decides how much of it may wait unread (then the connection stops reading: back-pressure), when the
client is told to go on (RFC 9110 section 10.1.1), and when it is too much.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gateway.exchange import Notes, Refused
from gateway.listeners.deadline import Cause, Deadline

UNREAD_MAX = 65536
"""Unread bytes at which the connection stops reading."""


@dataclass(frozen=True, slots=True)
class Valve:
    """What a body may do to its connection."""

    close: Callable[[], None]
    """Stop reading from the client."""
    open: Callable[[], None]
    """Read from the client again."""
    go_on: Callable[[], None]
    """Send "100 Continue"."""


class FedBody:
    """A `Stream` that is fed by its connection."""

    __slots__ = (
        "_deadline", "_error", "_expected", "_loop", "_notes", "_pieces", "_unread", "_valve",
        "_waiter", "abandoned", "ended", "received",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        notes: Notes,
        deadline: Deadline,
        valve: Valve,
        expected: bool,
    ) -> None:
        self._loop = loop
        self._notes = notes
        self._deadline = deadline
        self._valve = valve
        self._expected = expected
        self._pieces: list[bytes] = []
        self._unread = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.received = 0
        """Bytes that have come in so far."""
        self.ended = False
        """The last byte has come in."""
        self.abandoned = False
        """The exchange is over; what still comes in is dropped."""

    @property
    def held_back(self) -> bool:
        """Whether the client waits for "100 Continue" and has sent nothing."""
        return self._expected and not self.received and not self.ended

    def feed(self, data: bytes) -> None:
        self.received += len(data)
        if self.abandoned:
            return
        self._pieces.append(data)
        self._unread += len(data)
        if self._unread >= UNREAD_MAX:
            self._valve.close()
        self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """Let `read` raise `error` once what came before it has been read."""
        if not self.ended and self._error is None:
            self._error = error
            self._wake()

    def abandon(self) -> None:
        """Nobody will read the rest."""
        self.abandoned = True
        self._pieces.clear()
        if self._unread:
            self._unread = 0
            self._valve.open()

    async def read(self) -> bytes:
        """Return what has come in, or wait for more.

        Raises `Refused` (413 over the limit, 400 for a body that breaks the protocol) or
        `ConnectionResetError`.
        """
        limits = self._notes.limits
        if self.received > limits.request_body:
            raise Refused(413, f"The request body may have {limits.request_body} bytes at most.")
        if not self._pieces and not self.ended:
            if self._error is not None:
                raise self._error
            if self._expected:
                self._expected = False
                if not self.received:
                    self._valve.go_on()
            await self._wait(limits.body)
            return await self.read()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._unread >= UNREAD_MAX:
            self._valve.open()
        self._unread = 0
        self._deadline.extend(Cause.FIRST_BYTE, limits.first_byte)
        self._deadline.extend(Cause.IDLE, limits.idle)
        return data

    async def _wait(self, seconds: float) -> None:
        self._waiter = self._loop.create_future()
        self._deadline.arm(Cause.BODY, seconds)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if not self.abandoned:  # else it may be the next body's
                self._deadline.disarm(Cause.BODY)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
