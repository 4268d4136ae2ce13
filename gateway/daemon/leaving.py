"""How the daemon leaves: fronts first, then the keepers, then what does not leave by itself.

Decides that the first word lets what runs finish and the second one does not, and that keepers that
were told to leave before are killed when their time is over.
"""

import math
import os
import signal
import time
from collections.abc import Mapping

from gateway.daemon.generations import Child, Generations, tell
from gateway.daemon.openings import close
from gateway.journal import Journal
from gateway.process.mastering import (
    Stop,
)


class Leaving:
    """See the module."""

    def __init__(
        self, generations: Generations, children: Mapping[int, Child], journal: Journal
    ) -> None:
        self.begun = False
        self._generations = generations
        self._children = children
        self._journal = journal
        self._deadline = math.inf

    def begin(self) -> None:
        """First word: finish what runs. Second: at once."""
        now = time.monotonic()
        limits = self._generations.serving.settings.limits
        drain = 0.0 if self.begun else limits.drain
        self.begun = True
        for generation in self._generations.every():
            # The fronts close theirs; nobody waits where no answer comes.
            close(generation.listeners)
        self._deadline = now + drain + limits.grace + 2.0
        for child in self._children.values():
            if not child.user:
                tell(child, Stop(drain))
        self._stop_keepers_when_alone()

    def _stop_keepers_when_alone(self) -> None:
        if any(not child.user for child in self._children.values()):
            return
        for child in self._children.values():
            if not child.leaving:
                child.leaving = True
                tell(child, Stop(0.0))

    def due(self) -> float:
        """Return when `sweep` has something to do; infinity for never."""
        return min((due for due, _ in self._generations.dismissed), default=self._deadline)

    def sweep(self) -> None:
        """Go on with it, if it has begun."""
        if not self.begun:
            self._end_dismissed()
            return
        self._generations.dismissed.clear()  # one deadline is for all from now
        self._stop_keepers_when_alone()
        if time.monotonic() >= self._deadline:
            for child in self._children.values():
                self._kill(child)
            self._deadline = time.monotonic() + 1.0

    def _end_dismissed(self) -> None:
        """Kill the keepers that were told to leave, and are still there."""
        dismissed = self._generations.dismissed
        now = time.monotonic()
        for each in list(dismissed):
            due, keeper = each
            if self._children.get(keeper.pid) is not keeper:
                dismissed.remove(each)
            elif now >= due:
                dismissed.remove(each)
                self._kill(keeper)

    def _kill(self, child: Child) -> None:
        self._journal.write("error", f"{child.name} does not leave; it is killed")
        os.kill(child.pid, signal.SIGKILL)
