"""Directories that are taken away, whatever tenants have put into them.

Decides how: in small steps between which the master does its other work, with two descriptors and a
bounded list of names, however deep and wide the tree is. A tenant owns the directory of its sockets
and may write there until the last moment, so nothing is found by a path below it: directories are
moved up to ours, which nobody else can enter, and emptied there (CVE-2021-35937's lesson, of paths
that are followed down a tree that somebody else can change). Must not know what the directories
were for.
"""

import math
import os
import time
from collections import deque
from collections.abc import Iterator
from itertools import count, islice

SLICE = 0.005
"""Seconds of one turn of `sweep`."""
NAMES = 100
"""Names that are looked at together."""
FAILURES_MAX = 1000
"""Attempts in vain after which a directory is left: somebody fills it faster than it is emptied."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def clear(directory: str) -> Iterator[None]:
    """Remove a directory that only we can write, with all that is in it; each step is a moment.

    What cannot be removed stays. Raises OSError for the directory itself.
    """
    top = os.open(directory, _DIRECTORY)
    try:
        os.fchmod(top, 0o700)
        failures = 0
        fresh = (f".gone-{number}" for number in count())
        while failures < FAILURES_MAX and (names := _some(top)):
            for name in names:
                yield
                try:
                    yield from _remove(top, name, fresh)
                except FileNotFoundError:
                    pass  # what it was has gone by itself
                except OSError:
                    failures += 1
    finally:
        os.close(top)
    os.rmdir(directory)


def _some(top: int) -> list[str]:
    with os.scandir(top) as entries:
        return [entry.name for entry in islice(entries, NAMES)]


def _remove(top: int, name: str, fresh: Iterator[str]) -> Iterator[None]:
    """Remove one entry of ours; what is a directory in it becomes an entry of ours itself."""
    try:
        return os.unlink(name, dir_fd=top)
    except (IsADirectoryError, PermissionError):  # which one is up to the file system
        here = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        with os.scandir(here) as entries:
            for entry in entries:
                yield
                try:
                    os.unlink(entry.name, dir_fd=here)
                except (IsADirectoryError, PermissionError):
                    os.rename(entry.name, next(fresh), src_dir_fd=here, dst_dir_fd=top)
                except FileNotFoundError:
                    pass
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=top)


class Clearing:
    """All directories that are on their way out."""

    def __init__(self) -> None:
        self._under_way: deque[Iterator[None]] = deque()

    def begin(self, directory: str) -> None:
        """Take a directory away, from the next `sweep` on."""
        self._under_way.append(clear(directory))

    def due(self) -> float:
        """Return the moment at which `sweep` has something to do; infinity for never."""
        return 0.0 if self._under_way else math.inf

    def sweep(self, seconds: float = SLICE) -> None:
        """Go on for so long at most."""
        end = time.monotonic() + seconds
        while self._under_way and time.monotonic() < end:
            try:
                next(self._under_way[0])
            except (StopIteration, OSError):
                self._under_way.popleft()  # gone, or it stays and the next start finds it
