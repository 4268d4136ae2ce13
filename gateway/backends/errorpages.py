"""Pages of a site's own for what is refused, instead of ours.

Decides which refusals get one and what its head is: the status and the fields of the refusal, the
content of the page. Must not know where a page is: `fetch` gets it, by a way that has no error
pages, so none leads to another. A page that cannot be had is ours. What a program answers by itself
is the program's, whatever its status.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from types import TracebackType

from gateway.backends.copies import CONDITIONAL
from gateway.exchange import NO_BODY, Refused, Request, Response
from gateway.journal import Journal

_OF_THE_FILE = frozenset(
    (b"accept-ranges", b"cache-control", b"etag", b"expires", b"last-modified")
)
"""Fields of the page that are not true of the answer."""

Context = AbstractAsyncContextManager[Response]


@dataclass(frozen=True, slots=True)
class ErrorPages:
    """The pages of one site."""

    pages: Mapping[int, bytes]
    """Status -> what `fetch` is asked for."""
    fetch: Callable[[Request, bytes], Context]
    """Get a page for this request."""
    journal: Journal

    def around(self, request: Request, entry: Context) -> Context:
        """Return `entry`, with a page where it refuses."""
        return _Paged(self, request, entry) if self.pages else entry


class _Paged:
    """One exchange that may be refused."""

    __slots__ = ("_entry", "_errors", "_request")

    def __init__(self, errors: ErrorPages, request: Request, entry: Context) -> None:
        self._errors = errors
        self._request = request
        self._entry = entry
        """What is entered: the answer, or the page."""

    async def __aenter__(self) -> Response:
        try:
            return await self._entry.__aenter__()
        except Refused as refused:
            page = self._errors.pages.get(refused.status)
            if page is None:
                raise
            response = await self._fetched(page)
            if response is None:
                raise
            if refused.log:
                notes = self._request.notes
                self._errors.journal.write(
                    "error",
                    refused.log,
                    subject=notes.script or notes.route,
                    request=self._request.id,
                )
            kept = tuple(item for item in response.headers if item[0].lower() not in _OF_THE_FILE)
            fields = (*kept, (b"Cache-Control", b"no-store"), *refused.headers)
            return replace(response, status=refused.status, headers=fields, encoded=b"")

    async def _fetched(self, page: bytes) -> Response | None:
        """Return the page, entered; None if it cannot be had."""
        request = self._request
        notes = request.notes
        before = notes.place, notes.route, notes.limits
        asked = request._replace(
            method="HEAD" if request.method == "HEAD" else "GET",
            query=b"",
            headers=tuple(item for item in request.headers if item[0] not in CONDITIONAL),
            body=NO_BODY,
            length=0,
        )
        try:
            entry = self._errors.fetch(asked, page)
            response = await entry.__aenter__()
        except Refused:
            return None
        finally:
            notes.place, notes.route, notes.limits = before
        if response.status != 200:
            await entry.__aexit__(None, None, None)
            return None
        self._entry = entry
        return response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._entry.__aexit__(kind, error, trace)
