"""Floor 6: which part of a site a web server in front of us must hand over, and through what door.

Decides that from the settings alone. Must not know how any such server is configured
(`config/blocks.py`) nor look at the disk.

Whatever is handed over is answered right, since every rule of a site is ours to apply. So a share
is generous: routes, everything that looks like a program's text (FIELD section 3, row 7: a server
that does not know what `*.cgi` means sends it), names that start with a dot. What is left are plain
files, which the server in front may send itself.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.config.settings import Settings
from gateway.exchange import Limits, Via
from gateway.listeners.listening import Listener, RelayListener
from gateway.process.spec import SymlinkPolicy
from gateway.site.site import RouteSettings, SiteSettings

MARGIN = 15
"""Seconds that a server in front waits longer than we do, so that our reason is the one logged."""

_PLAIN = re.compile(r"[A-Za-z0-9/_~@:,-]")
_NOT_QUOTED = re.compile(r'["\\$`{}\x00-\x1f\x7f]')
_NOT_BARE = re.compile(r"[\s\"'\\$`{}|;#,()<>\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The listener that the server in front connects to."""

    protocol: Via
    path: str = ""
    """Of a Unix socket; else host and port."""
    host: str = ""
    port: int = 0
    group: str = ""
    """Whose members may open the Unix socket, where the settings name one."""
    trusted: bool = True
    """Whether what the server in front says about a client is believed, as far as we can tell."""
    keep: int = 50
    """Seconds that it may keep an idle connection: fewer than we do, so that who asks closes."""

    @property
    def authority(self) -> str:
        """Host and port as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Some paths of a site that are ours."""

    pattern: str
    """A regular expression for a decoded path, found anywhere in it, with case ignored. It is made
    of what PCRE and RE2 read alike, and holds no quote, backslash, brace or blank."""
    why: str
    """For a comment, of printable ASCII."""
    authorization: bool = False
    """Whether the program there is given the Authorization header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One site, as a server in front must know it."""

    hosts: tuple[str, ...]
    root: str
    """Where its plain files are; empty: it has none, and all of it is ours."""
    index: tuple[str, ...]
    symlinks: SymlinkPolicy
    areas: tuple[Area, ...]
    body: int
    """Bytes of the largest request body that any of its routes takes."""
    patience: int
    """Seconds of silence after which we have given up, whatever the route."""

    @property
    def pattern(self) -> str:
        """All areas in one expression."""
        return "|".join(area.pattern for area in self.areas)

    @property
    def authorization(self) -> bool:
        """Whether any program of the site is given the Authorization header."""
        return any(area.authorization for area in self.areas)


def door(settings: Settings, protocols: Sequence[Via]) -> Door:
    """Return the first listener, in this order of protocols, that can be written into a block.

    Raises ValueError that says why there is none.
    """
    for protocol in protocols:
        reasons = []
        for via, _, listener in settings.listen.every():
            if via != protocol:
                continue
            if not (why := _against(listener)):
                return _door(protocol, listener, settings.limits)
            reasons.append(f'listen.{protocol} "{listener.address}" {why}')
        if reasons:  # rather than take a door that was not meant
            raise ValueError("; ".join(reasons))
    raise ValueError(f"[listen] has no {' nor '.join(protocols)} address that it could connect to")


def shares(settings: Settings) -> tuple[Share, ...]:
    """Return all sites in the order of the settings. Raises ValueError for an unwritable root."""
    hidden = [
        route.cgi for site in settings.site for route in site.route if isinstance(route.cgi, str)
    ]
    shares = tuple(_share(site, hidden) for site in settings.site)
    tenants = settings.tenants
    if tenants is None:
        return shares
    if tenants.userdir:
        homes = Area(pattern="^/~", why="the pages of users")
        shares = tuple(replace(share, areas=(homes, *share.areas)) for share in shares)
    if tenants.hosts or not shares:
        everything = Area(pattern="^/", why="the pages of tenants")
        limits = settings.limits
        # Only we know which of the hosts that no site names are a tenant's.
        shares = (
            *(share for share in shares if share.hosts),
            Share(
                hosts=(),
                root="",
                index=(),
                symlinks=tenants.symlinks,
                areas=(everything,),
                body=limits.request_body,
                patience=_silence(limits) + MARGIN,
            ),
        )
    return shares


def _share(site: SiteSettings, directories: Iterable[str]) -> Share:
    limits = (site.limits, *(route.limits for route in site.route))
    return Share(
        hosts=site.hosts,
        root=quotable(site.root, "root"),
        index=tuple(quotable(name, "index") for name in site.index),
        symlinks=site.symlinks,
        areas=tuple(_areas(site, directories)),
        body=max(one.request_body for one in limits),
        patience=max(map(_silence, limits)) + MARGIN,
    )


def _against(listener: Listener) -> str:
    """Return why a block cannot be written for a listener, or ""."""
    if listener.address.inherited:
        return "is opened by somebody else: only its .socket unit says where"
    if isinstance(listener, RelayListener) and listener.script == "param":
        return 'runs what the server in front names; a block is for one with script = "map"'
    if _NOT_BARE.search(listener.address.path):
        return "has a character that only a quoted name may have; choose another path"
    return ""


def _silence(limits: Limits) -> int:
    return round(max(limits.wait + limits.first_byte, limits.idle, limits.body))


def _door(protocol: Via, listener: Listener, limits: Limits) -> Door:
    address = listener.address
    return Door(
        protocol=protocol,
        path=address.path,
        host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host),
        port=address.port,
        group=listener.group,
        trusted=protocol != "http" or listener.trust is not None,
        keep=max(1, int(limits.keepalive * 5 / 6)),
    )


def quotable(text: str, key: str) -> str:
    """Return text that may stand between double quotes in every server's language.

    Raises ValueError for what would need an escape that they write differently.
    """
    if found := _NOT_QUOTED.search(text):
        raise ValueError(f'{key} = "{text}" has {found[0]!r}, which cannot be written in a block')
    return text


# Paths


def _areas(site: SiteSettings, directories: Iterable[str]) -> Iterator[Area]:
    """Give what is ours, the most telling first. Each pattern stands there once."""
    if not site.root:
        wanted = any(route.authorization for route in site.route)
        yield Area(pattern="^/", why="the site has no root: all of it", authorization=wanted)
        return
    seen = set()
    for area in (*map(_of_route, site.route), *_around(site, directories)):
        if area.pattern not in seen:
            seen.add(area.pattern)
            yield area


def _of_route(route: RouteSettings) -> Area:
    start = _below(route.path) if route.path else ""
    what = f'path = "{route.path}"' if route.path else f'match = "{route.match}"'
    if route.match:
        # With what editors and packagers leave beside a program, which is its text all the same.
        name = f"/[^/]*{_glob(route.match).removeprefix('[^/]*')}[^/]*(?:/|$)"
        start = f"^{_literal(route.path.rstrip('/'))}.*{name}" if route.path else name
        what = f'{what}, match = "{route.match}"' if route.path else what
    return Area(pattern=start, why=_printable(what), authorization=route.authorization)


def _around(site: SiteSettings, directories: Iterable[str]) -> Iterator[Area]:
    """Give what no route takes, and must yet not be sent as a plain file."""
    root = os.path.normpath(site.root).rstrip("/") + "/"
    for directory in directories:
        inside = os.path.normpath(directory) + "/"
        if inside.startswith(root):
            path = inside.removeprefix(root)
            yield Area(pattern=_below(f"/{path}"), why="a directory of scripts below the root")
    yield Area(pattern="/[.]", why="names that start with a dot: 404, but for /.well-known/")
    globs = [re.compile(_glob(route.match), re.IGNORECASE) for route in site.route if route.match]
    if site.listing or any(glob.search(name) for glob in globs for name in site.index):
        yield Area(pattern="/$", why="directories: a listing, or an index that is a script")


def _below(path: str) -> str:
    """Return the expression for a path and all below it: whole components, as routes have it."""
    return f"^{_literal(path.rstrip('/'))}(?:/|$)" if path.strip("/") else "^/"


def _literal(text: str) -> str:
    """Return an expression that fits `text`, and more where a character would need a backslash."""
    return "".join(map(_one, text))


def _one(character: str) -> str:
    if _PLAIN.fullmatch(character):
        return character
    if character == ".":
        return "[.]"
    return "[^/]" if character.isascii() else "[^/]+"  # a byte, or the bytes of one


def _glob(glob: str) -> str:
    """Return an expression for a shell pattern. It fits at least what the pattern fits."""
    pieces = re.findall(r"\*+|\?|\[[!^]?\]?[^\]]*\]|.", glob, re.DOTALL)
    return "".join(
        "[^/]*" if piece[0] == "*" else "[^/]+" if piece == "?" or len(piece) > 1 else _one(piece)
        for piece in pieces
    )


def _printable(text: str) -> str:
    return re.sub(r"[^ -~]", "?", text)
