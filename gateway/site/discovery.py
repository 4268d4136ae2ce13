"""Which tenant a request is for: `/~alice/` and hosts that no site names, found when asked for.

Decides whether there is such a tenant, from its directory alone, and for how long that is taken to
be so. Must not know accounts (the master looks those up before anything is started), nor what a
tenant's site is made of: `compose` is told its name and its directory.

Nothing is done before a request asks, and what nobody asks for is forgotten: memory and time go
with the tenants that are in use, not with those that there are.
"""

import errno
import os
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from gateway.exchange import Refused
from gateway.process.spec import SymlinkPolicy
from gateway.process.tenants import Home, home_of, host_name, open_home, userdir_name
from gateway.site.map import Site, SiteMap
from gateway.site.path import decode

LOOK = 5.0
"""Seconds for which a tenant's directory is taken to be the one that it was."""
MISSED = 2.0
"""Seconds for which a name that leads nowhere is not looked for again."""
KEPT = 2000
"""Tenants and missed names that are remembered; the one not asked for longest is forgotten."""

_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


class _Known(NamedTuple):
    """What was found under a name."""

    until: float
    home: tuple[int, int, int]
    """Device, inode and owner of the directory: others are another tenant."""
    site: SiteMap | None
    refused: Refused | None = None


_NOTHING = (0, 0, 0)


class Discovery:
    """The tenants that were asked for."""

    def __init__(
        self,
        *,
        userdir: str,
        hosts: str,
        symlinks: SymlinkPolicy,
        least: tuple[int, int],
        compose: Callable[[str, Home], Site],
    ) -> None:
        """`userdir` and `hosts` are the patterns of `[tenants]`; `least` is the smallest uid and
        gid that the owner of a tenant's directory may have."""
        self._userdir = userdir
        self._hosts = hosts
        self._symlinks = symlinks
        self._least = least
        self._compose = compose
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def userdir(self, raw: bytes) -> SiteMap | None:
        """Return the site that a path as it was sent belongs to, None where it is no tenant's.

        Raises Refused: 404 where the path names a user who has no pages.
        """
        if not self._userdir:
            return None
        first = decode(b"/" + raw[1:].partition(b"/")[0])
        if not first.startswith(b"/~"):
            return None
        name = userdir_name(first[2:])
        site = None if name is None else self._find(name)
        if site is None:
            raise Refused(404)
        return site

    def host(self, host: bytes) -> SiteMap | None:
        """Return the site of a host (lower case, no port); None where it is no tenant's."""
        if not self._hosts:
            return None
        name = host_name(host.removesuffix(b"."))
        return None if name is None else self._find(name)

    def _find(self, name: str) -> SiteMap | None:
        known = self._known.get(name)
        if known is None or monotonic() >= known.until:
            known = self._known[name] = self._look(name, known)
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(name)
        if known.refused is not None:
            raise known.refused
        return known.site

    def _look(self, name: str, known: _Known | None) -> _Known:
        """Look for a tenant's directory; its site stays as long as that is the same."""
        home = home_of(name, self._userdir, self._hosts)
        if home is None:
            return _Known(monotonic() + MISSED, _NOTHING, None)
        shown = os.fsdecode(home.path)
        try:
            fd = open_home(home, self._symlinks)
            try:
                info = os.fstat(fd)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno in _MISSING:
                return _Known(monotonic() + MISSED, _NOTHING, None)
            return self._refused(403, f"{shown} cannot be entered: {os.strerror(error.errno or 0)}")
        if info.st_uid < self._least[0] or info.st_gid < self._least[1]:
            owner = f"uid {info.st_uid}, gid {info.st_gid}"
            return self._refused(403, f"{shown} is no tenant's: its owner has {owner}")
        seen = (info.st_dev, info.st_ino, info.st_uid)
        if known is not None and known.home == seen:
            return known._replace(until=monotonic() + LOOK)
        site = SiteMap(self._compose(name, home))
        return _Known(monotonic() + LOOK, seen, site)

    def _refused(self, status: int, why: str) -> _Known:
        return _Known(monotonic() + MISSED, _NOTHING, None, Refused(status, log=why))
