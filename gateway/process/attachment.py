"""The front's end of one keeper's channel: what was sent, and what waits for an answer.

Decides what becomes of orders when the channel fails, and which scripts are watched while they run.
A keeper belongs to the user whose scripts it runs, so nothing that it says is trusted further than
its own user: a malformed message ends its channel.

That an order was started is not told, unless it had to wait for its turn: the script's output says
so, and its end. `start` returns as soon as the order is out.

If a keeper dies, its channel ends; every `Run` of it then has `exited()` give `LOST`, status -9
with no times, because what it ran is ended with it and nobody is left who knows how. One of which
nothing was read yet is a SpawnFailed: it may or may not have been started.

A script whose output came at once when it was last run (`Run.brief`) is not watched while it runs:
when its end is told, all of its output is there, and is read in one go. Should it run for longer
this time, then it is watched after `LOOK` to twice that; so long its first output may be held up.
"""

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable

from gateway.process.channel import (
    EXITED,
    MESSAGE_MAX,
    RELEASE,
    REPLY_MAX,
    Asked,
    Checked,
    Failed,
    Faulted,
    Leaving,
    Message,
    Open,
    Order,
    PoolAt,
    PoolDown,
    PoolUp,
    Queued,
    Release,
    Started,
    TermsAre,
    WantPool,
)
from gateway.process.decoding import decode, decode_exits
from gateway.process.descriptors import Descriptors
from gateway.process.opening import answered, opened
from gateway.process.pipes import PipeReader, PipeWriter, Watch
from gateway.process.post import send
from gateway.process.running import LOOK, Run
from gateway.process.spec import Exit, SpawnFailed

FULL_FOR = 0.05
"""Seconds for which a queue that was full is taken to be so: whoever floods one user costs the
front a look at the clock for each request, and not an order with its pipes."""

_BRIEF_MAX = 1000
"""Scripts that are remembered as brief; the names come from clients."""

_OUTBOX_MAX = 1000
_OUTBOX_MAX_FOREIGN = 100
"""Messages that may wait for a keeper that does not read; then it gets nothing more. A `foreign`
user can stop its keeper (SIGSTOP), and what waits costs this front descriptors and connections."""

_POOLS_MAX = 1000
"""Pools of one keeper that are remembered as down; more is a keeper gone mad."""


class Gone(Exception):
    """The keeper left before it did this."""


class Attachment:
    """One connection to a keeper, and what waits for its answers."""

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        gone: Callable[["Attachment"], None],
        brief: set[tuple[str, bytes]],
        foreign: bool,
    ) -> None:
        sock.setblocking(False)
        self._foreign = foreign
        self._room = _OUTBOX_MAX_FOREIGN if foreign else _OUTBOX_MAX
        self.loop = loop
        self.closed = False
        """It takes no more orders."""
        self.down: dict[str, str] = {}
        """Pools that are down, and why."""
        self._sock = sock
        self._fd = sock.fileno()
        self._gone = gone
        self._brief = brief
        self._watch = Watch.of(loop)
        self._next = 0
        self._pools: dict[int, asyncio.Future[bytes]] = {}
        self._runs: dict[int, Run] = {}
        self._young: list[Run] = []
        """Those that are not watched, since the last look at them and since the one before."""
        self._older: list[Run] = []
        self._looking = False
        self._full = ""
        """Why the keeper takes no more orders, until then."""
        self._full_until = 0.0
        self._outbox: deque[tuple[bytes, tuple[int, ...], Run | None]] = deque()
        """What the keeper had no room for yet, with descriptors that are ours to close."""
        self._descriptors = Descriptors.of(loop)
        self._descriptors.add_reader(self._fd, self._readable)

    def start(
        self,
        route: str,
        script: bytes,
        block: bytes,
        body: bool,
        stdin: int | None,
        patience: float,
        linger: float,
    ) -> Run:
        """As `RemoteKeeper.start`; raises Gone when the keeper did not get the order."""
        if self.loop.time() < self._full_until:
            raise SpawnFailed(0, "queue", self._full, 503)
        self._next = id = self._next + 1 & 0xFFFFFFFF
        data = Order(id, route, script, block, body or stdin is not None).encode()
        if len(data) > MESSAGE_MAX:
            raise SpawnFailed(errno.E2BIG, "order", "the request's variables are too large", 431)
        ours, theirs = _pipes(body and stdin is None, self._foreign)
        loop, watch = self.loop, self._watch
        name = route, script
        brief = name in self._brief
        run = Run(
            self,
            id,
            name,
            PipeWriter(ours[2], loop, watch) if len(ours) == 3 else None,
            PipeReader(ours[0], loop, watch, later=brief),
            PipeReader(ours[1], loop, watch, later=brief),
            brief,
            linger,
        )
        run.wait = patience
        try:
            if stdin is None:
                self._post(data, (*theirs[2:], *theirs[:2]), theirs, run)
            else:
                self._post(data, (stdin, *theirs), theirs, run)
        except (Gone, SpawnFailed):
            run.abandon()
            raise
        self._runs[id] = run
        if brief:
            self._young.append(run)
            if not self._looking:
                self._looking = True
                loop.call_later(LOOK, self._look)
        return run

    def _look(self) -> None:
        """Watch those that are not over after all this time."""
        for run in self._older:
            run.watch()
        self._older, self._young = self._young, []
        self._looking = bool(self._older)
        if self._looking:
            self.loop.call_later(LOOK, self._look)

    def learn(self, run: Run, brief: bool) -> None:
        if not brief:
            self._brief.discard(run.name)
        elif len(self._brief) < _BRIEF_MAX:
            self._brief.add(run.name)

    async def pool(self, route: str, script: bytes) -> bytes:
        self._next = id = self._next + 1 & 0xFFFFFFFF
        found: asyncio.Future[bytes] = self.loop.create_future()
        self._pools[id] = found
        try:
            self._post(WantPool(id, route, script).encode())
            return await found
        finally:
            self._pools.pop(id, None)

    async def open(self, key: str, path: bytes, patience: float) -> int:
        """As `RemoteKeeper.open`; raises Gone when the keeper left, or gives no answer to this."""
        with self._asked(Open(key, path)) as ours:
            answer = await opened(ours, self._descriptors, patience)
        if answer is None:
            raise Gone
        return answer

    async def ask(self, asked: Asked, patience: float) -> TermsAre | Checked:
        """Return the keeper's answer. Raises as `open` does."""
        with self._asked(asked) as ours:
            answer = await answered(ours, self._descriptors, patience)
        if answer is None:
            raise Gone
        return answer

    def _asked(self, message: Open | Asked) -> socket.socket:
        """Send what is answered over a socket of its own, and return our end of that.

        Raises SpawnFailed, Gone.
        """
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            why = f"no socket can be made: {error.strerror}"
            raise SpawnFailed(error.errno or 0, "open", why, 503) from error
        fd = theirs.detach()
        try:
            self._post(message.encode(), (fd,), (fd,))
        except (Gone, SpawnFailed):
            ours.close()
            raise
        return ours

    def release(self, id: int, queued: bool) -> None:
        if queued:
            self._runs.pop(id, None)
        if self._fd >= 0 and not self._withdrawn(id):
            try:
                self._post(Release(id).encode())
            except Gone:
                pass  # then it is released already

    def _withdrawn(self, id: int) -> bool:
        """Take back an order that the keeper had no room for yet; return whether it was one."""
        for place, (_, fds, run) in enumerate(self._outbox):
            if run is not None and run.id == id:
                del self._outbox[place]
                _close(fds)
                if not self._outbox:
                    self._descriptors.remove_writer(self._fd)
                return True
        return False

    def lose(self) -> None:
        """Close the channel. What was ordered is `LOST`."""
        self.closed = True
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        self._descriptors.remove_reader(fd)
        if self._outbox:
            self._descriptors.remove_writer(fd)
        self._sock.close()
        for _, fds, _ in self._outbox:
            _close(fds)
        self._outbox.clear()
        self._turn_away()
        runs, self._runs = self._runs, {}
        for run in runs.values():
            # Not 503: it may have run, so nobody is to be told to try again.
            why = "the user's keeper ended before the script's answer had begun"
            run.lost(SpawnFailed(0, "connect", why, 502))
        self._gone(self)

    def _turn_away(self) -> None:
        """Tell all that wait for a pool that this keeper will not answer."""
        for waiter in self._pools.values():
            if not waiter.done():
                waiter.set_exception(Gone())
        self._pools.clear()

    # Out.

    def _post(
        self,
        data: bytes,
        fds: tuple[int, ...] = (),
        owned: tuple[int, ...] = (),
        run: Run | None = None,
    ) -> None:
        """Send now or when there is room; `owned` of `fds` are closed then. `run` is what is
        ordered, if anything: while there is no room it is `queued`. Raises Gone, and SpawnFailed
        where too much waits already, unless nothing new is asked for."""
        if len(self._outbox) >= self._room and data[0] != RELEASE:
            _close(owned)
            why = f"the user's keeper takes nothing: {len(self._outbox)} orders wait for it"
            raise SpawnFailed(0, "queue", why, 503)
        if not self._outbox:
            try:
                send(self._sock, data, fds)
            except BlockingIOError:
                self._descriptors.add_writer(self._fd, self._writable)
            except OSError as error:
                _close(owned)
                self.lose()
                raise Gone from error
            else:
                for fd in owned:
                    os.close(fd)
                return
        # A descriptor of the caller's may be closed before there is room.
        kept = tuple(fd if fd in owned else os.dup(fd) for fd in fds)
        self._outbox.append((data, kept, run))
        if run is not None:
            run.queued()

    def _writable(self) -> None:
        outbox = self._outbox
        while outbox:
            data, fds, run = outbox[0]
            try:
                send(self._sock, data, fds)
            except BlockingIOError:
                return
            except OSError:
                self.lose()
                return
            outbox.popleft()
            _close(fds)
            if run is not None:
                run.started()
        self._descriptors.remove_writer(self._fd)

    # In.

    def _readable(self) -> None:
        # One message in each turn: the loop comes again if there are more, and asking for one that
        # is not there costs as much.
        try:
            data = self._sock.recv(REPLY_MAX)
            if data and data[0] == EXITED:
                for id, status, cpu, memory in decode_exits(data):
                    run = self._runs.pop(id, None)
                    if run is not None:
                        run.ended(Exit(status, cpu, memory))
            else:
                self._other(decode(data))
        except BlockingIOError:
            return
        except (OSError, ValueError):
            # The end (an empty message), a reset, or a keeper that does not keep to the form.
            self.lose()
        if self.closed and not self._runs:
            self.lose()

    def _other(self, message: Message) -> None:
        if isinstance(message, Queued):
            if (run := self._runs.get(message.id)) is not None:
                run.queued()
        elif isinstance(message, Started):
            if (run := self._runs.get(message.id)) is not None:
                run.started()
        elif isinstance(message, Failed):
            failed = SpawnFailed(message.errno, message.step, message.why, message.status)
            if message.step == "queue":
                self._full, self._full_until = message.why, self.loop.time() + FULL_FOR
            if (run := self._runs.pop(message.id, None)) is not None:
                run.failed(failed)
            if (found := self._pools.get(message.id)) is not None and not found.done():
                found.set_exception(failed)
        elif isinstance(message, Faulted):
            if (run := self._runs.get(message.id)) is not None:
                run.blame = message.why
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


def _pipes(body: bool, foreign: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Make the pipes of one script: (our ends of stdout, stderr, stdin), (the script's ends).

    Ours are non-blocking; the script's must not be, since no program expects that. A `foreign`
    user, who is not ours, may open them again, as scripts do that write to /dev/stderr; nobody else
    finds them, since they are in /proc/PID/fd alone. Raises SpawnFailed when this process may not
    open more files.
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
    if foreign:
        for fd in made[::2]:  # both ends of a pipe are one file
            os.fchmod(fd, 0o666)
    os.set_blocking(made[0], False)
    os.set_blocking(made[2], False)
    if not body:
        return (made[0], made[2]), (made[1], made[3])
    os.set_blocking(made[5], False)
    return (made[0], made[2], made[5]), (made[1], made[3], made[4])


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
