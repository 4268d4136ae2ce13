"""`add_reader` and `add_writer` that lose no error, on whatever event loop.

uvloop drops a descriptor for which the kernel reports EPOLLERR without a word to anybody: a Unix
socket whose other end was closed, or killed, with something unread does that, and whoever waited
for its end would wait until a deadline. So these descriptors stand in an epoll set of ours, level
triggered, and the loop watches that. An error or a hang-up makes a descriptor ready for both.
"""

import asyncio
import select
from collections.abc import Callable
from weakref import WeakKeyDictionary

_GONE = select.EPOLLERR | select.EPOLLHUP
_READABLE = select.EPOLLIN | _GONE
_WRITABLE = select.EPOLLOUT | _GONE


class Descriptors:
    """Those of one event loop; `Descriptors.of(loop)` is the only one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._turn)

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> "Descriptors":
        found = _all.get(loop)
        if found is None:
            found = _all[loop] = Descriptors(loop)
        return found

    def add_reader(self, fd: int, call: Callable[[], None]) -> None:
        """Call `call` whenever `fd` can be read without waiting, until `remove_reader`."""
        known = fd in self._readers or fd in self._writers
        self._readers[fd] = call
        self._register(fd, known)

    def add_writer(self, fd: int, call: Callable[[], None]) -> None:
        """Call `call` whenever `fd` can be written without waiting, until `remove_writer`."""
        known = fd in self._readers or fd in self._writers
        self._writers[fd] = call
        self._register(fd, known)

    def remove_reader(self, fd: int) -> None:
        """No more calls; before `fd` is closed. Removing what is not there is nothing."""
        if self._readers.pop(fd, None) is not None:
            self._register(fd, True)

    def remove_writer(self, fd: int) -> None:
        if self._writers.pop(fd, None) is not None:
            self._register(fd, True)

    def _register(self, fd: int, known: bool) -> None:
        events = select.EPOLLIN if fd in self._readers else 0
        if fd in self._writers:
            events |= select.EPOLLOUT
        if not events:
            self._epoll.unregister(fd)
        elif known:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)

    def _turn(self) -> None:
        for fd, mask in self._epoll.poll(0, 64):
            if mask & _READABLE and (reader := self._readers.get(fd)) is not None:
                reader()
            if mask & _WRITABLE and (writer := self._writers.get(fd)) is not None:
                writer()


_all: WeakKeyDictionary[asyncio.AbstractEventLoop, Descriptors] = WeakKeyDictionary()
