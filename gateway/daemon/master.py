"""The master: opens what needs rights, starts the others, restarts and reaps them, leaves last.

Decides which processes there are. Holds the listening sockets and the logs, so that a front or a
keeper may die and be replaced without a client noticing more than its own exchange. Reads no byte
from the network, runs no event loop but a selector, and imports nothing of the fronts before it has
forked one: its heap stays small, and with it the cost of a fork.
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
from dataclasses import dataclass

from gateway.config.keepers import (
    front_account,
    keeper_spec,
    pools_of,
    users,
)
from gateway.config.settings import Settings
from gateway.config.tenancy import tenant_account
from gateway.daemon import tenantlogs
from gateway.daemon.groups import Groups
from gateway.daemon.openings import Opened, close, opened
from gateway.daemon.runtime import Logs, Runtime, open_logs
from gateway.daemon.signals import Signals
from gateway.journal import Journal
from gateway.listeners.sockets import Inherited
from gateway.process import birth, keeper, orphans
from gateway.process.accounts import account, our_account
from gateway.process.channel import (
    Attach,
    FrontLogs,
    Idle,
    KeeperAt,
    LogsAt,
    Message,
    NoKeeper,
    Stop,
    WantKeeper,
    WantLogs,
)
from gateway.process.channel import Logs as KeeperLogs
from gateway.process.post import Inbox, send
from gateway.process.spec import SpawnFailed

FAST_DEATH = 2.0
"""Seconds; a front that lives shorter is restarted with a growing delay."""
DELAY_MAX = 10.0
SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGHUP,
)


@dataclass(slots=True)
class Child:
    """A process that the master started."""

    pid: int
    name: str
    control: socket.socket
    born: float
    user: str = ""
    """Whose keeper it is; "" for a front."""
    attached: int = 0
    """Channels that were handed to this keeper."""
    leaving: bool = False


class Master:
    """See the module."""

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        logs: Logs,
        listeners: Sequence[Opened],
        signals: Signals,
        *,
        explain: bool,
    ) -> None:
        self.signals = signals
        self.settings = settings
        self.runtime = runtime
        self.logs = logs
        self.listeners = listeners
        self.explain = explain
        self.journal = Journal(logs.error, "master")
        self.groups = Groups(self.journal)
        self.children: dict[int, Child] = {}
        self.keepers: dict[str, Child] = {}
        self.inbox = Inbox()
        self.selector = selectors.DefaultSelector()
        self.stopping = False
        self.deadline = 0.0
        self.delays: dict[str, float] = {}
        self.due: list[tuple[float, Child]] = []

    # -- the loop ------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        birth.subreaper()
        self.groups.expect(self.settings.tenants)
        # What is here now stays as long as the process. A child that never looks at it again shares
        # its pages: 8 MiB of each keeper's own become 3.
        gc.collect()
        gc.freeze()
        self.selector.register(self.signals.fd, selectors.EVENT_READ)
        for user in users(self.settings):
            if pools_of(self.settings, user):
                self._start_keeper(user)
        for front in range(1, self.settings.server.front_count + 1):
            self._start_front(f"front {front}")
        while self.children or not self.stopping:
            for key, _ in self.selector.select(self._timeout()):
                if key.fileobj == self.signals.fd:
                    self._signalled()
                elif key.data.pid in self.children:
                    self._message(key.data)
            self._restart_due()
            self.groups.sweep()
            self._hurry()
        self.groups.close()
        return 0

    def _timeout(self) -> float | None:
        moments = [moment for moment, _ in self.due] + [self.groups.due()]
        if self.stopping:
            moments.append(self.deadline)
        soonest = min(moments)
        return None if soonest == math.inf else max(0.0, soonest - time.monotonic())

    def _signalled(self) -> None:
        received = self.signals.take()
        if signal.SIGCHLD in received:
            self._reap()
        if signal.SIGUSR1 in received:
            self._reopen_logs()
        if signal.SIGHUP in received:
            self.journal.write("warn", "this version does not reload; restart it to read settings")
        for number in received:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop()

    # -- children ------------------------------------------------------------------------------

    def _fork(
        self, name: str, work: Callable[[socket.socket, Journal], int], user: str = ""
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
        child = Child(pid, name, ours, time.monotonic(), user)
        self.children[pid] = child
        self.selector.register(ours, selectors.EVENT_READ, child)
        return child

    def _forget(self) -> None:
        """In a new child: let go of what is the master's. A sibling's control socket that stayed
        open here would hide the master's death from that sibling."""
        self.signals.give_up()
        self.selector.close()
        for child in self.children.values():
            child.control.close()

    def _start_front(self, name: str) -> None:
        def work(control: socket.socket, journal: Journal) -> int:
            # Imported here: asyncio and all that stands on it belong to the fronts alone.
            from gateway.daemon import front

            spec = front.FrontSpec(
                settings=self.settings,
                listeners=self.listeners,
                access=self.logs.access,
                explain=self.explain,
                runtime=self.runtime.path,
            )
            return front.run(spec, control, journal)

        self._fork(name, work)

    def _start_keeper(self, user: str) -> Child:
        who = our_account() if user == our_account().name else account(user)
        sockets = self.runtime.sockets(user, who.uid, front_account(self.settings).gid)
        spec = self.groups.confine(keeper_spec(self.settings, user, sockets))

        def work(control: socket.socket, journal: Journal) -> int:
            for each in self.listeners:
                each.socket.close()
            os.close(self.logs.access)
            return keeper.run(spec, control, journal)

        child = self._fork(f"keeper {user}", work, user)
        self.groups.started(child.pid, spec)
        self.keepers[user] = child
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

    def _buried(self, child: Child, code: int) -> None:
        if child.control in self.selector.get_map():
            self.selector.unregister(child.control)
        child.control.close()
        self.groups.ended(child.pid, code)
        if self.keepers.get(child.user) is child:
            del self.keepers[child.user]
        if self.stopping or child.leaving:
            return
        if code or not child.user:
            self.journal.write("error", f"{child.name} ended with {code}; it is started again")
        if not child.user or pools_of(self.settings, child.user):
            self._again(child)

    def _again(self, child: Child) -> None:
        """Have `child` started again: at once, or after a growing delay if it lived too shortly."""
        now = time.monotonic()
        delay = 0.0
        if now - child.born < FAST_DEATH:
            delay = min(DELAY_MAX, self.delays.get(child.name, 0.05) * 2)
        self.delays[child.name] = delay
        self.due.append((now + delay, child))

    def _restart_due(self) -> None:
        now = time.monotonic()
        due = [child for moment, child in self.due if moment <= now]
        if due:
            self.due = [entry for entry in self.due if entry[0] > now]
            for child in due:
                try:
                    if not child.user:
                        self._start_front(child.name)
                    elif child.user not in self.keepers:
                        self._start_keeper(child.user)
                except OSError as error:  # no descriptor, no process: there may be one soon
                    self.journal.write("error", f"{child.name} cannot be started: {error}")
                    child.born = time.monotonic()
                    self._again(child)

    # -- messages ------------------------------------------------------------------------------

    def _message(self, child: Child) -> None:
        try:
            received = self.inbox.receive(child.control)
        except BlockingIOError:
            return
        except (ValueError, OSError) as error:
            self.journal.write("error", f"{child.name} broke its channel: {error}")
            os.kill(child.pid, signal.SIGKILL)
            return
        if received is None:  # it has closed its end; SIGCHLD says the rest
            self.selector.unregister(child.control)
            return
        message, descriptors = received
        for descriptor in descriptors:
            os.close(descriptor)
        self._act(child, message)

    def _act(self, child: Child, message: Message) -> None:
        if isinstance(message, WantKeeper) and not child.user:
            self._introduce(child, message.user)
        elif isinstance(message, WantLogs) and not child.user:
            self._open_tenant_logs(child, message.tenant)
        elif isinstance(message, Idle) and child.user:
            if message.attached == child.attached:
                child.leaving = True
                self.keepers.pop(child.user, None)
                _tell(child, Stop(0.0))
        else:
            self.journal.write("error", f"{child.name} sent {type(message).__name__}: not its part")

    def _introduce(self, front: Child, user: str) -> None:
        """Give a front a channel to the keeper of `user`, which is started if it does not run."""
        try:
            who = self._account_of(user)
            kept = self.keepers.get(who) or self._start_keeper(who)
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except SpawnFailed as failed:
            _tell(front, NoKeeper(user, failed.status, failed.why))
            return
        except OSError as error:
            why = f"no keeper of {user} can be started: {error.strerror or error}"
            self.journal.write("error", why)
            _tell(front, NoKeeper(user, 503, why))
            return
        with one, other:
            _tell(kept, Attach(), one.fileno())
            kept.attached += 1
            _tell(front, KeeperAt(user), other.fileno())

    def _account_of(self, user: str) -> str:
        """Return the account that a front means: one of a site, or that of a tenant.

        Looked up here whatever the front has seen, since a front may have been taken over. Raises
        SpawnFailed.
        """
        if self.stopping:
            raise SpawnFailed(0, "keeper", "the daemon is leaving", 503)
        if user in users(self.settings):
            return user
        return tenant_account(self.settings.tenants, user)

    def _open_tenant_logs(self, front: Child, name: str) -> None:
        """Hand a front the logs of a tenant; nothing where it has none."""
        tenants = self.settings.tenants
        if tenants is None or not tenants.logs:
            return
        try:
            who = account(tenant_account(tenants, name))
            fds = tenantlogs.open_logs(
                tenants.logs, who.name, who.gid, tenants.log_size, tenantlogs.FILES[:2]
            )
        except (SpawnFailed, OSError, KeyError) as error:
            self.journal.write("error", f"no logs of {name}: {error}")
            return
        _tell(front, LogsAt(name), *fds)
        for fd in fds:
            os.close(fd)

    # -- logs and leaving ------------------------------------------------------------------------

    def _reopen_logs(self) -> None:
        try:
            self.logs.reopen(self.settings.log)
        except OSError as error:
            self.journal.write("error", f"the logs stay as they are: {error.strerror or error}")
            return
        for child in self.children.values():
            if not child.user:
                _tell(child, FrontLogs(), self.logs.error, self.logs.access)
            else:
                _tell(child, KeeperLogs(), self.logs.error)

    def _stop(self) -> None:
        """First word: finish what runs. Second: at once."""
        now = time.monotonic()
        limits = self.settings.limits
        drain = 0.0 if self.stopping else limits.drain
        self.stopping = True
        close(self.listeners)  # the fronts close theirs; nobody waits where no answer comes
        self.deadline = now + drain + limits.grace + 2.0
        self.due.clear()
        for child in self.children.values():
            if not child.user:
                _tell(child, Stop(drain))
        self._stop_keepers_when_alone()

    def _stop_keepers_when_alone(self) -> None:
        if any(not child.user for child in self.children.values()):
            return
        for child in self.children.values():
            if not child.leaving:
                child.leaving = True
                _tell(child, Stop(0.0))

    def _hurry(self) -> None:
        if not self.stopping:
            return
        self._stop_keepers_when_alone()
        if time.monotonic() >= self.deadline:
            for child in self.children.values():
                self.journal.write("error", f"{child.name} does not leave; it is killed")
                os.kill(child.pid, signal.SIGKILL)
            self.deadline = time.monotonic() + 1.0


def _tell(child: Child, message: Message, *descriptors: int) -> None:
    try:
        send(child.control, message.encode(), descriptors)
    except OSError:
        pass  # it is gone already; SIGCHLD says the rest


def run(settings: Settings, *, explain: bool = False, announce: str = "") -> int:
    """Run the daemon in the foreground. Return its exit code.

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
        return Master(settings, runtime, logs, listeners, signals, explain=explain).run()
