"""The master: opens what needs rights, starts the others, restarts and reaps them, leaves last.

Decides which processes there are; which settings they serve is `reloading.py`'s. Holds the
listening sockets and the logs, so that a front or a keeper may die and be replaced without a client
noticing more than its own exchange. Reads no byte from the network, runs no event loop but a
selector, and imports nothing of the fronts before it has forked one: its heap stays small, and with
it the cost of a fork.
"""

import gc
import math
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from gateway.config.keepers import (
    front_account,
    keeper_spec,
    pools_of,
    users,
)
from gateway.config.load import SettingsFile
from gateway.config.settings import Settings
from gateway.daemon import tenantlogs
from gateway.daemon.commands import Commands
from gateway.daemon.control import Control
from gateway.daemon.figures import Census
from gateway.daemon.generations import Child, Generation, Generations, Seat
from gateway.daemon.groups import Groups
from gateway.daemon.introducing import Introducing
from gateway.daemon.leaving import Leaving
from gateway.daemon.openings import Opened, opened
from gateway.daemon.reloading import Reloading
from gateway.daemon.restarts import Restarts
from gateway.daemon.runtime import Logs, Runtime, open_logs
from gateway.daemon.signals import Signals
from gateway.journal import Journal
from gateway.listeners.sockets import Inherited
from gateway.process import birth, keeper, orphans
from gateway.process.accounts import account, our_account
from gateway.process.channel import (
    Message,
)
from gateway.process.mastering import (
    Born,
    Figures,
    Idle,
    Ready,
    Unborn,
    WantKeeper,
    WantLogs,
)
from gateway.process.post import Inbox

SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGHUP,
)
ORPHANS = 5.0
"""Seconds in which what a killed keeper left must be gone when the daemon leaves."""
ORPHANS_PAUSE = 0.01
"""Seconds between two looks at that."""


class Master:
    """See the module."""

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        logs: Logs,
        listeners: Sequence[Opened],
        signals: Signals,
        inherited: Inherited,
        *,
        file: SettingsFile | None,
        explain: bool,
    ) -> None:
        self.signals = signals
        self.runtime = runtime
        self.logs = logs
        self.explain = explain
        self.journal = Journal(logs.error, "master")
        self.groups = Groups(self.journal)
        self.children: dict[int, Child] = {}
        first = Generation(1, settings, listeners, runtime.pools(1))
        self.generations = Generations(first)
        self.reloading = Reloading(
            file,
            inherited,
            self.generations,
            self.children,
            runtime,
            logs,
            self.journal,
            self._start_front,
            self._start_keeper,
            self._prepare,
        )
        self.inbox = Inbox()
        self.selector = selectors.DefaultSelector()
        self.restarts = Restarts()
        self.leaving = Leaving(self.generations, self.children, self.journal)
        self.introducing = Introducing(
            self.generations, self.leaving, self.journal, self._start_keeper
        )
        self.census = Census(self.generations, self.children, self.reloading, file)
        self.commands = Commands(self.reloading, self.census, self.leaving, self._stop)
        self.control = Control(self.selector, self.journal, self.commands.run)

    @property
    def settings(self) -> Settings:
        """Those that serve."""
        return self.generations.serving.settings

    def _prepare(self, settings: Settings) -> None:
        """Make what tenants need. Raises OSError in words."""
        if settings.tenants is not None and settings.tenants.logs:
            tenantlogs.prepare(settings.tenants.logs)
        self.groups.expect(settings.tenants)

    # -- the loop ------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        birth.subreaper()
        self._prepare(self.settings)
        # What is here now stays as long as the process. A child that never looks at it again shares
        # its pages: 8 MiB of each keeper's own become 3.
        gc.collect()
        gc.freeze()
        self.selector.register(self.signals.fd, selectors.EVENT_READ)
        self.control.open(self.runtime.path)
        for user in users(self.settings):
            if pools_of(self.settings, user):
                self._start_keeper(user, self.generations.serving)
        for front in range(1, self.settings.server.front_count + 1):
            self._start_front(f"front {front}", self.generations.serving)
        while self.children or not self.leaving.begun:
            for key, _ in self.selector.select(self._timeout()):
                if key.fileobj == self.signals.fd:
                    self._signalled()
                elif not isinstance(key.data, Child):
                    self.control.handle(key)
                elif key.data.pid in self.children:
                    self._message(key.data)
            self._restart_due()
            self.groups.sweep()
            self.reloading.sweep()
            self.census.sweep()
            self.control.sweep()
            self.leaving.sweep()
        self._end_last_orphans()
        self.control.close()
        self.groups.close()
        return 0

    def _timeout(self) -> float | None:
        parts = (
            self.restarts,
            self.groups,
            self.reloading,
            self.census,
            self.control,
            self.leaving,
        )
        soonest = min(part.due() for part in parts)
        return None if soonest == math.inf else max(0.0, soonest - time.monotonic())

    def _signalled(self) -> None:
        received = self.signals.take()
        if signal.SIGCHLD in received:
            self._reap()
        if signal.SIGUSR1 in received:
            self.reloading.reopen_logs()
        if signal.SIGHUP in received:
            self.commands.reload(lambda code, lines: None)  # the log says how it ended
        for number in received:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop()

    # -- children ------------------------------------------------------------------------------

    def _fork(
        self,
        name: str,
        work: Callable[[socket.socket, Journal], int],
        user: str = "",
        generation: int = 0,
    ) -> Child:
        """Start a child that runs `work(control socket, journal)` and exits with its result."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                ours.close()
                self._forget()
                for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                    signal.signal(number, signal.SIG_IGN)
                os.setsid()  # a terminal's ^C is for the master, which tells the others
                code = work(theirs, Journal(self.logs.error, name))
            except Exception:
                for line in traceback.format_exc().splitlines():
                    Journal(self.logs.error, name).write("error", line)
            finally:
                os._exit(code)
        theirs.close()
        ours.setblocking(False)
        child = Child(pid, name, ours, time.monotonic(), user, generation)
        self.children[pid] = child
        self.selector.register(ours, selectors.EVENT_READ, child)
        return child

    def _forget(self) -> None:
        """In a new child: let go of what is the master's. A sibling's control socket that stayed
        open here would hide the master's death from that sibling."""
        self.signals.give_up()
        self.selector.close()
        self.control.forget()
        for child in self.children.values():
            child.control.close()

    def _start_front(self, name: str, generation: Generation) -> None:
        def work(control: socket.socket, journal: Journal) -> int:
            # Imported here: asyncio and all that stands on it belong to the fronts alone.
            from gateway.daemon import front

            # One that nobody listens on must be closed everywhere, or clients would wait there.
            for other in self.generations.sockets() - {
                each.socket for each in generation.listeners
            }:
                other.close()
            spec = front.FrontSpec(
                settings=generation.settings,
                listeners=generation.listeners,
                access=self.logs.access,
                explain=self.explain,
                runtime=generation.pools,
            )
            return front.run(spec, control, journal)

        self._fork(name, work, generation=generation.number)

    def _start_keeper(
        self, user: str, generation: Generation, names: frozenset[str] = frozenset()
    ) -> Child:
        settings = generation.settings
        seat = generation.seats.get(user)
        pools = generation.pools if seat is None else seat.pools
        who = our_account() if user == our_account().name else account(user)
        sockets = self.runtime.sockets(pools, user, who.uid, front_account(settings).gid)
        plain = keeper_spec(settings, user, sockets, names)
        seat = seat or generation.seats.setdefault(user, Seat(user, pools, sockets, plain))
        seat.spec, seat.names = plain, names
        spec = self.groups.confine(plain)

        def work(control: socket.socket, journal: Journal) -> int:
            for each in self.generations.sockets():
                each.close()
            os.close(self.logs.access)
            return keeper.run(
                spec, control, journal, tenantlogs.faults(settings.tenants, spec, journal)
            )

        child = self._fork(f"keeper {user}", work, user)
        self.groups.started(child.pid, spec)
        seat.keeper = child
        return child

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            child = self.children.pop(pid, None)
            if child is not None:
                self._buried(child, os.waitstatus_to_exitcode(status))
            if child is None or child.user:
                self._end_orphans()

    def _end_orphans(self) -> None:
        """Kill what a dead keeper ran: it has become ours. One that left by itself left nothing.

        When such a process ends its own children come here in turn, and SIGCHLD says so.
        """
        orphans.signal_children(signal.SIGKILL, {os.getpgrp(), *self.children})

    def _end_last_orphans(self) -> None:
        """The last keeper is gone: end what it left, and what comes here when that ends."""
        end = time.monotonic() + ORPHANS
        while orphans.signal_children(signal.SIGKILL, {os.getpgrp()}) and time.monotonic() < end:
            time.sleep(ORPHANS_PAUSE)  # nobody is served any more
            self._reap()

    def _buried(self, child: Child, code: int) -> None:
        self.census.last_words(child, self.inbox)
        if child.control in self.selector.get_map():
            self.selector.unregister(child.control)
        child.control.close()
        self.groups.ended(child.pid, code)
        self.introducing.ended(child)
        if self.leaving.begun:
            return
        if child.user:
            needed = self.generations.vacate(child)
        else:
            needed = self.reloading.front_ended(child, code)
        if child.leaving:
            return
        if code or not child.user:
            again = "; it is started again" if needed else ""
            self.journal.write("error", f"{child.name} ended with {code}{again}")
        if needed:
            self.restarts.again(child)

    def _restart_due(self) -> None:
        for child in self.restarts.take():
            try:
                self._start_again(child)
            except (OSError, KeyError) as error:  # no descriptor, no account: there may be one soon
                self.journal.write("error", f"{child.name} cannot be started: {error}")
                child.born = time.monotonic()
                self.restarts.again(child)

    def _start_again(self, child: Child) -> None:
        """Start what has ended, unless a reload has made it needless meanwhile."""
        if not child.user:
            if child.generation == self.generations.serving.number:
                self._start_front(child.name, self.generations.serving)
            return
        generation = self.generations.vacancy(child.user)
        if generation is not None:
            self._start_keeper(child.user, generation)

    # -- messages ------------------------------------------------------------------------------

    def _message(self, child: Child) -> None:
        try:
            received = self.inbox.receive(child.control)
        except (BlockingIOError, ConnectionResetError):
            return  # it has closed its end with something unread; what it sent comes next
        except (ValueError, OSError) as error:
            self.journal.write("error", f"{child.name} broke its channel: {error}")
            os.kill(child.pid, signal.SIGKILL)
            return
        if received is None:  # it has closed its end; SIGCHLD says the rest
            self.selector.unregister(child.control)
            return
        message, descriptors = received
        try:
            if isinstance(message, Figures):
                self.census.take(child, descriptors[0])
            else:
                self._act(child, message)
        except ValueError as error:
            self.journal.write("error", f"the figures of {child.name}: {error}")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _act(self, child: Child, message: Message) -> None:
        if isinstance(message, WantKeeper) and not child.user:
            self.introducing.keeper(child, message.user)
        elif isinstance(message, Born) and child.user:
            self.introducing.born(child)
        elif isinstance(message, Unborn) and child.user:
            self.introducing.unborn(child, message.why)
        elif isinstance(message, WantLogs) and not child.user:
            self.introducing.logs(child, message.tenant)
        elif isinstance(message, Ready) and not child.user:
            child.ready = True
            if not self.leaving.begun:
                self.reloading.ready(child)
        elif isinstance(message, Idle) and child.user:
            if message.attached == child.attached:
                self.generations.vacate(child)
                self.generations.dismiss(child, 0.0)
        else:
            self.journal.write("error", f"{child.name} sent {type(message).__name__}: not its part")

    # -- leaving ---------------------------------------------------------------------------------

    def _stop(self) -> None:
        self.restarts.clear()
        self.leaving.begin()


def run(
    settings: Settings,
    *,
    file: SettingsFile | None = None,
    explain: bool = False,
    announce: str = "",
) -> int:
    """Run the daemon in the foreground. Return its exit code.

    `file` is what `settings` were read from, and is read again on reload.
    `explain` shows the reasons of failures in the browser; `announce` is printed when it listens.
    """
    # Before anything is opened here, which would look like something that was passed to us.
    inherited = Inherited.from_environment(os.environ, os.getpid())
    signals = Signals(SIGNALS)
    warnings: list[str] = []
    if settings.tenants is not None and os.geteuid() != 0:
        print("gateway: [tenants] needs root: each tenant's programs run as it", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        try:
            logs = open_logs(settings.log)
            if settings.tenants is not None and settings.tenants.logs:
                tenantlogs.prepare(settings.tenants.logs)
            runtime = Runtime.prepare(settings)
            stack.callback(runtime.remove)
            # After the runtime directory, in which Unix sockets often are.
            listeners = stack.enter_context(opened(settings.listen, inherited, warnings.append))
        except (OSError, ValueError) as error:
            text = error.strerror if isinstance(error, OSError) else None
            print(f"gateway: {text or error}", file=sys.stderr)
            return 1
        if announce:
            print(announce, flush=True)
        if front_account(settings).uid == 0:
            text = "all of this runs as root; [server] user gives the fronts another account"
            warnings.append(text)
        journal = Journal(logs.error, "master")
        for warning in warnings:
            journal.write("warn", warning)
        return Master(
            settings, runtime, logs, listeners, signals, inherited, file=file, explain=explain
        ).run()
