"""The handler of a front: which site a request belongs to, and local redirects.

Decides the site: the exact name of the host, then the longest pattern, else the first site. What
the path means there is `site/map.py`. Must not know how a handler answers, nor anything of settings
files: `config/assemble.py` gives it composed sites. Local redirects: RFC 3875 section 6.2.2.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import NamedTuple

from gateway.exchange import NO_BODY, Handler, LocalRedirect, Ready, Refused, Request, Response
from gateway.site.discovery import Discovery
from gateway.site.map import Route, Site, SiteMap, Target, sources
from gateway.site.path import decode

__all__ = ["Later", "Route", "Router", "Site", "sources"]

REDIRECTS = 10
"""Local redirects in a row; Apache's LimitInternalRecursion has the same bound."""

_OPTIONS = Ready(
    Response(status=200, headers=((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),))
)
_OF_THE_BODY = frozenset(
    (
        b"content-encoding",
        b"content-language",
        b"content-length",
        b"content-location",
        b"content-md5",
        b"content-range",
        b"content-type",
        b"digest",
        b"expect",
        b"trailer",
        b"transfer-encoding",
    )
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
            return Following(site, request, target.handler)
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


class Following:
    """The answer of a program, and of those that its local redirects lead to, in the same site.

    A redirect is answered as a GET without a body (RFC 3875 section 6.2.2), with the fields of the
    first request except those that describe its body. The router is asked anew, so a redirect can
    reach nothing that a client could not.
    """

    __slots__ = ("_context", "_request", "_site")

    def __init__(self, site: SiteMap, request: Request, handler: Handler) -> None:
        self._site = site
        self._request = request
        self._context = handler(request)

    async def __aenter__(self) -> Response:
        for _ in range(REDIRECTS + 1):
            try:
                return await self._context.__aenter__()
            except LocalRedirect as redirect:
                self._context = self._follow(redirect.location)
        raise Refused(502, log=f"more than {REDIRECTS} local redirects in a row")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._context.__aexit__(kind, error, trace)

    def _follow(self, location: bytes) -> AbstractAsyncContextManager[Response]:
        target = location.partition(b"#")[0]
        raw, _, query = target.partition(b"?")
        try:
            decode(raw)
        except Refused as refused:
            log = f"a local redirect leads to a path that is not valid: {refused.say}"
            raise Refused(502, log=log) from None
        headers = tuple(item for item in self._request.headers if item[0] not in _OF_THE_BODY)
        params = self._request.params
        self._request = request = self._request._replace(
            method="GET",
            target=target,
            path=raw,
            query=query,
            headers=headers,
            body=NO_BODY,
            length=0,
            params={name: params[name] for name in params if name != b"DOCUMENT_URI"},
        )
        found = self._site.remembered.get(raw) or self._site.find(raw)
        found.note(request)
        return found.handler(request)
