"""The paths of one site: which route and handler each belongs to, and what it resolved to.

Decides that. Must not know hosts (`site/router.py`), nor how a handler answers.

A site's routes are tried as they are written, and the first that fits is taken; then come the files
below its root. What a route fits is told by `Route`. A path none of whose components could be a
script is decided by its bytes alone, and that decision is remembered; a path that could is walked,
and what was found is taken for a second without another walk.

The text of a program is never sent as a file (FIELD section 3, row 7): here by its name in the
URL, in `backends/sources.py` by what the file really is.
"""

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from time import monotonic
from typing import Literal, TypeVar

from gateway.backends.sources import Glob, Rule, Sources
from gateway.exchange import (
    Handler,
    Limits,
    Place,
    Refused,
    Request,
    Response,
    SiteLogs,
)
from gateway.process.spec import SymlinkPolicy
from gateway.site.path import (
    UrlPath,
    components,
    decode,
    encoded_slash,
    find_script,
    joined,
    kind_of,
    split,
)

REMEMBERED = 2048
"""Paths of a site whose decision is kept; clients choose them, so it is emptied when full."""
REMEMBERED_LENGTH = 256
"""Bytes of a path that is remembered."""
TRUST = 1.0
"""Seconds that the script of a path, or the index file of a directory, is taken without looking for
a better one, as long as it is a file. Whoever starts or opens it looks again as carefully."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route, composed.

    With only `prefix` it fits that path and all below it; with only `match` each path with a
    component of such a name that is a regular file; with both, such files below `prefix`.
    """

    key: str
    """"site/number"."""
    name: str
    """For the log."""
    prefix: bytes | None = None
    """Decoded; compared by whole components."""
    match: bytes | None = None
    """A shell pattern for one file name."""
    kind: Literal["script", "static", "app"]
    root: bytes = b""
    """The directory that `prefix`, or "/" where there is none, stands for. Not for an app."""
    below: tuple[bytes, ...] = ()
    """Names that lead to that directory from `root`, where those after `root` belong to somebody
    who may put links there: they are walked under the site's rules for links."""
    handler: Handler
    limits: Limits

    @property
    def directory(self) -> bytes:
        """What `prefix` stands for."""
        return self.root.rstrip(b"/") + joined(self.below) if self.below else self.root


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One site, composed."""

    name: str
    hosts: tuple[bytes, ...] = ()
    """Lower case; b"*.example.org" for every name below it."""
    root: bytes = b""
    """Absolute; DOCUMENT_ROOT."""
    index: tuple[bytes, ...] = (b"index.html",)
    routes: tuple[Route, ...] = ()
    static: Handler | None = None
    """What no route takes; None: nothing is there."""
    limits: Limits
    symlinks: SymlinkPolicy = "owner-match"
    logs: SiteLogs | None = None
    """Its own, beside those of the server."""


def sources(routes: Sequence[Route], others: Sequence[Rule] = ()) -> Sources:
    """Return what `StaticSettings.sources` must be for every static handler of a site.

    `others` are the programs of other sites: what is a script there is not text here, where the two
    share directories.
    """
    rules: list[Rule] = []
    for route in routes:
        if route.kind != "script":
            continue
        if route.match is None:
            rules.append((route.directory, None))
        else:
            rules.append((b"" if route.prefix is None else route.directory, Glob(route.match)))
    return Sources((*rules, *others))


class Target:
    """What a path was decided to be."""

    __slots__ = (
        "follow", "handler", "key", "kind", "limits", "logs", "place", "route", "site",
    )  # fmt: skip

    def __init__(
        self, site: Site, route: Route | None, handler: Handler, place: Place, follow: bool
    ) -> None:
        self.site = site.name
        self.route = route.name if route else ""
        self.key = route.key if route else ""
        self.kind = route.kind if route else "static"
        self.limits = route.limits if route else site.limits
        self.logs = site.logs
        self.handler = handler
        self.place = place
        self.follow = follow
        """Whether it may answer with a local redirect."""

    def note(self, request: Request) -> None:
        """Write the decision where the backend and the access record look for it."""
        notes = request.notes
        notes.site = self.site
        notes.route = self.route
        notes.kind = self.kind
        notes.limits = self.limits
        notes.logs = self.logs
        notes.place = self.place


class SiteMap:
    """The paths of one site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.remembered: dict[bytes, Target] = {}
        """Path as sent -> a decision that the file system has no part in."""
        self._found: dict[bytes, tuple[float, Target]] = {}
        """Path as sent -> until when what was found on the disk may be taken, and that."""
        self.own: Callable[[Request], AbstractAsyncContextManager[Response]] | None = None
        """What answers instead, while a tenant has settings of its own (`own.py`)."""
        self._root = site.root.rstrip(b"/")
        self._rules = tuple(_Rule(route) for route in site.routes)

    def find(self, raw: bytes) -> Target:
        """Decide a path as it was sent. Raises Refused."""
        if (known := self._known(raw)) is not None:
            return known
        path = split(decode(raw))
        slash = encoded_slash(raw)
        whole = len(path.names) if slash < 0 else _components_before(raw, slash)
        walked = False
        for rule in self._rules:
            if not rule.covers(path):
                continue
            if rule.route.kind == "app":
                if rule.depth <= whole:
                    return _remember(self.remembered, raw, self._app(rule, path))
            elif slash >= 0:
                continue
            elif rule.route.kind == "static":
                return self._static(raw, path, rule, walked)
            elif rule.glob is None:
                return self._trusted(raw, self._in_script_directory(rule, path))
            elif any(map(rule.glob.fits, path.names[rule.depth :])):
                walked = True
                if (script := self._script(rule, path)) is not None:
                    return self._trusted(raw, script)
        if slash >= 0:
            raise Refused(404)
        return self._static(raw, path, None, walked)

    def again(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """Answer a request that a local redirect became. Raises Refused."""
        found = self.remembered.get(request.path) or self.find(request.path)
        found.note(request)
        return found.handler(request)

    def _known(self, raw: bytes) -> Target | None:
        known = self._found.get(raw)
        if known is None:
            return None
        until, target = known
        if monotonic() < until and _is_file(target.place.file):
            return target
        del self._found[raw]
        return None

    def _trusted(self, raw: bytes, target: Target) -> Target:
        """Remember what was found for a path for as long as `TRUST` says."""
        _remember(self._found, raw, (monotonic() + TRUST, target))
        return target

    def _app(self, rule: "_Rule", path: UrlPath) -> Target:
        name, info = path.name(rule.depth), path.rest(rule.depth)
        place = Place(root=self._root, file=b"", script_name=name, path_info=info)
        return Target(self.site, rule.route, rule.route.handler, place, follow=True)

    def _script(self, rule: "_Rule", path: UrlPath) -> Target | None:
        """Return the script that a path leads to or through."""
        names = path.names[rule.depth :]
        wanted = rule.glob.fits if rule.glob else None
        route = rule.route
        index = find_script(route.root, names, wanted, self.site.symlinks, route.below)
        if index < 0:
            return None
        info = path.rest(rule.depth + index + 1)
        return self._run(rule, path.names[: rule.depth + index + 1], info)

    def _run(self, rule: "_Rule", names: Sequence[bytes], info: bytes) -> Target:
        place = Place(
            root=self._root,
            file=rule.root + joined(rule.below(names)),
            script_name=joined(names),
            path_info=info,
        )
        return Target(self.site, rule.route, rule.route.handler, place, follow=True)

    def _in_script_directory(self, rule: "_Rule", path: UrlPath) -> Target:
        """Decide a path below a prefix where every file is a script. Raises Refused."""
        if (script := self._script(rule, path)) is not None:
            return script
        if path.directory and not path.hidden(rule.depth):
            for index in self.site.index:
                if self._is_script(rule, (*path.names, index)):
                    return self._run(rule, (*path.names, index), b"")
        raise Refused(404)

    def _is_script(self, rule: "_Rule", names: Sequence[bytes]) -> bool:
        kind = kind_of(rule.route.root, rule.below(names), self.site.symlinks)
        return kind == stat.S_IFREG

    def _static(self, raw: bytes, path: UrlPath, rule: "_Rule | None", walked: bool) -> Target:
        """Decide a path that is no script's. Raises Refused."""
        depth = rule.depth if rule else 0
        known = path.names[:1] == (b".well-known",)  # RFC 8615
        if path.hidden(max(depth, known)):
            raise Refused(404)
        if path.directory:
            target = self._index(path, rule)
            if target is None:
                return self._file(path, rule, path.names, b"/")
            if not target.follow:
                return self._trusted(raw, target)
            return target
        if len(path.names) == depth:  # the prefix of a route without its slash
            return self._file(path, rule, path.names, b"/.")
        if any(script.resembles(path, path.names[-1]) for script in self._rules):
            raise Refused(404)
        target = self._file(path, rule, path.names, b"")
        return target if walked else _remember(self.remembered, raw, target)

    def _file(
        self, path: UrlPath, rule: "_Rule | None", names: Sequence[bytes], end: bytes
    ) -> Target:
        """Hand a file to the handler of its directory. Raises Refused where there is none."""
        handler = rule.route.handler if rule else self.site.static
        if handler is None:
            raise Refused(404)
        below = joined(rule.below(names) if rule else names)
        place = Place(
            root=self._root,
            file=(rule.root if rule else self._root) + below + end,
            script_name=path.clean,
            path_info=b"",
        )
        return Target(self.site, rule.route if rule else None, handler, place, follow=False)

    def _index(self, path: UrlPath, rule: "_Rule | None") -> Target | None:
        """Return what answers for a directory: the first index name that is there."""
        for index in self.site.index:
            names = (*path.names, index)
            script = None if path.hidden(0) else self._index_script(path, names)
            if script is not None:
                return script
            if any(other.resembles(path, index) for other in self._rules):
                continue
            root, below = (rule.route.root, rule.below(names)) if rule else (self.site.root, names)
            if root and kind_of(root, below, self.site.symlinks) == stat.S_IFREG:
                return self._file(path, rule, names, b"")
        return None

    def _index_script(self, path: UrlPath, names: Sequence[bytes]) -> Target | None:
        for rule in self._rules:
            if rule.glob is None or not rule.covers(path) or not rule.glob.fits(names[-1]):
                continue
            if self._is_script(rule, names):
                return self._run(rule, names, b"")
        return None


class _Rule:
    """A route, ready to be compared."""

    __slots__ = ("depth", "glob", "names", "root", "route")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.names = components(route.prefix or b"")
        self.depth = len(self.names)
        self.glob = Glob(route.match) if route.match is not None else None
        self.root = route.root.rstrip(b"/")

    def covers(self, path: UrlPath) -> bool:
        return path.names[: self.depth] == self.names

    def below(self, names: Sequence[bytes]) -> tuple[bytes, ...]:
        """Return the way from the route's root to what a path's components name."""
        return (*self.route.below, *names[self.depth :])

    def resembles(self, path: UrlPath, name: bytes) -> bool:
        """Whether a file of this name at this path may be the text of a script."""
        return self.glob is not None and self.covers(path) and self.glob.resembles(name)


_T = TypeVar("_T")


def _remember(memory: dict[bytes, _T], raw: bytes, decision: _T) -> _T:
    if len(raw) <= REMEMBERED_LENGTH:
        if len(memory) >= REMEMBERED:
            memory.clear()
        memory[raw] = decision
    return decision


def _components_before(raw: bytes, slash: int) -> int:
    """Return how many components end with a slash that is not encoded."""
    return len(split(decode(raw[:slash].rpartition(b"/")[0] + b"/")).names)


def _is_file(path: bytes) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
