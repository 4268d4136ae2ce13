"""Connections for the exchanges with one pool of workers: `pool` decides, this does it.

Decides nothing but how decisions are carried out: waiting in the queue, connecting, passing a
connection from one exchange to the next, closing. Must not know what is sent over a connection.
"""

import asyncio

from gateway.backends.connection import Connection, connect
from gateway.backends.pool import Decision, Grant, Open, Pool, Refuse, Use, Wait
from gateway.exchange import Refused, Request
from gateway.journal import Journal


class Waiter:
    """An exchange in the queue."""

    __slots__ = ("deadline", "future")

    def __init__(self, future: "asyncio.Future[Decision[Connection]]", deadline: float) -> None:
        self.future = future
        self.deadline = deadline
        """On the loop's clock."""


class Supply:
    """The connections of one front to one pool; several routes may share it."""

    def __init__(
        self,
        name: str,
        pool: Pool[Connection, Waiter],
        journal: Journal,
        *,
        owned: bool = False,
    ) -> None:
        """`owned` says that the workers are a keeper's: see `connect`."""
        self.name = name
        self._owned = owned
        self.pool = pool
        self.journal = journal
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Close the idle connections."""
        while self.pool.idle:
            connection = self.pool.idle[-1]
            self.pool.lost(connection)
            connection.close()
        if self._timer is not None:
            self._timer.cancel()

    async def take(self, request: Request) -> Connection:
        """Return a connection that is this exchange's own. Raises Refused(503)."""
        limits = request.notes.limits
        loop = asyncio.get_running_loop()
        decision: Decision[Connection] | Wait = self.pool.acquire(loop.time(), limits.queue)
        if isinstance(decision, Wait):
            decision = await self._queued(limits.wait)
        if isinstance(decision, Use):
            connection: Connection = decision.connection
            connection.receiver = None
            connection.taken_at = loop.time()
            return connection
        return await self.opened(decision, limits.wait)

    async def again(self, request: Request) -> Connection:
        """Return a new connection in place of a kept one that was stale and is closed."""
        decision = self.pool.again(asyncio.get_running_loop().time())
        return await self.opened(decision, request.notes.limits.wait)

    async def _queued(self, patience: float) -> Decision[Connection]:
        loop = asyncio.get_running_loop()
        waiter = Waiter(loop.create_future(), loop.time() + patience)
        self.pool.wait(waiter)
        if self._timer is None or self._timer.when() > waiter.deadline:
            self._arm(waiter.deadline)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if not self.pool.abandon(waiter) and not waiter.future.cancelled():
                self._turn_down(waiter.future.result())
            raise

    def _arm(self, deadline: float) -> None:
        """One timer for the whole queue: a queue that moves costs no timers."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(deadline, self._sweep)

    def _sweep(self) -> None:
        """Refuse those who have waited too long."""
        self._timer = None
        now = asyncio.get_running_loop().time() + 0.001  # the loops' clocks are that coarse
        for waiter in [waiter for waiter in self.pool.queue if waiter.deadline <= now]:
            self.pool.abandon(waiter)
            if not waiter.future.done():
                waiter.future.set_result(Refuse("no worker was free in time", 1))
        if self.pool.queue:
            self._arm(min(waiter.deadline for waiter in self.pool.queue))

    async def opened(self, decision: Decision[Connection], patience: float) -> Connection:
        """Open a connection as decided, trying the pool's other addresses if one fails."""
        loop = asyncio.get_running_loop()
        while isinstance(decision, Open):
            address = decision.address
            try:
                connection = await connect(address, patience, owned=self._owned)
                self.pool.reached(address)
                return connection
            except OSError as error:
                why = "no answer in time" if isinstance(error, TimeoutError) else error.strerror
                text = f"cannot connect to {address}: {why}"
                self.journal.write("warn", text, subject=self.name)
            except asyncio.CancelledError:
                self.give_up()
                raise
            decision = self.pool.failed(address, loop.time())
        if isinstance(decision, Use):
            kept: Connection = decision.connection
            return kept
        self._deliver(self.pool.vacant(loop.time()))
        raise self.refused(decision)

    def refused(self, refusal: Refuse) -> Refused:
        return Refused(
            503,
            "The application is busy or not running. Try again in a moment.",
            log=f"pool {self.name}: {refusal.why}",
            headers=((b"Retry-After", b"%d" % refusal.retry),),
        )

    def served(self, connection: Connection) -> None:
        """Say that an exchange on this connection was answered in full."""
        if self.pool.ahead > 1:
            self.pool.served(connection.loop.time() - connection.taken_at)

    def give_back(self, connection: Connection) -> None:
        """Let the next exchange have this connection."""
        connection.receiver = self._idle
        grant = self.pool.release(connection)
        if grant is not None:
            self._deliver([grant])
        if self.pool.queue:
            self._deliver(self.pool.vacant(connection.loop.time()))

    def give_up(self, connection: Connection | None = None) -> None:
        """Close a connection, or say that one was never opened."""
        if connection is not None:
            connection.close()
        self._deliver(self.pool.closed(asyncio.get_running_loop().time()))

    def _deliver(self, grants: list[Grant[Waiter, Connection]]) -> None:
        for waiter, decision in grants:
            if waiter.future.done():  # cancelled, and has not left the queue yet
                self._turn_down(decision)
                continue
            if isinstance(decision, Use):
                decision.connection.receiver = None
                decision.connection.taken_at = waiter.future.get_loop().time()
            waiter.future.set_result(decision)

    def _turn_down(self, decision: Decision[Connection]) -> None:
        if isinstance(decision, Use):
            self.give_back(decision.connection)
        elif isinstance(decision, Open):
            self.give_up()

    def _idle(self, connection: Connection, data: bytes) -> None:
        """Something came on an idle connection: its end, or what nobody asked for."""
        self.pool.lost(connection)
        connection.close()
