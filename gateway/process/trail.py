"""Find a directory as root where users may change the way to it, step by step and by descriptors.

Decides which links are followed: root's, and those whose owner owns the directory that they lead
to, whoever swaps what while we look (FIELD section 3, row 16; path_resolution(7)). So nobody leads
us to somebody else's. `beneath.py` is for those who already are the user, and stays below a root;
this starts at "/". Must not know what the directories are for.
"""

import errno
import os

from gateway.process.beneath import LINKS_MAX

# With O_DIRECTORY the kernel mounts a home that is mounted on demand; without, O_PATH does not.
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

_NOT_THEIRS = "a link in it belongs to somebody else than the directory that it leads to"


def look_up(path: bytes) -> tuple[int, bytes]:
    """Return a descriptor (O_PATH) of the directory `path`, and its path without links.

    Raises OSError: ELOOP for a link that leads to what is not its owner's, ENOTDIR, and what
    open(2) gives.
    """
    if not path.startswith(b"/"):
        raise OSError(errno.EINVAL, "not an absolute path", path)
    trail = [os.open(b"/", _DIRECTORY)]
    names: list[bytes] = []
    # What is still to do, last first: a name, or the owner that the directory reached must have.
    todo: list[bytes | int] = [*path.split(b"/")[::-1]]
    links = 0
    try:
        while todo:
            name = todo.pop()
            if isinstance(name, int):
                if os.fstat(trail[-1]).st_uid != name:
                    raise OSError(errno.ELOOP, _NOT_THEIRS, path)
                continue
            if name in (b"", b"."):
                continue
            if name == b"..":
                if names:
                    os.close(trail.pop())
                    names.pop()
                continue
            try:
                trail.append(os.open(name, _DIRECTORY, dir_fd=trail[-1]))
                names.append(name)
            except NotADirectoryError:
                target, owner = _target(path, name, trail[-1])
                links += 1
                if links > LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                if target.startswith(b"/"):
                    while len(trail) > 1:
                        os.close(trail.pop())
                    names.clear()
                if owner:
                    todo.append(owner)
                todo += target.split(b"/")[::-1]
        return os.dup(trail[-1]), b"/" + b"/".join(names)
    except OSError as error:
        if error.filename != path:
            raise OSError(error.errno, error.strerror, path) from error
        raise
    finally:
        for fd in trail:
            os.close(fd)


def _target(path: bytes, name: bytes, directory: int) -> tuple[bytes, int]:
    """Return where a link leads, and whose it is."""
    fd = os.open(name, _LINK, dir_fd=directory)
    try:
        owner = os.fstat(fd).st_uid
        return os.readlink(b"", dir_fd=fd), owner  # raises for what is no link
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        raise
    finally:
        os.close(fd)


def make_way(start: int, names: bytes) -> int:
    """Return a descriptor of the directory `names` below `start`, made where it is missing.

    No link is followed. What is made is root's, for all to pass. Raises OSError.
    """
    fd = os.dup(start)
    for name in names.split(b"/"):
        try:
            try:
                following = os.open(name, _DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                os.mkdir(name, 0o755, dir_fd=fd)
                following = os.open(name, _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = following
    return fd
