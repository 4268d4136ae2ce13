"""The files of tenants' own logs: where they are, whose, and how large they get.

Decides that a tenant can read its logs and nothing else: the directory is root's, so there is
nothing that a tenant could put in the way (CVE-2013-2119; FIELD section 3, row 23), the files are
root's with the tenant's group, and no link is followed. For the master, which opens them and hands
descriptors out; who writes learns no path.
"""

import os
import stat

from gateway.journal import Journal
from gateway.process.spec import KeeperSpec
from gateway.site.tenants import TenantsSettings

FILES = ("access.log", "error.log", "faults.log")


def prepare(directory: str) -> None:
    """See that the directory of all logs can be trusted. Raises OSError in words."""
    try:
        os.makedirs(directory, 0o755, exist_ok=True)
        info = os.lstat(directory)
    except OSError as error:
        raise OSError(error.errno, f"[tenants] logs: {directory}: {error.strerror}") from None
    if (
        not stat.S_ISDIR(info.st_mode)
        or info.st_uid
        or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        why = "must be a directory of root's that nobody else may write"
        raise OSError(None, f"[tenants] logs: {directory} {why}")


def open_logs(
    directory: str, account: str, gid: int, limit: int, names: tuple[str, ...]
) -> list[int]:
    """Open some logs of an account for appending; descriptors are the caller's.

    One with `limit` bytes or more is renamed first, in place of the one that was renamed before it.
    Raises OSError.
    """
    path = os.path.join(directory, account)
    try:
        os.mkdir(path, 0o750)
        os.chown(path, 0, gid)
    except FileExistsError:
        pass
    place = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found: list[int] = []
    try:
        for name in names:
            found.append(_open(place, name, gid, limit))
    except OSError:
        for fd in found:
            os.close(fd)
        raise
    finally:
        os.close(place)
    return found


def _open(place: int, name: str, gid: int, limit: int) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(name, flags, 0o640, dir_fd=place)
    if limit and os.fstat(fd).st_size >= limit:
        os.close(fd)
        os.rename(name, f"{name}.1", src_dir_fd=place, dst_dir_fd=place)
        fd = os.open(name, flags, 0o640, dir_fd=place)
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise OSError(None, f"{name} is no file")
    if info.st_gid != gid:
        os.fchown(fd, 0, gid)
    return fd


def faults(tenants: TenantsSettings | None, spec: KeeperSpec, journal: Journal) -> int:
    """Return a descriptor of the log of faults of a keeper's tenant; -1 where it has none."""
    if tenants is None or not tenants.logs or spec.tenant is None:
        return -1
    try:
        return open_logs(tenants.logs, spec.user, spec.gid, tenants.log_size, FILES[2:])[0]
    except OSError as error:
        journal.write("error", f"no log of faults: {error}")
        return -1
