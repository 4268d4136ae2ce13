"""The keeper: a process that is one user, and starts and ends everything of that user.

Decides the life of the keeper itself: what the master may tell it, when it is idle, and how it
leaves so that nothing stays behind. Scripts are in `scripts.py`, worker pools in `pools.py`, files
that a front asks for in `handing.py`, a tenant's own settings and passwords in `checks.py`. It
trusts its own `KeeperSpec` alone. Selector loop, no asyncio, small heap.

Leaving (Stop from the master, SIGTERM, or the end of the control channel, which says that the
master is dead): no new orders; what runs may finish for `drain` seconds; then TERM to all, `grace`
seconds, then KILL to all, orphans too, until this process has no child.
"""

import gc
import os
import signal
import socket
import time
from dataclasses import asdict
from resource import struct_rusage

from gateway.journal import Copied, Journal
from gateway.process import birth, orphans
from gateway.process.channel import (
    Check,
    FromFront,
    Leaving,
    Message,
    Open,
    Order,
    Release,
    WantTerms,
)
from gateway.process.checks import Checks
from gateway.process.figures import sealed
from gateway.process.fronts import Front
from gateway.process.handing import Handing
from gateway.process.loop import Loop, Timer
from gateway.process.mastering import (
    Attach,
    Born,
    Figures,
    Idle,
    Logs,
    Stop,
    Unborn,
    WantFigures,
)
from gateway.process.pools import Pools
from gateway.process.post import Inbox, Short, send
from gateway.process.scripts import Scripts
from gateway.process.spawn import heed_all_signals
from gateway.process.spec import KeeperSpec

_KILL_AGAIN = 0.05
"""Seconds between two rounds of KILL while orphans still turn up."""

_LAST_WORDS = 1.0
"""Seconds in which fronts may close their ends once nothing is left: an order that was sent before
its front heard of the leaving is to be handed back, not lost."""

_KILL_ROUNDS = 200
"""Rounds after which the keeper leaves all the same: what is left hangs in the kernel."""


def run(spec: KeeperSpec, control: socket.socket, journal: Journal, faults: int = -1) -> int:
    """Be the keeper of `spec` until there is no more need of one; return the exit code.

    Called in a process made for it, which must not be a process group's leader. `control` is a
    SOCK_SEQPACKET socket to the master; its messages are in `mastering.py`. `faults` is the
    descriptor of the user's own log of faults; -1: there is none.
    """
    # What was here before the fork is not looked at again: its pages stay shared with the master's,
    # and a socket among its garbage cannot close the number that is somebody else's by then.
    gc.freeze()
    try:
        birth.become(spec, (control.fileno(), journal.fd, faults))
    except birth.BirthFailed as failed:
        journal.write("error", f"the keeper of {spec.user} cannot start: {failed}")
        _tell(control, Unborn(str(failed)))
        return 1
    _tell(control, Born())
    told = journal if faults < 0 else Copied(journal, faults)
    return Keeper(spec, control, journal, told).run()


def _tell(control: socket.socket, message: Message) -> None:
    try:
        send(control, message.encode())
    except OSError:
        pass  # the master is gone: the loop learns that


class Keeper:
    """All state of a keeper, and its loop."""

    def __init__(
        self, spec: KeeperSpec, control: socket.socket, journal: Journal, faults: Journal
    ) -> None:
        self._spec = spec
        self._control = control
        self._journal = journal
        self._loop = Loop()
        self._inbox = Inbox()
        self._fronts: set[Front] = set()
        self._attached = 0
        self._scripts = Scripts(spec, self._loop, journal, faults)
        self._pools = Pools(
            spec, self._loop, journal, self._scripts.roots, self._fronts, self._scripts.ledger
        )
        self._handing = Handing(spec.user, spec.files)
        self._checks = Checks(self._scripts.roots.own, journal)
        self._active = time.monotonic()
        self._leaving: Timer | None = None
        """Set once the keeper leaves: what happens next."""
        self._ending = False
        self._rounds = 0
        self._over = False
        """Nothing is left to do but to hand back orders."""
        self._done = False

    def run(self) -> int:
        self._control.setblocking(False)
        self._loop.watch(self._control.fileno(), self._from_master)
        self._catch_signals()
        self._pools.start()
        if not self._spec.pools:
            self._loop.at(self._active + self._spec.idle, self._maybe_idle)
        while not self._done:
            self._loop.turn()
        for front in self._fronts:
            front.close()
        self._pools.close()
        self._checks.close()
        self._scripts.close()
        self._loop.close()
        self._control.close()
        return 0

    def _catch_signals(self) -> None:
        # The handlers do nothing: the wake-up descriptor tells the loop, and the loop acts.
        self._wake, writer = socket.socketpair()
        self._wake.setblocking(False)
        writer.setblocking(False)
        self._writer = writer
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        heed_all_signals()
        for number in (
            signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1,
            signal.SIGUSR2, signal.SIGXCPU,  # the last one for a limit that is meant for programs
        ):  # fmt: skip
            signal.signal(number, _nothing)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._loop.watch(self._wake.fileno(), self._signalled)
        self._signalled()

    def _signalled(self) -> None:
        try:
            numbers = self._wake.recv(4096)
        except BlockingIOError:
            numbers = b""
        self._reap()
        if signal.SIGTERM in numbers:
            self._leave(0.0)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            self._ended(pid, status, usage)
        for front in list(self._fronts):
            front.flush()
        if self._leaving is not None:
            self._progress()

    def _ended(self, pid: int, status: int, usage: struct_rusage) -> None:
        if self._scripts.reaped(pid, status, usage):
            self._active = time.monotonic()
        elif not (
            self._scripts.zygotes.reaped(pid, status)
            or self._pools.reaped(pid, status, usage)
            or self._checks.reaped(pid, status)
        ):
            self._scripts.sweep()

    # What the master says.

    def _from_master(self) -> None:
        try:
            received = self._inbox.receive(self._control)
        except BlockingIOError:
            return
        except (ValueError, Short) as error:
            self._journal.write("error", f"from the master: {error}")
            return
        except OSError:
            received = None
        if received is None:
            self._loop.unwatch(self._control.fileno())
            self._leave(0.0)
            return
        message, fds = received
        if isinstance(message, Attach):
            self._attach(fds[0])
            return
        if isinstance(message, Logs):
            os.dup2(fds[0], self._journal.fd, inheritable=self._journal.fd <= 2)
        elif isinstance(message, Stop):
            self._leave(message.drain)
        elif isinstance(message, WantFigures):
            self._tell_figures()
        else:
            self._journal.write("error", "from the master: a message that is not a master's")
        for fd in fds:
            os.close(fd)

    def _tell_figures(self) -> None:
        figures = {
            **self._scripts.figures(),
            "zygotes": self._scripts.zygotes.count,
            "pools": self._pools.figures(),
            "faults": self._scripts.ledger.counts,
            "interpreters": [asdict(each) for each in self._scripts.interpreters()],
        }
        try:
            fd = sealed(figures)
        except OSError as error:
            self._journal.write("error", f"no figures for the master: {error}")
            return
        try:
            send(self._control, Figures().encode(), (fd,))
        except OSError:
            pass  # the master does not read, and takes us for silent
        finally:
            os.close(fd)

    def _attach(self, fd: int) -> None:
        self._attached += 1
        name = f"front {self._attached}"
        try:
            sock = socket.socket(fileno=fd)
        except OSError as error:
            self._journal.write("error", f"{name} cannot be attached: {error}")
            os.close(fd)
            return
        self._active = time.monotonic()
        front = Front(sock, name, self._loop, self._inbox, self._from_front, self._front_lost)
        self._fronts.add(front)
        if self._leaving is not None:
            front.send(Leaving())
            return
        self._pools.introduce(front)

    # What a front says.

    def _from_front(self, front: Front, message: FromFront, fds: tuple[int, ...]) -> None:
        if isinstance(message, Release):
            self._scripts.release(front, message.id)
            return
        if isinstance(message, Open):
            # Also while it leaves: the script that names the file was of this keeper.
            self._active = time.monotonic()
            self._handing.answer(message, fds[0])
            return
        if isinstance(message, WantTerms | Check):
            self._active = time.monotonic()
            if self._leaving is None:
                self._checks.answer(message, fds[0])
            else:
                os.close(fds[0])  # without an answer: the next keeper gives one
            return
        if self._leaving is not None:
            if isinstance(message, Order):
                self._scripts.hand_back(front, message, fds)
            return  # it has been told, and asks the next keeper
        self._active = time.monotonic()
        if isinstance(message, Order):
            self._scripts.take(front, message, fds)
        else:
            self._pools.want(front, message)

    def _front_lost(self, front: Front, why: str) -> None:
        if why:
            self._journal.write("warn", f"{front.name} is dropped: {why}")
        self._fronts.discard(front)
        self._scripts.drop(front)
        if self._over:
            self._done = not self._fronts

    # When there is nothing to do.

    def _maybe_idle(self) -> None:
        now = time.monotonic()
        due = self._active + self._spec.idle
        if due <= now:
            if not self._scripts.busy and not orphans.any_child():
                os.chdir("/")  # hold no user's directory (a mount) while there is no work
                try:
                    send(self._control, Idle(self._attached).encode())
                except OSError:
                    pass  # the master does not read, or is gone: that is told elsewhere
            due = now + self._spec.idle
        self._loop.at(due, self._maybe_idle)

    # The end.

    def _leave(self, drain: float) -> None:
        due = time.monotonic() + drain
        if self._leaving is not None:
            if self._ending or due >= self._leaving.when:
                return
            self._leaving.cancel()
        else:
            for front in list(self._fronts):
                front.send(Leaving())
            self._scripts.unqueue()
            self._pools.stop(drain)
        self._leaving = self._loop.at(due, self._end)
        self._progress()

    def _progress(self) -> None:
        """Something ended while the keeper leaves: see whether the next step can be now."""
        if not self._ending and not self._scripts.running:
            self._end()
        elif self._ending and not orphans.any_child():
            self._last_words()

    def _last_words(self) -> None:
        """Nothing is left to end: go as soon as no front can have an order on its way."""
        if self._over:
            return
        self._over = True
        if self._leaving is not None:
            self._leaving.cancel()
        if self._fronts:
            self._leaving = self._loop.at(time.monotonic() + _LAST_WORDS, self._go)
        else:
            self._go()

    def _go(self) -> None:
        self._done = True

    def _end(self) -> None:
        """TERM to all that is left, and KILL after the grace."""
        if self._leaving is not None:
            self._leaving.cancel()
        self._ending = True
        self._scripts.zygotes.close()
        self._scripts.stop_all()
        orphans.signal_children(signal.SIGTERM, self._scripts.groups | self._pools.groups)
        grace = self._pools.grace if self._pools.groups else self._spec.grace
        self._leaving = self._loop.at(time.monotonic() + grace, self._kill)
        if not orphans.any_child():
            self._last_words()

    def _kill(self) -> None:
        self._scripts.kill_all()
        self._pools.kill_all()
        orphans.signal_children(signal.SIGKILL)
        self._rounds += 1
        if self._rounds > _KILL_ROUNDS:
            self._journal.write("error", "processes that cannot be killed are left behind")
            self._done = True
        self._leaving = self._loop.at(time.monotonic() + _KILL_AGAIN, self._kill)


def _nothing(number: int, frame: object) -> None:
    pass
