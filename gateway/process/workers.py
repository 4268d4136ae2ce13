"""One worker of a pool: its process, what it writes, and its `life` performed.

Decides nothing about when a worker lives (`life.py` does) nor what is started (`pools.py` does).
A worker's stdout and stderr are one pipe that goes to the journal line by line: a worker without a
newline, or with a line of 10 MB, costs a bounded buffer and one cut line (FIELD section 3, row 17).
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf

from gateway.journal import Journal
from gateway.process.diagnosis import worker_cause
from gateway.process.life import Action, Event, Life, Phase, step
from gateway.process.loop import Loop, Timer
from gateway.process.spec import SpawnFailed

LINE = 4096
"""Longest line of a worker that is logged whole, in bytes."""

_TAIL = 2048
_READ = 65536


class Lines:
    """Cuts a stream of bytes into lines of bounded length."""

    __slots__ = ("_cut", "_partial")

    def __init__(self) -> None:
        self._partial = b""
        self._cut = False
        """The rest of the present line is thrown away."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without their ends and without empty ones."""
        *whole, rest = data.split(b"\n")
        lines: list[bytes] = []
        for piece in whole:
            line = self._take(piece)
            self._partial, self._cut = b"", False
            if line:
                lines.append(line)
        line = self._take(rest)
        if len(line) > LINE:
            lines.append(line[:LINE] + b" [cut]")
            self._partial, self._cut = b"", True
        else:
            self._partial = line
        return lines

    def finish(self) -> list[bytes]:
        """Return what is left at the end of the stream."""
        rest, self._partial = self._partial.rstrip(b"\r"), b""
        return [rest] if rest else []

    def _take(self, piece: bytes) -> bytes:
        return b"" if self._cut else (self._partial + piece).rstrip(b"\r")


class Output:
    """A worker's pipe on its way to the journal. Owns the descriptor, and closes it at its end."""

    __slots__ = ("_fd", "_journal", "_lines", "_loop", "_subject", "tail")

    def __init__(self, fd: int, loop: Loop, journal: Journal, subject: str) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._loop = loop
        self._journal = journal
        self._subject = subject
        self._lines = Lines()
        self.tail = b""
        """The last bytes written, for the reason why the worker ended."""
        loop.watch(fd, self._read_once)

    @property
    def open(self) -> bool:
        return self._fd >= 0

    def drain(self) -> None:
        """Take what is there now: the worker has ended."""
        for _ in range(16):
            if self._fd < 0 or not self._read():
                return

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._log(self._lines.finish())

    def _read_once(self) -> None:
        self._read()

    def _read(self) -> bool:
        """Take one piece; return whether there may be more."""
        try:
            data = os.read(self._fd, _READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        self.tail = (self.tail + data[-_TAIL:])[-_TAIL:]
        self._log(self._lines.feed(data))
        return True

    def _log(self, lines: list[bytes]) -> None:
        for line in lines:
            self._journal.write("info", line, subject=self._subject)


class Worker:
    """One place of a pool: at most one process at a time, and its life.

    `start` is given the descriptor of the output pipe and returns the new process's id; it raises
    OSError or SpawnFailed. `changed` is called after each event, with whether the worker has just
    come up.
    """

    def __init__(
        self,
        name: str,
        grace: float,
        loop: Loop,
        journal: Journal,
        start: Callable[[int], int],
        changed: Callable[[bool], None],
    ) -> None:
        self.life = Life(grace=grace)
        self.pid = 0
        self.why = ""
        """Why the last process ended, or could not be started."""
        self._name = name
        self._loop = loop
        self._journal = journal
        self._start = start
        self._changed = changed
        self._timer: Timer | None = None
        self._outputs: list[Output] = []

    def tell(self, event: Event) -> None:
        """Perform what `event` means for this worker."""
        self.life, actions = step(self.life, event, time.monotonic())
        for action in actions:
            if action is Action.SPAWN:
                self._spawn()
            elif action is Action.TERM:
                self.signal(signal.SIGTERM)
            elif action is Action.KILL:
                self.signal(signal.SIGKILL)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.life.due != inf:
            self._timer = self._loop.at(self.life.due, lambda: self.tell(Event.DUE))
        self._changed(Action.UP in actions)

    def reaped(self, status: int, blame: str = "") -> None:
        """Its process ended with `status` (an exit code, or minus a signal); `blame` names the
        limit that was the cause, if one was."""
        output = self._outputs[-1]
        output.drain()
        group, self.pid = self.pid, 0
        # What it forked holds the listening socket: it goes too, as politely as the worker would.
        if _signal(group, signal.SIGTERM):
            due = time.monotonic() + self.life.grace
            self._loop.at(due, partial(_signal, group, signal.SIGKILL))
        if self.life.phase is not Phase.STOPPING:
            self.why = worker_cause(status, output.tail, blame)
            self._journal.write("info" if status == 0 else "error", self.why, subject=self._name)
        self.tell(Event.LEFT if status == 0 else Event.DIED)

    def patience(self, grace: float) -> None:
        """Give it `grace` seconds from TERM to KILL from now on."""
        self.life = replace(self.life, grace=grace)

    def signal(self, number: signal.Signals) -> None:
        if self.pid:
            _signal(self.pid, number)

    def close(self) -> None:
        for output in self._outputs:
            output.close()

    def _spawn(self) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            self.pid = self._start(writer)
        except (OSError, SpawnFailed) as error:
            os.close(reader)
            self.why = error.why if isinstance(error, SpawnFailed) else str(error)
            self._journal.write("error", self.why, subject=self._name)
            self.tell(Event.DIED)
            return
        finally:
            os.close(writer)
        self._outputs = [output for output in self._outputs if output.open]
        self._outputs.append(Output(reader, self._loop, self._journal, self._name))


def _signal(group: int, number: signal.Signals) -> bool:
    """Signal a process group; return whether it had a member that may be signalled."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
