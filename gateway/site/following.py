"""Local redirects: a program answers with a path, and that path's answer is sent (RFC 3875 6.2.2).

Decides what request a redirect becomes, and how many follow each other. Must not know what a path
means: the site is asked anew.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from gateway.exchange import NO_BODY, LocalRedirect, Refused, Request, Response
from gateway.site.path import decode

REDIRECTS = 10
"""Local redirects in a row; Apache's LimitInternalRecursion has the same bound."""
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


class Following:
    """The answer of a program, and of those that its local redirects lead to, in the same site.

    A redirect is answered as a GET without a body (RFC 3875 section 6.2.2), with the fields of the
    first request except those that describe its body. The router is asked anew, so a redirect can
    reach nothing that a client could not.
    """

    __slots__ = ("_again", "_context", "_request")

    def __init__(
        self,
        request: Request,
        context: AbstractAsyncContextManager[Response],
        again: Callable[[Request], AbstractAsyncContextManager[Response]],
    ) -> None:
        """`context` is the first answer; `again` gives that of a request made of a redirect."""
        self._again = again
        self._request = request
        self._context = context

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
        return self._again(request)
