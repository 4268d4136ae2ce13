"""When a child that has ended is started again: at once, or later and later if it keeps ending.

Decides the delays. Starts nothing.
"""

import math
import time

from gateway.daemon.generations import Child

FAST_DEATH = 2.0
"""Seconds; a child that lives shorter is started again with a growing delay."""
DELAY_MAX = 10.0


class Restarts:
    """The children that are to be started again."""

    def __init__(self) -> None:
        self._delays: dict[str, float] = {}
        self._waiting: list[tuple[float, Child]] = []

    def again(self, child: Child) -> float:
        """Have `child` started again: at once, or after a growing delay if it lived too shortly.

        Return the delay in seconds.
        """
        now = time.monotonic()
        delay = 0.0
        if now - child.born < FAST_DEATH:
            delay = min(DELAY_MAX, self._delays.get(child.name, 0.05) * 2)
        self._delays[child.name] = delay
        self._waiting.append((now + delay, child))
        return delay

    def take(self) -> list[Child]:
        """Return those whose moment has come."""
        now = time.monotonic()
        due = [child for moment, child in self._waiting if moment <= now]
        if due:
            self._waiting = [entry for entry in self._waiting if entry[0] > now]
        return due

    def due(self) -> float:
        """Return the next such moment; infinity for none."""
        return min((moment for moment, _ in self._waiting), default=math.inf)

    def clear(self) -> None:
        """Start none of them."""
        self._waiting.clear()
