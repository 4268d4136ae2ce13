"""What an interpreter that is kept ready takes, for whoever shows it.

Decides what is counted as a process's own memory and what as shared: proc(5), `smaps_rollup`. A
page counts as private when no other process has it mapped, as shared otherwise: a zygote's memory
becomes private when none of its children lives. Must not know what the process is for.
"""

from typing import NamedTuple

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
