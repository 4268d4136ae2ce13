"""The cgroup file systems: the few things that are done to them.

Decides how a file there is read and written (one call, never made), and what "in a group" means: in
it or in a group below it. `Tree` is the seam at which tests put an imitation of version 2 in place
of the kernel. Must not know limits.
"""

import os
import signal
from collections.abc import Iterable
from typing import Protocol

READ_MAX = 1 << 20
"""Bytes of one file that are looked at: some hundred thousand processes."""


class Tree(Protocol):
    """The cgroup file systems: what is done to them. Each raises OSError as the kernel does."""

    def read(self, path: str) -> str: ...
    def write(self, path: str, text: str) -> None: ...
    def make(self, path: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def below(self, path: str) -> list[str]: ...
    def may(self, path: str) -> bool: ...
    def lives(self, pid: int) -> bool: ...
    def kill(self, pid: int) -> None: ...


class Kernel:
    """The real ones."""

    def read(self, path: str) -> str:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = b""
            while len(data) < READ_MAX and (piece := os.read(fd, 1 << 16)):
                data += piece
            return data.decode("utf-8", "surrogateescape")
        finally:
            os.close(fd)

    def write(self, path: str, text: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # never makes a file: there it would be none
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def make(self, path: str) -> None:
        os.mkdir(path, 0o755)

    def remove(self, path: str) -> None:
        os.rmdir(path)

    def below(self, path: str) -> list[str]:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]

    def may(self, path: str) -> bool:
        return os.access(path, os.W_OK | os.X_OK)

    def lives(self, pid: int) -> bool:
        return os.path.exists(f"/proc/{pid}")

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)


def make(tree: Tree, path: str) -> None:
    try:
        tree.make(path)
    except FileExistsError:
        pass


def remove(tree: Tree, path: str) -> bool:
    """Remove a group and those below it, which a program of root's may have made."""
    try:
        for name in tree.below(path):
            if not remove(tree, f"{path}/{name}"):
                return False
        tree.remove(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # somebody is in it
    return True


def processes(tree: Tree, path: str) -> set[int]:
    """Return the processes in a group and below it."""
    found = {int(word) for word in text_of(tree, f"{path}/cgroup.procs").split() if word.isdigit()}
    try:
        names = tree.below(path)
    except OSError:
        names = []
    for name in names:
        found |= processes(tree, f"{path}/{name}")
    return found


def members(directories: Iterable[bytes], tree: Tree) -> set[int]:
    """Return the processes in these groups and in groups below them."""
    return {pid for where in directories for pid in processes(tree, os.fsdecode(where))}


def text_of(tree: Tree, path: str) -> str:
    try:
        return tree.read(path)
    except OSError:
        return ""
