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
from gateway.process.own import NAME
from gateway.process.spec import SymlinkPolicy
from gateway.process.tenants import Home, home_of, host_name, open_home, userdir_name
from gateway.site.map import Site, SiteMap
from gateway.site.own import UNKNOWN, OwnSite, Seen
from gateway.site.path import decode

LOOK = 5.0
"""Seconds for which a tenant's directory is taken to be the one that it was."""
MISSED = 2.0
"""Seconds for which a name that leads nowhere is not looked for again."""
LOOK_OWN = 1.0
"""The same, where that may have settings of its own: a change of them is to show within a second.
"""
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
        own: Callable[[str, Home], OwnSite] | None = None,
    ) -> None:
        """`userdir` and `hosts` are the patterns of `[tenants]`; `least` is the smallest uid and
        gid that the owner of a tenant's directory may have. `own` makes what answers for a tenant
        that has settings of its own; None: nobody's count."""
        self._userdir = userdir
        self._hosts = hosts
        self._symlinks = symlinks
        self._least = least
        self._compose = compose
        self._own = own
        self._look_again = LOOK if own is None else LOOK_OWN
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
                settings = _settings(fd) if self._own else None
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
        if known is not None and known.home == seen and known.site is not None:
            site = known.site
        else:
            site = SiteMap(self._compose(name, home))
        if self._own is not None:
            self._govern(site, settings, name, home)
        return _Known(monotonic() + self._look_again, seen, site)

    def _govern(self, site: SiteMap, settings: Seen | None, name: str, home: Home) -> None:
        """Have the tenant's own settings count, if it has any; nothing else is done for them here.

        A file that has gone counts until the next look: many editors write a file by taking the old
        one away first, and what it protects is not to open meanwhile.
        """
        own = site.own
        if settings is not None:
            if not isinstance(own, OwnSite):
                assert self._own is not None
                own = site.own = self._own(name, home)
            own.saw(settings)
        elif isinstance(own, OwnSite) and not own.missed():
            site.own = None

    def _refused(self, status: int, why: str) -> _Known:
        return _Known(monotonic() + MISSED, _NOTHING, None, Refused(status, log=why))


def _settings(home: int) -> Seen | None:
    """Return which file of its own settings a tenant's directory has; None for none.

    It is not opened, and not followed if it is a link: that is for the tenant's keeper.
    """
    try:
        return Seen.of(os.stat(NAME, dir_fd=home, follow_symlinks=False))
    except OSError as error:
        return None if error.errno in _MISSING else UNKNOWN
