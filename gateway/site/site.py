"""The settings of a site and of its routes, as they stand in the file.

Decides the keys and their defaults; the text under each field is its manual. Must not know how the
file is read (`reading.py`) nor what the values are made into (`config/assemble.py`): paths are
still relative and nothing is opened here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from gateway.exchange import Limits
from gateway.process.spec import SymlinkPolicy

_NOTHING: Mapping[str, str] = MappingProxyType({})


def _nothing() -> Mapping[str, str]:
    return _NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """`[[site.route]]`: what happens to a part of a site's paths.

    Routes are tried in the order in which they are written; the first that fits is taken. What no
    route takes is a static file below the site's root.

    Raises ValueError for keys that contradict each other.
    """

    path: str = ""
    """Take this path and everything below it: "/cgi-bin/". It fits whole components only: "/app"
    takes "/app" and "/app/x", never "/apple". Percent signs are not escapes here."""
    match: str = ""
    """Take each file whose name fits this shell pattern: "*.cgi". Upper and lower case differ. With
    `path`, only below that path."""
    root: str = ""
    """The directory that `path` stands for, where it is not below the site's root. With neither
    `cgi`, `fastcgi` nor `pool`, its files are sent as they are."""
    cgi: str | bool = False
    """The directory of CGI scripts that `path` stands for, or true: the files that `match` fits are
    CGI scripts."""
    fastcgi: bool = False
    """Whether each file that `match` fits is a FastCGI program, which becomes a pool of its own."""
    pool: str = ""
    """The name of the `[pool.NAME]` that answers: for everything below `path`, as an application;
    or for the files that `match` fits, as scripts which the pool's program reads ("*.php")."""
    start: Literal["auto", "warm", "exec", "persistent"] = "auto"
    """How a CGI script is started: "exec" always as a new program, "warm" as a fork of an
    interpreter that is ready, "auto" warm where that is possible. "persistent" runs it again and
    again in one process: for scripts that were written, or tried, for that; see the README."""
    authorization: bool = False
    """Whether the program is given the request's Authorization header."""
    stream: bool = False
    """Whether a body of unknown length goes to the script as it comes, without CONTENT_LENGTH; else
    it is stored first."""
    interpreters: Mapping[str, str] = field(default_factory=_nothing)
    """Extension to interpreter, for scripts that are not executable: { ".pl" = "/usr/bin/perl" }.
    """
    environment: Mapping[str, str] = field(default_factory=_nothing)
    """Variables for this route's scripts, added to those of the site."""
    sendfile: tuple[str, ...] = ()
    """Directories whose files the programs may have sent by naming them in X-Sendfile, if their
    user may read them. On HTTP; a front server is passed the header and decides itself."""
    accel: Mapping[str, str] = field(default_factory=_nothing)
    """The same for X-Accel-Redirect: prefix of the path to directory, { "/files/" = "files" }."""
    limits: Limits = field(default_factory=Limits)
    """The site's limits with those that stand in this route."""

    def __post_init__(self) -> None:
        programs = (self.cgi is not False) + self.fastcgi + bool(self.pool)
        for prefix in self.accel:
            if not prefix.startswith("/"):
                raise ValueError(f'accel: the prefix "{prefix}" must start with "/"')
        if (self.sendfile or self.accel) and not programs:
            raise ValueError('"sendfile" and "accel" are for routes to programs')
        if not self.path and not self.match:
            raise ValueError('a route needs "path" or "match"')
        if self.path and not self.path.startswith("/"):
            raise ValueError(f'path = "{self.path}" must start with "/"')
        if "/" in self.match:
            raise ValueError(f'match = "{self.match}" is for a file name: it cannot hold "/"')
        if programs > 1:
            raise ValueError('a route has one of "cgi", "fastcgi" and "pool"')
        if not programs and not self.root:
            raise ValueError('a route needs "cgi", "fastcgi", "pool" or "root"')
        if isinstance(self.cgi, str) and not self.path:
            raise ValueError("cgi names a directory, so the route needs a path")
        if isinstance(self.cgi, str) and self.root:
            raise ValueError('"cgi" names the directory already; "root" is one too many')
        if not programs and self.match:
            raise ValueError('"match" is for scripts; a route to static files has "path"')
        if self.fastcgi and not self.match:
            raise ValueError('fastcgi = true needs "match": the files that are FastCGI programs')


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings:
    """`[[site]]`: some hosts, a directory, and routes. The first site answers for unknown hosts."""

    hosts: tuple[str, ...] = ()
    """Names this site answers to: "example.org", or "*.example.org" for every name below it. An
    exact name is preferred to a pattern, a longer pattern to a shorter one."""
    root: str = ""
    """The directory that "/" stands for. Empty: the site has no files."""
    index: tuple[str, ...] = ("index.html",)
    """Names that are looked for, in this order, when a directory is asked for."""
    listing: bool = False
    """Whether a directory without any of them is listed; else the answer is 403."""
    user: str = ""
    """The account that runs the site's scripts, where the server was started as root. Empty: the
    server's own."""
    environment: Mapping[str, str] = field(default_factory=_nothing)
    """Variables for the site's scripts."""
    symlinks: SymlinkPolicy = "owner-match"
    """Symbolic links that a path may go through: "none"; "owner-match", those that belong to the
    owner of what they point to; "any", all that stay below the root. An absolute link is never
    followed."""
    route: tuple[RouteSettings, ...] = ()
    """`[[site.route]]`, in the order in which they are tried."""
    limits: Limits = field(default_factory=Limits)
    """The general limits with those that stand in this site."""

    def __post_init__(self) -> None:
        for name in self.index:
            if "/" in name or name in ("", ".", ".."):
                raise ValueError(f'index = "{name}" must be a file name')
        for host in self.hosts:
            if not host or host != host.lower() or "*" in host.removeprefix("*."):
                raise ValueError(
                    f'hosts: "{host}" must be a name in lower case, or "*." and a name'
                )
