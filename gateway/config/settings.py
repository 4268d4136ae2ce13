"""Floor 6: the whole settings file as values, and what in it contradicts itself.

Decides which tables a file may hold, how files are included, that relative paths start at the file
that names them, and which combinations are refused. The settings of sites and pools stand beside
the code that they tune (`site/site.py`, `backends/pool.py`). Must not open a socket or a log.
"""

import glob
import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from gateway.backends.pool import PoolSettings
from gateway.config import paths
from gateway.config.read import LATER, BadConfig, Form, Problems, Reader, Table, Where, parse
from gateway.config.read import unknown as unknown_key
from gateway.exchange import Limits
from gateway.listeners.accesslog import Format
from gateway.listeners.sockets import Address, parse_address
from gateway.site.site import RouteSettings, SiteSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """`[server]`: the processes."""

    user: str = ""
    """The fronts' account when started as root, and that of sites without one of their own. Without
    meaning otherwise."""
    fronts: int | Literal["auto"] = 1
    """Front processes; "auto" is one for each processor core."""
    runtime: str = ""
    """The directory of sockets and pid file. Empty: a private one that goes when the daemon goes.
    """
    broken_script: Literal[502, 500] = 502
    """The status of an answer that cannot be understood, or of none."""

    @property
    def front_count(self) -> int:
        """How many fronts that is on this machine."""
        return len(os.sched_getaffinity(0)) if self.fronts == "auto" else self.fronts


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    """`[listen]`: where requests come from."""

    http: tuple[Address, ...] = (Address(host="127.0.0.1", port=8080),)
    """Sockets that speak HTTP."""
    fastcgi: tuple[Address, ...] = ()
    """Sockets that speak FastCGI, for a front server."""
    scgi: tuple[Address, ...] = ()
    """Sockets that speak SCGI, for a front server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """`[log]`: reopened on SIGUSR1."""

    access: str = "-"
    """A file, "-" for standard output, or "off"."""
    error: str = "-"
    """A file, "-" for standard error, or "off"."""
    format: Format = "combined"
    """How an access record is written; see `listeners/accesslog.py`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the daemon is told."""

    server: ServerSettings = field(default_factory=ServerSettings)
    listen: ListenSettings = field(default_factory=ListenSettings)
    log: LogSettings = field(default_factory=LogSettings)
    limits: Limits = field(default_factory=Limits)
    site: tuple[SiteSettings, ...]
    """The first is the default site."""
    pool: Mapping[str, PoolSettings] = field(default_factory=dict)


READER = Reader(
    forms={
        Address: Form(
            parse_address, 'an address such as "127.0.0.1:8080" or "unix:/run/gateway/http.sock"'
        )
    },
    later={ListenSettings: frozenset({"fastcgi", "scgi"})},
)
_MAIN = {"include", "server", "listen", "log", "limits", "site", "pool"}
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
        listen = _listen(_section(main, "listen", paths.of_listen))
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
    sites: tuple[SiteSettings, ...] = ()
    with problems.caught():
        sites = _sites(parts, limits, look)
    problems.raise_any()
    return Settings(server=server, listen=listen, log=log, limits=limits, site=sites, pool=pools)


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
            if key == "tenants":
                raise BadConfig(where, key, LATER)
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
        _check_user(server.user, part.where)
    return server


def _listen(part: _Part) -> ListenSettings:
    listen = READER.read(ListenSettings, part.table, part.where)
    where = part.where.named("http")
    if not listen.http:
        raise BadConfig(where, "http", "names no address, so nothing would be served")
    for address in listen.http:
        if listen.http.count(address) > 1:
            raise BadConfig(where, "http", f'"{address}" stands there twice')
    return listen


def _check_limits(limits: Limits, where: Where) -> None:
    problems = Problems()
    for item in fields(Limits):
        may_be_zero = item.name in ("request_body", "queue", "grace", "drain")
        if not may_be_zero and not getattr(limits, item.name):
            with problems.caught():
                raise BadConfig(where.named(item.name), item.name, "must be more than 0")
    problems.raise_any()


def _check_user(user: str, where: Where) -> None:
    if user:
        try:
            pwd.getpwnam(user)
        except KeyError:
            raise BadConfig(where.named("user"), "user", f'no such account: "{user}"') from None


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


def _sites(parts: list[_Part], limits: Limits, look: bool) -> tuple[SiteSettings, ...]:
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
    if not number:
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
            _check_user(site.user, where)
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
    if route.start == "warm":
        raise BadConfig(where.named("start"), "start", f'"warm" is {LATER}; use "auto"')
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
