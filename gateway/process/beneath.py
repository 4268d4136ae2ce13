"""Open a file that must lie below a directory, whatever the path says and whoever races us.

Decides how a path below a root is resolved, and which symbolic links it may go through. Must not
know what the file is for. The kernel does the work: openat2(2) with RESOLVE_BENEATH and
RESOLVE_NO_MAGICLINKS (Linux 5.6); where a link's owner matters, or where the call is missing, we
walk one component at a time, each step from the descriptor of the step before, so that a link
that is swapped while we look can make us fail but never lead us out (FIELD section 3, rows 6, 16).

An absolute link is refused (EXDEV) even if it names a place below the root: only the kernel could
follow it without a race, and it does not offer to.
"""

import ctypes
import errno
import os
import stat
import struct
from typing import NamedTuple

from gateway.process.spec import SymlinkPolicy

_OPENAT2 = 437  # the same number on every architecture: it came after they were unified
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_STAY = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS
_RESOLVE: dict[SymlinkPolicy, int] = {
    "none": _STAY | _RESOLVE_NO_SYMLINKS,
    "owner-match": _STAY | _RESOLVE_NO_SYMLINKS,
    "any": _STAY,
}

LINKS_MAX = 40
"""Links in one path; the kernel's own bound (path_resolution(7))."""

_RETRIES = 32
"""Attempts while somebody renames directories under a path with ".." in it (EAGAIN)."""

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (
    ctypes.c_long,  # the number
    ctypes.c_int,  # the directory
    ctypes.c_char_p,  # the path
    ctypes.c_char_p,  # struct open_how: read only, so an immutable bytes object serves
    ctypes.c_size_t,  # its size
)

_HOW_SIZE = 24


class Passed(NamedTuple):
    """A directory or link that a walk went through, or what it ended at."""

    path: bytes
    """Where it is, from where the walk began; b"." is that place itself."""
    info: os.stat_result
    """From the descriptor that the walk went on from."""


class Way(NamedTuple):
    """What a walk opened, and how it got there."""

    fd: int
    passed: tuple[Passed, ...]
    """In order. A file that it ended at is the last one."""
    holder: Passed
    """The directory that has the last name in it."""


_hows: dict[tuple[int, SymlinkPolicy], bytes] = {}


def _how(flags: int, symlinks: SymlinkPolicy) -> bytes:
    """Return the packed struct open_how {flags, mode, resolve}; the few in use are kept."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE[symlinks])
    _hows[flags, symlinks] = how
    return how


def open_beneath(root_fd: int, path: bytes, flags: int, symlinks: SymlinkPolicy) -> int:
    """Open `path`, relative to `root_fd`, and never anything outside; the result is CLOEXEC.

    `flags` are those of open(2) without O_CREAT. Raises OSError: ELOOP for a link that the policy
    forbids, EXDEV for a path or link that leads out, EAGAIN when somebody kept renaming what we
    walked through, else what open(2) gives.
    """
    if b"\0" in path:
        raise OSError(errno.EINVAL, "NUL in a path", path)  # ctypes would cut the path there
    how = _hows.get((flags, symlinks)) or _how(flags, symlinks)
    for _ in range(_RETRIES):
        fd: int = _syscall(_OPENAT2, root_fd, path, how, _HOW_SIZE)
        if fd >= 0:
            return fd
        error = ctypes.get_errno()
        if error == errno.EAGAIN or error == errno.EINTR:
            continue
        if error == errno.ENOSYS or (error == errno.ELOOP and symlinks == "owner-match"):
            return walk_beneath(root_fd, path, flags, symlinks).fd
        raise OSError(error, os.strerror(error), path)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def walk_beneath(root_fd: int, path: bytes, flags: int, symlinks: SymlinkPolicy) -> Way:
    """Do what `open_beneath` does, and tell what is on the way, from `root_fd` itself on.

    Each is known from the descriptor from which the next one was opened, so all of them were one
    way, whoever renamed what meanwhile. Raises OSError as `open_beneath` does.
    """
    if b"\0" in path:
        raise OSError(errno.EINVAL, "NUL in a path", path)
    here = os.open(b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)
    return _walk(_Trail(here, top=False), path, flags, symlinks)


def walk_to(directory: bytes) -> Way:
    """Open a directory by its absolute path (O_PATH), and tell what is on the way, from "/" on.

    Every link is followed, and told. Raises OSError as open(2) does.
    """
    if b"\0" in directory:
        raise OSError(errno.EINVAL, "NUL in a path", directory)
    top = os.open(b"/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return _walk(_Trail(top, top=True), directory, os.O_PATH, "any")


class _Trail:
    """The way from where a walk began to where it is: ".." is a step back on it, never a look at
    the disk. Owns the descriptors."""

    def __init__(self, fd: int, *, top: bool) -> None:
        self.top = top
        """Whether it began at the system's own root, out of which nothing leads."""
        self.fds = [fd]
        self.places = [Passed(b".", os.fstat(fd))]
        """What the descriptors are."""
        self.passed = self.places[:]

    def note(self, name: bytes, info: os.stat_result) -> Passed:
        before = self.places[-1].path
        place = Passed(name if before == b"." else before + b"/" + name, info)
        self.passed.append(place)
        return place

    def on(self, place: Passed, fd: int) -> None:
        self.fds.append(fd)
        self.places.append(place)

    def back(self) -> None:
        os.close(self.fds.pop())
        self.places.pop()

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)

    def way(self, fd: int) -> Way:
        return Way(fd, tuple(self.passed), self.places[max(0, len(self.places) - 2)])


def _walk(trail: _Trail, path: bytes, flags: int, symlinks: SymlinkPolicy) -> Way:
    """Do the kernel's work component by component, looking at each link's owner. Ends `trail`."""
    try:
        name = _descend(trail, path, symlinks)
        if flags & ~os.O_CLOEXEC == os.O_PATH:
            return trail.way(trail.fds.pop())
        if name == b".":
            return trail.way(os.open(b".", flags | os.O_CLOEXEC, dir_fd=trail.fds[-1]))
        reached = trail.places[-1].info
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=trail.fds[-2])
        opened = os.fstat(fd)
        if (reached.st_dev, reached.st_ino) != (opened.st_dev, opened.st_ino):
            os.close(fd)
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)
        return trail.way(fd)
    finally:
        trail.close()


def _descend(trail: _Trail, path: bytes, symlinks: SymlinkPolicy) -> bytes:
    """Extend `trail` with O_PATH descriptors as far as `path` leads.

    Returns the name that the last descriptor has in the one before it, b"." for a directory that
    was reached by going back.
    """
    if not path:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    # What is still to do, last first: a name, or the owner that the place reached must have.
    todo: list[bytes | int] = list(reversed(_names(trail, path)))
    last = b"."
    links = 0
    while todo:
        step = todo.pop()
        if isinstance(step, int):
            if trail.places[-1].info.st_uid != step:
                raise OSError(errno.ELOOP, "the link's owner does not own its target", path)
        elif step == b"." or step == b"..":
            out = step == b".." and len(trail.fds) == 1
            if out and not trail.top:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
            # Only a directory has one; asking finds out.
            os.close(os.open(b".", os.O_PATH | os.O_DIRECTORY, dir_fd=trail.fds[-1]))
            if step == b".." and not out:
                trail.back()
            last = b"."
        else:
            fd = os.open(step, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=trail.fds[-1])
            found = os.fstat(fd)
            place = trail.note(step, found)
            if not stat.S_ISLNK(found.st_mode):
                trail.on(place, fd)
                last = step
                continue
            links += 1
            try:
                if symlinks == "none" or links > LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(b"", dir_fd=fd)
            finally:
                os.close(fd)
            if symlinks == "owner-match":
                todo.append(found.st_uid)
            todo.extend(reversed(_names(trail, target)))
    return last


def _names(trail: _Trail, path: bytes) -> list[bytes]:
    """Split a path into its steps; a trailing slash asks for a directory ("." at last).

    An absolute one takes the trail back to its beginning if that is the system's root.
    """
    if path.startswith(b"/"):
        if not trail.top:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
        while len(trail.fds) > 1:
            trail.back()
    names = [name for name in path.split(b"/") if name and name != b"."]
    if path.endswith((b"/", b"/.")) or not names:
        names.append(b".")
    return names
