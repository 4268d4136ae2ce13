"""What a tenant's site is made of: `[tenants]` -> the handlers behind one tenant's pages.

Decides the routes of a tenant, which are the same for all. The master's part of `[tenants]`, which
needs no event loop, is in `tenancy.py`.
"""

import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from weakref import WeakValueDictionary

from gateway.backends.cgi import Cgi, CgiSettings
from gateway.backends.copies import Shelf
from gateway.backends.expiry import Expiring
from gateway.backends.files import FileWorkers
from gateway.backends.sendfile import Sendfile, SendfileSettings
from gateway.backends.sources import Elsewhere
from gateway.backends.static import Static, StaticSettings
from gateway.backends.stream import StreamSettings
from gateway.config.settings import Settings
from gateway.exchange import Handler
from gateway.journal import Journal
from gateway.listeners.ownlogs import OwnLogsRegistry
from gateway.process.remote import RemoteKeeper
from gateway.process.tenants import Home, route_key
from gateway.process.terms import Terms
from gateway.site.discovery import Discovery
from gateway.site.map import Route, Site, sources
from gateway.site.own import OwnSite
from gateway.site.tenants import TenantsSettings

CACHE = 32 << 20
"""Bytes of memory for the small files of all tenants of a front."""

PLAIN = Terms()
"""Those of a tenant that has decided nothing itself."""


class Lodging:
    """Composes the sites of tenants."""

    def __init__(
        self,
        settings: Settings,
        tenants: TenantsSettings,
        connect: Callable[[str], Awaitable[socket.socket]],
        journal: Journal,
        logs: OwnLogsRegistry,
        software: bytes,
        elsewhere: Elsewhere,
    ) -> None:
        self._settings = settings
        self._tenants = tenants
        self._connect = connect
        self._journal = journal
        self._logs = logs
        self._software = software
        self._elsewhere = elsewhere
        self._shelf = Shelf(CACHE)
        self._keepers: WeakValueDictionary[str, RemoteKeeper] = WeakValueDictionary()
        """The ways to tenants' keepers, as long as something of their sites is in use."""

    def discovery(self) -> Discovery:
        """Return what finds tenants and has their sites made here."""
        tenants = self._tenants
        return Discovery(
            userdir=tenants.userdir,
            hosts=tenants.hosts,
            symlinks=tenants.symlinks,
            least=(tenants.min_uid, tenants.min_gid),
            compose=self.site,
            own=self.own if tenants.own_settings else None,
        )

    def own(self, name: str, home: Home) -> OwnSite:
        """Return what answers for the tenant `name` while it has settings of its own."""
        prefix = (os.fsencode(name),) if name.startswith("~") else ()

        def compose(terms: Terms) -> Site:
            return self.site(name, home, terms)

        return OwnSite(name, prefix, compose, self._keeper(name), self._journal)

    def site(self, name: str, home: Home, terms: Terms = PLAIN) -> Site:
        """Compose the site of the tenant `name`."""
        tenants = self._tenants
        at = os.fsencode(name) if name.startswith("~") else b""
        logs = self._logs.of(name) if tenants.logs else None
        journal = self._journal if logs is None else logs.journal
        programs = tuple(
            self._program(name, home, at, rule, number, journal)
            for number, rule in enumerate((*tenants.cgi, *tenants.fastcgi))
        )
        static = Static(
            StaticSettings(
                root=home.base,
                listing=tenants.listing,
                symlinks=tenants.symlinks,
                sources=sources(programs, self._elsewhere.near(home.path, name)),
            ),
            self._shelf,
        )
        files = Route(
            key=name,
            name=f"/{os.fsdecode(at)}",
            prefix=b"/" + at,
            kind="static",
            root=home.base,
            below=home.below,
            handler=Expiring(static, terms.expires) if terms.expires else static,
            limits=self._settings.limits,
        )
        return Site(
            name=name,
            root=home.path,
            index=tuple(map(os.fsencode, tenants.index)) if terms.index is None else terms.index,
            routes=(*programs, files),
            limits=self._settings.limits,
            symlinks=tenants.symlinks,
            logs=logs,
        )

    def _program(
        self, name: str, home: Home, at: bytes, rule: str, number: int, journal: Journal
    ) -> Route:
        """Make the route of one of a tenant's rules: a path or a pattern of file names."""
        key = route_key(name, number)
        keeper = self._keeper(name)
        handler = (
            self._script(key, home, keeper, journal)
            if number < len(self._tenants.cgi)
            else self._workers(key, home, keeper, journal)
        )
        route = Route(
            key=key,
            name=rule,
            prefix=b"/" + at,
            kind="script",
            root=home.base,
            below=home.below,
            handler=Sendfile(handler, SendfileSettings(), keeper, journal),
            limits=self._settings.limits,
        )
        if not rule.startswith("/"):
            return replace(route, match=os.fsencode(rule))
        names = tuple(os.fsencode(part) for part in rule.split("/") if part)
        prefix = b"/".join((route.prefix or b"").strip(b"/").split(b"/") + list(names)).strip(b"/")
        return replace(route, prefix=b"/" + prefix, below=(*home.below, *names))

    def _script(self, key: str, home: Home, keeper: RemoteKeeper, journal: Journal) -> Handler:
        settings = CgiSettings(
            route=key,
            root=home.path,
            software=self._software,
            broken=self._settings.server.broken_script,
        )
        return Cgi(settings, keeper, journal)

    def _workers(self, key: str, home: Home, keeper: RemoteKeeper, journal: Journal) -> Handler:
        settings = StreamSettings(keep=False, software=self._software)
        return FileWorkers(settings, key, home.path, keeper, journal)

    def _keeper(self, name: str) -> RemoteKeeper:
        keeper = self._keepers.get(name)
        if keeper is None:

            async def connect() -> socket.socket:
                return await self._connect(name)

            keeper = self._keepers[name] = RemoteKeeper(connect, foreign=True)
        return keeper
