"""Signals as bytes on a descriptor, so that a loop can wait for them beside everything else.

Decides that nothing is done inside a signal handler: it has no word but the number, and the loop
acts. Caught from before anything is opened, so that a signal never finds the work half done.
"""

import os
import signal


def _ignore(number: int, frame: object) -> None:
    """The wake-up descriptor has told the loop already."""


class Signals:
    """The signals of this process. Make it once, early."""

    def __init__(self, numbers: tuple[signal.Signals, ...]) -> None:
        self._numbers = numbers
        self.fd, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        """Readable when signals have come."""
        for number in numbers:
            signal.signal(number, _ignore)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def take(self) -> bytes:
        """Return the numbers that have come, in order; several of a kind may be one."""
        try:
            return os.read(self.fd, 4096)
        except BlockingIOError:
            return b""

    def give_up(self) -> None:
        """Go back to what signals do by default; in a child, before its own work."""
        signal.set_wakeup_fd(-1)
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)
        os.close(self.fd)
        os.close(self._writer)
