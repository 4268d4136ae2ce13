"""The composition root of a front: settings -> one handler.

Decides which object stands behind which route. What is made here needs an event loop, so the
master, which has none, does not import this module.
"""

import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from gateway import __version__
from gateway.address import Address, parse_remote
from gateway.backends.cgi import Cgi, CgiSettings
from gateway.backends.connection import Connection
from gateway.backends.fastcgi import FastCgi
from gateway.backends.files import FileWorkers
from gateway.backends.pool import Pool, PoolSettings
from gateway.backends.sendfile import Sendfile, SendfileSettings
from gateway.backends.sources import Elsewhere, Rule, glob
from gateway.backends.static import Static, StaticSettings
from gateway.backends.stream import StreamSettings, always_up
from gateway.backends.supply import Supply, Waiter
from gateway.config.keepers import (
    file_directories,
    front_account,
    given_key,
    given_root,
    pool_socket,
    pools_path,
    route_key,
    script_root,
    user_of,
)
from gateway.config.lodging import Lodging
from gateway.config.settings import Settings
from gateway.config.tenancy import encoded
from gateway.exchange import Handler
from gateway.journal import Journal
from gateway.listeners.listening import RelayListener
from gateway.listeners.ownlogs import OwnLogsRegistry
from gateway.process.remote import RemoteKeeper
from gateway.site.given import Given, GivenRoot
from gateway.site.router import Later, Route, Router, Site, sources
from gateway.site.site import RouteSettings, SiteSettings

Kind: TypeAlias = Literal["script", "static", "app"]

SOFTWARE = f"gateway/{__version__}".encode()


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a front is made of."""

    handler: Handler
    """The sites."""
    given: Mapping[str, Handler]
    """What stands behind a listener whose front servers name the scripts; by its key."""
    keepers: Mapping[str, RemoteKeeper]
    """User -> the way to that user's keeper; nothing is started before it is needed."""


def assemble(
    settings: Settings,
    connect: Callable[[str], Awaitable[socket.socket]],
    journal: Journal,
    runtime: str,
    own_logs: OwnLogsRegistry,
) -> Assembly:
    """Put a front together. `connect` gives a channel to a user's keeper; `runtime` is the
    directory that holds the pools' sockets; `own_logs` are those of tenants."""
    parts = Parts(settings, connect, journal, runtime)
    sites = [
        Later(tuple(map(str.encode, site.hosts)), partial(parts.site, number, site))
        for number, site in enumerate(settings.site)
    ]
    tenants = None
    if settings.tenants is not None:
        lodging = Lodging(
            settings,
            settings.tenants,
            connect,
            journal,
            own_logs,
            SOFTWARE,
            parts.elsewhere,
        )
        tenants = lodging.discovery()
    given = {key: parts.given(key, listener) for key, listener in settings.listen.given}
    return Assembly(Router(sites, tenants), given, parts.keepers)


class Parts:
    """What routes are made of; things that routes share are made once."""

    def __init__(
        self,
        settings: Settings,
        connect: Callable[[str], Awaitable[socket.socket]],
        journal: Journal,
        runtime: str,
    ) -> None:
        self.settings = settings
        self.connect = connect
        self.journal = journal
        self.runtime = runtime
        self.keepers: dict[str, RemoteKeeper] = {}
        self.supplies: dict[tuple[str, str], Supply] = {}
        self.elsewhere = Elsewhere(_programs(settings))

    def keeper(self, user: str) -> RemoteKeeper:
        if user not in self.keepers:

            async def connect() -> socket.socket:
                return await self.connect(user)

            foreign = user != front_account(self.settings).name
            self.keepers[user] = RemoteKeeper(connect, foreign=foreign)
        return self.keepers[user]

    def site(self, number: int, site: SiteSettings) -> Site:
        """Compose one site."""
        root = os.fsencode(os.path.abspath(site.root)) if site.root else b""
        programs = tuple(
            self.route(site, route, route_key(number, index))
            for index, route in enumerate(site.route)
            if _is_program(route)
        )

        def static(directory: bytes) -> Static:
            return Static(
                StaticSettings(
                    root=directory,
                    listing=site.listing,
                    symlinks=site.symlinks,
                    sources=sources(programs, self.elsewhere.near(directory, number)),
                )
            )

        routes = list(programs)
        for index, route in enumerate(site.route):
            if not _is_program(route):
                directory = os.fsencode(os.path.abspath(route.root))
                made = _route(
                    route, route_key(number, index), "static", directory, static(directory)
                )
                routes.insert(index, made)
        return Site(
            name=site.hosts[0] if site.hosts else "default",
            hosts=tuple(host.encode() for host in site.hosts),
            root=root,
            index=tuple(os.fsencode(name) for name in site.index),
            routes=tuple(routes),
            static=static(root) if root else None,
            limits=site.limits,
            symlinks=site.symlinks,
        )

    def route(self, site: SiteSettings, route: RouteSettings, key: str) -> Route:
        """Make a route to a program."""
        root = os.fsencode(os.path.abspath(script_root(site, route)))
        kind: Kind = "script" if route.match or not route.pool else "app"
        keeper = self.keeper(user_of(self.settings, site))
        keys = list(files := file_directories(key, route))
        named = len(route.sendfile)
        sendfile = SendfileSettings(
            roots={files[each]: each for each in keys[:named]},
            accel=dict(zip(map(os.fsencode, route.accel), keys[named:], strict=True)),
        )
        program = self._program(site, route, key, root)
        return _route(route, key, kind, root, Sendfile(program, sendfile, keeper, self.journal))

    def _program(self, site: SiteSettings, route: RouteSettings, key: str, root: bytes) -> Handler:
        if route.pool:
            return self.pool(site, route)
        keeper = self.keeper(user_of(self.settings, site))
        if route.fastcgi:
            return FileWorkers(self._stream(route, keep=False), key, root, keeper, self.journal)
        settings = CgiSettings(
            route=key,
            root=root,
            software=SOFTWARE,
            authorization=route.authorization,
            stream=route.stream,
            broken=self.settings.server.broken_script,
        )
        return Cgi(settings, keeper, self.journal)

    def pool(self, site: SiteSettings, route: RouteSettings) -> FastCgi:
        """Make the handler of a route to a pool."""
        name = route.pool
        pool = self.settings.pool[name]
        user = user_of(self.settings, site)
        keeper = self.keeper(user)
        settings = self._stream(route, keep=pool.keeps)
        if pool.connect:
            addresses = tuple(parse_remote(text) for text in pool.connect)
            supply = self._supply(user, name, addresses, pool)
            return FastCgi(settings, supply, self.journal, down=always_up)
        path = pool_socket(os.fsencode(pools_path(self.runtime, user)), name)
        supply = self._supply(user, name, (Address(path=os.fsdecode(path)),), pool)
        return FastCgi(settings, supply, self.journal, down=lambda: keeper.pool_state(name))

    def given(self, key: str, listener: RelayListener) -> Given:
        """Make what stands behind a listener whose front servers name the scripts."""
        keeper = self.keeper(front_account(self.settings).name)
        roots = []
        for number, directory in enumerate(listener.roots):
            root, only = given_root(directory)
            settings = CgiSettings(
                route=given_key(key, number),
                root=root,
                software=SOFTWARE,
                authorization=listener.authorization,
                stream=listener.stream,
                broken=self.settings.server.broken_script,
            )
            handler = Cgi(settings, keeper, self.journal)
            roots.append(GivenRoot(root=root.rstrip(b"/"), only=only, handler=handler))
        return Given(roots, self.settings.limits)

    def _supply(
        self, user: str, name: str, addresses: tuple[Address, ...], settings: PoolSettings
    ) -> Supply:
        if (user, name) not in self.supplies:
            pool: Pool[Connection, Waiter] = Pool(addresses, settings.capacity, settings.ahead)
            owned = not settings.connect
            self.supplies[user, name] = Supply(name, pool, self.journal, owned=owned)
        return self.supplies[user, name]

    def _stream(self, route: RouteSettings, *, keep: bool) -> StreamSettings:
        return StreamSettings(
            keep=keep,
            software=SOFTWARE,
            authorization=route.authorization,
            stream=route.stream,
            environment=encoded(route.environment),
        )


def _programs(settings: Settings) -> Iterator[tuple[int, Rule]]:
    """Give what is a program's text, with the number of its site."""
    for number, site in enumerate(settings.site):
        for route in site.route:
            if route.cgi or route.fastcgi or (route.pool and route.match):
                root = os.fsencode(os.path.abspath(script_root(site, route)))
                yield number, (root, glob(os.fsencode(route.match)) if route.match else None)


def _is_program(route: RouteSettings) -> bool:
    return bool(route.cgi or route.fastcgi or route.pool)


def _route(route: RouteSettings, key: str, kind: Kind, root: bytes, handler: Handler) -> Route:
    return Route(
        key=key,
        name=" ".join(filter(None, (route.path, route.match))),
        prefix=os.fsencode(route.path) if route.path else None,
        match=os.fsencode(route.match) if route.match else None,
        kind=kind,
        root=root,
        handler=handler,
        limits=route.limits,
    )
