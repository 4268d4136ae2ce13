"""The zygotes of one keeper: interpreters that are ready, each of which forks a child per order.

Decides which zygotes there are, what they load beforehand, and when one is replaced or leaves.
Must not know fronts or orders (`scripts.py`), nor what happens inside an interpreter
(`guests/zygote.py`, `guests/zygote.pm`, where the messages are described).

Nothing depends on a zygote: an order that it did not start is told as `refused`, and is executed as
if there were none. One that dies with children leaves them to this keeper, which is a subreaper.

No order runs twice. That it is started says the child itself, by its zygote's socket and before
anything of the script runs; if it cannot, it runs nothing. So when a zygote has died its socket is
shut, what had been said is heard, and only then are the other orders `refused`: a child that comes
later finds the socket shut.

A zygote learns from its scripts: what they had loaded at their end (system's modules only) is
loaded before the next ones. It belongs to one user and one environment, so nothing is learned or
shared across users.
"""

import os
import signal
import struct
import time
from collections.abc import Sequence
from typing import Protocol

from gateway.journal import Journal
from gateway.process.loop import Loop, Timer
from gateway.process.memory import MIB, Kept, row
from gateway.process.post import last_of, send
from gateway.process.spec import Interpreter
from gateway.process.zygote import Key, Past, Zygote, name_of, spawned

ZYGOTES_MAX = 8
"""Zygotes of one user; the one that was not used for longest makes room."""
SERVED_MAX = 5000
"""Children of one zygote; then another takes its place, with new seeds of hashes."""
AGE_MAX = 600.0
"""Seconds after which it is replaced as well."""
MODULES_MAX = 500
"""Names of modules that are learned for one recipe."""
READY_WITHIN = 30.0
"""Seconds from its start until it must be ready."""
STUCK = 5.0
"""Seconds in which it must have started an order; one that hangs is killed, and its orders are
executed."""
SWEEP = 2.0
"""Seconds between two looks at all of them."""
FAILURES_MAX = 3
"""Starts in a row that fail; then a recipe is cold."""
COLD_FOR = 600.0
"""Seconds for which it is."""
SPOILED = 75
"""Exit status of a zygote whose last module must not be loaded beforehand."""

REPLY_MAX = 1 << 16
_TURN = 16
_RUN = struct.Struct("<cIHH")
_STARTED = struct.Struct("<cII")
_REFUSED = struct.Struct("<cI")
_ENDED = struct.Struct("<cIiQQQI")


class Watcher(Protocol):
    """Who is told what became of orders and processes."""

    def started(self, token: int, pid: int) -> None:
        """The order runs as this process."""
        ...

    def refused(self, token: int) -> None:
        """Nothing of the order has run."""
        ...

    def ended(self, pid: int, status: int, cpu: float, memory: int) -> None:
        """A process that was started ended with `status` (of waitpid)."""
        ...


class Zygotes:
    """All zygotes of a keeper."""

    def __init__(self, watcher: Watcher, loop: Loop, journal: Journal, idle: float) -> None:
        self._watcher = watcher
        self._loop = loop
        self._journal = journal
        self._idle = idle
        self._current: dict[Key, Zygote] = {}
        self._all: dict[int, Zygote] = {}
        self._past: dict[Key, Past] = {}
        self._sweeper: Timer | None = None

    @property
    def count(self) -> int:
        """Those that live."""
        return len(self._all)

    def run(
        self,
        key: Key,
        token: int,
        script: bytes,
        directory: bytes,
        environment: Sequence[bytes],
        fds: tuple[int, ...],
        *,
        wait: bool,
    ) -> bool:
        """Hand an order to the zygote of `key`; return whether that was possible.

        Its descriptors stay the caller's: three, and a fourth if the process is to stay, which is
        its socket (`persistent.py`). If there is no zygote one is started, and the order is handed
        over only if it may `wait` for that.
        """
        zygote = self._current.get(key) or self._start(key)
        if zygote is None or not (zygote.ready or wait):
            return False
        try:
            send(zygote.control, order_message(token, script, directory, environment), fds)
        except (OSError, struct.error):
            return False  # it has no room, or is gone: SIGCHLD tells that
        zygote.used = zygote.waiting[token] = time.monotonic()
        return True

    def reaped(self, pid: int, status: int) -> bool:
        """A child of the keeper ended. Return whether it was a zygote."""
        zygote = self._all.get(pid)
        if zygote is None:
            return False
        for data in last_of(zygote.control, REPLY_MAX):
            try:
                self._heard(zygote, data[:1], data)
            except struct.error:
                pass  # what is no message says nothing, and it has ended anyway
        self._lost(zygote, os.waitstatus_to_exitcode(status))
        return True

    def hear(self) -> None:
        """Take what all have said by now."""
        for zygote in list(self._all.values()):
            while self._hear(zygote):
                pass

    def rows(self) -> list[Interpreter]:
        """Return what there is, for whoever shows it."""
        return [
            row(Kept(
                zygote.key[0], b"", zygote.pid, zygote.served, len(zygote.modules), zygote.born,
                zygote.used, bool(zygote.waiting or zygote.children),
            ))
            for zygote in self._all.values()
        ]  # fmt: skip

    def close(self) -> None:
        """Let all go; what they have started lives on, as children of this process."""
        for zygote in list(self._all.values()):
            zygote.count()
            zygote.waiting.clear()  # nothing is started any more, in whatever way
            self._drop(zygote)
        if self._sweeper is not None:
            self._sweeper.cancel()

    # A zygote's life.

    def _start(self, key: Key) -> Zygote | None:
        past = self._past.setdefault(key, Past())
        if time.monotonic() < past.cold_until:
            return None
        if len(self._all) >= ZYGOTES_MAX:
            self._retire(min(self._all.values(), key=lambda each: each.used))
            if len(self._all) >= ZYGOTES_MAX:
                return None  # that one still has to leave
        try:
            zygote = spawned(key, self._loop, self._journal)
        except OSError as error:
            self._failed(key, f"cannot be started: {error.strerror}")
            return None
        self._all[zygote.pid] = self._current[key] = zygote
        self._loop.watch(zygote.control.fileno(), lambda: self._hear(zygote))
        self._preload(zygote, past.modules)
        if self._sweeper is None:
            self._sweep_later()
        return zygote

    def _preload(self, zygote: Zygote, names: Sequence[bytes] | dict[bytes, None]) -> None:
        banned = self._past[zygote.key].banned
        wanted = [name for name in names if name not in banned]
        if wanted:
            zygote.modules.update(wanted)
            zygote.counted = False
            try:
                send(zygote.control, b"P" + b"\0".join(wanted))
            except OSError:
                pass  # it loads them when it is asked again, or never: only slower

    def _retire(self, zygote: Zygote) -> None:
        """Let a zygote leave once its children have ended."""
        if self._current.get(zygote.key) is zygote:
            del self._current[zygote.key]
        if not zygote.retired:
            zygote.count()
            try:
                send(zygote.control, b"Q")
            except OSError:
                return  # it has no room: the next sweep asks again; or is gone: SIGCHLD says so
            zygote.retired = True

    def _kill(self, zygote: Zygote, why: str) -> None:
        """End one that does not do its part; `_lost` sees to what it leaves."""
        if self._current.get(zygote.key) is zygote:
            del self._current[zygote.key]
        self._journal.write("warn", f"the zygote {why}", subject=name_of(zygote.key[0]))
        os.kill(zygote.pid, signal.SIGKILL)

    def _drop(self, zygote: Zygote) -> None:
        """Forget a zygote, which leaves when its socket closes. Its orders are refused."""
        text = (
            f"the zygote leaves: it served {zygote.served} in {time.monotonic() - zygote.born:.0f} "
            f"s, with {zygote.memory.private / MIB:.1f} MiB of its own, "
            f"{zygote.memory.shared / MIB:.1f} MiB shared and {len(zygote.modules)} modules loaded "
            "beforehand"
        )
        self._journal.write("info", text, subject=name_of(zygote.key[0]))
        del self._all[zygote.pid]
        if self._current.get(zygote.key) is zygote:
            del self._current[zygote.key]
        self._loop.unwatch(zygote.control.fileno())
        zygote.control.close()
        zygote.output.close()
        for token in sorted(zygote.waiting):
            self._watcher.refused(token)

    def _lost(self, zygote: Zygote, code: int) -> None:
        """It has ended by itself."""
        key, past = zygote.key, self._past[zygote.key]
        zygote.output.drain()
        expected = zygote.retired and code == 0
        module = zygote.failed_module
        self._drop(zygote)
        for pid in zygote.children:
            if not os.path.exists(f"/proc/{pid}"):  # else it is our child by now, and we reap it
                # It was reaped by the zygote, which did not come to tell how it ended.
                self._watcher.ended(pid, signal.SIGKILL, 0.0, 0)
        if code == SPOILED and module:
            past.banned.add(os.fsencode(module))
            text = f"the module {module} is not loaded beforehand: it does not survive a fork"
            self._journal.write("warn", text, subject=name_of(key[0]))
        elif not expected:
            self._failed(key, f"ended with {code}")

    def _failed(self, key: Key, why: str) -> None:
        past = self._past[key]
        past.failures += 1
        text = f"the zygote {why}; its scripts are executed meanwhile"
        if past.failures >= FAILURES_MAX:
            past.failures = 0
            past.cold_until = time.monotonic() + COLD_FOR
            text = f"the zygote {why}; for {COLD_FOR:g} s its scripts are executed"
        self._journal.write("warn", text, subject=name_of(key[0]))

    def _sweep_later(self) -> None:
        pause = min(SWEEP, max(0.2, self._idle / 4))
        self._sweeper = self._loop.at(time.monotonic() + pause, self._sweep)

    def _sweep(self) -> None:
        """Let go of those that are idle, old, or do not get ready."""
        now = time.monotonic()
        for zygote in list(self._all.values()):
            if not zygote.ready and now - zygote.born > READY_WITHIN:
                self._kill(zygote, f"was not ready within {READY_WITHIN:g} s")
            elif zygote.waiting:
                if zygote.ready and now - min(zygote.waiting.values()) > STUCK:
                    self._kill(zygote, f"did not start a script within {STUCK:g} s")
            elif now - zygote.born >= AGE_MAX:
                self._retire(zygote)  # it waits for its children, of which some may stay long
            elif not zygote.children and now - zygote.used >= self._idle:
                self._retire(zygote)
            if zygote.ready and not zygote.counted and zygote.pid in self._all:
                zygote.count()
        self._sweeper = None
        if self._all:
            self._sweep_later()

    # What a zygote says.

    def _hear(self, zygote: Zygote) -> bool:
        """Take some messages; return whether there may be more."""
        for _ in range(_TURN):
            try:
                data = zygote.control.recv(REPLY_MAX)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                continue  # it has ended with an order unread; what it said comes after this
            except OSError:
                data = b""
            if not data:
                # SIGCHLD says the rest; until then it gets no orders.
                self._loop.unwatch(zygote.control.fileno())
                if self._current.get(zygote.key) is zygote:
                    del self._current[zygote.key]
                return False
            try:
                self._heard(zygote, data[:1], data)
            except struct.error:
                self._kill(zygote, "sent what is no message")
                self._loop.unwatch(zygote.control.fileno())
                return False
        return True

    def _heard(self, zygote: Zygote, kind: bytes, data: bytes) -> None:
        if kind == b"S":
            _, token, pid = _STARTED.unpack(data)
            if token in zygote.waiting:
                del zygote.waiting[token]
                zygote.served += 1
                zygote.children.add(pid)
                self._watcher.started(token, pid)
                if zygote.served >= SERVED_MAX:
                    self._retire(zygote)
        elif kind == b"X":
            _, pid, status, user, system, resident, token = _ENDED.unpack(data)
            zygote.children.discard(pid)
            if token in zygote.waiting:  # it ended before it could say that it starts
                del zygote.waiting[token]
                self._watcher.refused(token)
            else:
                self._watcher.ended(pid, status, (user + system) / 1e6, resident << 10)
        elif kind == b"F":
            _, token = _REFUSED.unpack_from(data)
            if token in zygote.waiting:
                del zygote.waiting[token]
                self._watcher.refused(token)
        elif kind == b"L":
            self.learn(zygote.key, data[1:].split(b"\0"))
        elif kind == b"W":
            text = data[1:].decode("utf-8", "replace")
            zygote.failed_module = text.partition(":")[0]
            self._journal.write("info", text, subject=name_of(zygote.key[0]))
        elif kind == b"C":
            self._retire(zygote)
        elif kind == b"H":
            zygote.ready = True
            self._past[zygote.key].failures = 0

    def learn(self, key: Key, names: Sequence[bytes]) -> None:
        """Have modules that a script needed loaded beforehand from now on."""
        past = self._past[key]
        fresh = [name for name in names if name and name not in past.modules]
        fresh = fresh[: MODULES_MAX - len(past.modules)]
        past.modules.update(dict.fromkeys(fresh))
        zygote = self._current.get(key)
        if zygote is not None:
            self._preload(zygote, fresh)


def order_message(
    token: int, script: bytes, directory: bytes, environment: Sequence[bytes]
) -> bytes:
    """Return the message that orders a script. Raises struct.error for a path that is too long."""
    head = _RUN.pack(b"R", token, len(script), len(directory))
    return b"".join((head, script, directory, b"\0".join(environment)))
