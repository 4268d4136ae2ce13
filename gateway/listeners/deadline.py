"""The deadlines of one connection, on one lazily re-armed timer.

Decides when a cause has expired, not what is done about it: that is `TABLE`, read by `drive` and by
the listener. A timeout around each read costs 11-43 % of all requests (measured); here arming and
disarming are one dictionary entry, and the timer is moved only when it goes off.
"""

import asyncio
from collections.abc import Callable
from enum import Enum


class Cause(Enum):
    """Why an exchange is ended from outside: a deadline, or the peer is gone, or we are leaving."""

    __hash__ = object.__hash__  # Enum's own runs in Python, three times a request

    HEAD = "head"
    KEEPALIVE = "keepalive"
    BODY = "body"
    FIRST_BYTE = "first_byte"
    IDLE = "idle"
    CLIENT = "client"
    TOTAL = "total"
    LINGER = "linger"
    LOOK = "look"
    """No deadline: time to look for a peer from which nothing is read; see `line.py`."""
    GONE = "gone"
    DRAIN = "drain"


TABLE: dict[Cause, tuple[int, str]] = {
    Cause.HEAD: (408, "the request head was not complete in time"),
    Cause.KEEPALIVE: (0, "no further request came"),
    Cause.BODY: (408, "the request body stopped coming"),
    Cause.FIRST_BYTE: (504, "no answer came in time"),
    Cause.IDLE: (504, "the answer stopped coming"),
    Cause.CLIENT: (0, "the client stopped reading"),
    Cause.TOTAL: (504, "the exchange took too long"),
    Cause.LINGER: (0, "the client did not close after the answer"),
    Cause.GONE: (0, "the client is gone"),
    Cause.DRAIN: (503, "the server is stopping"),
}
"""Cause -> (status while no head is out, or 0 for none at all; words for the log)."""


class Deadline:
    """Any number of causes, one timer. `expired` is called once for each cause that runs out."""

    __slots__ = ("_dues", "_expired", "_loop", "_timer", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[Cause], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._dues: dict[Cause, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._when = 0.0

    def arm(self, cause: Cause, seconds: float) -> None:
        """Let `cause` expire `seconds` from now; arming again moves it."""
        due = self._loop.time() + seconds
        self._dues[cause] = due
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._fire)
            self._when = due
        elif due < self._when:
            self._timer.cancel()
            self._timer = self._loop.call_at(due, self._fire)
            self._when = due

    def arm_once(self, cause: Cause, seconds: float) -> None:
        """Let `cause` expire `seconds` from now unless it is armed already."""
        if cause not in self._dues:
            self.arm(cause, seconds)

    def extend(self, cause: Cause, seconds: float) -> None:
        """Move `cause` to `seconds` from now if it is armed: there was progress."""
        if cause in self._dues:
            self._dues[cause] = self._loop.time() + seconds

    def disarm(self, cause: Cause) -> None:
        self._dues.pop(cause, None)

    def clear(self) -> None:
        """Forget every cause and the timer: the connection is closed."""
        self._dues.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        # Timers may go off a clock tick early; what is due within it is due.
        now = self._loop.time() + 0.001
        expired = [cause for cause, due in self._dues.items() if due <= now]
        for cause in expired:
            del self._dues[cause]
        if self._dues:
            self._when = min(self._dues.values())
            self._timer = self._loop.call_at(self._when, self._fire)
        for cause in expired:
            self._expired(cause)
