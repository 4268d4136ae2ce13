"""Control groups: one for each keeper, with its limits, below a group of this daemon's own.

Decides what is written where (Linux, admin-guide/cgroup-v2.rst and cgroup-v1/), how everything in a
group is ended, and what is taken away afterwards. What cannot be set is returned in words and never
raised: a daemon without control groups works, and says so. Must not know who a keeper is.

The groups of a daemon are `gateway-PID/NAME` below its own group in each hierarchy that holds one
of the limits. In version 2 a group with limits below it may hold no process ("no internal
processes"): then we move into a leaf beside, which works only where our group is ours alone
(Delegate=yes).
"""

import errno
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.process.cgroupfs import Kernel, Tree, make, processes, remove, text_of
from gateway.process.hierarchies import LEAF, WAYS, Hierarchy, Survey, mounts, own_groups, survey
from gateway.process.spec import Allowance

PERIOD = 100_000
"""Microseconds over which processor time is counted: the kernel's default."""
QUOTA_MIN = 1000
"""Microseconds of them; the kernel takes no less."""
HIGH = 0.9
"""Part of its memory from which on a user's programs are slowed down, where that is possible."""
KEEPER = 1
"""Processes beside those that are allowed: the keeper itself."""
NO_LIMIT = 1 << 62
"""Bytes; what version 1 has where there is no limit (PAGE_COUNTER_MAX) is above it."""
GONE_WITHIN = 3.0
"""Seconds in which all that was killed must have left when the daemon leaves."""

_OURS = re.compile(r"gateway-([1-9][0-9]{0,9})")
_PLAIN = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one keeper's groups."""

    directories: tuple[bytes, ...]
    missing: tuple[str, ...]
    """Each a limit that was asked for and is not held, and why."""


def look(tree: Tree, proc: str = "/proc/self") -> Survey:
    """Return what this machine can hold for us; makes nothing."""

    def controllers(directory: str) -> frozenset[str]:
        return frozenset(text_of(tree, f"{directory}/cgroup.controllers").split())

    groups = own_groups(text_of(tree, f"{proc}/cgroup"))
    return survey(groups, mounts(text_of(tree, f"{proc}/mountinfo")), tree.may, controllers)


def lacking(allowance: Allowance, missing: Survey) -> list[str]:
    """Return the limits of `allowance` that no group holds here, each with the reason and with what
    holds instead."""
    found = []
    for limit in ("memory", "cpu", "processes", "io_weight"):
        if getattr(allowance, limit) and limit in missing.missing:
            found.append(_lack(limit, missing.missing[limit]))
    if allowance != Allowance() and "kill" in missing.missing and len(missing.found) == 0:
        found.append(_lack("ending all at once", missing.missing["kill"]))
    return found


_INSTEAD = {
    "memory": "RLIMIT_DATA holds for each process only",
    "processes": "RLIMIT_NPROC holds for the account as a whole",
    "cpu": "it is not limited",
    "io_weight": "it is not set",
    "ending all at once": "processes are found by their parents",
}


def _lack(limit: str, why: str) -> str:
    return f"{limit}: {why}; {_INSTEAD[limit]}"


def enter(directories: Iterable[bytes]) -> None:
    """Move this process, and with it all that it will start, into these groups. Raises OSError."""
    for where in directories:
        Kernel().write(f"{os.fsdecode(where)}/cgroup.procs", str(os.getpid()))


def held(directories: Iterable[bytes]) -> frozenset[str]:
    """Return which of "memory" and "processes" these groups hold, as they say themselves."""
    files = {
        "memory.max": "memory",
        "memory.limit_in_bytes": "memory",
        "pids.max": "processes",
    }
    found = set()
    for where in directories:
        for file, limit in files.items():
            value = text_of(Kernel(), f"{os.fsdecode(where)}/{file}").strip()
            if value.isascii() and value.isdigit() and int(value) < NO_LIMIT:
                found.add(limit)
    return frozenset(found)


class Cgroups:
    """The groups of one daemon."""

    def __init__(self, tree: Tree, name: str, found: Survey, missing: dict[str, str]) -> None:
        self._tree = tree
        self._name = name
        self._found = dict(found.found)
        self._missing = {**found.missing, **missing}
        self._moved: str = ""
        """The group of version 2 that we have left for its leaf."""
        self._made: list[str] = []

    @staticmethod
    def none(tree: Tree) -> "Cgroups":
        """Return those of a daemon that makes none."""
        why = "this daemon makes no control groups"
        return Cgroups(tree, "", Survey({}, dict.fromkeys(WAYS, why)), {})

    @staticmethod
    def prepare(tree: Tree, pid: int, proc: str = "/proc/self") -> "Cgroups":
        """Make the parent groups of a daemon; remove those that dead daemons left empty."""
        groups = Cgroups(tree, f"gateway-{pid}", look(tree, proc), {})
        for each in groups._hierarchies():
            _remove_stale(tree, each.directory)
            try:
                make(tree, f"{each.directory}/{groups._name}")
                if each.version == 2:
                    groups._enable(each, pid)
            except OSError as error:
                groups._give_up(each, f"{each.directory}: {error.strerror}")
        return groups

    def survey(self) -> Survey:
        """Return what these groups hold."""
        return Survey(self._found, self._missing)

    def make(self, name: str, allowance: Allowance) -> Made:
        """Make the groups of one keeper and set its limits; `name` is only ever used once."""
        name = _PLAIN.sub(lambda match: f"%{ord(match[0]):x}", name)[:200]
        missing = lacking(allowance, self.survey())
        directories: dict[str, None] = {}
        for limit, (each, _) in self._found.items():
            path = f"{each.directory}/{self._name}/{name}"
            if path in directories or not (limit == "kill" or _wanted(limit, allowance)):
                continue
            try:
                make(self._tree, path)
            except OSError as error:
                if limit != "kill":
                    missing.append(_lack(limit, f"{path}: {error.strerror}"))
                continue
            self._made.append(path)
            directories[path] = None
        for limit, (each, way) in self._found.items():
            path = f"{each.directory}/{self._name}/{name}"
            if path in directories and _wanted(limit, allowance):
                why = self._set(path, limit, way.version, way.files, allowance)
                if why and limit in _INSTEAD:
                    missing.append(_lack(limit, why))
        return Made(tuple(os.fsencode(path) for path in directories), tuple(missing))

    def end(self, directories: Sequence[bytes]) -> bool:
        """Kill all that is in these groups; return whether nothing was left to kill.

        Never waits: what was killed is there for some moments yet, so ask again.
        """
        paths = [os.fsdecode(where) for where in directories]
        for path in paths:
            try:
                self._tree.write(f"{path}/cgroup.kill", "1")  # since Linux 5.14
            except OSError:
                self._freeze(path, True)
        left = False
        for path in paths:
            for pid in processes(self._tree, path):
                left = True
                try:
                    self._tree.kill(pid)
                except (ProcessLookupError, PermissionError):
                    pass
        for path in paths:
            self._freeze(path, False)  # one that is frozen does not die
        return not left

    def remove(self, directories: Sequence[bytes]) -> bool:
        """Remove empty groups; return whether they are gone."""
        gone = True
        for where in directories:
            path = os.fsdecode(where)
            if remove(self._tree, path):
                if path in self._made:
                    self._made.remove(path)
            else:
                gone = False
        return gone

    def close(self) -> list[str]:
        """End and remove all groups that are left, and our own parents; the daemon leaves.

        Returns the groups that could not be removed.
        """
        left = [os.fsencode(path) for path in self._made]
        deadline = time.monotonic() + GONE_WITHIN
        while not (self.end(left) and self.remove(left)) and time.monotonic() < deadline:
            _reap()
            time.sleep(0.01)
            left = [os.fsencode(path) for path in self._made]
        for each in self._hierarchies():
            remove(self._tree, f"{each.directory}/{self._name}")
        self._move_back()
        return list(self._made)

    # How they are made.

    def _hierarchies(self) -> list[Hierarchy]:
        return list({each.directory: each for each, _ in self._found.values()}.values())

    def _give_up(self, hierarchy: Hierarchy, why: str, controller: str | None = None) -> None:
        """Nothing, or nothing of one controller, is held by this hierarchy after all."""
        for limit, (each, way) in list(self._found.items()):
            if each is hierarchy and controller in (None, way.controller):
                del self._found[limit]
                self._missing[limit] = why

    def _enable(self, hierarchy: Hierarchy, pid: int) -> None:
        """Have the controllers in the groups of the keepers."""
        tree, own = self._tree, hierarchy.directory
        wanted = {way.controller for each, way in self._found.values() if each is hierarchy}
        for controller in sorted(wanted - {""}):
            try:
                self._enable_one(own, controller, pid)
                tree.write(f"{own}/{self._name}/cgroup.subtree_control", f"+{controller}")
            except OSError as error:
                why = f"the {controller} controller of {own} cannot be used: {error.strerror}"
                if error.errno == errno.EBUSY:
                    why += " (others are in our group: run as a systemd service with Delegate=yes)"
                self._give_up(hierarchy, why, controller)
        if not any(way.controller for each, way in self._found.values() if each is hierarchy):
            self._move_back()

    def _enable_one(self, own: str, controller: str, pid: int) -> None:
        tree, file = self._tree, f"{own}/cgroup.subtree_control"
        if controller in tree.read(file).split():
            return
        try:
            tree.write(file, f"+{controller}")
            return
        except OSError as error:
            if error.errno != errno.EBUSY or self._moved:
                raise
        # Our group holds a process, and that is us.
        make(tree, f"{own}/{LEAF}")
        tree.write(f"{own}/{LEAF}/cgroup.procs", str(pid))
        self._moved = own
        tree.write(file, f"+{controller}")

    def _move_back(self) -> None:
        """Leave our group as it was found, unless another daemon needs it as it is."""
        own, self._moved = self._moved, ""
        if not own:
            return
        tree = self._tree
        try:
            enabled = tree.read(f"{own}/cgroup.subtree_control").split()
            tree.write(f"{own}/cgroup.subtree_control", " ".join(f"-{name}" for name in enabled))
            for pid in processes(tree, f"{own}/{LEAF}"):
                tree.write(f"{own}/cgroup.procs", str(pid))
            tree.remove(f"{own}/{LEAF}")
        except OSError:
            pass  # who started us sees to it: the group was made for this daemon alone

    def _set(
        self, path: str, limit: str, version: int, files: tuple[str, ...], allowance: Allowance
    ) -> str:
        """Write one limit; return why it is not held, or ""."""
        why = f"{path} has no {files[0]}"
        for name in files:
            try:
                for file, text in _values(limit, version, name, allowance):
                    self._tree.write(f"{path}/{file}", text)
            except FileNotFoundError:
                continue
            except OSError as error:
                return f"{path}/{name}: {error.strerror}"
            self._set_more(path, limit, version, allowance)
            return ""
        return why

    def _set_more(self, path: str, limit: str, version: int, allowance: Allowance) -> None:
        """Swap is no way around a limit of memory, where the kernel counts it."""
        if limit == "memory":
            file = "memory.swap.max" if version == 2 else "memory.memsw.limit_in_bytes"
            try:
                self._tree.write(f"{path}/{file}", "0" if version == 2 else str(allowance.memory))
            except OSError:
                pass  # there is no swap, or it is not counted

    def _freeze(self, path: str, held: bool) -> None:
        """Hold what runs in a group, so that nothing is born while we kill one after the other."""
        ways = (("freezer.state", "FROZEN" if held else "THAWED"), ("cgroup.freeze", str(+held)))
        for file, text in ways:
            try:
                self._tree.write(f"{path}/{file}", text)
            except OSError:
                pass  # this hierarchy has none


def _wanted(limit: str, allowance: Allowance) -> bool:
    return bool(getattr(allowance, "memory" if limit == "memory_high" else limit, False))


def _values(
    limit: str, version: int, name: str, allowance: Allowance
) -> tuple[tuple[str, str], ...]:
    """Return (file, text) in the order in which they are written."""
    if limit == "memory":
        return ((name, str(allowance.memory)),)
    if limit == "memory_high":
        return ((name, str(int(allowance.memory * HIGH))),)
    if limit == "processes":
        return ((name, str(allowance.processes + KEEPER)),)
    if limit == "cpu":
        quota = max(QUOTA_MIN, round(allowance.cpu * PERIOD))
        if version == 2:
            return ((name, f"{quota} {PERIOD}"),)
        return (("cpu.cfs_period_us", str(PERIOD)), (name, str(quota)))
    most, least = {
        "io.weight": (10_000, 1),
        "io.bfq.weight": (1000, 1),
        "blkio.bfq.weight": (1000, 1),
        "blkio.weight": (1000, 10),
    }[name]
    weight = str(min(most, max(least, allowance.io_weight)))
    return ((name, f"default {weight}" if version == 2 else weight),)


def _remove_stale(tree: Tree, directory: str) -> None:
    """Remove what a daemon left that was killed: its number is free, and its groups are empty."""
    try:
        names = tree.below(directory)
    except OSError:
        return
    for name in names:
        match = _OURS.fullmatch(name)
        if match and not tree.lives(int(match[1])):
            path = f"{directory}/{name}"
            if not processes(tree, path):
                remove(tree, path)


def _reap() -> None:
    """Let go of children that have ended: a process that nobody asks after stays in its group."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
