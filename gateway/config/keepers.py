"""What each user's keeper is told: settings of sites and pools -> `KeeperSpec`.

Decides which account runs what, and the command of a pool's workers. Imports no event loop: the
master uses it. The keys made here (`route_key`, `pool_socket`) are the ones that the fronts'
handlers use.
"""

import os
import sys
from collections.abc import Iterable, Mapping

from gateway.backends.pool import PoolSettings
from gateway.config.settings import Settings
from gateway.config.tenancy import as_tenant, encoded
from gateway.guests import FLUP_WORKER, WORKER
from gateway.process.accounts import Account, account, our_account
from gateway.process.spec import KeeperSpec, PoolSpec, Program, ScriptRoot
from gateway.site.site import RouteSettings, SiteSettings

AS_ROOT = os.geteuid() == 0
"""Whether this was started as root. A front no longer is, and must decide as the master does."""

PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def front_account(settings: Settings) -> Account:
    """The fronts' account."""
    if os.geteuid() == 0 and settings.server.user:
        return account(settings.server.user)
    return our_account()


def user_of(settings: Settings, site: SiteSettings) -> str:
    """The name of the account that runs a site's programs."""
    if AS_ROOT and site.user:
        return site.user
    return front_account(settings).name


def route_key(site: int, route: int) -> str:
    """The name of a route between front and keeper."""
    return f"{site}/{route}"


def script_root(site: SiteSettings, route: RouteSettings) -> str:
    """The directory below which a route's scripts are."""
    return route.cgi if isinstance(route.cgi, str) else route.root or site.root


def pools_path(pools: str, user: str) -> str:
    """The directory of the sockets of a user's pools, in that of one reading of the settings."""
    return os.path.join(pools, user)


def pool_socket(sockets: bytes, name: str) -> bytes:
    """The listening socket of a pool's workers."""
    return os.path.join(sockets, os.fsencode(name) + b".sock")


def given_key(listener: str, root: int) -> str:
    """The name, between front and keeper, of a directory whose scripts a front server names."""
    return f"{listener}/{root}"


def given_root(root: str) -> tuple[bytes, bytes]:
    """Return directory and script of one of a listener's `roots`; b"" for every script in it.

    A single script may be a link, so it is looked for from the system's root.
    """
    path = os.fsencode(os.path.abspath(root))
    return (path, b"") if os.path.isdir(path) else (b"/", path)


def file_directories(key: str, route: RouteSettings) -> dict[str, bytes]:
    """Return the directories of X-Sendfile and then of X-Accel-Redirect, by their keys."""
    directories = (*route.sendfile, *route.accel.values())
    return {
        f"{key}/file{number}": os.fsencode(os.path.abspath(directory))
        for number, directory in enumerate(directories)
    }


class _Owned:
    """Whose the sites are, looked up once: there may be 10,000 of them, and as many accounts."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ours = front_account(settings).name
        root = os.geteuid() == 0
        self.sites: dict[str, list[tuple[int, SiteSettings]]] = {}
        """User -> the sites whose programs it runs, with their numbers."""
        for number, site in enumerate(settings.site):
            user = site.user if root and site.user else self.ours
            self.sites.setdefault(user, []).append((number, site))
        given = {self.ours} if settings.listen.given else set()
        self.users = frozenset({*self.sites, *given})


_KEPT: list[_Owned] = []
"""Of the last two settings: those that serve, and those that a reload replaces."""


def _owned(settings: Settings) -> _Owned:
    for kept in _KEPT:
        if kept.settings is settings:
            return kept
    _KEPT[1:] = _KEPT[:1]
    _KEPT[:1] = [_Owned(settings)]
    return _KEPT[0]


def users(settings: Settings) -> frozenset[str]:
    """All accounts that may need a keeper."""
    return _owned(settings).users


def pools_of(settings: Settings, user: str) -> Mapping[str, PoolSettings]:
    """The pools whose workers run under `user`: those that its sites' routes name."""
    return {
        route.pool: settings.pool[route.pool]
        for _, site in _owned(settings).sites.get(user, ())
        for route in site.route
        if route.pool and not settings.pool[route.pool].connect
    }


def keeper_spec(
    settings: Settings, user: str, sockets: bytes, names: Iterable[str] = ()
) -> KeeperSpec:
    """Return all that the keeper of `user` is told; `names` are its names as a tenant."""
    us = our_account()
    who = us if user == us.name else account(user)
    limits = settings.limits
    scripts = {}
    files: dict[str, bytes] = {}
    for number, site in _owned(settings).sites.get(user, ()):
        limits = site.limits
        for index, route in enumerate(site.route):
            files |= file_directories(route_key(number, index), route)
            if route.cgi or route.fastcgi:
                scripts[route_key(number, index)] = _script_root(site, route)
    if user == _owned(settings).ours:
        scripts |= _given_roots(settings)
    spec = KeeperSpec(
        user=user,
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        switch=who.uid != us.uid,
        scripts=scripts,
        files=files,
        pools=tuple(
            _pool_spec(name, pool, sockets) for name, pool in pools_of(settings, user).items()
        ),
        sockets=sockets,
        concurrency=limits.concurrency,
        queue=limits.queue,
        grace=limits.grace,
    )
    return spec if settings.tenants is None else as_tenant(spec, settings.tenants, names)


def _script_root(site: SiteSettings, route: RouteSettings) -> ScriptRoot:
    return ScriptRoot(
        root=os.fsencode(os.path.abspath(script_root(site, route))),
        symlinks=site.symlinks,
        start=route.start,
        interpreters=encoded(route.interpreters),
        environment=encoded(site.environment) | encoded(route.environment),
    )


def _given_roots(settings: Settings) -> dict[str, ScriptRoot]:
    """The directories whose scripts front servers name."""
    return {
        given_key(key, number): ScriptRoot(
            root=given_root(root)[0],
            only=given_root(root)[1],
            given=True,
            interpreters=encoded(listener.interpreters),
            environment=encoded(listener.environment),
        )
        for key, listener in settings.listen.given
        for number, root in enumerate(listener.roots)
    }


def _pool_spec(name: str, pool: PoolSettings, sockets: bytes) -> PoolSpec:
    directory = os.path.abspath(pool.directory or ".")
    environment = {b"PATH": PATH, b"LANG": b"C.UTF-8"} | encoded(pool.environment)
    return PoolSpec(
        name=name,
        program=Program(
            argv=tuple(os.fsencode(word) for word in _command(pool, directory)),
            directory=os.fsencode(directory),
            environment=environment,
        ),
        processes=pool.processes,
        socket=pool_socket(sockets, name),
    )


def _command(pool: PoolSettings, directory: str) -> tuple[str, ...]:
    if pool.command:
        return pool.command
    guest = FLUP_WORKER if pool.engine == "flup" else WORKER
    options: tuple[str, ...] = ("--threads", str(pool.threads), "--directory", directory)
    if pool.max_requests:
        options += ("--max-requests", str(pool.max_requests))
    return (pool.python or sys.executable, "-u", guest, *options, pool.wsgi)
