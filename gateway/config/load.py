"""Floor 6: a settings file and what it includes become `Settings`, or all that is wrong in them.

Decides which tables a file may hold, how files are included, that relative paths start at the file
that names them, and which combinations are refused. The values are `settings.py`. Must not open a
socket or a log.
"""

import glob
import grp
import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace

from gateway.address import Address
from gateway.backends.pool import PoolSettings
from gateway.config import paths
from gateway.config.read import LATER, BadConfig, Problems, Table, Where, parse
from gateway.config.read import unknown as unknown_key
from gateway.config.settings import (
    READER,
    ListenSettings,
    LogSettings,
    ServerSettings,
    Settings,
)
from gateway.exchange import Limits
from gateway.listeners.listening import Listener, RelayListener
from gateway.site.site import RouteSettings, SiteSettings
from gateway.site.tenants import TenantsSettings

_MAIN = {"include", "server", "listen", "log", "limits", "site", "pool", "tenants"}
_INCLUDED = {"site", "pool"}
_POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")  # it becomes part of a socket's path
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")


@dataclass(frozen=True, slots=True)
class _Part:
    """One table with the file that it came from."""

    table: Table
    where: Where
    base: str
    """The directory of that file, absolute."""


def load(file: str, *, look: bool = True) -> Settings:
    """Read a settings file and what it includes.

    With `look`, directories that are named must exist. Raises BadConfig with all that is wrong.
    """
    problems = Problems()
    main = _open(file)
    parts = [main]
    with problems.caught():
        _known(main, _MAIN)
    with problems.caught():
        parts += _included(main, file)
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
        sites = _sites(parts, limits, look, needed=_needs_site(listen) and tenants is None)
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


# Files


def _open(file: str) -> _Part:
    try:
        with open(file, encoding="utf-8") as stream:
            text = stream.read()
    except OSError as error:
        raise BadConfig(file, "", f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadConfig(file, "", f"not UTF-8 text: byte {error.start}") from None
    base = os.path.dirname(os.path.abspath(file))
    return _Part(parse(text, file), Where(file, text), base)


def _included(main: _Part, file: str) -> list[_Part]:
    """Return the files that `include` names: those of each pattern sorted, each file once."""
    patterns = main.table.get("include", [])
    where = main.where.named("include")
    if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
        raise BadConfig(where, "include", 'must be a list such as ["sites.d/*.toml"]')
    problems = Problems()
    parts, seen = [], {os.path.realpath(file)}
    for pattern in patterns:
        found = sorted(glob.glob(os.path.join(os.path.dirname(file), pattern)))
        with problems.caught():
            if not found and not glob.has_magic(pattern):
                raise BadConfig(where, "include", f'no such file: "{pattern}"')
        for name in found:
            with problems.caught():
                if os.path.realpath(name) == os.path.realpath(file):
                    raise BadConfig(where, "include", f'"{pattern}" includes this file itself')
                if os.path.realpath(name) not in seen:
                    seen.add(os.path.realpath(name))
                    parts.append(_open(name))
    problems.raise_any()
    return parts


def _known(part: _Part, known: set[str]) -> None:
    problems = Problems()
    for key in part.table:
        with problems.caught():
            where = part.where.named(key)
            if key not in known:
                if key in _MAIN:
                    raise BadConfig(where, key, "only the main file may have it")
                raise BadConfig(where, key, unknown_key(key, known))
    problems.raise_any()


def _section(
    main: _Part, name: str, anchored: Callable[[Table, str], Table] = lambda table, _: table
) -> _Part:
    """Return a table of the main file, empty when it is not there, its paths made absolute."""
    table = main.table.get(name, {})
    if not isinstance(table, dict):
        raise BadConfig(main.where.named(name), name, f"must be a table: [{name}]")
    return _Part(anchored(table, main.base), main.where.table(name), main.base)


# Sections


def _server(part: _Part, look: bool) -> ServerSettings:
    server = READER.read(ServerSettings, part.table, part.where)
    if server.fronts == 0:
        raise BadConfig(part.where.named("fronts"), "fronts", 'must be at least 1, or "auto"')
    if look:
        _check_account(server.user, part.where, "user")
    return server


def _listen(part: _Part, look: bool) -> ListenSettings:
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


def _pool_tables(parts: list[_Part]) -> Iterator[tuple[str, _Part]]:
    """Give each pool's name and table. Raises BadConfig for what is not a table."""
    for part in parts:
        pools = part.table.get("pool", {})
        if not isinstance(pools, dict):
            raise BadConfig(part.where.named("pool"), "pool", "must be tables: [pool.NAME]")
        for name, table in pools.items():
            where = part.where.table("pool").table(name)
            if not isinstance(table, dict):
                raise BadConfig(where.named(), name, "must be a table: [pool.NAME]")
            yield name, _Part(paths.of_pool(table, part.base), where, part.base)


def _pools(parts: list[_Part], look: bool) -> dict[str, PoolSettings]:
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


def _site_tables(parts: list[_Part]) -> Iterator[tuple[Table, Where]]:
    for part in parts:
        sites = part.table.get("site", [])
        if not isinstance(sites, list):
            raise BadConfig(part.where.named("site"), "site", "must be tables in a list: [[site]]")
        for number, table in enumerate(sites, 1):
            where = part.where.table("site", number)
            if not isinstance(table, dict):
                raise BadConfig(where.named(), "", "must be a table: [[site]]")
            yield paths.of_place(table, part.base), where


def _needs_site(listen: ListenSettings) -> bool:
    """Whether some listener asks the sites what a path means."""
    return len(listen.given) < sum(1 for _ in listen.every())


def _sites(
    parts: list[_Part], limits: Limits, look: bool, *, needed: bool
) -> tuple[SiteSettings, ...]:
    problems = Problems()
    sites: list[SiteSettings] = []
    taken: dict[str, str] = {}
    tables = [part.table.get("pool") for part in parts]
    pools = {name for table in tables if isinstance(table, dict) for name in table}
    number = 0
    for number, (table, where) in enumerate(_site_tables(parts), 1):
        with problems.caught():
            site = READER.read(SiteSettings, table, where, limits)
            sites.append(site)
            _check_site(site, where, pools, look)
            if site.limits != limits:
                _check_limits(site.limits, where)
            _check_hosts(site, where, taken, default=number == 1)
    if needed and not number:
        with problems.caught():
            raise BadConfig(parts[0].where.named(), "", "no [[site]], so nothing would be served")
    problems.raise_any()
    return tuple(sites)


def _check_hosts(site: SiteSettings, where: Where, taken: dict[str, str], *, default: bool) -> None:
    """Refuse hosts that no request can name, and those that two sites claim."""
    if not site.hosts and not default:
        why = "missing: without a host only the first site is ever found"
        raise BadConfig(where.named(), "hosts", why)
    for host in site.hosts:
        if _HOST.fullmatch(host) is None:
            why = f'"{host}" is not a host: a name in lower case, without port or path'
            raise BadConfig(where.named("hosts"), "hosts", why)
        if host in taken:
            raise BadConfig(where.named("hosts"), "hosts", f'"{host}" is taken by {taken[host]}')
        taken[host] = where.named()


def _check_site(site: SiteSettings, where: Where, pools: set[str], look: bool) -> None:
    """Refuse what the site's routes cannot do together."""
    problems = Problems()
    with problems.caught():
        if not site.root and not site.route:
            raise BadConfig(where.named(), "", "has neither root nor [[site.route]]")
        _check_names(site.environment, where)
        if look:
            _check_directory(site.root, where, "root")
            _check_account(site.user, where, "user")
    for number, route in enumerate(site.route, 1):
        place = where.table("route", number)
        with problems.caught():
            _check_route(route, site, place, pools)
            if route.limits != site.limits:
                _check_limits(route.limits, place)
            if look:
                _check_directory(route.root, place, "root")
                if isinstance(route.cgi, str):
                    _check_directory(route.cgi, place, "cgi")
    problems.raise_any()


def _check_names(variables: Mapping[str, str], where: Where) -> None:
    for name in variables:
        if _VARIABLE.fullmatch(name) is None:
            why = f'"{name}" cannot be the name of a variable'
            raise BadConfig(where.named("environment"), "environment", why)


def _check_route(route: RouteSettings, site: SiteSettings, where: Where, pools: set[str]) -> None:
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
