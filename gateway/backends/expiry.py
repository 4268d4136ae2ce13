"""How long a file may be kept by a browser or a cache: Cache-Control and Expires (RFC 9111 5).

Decides the fields by the file's name. Must not know how a file is found or sent: it stands around
the handler of a directory. What needed a password is for its reader's own cache alone ("private").
"""

import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from types import TracebackType

from gateway.exchange import Handler, Ready, Request, Response
from gateway.wire.fields import http_date

_STATUSES = (200, 206, 304)
"""What is, or renews, a copy of the file."""
_REPLACED = (b"cache-control", b"expires")


class Expiring:
    """The handler of a directory of files, with ages."""

    def __init__(self, inner: Handler, rules: Sequence[tuple[bytes, int]]) -> None:
        """`rules` are (b"logo.png", b"*.css" or b"*"; seconds); the first that fits counts."""
        self._inner = inner
        self._rules = rules

    def __call__(self, request: Request) -> AbstractAsyncContextManager[Response]:
        entry = self._inner(request)
        name = request.notes.place.file.rpartition(b"/")[2]
        seconds = next((age for pattern, age in self._rules if _fits(pattern, name)), None)
        if not name or seconds is None:
            return entry
        private = b"AUTH_TYPE" in request.params
        if type(entry) is Ready:
            return Ready(_dated(entry.response, seconds, private))
        return _Dated(entry, seconds, private)


class _Dated:
    """An answer that was not ready."""

    __slots__ = ("_entry", "_private", "_seconds")

    def __init__(
        self, entry: AbstractAsyncContextManager[Response], seconds: int, private: bool
    ) -> None:
        self._entry = entry
        self._seconds = seconds
        self._private = private

    async def __aenter__(self) -> Response:
        return _dated(await self._entry.__aenter__(), self._seconds, self._private)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._entry.__aexit__(kind, error, trace)


def _fits(pattern: bytes, name: bytes) -> bool:
    # No regular expression: whoever writes the patterns must not choose what they cost.
    return name.endswith(pattern[1:]) if pattern.startswith(b"*") else name == pattern


def _dated(response: Response, seconds: int, private: bool) -> Response:
    if response.status not in _STATUSES:
        return response
    kept = tuple(item for item in response.headers if item[0].lower() not in _REPLACED)
    control = b"private, max-age=%d" if private else b"max-age=%d"
    fields = (
        (b"Cache-Control", control % seconds),
        (b"Expires", http_date(int(time.time()) + seconds)),
    )
    return replace(response, headers=kept + fields, encoded=b"")
