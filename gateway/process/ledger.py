"""The faults of one keeper: noticed, counted, and written to the journal.

Decides when the counters of the control groups are read: after a program that ended with anything
but 0, two small files; and every `LOOK` seconds, for what no program's end tells (a child of a
script was killed, and the script made do). A keeper without groups reads nothing. Must not know
fronts or orders.

Memory is bounded: a counter for each kind. Of each kind one line is written in `QUIET` seconds, and
what was not written is counted in the next.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from gateway.journal import Journal
from gateway.process.cgroupfs import Kernel, members
from gateway.process.counters import URGENT, Counts, counts, files_of
from gateway.process.faults import (
    Fault,
    Kind,
    Running,
    accounted,
    limits_in_words,
    of_exit,
    of_look,
    of_start,
)
from gateway.process.loop import Loop
from gateway.process.spec import KeeperSpec

LOOK = 5.0
"""Seconds between two looks at the counters."""
UNCLAIMED = 1.0
"""Seconds in which the script whose process was killed for memory must have ended to be named."""
QUIET: dict[Kind, float] = {
    "memory": 1.0,
    "processes": 5.0,
    "cpu-time": 1.0,
    "file-size": 1.0,
    "open-files": 5.0,
    "concurrency": 60.0,
    "queue": 10.0,
}
"""Seconds between two lines of one kind. That scripts wait in line is no failure yet."""
RUNNING_MAX = 64
"""Processes that are looked at for one line."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Ledger:
    """What a keeper knows of limits that were hit."""

    def __init__(
        self, spec: KeeperSpec, loop: Loop, journal: Journal, groups: Callable[[], Iterable[int]]
    ) -> None:
        """`groups` gives the processes of scripts, for a keeper that has no control group."""
        self._spec = spec
        self._loop = loop
        self._journal = journal
        self._groups = groups
        self._words = limits_in_words(spec.allowance)
        self._urgent = files_of(spec.cgroup, URGENT)
        self._before = self._seen = self._counts()
        """Those that are accounted for, and those that were read last."""
        self._since = 0.0
        """When the two began to differ: a killed process whose script has not ended yet."""
        self._written: dict[Kind, float] = {}
        self._unwritten: dict[Kind, int] = {}
        self.counts: dict[Kind, int] = {}
        """How often each limit was hit."""
        if spec.cgroup and not self._urgent and (spec.allowance.memory or spec.allowance.processes):
            text = "its control groups cannot be read: who is killed for memory is not noticed"
            journal.write("warn", text)
        if self._urgent:
            loop.at(time.monotonic() + LOOK, self._look)

    def ended(self, script: bytes, pid: int, status: int, cpu: float) -> str:
        """A program that we did not stop ended with a `status` that is not 0: return why, if a
        limit was the cause, or ""."""
        after = self._read(time.monotonic())
        verdict = of_exit(status, cpu, self._before, after, self._spec.allowance)
        if verdict is None:
            return ""
        self._before = accounted(status, verdict, self._before, after)
        self._record(verdict.kind, script, verdict.why, pid=pid)
        return verdict.why

    def not_started(self, script: bytes, number: int) -> None:
        """A program could not be started; `number` is the system's."""
        kind = of_start(number)
        if kind is not None:
            self._record(kind, script, "it could not be started")
            if kind == "processes":
                after = self._read(time.monotonic())
                self._before = replace(self._before, forks_refused=after.forks_refused)

    def waits(self, script: bytes) -> None:
        """An order waits because as many scripts run as may."""
        detail = "it waits for its turn"
        self._record("concurrency", script, detail, limit=str(self._spec.concurrency))

    def turned_away(self, script: bytes) -> None:
        """An order was refused because as many wait as may."""
        self._record("queue", script, "it was answered with 503", limit=str(self._spec.queue))

    # How they are told.

    def _look(self) -> None:
        now = time.monotonic()
        self._read(now)
        waiting = self._seen != self._before
        self._loop.at(now + (UNCLAIMED * 1.1 if waiting else LOOK), self._look)

    def _read(self, now: float) -> Counts:
        """Return the counts of now; tell what no script has accounted for in time."""
        if self._seen != self._before and now - self._since > UNCLAIMED:
            for kind, times, detail in of_look(self._before, self._seen):
                self._record(kind, b"", detail, times=times)
            self._before = self._seen
        after = self._counts()
        if self._seen == self._before != after:
            self._since = now
        self._seen = after
        return after

    def _counts(self) -> Counts:
        found = counts(self._urgent)
        return Counts(oom_kills=found.oom_kills, forks_refused=found.forks_refused)

    def _record(
        self,
        kind: Kind,
        script: bytes,
        detail: str,
        *,
        pid: int = 0,
        limit: str = "",
        times: int = 1,
    ) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + times
        now = time.monotonic()
        if now - self._written.get(kind, -QUIET[kind]) < QUIET[kind]:
            self._unwritten[kind] = self._unwritten.get(kind, 0) + times
            return
        self._written[kind] = now
        if more := self._unwritten.pop(kind, 0):
            detail += f" ({more} more since the last such line)"
        fault = Fault(
            kind=kind,
            when=time.time(),
            script=script.decode("utf-8", "backslashreplace"),
            pid=pid,
            limit=limit or self._words.get(kind, ""),
            detail=detail,
            running=self._running(),
        )
        self._journal.write("warn" if kind == "concurrency" else "error", fault.line())

    def _running(self) -> tuple[Running, ...]:
        pids = members(self._spec.cgroup[:1], Kernel()) if self._spec.cgroup else self._groups()
        found = (_process(pid) for pid in sorted(pids)[:RUNNING_MAX])
        return tuple(each for each in found if each is not None)


def _process(pid: int) -> Running | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read(4096)
    except OSError:
        return None  # it has ended
    # pid (name) state ppid ... rss is the 24th; the name may hold anything, so count from its end.
    end = line.rfind(b")")
    fields = line[end + 2 :].split()
    if len(fields) < 22:
        return None
    name = line[line.find(b"(") + 1 : end].decode("utf-8", "backslashreplace")
    return Running(pid, int(fields[21]) * _PAGE, name)
