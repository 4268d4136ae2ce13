"""What all connections of one listening socket share.

Decides how many connections there may be, hands out request ids, and knows whether the front is
leaving. Must not know a protocol.
"""

import asyncio
import time
from typing import Protocol

from gateway.exchange import Limits
from gateway.listeners.drive import Service
from gateway.wire.fields import http_date
from gateway.wire.http_request import HeadLimits, KnownHeads

SERVER = b"gateway"


class Connection(Protocol):
    """A connection as its door sees it."""

    def drain(self) -> None:
        """Finish what runs, then close."""
        ...

    def stop(self) -> None:
        """End now."""
        ...


class Door:
    """One for each front and kind of listener."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        service: Service,
        limits: Limits,
        *,
        prefix: str,
        connections_max: int,
        head_limits: HeadLimits,
    ) -> None:
        self.loop = loop
        self.service = service
        self.limits = limits
        self.head_limits = head_limits
        self.known_heads: KnownHeads = {}
        self.connections_max = connections_max
        self.connections: set[Connection] = set()
        self.draining = False
        self._prefix = prefix
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._second = 0
        self._preamble = b""

    def next_id(self) -> str:
        """Return a request id, different for every request of every front."""
        self._count += 1
        return f"{self._prefix}{self._count:x}"

    def preamble(self) -> bytes:
        """Return the Server and Date lines of an answer (RFC 9110 sections 10.2.4 and 6.6.1)."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._preamble = b"Server: %s\r\nDate: %s\r\n" % (SERVER, http_date(now))
        return self._preamble

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold a running exchange, which nothing else may hold, until it is over."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, seconds: float) -> None:
        """Let what runs finish for at most `seconds`, then end it."""
        self.draining = True
        for connection in tuple(self.connections):
            connection.drain()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=seconds)
        for connection in tuple(self.connections):
            connection.stop()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=1.0)
