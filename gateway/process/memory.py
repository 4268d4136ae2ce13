"""What an interpreter that is kept ready takes, for whoever shows it.

Decides what is counted as a process's own memory and what as shared: proc(5), `smaps_rollup`. A
page counts as private when no other process has it mapped, as shared otherwise: a zygote's memory
becomes private when none of its children lives. Must not know how such a process is used.
"""

import os
import time
from typing import NamedTuple

from gateway.process.spec import Interpreter
from gateway.process.warm import Recipe

_SUMS = {
    b"Private_Clean:": 0,
    b"Private_Dirty:": 0,
    b"Shared_Clean:": 1,
    b"Shared_Dirty:": 1,
}
MIB = 1 << 20


class Memory(NamedTuple):
    """Bytes of one process that are in the machine's memory."""

    private: int
    shared: int


NONE = Memory(0, 0)
"""Of a process of which it is not known."""


class Kept(NamedTuple):
    """A process that is kept ready, as who keeps it knows it; times are of `time.monotonic()`."""

    recipe: Recipe
    script: bytes
    pid: int
    served: int
    modules: int
    born: float
    used: float
    busy: bool


def row(kept: Kept) -> Interpreter:
    """Return what is shown of such a process, with what memory it takes now."""
    memory, now = memory_of(kept.pid) or NONE, time.monotonic()
    return Interpreter(
        interpreter=" ".join((kept.recipe.interpreter, *kept.recipe.flags)),
        script=os.fsdecode(kept.script),
        pid=kept.pid,
        served=kept.served,
        modules=kept.modules,
        private=memory.private,
        shared=memory.shared,
        age=now - kept.born,
        idle=0.0 if kept.busy else now - kept.used,
    )


def memory_of(pid: int) -> Memory | None:
    """Return what the process `pid`, of our own user, has in memory; None if it is gone."""
    sums = [0, 0]
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                name, _, rest = line.partition(b" ")
                if name in _SUMS:
                    sums[_SUMS[name]] += int(rest.split()[0]) << 10
    except OSError:
        return None
    return Memory(*sums) if any(sums) else None
