"""Landlock: a second lock on what "strict" promises, set by the user and never to be taken off.

Decides which rights are taken away from whoever lives in a strict sandbox: to change anything in
the file system outside the given directories, to connect to abstract Unix sockets of others and to
signal or trace processes outside. Must not know mounts: those are the promise (`sandbox.py`), and
this holds where somebody finds a way around them. A kernel without Landlock is therefore no
failure.

Two things only Landlock keeps: a process of the same user outside the sandbox (a login, a cron job)
cannot be traced, so that /proc/PID/root does not lead out through it, and abstract sockets are
closed (from version 6).

Source: landlock(7), the kernel's userspace-api/landlock. Versions are those of its interface.
"""

import os
import struct
from collections.abc import Sequence

from gateway.process import kernel

_WRITE_FILE = 1 << 1
_REMOVE = 1 << 4 | 1 << 5
_MAKE = sum(1 << bit for bit in range(6, 13))
_REFER = 1 << 13
_TRUNCATE = 1 << 14

_SCOPE_ABSTRACT_SOCKETS = 1 << 0
_SCOPE_SIGNALS = 1 << 1

ENOUGH = 2
"""The version before which no file could be renamed into another directory, not even at home."""


def describe(version: int) -> str:
    """Return what a version (`kernel.landlock_version`) does for a strict sandbox, in words."""
    if version < ENOUGH:
        return "without Landlock: the mount namespace alone holds it"
    if version < 6:
        return f"with Landlock {version}: a second lock on writing and tracing"
    return f"with Landlock {version}: a second lock on writing, tracing, signals, abstract sockets"


def rights(version: int) -> int:
    """Return the rights to change something that a version knows (LANDLOCK_ACCESS_FS_*)."""
    return _WRITE_FILE | _REMOVE | _MAKE | _REFER | (_TRUNCATE if version >= 3 else 0)


def restrict(writable: Sequence[int], devices: Sequence[int]) -> None:
    """Let this process change nothing outside the directories of `writable`.

    In those of `devices`, files that are there may be written to. Does nothing where the kernel
    has no Landlock. Needs `kernel.no_new_rights`. Raises OSError.
    """
    version = kernel.landlock_version()
    if version < ENOUGH:
        return
    every = rights(version)
    attributes = struct.pack("=Q", every)
    if version >= 6:  # no rules for the network; these are not directories either
        attributes = struct.pack("=QQQ", every, 0, _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS)
    rules = kernel.landlock_rules(attributes)
    try:
        for fd in writable:
            kernel.landlock_allow(rules, fd, every)
        for fd in devices:
            kernel.landlock_allow(rules, fd, every & (_WRITE_FILE | _TRUNCATE))
        kernel.landlock_restrict(rules)
    finally:
        os.close(rules)
