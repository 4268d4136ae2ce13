"""CGI scripts of one keeper: orders, their queue, the processes, and how each is let go of.

Decides when an order starts (at most `concurrency` at once, the rest in line, each front in turn,
503 beyond `queue`), and who is stopped when: TERM to the process group on release, KILL after
`grace`. Must not know pools, the master, or how messages travel.

A script that ends by itself leaves the children it put into the background alone: they may be
meant (nohup), and they hold the same process group, so a later release of their order still finds
them. A group's number cannot be used again while it has a member; we forget it when it has none.
"""

import errno
import os
import resource
import signal
import time
from collections import deque
from resource import struct_rusage
from typing import NamedTuple

from gateway.journal import Journal
from gateway.process import examine
from gateway.process.channel import (
    AGAIN,
    Exited,
    Failed,
    Faulted,
    Order,
    Queued,
    Started,
)
from gateway.process.examine import Found
from gateway.process.fronts import Front
from gateway.process.ledger import Ledger
from gateway.process.loop import Loop, Timer
from gateway.process.persistent import Persistent
from gateway.process.roots import Roots
from gateway.process.spawn import spawn
from gateway.process.spec import Interpreter, KeeperSpec, SpawnFailed
from gateway.process.zygotes import Zygotes

_AWAITED = ("warm", "persistent")
"""Ways of starting a script that wait for an interpreter to be ready."""

ENTRY_MAX = 128 << 10
"""Bytes of a variable with which a program cannot be executed (MAX_ARG_STRLEN, execve(2))."""


class Script:
    """One started order, until nothing of its process group is left."""

    __slots__ = ("exited", "front", "group", "id", "killer", "name")

    def __init__(self, id: int, front: Front, group: int, name: bytes) -> None:
        self.id = id
        self.front = front
        self.name = name
        self.group = group
        """0 while a zygote has not told it."""
        self.exited = False
        """Its own process has been reaped; members of its group remain."""
        self.killer: Timer | None = None
        """Set once it has been released."""


class _Handed(NamedTuple):
    """An order at a zygote, with all that is needed to execute it after all."""

    script: Script
    order: Order
    fds: tuple[int, ...]


class Scripts:
    """All orders of one keeper."""

    def __init__(self, spec: KeeperSpec, loop: Loop, journal: Journal, faults: Journal) -> None:
        """`faults` is told of limits that were hit, `journal` of all else."""
        self._loop = loop
        self._journal = journal
        self.ledger = Ledger(spec, loop, faults, lambda: self._groups)
        self.zygotes = Zygotes(self, loop, journal, spec.idle)
        self._persistent = Persistent(self, self.zygotes, loop, spec.idle, spec.concurrency)
        self._handed: dict[int, _Handed] = {}
        """Orders that a zygote was given and has not started."""
        self._token = 0
        self._nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._concurrency = spec.concurrency
        self._queue = spec.queue
        self._grace = spec.grace
        self.roots = Roots(spec)
        self.running = 0
        """Scripts whose own process lives."""
        self._queued = 0
        self._groups: dict[int, Script] = {}
        self._orders: dict[Front, dict[int, Script]] = {}
        self._waiting: dict[Front, deque[tuple[Order, tuple[int, ...]]]] = {}
        """Fronts with queued orders, the one whose turn is next first."""

    @property
    def busy(self) -> bool:
        return bool(self.running or self._queued)

    @property
    def groups(self) -> set[int]:
        return set(self._groups)

    def figures(self) -> dict[str, object]:
        """What runs and waits, each beside its limit."""
        return {
            "running": self.running,
            "concurrency": self._concurrency,
            "queued": self._queued,
            "queue": self._queue,
        }

    def take(self, front: Front, order: Order, fds: tuple[int, ...]) -> None:
        """Start an order, or put it in line. Its descriptors are ours to close."""
        if self.running < self._concurrency and not self._queued:
            self._start(front, order, fds)
        elif self._queued < self._queue:
            self._queued += 1
            self._waiting.setdefault(front, deque()).append((order, fds))
            front.send(Queued(order.id))
            self.ledger.waits(order.script)
        else:
            why = f"{self.running} scripts run and {self._queued} wait: the queue is full"
            front.send(Failed(order.id, 0, "queue", 503, why))
            _close(fds)
            self.ledger.turned_away(order.script)

    def release(self, front: Front, id: int) -> None:
        """Let go of one order: out of the queue, or its process group is stopped."""
        script = self._orders.get(front, {}).get(id)
        if script is not None:
            self._stop(script)
            return
        waiting = self._waiting.get(front, ())
        for place, (order, fds) in enumerate(waiting):
            if order.id == id:
                del self._waiting[front][place]
                self._left_queue(front, fds)
                return

    def drop(self, front: Front) -> None:
        """A front is gone: let go of everything that it ordered."""
        for _, fds in self._waiting.pop(front, ()):
            self._queued -= 1
            _close(fds)
        for script in self._orders.pop(front, {}).values():
            self._stop(script)

    def hand_back(self, front: Front, order: Order, fds: tuple[int, ...]) -> None:
        """Say that an order is not started because the keeper leaves; another one may do it."""
        front.send(Failed(order.id, errno.EAGAIN, AGAIN, 503, "the user's keeper leaves"))
        _close(fds)

    def unqueue(self) -> None:
        """Hand back all orders that have not started: the keeper leaves."""
        unstarted, self._waiting, self._queued = self._waiting, {}, 0
        for front, waiting in unstarted.items():
            for order, fds in waiting:
                self.hand_back(front, order, fds)

    def interpreters(self) -> list[Interpreter]:
        """Return the interpreters that are kept ready, and what memory each takes."""
        return self.zygotes.rows() + self._persistent.rows()

    def stop_all(self) -> None:
        self._persistent.close()
        for script in list(self._groups.values()):
            self._stop(script)

    def reaped(self, pid: int, status: int, usage: struct_rusage) -> bool:
        """A child ended with `status` (of waitpid). Return whether it was a script of ours."""
        if pid not in self._groups:
            self.zygotes.hear()  # its zygote may have died, and it has said that it began
        told = self._persistent.ended(pid)
        script = self._groups.get(pid)
        if script is None or script.exited:
            return False
        cpu = usage.ru_utime + usage.ru_stime - told
        # Between vfork and exec a child has our memory, and the kernel counts that as its own: a
        # size not above ours is not known.
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        memory = usage.ru_maxrss << 10 if usage.ru_maxrss > own else 0
        self._over(script, Exited(script.id, os.waitstatus_to_exitcode(status), cpu, memory))
        return True

    def _over(self, script: Script, exited: Exited) -> None:
        if exited.status and script.killer is None:
            why = self.ledger.ended(script.name, script.group, exited.status, exited.cpu)
            if why:
                script.front.send(Faulted(exited.id, why))
        script.front.ended(exited)
        script.exited = True
        self.running -= 1
        self._forget_if_empty(script)
        if self._queued:
            script.front.flush()  # its end comes before the start that it makes room for
            self._next()

    def sweep(self) -> None:
        """Somebody's orphan was reaped: forget the groups that it may have been the last of."""
        for script in [script for script in self._groups.values() if script.exited]:
            self._forget_if_empty(script)

    def kill_all(self) -> None:
        for script in list(self._groups.values()):
            _signal(script, signal.SIGKILL)

    def close(self) -> None:
        self.zygotes.close()
        os.close(self._nothing)
        self.roots.close()

    def _next(self) -> None:
        """Start what waits while there is room, one order of each front in turn."""
        while self._queued and self.running < self._concurrency:
            front = next(iter(self._waiting))
            waiting = self._waiting.pop(front)
            order, fds = waiting.popleft()
            self._queued -= 1
            if waiting:
                self._waiting[front] = waiting  # behind the others now
            if self._start(front, order, fds):
                front.send(Started(order.id))

    def _left_queue(self, front: Front, fds: tuple[int, ...]) -> None:
        self._queued -= 1
        _close(fds)
        if not self._waiting[front]:
            del self._waiting[front]

    def _start(self, front: Front, order: Order, fds: tuple[int, ...]) -> bool:
        """Start an order or say why not; return whether it runs. The front hears of what failed and
        what ended: that a script runs it sees from its output, one message less for each."""
        script = Script(order.id, front, 0, order.script)
        found = self._find(order)
        if not (self._hand(script, order, fds, found) or self._execute(script, order, fds, found)):
            return False
        orders = self._orders.get(front)
        if orders is None:
            orders = self._orders[front] = {}
        twin = orders.get(order.id)
        if twin is not None:
            self._stop(twin)  # a front that counts wrongly must not hide a script from its release
        orders[order.id] = script
        self.running += 1
        return True

    def _find(self, order: Order) -> Found | SpawnFailed:
        """Return the file that an order is for, or why there is none."""
        try:
            root = self.roots.get(order.route)
            if root is None:
                return SpawnFailed(0, "route", f'the keeper knows no route "{order.route}"', 500)
            return root.recent(order.script)
        except SpawnFailed as failed:
            return failed

    def _execute(
        self, script: Script, order: Order, fds: tuple[int, ...], found: Found | SpawnFailed
    ) -> bool:
        """Start an order as a new program, or say why not. Its descriptors are closed."""
        try:
            if isinstance(found, SpawnFailed):
                raise found
            pid = self._spawn(order, fds, found)
        except SpawnFailed as failed:
            failure = Failed(order.id, failed.errno, failed.step, failed.status, failed.why)
            script.front.send(failure)
            _close(fds)  # only now: an output that ends is not to come before the reason
            self.ledger.not_started(order.script, failed.errno)
            return False
        _close(fds)
        self._grouped(script, pid)
        return True

    def _grouped(self, script: Script, pid: int) -> None:
        stale = self._groups.get(pid)
        if stale is not None:
            self._forget(stale)  # its number is in use again, so its group had no member left
        script.group = pid
        self._groups[pid] = script

    # Warm ones.

    def _hand(
        self, script: Script, order: Order, fds: tuple[int, ...], found: Found | SpawnFailed
    ) -> bool:
        """Give an order to a zygote, if there is one for it."""
        if isinstance(found, SpawnFailed):
            return False
        root = self.roots[order.route]
        if found.recipe is None:
            if root.spec.start in _AWAITED and root.tell_cold(found):
                text = f"it is executed, though its route says {root.spec.start}: {found.cold}"
                self._journal.write("warn", text, subject=os.fsdecode(found.path))
            return False
        try:
            environment = root.entries(order.environment)
        except ValueError:
            return False  # executing it says so
        if len(order.environment) >= ENTRY_MAX and max(map(len, environment)) >= ENTRY_MAX:
            return False  # so does that: no process may be given as much
        self._token = token = self._token + 1 & 0xFFFFFFFF
        stdin = fds[0] if order.stdin else self._nothing
        run = found.path, found.directory, environment, (stdin, fds[-2], fds[-1])
        key = found.recipe, root.base
        given = (
            root.spec.start == "persistent" and self._persistent.run(key, token, *run)
        ) or self.zygotes.run(key, token, *run, wait=root.spec.start in _AWAITED)
        if given:
            self._handed[token] = _Handed(script, order, fds)
        return given

    def started(self, token: int, pid: int) -> None:
        """A zygote tells that an order runs as this process."""
        script, _, fds = self._handed.pop(token)
        _close(fds)
        self._persistent.started(token, pid)
        self._grouped(script, pid)
        if script.killer is not None:
            _signal(script, signal.SIGTERM)  # it was let go of meanwhile

    def refused(self, token: int) -> None:
        """A zygote tells that nothing of an order has run: it is executed."""
        self._persistent.refused(token)
        self._otherwise(token, warm=False)

    def returned(self, token: int) -> None:
        """A process that stays has not begun an order: another one does it."""
        self._otherwise(token, warm=True)

    def _otherwise(self, token: int, *, warm: bool) -> None:
        """Start an order that was handed over, and that nothing has run of."""
        script, order, fds = self._handed.pop(token)
        if script.killer is not None:
            _close(fds)
        else:
            found = self._find(order)
            if warm and self._hand(script, order, fds, found):
                return
            if self._execute(script, order, fds, found):
                return
        self._forget(script)
        self.running -= 1
        self._next()

    def ended(self, pid: int, status: int, cpu: float, memory: int) -> None:
        """A zygote tells that a child of it ended with `status` (of waitpid)."""
        told = self._persistent.ended(pid)
        script = self._groups.get(pid)
        if script is not None and not script.exited:
            code = os.waitstatus_to_exitcode(status)
            self._over(script, Exited(script.id, code, max(0.0, cpu - told), memory))
            script.front.flush()

    def done(self, pid: int, cpu: float, memory: int) -> None:
        """A process that stays tells that its script has come to its end."""
        script = self._groups.get(pid)
        if script is None or script.exited:
            return
        if script.killer is not None:
            self._persistent.drop(pid)  # it was let go of: its group ends, and then it is over
            return
        self._forget(script)  # a late release is not to end the next request in this process
        self._over(script, Exited(script.id, 0, cpu, memory))
        script.front.flush()

    def _spawn(self, order: Order, fds: tuple[int, ...], found: Found) -> int:
        root = self.roots[order.route]
        try:
            environment = root.entries(order.environment)
        except ValueError as error:
            raise SpawnFailed(0, "environment", str(error), 500) from error
        stdin, stdout, stderr = fds if order.stdin else (0, *fds)
        while True:
            argv, directory = found.argv, found.directory
            try:
                return spawn(argv[0], argv, environment, directory, stdin, stdout, stderr)
            except OSError as error:
                if root.forget(order.script):
                    other = root.recent(order.script)
                    if other.file != found.file:
                        found = other  # it is another file by now: that one's turn
                        continue
                raise examine.start_failed(error, found) from error

    def _stop(self, script: Script) -> None:
        if script.killer is None:
            _signal(script, signal.SIGTERM)
            due = time.monotonic() + self._grace
            script.killer = self._loop.at(due, lambda: _signal(script, signal.SIGKILL))

    def _forget_if_empty(self, script: Script) -> None:
        try:
            os.killpg(script.group, 0)
        except ProcessLookupError:
            self._forget(script)
        except PermissionError:
            pass  # a member became another user (sudo): it is there

    def _forget(self, script: Script) -> None:
        if script.killer is not None:
            script.killer.cancel()
        self._groups.pop(script.group, None)
        orders = self._orders.get(script.front)
        if orders is not None:
            orders.pop(script.id, None)


def _signal(script: Script, number: signal.Signals) -> None:
    """Signal the group that was made for a script, and the script, which may have left it."""
    if not script.group:
        return  # it has not begun; `started` makes up for this
    try:
        os.killpg(script.group, number)
    except (ProcessLookupError, PermissionError):
        pass  # nothing there any more, or what is there became somebody else (sudo)
    try:
        if not script.exited and os.getpgid(script.group) != script.group:
            os.kill(script.group, number)
    except (ProcessLookupError, PermissionError):
        pass


def _close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)
