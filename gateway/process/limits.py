"""Resource limits (setrlimit(2)) of one user's processes: a table.

Decides which limit follows from an allowance, and whom it is for. Pure: `birth.py` and `spawn.py`
set them. Must not know control groups but for what they hold already (`held`).

A limit is for one process (but NPROC), is inherited, and its hard bound never rises again. So what
the keeper itself can live with is set at its birth, for it and all below it, zygotes, warm scripts
and workers alike (`of_all`). What it cannot live with is in `of_programs`:

* FSIZE: the keeper writes the journal, which is often the larger file;
* CPU: the keeper may live for weeks;
* NOFILE: the keeper holds descriptors for each order of a full queue.

Of these the keeper sets the soft bound around each start of a program only (`spawn.py`): the child
of a vfork inherits it, so it is there from the first instruction, and for all that the program
starts in turn. The hard bound follows by prlimit(2) once the program runs. In between, some
microseconds, a program may raise its soft bound again: one that was written to win that race gains
processor time and file size of its processes, but not memory, processes or the share of the
processor, which a control group holds. Setting the hard bound before would need a privilege in the
keeper, or a fork in place of the vfork.
"""

import math
import resource
from collections.abc import Collection
from typing import NamedTuple

from gateway.process.spec import Allowance

INFINITY = resource.RLIM_INFINITY

SPARE_FDS = 128
"""Descriptors beside those of queued orders: channels, pools, logs, and what checking needs."""
SPARE_PROCESSES = 16
"""Above `processes` where a control group counts them exactly: NPROC counts all of the account's,
also those that are not ours."""
SPARE_DATA = 32 << 20
"""Bytes of data that the keeper must be able to have beside what it was born with."""
LAST_SECONDS = 2
"""Seconds of processor time from SIGXCPU, which a program may heed, to SIGKILL."""


class Rlimit(NamedTuple):
    """One call of setrlimit(2)."""

    resource: int
    soft: int
    hard: int


def of_all(allowance: Allowance, held: Collection[str], data: int) -> list[Rlimit]:
    """Return the limits of a keeper and of all below it.

    `held` has "memory" and "processes" where a control group holds those; `data` is the keeper's
    own, in bytes.
    """
    limits = [Rlimit(resource.RLIMIT_CORE, 0, 0)]
    if allowance.processes:
        spare = SPARE_PROCESSES if "processes" in held else 1  # the keeper
        limits.append(_both(resource.RLIMIT_NPROC, allowance.processes + spare))
    if allowance.memory and "memory" not in held:
        limits.append(_both(resource.RLIMIT_DATA, max(allowance.memory, data + SPARE_DATA)))
    return limits


def of_programs(allowance: Allowance) -> list[Rlimit]:
    """Return the limits of the programs that a keeper starts, but not of the keeper."""
    limits = []
    if allowance.file_size:
        limits.append(_both(resource.RLIMIT_FSIZE, allowance.file_size))
    if allowance.cpu_time:
        seconds = max(1, math.ceil(allowance.cpu_time))
        limits.append(Rlimit(resource.RLIMIT_CPU, seconds, seconds + LAST_SECONDS))
    if allowance.open_files:
        limits.append(_both(resource.RLIMIT_NOFILE, allowance.open_files))
    return limits


def files_of_keeper(queue: int, concurrency: int) -> int:
    """Return how many descriptors a keeper needs: each order in a full queue holds three."""
    return 3 * (queue + concurrency) + SPARE_FDS


def within(limit: Rlimit, hard: int) -> Rlimit:
    """Return `limit` under a hard bound that stands already and cannot be raised."""
    if hard == INFINITY:
        return limit
    return Rlimit(limit.resource, _lower(limit.soft, hard), _lower(limit.hard, hard))


def _both(which: int, value: int) -> Rlimit:
    return Rlimit(which, value, value)


def _lower(value: int, bound: int) -> int:
    return bound if value == INFINITY else min(value, bound)
