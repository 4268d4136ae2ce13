"""What the control groups of one user say: limits that were hit, what was used.

Decides which file tells what, for cgroup v2 and v1 (Linux, admin-guide/cgroup-v2.rst and
cgroup-v1/). Reads only, as the user itself may. Must not know what follows from it (`faults.py`).
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

READ_MAX = 1 << 16
"""Bytes of one file that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counters since the groups were made. 0 also where nothing tells."""

    oom_kills: int = 0
    """Processes that were killed for memory."""
    memory_hits: int = 0
    """Times that memory was at its limit, whether somebody was killed or some was given back."""
    forks_refused: int = 0
    """Processes and threads that were not made because of their limit."""
    throttled: int = 0
    """Periods (of 0.1 s) in which the processor time was used up."""
    memory_peak: int = 0
    """Bytes, the most at once."""
    cpu: float = 0.0
    """Seconds of processor time."""


def _number(text: str) -> int:
    """Return a number as the kernel writes it; 0 for anything else, such as "max"."""
    text = text.strip(" \n")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _fields(text: str) -> dict[str, int]:
    pairs = (line.split(" ") for line in text.split("\n"))
    return {pair[0]: _number(pair[1]) for pair in pairs if len(pair) == 2}


def _cpu_stat(text: str) -> dict[str, float]:
    fields = _fields(text)
    found: dict[str, float] = {"throttled": fields.get("nr_throttled", 0)}
    if "usage_usec" in fields:
        found["cpu"] = fields["usage_usec"] / 1e6
    return found


_PARSERS: Mapping[str, Callable[[str], Mapping[str, float]]] = {
    "memory.events": lambda text: {
        "oom_kills": _fields(text).get("oom_kill", 0),
        "memory_hits": _fields(text).get("max", 0),
    },
    "memory.oom_control": lambda text: {"oom_kills": _fields(text).get("oom_kill", 0)},
    "memory.failcnt": lambda text: {"memory_hits": _number(text)},
    "memory.peak": lambda text: {"memory_peak": _number(text)},
    "memory.max_usage_in_bytes": lambda text: {"memory_peak": _number(text)},
    "pids.events": lambda text: {"forks_refused": _fields(text).get("max", 0)},
    "cpu.stat": _cpu_stat,
    "cpuacct.usage": lambda text: {"cpu": _number(text) / 1e9},
}
"""File -> what it tells."""

URGENT = ("memory.events", "memory.oom_control", "pids.events")
"""The two files (one of the first two exists) that say why a script ended."""


def files_of(
    directories: Iterable[bytes], names: Collection[str] = tuple(_PARSERS)
) -> tuple[str, ...]:
    """Return the paths of those files of `names` that exist in these groups."""
    paths = [f"{os.fsdecode(where)}/{name}" for where in directories for name in names]
    return tuple(path for path in paths if os.path.exists(path))


def counts(paths: Iterable[str]) -> Counts:
    """Return what these files say now; a file that is gone says 0."""
    found: dict[str, float] = {}
    for path in paths:
        for name, value in _PARSERS[os.path.basename(path)](_read(path)).items():
            found[name] = max(value, found.get(name, 0))
    whole = {name: int(value) for name, value in found.items() if name != "cpu"}
    return Counts(cpu=found.get("cpu", 0.0), **whole)


def read(directories: Iterable[bytes]) -> Counts:
    """Return all that is known of these groups."""
    return counts(files_of(directories))


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, READ_MAX).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
