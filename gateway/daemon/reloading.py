"""Reading the settings again while requests go on.

Decides the order, in which nothing is missing at any moment: read and check; open what is new;
start the keepers of pools, then the fronts; when all of those serve, let the old ones finish, and
close what nobody names any more. Whatever goes wrong before that leaves the old settings serving.
Keepers that no front has any more are told to leave. A socket that stays is never closed: new and
old fronts take from one queue of the kernel. Starts nothing by itself: the master does.
"""

import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from gateway.config.keepers import pools_of, users
from gateway.config.load import SettingsFile
from gateway.config.settings import Settings
from gateway.daemon.clearing import Clearing
from gateway.daemon.generations import Child, Generation, Generations, fixed, tell
from gateway.daemon.openings import Opened, leave, renewed, set_rights
from gateway.daemon.runtime import Logs, Runtime, open_logs
from gateway.journal import Journal
from gateway.listeners.sockets import Inherited
from gateway.process.mastering import (
    FrontLogs,
    Retire,
)
from gateway.process.mastering import (
    Logs as KeeperLogs,
)
from gateway.reading import BadConfig

START = 60.0
"""Seconds in which new fronts must serve; then the old ones go on."""
MARGIN = 2.0
"""Seconds beyond drain and grace after which a front that does not leave is killed."""

Answer = Callable[[int, Sequence[str]], None]
"""Takes the exit code of `gateway reload` and what it prints."""


class Reloading:
    """One reload after the other; see the module."""

    def __init__(
        self,
        file: SettingsFile | None,
        inherited: Inherited,
        generations: Generations,
        children: Mapping[int, Child],
        runtime: Runtime,
        logs: Logs,
        journal: Journal,
        start_front: Callable[[str, Generation], None],
        start_keeper: Callable[[str, Generation], Child],
        prepare: Callable[[Settings], None],
    ) -> None:
        """`file` is None where the settings came from a command line; `prepare` makes what other
        settings need (OSError)."""
        self._prepare = prepare
        self.count = 0
        """Reloads that were done."""
        self._file = file
        self._inherited = inherited
        self._generations = generations
        self._children = children
        self._runtime = runtime
        self._logs = logs
        self._journal = journal
        self._start_front = start_front
        self._start_keeper = start_keeper
        self._number = 1
        self._clearing = Clearing()
        """Directories of generations that nobody uses any more."""
        self._fresh: Logs | None = None
        """The logs of the coming generation."""
        self._began = 0.0
        self._asking: list[Answer] = []
        """Who is told how the reload that is under way ends."""
        self._later: list[Answer] = []
        """Who asked meanwhile: the file may have changed since it was read."""

    # -- from the word to new fronts ---------------------------------------------------------------

    def begin(self, answer: Answer) -> None:
        """Read the settings again. `answer` is told how that ended."""
        if self._generations.coming is not None:
            self._later.append(answer)
            return
        self._asking = [answer]
        self._began = time.monotonic()
        if self._file is None:
            self._refuse(1, ["there is no settings file to read again: restart it instead"])
            return
        try:
            settings = self._file.load()
        except BadConfig as bad:
            self._refuse(2, [str(problem) for problem in bad.every()])
            return
        except MemoryError:
            self._refuse(1, ["there is not enough memory to read the settings"])
            return
        if problems := fixed(self._generations.serving.settings, settings):
            self._refuse(2, problems)
            return
        try:
            self._prepare(settings)
            self._fresh = open_logs(settings.log)
            listeners = renewed(
                self._generations.serving.listeners,
                settings.listen,
                self._inherited,
                lambda text: self._journal.write("warn", text),
            )
        except (OSError, ValueError, KeyError) as error:
            text = error.strerror if isinstance(error, OSError) else None
            self._refuse(1, [text or str(error)])
            return
        self._start(settings, listeners)

    def _start(self, settings: Settings, listeners: Sequence[Opened]) -> None:
        self._number += 1
        number = self._number
        coming = Generation(number, settings, listeners, self._runtime.pools(number))
        coming.deadline = time.monotonic() + START
        self._generations.coming = coming
        try:
            for seat in coming.inherit(self._generations.serving):
                if pools_of(settings, seat.user):
                    self._runtime.share(coming.pools, seat.user, seat.sockets)
            for user in users(settings):
                if user not in coming.seats and pools_of(settings, user):
                    self._start_keeper(user, coming)
            for front in range(1, settings.server.front_count + 1):
                self._start_front(f"front {number}.{front}", coming)
        except (OSError, KeyError) as error:
            self.failed(f"cannot start: {error}")

    def ready(self, front: Child) -> None:
        """A front serves. When all new ones do, the old ones may leave."""
        coming = self._generations.coming
        if coming is None or front.generation != coming.number:
            return
        if sum(each.ready for each in self._fronts(coming)) >= coming.settings.server.front_count:
            self._finish()

    def _fronts(self, generation: Generation) -> list[Child]:
        return [
            child
            for child in self._children.values()
            if not child.user and child.generation == generation.number
        ]

    def front_ended(self, front: Child, code: int) -> bool:
        """A front has ended. Return whether it must be there all the same."""
        generation = next(
            (each for each in self._generations.every() if each.number == front.generation), None
        )
        if generation is None:
            return False
        if generation is self._generations.coming:
            front.leaving = True
            self.failed(f"{front.name} ended with {code} before all of them served")
        self.maybe_over(generation)
        return generation is self._generations.serving

    # -- how it ends -------------------------------------------------------------------------------

    def _finish(self) -> None:
        old = self._generations.promote()
        new = self._generations.serving
        new.deadline = math.inf
        limits = old.settings.limits
        old.deadline = time.monotonic() + limits.drain + limits.grace + MARGIN
        for front in self._fronts(old):
            front.leaving = True
            tell(front, Retire(limits.drain))
        try:
            set_rights(old.listeners, new.listeners)
        except OSError as error:
            self._journal.write("error", f"the rights of a socket stay as they are: {error}")
        leave(old.listeners, new.listeners)
        if self._fresh is not None:
            self._logs.replace(self._fresh)
            self._fresh = None
            self._spread_logs()
        self.count += 1
        took = time.monotonic() - self._began
        text = f"settings read again, {len(new.settings.site)} sites, in {took:.2f} s"
        self._journal.write("info", text)
        self._tell(0, [text])
        self.maybe_over(old)

    def failed(self, why: str) -> None:
        """The new fronts do not come to serve: the old ones go on."""
        coming = self._generations.coming
        if coming is None:
            return
        self._generations.coming = None
        for front in self._fronts(coming):
            front.leaving = True
            os.kill(front.pid, signal.SIGKILL)
        leave(coming.listeners, self._generations.serving.listeners)
        self._dismiss(coming)
        self._refuse(1, [why])

    def _refuse(self, code: int, lines: Sequence[str]) -> None:
        if self._fresh is not None:
            os.close(self._fresh.access)
            os.close(self._fresh.error)
            self._fresh = None
        for line in lines:
            self._journal.write("error", f"reload: {line}")
        self._journal.write("error", "reload: the settings stay as they were")
        self._tell(code, lines)

    def _tell(self, code: int, lines: Sequence[str]) -> None:
        asking, self._asking = self._asking, []
        for answer in asking:
            answer(code, lines)
        if self._later:
            later, self._later = self._later, []

            def to_all(code: int, lines: Sequence[str]) -> None:
                for answer in later:
                    answer(code, lines)

            self.begin(to_all)

    # -- logs --------------------------------------------------------------------------------------

    def reopen_logs(self) -> None:
        """Open the logs again, after something has renamed them."""
        try:
            self._logs.reopen(self._generations.serving.settings.log)
        except OSError as error:
            self._journal.write("error", f"the logs stay as they are: {error.strerror or error}")
            return
        self._spread_logs()

    def _spread_logs(self) -> None:
        """Let everybody write where the master writes."""
        for child in self._children.values():
            if not child.user:
                tell(child, FrontLogs(), self._logs.error, self._logs.access)
            else:
                tell(child, KeeperLogs(), self._logs.error)

    # -- the old ones ------------------------------------------------------------------------------

    def maybe_over(self, generation: Generation) -> None:
        """See whether a generation that was replaced has no front left."""
        if generation in self._generations.retired and not self._fronts(generation):
            self._generations.retired.remove(generation)
            self._dismiss(generation)

    def _dismiss(self, over: Generation) -> None:
        """Send away the keepers that nobody needs any more."""
        for seat in self._generations.unused(over):
            keeper, seat.keeper = seat.keeper, None
            if keeper is not None:
                self._generations.dismiss(keeper, 0.0)
        for pools in {over.pools, *(seat.pools for seat in over.seats.values())}:
            if not self._generations.holds(pools):
                self._clearing.begin(pools)

    def due(self) -> float:
        """Return the moment of the next deadline; infinity for none."""
        deadlines = (each.deadline for each in self._generations.every())
        return min(self._clearing.due(), *deadlines)

    def sweep(self) -> None:
        """Do what is due."""
        self._clearing.sweep()
        now = time.monotonic()
        coming = self._generations.coming
        if coming is not None and now >= coming.deadline:
            self.failed(f"the new fronts do not serve within {START:.0f} s")
        for generation in self._generations.retired:
            if now >= generation.deadline:
                generation.deadline = math.inf
                for front in self._fronts(generation):
                    self._journal.write("error", f"{front.name} does not leave; it is killed")
                    os.kill(front.pid, signal.SIGKILL)
