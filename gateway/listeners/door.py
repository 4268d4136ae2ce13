"""What all connections of a front share, and what those of one listening socket do.

Decides how many connections there may be, hands out request ids, and knows whether the front is
leaving. Must not know a protocol.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

from gateway.exchange import Limits
from gateway.journal import Journal
from gateway.listeners.drive import Service
from gateway.listeners.listening import Stderr
from gateway.listeners.peers import Peers
from gateway.wire.fields import http_date
from gateway.wire.forwarded import Believed
from gateway.wire.http_request import HeadLimits, KnownHeads

SERVER = b"gateway"
LINES_MAX = 10
"""Lines a second about peers that break a protocol or may not connect."""
LOOK = 0.02
"""Seconds between two looks, when leaving, for answers that were not taken yet; also those in which
somebody who has just connected may still ask."""
TURNS = 8
"""Turns of the loop from what the kernel has accepted to what it has received: asyncio's own loop
needs five of them, uvloop two."""


class Connection(Protocol):
    """A connection as its door sees it."""

    @property
    def sending(self) -> bool:
        """Whether something of an answer was not taken yet."""
        ...

    def drain(self) -> None:
        """Finish what runs, then close."""
        ...

    def stop(self) -> None:
        """End now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """What all connections of one listening socket share."""

    service: Service
    name: str = ""
    """The address, for the log."""
    allow: Peers | None = None
    """Who may connect; None: whoever the system lets."""
    trust: Peers | None = None
    """Whose word about the client is believed. None: on HTTP nobody's, else that of all who may
    connect."""
    given: bool = False
    """Whether the front server names the scripts, which need no path then."""
    stderr: Stderr = "log"
    proxy_protocol: bool = False
    """Each connection begins with a header of the PROXY protocol."""
    forwarded: Believed = "x-forwarded"


class Door:
    """One for each front."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        journal: Journal,
        limits: Limits,
        *,
        prefix: str,
        connections_max: int,
        head_limits: HeadLimits,
    ) -> None:
        self.loop = loop
        self.journal = journal
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
        self._lines = 0
        self._unwritten = 0
        self._next_lines = 0.0

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

    def complain(self, what: str, who: str) -> None:
        """Write what a peer did to a connection. Whoever does that can do it without end, so only
        some lines a second are written, and how many were not."""
        now = time.monotonic()
        if now >= self._next_lines:
            if self._unwritten:
                text = f"{self._unwritten} more connections were closed for what peers did"
                self.journal.write("warn", text)
            self._next_lines = now + 1.0
            self._lines = self._unwritten = 0
        if self._lines < LINES_MAX:
            self._lines += 1
            self.journal.write("warn", what, subject=who)
        else:
            self._unwritten += 1

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold a running exchange, which nothing else may hold, until it is over."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def exchanges(self) -> int:
        """Exchanges that run now."""
        return len(self._tasks)

    async def last_requests(self, seconds: float, hurry: asyncio.Future[None]) -> None:
        """Let each open connection ask once more, while others take the new ones.

        A client may be sending a request on a connection that is idle here; were it closed now, he
        would see an error. Returns when none is open, after `seconds`, or when `hurry` is done.
        """
        self.draining = True
        end = self.loop.time() + seconds
        # Looked at after a turn of the loop: what was accepted last may not be among them before.
        await asyncio.sleep(LOOK)
        while (  # noqa: ASYNC110 - looking costs less than being told by every connection
            self.connections and self.loop.time() < end and not hurry.done()
        ):
            await asyncio.sleep(LOOK)

    async def drain(self, seconds: float) -> None:
        """Let what runs finish for at most `seconds`, then end it."""
        self.draining = True
        end = self.loop.time() + seconds
        # A connection that was accepted in this turn is not among ours yet, and its request, which
        # the kernel may have already, is not seen. Turns are counted: this process may be held up.
        await asyncio.sleep(min(LOOK, seconds))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        for connection in tuple(self.connections):
            connection.drain()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=seconds)
        # An exchange is over when its answer was handed to the transport; that is not yet sent.
        while self.loop.time() < end and any(  # noqa: ASYNC110 - no transport tells
            one.sending for one in self.connections
        ):
            await asyncio.sleep(LOOK)
        for connection in tuple(self.connections):
            connection.stop()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=1.0)
