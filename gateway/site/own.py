"""A tenant that has settings of its own: on which terms its pages are served.

Decides the order in which they count for a request: who may see the path, whether it has gone
elsewhere, what it means, and how it is refused. A local redirect goes through all of it again. The
terms are the keeper's word, which is believed about its own tenant alone; they are asked for when
the file is not the one that was asked about last. While it is wrong, or nobody can say, nothing of
this tenant is served: what a password protects must not open by a mistake.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import NamedTuple

from gateway.backends.basic import Basic
from gateway.backends.errorpages import ErrorPages
from gateway.backends.redirects import Redirects
from gateway.exchange import Refused, Request, Response
from gateway.journal import Journal
from gateway.process.channel import (
    Check,
    Checked,
    TermsAre,
    WantTerms,
)
from gateway.process.remote import RemoteKeeper
from gateway.process.spec import SpawnFailed
from gateway.process.terms import Area, Terms, decode, names_of
from gateway.site.following import Following
from gateway.site.map import Site, SiteMap
from gateway.site.path import UrlPath, joined, split
from gateway.site.path import decode as decoded

PATIENCE = 10.0
"""Seconds that the keeper may take to answer."""
SETTLED = 1.0
"""Seconds since its last change after which a further change of a file surely shows."""
ASK_AGAIN = 0.3
"""Seconds after which the keeper is asked again about a file that may have changed unseen."""
REFUSED = 1.0
"""Seconds for which what was wrong is taken to be so, while the file is the same."""

_RETRY = ((b"Retry-After", b"3"),)

Context = AbstractAsyncContextManager[Response]


class Seen(NamedTuple):
    """Which file it is, as far as can be seen without opening it."""

    identity: tuple[int, int, int, int, int]
    changed: float
    """Seconds since the epoch."""

    @classmethod
    def of(cls, info: os.stat_result) -> "Seen":
        times = info.st_mtime_ns, info.st_ctime_ns
        identity = (info.st_dev, info.st_ino, *times, info.st_size)
        return cls(identity, info.st_ctime_ns / 1e9)


UNKNOWN = Seen((0, 0, 0, 0, 0), float("inf"))
"""There may be a file."""


class _Rules(NamedTuple):
    """Terms, ready to be followed."""

    map: SiteMap
    basic: Basic | None
    redirects: Redirects | None
    errors: ErrorPages


class OwnSite:
    """The pages of such a tenant, as a handler."""

    def __init__(
        self,
        name: str,
        prefix: tuple[bytes, ...],
        compose: Callable[[Terms], Site],
        keeper: RemoteKeeper,
        journal: Journal,
    ) -> None:
        """`prefix` is what the paths of its URLs begin with: (b"~alice",), or () for a host."""
        self._name = name
        self._prefix = prefix
        self._compose = compose
        self._keeper = keeper
        self._journal = journal
        self._plain = compose(Terms())
        self._seen = UNKNOWN
        self._missing = False
        self._known: _Rules | Refused | None = None
        self._about = UNKNOWN
        """The file that `_known` is about."""
        self._until = 0.0
        self._asking: asyncio.Task[_Rules] | None = None

    def saw(self, seen: Seen) -> None:
        """Learn which file is there now."""
        self._seen = seen
        self._missing = False

    def missed(self) -> bool:
        """Learn that there is none; return whether that is news."""
        news, self._missing = not self._missing, True
        return news

    def __call__(self, request: Request) -> Context:
        request.notes.site = self._plain.name
        request.notes.limits = self._plain.limits
        request.notes.logs = self._plain.logs
        return _Visit(self, request)

    async def rules(self, request: Request) -> _Rules:
        """Return what counts now. Raises Refused."""
        known = self._known
        if self._about != self._seen or time.monotonic() >= self._until or known is None:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
                self._asking.add_done_callback(self._asked)
            try:
                return await asyncio.shield(self._asking)
            except Refused as refused:
                known = refused
        if isinstance(known, Refused):
            request.notes.route = self._name
            # Made anew: one exception that many raise would hold on to the frames of all.
            raise Refused(known.status, known.say, log=known.log, headers=known.headers)
        return known

    def _asked(self, asking: "asyncio.Task[_Rules]") -> None:
        self._asking = None
        if not asking.cancelled():
            asking.exception()  # told to those who wait, if any still do

    async def _ask(self) -> _Rules:
        """Ask the keeper, and remember what it says. Raises Refused."""
        seen = self._seen
        try:
            known: _Rules | Refused = self._made(decode(await self._terms()))
        except SpawnFailed as failed:
            headers = _RETRY if failed.status == 503 else ()
            known = Refused(failed.status, _SAY, log=failed.why, headers=headers)
        except ValueError as error:
            log = f"the keeper says what cannot be its tenant's settings: {error}"
            known = Refused(502, _SAY, log=log)
        self._known, self._about = known, seen
        if isinstance(known, Refused):
            self._until = time.monotonic() + REFUSED
            raise known
        settled = time.time() - seen.changed > SETTLED
        self._until = float("inf") if settled else time.monotonic() + ASK_AGAIN
        return known

    async def _terms(self) -> bytes:
        answer = await self._keeper.ask(WantTerms(self._name), patience=PATIENCE)
        if not isinstance(answer, TermsAre):
            raise ValueError("it answers another question")
        return answer.data

    def _made(self, terms: Terms) -> _Rules:
        prefix = joined(self._prefix)
        rules = _Rules(
            map=SiteMap(self._compose(terms)),
            basic=Basic(terms.auth, self._check) if terms.auth else None,
            redirects=Redirects(terms.redirects, prefix) if terms.redirects else None,
            errors=ErrorPages(terms.error_pages, self._page, self._journal),
        )
        return rules

    async def _check(self, area: Area, origin: bytes, user: bytes, password: bytes) -> bool:
        """Whether the keeper finds a password right. Raises Refused."""
        check = Check(self._name, area.path, origin, user, password)
        try:
            answer = await self._keeper.ask(check, patience=PATIENCE)
        except SpawnFailed as failed:
            say = "Too many wrong passwords." if failed.status == 429 else _SAY
            headers = _RETRY if failed.status in (429, 503) else ()
            raise Refused(failed.status, say, log=failed.why, headers=headers) from None
        if not isinstance(answer, Checked):
            raise Refused(
                502, _SAY, log="the keeper answers another question than about a password"
            )
        return answer.right

    def below(self, path: UrlPath) -> tuple[bytes, ...]:
        """Return the components of a path without the prefix. Raises Refused outside of it."""
        depth = len(self._prefix)
        if path.names[:depth] != self._prefix:
            raise Refused(404)
        return path.names[depth:]

    def _page(self, request: Request, page: bytes) -> Context:
        """Get the page for an error, which is a file and nothing else. Raises Refused."""
        known = self._known
        if not isinstance(known, _Rules):
            raise Refused(404)
        return Admission(self, known, _led_to(request, joined(self._prefix) + page), page=True)


_SAY = "The settings of this site are not in order."


def _led_to(request: Request, path: bytes) -> Request:
    """Return the request with another path, which is decoded and so is encoded here."""
    raw = b"".join([b"%%%02X" % byte if byte in b"%?#" else bytes((byte,)) for byte in path])
    return request._replace(target=raw, path=raw)


class _Visit:
    """One exchange with such a tenant."""

    __slots__ = ("_context", "_request", "_site")

    def __init__(self, site: OwnSite, request: Request) -> None:
        self._site = site
        self._request = request

    async def __aenter__(self) -> Response:
        site, request = self._site, self._request
        rules = await site.rules(request)

        def again(request: Request) -> Context:
            return Admission(site, rules, request)

        self._context = rules.errors.around(request, Following(request, again(request), again))
        return await self._context.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._context.__aexit__(kind, error, trace)


class Admission:
    """One path of such a tenant: first who may see it, then what it is."""

    __slots__ = ("_context", "_page", "_request", "_rules", "_site")

    def __init__(
        self, site: OwnSite, rules: _Rules, request: Request, *, page: bool = False
    ) -> None:
        """`page`: it is wanted for an error, so it may be nothing but a file."""
        self._site = site
        self._rules = rules
        self._request = request
        self._page = page
        self._context: Context | None = None

    async def __aenter__(self) -> Response:
        rules, request = self._rules, self._request
        path = split(decoded(request.path))
        names = self._site.below(path)
        if rules.basic is not None:
            request = await rules.basic.admit(request, names_of(b"/".join(names)))
        if rules.redirects is not None and not self._page:
            end = b"/" if path.directory and names else b""
            gone = rules.redirects.find((joined(names) or b"/") + end, request.query)
            if gone is not None:
                return gone
        target = rules.map.remembered.get(request.path) or rules.map.find(request.path)
        if self._page and target.follow:
            raise Refused(404)
        target.note(request)
        self._context = target.handler(request)
        return await self._context.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if self._context is None:
            return None
        return await self._context.__aexit__(kind, error, trace)
