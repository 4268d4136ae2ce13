"""Find and stop what was left to this process: children of children whose parents are gone.

Decides nothing but who is a child. A subreaper (PR_SET_CHILD_SUBREAPER) becomes the parent of such
processes; when one of them ends, its own children come here in turn, so whoever wants them all
gone asks again until there is none.
"""

import os
import signal
from collections.abc import Container


def any_child() -> bool:
    """Return whether this process has any child, alive or not yet reaped."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def signal_children(number: signal.Signals, spared_groups: Container[int] = ()) -> int:
    """Send a signal to every child that is in none of `spared_groups`; return how many those are.

    One that has ended counts until it is reaped.
    """
    found = 0
    for pid, group in _children():
        if group not in spared_groups:
            found += 1
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                pass  # gone already, or it became another user (sudo) and is not ours to stop
    return found


def _children() -> list[tuple[int, int]]:
    """Return process id and group of every child, from /proc."""
    me = os.getpid()
    found: list[tuple[int, int]] = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                line = file.read()
        except OSError:
            continue  # it ended while we looked
        # pid (name) state ppid pgrp ...; the name may hold anything, so count from its end.
        fields = line[line.rfind(b")") + 2 :].split()
        if int(fields[1]) == me:
            found.append((int(name), int(fields[2])))
    return found
