"""A script's pipes, as an asyncio program reads and writes them.

Decides when the event loop is asked at all: what is there is taken at once, and only a read or
write that would wait waits for an event. Bodies are pulled (STYLE section 0.2): nothing is read
that nobody waits for, so a slow reader stops the script. Must not know what flows through. Works on
asyncio's loop and on uvloop's; each object owns its descriptor, which must be non-blocking.

A pipe may also be left out of the event loop at first (`later`): of most scripts all the output is
there once they have ended, and nothing is gained by being told of it before. Then `look` is called.

All pipes of a loop share one epoll descriptor of ours, which the loop watches, and are in it
edge-triggered: one system call for the life of a pipe, where `add_reader` and `remove_reader` for
each wait cost nine, and 20 us of a script's 150 in the front. An edge is lost if nobody remembers
it, so each reader keeps in `_ready` whether there may be something to read.
"""

import asyncio
import os
import select
from collections.abc import Awaitable, Callable
from weakref import WeakKeyDictionary

PIECE = 65536
"""Bytes read at once: what a pipe holds on Linux."""

_READ = select.EPOLLIN | select.EPOLLET
_WRITE = select.EPOLLOUT | select.EPOLLET
_ENDED = select.EPOLLHUP | select.EPOLLERR


class Watch:
    """The pipes that one event loop waits for. `Watch.of(loop)` is the loop's only one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        loop.add_reader(self._epoll.fileno(), self.turn)

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> "Watch":
        watch = _watches.get(loop)
        if watch is None:
            watch = _watches[loop] = Watch(loop)
        return watch

    def add(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Call this before `fd` is closed; closing it takes it out of the epoll set."""
        self._handlers.pop(fd, None)

    def turn(self) -> None:
        """Tell what has happened to those whom it concerns."""
        handlers = self._handlers
        for fd, mask in self._epoll.poll(0, 64):
            handler = handlers.get(fd)
            if handler is not None:
                handler(mask)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, Watch] = WeakKeyDictionary()


class PipeReader:
    """The reading end of a pipe: an `exchange.Stream`. One reader at a time."""

    __slots__ = (
        "_error", "_fd", "_feed", "_last", "_loop", "_ready", "_waiter", "_watch", "_watched",
        "ended", "full", "hung_up", "pieces", "silent",
        "since",
    )  # fmt: skip

    def __init__(
        self,
        fd: int,
        loop: asyncio.AbstractEventLoop | None = None,
        watch: Watch | None = None,
        *,
        later: bool = False,
    ) -> None:
        """With `later` nothing is seen of the pipe before `watch` or `look` is called."""
        self._fd = fd
        self._loop = loop or asyncio.get_running_loop()
        self._watch = watch or Watch.of(self._loop)
        self._waiter: asyncio.Future[bytes] | None = None
        self._error: Exception | None = None
        self._feed: Callable[[bytes], None] | None = None
        self._ready = False
        self.ended = False
        """The end was read: nobody holds the other end any more."""
        self.hung_up = False
        """Nobody holds the other end any more, though something may be left to read."""
        self.since = 0.0
        """The loop's time of the first piece."""
        self.pieces = 0
        """Pieces that were read."""
        self.full = False
        """A piece was as long as a pipe holds, so that its writer may have had to wait."""
        self.silent: Callable[[], Awaitable[None]] | None = None
        """Awaited at the end of a pipe from which not one byte was read; it may call `fail`."""
        self._last: Callable[[], None] | None = None
        """Called whenever a read waits though all that there is should be there."""
        self._watched = False
        if not later:
            self.watch()

    async def read(self) -> bytes:
        """Return the next piece, or b"" at the end, after `close`, and ever after.

        Raises OSError for a descriptor that cannot be read, or what `fail` was given.
        """
        if self._error is not None:
            raise self._error
        if self._fd < 0:
            return b""
        if self._ready:
            data = self._take()
            if data is not None:
                return data if data or self.pieces else await self._nothing()
        waiter: asyncio.Future[bytes] = self._loop.create_future()
        self._waiter = waiter
        if self._last is not None:
            self._last()
        return await waiter or (b"" if self.pieces else await self._nothing())

    @property
    def dry(self) -> bool:
        """Whether somebody waits in `read`, and so nothing is there to be read."""
        return self._waiter is not None and not self._waiter.done()

    async def _nothing(self) -> bytes:
        """The pipe has ended, and never had anything in it: let `silent` say how that is."""
        if self.silent is not None:
            await self.silent()
            if self._error is not None:
                raise self._error
        return b""

    def watch(self) -> None:
        """Let the event loop tell of what comes. Once is enough."""
        if not self._watched and self._fd >= 0:
            self._watched = True
            # A pipe that is readable already tells so at once.
            self._watch.add(self._fd, _READ, self._event)

    def look(self, last: Callable[[], None]) -> None:
        """What there is to read should be there now: its writer has ended.

        `last` is called whenever a `read` has to wait after that.
        """
        if self._fd < 0:
            return
        self._last = last
        self._ready = True
        if self.dry:
            self._event(0)
            if self.dry:
                last()

    def fail(self, error: Exception) -> None:
        """Let `read`, the one that waits and any later one, raise `error`."""
        self._error = error
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def tap(self, feed: Callable[[bytes], None]) -> None:
        """From now on give what comes to `feed`, at once, instead of to `read`."""
        self._feed = feed
        if self._ready:
            self._pour()

    def close(self) -> None:
        """Close the pipe; a read that waits ends with b"". Closing twice is nothing.

        What a tapped pipe still holds is given to its `feed` first: last words are not lost.
        """
        if self._fd < 0:
            return
        feed, self._feed = self._feed, None
        if feed is not None and not self.ended:
            try:
                data = self._take()
            except OSError:
                data = None
            if data:
                feed(data)
        fd, self._fd = self._fd, -1
        self._last = None
        if fd >= 0:
            if self._watched:
                self._watch.forget(fd)
            os.close(fd)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(b"")

    def _take(self) -> bytes | None:
        """Read what is there; None if nothing is. Closes the pipe at its end."""
        try:
            data = os.read(self._fd, PIECE)
        except BlockingIOError:
            self._ready = False
            self.watch()
            return None
        if not data:
            self.ended = self.hung_up = True
            self._feed = None
            self.close()
            return data
        if not self.pieces:
            self.since = self._loop.time()
        self.pieces += 1
        if len(data) == PIECE:
            self.full = True
        elif not self.hung_up and self._last is None:
            self._ready = False  # it is empty now; what comes next is a new edge
        return data

    def _event(self, mask: int) -> None:
        self._ready = True
        if mask & _ENDED:
            self.hung_up = True
        if self._feed is not None:
            self._pour()
            return
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        try:
            data = self._take()
        except OSError as error:
            self._waiter = None
            waiter.set_exception(error)
            return
        if data is not None and not waiter.done():
            self._waiter = None
            waiter.set_result(data)

    def _pour(self) -> None:
        """Give one piece to `feed`, and come again if there may be more."""
        feed = self._feed
        if feed is None or self._fd < 0:
            return
        try:
            data = self._take()
        except OSError:
            self.close()
            return
        if data:
            feed(data)
            if self._ready:
                self._loop.call_soon(self._pour)  # others have their turn in between


class PipeWriter:
    """The writing end of a pipe. One writer at a time."""

    __slots__ = ("_fd", "_loop", "_waiter", "_watch", "_watched")

    def __init__(
        self,
        fd: int,
        loop: asyncio.AbstractEventLoop | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._fd = fd
        self._loop = loop or asyncio.get_running_loop()
        self._watch = watch or Watch.of(self._loop)
        self._watched = False
        self._waiter: asyncio.Future[None] | None = None

    async def write(self, data: bytes) -> None:
        """Write all of `data`. Raises BrokenPipeError when nobody reads it, or after `close`."""
        if self._fd < 0:
            raise BrokenPipeError("the pipe is closed")
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await self._writable()
                if self._fd < 0:
                    raise BrokenPipeError("the pipe is closed") from None

    def close(self) -> None:
        """Close the pipe: its reader sees the end. Closing twice is nothing."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        self._watch.forget(fd)
        os.close(fd)
        self._event(0)

    async def _writable(self) -> None:
        waiter = self._waiter = self._loop.create_future()
        if not self._watched:
            self._watched = True
            self._watch.add(self._fd, _WRITE, self._event)
        await waiter

    def _event(self, mask: int) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
