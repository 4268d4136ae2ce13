"""A small selector loop with timers: what a keeper (and whoever else needs no asyncio) turns on.

Decides the order of things in one turn: what is ready first, then what is due. Must not know what
any of it means. epoll itself rather than `selectors`: a keeper starts thousands of scripts a
second and the wrapper costs more than the call.
"""

import heapq
import select
import time
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT

Handler = Callable[[], object]


class Timer:
    """Something to do at a moment. `cancel()` forgets it."""

    __slots__ = ("_action", "when")

    def __init__(self, when: float, action: Handler) -> None:
        self.when = when
        self._action: Handler | None = action

    def __lt__(self, other: "Timer") -> bool:
        return self.when < other.when

    @property
    def dead(self) -> bool:
        return self._action is None

    def cancel(self) -> None:
        self._action = None

    def fire(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            action()


class Loop:
    """Handlers for descriptors, and timers. One thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, tuple[Handler, Handler]] = {}
        self._timers: list[Timer] = []

    def watch(self, fd: int, read: Handler, write: Handler | None = None) -> None:
        """Call `read` whenever `fd` is readable (or ended), `write` whenever it is writable.

        Watching a descriptor again replaces its handlers.
        """
        mask = READ if write is None else READ | WRITE
        if fd in self._handlers:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._handlers[fd] = (read, write or read)

    def unwatch(self, fd: int) -> None:
        """Forget `fd`, which must still be open. Forgetting it twice is nothing."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def at(self, when: float, action: Handler) -> Timer:
        """Call `action` once at `when`, a time of `time.monotonic()`."""
        timer = Timer(when, action)
        heapq.heappush(self._timers, timer)
        return timer

    def turn(self) -> None:
        """Wait until something is ready or due, and do it."""
        timers = self._timers
        while timers and timers[0].dead:
            heapq.heappop(timers)
        timeout = max(0.0, timers[0].when - time.monotonic()) if timers else None
        handlers = self._handlers
        for fd, mask in self._epoll.poll(timeout, 64):
            found = handlers.get(fd)
            if found is None:
                continue  # an earlier handler of this turn let go of it
            if mask & WRITE:
                found[1]()
            if mask & ~WRITE and handlers.get(fd) is found:
                found[0]()
        if timers:
            now = time.monotonic()
            while timers and timers[0].when <= now:
                heapq.heappop(timers).fire()

    def close(self) -> None:
        self._epoll.close()
