"""The front's side of a keeper, in asyncio: orders go out, running scripts come back.

Decides which order may be tried again. Only one that has not started: a keeper that leaves while an
order is on its way (it was idle, or a reload replaced it) says `Leaving` or closes the channel, and
the order goes once more, to the keeper that `connect` then finds. After `Started` nothing is ever
repeated. A keeper belongs to the user whose scripts it runs, so nothing that it says is trusted
further than its own user: a malformed message ends its channel.

If a keeper dies, its channel ends; every `Run` of it then has `exited()` give `LOST`, status -9
with no times, because what it ran is ended with it and nobody is left who knows how.
"""

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping

from gateway.process.channel import (
    MESSAGE_MAX,
    REPLY_MAX,
    Exited,
    Failed,
    Leaving,
    Message,
    Order,
    PoolAt,
    PoolDown,
    PoolUp,
    Release,
    Started,
    WantPool,
    decode,
    environment_block,
)
from gateway.process.pipes import PipeReader, PipeWriter, Watch
from gateway.process.post import send
from gateway.process.running import LOST, Run
from gateway.process.spec import Exit, SpawnFailed

__all__ = ["LOST", "PATIENCE", "RemoteKeeper", "Run"]

PATIENCE = 60.0
"""Seconds that an order may wait for its turn where nobody says otherwise."""

_TURN = 16
"""Messages read in one turn of the event loop."""

_POOLS_MAX = 1000
"""Pools of one keeper that are remembered as down; more is a keeper gone mad."""


class _Gone(Exception):
    """The keeper left before it started this."""


class _Late(SpawnFailed):
    """It waited too long for its turn."""


def _too_late(started: "asyncio.Future[None]", patience: float) -> None:
    if not started.done():
        why = f"no place was free for it within {patience:g} s"
        started.set_exception(_Late(0, "queue", why, 503))


class RemoteKeeper:
    """One user's keeper, as a front uses it. Connects when it is first needed."""

    def __init__(self, connect: Callable[[], Awaitable[socket.socket]]) -> None:
        """`connect` returns our end of a new channel to a keeper that takes orders."""
        self._connect = connect
        self._channel: _Channel | None = None
        self._channels: set[_Channel] = set()
        """The present one, and those of keepers that leave while scripts of ours still run."""
        self._connecting: asyncio.Future[_Channel] | None = None
        self._closed = False

    async def start(
        self,
        route: str,
        script: bytes,
        env: Mapping[bytes, bytes],
        *,
        body: bool = False,
        stdin: int | None = None,
        patience: float = PATIENCE,
    ) -> Run:
        """Start `script`, a path below the root of `route`, and return once it runs.

        `stdin` is a descriptor that becomes its standard input and stays the caller's to close;
        else `body` makes a pipe for it; else it reads an empty file. Raises SpawnFailed, also
        (503) when no keeper could be had or it was not started within `patience` seconds, and
        ValueError for a NUL in `env`.
        """
        block = environment_block(env)
        for _ in range(2):
            channel = self._channel
            if channel is None or channel.closed:
                channel = await self._connected()
            try:
                return await channel.start(route, script, block, body, stdin, patience)
            except _Gone:
                continue
        raise _no_keeper("it left twice before it had started the script")

    async def pool(self, route: str, script: bytes) -> bytes:
        """See that a pool of this file runs, and return the path of its socket.

        Ask for each request: that is how the keeper sees that the file was edited and that the
        pool is in use. Raises SpawnFailed.
        """
        for _ in range(2):
            channel = self._channel
            if channel is None or channel.closed:
                channel = await self._connected()
            try:
                return await channel.pool(route, script)
            except _Gone:
                continue
        raise _no_keeper("it left twice before it had answered")

    def pool_state(self, name: str) -> str:
        """Return why the pool `name` is down, or "" while it is not known to be.

        A pool found by file has the absolute path of the file as its name.
        """
        return "" if self._channel is None else self._channel.down.get(name, "")

    def close(self) -> None:
        """Let go of the keeper; what it runs for us is stopped."""
        self._closed = True
        for channel in list(self._channels):
            channel.lose()

    async def _connected(self) -> "_Channel":
        """Return an open channel; all who wait for one at the same time share it."""
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._open())
            self._connecting.add_done_callback(self._settled)
        try:
            return await asyncio.shield(self._connecting)
        except OSError as error:
            raise _no_keeper(str(error), error.errno or 0) from error

    async def _open(self) -> "_Channel":
        if self._let_go():
            raise ConnectionAbortedError("this front lets go of it")
        sock = await self._connect()
        channel = _Channel(sock, asyncio.get_running_loop(), self._channels.discard)
        self._channels.add(channel)
        if self._let_go():
            channel.lose()
        self._channel = channel
        return channel

    def _let_go(self) -> bool:
        return self._closed

    def _settled(self, opened: "asyncio.Future[_Channel]") -> None:
        self._connecting = None
        if not opened.cancelled():
            opened.exception()  # told to those who wait, if any still do


class _Channel:
    """One connection to a keeper, and what waits for its answers."""

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        gone: Callable[["_Channel"], None],
    ) -> None:
        sock.setblocking(False)
        self.loop = loop
        self.closed = False
        """It takes no more orders."""
        self.down: dict[str, str] = {}
        """Pools that are down, and why."""
        self._sock = sock
        self._fd = sock.fileno()
        self._gone = gone
        self.watch = Watch.of(loop)
        self._next = 0
        self._starting: dict[int, asyncio.Future[None]] = {}
        self._pools: dict[int, asyncio.Future[bytes]] = {}
        self._runs: dict[int, Run] = {}
        self._outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()
        """What the keeper had no room for yet, with descriptors that are ours to close."""
        loop.add_reader(self._fd, self._readable)

    async def start(
        self,
        route: str,
        script: bytes,
        block: bytes,
        body: bool,
        stdin: int | None,
        patience: float,
    ) -> Run:
        """As `RemoteKeeper.start`; raises _Gone when the keeper leaves before it has started it."""
        self._next = id = self._next + 1 & 0xFFFFFFFF
        data = Order(id, route, script, block, body or stdin is not None).encode()
        if len(data) > MESSAGE_MAX:
            raise SpawnFailed(errno.E2BIG, "order", "the request's variables are too large", 431)
        ours, theirs = _pipes(body and stdin is None)
        loop = self.loop
        run = Run(
            self,
            id,
            PipeWriter(ours[2], loop) if len(ours) == 3 else None,
            PipeReader(ours[0], loop),
            PipeReader(ours[1], loop),
        )
        started: asyncio.Future[None] = loop.create_future()
        self._starting[id] = started
        self._runs[id] = run
        running = False
        try:
            if stdin is None:
                self._post(data, (*theirs[2:], *theirs[:2]), theirs)
            else:
                self._post(data, (stdin, *theirs), theirs)
            timer = self.loop.call_later(patience, _too_late, started, patience)
            try:
                await started
            finally:
                timer.cancel()
            running = True
        except _Late:
            raise  # the keeper must be told, which `release` does
        except (SpawnFailed, _Gone):
            run.abandon()
            raise
        finally:
            if not running:
                self._starting.pop(id, None)
                self._runs.pop(id, None)  # a queued order that is released is never answered
                run.release()  # cancelled: the keeper must know; else this is nothing
        return run

    async def pool(self, route: str, script: bytes) -> bytes:
        self._next = id = self._next + 1 & 0xFFFFFFFF
        found: asyncio.Future[bytes] = self.loop.create_future()
        self._pools[id] = found
        try:
            self._post(WantPool(id, route, script).encode(), (), ())
            return await found
        finally:
            self._pools.pop(id, None)

    def release(self, id: int) -> None:
        if self._fd >= 0:
            try:
                self._post(Release(id).encode(), (), ())
            except _Gone:
                pass  # then it is released already

    def lose(self) -> None:
        """Close the channel. What had not started may be tried elsewhere; what ran is `LOST`."""
        self.closed = True
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        self.loop.remove_reader(fd)
        if self._outbox:
            self.loop.remove_writer(fd)
        self._sock.close()
        for _, fds in self._outbox:
            _close(fds)
        self._outbox.clear()
        self._turn_away()
        runs, self._runs = self._runs, {}
        for run in runs.values():
            run.ended(LOST)
        self._gone(self)

    def _turn_away(self) -> None:
        """Tell all that have not started that this keeper will not."""
        waiters: list[asyncio.Future[None] | asyncio.Future[bytes]] = [
            *self._starting.values(),
            *self._pools.values(),
        ]
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(_Gone())
        for id in self._starting:
            self._runs.pop(id, None)
        self._starting.clear()
        self._pools.clear()

    # Out.

    def _post(self, data: bytes, fds: tuple[int, ...], owned: tuple[int, ...]) -> None:
        """Send now or when there is room; `owned` of `fds` are closed then. Raises _Gone."""
        if not self._outbox:
            try:
                send(self._sock, data, fds)
            except BlockingIOError:
                self.loop.add_writer(self._fd, self._writable)
            except OSError as error:
                _close(owned)
                self.lose()
                raise _Gone from error
            else:
                _close(owned)
                return
        # A descriptor of the caller's may be closed before there is room.
        kept = tuple(fd if fd in owned else os.dup(fd) for fd in fds)
        self._outbox.append((data, kept))

    def _writable(self) -> None:
        outbox = self._outbox
        while outbox:
            data, fds = outbox[0]
            try:
                send(self._sock, data, fds)
            except BlockingIOError:
                return
            except OSError:
                self.lose()
                return
            outbox.popleft()
            _close(fds)
        self.loop.remove_writer(self._fd)

    # In.

    def _readable(self) -> None:
        for _ in range(_TURN):
            try:
                data = self._sock.recv(REPLY_MAX)
                message = decode(data)
            except BlockingIOError:
                return
            except (OSError, ValueError):
                # The end (an empty message), a reset, or a keeper that does not keep to the form.
                self.lose()
                return
            if isinstance(message, Started):
                started = self._starting.pop(message.id, None)
                if started is not None and not started.done():
                    started.set_result(None)
            elif isinstance(message, Exited):
                run = self._runs.pop(message.id, None)
                if run is not None:
                    run.ended(Exit(message.status, message.cpu, message.memory))
            else:
                self._other(message)
            if self._fd < 0:
                return
            if self.closed and not self._runs:
                self.lose()
                return

    def _other(self, message: Message) -> None:
        if isinstance(message, Failed):
            failed = SpawnFailed(message.errno, message.step, message.why, message.status)
            for waiter in (self._starting.pop(message.id, None), self._pools.get(message.id)):
                if waiter is not None and not waiter.done():
                    waiter.set_exception(failed)
            self._runs.pop(message.id, None)
        elif isinstance(message, PoolAt):
            found = self._pools.get(message.id)
            if found is not None and not found.done():
                found.set_result(message.path)
        elif isinstance(message, PoolDown):
            if len(self.down) < _POOLS_MAX or message.name in self.down:
                self.down[message.name] = message.why
        elif isinstance(message, PoolUp):
            self.down.pop(message.name, None)
        elif isinstance(message, Leaving):
            self.closed = True
            self._turn_away()
        else:
            self.lose()


def _pipes(body: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Make the pipes of one script: (our ends of stdout, stderr, stdin), (the script's ends).

    Ours are non-blocking; the script's must not be, since no program expects that. Raises
    SpawnFailed when this process may not open more files.
    """
    made: list[int] = []
    try:
        made += os.pipe2(os.O_CLOEXEC)
        made += os.pipe2(os.O_CLOEXEC)
        if body:
            made += os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        _close(made)
        why = f"its pipes cannot be made: {error.strerror}"
        raise SpawnFailed(error.errno or 0, "pipe", why, 503) from error
    os.set_blocking(made[0], False)
    os.set_blocking(made[2], False)
    if not body:
        return (made[0], made[2]), (made[1], made[3])
    os.set_blocking(made[5], False)
    return (made[0], made[2], made[5]), (made[1], made[3], made[4])


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _no_keeper(why: str, errno: int = 0) -> SpawnFailed:
    return SpawnFailed(errno, "connect", f"the user's keeper cannot be reached: {why}", 503)
