"""What can be asked of a running daemon: `gateway reload`, `stop`, `status`, and `ping`.

Decides the words; how they come is `control.py`'s.
"""

from collections.abc import Callable, Sequence

from gateway.daemon.control import Answer
from gateway.daemon.figures import FORMS, Census
from gateway.daemon.leaving import Leaving
from gateway.daemon.reloading import Reloading


class Commands:
    """See the module."""

    def __init__(
        self, reloading: Reloading, census: Census, leaving: Leaving, stop: Callable[[], None]
    ) -> None:
        self._reloading = reloading
        self._census = census
        self._leaving = leaving
        self._stop = stop

    def reload(self, answer: Answer) -> None:
        """Read the settings again, unless the daemon is leaving."""
        if self._leaving.begun:
            answer(1, ["it is leaving"])
        else:
            self._reloading.begin(answer)

    def run(self, words: Sequence[str], answer: Answer) -> bool:
        """Do what is asked; see `Control`. Raises ValueError."""
        match words:
            case ["ping"]:
                answer(0, [])
            case ["reload"]:
                self.reload(answer)
            case ["status", form] if form in FORMS:
                self._census.begin(form, answer)
            case ["stop"]:
                self._stop()
                return True
            case _:
                raise ValueError("not a command")
        return False
