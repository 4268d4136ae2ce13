"""Which connection an exchange gets: a kept one, a new one, a place in the queue, or a refusal.

Decides only. Every method is synchronous, is told the time, and returns what to do; the I/O is done
by `stream`. Must not know sockets, protocols or event loops: a connection and a waiter are whatever
the caller uses for them (`C`, `W`).

Kept connections are used most recent first, so that those beyond the load stay idle. Waiters are
served first come, first served. An address that cannot be reached is set aside for a while, which
doubles with each failure.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar

from gateway.address import Address, parse_remote

C = TypeVar("C")
W = TypeVar("W")

ASIDE_FIRST = 0.1
"""Seconds that an address is left alone after its first failure."""
ASIDE_MOST = 10.0
"""The most that becomes of it by doubling."""
ASIDE_ONLY = 1.0
"""The most for an address that has no other beside it: somebody must find out that it is back."""

AHEAD = 16
"""Requests that may be sent to one of our workers at once, counting the one that it serves. They
pass on to each other what would have to wait for a slow one."""
AHEAD_OTHERS = 2
"""The same for other programs, of which a process keeps what it has been sent."""
AHEAD_TIME = 0.002
"""Seconds of work that may be sent to a worker ahead of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """`[pool.NAME]`: persistent workers; one of `wsgi`, `command` and `connect`."""

    wsgi: str = ""
    """A WSGI application, `module:name`, in a Python process of its own."""
    command: tuple[str, ...] = ()
    """Any FastCGI program and its arguments; it finds its listening socket on descriptor 0."""
    connect: tuple[str, ...] = ()
    """Workers that somebody else runs: `unix:/path` or `host:port`, used in turn."""
    engine: Literal["gateway", "flup"] = "gateway"
    """What serves `wsgi`: our own worker, or flup's WSGIServer."""
    directory: Path | None = None
    """Working directory of the workers, where `wsgi` is imported from."""
    python: str = ""
    """The interpreter for `wsgi` (3.8 or newer); default: the one that runs this daemon."""
    processes: int = 2
    """Worker processes."""
    threads: int = 1
    """Requests that one process takes at once."""
    max_requests: int = 10000
    """A worker of engine "gateway" is replaced after so many, and up to a tenth more; 0 = never."""
    keep: bool | None = None
    """Whether connections are kept between requests; default: for `wsgi`, yes. php-cgi and programs
    made with libfcgi serve one connection at a time, so an idle one would occupy them."""
    connections: int = 64
    """Most connections at once to workers of `connect`, for each front."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """More variables for the workers' processes; for `connect`, for every request."""

    def __post_init__(self) -> None:
        """Raises ValueError, in words, for what cannot be."""
        given = [key for key in ("wsgi", "command", "connect") if getattr(self, key)]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(f"a pool needs one of wsgi, command and connect; here is {found}")
        if not isinstance(self.processes, int):
            raise ValueError("processes must be a number; styles are not there yet")
        for key in ("processes", "threads", "connections"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1")
        if self.max_requests < 0:
            raise ValueError("max_requests must be at least 0")
        if self.engine == "flup" and not self.wsgi:
            raise ValueError('engine = "flup" is for a pool with wsgi')
        for text in self.connect:
            parse_remote(text)

    @property
    def capacity(self) -> int:
        """Exchanges that one front may have with this pool at once."""
        return self.connections if self.connect else self.processes * self.threads

    @property
    def ahead(self) -> int:
        """How many times `capacity` may be sent; see `Pool.served`."""
        if self.connect:
            return 1
        return AHEAD if self.wsgi and self.engine == "gateway" else AHEAD_OTHERS

    @property
    def keeps(self) -> bool:
        if self.keep is not None:
            return self.keep
        return bool(self.wsgi)


class Use(NamedTuple, Generic[C]):
    """Use this kept connection."""

    connection: C


class Open(NamedTuple):
    """Open a connection to this address; its place in the pool is yours already."""

    address: Address


class Wait(NamedTuple):
    """All are in use: join the queue with `wait`."""


class Refuse(NamedTuple):
    """Answer 503: `why` for the log, `retry` seconds for Retry-After."""

    why: str
    retry: int


Decision: TypeAlias = Use[C] | Open | Refuse
Grant: TypeAlias = tuple[W, Decision[C]]
WAIT = Wait()


class _Aside:
    """How an address failed."""

    __slots__ = ("pause", "until")

    def __init__(self) -> None:
        self.pause = 0.0
        self.until = 0.0


class Pool(Generic[C, W]):
    """The connections of one front to the workers of one pool."""

    def __init__(self, addresses: tuple[Address, ...], capacity: int, ahead: int = 1) -> None:
        """`capacity` requests are served at once; up to `ahead` times as many may be sent."""
        self.addresses = addresses
        self.capacity = capacity
        self.ahead = ahead
        self.room = capacity
        """Exchanges that may have a connection now; see `served`."""
        self._pace = AHEAD_TIME
        """Seconds that a worker takes for a request, about."""
        self.open = 0
        """Connections that are open or being opened, in use or idle."""
        self.idle: list[C] = []
        """The most recently used one last."""
        self.queue: deque[W] = deque()
        self._aside = {address: _Aside() for address in addresses}
        self._turn = 0

    def __repr__(self) -> str:
        busy = self.open - len(self.idle)
        return f"<Pool {busy} in use, {len(self.idle)} idle, {len(self.queue)} waiting>"

    @property
    def in_use(self) -> int:
        return self.open - len(self.idle)

    def served(self, seconds: float) -> None:
        """Say how long an exchange had its connection, to judge how much may be sent ahead.

        A worker that has its next request in its socket need not wait for us; where requests take
        less than a millisecond that is a good part of its time. One that takes longer gets nothing
        ahead, and one that turns out slow holds up nobody for long (`PoolSettings.ahead`).
        """
        pace = seconds * self.capacity / max(self.in_use, self.capacity)
        self._pace += (pace - self._pace) / 16
        depth = int(AHEAD_TIME / self._pace) if self._pace > 0 else self.ahead
        self.room = self.capacity * max(1, min(self.ahead, depth))

    def acquire(self, now: float, queue: int) -> Decision[C] | Wait:
        """Ask for a connection; `queue` is how many may wait."""
        if not self.queue and self.in_use < self.room:
            return self._next(now)
        if len(self.queue) < queue:
            return WAIT
        return Refuse(f"all {self.room} places in use and {len(self.queue)} waiting", 1)

    def wait(self, waiter: W) -> None:
        """Join the queue; the answer comes as a `Grant` of some later call."""
        self.queue.append(waiter)

    def abandon(self, waiter: W) -> bool:
        """Leave the queue. Return False if the waiter is not in it: a grant is on its way."""
        try:
            self.queue.remove(waiter)
        except ValueError:
            return False
        return True

    def release(self, connection: C) -> Grant[W, C] | None:
        """Give a connection back that may be used again."""
        if self.queue and self.in_use <= self.room:
            return self.queue.popleft(), Use(connection)
        self.idle.append(connection)
        return None

    def closed(self, now: float) -> list[Grant[W, C]]:
        """Give a place back whose connection is closed, or was never opened."""
        self.open -= 1
        return self.vacant(now)

    def vacant(self, now: float) -> list[Grant[W, C]]:
        """Give free places to those who wait."""
        grants: list[Grant[W, C]] = []
        while self.queue and self.in_use < self.room:
            grants.append((self.queue.popleft(), self._next(now)))
        return grants

    def _next(self, now: float) -> Decision[C]:
        return Use(self.idle.pop()) if self.idle else self._opening(now)

    def lost(self, connection: C) -> None:
        """An idle connection was closed by its worker."""
        self.idle.remove(connection)
        self.open -= 1

    def again(self, now: float) -> Decision[C]:
        """Ask for a new connection in place of a kept one that proved stale; it keeps the place."""
        self.open -= 1
        return self._opening(now)

    def failed(self, address: Address, now: float) -> Decision[C]:
        """Say that an address could not be reached; the place is kept only if another is named."""
        aside = self._aside[address]
        most = ASIDE_MOST if len(self.addresses) > 1 else ASIDE_ONLY
        aside.pause = min(most, aside.pause * 2 or ASIDE_FIRST)
        aside.until = now + aside.pause
        self.open -= 1
        return self._opening(now)

    def reached(self, address: Address) -> None:
        """Say that an address could be reached: its failures are forgotten."""
        aside = self._aside[address]
        aside.pause = aside.until = 0.0

    def _opening(self, now: float) -> Open | Refuse:
        """Take a place for a new connection, to the next address that is not set aside."""
        for step in range(len(self.addresses)):
            address = self.addresses[(self._turn + step) % len(self.addresses)]
            if self._aside[address].until <= now:
                self._turn = (self._turn + step + 1) % len(self.addresses)
                self.open += 1
                return Open(address)
        soonest = min(aside.until for aside in self._aside.values()) - now
        where = str(self.addresses[0]) if len(self.addresses) == 1 else "any of its addresses"
        return Refuse(f"no worker can be reached at {where}", max(1, round(soonest)))
