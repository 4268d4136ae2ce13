"""Run a script once, outside of any request, and keep all that it said.

Decides how long it may take and what is kept. Starts it by the keeper's own code (`spawn.py`), so
that what works here works there. Must not know what the output means (`checkup.py`).

For a process that `birth.become` has made, which has no other children: whatever is left below it
afterwards is killed.
"""

import os
import re
import resource
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.process import examine, orphans
from gateway.process.examine import Found
from gateway.process.spawn import spawn
from gateway.process.spec import Exit, SpawnFailed

OUTPUT_MAX = 1 << 20
"""Bytes of the answer that are kept; the rest is counted."""
STDERR_MAX = 16384
"""Bytes of stderr that are kept: the last ones."""

SETTLE = 0.2
"""Seconds after a script's end in which its output must end too; a child of it may still write."""
GRACE = 1.0
"""Seconds from TERM to KILL for one that takes too long."""
_SWEEP = 2.0
"""Seconds in which what it left behind must be gone after KILL."""

_VERSION_TIME = 3.0
_TELLING = re.compile(rb"(?:python|pypy|perl|ruby|php|bash)[0-9.-]*(?:cgi|cli)?")
_VERSION = re.compile(rb"[0-9]+\.[0-9]+(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a script did."""

    output: bytes
    """Its first `OUTPUT_MAX` bytes."""
    written: int
    """Bytes that it wrote in all."""
    stderr: bytes
    """The last `STDERR_MAX` bytes."""
    exit: Exit
    """Its memory is 0 where it was not above ours."""
    seconds: float
    """From start to end."""
    late: bool
    """It had not ended in time and was stopped."""
    left: bool
    """Processes of it ran on after its end, and were stopped."""


def run_once(
    found: Found, environment: Sequence[bytes], stdin: int, seconds: float, stop: int
) -> Outcome:
    """Run a script for at most `seconds`, and until `stop` ends (the read end of a pipe).

    `environment` has "name=value" entries; `stdin` 0 is this process's own. Needs
    `heed_all_signals` before. Raises SpawnFailed.
    """
    out, to_out = os.pipe2(os.O_CLOEXEC)
    err, to_err = os.pipe2(os.O_CLOEXEC)
    begun = time.monotonic()
    try:
        try:
            argv = found.argv
            pid = spawn(argv[0], argv, environment, found.directory, stdin, to_out, to_err)
        except OSError as error:
            raise examine.start_failed(error, found) from error
        finally:
            os.close(to_out)
            os.close(to_err)
        return _Run(pid, out, err, stop, begun).outcome(seconds)
    finally:
        os.close(out)
        os.close(err)


class _Run:
    """A script while it runs."""

    def __init__(self, pid: int, out: int, err: int, stop: int, begun: float) -> None:
        self._pid = pid
        self._out, self._err, self._stop = out, err, stop
        self._end = os.pidfd_open(pid)
        self._begun = begun
        self._output = bytearray()
        self._written = 0
        self._stderr = bytearray()
        self._poll = select.poll()
        for fd in (out, err, self._end, stop):
            self._poll.register(fd, select.POLLIN)
        self._open = {out, err, self._end}
        """What has not ended: both outputs, and the script itself."""

    def outcome(self, seconds: float) -> Outcome:
        self._until(self._begun + seconds, lambda: self._end not in self._open)
        late = self._end in self._open
        for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, _SWEEP)):
            if self._end in self._open:
                _signal_group(self._pid, number)
                self._until(time.monotonic() + patience, lambda: self._end not in self._open)
        lasted = time.monotonic() - self._begun
        self._until(time.monotonic() + SETTLE, lambda: not self._open)
        _, status, usage = os.wait4(self._pid, 0)
        os.close(self._end)
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ended = Exit(
            os.waitstatus_to_exitcode(status),
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss << 10 if usage.ru_maxrss > own else 0,
        )
        left = _sweep(self._pid)
        return Outcome(
            output=bytes(self._output),
            written=self._written,
            stderr=bytes(self._stderr),
            exit=ended,
            seconds=lasted,
            late=late,
            left=left and not late,
        )

    def _until(self, deadline: float, done: Callable[[], bool]) -> None:
        """Take what comes until `done` or the deadline."""
        while not done():
            wait = deadline - time.monotonic()
            if wait <= 0:
                return
            for fd, _ in self._poll.poll(wait * 1000 + 1):
                if fd == self._stop:
                    self._poll.unregister(fd)
                    _signal_group(self._pid, signal.SIGKILL)
                elif fd == self._end or not self._take(fd):
                    self._poll.unregister(fd)
                    self._open.discard(fd)

    def _take(self, fd: int) -> bool:
        """Read once; return whether there may be more."""
        data = os.read(fd, 65536)
        if fd == self._out:
            self._written += len(data)
            self._output += data[: OUTPUT_MAX - len(self._output)]
        else:
            self._stderr += data
            del self._stderr[:-STDERR_MAX]
        return bool(data)


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass  # nothing there any more, or it became somebody else (sudo)


def _sweep(group: int) -> bool:
    """Kill what is left; return whether anything was alive. What cannot be killed is left."""
    _reap()
    alive = orphans.any_child()
    deadline = time.monotonic() + _SWEEP
    while orphans.any_child() and time.monotonic() < deadline:
        _signal_group(group, signal.SIGKILL)
        orphans.signal_children(signal.SIGKILL)
        _reap()
        time.sleep(0.005)  # a killed one's children come here when it has ended
    return alive


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def version(interpreter: bytes, environment: Sequence[bytes], stop: int) -> str:
    """Return the version that an interpreter tells of itself, "" where it does not.

    Only those are asked that are known to answer, and that belong to the system or to us.
    """
    name = os.path.basename(interpreter)
    try:
        owner = os.stat(interpreter).st_uid
    except OSError:
        return ""
    if _TELLING.fullmatch(name) is None or owner not in (0, os.geteuid()):
        return ""
    asked = Found((interpreter, b"--version"), b"/", interpreter, (0, 0, 0, 0))
    try:
        outcome = run_once(asked, environment, 0, _VERSION_TIME, stop)
    except SpawnFailed:
        return ""
    said = _VERSION.search(outcome.output or outcome.stderr)
    return said[0].decode() if said else ""
