"""Processes that stay for one script each, and run it again and again: `start = "persistent"`.

Decides which process gets an order, how many there are, and when one is let go of. Such a process
is a child of a zygote (`zygotes.py`), started as for any warm script, but given a socket of its
own; what it does between two requests is up to `guests/stay.py` and `guests/zygote.pm`. Must not
know fronts or orders (`scripts.py`).

One request at a time: a process that is busy gets no second one, another process is started. One
that does not say "done" ends as a warm script does, and its zygote or the kernel tells how; so
whatever went wrong in a request, the next one begins in a fresh process. An order that a process
did not begin is `returned`, to be started in another way.

What is said on that socket, little-endian, a message being a datagram:

  to it    R  as to a zygote: u32 id, u16 length of script, u16 length of cwd, script, cwd,
              environment, with three descriptors
              at the socket's end it leaves
  from it  S  u32 id, u32 pid: the script begins. Of the first order it is said to the zygote's
              keeper, by the zygote's socket. If it cannot be said the script does not begin
           F  u32 id, text: it does not run this, something has changed; and it leaves
           D  u32 id, u64 user us, u64 system us, u64 largest memory in KiB: the script has come to
              its end with status 0; numbers from the start of the process
           L  names joined by NUL: modules of the system that the script needed and that were not
              here
"""

import os
import signal
import socket
import struct
import time
from collections.abc import Sequence
from typing import Protocol

from gateway.process.loop import Loop, Timer
from gateway.process.memory import Kept, row
from gateway.process.post import last_of, send
from gateway.process.spec import Interpreter
from gateway.process.zygote import Key
from gateway.process.zygotes import REPLY_MAX, STUCK, SWEEP, Zygotes, order_message

SERVED_MAX = 1000
"""Requests of one process; then it leaves, with whatever it has gathered."""
AGE_MAX = 600.0
"""Seconds after which it leaves as well."""
RESTED = 1.0
"""Seconds without a request after which it makes room for another script. Until then that one is
only warm: when many scripts are asked for in turn, each would make the others leave."""

_TURN = 16
_STARTED = struct.Struct("<cII")
_REFUSED = struct.Struct("<cI")
_DONE = struct.Struct("<cIQQQ")

Place = tuple[Key, bytes, bytes]
"""What a process is for: a zygote's key, the script's path and its directory."""


class Watcher(Protocol):
    """Who is told what became of orders."""

    def started(self, token: int, pid: int) -> None:
        """The order runs as this process."""
        ...

    def returned(self, token: int) -> None:
        """Nothing of the order has run; another process may do it."""
        ...

    def done(self, pid: int, cpu: float, memory: int) -> None:
        """What ran as this process came to its end with status 0, and the process stays."""
        ...


class Process:
    """One process, from its first order on."""

    __slots__ = (
        "begun", "born", "control", "cpu", "pid", "place", "served", "token", "used"
    )  # fmt: skip

    def __init__(self, place: Place, control: socket.socket, token: int) -> None:
        self.place = place
        self.control = control
        self.token = token
        """The order that it has; 0 when it waits for one."""
        self.begun = False
        """That order's script has begun."""
        self.pid = 0
        """0 while the zygote has not told it."""
        self.born = self.used = time.monotonic()
        self.served = 0
        self.cpu = 0.0
        """Seconds that were told of before."""


class Persistent:
    """All such processes of a keeper: at most `most`, as many as scripts may run at once."""

    def __init__(
        self, watcher: Watcher, zygotes: Zygotes, loop: Loop, idle: float, most: int
    ) -> None:
        self._watcher = watcher
        self._zygotes = zygotes
        self._loop = loop
        self._idle = idle
        self._most = most
        self._starting: dict[int, Process] = {}
        """Token of the first order -> a process that a zygote is to start."""
        self._all: dict[int, Process] = {}
        self._free: dict[Place, list[Process]] = {}
        """Those that wait; the one that was used last is used next, so that others may leave."""
        self._sweeper: Timer | None = None

    def run(
        self,
        key: Key,
        token: int,
        script: bytes,
        directory: bytes,
        environment: Sequence[bytes],
        fds: tuple[int, int, int],
    ) -> bool:
        """Hand an order to a process that stays, or have one started; return whether either was
        possible. Its descriptors stay the caller's."""
        place = key, script, directory
        try:
            message = order_message(token, script, directory, environment)
        except struct.error:
            return False
        while free := self._free.get(place):
            process = free.pop()
            try:
                send(process.control, message, fds)
            except OSError:
                self.drop(process.pid)  # it is gone, or as good as gone
                continue
            process.token, process.begun = token, False
            process.used = time.monotonic()
            return True
        return self._start(place, token, environment, fds)

    def started(self, token: int, pid: int) -> None:
        """A zygote tells that an order runs as this process: is it one of ours?"""
        process = self._starting.pop(token, None)
        if process is not None:
            process.pid, process.begun = pid, True
            self.drop(pid)
            self._all[pid] = process
            self._loop.watch(process.control.fileno(), lambda: self._hear(process))
            if self._sweeper is None:
                self._sweep_later()

    def refused(self, token: int) -> None:
        """A zygote tells that it does not start an order."""
        process = self._starting.pop(token, None)
        if process is not None:
            process.control.close()

    def ended(self, pid: int) -> float:
        """A process has ended; return the seconds of processor time that were told of it before.

        What it said before comes first: perhaps the script had come to its end.
        """
        process = self._all.get(pid)
        if process is None:
            return 0.0
        while self._hear(process):
            pass
        self.drop(pid)
        return process.cpu

    def drop(self, pid: int) -> None:
        """Let go of a process: it leaves, at the latest when it has done what it does."""
        process = self._all.get(pid)
        if process is not None and process.token and not process.begun:
            self._seal(process)
        process = self._all.pop(pid, None)
        if process is None:
            return
        free = self._free.get(process.place, [])
        if process in free:
            free.remove(process)
        if not free:
            self._free.pop(process.place, None)
        self._loop.unwatch(process.control.fileno())
        process.control.close()
        if process.token and not process.begun:
            token, process.token = process.token, 0
            self._watcher.returned(token)

    def rows(self) -> list[Interpreter]:
        """Return what there is, for whoever shows it."""
        return [
            row(Kept(
                each.place[0][0], each.place[1], each.pid, each.served, 0, each.born, each.used,
                bool(each.token),
            ))
            for each in self._all.values()
        ]  # fmt: skip

    def close(self) -> None:
        """Let all go."""
        for process in self._starting.values():
            process.control.close()
        self._starting.clear()
        for process in list(self._all.values()):
            process.begun = True  # nothing is started any more, in whatever way
            self.drop(process.pid)
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _start(
        self, place: Place, token: int, environment: Sequence[bytes], fds: tuple[int, int, int]
    ) -> bool:
        if len(self._all) + len(self._starting) >= self._most:
            before = time.monotonic() - RESTED
            rested = [each for each in self._all.values() if not each.token and each.used < before]
            if not rested:
                return False
            self.drop(min(rested, key=lambda each: each.used).pid)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        key, script, directory = place
        with theirs:
            given = (*fds, theirs.fileno())
            if not self._zygotes.run(key, token, script, directory, environment, given, wait=True):
                ours.close()
                return False
        ours.setblocking(False)
        self._starting[token] = Process(place, ours, token)
        return True

    def _sweep_later(self) -> None:
        pause = min(SWEEP, max(0.2, self._idle / 4))
        self._sweeper = self._loop.at(time.monotonic() + pause, self._sweep)

    def _sweep(self) -> None:
        """Let go of those that are idle or old, or do not begin what they were given."""
        now = time.monotonic()
        for process in list(self._all.values()):
            if not process.token:
                if now - process.used >= self._idle or now - process.born >= AGE_MAX:
                    self.drop(process.pid)
            elif not process.begun and now - process.used > STUCK:
                self._seal(process)
                if not process.begun:
                    _kill(process.pid)
                self.drop(process.pid)
        self._sweeper = None
        if self._all:
            self._sweep_later()

    # What a process says.

    def _hear(self, process: Process) -> bool:
        """Take some messages; return whether there may be more."""
        for _ in range(_TURN):
            if self._all.get(process.pid) is not process:
                return False
            try:
                data = process.control.recv(REPLY_MAX)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                continue  # it has ended with an order unread; what it said comes after this
            except OSError:
                data = b""
            try:
                if not data:
                    self.drop(process.pid)
                else:
                    self._heard(process, data[:1], data)
            except struct.error:
                _kill(process.pid)
                self.drop(process.pid)
        return True

    def _seal(self, process: Process) -> None:
        """Hear whether a process has begun its order; if not, it cannot any more."""
        for data in last_of(process.control, REPLY_MAX):
            try:
                self._heard(process, data[:1], data)
            except struct.error:
                pass  # what is no message says nothing

    def _heard(self, process: Process, kind: bytes, data: bytes) -> None:
        if kind == b"S":
            _, token, pid = _STARTED.unpack(data)
            if token == process.token and pid == process.pid:
                process.begun = True
                self._watcher.started(token, pid)
        elif kind == b"D":
            _, token, user, system, peak = _DONE.unpack(data)
            if token == process.token and process.begun:
                self._done(process, (user + system) / 1e6, peak << 10)
        elif kind == b"F":
            _, token = _REFUSED.unpack_from(data)
            if token == process.token:
                self.drop(process.pid)
        elif kind == b"L":
            self._zygotes.learn(process.place[0], data[1:].split(b"\0"))

    def _done(self, process: Process, cpu: float, peak: int) -> None:
        used, process.cpu = max(0.0, cpu - process.cpu), cpu
        process.token = 0
        process.served += 1
        process.used = time.monotonic()
        if process.served >= SERVED_MAX:
            self.drop(process.pid)
        else:
            self._free.setdefault(process.place, []).append(process)
        self._watcher.done(process.pid, used, peak)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it is gone; that is what was wanted
