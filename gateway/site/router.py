"""The handler of a front: which site a request belongs to, and local redirects.

Decides the site: the exact name of the host, then the longest pattern, else the first site. What
the path means there is `site/map.py`. Must not know how a handler answers, nor anything of settings
files: `config/assemble.py` gives it composed sites. Local redirects: RFC 3875 section 6.2.2.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from gateway.exchange import NO_BODY, Handler, LocalRedirect, Ready, Refused, Request, Response
from gateway.site.map import Route, Site, SiteMap, sources
from gateway.site.path import decode

__all__ = ["Route", "Router", "Site", "sources"]

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


class Router:
    """The handler of a front: hands each request to the backend that its URL belongs to."""

    def __init__(self, sites: Sequence[Site]) -> None:
        """Take the sites; the first answers for hosts that none of them names."""
        if not sites:
            raise ValueError("no site")
        self._exact: dict[bytes, SiteMap] = {}
        self._below: dict[bytes, SiteMap] = {}
        maps = [SiteMap(site) for site in sites]
        self._default = maps[0]
        for site_map in maps:
            for host in site_map.site.hosts:
                names = self._below if host.startswith(b"*.") else self._exact
                names.setdefault(host.removeprefix(b"*"), site_map)

    def __call__(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """Find the backend and return its answer's context. Raises Refused."""
        site = self._exact.get(request.host) or self._site(request.host)
        target = site.remembered.get(request.path)
        notes = request.notes
        if target is None:
            if request.path == b"*":
                return _of_the_server(request)
            notes.site = site.site.name
            notes.limits = site.site.limits
            target = site.find(request.path)
        notes.site = target.site  # Target.note, written out
        notes.route = target.route
        notes.kind = target.kind
        notes.limits = target.limits
        notes.place = target.place
        if target.follow:
            return Following(site, request, target.handler)
        return target.handler(request)

    def _site(self, host: bytes) -> SiteMap:
        below = self._below
        if b"." not in host or not (below or host.endswith(b".")):
            return self._default
        host = host.removesuffix(b".")  # a fully qualified name is the same name
        if found := self._exact.get(host):
            return found
        at = host.find(b".", 1)  # the pattern stands for at least one character
        while at >= 0:
            if found := below.get(host[at:]):
                return found
            at = host.find(b".", at + 1)
        return self._default


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
