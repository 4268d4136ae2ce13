"""Version 2 of the control groups, in memory: the rules of cgroup-v2.rst that `cgroup.py` meets.

It keeps what was written where, refuses what the kernel refuses, with its error, and has the files
that a real group has: those of a controller only where the group above has enabled it.
"""

import errno
import os

FILES = {
    "memory": ("memory.max", "memory.high", "memory.swap.max", "memory.events"),
    "cpu": ("cpu.max",),
    "pids": ("pids.max",),
    "io": ("io.weight",),
}
OWN = "/sys/fs/cgroup/system.slice/gateway.service"


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


class Group:
    """One group."""

    def __init__(self, controllers: set[str]) -> None:
        self.controllers = controllers
        self.enabled: set[str] = set()
        """cgroup.subtree_control."""
        self.pids: set[int] = set()
        self.written: dict[str, str] = {}

    def files(self) -> set[str]:
        return {file for name in self.controllers for file in FILES[name]}


class Tree:
    """A host with version 2 alone, and a daemon that systemd started in a group of its own."""

    def __init__(
        self, controllers: frozenset[str] = frozenset(FILES), pids: tuple[int, ...] = (100,)
    ) -> None:
        self.groups = {OWN: Group(set(controllers))}
        self.groups[OWN].pids = set(pids)
        self.can_kill = True
        """Whether the kernel has cgroup.kill (5.14)."""
        self.alive: set[int] = set(pids)
        self.frozen: list[str] = []

    def read(self, path: str) -> str:
        if path == "/proc/self/cgroup":
            (own,) = [name for name, group in self.groups.items() if 100 in group.pids]
            return f"0::{own.removeprefix('/sys/fs/cgroup')}\n"
        if path == "/proc/self/mountinfo":
            return "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
        group, file = self._group(path)
        if file == "cgroup.controllers":
            return " ".join(sorted(group.controllers)) + "\n"
        if file == "cgroup.subtree_control":
            return " ".join(sorted(group.enabled)) + "\n"
        if file == "cgroup.procs":
            return "".join(f"{pid}\n" for pid in sorted(group.pids))
        if file in group.files():
            return group.written.get(file, "max\n")
        raise _error(errno.ENOENT, path)

    def write(self, path: str, text: str) -> None:
        group, file = self._group(path)
        if file == "cgroup.subtree_control":
            for word in text.split():
                self._switch(os.path.dirname(path), group, word[0], word[1:])
        elif file == "cgroup.procs":
            if group.enabled:
                raise _error(errno.EBUSY, path)  # no internal processes
            for other in self.groups.values():
                other.pids.discard(int(text))
            group.pids.add(int(text))
        elif file == "cgroup.kill" and self.can_kill:
            for name, each in self.groups.items():
                if f"{name}/".startswith(f"{os.path.dirname(path)}/"):
                    self.alive -= each.pids
                    each.pids.clear()
        elif file == "cgroup.freeze":
            self.frozen.append(text)
        elif file in group.files():
            group.written[file] = text
        else:
            raise _error(errno.ENOENT, path)

    def _switch(self, path: str, group: Group, sign: str, name: str) -> None:
        if sign == "+":
            if name not in group.controllers:
                raise _error(errno.ENOENT, path)
            if group.pids:
                raise _error(errno.EBUSY, path)  # no internal processes
            group.enabled.add(name)
        else:
            if any(name in each.enabled for each in self._children(path).values()):
                raise _error(errno.EBUSY, path)
            group.enabled.discard(name)
        for each in self._children(path).values():
            each.controllers = set(group.enabled)

    def make(self, path: str) -> None:
        if path in self.groups:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        self.groups[path] = Group(set(self._group(f"{path}")[0].enabled))

    def remove(self, path: str) -> None:
        if path not in self.groups:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        if self.groups[path].pids or self._children(path):
            raise _error(errno.EBUSY, path)
        del self.groups[path]

    def below(self, path: str) -> list[str]:
        if path not in self.groups:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return [os.path.basename(name) for name in self._children(path)]

    def may(self, path: str) -> bool:
        return path in self.groups

    def lives(self, pid: int) -> bool:
        return pid in self.alive

    def kill(self, pid: int) -> None:
        if pid not in self.alive:
            raise ProcessLookupError
        self.alive.discard(pid)
        for group in self.groups.values():
            group.pids.discard(pid)

    def _children(self, path: str) -> dict[str, Group]:
        return {name: each for name, each in self.groups.items() if os.path.dirname(name) == path}

    def _group(self, path: str) -> tuple[Group, str]:
        directory, _, file = path.rpartition("/")
        if directory not in self.groups:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return self.groups[directory], file
