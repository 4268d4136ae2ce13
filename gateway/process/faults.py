"""Which limit was hit: the decision, from counters and exit statuses; and how it is said.

A fault is a limit that a user's programs have run into: which, when, which script, what was
running.
Pure: `ledger.py` reads the counters before and after, and records. Must not know how limits are
set.
"""

import errno
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gateway.process.counters import Counts
from gateway.process.spec import Allowance

Kind = Literal["memory", "processes", "cpu-time", "file-size", "open-files", "concurrency", "queue"]

SHOWN = 8
"""Processes that a fault names, the largest ones; the others are counted."""
_SHELLS_KILL = 128 + signal.SIGKILL
"""Exit status of a shell whose last command was killed."""


class Running(NamedTuple):
    """A process at the moment of a fault."""

    pid: int
    rss: int
    """Resident bytes."""
    name: str
    """Of the command, as the kernel has it: at most 15 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One limit that was hit."""

    kind: Kind
    when: float
    """Seconds since the epoch."""
    script: str
    """As the order names it, below its root; the name of a pool; or "" where it is not known."""
    pid: int = 0
    """0 where there is none."""
    limit: str = ""
    """In words: "512 MiB"."""
    detail: str
    running: tuple[Running, ...] = ()

    def line(self) -> str:
        """Return it as one line of the journal."""
        of = f"pid {self.pid}" if self.pid else ""
        if self.script:
            of = f"script {self.script}{f' ({of})' if of else ''}"
        parts = [of, f"limit {self.limit}" if self.limit else "", self.detail, self._others()]
        return f"fault {self.kind}: {', '.join(filter(None, parts))}"

    def _others(self) -> str:
        if not self.running:
            return ""
        largest = sorted(self.running, key=lambda each: -each.rss)[:SHOWN]
        names = [f"{each.name} (pid {each.pid}, {size(each.rss)})" for each in largest]
        if len(self.running) > SHOWN:
            names.append(f"and {len(self.running) - SHOWN} more")
        return f"running: {', '.join(names)}"


class Verdict(NamedTuple):
    """What was decided: the limit, and a sentence for whoever asks why the script failed."""

    kind: Kind
    why: str


def of_exit(
    status: int, cpu: float, before: Counts, after: Counts, allowance: Allowance
) -> Verdict | None:
    """Say which limit ended a program, or what it ran into; None where it was none.

    `status` is an exit code or minus a signal, `cpu` its seconds of processor time; the counts are
    those before what is not yet accounted for, and those after the end.
    """
    bounds = limits_in_words(allowance)
    if status == -signal.SIGXCPU and allowance.cpu_time:
        return Verdict("cpu-time", f"killed by its limit of processor time ({bounds['cpu-time']})")
    if status == -signal.SIGXFSZ and allowance.file_size:
        return Verdict("file-size", f"killed by its limit of file size ({bounds['file-size']})")
    if after.oom_kills > before.oom_kills:
        if status == -signal.SIGKILL:
            return Verdict("memory", f"killed by its memory limit ({bounds['memory']})")
        return Verdict(
            "memory", f"a process was killed by the memory limit ({bounds['memory']}) while it ran"
        )
    if status == -signal.SIGKILL and 0 < allowance.cpu_time <= cpu:
        return Verdict("cpu-time", f"killed by its limit of processor time ({bounds['cpu-time']})")
    if after.forks_refused > before.forks_refused:
        return Verdict(
            "processes",
            "it could not start another process or thread: "
            f"the limit of processes ({bounds['processes']}) is reached",
        )
    return None


def of_look(before: Counts, after: Counts) -> list[tuple[Kind, int, str]]:
    """Say what happened that no script's end has told of: (kind, how often, detail)."""
    found: list[tuple[Kind, int, str]] = []
    if (killed := after.oom_kills - before.oom_kills) > 0:
        found.append(
            ("memory", killed, f"{_count(killed, 'process was', 'processes were')} killed")
        )
    if (refused := after.forks_refused - before.forks_refused) > 0:
        what = f"{_count(refused, 'process or thread was', 'processes or threads were')} refused"
        found.append(("processes", refused, what))
    return found


_OF_START: Mapping[int, Kind] = {
    errno.EAGAIN: "processes",
    errno.ENOMEM: "memory",
    errno.EMFILE: "open-files",
}


def of_start(number: int) -> Kind | None:
    """Say which limit kept a program from being started, from the error of the start."""
    return _OF_START.get(number)


def accounted(status: int, verdict: Verdict, before: Counts, after: Counts) -> Counts:
    """Return the counts `before` the next end: what `verdict` was given for is accounted for.

    One killed process accounts for one killed script, or the shell that ran it. A script that
    failed in another way may have nothing to do with the process that was killed while it ran: its
    own script has yet to be heard of.
    """
    oom_kills, forks_refused = before.oom_kills, before.forks_refused
    if verdict.kind == "memory" and status in (-signal.SIGKILL, _SHELLS_KILL):
        oom_kills += 1
    if verdict.kind == "processes":
        forks_refused = after.forks_refused
    return Counts(oom_kills=oom_kills, forks_refused=forks_refused)


def limits_in_words(allowance: Allowance) -> dict[Kind, str]:
    """Return kind -> its limit, for those that an allowance has."""
    return {
        "memory": size(allowance.memory) if allowance.memory else "",
        "processes": str(allowance.processes or ""),
        "cpu-time": f"{allowance.cpu_time:g} s" if allowance.cpu_time else "",
        "file-size": size(allowance.file_size) if allowance.file_size else "",
        "open-files": str(allowance.open_files or ""),
    }


def size(number: int) -> str:
    """Return bytes in the largest unit that leaves a number a person can read."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 1 << shift:
            return f"{number / (1 << shift):.4g} {unit}"
    return f"{number} B"


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
