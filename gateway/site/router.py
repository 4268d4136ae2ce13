"""The handler of a front: which site a request belongs to.

Decides the site: the exact name of the host, then the longest pattern, else the first site. What
the path means there is `site/map.py`. Must not know how a handler answers, nor anything of settings
files: `config/assemble.py` gives it composed sites.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from gateway.exchange import Ready, Refused, Request, Response
from gateway.site.discovery import Discovery
from gateway.site.following import REDIRECTS, Following
from gateway.site.map import Route, Site, SiteMap, Target, sources

__all__ = ["REDIRECTS", "Later", "Route", "Router", "Site", "sources"]

_OPTIONS = Ready(
    Response(status=200, headers=((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),))
)


class Later(NamedTuple):
    """A site that is composed when it is first asked for."""

    hosts: tuple[bytes, ...]
    compose: Callable[[], Site]


class Router:
    """The handler of a front: hands each request to the backend that its URL belongs to.

    Sites are composed when they are first asked for: a front with ten thousand of them starts as
    one with a single site does.
    """

    def __init__(self, sites: Sequence[Later], tenants: Discovery | None = None) -> None:
        """Take the sites; the first answers for hosts that none of them names."""
        self._exact: dict[bytes, SiteMap] = {}
        """Those that were asked for."""
        self._sites = sites
        self._composed: dict[int, SiteMap] = {}
        self._names: dict[bytes, int] = {}
        self._below: dict[bytes, int] = {}
        self._tenants = tenants
        for number, site in enumerate(sites):
            for host in site.hosts:
                names = self._below if host.startswith(b"*.") else self._names
                names.setdefault(host.removeprefix(b"*"), number)

    def __call__(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """Find the backend and return its answer's context. Raises Refused."""
        site = self._exact.get(request.host) or self._site(request.host)
        if self._tenants is not None and request.path.startswith((b"/~", b"/%7")):
            site = self._tenants.userdir(request.path) or site
        if site is None:
            return self._no_site(request)
        if site.own is not None and request.path != b"*":
            return site.own(request)
        target = site.remembered.get(request.path)
        notes = request.notes
        if target is None:
            if request.path == b"*":
                return _of_the_server(request)
            notes.site = site.site.name
            notes.limits = site.site.limits
            notes.logs = site.site.logs
            target = site.find(request.path)
        notes.site = target.site  # Target.note, written out
        notes.route = target.route
        notes.kind = target.kind
        notes.limits = target.limits
        notes.logs = target.logs
        notes.place = target.place
        if target.follow:
            return Following(request, target.handler(request), site.again)
        return target.handler(request)

    def located(self, host: bytes, path: bytes) -> Target:
        """Decide a path as it was sent, and ask nobody for an answer. Raises Refused."""
        site = self._exact.get(host) or self._site(host)
        if self._tenants is not None and path.startswith((b"/~", b"/%7")):
            site = self._tenants.userdir(path) or site
        if site is None:
            raise Refused(404)
        return site.find(path)

    def _site(self, host: bytes) -> SiteMap | None:
        """Return the site of a host that was not asked for by exactly this name yet."""
        named = host.removesuffix(b".")  # a fully qualified name is the same name
        number = self._names.get(named)
        if number is not None:
            site = self._composed_site(number)
            self._exact[named] = site
            return site
        at = named.find(b".", 1) if self._below else -1
        while at >= 0:  # the pattern stands for at least one character
            number = self._below.get(named[at:])
            if number is not None:
                return self._composed_site(number)
            at = named.find(b".", at + 1)
        found = None if self._tenants is None else self._tenants.host(named)
        if found is None and self._sites:
            return self._composed_site(0)
        return found

    def _composed_site(self, number: int) -> SiteMap:
        site = self._composed.get(number)
        if site is None:
            site = self._composed[number] = SiteMap(self._sites[number].compose())
        return site

    def _no_site(self, request: Request) -> AbstractAsyncContextManager[Response]:
        if request.path == b"*":
            return _of_the_server(request)
        raise Refused(404)


def _of_the_server(request: Request) -> AbstractAsyncContextManager[Response]:
    """Answer `OPTIONS *` (RFC 9110 section 9.3.7)."""
    if request.method == "OPTIONS":
        return _OPTIONS
    raise Refused(400, "Only OPTIONS can be asked of the server as a whole.")
