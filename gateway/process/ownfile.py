"""The file with a tenant's own settings, as its keeper reads it: `.gateway.toml` in its directory.

Decides which file counts, and when it is read again. Runs as the tenant, so the kernel has the last
word on what may be read. A file counts that is a regular one, reached by no link, the tenant's own,
and that nobody else may write. One that does not count is a mistake like any other: it is told,
and nothing of this tenant is served meanwhile, since what it protects must not open by a slip.
"""

import errno
import os
import stat
import time
from typing import NamedTuple

from gateway.process import own, tenants
from gateway.process.beneath import open_beneath
from gateway.process.own import Own
from gateway.process.spec import SpawnFailed, TenantRoots
from gateway.reading import BadConfig

FRESH = 1.0
"""Seconds for which the file is taken to be as it was."""
SETTLED = 1.0
"""Seconds since its last change after which a further change surely shows in its times."""
WRITTEN = 0.25
"""Seconds since its last change for which it may be half written: an editor that empties the file
and writes it anew must not take a password protection away in between; nor one that removes it."""
KEPT = 200
"""Directories of one tenant whose file is remembered."""
_ATTEMPTS = 3
"""Times that a file which changes while it is read is read again."""

# A FIFO or a device must not hold us up, nor a terminal become ours.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_NONE = Own()

Identity = tuple[int, int, int, int, int]
"""Device, inode, both times and size: another value is another content."""

_GONE: Identity = (0, 0, 0, 0, 0)


def identity(info: os.stat_result) -> Identity:
    return (info.st_dev, info.st_ino, info.st_mtime_ns, info.st_ctime_ns, info.st_size)


def settled(info: os.stat_result) -> bool:
    """Whether a later change of this file would show in `identity`."""
    return time.time() - info.st_ctime_ns / 1e9 > SETTLED


class _Known(NamedTuple):
    until: float
    seen: Identity | None
    """None: there is no file, or it may have changed unseen."""
    own: Own
    failed: SpawnFailed | None

    @property
    def decides(self) -> bool:
        """Whether there was a file, right or wrong."""
        return self.failed is not None or self.own is not _NONE


class OwnFiles:
    """The settings of one tenant's directories, by the tenant's names."""

    def __init__(self, tenant: TenantRoots, user: str) -> None:
        self._tenant = tenant
        self._user = user
        self._known: dict[str, _Known] = {}

    def of(self, name: str, *, now: bool = False) -> Own:
        """Return what the tenant `name` ("~alice", "@example.org") has decided.

        It may be as of a second ago, unless `now`. Raises SpawnFailed: 500 with what is wrong in
        the file, 404 for what is no directory of this tenant.
        """
        known = self._known.get(name)
        if known is None or now or time.monotonic() >= known.until:
            if known is None and len(self._known) >= KEPT:
                self._known.pop(next(iter(self._known)))
            known = self._known[name] = self._look(name, known)
        if (failed := known.failed) is not None:
            # Made anew: one that is raised again and again holds on to more frames each time.
            raise SpawnFailed(failed.errno, failed.step, failed.why, failed.status)
        return known.own

    def home(self, name: str) -> tuple[int, bytes]:
        """Return a descriptor (O_PATH) of a directory of this tenant, and its path.

        Raises SpawnFailed where it is not this tenant's.
        """
        tenant = self._tenant
        home = tenants.home_of(name, tenant.userdir, tenant.hosts)
        if home is None or (name.startswith("~") and name[1:] != self._user):
            raise SpawnFailed(0, "own", f"{self._user} is not the tenant {name}", 404)
        try:
            fd = tenants.open_home(home, tenant.symlinks)
        except OSError as error:
            why = f"{os.fsdecode(home.path)}: {error.strerror}"
            raise SpawnFailed(error.errno or 0, "own", why, 404) from None
        if os.fstat(fd).st_uid != os.geteuid():
            os.close(fd)
            raise SpawnFailed(0, "own", f"{os.fsdecode(home.path)}: it is not {self._user}'s", 403)
        return fd, home.path

    def _look(self, name: str, known: _Known | None) -> _Known:
        until = time.monotonic() + FRESH
        if not self._tenant.own_settings:
            return _Known(float("inf"), None, _NONE, None)
        try:
            home, path = self.home(name)
        except SpawnFailed as failed:
            return _Known(until, None, _NONE, failed)
        file = os.fsdecode(path) + "/" + own.NAME
        try:
            for _ in range(_ATTEMPTS):
                found = self._read(home, file, known, until)
                if found is not None:
                    return found
        except FileNotFoundError:
            return _gone(known, until)
        except OSError as error:
            return _wrong(until, None, f"{file}: {_words(error)}")
        finally:
            os.close(home)
        return _Known(until, None, _NONE, SpawnFailed(0, "own", f"{file}: it keeps changing", 503))

    def _read(self, home: int, file: str, known: _Known | None, until: float) -> _Known | None:
        """Return what is in the file; None if it changed meanwhile. Raises OSError."""
        fd = open_beneath(home, own.NAME.encode(), _READ, "none")
        try:
            info = os.fstat(fd)
            seen = identity(info)
            if known is not None and known.seen == seen:
                return known._replace(until=until)
            fresh = 0 <= time.time() - info.st_ctime_ns / 1e9 < WRITTEN
            if fresh and known is not None and known.decides:
                return known._replace(until=time.monotonic() + WRITTEN, seen=None)
            if why := _unfit(info):
                return _wrong(until, seen if settled(info) else None, f"{file}: {why}")
            data = _bounded(fd, own.SIZE_MAX + 1)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        if identity(after) != seen or len(data) < min(info.st_size, own.SIZE_MAX):
            return None
        kept = seen if settled(info) else None
        try:
            read = own.parse(data, file)
            # What is equal stays the same object, so that nothing is made anew for it.
            same = known is not None and known.own == read
            return _Known(until, kept, known.own if known and same else read, None)
        except BadConfig as bad:
            return _wrong(until, kept, own.told(bad))


def _gone(known: _Known | None, until: float) -> _Known:
    """Return what counts when there is no file: for a moment still what did."""
    now = time.monotonic()
    if known is None or not known.decides or (known.seen == _GONE and now >= known.until):
        return _Known(until, None, _NONE, None)
    return known if known.seen == _GONE else known._replace(until=now + WRITTEN, seen=_GONE)


def _wrong(until: float, seen: Identity | None, why: str) -> _Known:
    return _Known(until, seen, _NONE, SpawnFailed(0, "own", why, 500))


def _unfit(info: os.stat_result) -> str:
    """Return why this file does not count; "" if it does."""
    if not stat.S_ISREG(info.st_mode):
        return "it is not a regular file"
    if info.st_uid != os.geteuid():
        return "it belongs to somebody else; chown it"
    if info.st_mode & _OTHERS_WRITE:
        return "others may write it; chmod go-w"
    return ""


def _words(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.EXDEV):
        return "it is a link; put the file itself there"
    if error.errno == errno.ENXIO:
        return "it is not a regular file"
    return os.strerror(error.errno or 0)


def _bounded(fd: int, most: int) -> bytes:
    data = b""
    while len(data) < most and (piece := os.read(fd, most - len(data))):
        data += piece
    return data


def open_own(home: int, path: bytes) -> tuple[int, os.stat_result]:
    """Return a descriptor of a file below `home`, under the rules of this module, and what it is.

    Raises OSError, and ValueError with the rule that it breaks.
    """
    fd = open_beneath(home, path, _READ, "none")
    info = os.fstat(fd)
    if why := _unfit(info):
        os.close(fd)
        raise ValueError(why)
    return fd, info
