"""A script's pipes, as an asyncio program reads and writes them.

Decides when the event loop is asked at all: a read or write is tried first, and only one that would
wait is watched. Bodies are pulled (STYLE section 0.2): nothing is read that nobody waits for, so a
slow reader stops the script. Must not know what flows through. Works on asyncio's loop and on
uvloop's; each object owns its descriptor, which must be non-blocking.
"""

import asyncio
import os
from collections.abc import Callable

PIECE = 65536
"""Bytes read at once: what a pipe holds on Linux."""


class PipeReader:
    """The reading end of a pipe: an `exchange.Stream`. One reader at a time."""

    __slots__ = ("_error", "_fd", "_feed", "_loop", "_waiter", "_watching", "ended")

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._fd = fd
        self._loop = loop or asyncio.get_running_loop()
        self._waiter: asyncio.Future[bytes] | None = None
        self._watching = False
        self._error: Exception | None = None
        self._feed: Callable[[bytes], None] | None = None
        self.ended = False
        """The end was read: nobody holds the other end any more."""

    async def read(self) -> bytes:
        """Return the next piece, or b"" at the end, after `close`, and ever after.

        Raises OSError for a descriptor that cannot be read, or what `fail` was given.
        """
        if self._error is not None:
            raise self._error
        if self._fd < 0:
            return b""
        try:
            data = os.read(self._fd, PIECE)
        except BlockingIOError:
            pass
        else:
            if not data:
                self.ended = True
                self.close()
            return data
        waiter: asyncio.Future[bytes] = self._loop.create_future()
        self._waiter = waiter
        if not self._watching:
            self._watching = True
            self._loop.add_reader(self._fd, self._readable)
        return await waiter

    @property
    def dry(self) -> bool:
        """Whether somebody waits in `read`, and so nothing is there to be read."""
        return self._waiter is not None and not self._waiter.done()

    def fail(self, error: Exception) -> None:
        """Let `read`, the one that waits and any later one, raise `error`."""
        self._error = error
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def tap(self, feed: Callable[[bytes], None]) -> None:
        """From now on give what comes to `feed`, at once, instead of to `read`."""
        self._feed = feed
        self._watching = True
        self._loop.add_reader(self._fd, self._tapped)

    def _tapped(self) -> None:
        assert self._feed is not None
        try:
            data = os.read(self._fd, PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._feed(data)
        else:
            self.ended = True
            self.close()

    def close(self) -> None:
        """Close the pipe; a read that waits ends with b"". Closing twice is nothing.

        What a tapped pipe still holds is given to its `feed` first: last words are not lost.
        """
        if self._fd >= 0 and self._feed is not None and not self.ended:
            self._drain(self._feed)
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if self._watching:
            self._watching = False
            self._loop.remove_reader(fd)
        os.close(fd)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(b"")

    def _drain(self, feed: Callable[[bytes], None]) -> None:
        try:
            if data := os.read(self._fd, PIECE):
                feed(data)
        except OSError:
            pass  # nothing there

    def _readable(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            # Nobody asks now, and the descriptor stays ready: look again when somebody does.
            self._watching = False
            self._loop.remove_reader(self._fd)
            return
        try:
            data = os.read(self._fd, PIECE)
        except BlockingIOError:
            return
        except OSError as error:
            self._waiter = None
            waiter.set_exception(error)
            return
        self._waiter = None
        waiter.set_result(data)
        if not data:
            self.ended = True
            self.close()


class PipeWriter:
    """The writing end of a pipe. One writer at a time."""

    __slots__ = ("_fd", "_loop", "_waiter")

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._fd = fd
        self._loop = loop or asyncio.get_running_loop()
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
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._loop.remove_writer(fd)
            if not waiter.done():
                waiter.set_result(None)
        os.close(fd)

    async def _writable(self) -> None:
        waiter = self._waiter = self._loop.create_future()
        self._loop.add_writer(self._fd, self._ready)
        try:
            await waiter
        finally:
            if self._waiter is waiter:
                self._waiter = None
                self._loop.remove_writer(self._fd)

    def _ready(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
