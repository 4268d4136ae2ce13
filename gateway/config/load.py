"""Floor 6: a settings file and what it includes become `Settings`, or all that is wrong in them.

Decides which tables a file may hold, that relative paths start at the file that names them, and
which combinations are refused. Which files those are is `files.py`, the values are `settings.py`.
Must not open a socket or a log.
"""

import gc
import grp
import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace

from gateway.address import Address
from gateway.backends.pool import PoolSettings
from gateway.config import paths
from gateway.config.files import Files, Known, Memory, Part
from gateway.config.settings import (
    READER,
    ListenSettings,
    LogSettings,
    ServerSettings,
    Settings,
)
from gateway.exchange import Limits
from gateway.listeners.listening import Listener, RelayListener
from gateway.reading import LATER, BadConfig, Problems, Table
from gateway.reading import unknown as unknown_key
from gateway.site.site import RouteSettings, SiteSettings
from gateway.site.tenants import TenantsSettings
from gateway.where import Where

_MAIN = {"include", "server", "listen", "log", "limits", "site", "pool", "tenants"}
_INCLUDED = {"site", "pool"}
_POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")  # it becomes part of a socket's path
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")


class SettingsFile:
    """A settings file that is read again and again: what has not changed is not read again."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._memory = Memory()

    def load(self) -> Settings:
        """Read it. Raises BadConfig with all that is wrong."""
        # A collection would look at every table of every site, several times, and find nothing.
        collects = gc.isenabled()
        gc.disable()
        try:
            return load(self.file, memory=self._memory)
        finally:
            if collects:
                gc.enable()


def load(file: str, *, look: bool = True, memory: Memory | None = None) -> Settings:
    """Read a settings file and what it includes.

    With `look`, directories that are named must exist. `memory` is of an earlier reading of the
    same file, and left for a later one. Raises BadConfig with all that is wrong.
    """
    problems = Problems()
    memory = memory or Memory()
    files = Files(memory)
    main = files.open(file)
    parts = [main]
    with problems.caught():
        _known(main, _MAIN)
    with problems.caught():
        parts += files.included(main, file)
    for part in parts[1:]:
        with problems.caught():
            _known(part, _INCLUDED)
    server, listen, log, limits = ServerSettings(), ListenSettings(), LogSettings(), Limits()
    with problems.caught():
        server = _server(_section(main, "server", paths.of_keys("runtime")), look)
    with problems.caught():
        listen = _listen(_section(main, "listen", paths.of_listen), look)
    with problems.caught():
        part = _section(main, "log", paths.of_keys("access", "error"))
        log = READER.read(LogSettings, part.table, part.where)
    with problems.caught():
        part = _section(main, "limits")
        limits = READER.read(Limits, part.table, part.where)
        _check_limits(limits, part.where)
    pools: dict[str, PoolSettings] = {}
    with problems.caught():
        pools = _pools(parts, look)
    tenants: TenantsSettings | None = None
    if "tenants" in main.table:
        with problems.caught():
            part = _section(main, "tenants", paths.of_keys("logs"))
            tenants = READER.read(TenantsSettings, part.table, part.where)
            if server.user in ("", "root"):
                why = "[tenants] needs [server] user: the fronts must not be root"
                raise BadConfig(part.where.named(), "", why)
    sites: tuple[SiteSettings, ...] = ()
    with problems.caught():
        sites = _sites(parts, limits, look, memory)
        if not sites and _needs_site(listen) and tenants is None:
            raise BadConfig(main.where.named(), "", "no [[site]], so nothing would be served")
    problems.raise_any()
    return Settings(
        server=server,
        listen=listen,
        log=log,
        limits=limits,
        site=sites,
        pool=pools,
        tenants=tenants,
    )


# Tables


def _known(part: Part, known: set[str]) -> None:
    if part.table.keys() <= known:
        return
    problems = Problems()
    for key in [key for key in part.table if key not in known]:
        with problems.caught():
            where = part.where.named(key)
            if key in _MAIN:
                raise BadConfig(where, key, "only the main file may have it")
            raise BadConfig(where, key, unknown_key(key, known))
    problems.raise_any()


def _section(
    main: Part, name: str, anchored: Callable[[Table, str], Table] = lambda table, _: table
) -> Part:
    """Return a table of the main file, empty when it is not there, its paths made absolute."""
    table = main.table.get(name, {})
    if not isinstance(table, dict):
        raise BadConfig(main.where.named(name), name, f"must be a table: [{name}]")
    return Part(anchored(table, main.base), main.where.table(name), main.base)


# Sections


def _server(part: Part, look: bool) -> ServerSettings:
    server = READER.read(ServerSettings, part.table, part.where)
    if server.fronts == 0:
        raise BadConfig(part.where.named("fronts"), "fronts", 'must be at least 1, or "auto"')
    if look:
        _check_account(server.user, part.where, "user")
    return server


def _listen(part: Part, look: bool) -> ListenSettings:
    listen = READER.read(ListenSettings, part.table, part.where)
    if "http" not in part.table and (listen.fastcgi or listen.scgi):
        listen = replace(listen, http=())
    problems = Problems()
    seen: set[Address] = set()
    for via, number, listener in listen.every():
        where = part.where.table(via, number + 1)
        with problems.caught():
            if listener.address in seen:
                why = f'"{listener.address}" stands there twice'
                raise BadConfig(part.where.named(via), via, why)
            seen.add(listener.address)
            if look:
                _check_listener(listener, where)
            if via == "scgi" and isinstance(listener, RelayListener) and listener.stderr != "log":
                raise BadConfig(where.named("stderr"), "stderr", 'SCGI has no place for it: "log"')
    problems.raise_any()
    if not seen:
        raise BadConfig(
            part.where.named("http"), "http", "names no address, so nothing would be served"
        )
    return listen


def _check_listener(listener: Listener, where: Where) -> None:
    _check_account(listener.owner, where, "owner")
    if listener.group:
        try:
            grp.getgrnam(listener.group)
        except KeyError:
            why = f'no such group: "{listener.group}"'
            raise BadConfig(where.named("group"), "group", why) from None
    if isinstance(listener, RelayListener):
        for root in listener.roots:
            if not os.path.isfile(root):  # one script alone may be named as well
                _check_directory(root, where, "roots")


def _check_limits(limits: Limits, where: Where) -> None:
    problems = Problems()
    for item in fields(Limits):
        may_be_zero = item.name in ("request_body", "queue", "grace", "drain")
        if not may_be_zero and not getattr(limits, item.name):
            with problems.caught():
                raise BadConfig(where.named(item.name), item.name, "must be more than 0")
    problems.raise_any()


def _check_account(name: str, where: Where, key: str) -> None:
    if name:
        try:
            pwd.getpwnam(name)
        except KeyError:
            raise BadConfig(where.named(key), key, f'no such account: "{name}"') from None


def _check_directory(directory: str, where: Where, key: str) -> None:
    if directory and not os.path.isdir(directory):
        # What may not be seen from here may still be there for the master.
        try:
            os.stat(directory)
        except (FileNotFoundError, NotADirectoryError):
            raise BadConfig(where.named(key), key, f"no such directory: {directory}") from None
        except PermissionError:
            return
        raise BadConfig(where.named(key), key, f"not a directory: {directory}")


def _pool_tables(parts: list[Part]) -> Iterator[tuple[str, Part]]:
    """Give each pool's name and table. Raises BadConfig for what is not a table."""
    for part in parts:
        pools = part.table.get("pool", {})
        if not isinstance(pools, dict):
            raise BadConfig(part.where.named("pool"), "pool", "must be tables: [pool.NAME]")
        for name, table in pools.items():
            where = part.where.table("pool").table(name)
            if not isinstance(table, dict):
                raise BadConfig(where.named(), name, "must be a table: [pool.NAME]")
            yield name, Part(paths.of_pool(table, part.base), where, part.base)


def _pools(parts: list[Part], look: bool) -> dict[str, PoolSettings]:
    problems = Problems()
    pools: dict[str, PoolSettings] = {}
    first: dict[str, str] = {}
    for name, part in _pool_tables(parts):
        where = part.where
        with problems.caught():
            if _POOL_NAME.fullmatch(name) is None:
                why = "a pool's name has letters, digits, - and _, at most 40"
                raise BadConfig(where.named(), "", why)
            if name in first:
                raise BadConfig(where.named(), "", f"this pool is there already: {first[name]}")
            first[name] = where.named()
            if isinstance(part.table.get("processes"), dict):
                why = f"a style of processes is {LATER}; give their number"
                raise BadConfig(where.named("processes"), "processes", why)
            pools[name] = READER.read(PoolSettings, part.table, where)
            if look:
                _check_directory(str(pools[name].directory or ""), where, "directory")
    problems.raise_any()
    return pools


def _site_tables(parts: list[Part]) -> Iterator[Part]:
    for part in parts:
        sites = part.table.get("site", [])
        if not isinstance(sites, list):
            raise BadConfig(part.where.named("site"), "site", "must be tables in a list: [[site]]")
        for number, table in enumerate(sites, 1):
            where = part.where.table("site", number)
            if not isinstance(table, dict):
                raise BadConfig(where.named(), "", "must be a table: [[site]]")
            yield Part(table, where, part.base)


def _needs_site(listen: ListenSettings) -> bool:
    """Whether some listener asks the sites what a path means."""
    return len(listen.given) < sum(1 for _ in listen.every())


def _sites(
    parts: list[Part], limits: Limits, look: bool, memory: Memory
) -> tuple[SiteSettings, ...]:
    problems = Problems()
    sites: list[SiteSettings] = []
    taken: dict[str, Where] = {}
    tables = [part.table.get("pool") for part in parts]
    pools = frozenset(name for table in tables if isinstance(table, dict) for name in table)
    before, memory.sites = memory.sites, (kept := {})
    for number, part in enumerate(_site_tables(parts), 1):
        with problems.caught():
            key = (part.base, _first_host(part.table))
            known = before.get(key)
            if known is None or (known.table, known.limits, known.pools) != (
                part.table, limits, pools
            ):  # fmt: skip
                known = Known(part.table, limits, pools, _site(part, limits, pools))
            sites.append(known.site)
            if look:
                _look_at_site(known.site, part.where)
            _check_hosts(known.site, part.where, taken, default=number == 1)
            kept[key] = known
    problems.raise_any()
    return tuple(sites)


def _first_host(table: Table) -> str:
    hosts = table.get("hosts")
    return str(hosts[0]) if isinstance(hosts, list) and hosts else ""


def _site(part: Part, limits: Limits, pools: frozenset[str]) -> SiteSettings:
    where = part.where
    site = READER.read(SiteSettings, paths.of_place(part.table, part.base), where, limits)
    _check_site(site, where, pools)
    if site.limits != limits:
        _check_limits(site.limits, where)
    return site


def _check_hosts(
    site: SiteSettings, where: Where, taken: dict[str, Where], *, default: bool
) -> None:
    """Refuse hosts that no request can name, and those that two sites claim."""
    if not site.hosts and not default:
        why = "missing: without a host only the first site is ever found"
        raise BadConfig(where.named(), "hosts", why)
    for host in site.hosts:
        if _HOST.fullmatch(host) is None:
            why = f'"{host}" is not a host: a name in lower case, without port or path'
            raise BadConfig(where.named("hosts"), "hosts", why)
        if host in taken:
            why = f'"{host}" is taken by {taken[host].named()}'
            raise BadConfig(where.named("hosts"), "hosts", why)
        taken[host] = where  # its line is looked up only for a message: that reads the whole file


def _check_site(site: SiteSettings, where: Where, pools: frozenset[str]) -> None:
    """Refuse what the site's routes cannot do together."""
    problems = Problems()
    with problems.caught():
        if not site.root and not site.route:
            raise BadConfig(where.named(), "", "has neither root nor [[site.route]]")
        _check_names(site.environment, where)
    for number, route in enumerate(site.route, 1):
        place = where.table("route", number)
        with problems.caught():
            _check_route(route, site, place, pools)
            if route.limits != site.limits:
                _check_limits(route.limits, place)
    problems.raise_any()


def _look_at_site(site: SiteSettings, where: Where) -> None:
    """Refuse directories and accounts that are not there."""
    problems = Problems()
    with problems.caught():
        _check_directory(site.root, where, "root")
        _check_account(site.user, where, "user")
    for number, route in enumerate(site.route, 1):
        if route.root or isinstance(route.cgi, str):
            place = where.table("route", number)
            with problems.caught():
                _check_directory(route.root, place, "root")
                if isinstance(route.cgi, str):
                    _check_directory(route.cgi, place, "cgi")
    problems.raise_any()


def _check_names(variables: Mapping[str, str], where: Where) -> None:
    for name in variables:
        if _VARIABLE.fullmatch(name) is None:
            why = f'"{name}" cannot be the name of a variable'
            raise BadConfig(where.named("environment"), "environment", why)


def _check_route(
    route: RouteSettings, site: SiteSettings, where: Where, pools: frozenset[str]
) -> None:
    if route.pool and route.pool not in pools:
        known = f"; there are {', '.join(sorted(pools))}" if pools else ""
        why = f"there is no [pool.{route.pool}]{known}"
        raise BadConfig(where.named("pool"), "pool", why)
    if (route.cgi is True or route.fastcgi) and not route.root and not site.root:
        raise BadConfig(where.named(), "", "looks for scripts below the root, and there is no root")
    _check_names(route.environment, where)
    for extension, program in route.interpreters.items():
        if not extension.startswith(".") or not program.startswith("/"):
            why = f'"{extension}" = "{program}" must be like ".pl" = "/usr/bin/perl"'
            raise BadConfig(where.named("interpreters"), "interpreters", why)
    for other in site.route[: site.route.index(route)]:
        if (other.path, other.match) == (route.path, route.match):
            raise BadConfig(where.named(), "", "an earlier route takes exactly the same paths")


def runtime_of(file: str) -> str:
    """Return the runtime directory that a settings file names, or "".

    Nothing else is read, so that a daemon can be asked also while its file has mistakes. Raises
    BadConfig.
    """
    main = Files(Memory()).open(file)
    part = _section(main, "server", paths.of_keys("runtime"))
    runtime = part.table.get("runtime", "")
    if not isinstance(runtime, str):
        raise BadConfig(part.where.named("runtime"), "runtime", "must be a string in quotes")
    return runtime
