"""Files that a program names instead of sending them: X-Sendfile and its relatives.

Decides which file a program's answer names, whether it may, and how it is answered with. The
program is let go of as soon as the file is open, so a slow client holds a file and not a worker.

- `X-Sendfile` and `X-LIGHTTPD-send-file` hold an absolute path, as it is (nothing is decoded),
  below one of the route's `sendfile` directories. `X-Accel-Redirect` holds the path of a URL, which
  is decoded once; the longest of the route's `accel` prefixes that fits says the directory.
- The keeper opens the file, so only what the program's own user may read is sent (FIELD section 3,
  row 8), and no link leads out of the directory. Nothing of a request chooses any of this.
- The file is sent with the program's status and fields, but for those that describe a body: length,
  entity tag and date are the file's. An answer of 200 heeds conditions and ranges.
- An HTTP client never sees the three names, even where a route allows no file: they tell where
  things are. Such an answer is refused like that of any other file which is not allowed, since its
  own body is empty as a rule, and an empty page would tell nobody why.
- An answer for a front server (FastCGI, SCGI) passes as it is: that server has rules of its own.

Refusals: 404 for what is not there or no regular file, 403 for what lies elsewhere or may not be
read (lighttpd and nginx say the same), 502 for a value that cannot be meant. Each says in the log
which it was.
"""

import asyncio
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from types import TracebackType
from urllib.parse import unquote_to_bytes

from gateway.backends import entity, mime
from gateway.backends.copies import SETTLED
from gateway.exchange import (
    Body,
    FileSpan,
    Handler,
    Headers,
    Refused,
    Request,
    Response,
    Truncated,
)
from gateway.journal import Journal
from gateway.process.remote import RemoteKeeper
from gateway.process.spec import SpawnFailed
from gateway.wire.fields import http_date

DROP_MAX = 65536
"""Bytes of a program's own body that are read and dropped, so that it may end in peace."""

QUICK = 0.1
"""Seconds for that, where the client waits for a refusal."""

ACCEL = b"x-accel-redirect"
NAMES = (b"x-sendfile", b"x-lighttpd-send-file", ACCEL)
"""In the order in which they count."""

_OF_A_BODY = frozenset(
    (
        b"accept-ranges",
        b"content-digest",
        b"content-length",
        b"content-md5",
        b"content-range",
        b"digest",
        b"etag",
        b"last-modified",
        b"repr-digest",
        *NAMES,
    )
)
"""Fields of a program's answer that are not true of the file."""

_NOT_IN_304 = (b"content-disposition", b"content-encoding", b"content-language", b"content-type")
_NO_BODY = (204, 304)
_NOSNIFF = (b"X-Content-Type-Options", b"nosniff")

_bad_escape = re.compile(rb"%(?![0-9A-Fa-f]{2})").search

_Places = list[tuple[bytes, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendfileSettings:
    """What the programs of one route may have sent."""

    roots: Mapping[bytes, str] = field(default_factory=dict)
    """Absolute directory -> the key under which the keeper knows it."""
    accel: Mapping[bytes, str] = field(default_factory=dict)
    """Prefix of a URL's path, whole components -> the key of the directory that it stands for."""


class Sendfile:
    """The handler of a route to programs, around the one that runs them."""

    def __init__(
        self, inner: Handler, settings: SendfileSettings, keeper: RemoteKeeper, journal: Journal
    ) -> None:
        self.inner = inner
        self.keeper = keeper
        self.journal = journal
        self._roots = _longest_first(settings.roots)
        self._accel = _longest_first(settings.accel)

    def __call__(self, request: Request) -> AbstractAsyncContextManager[Response]:
        entry = self.inner(request)
        return entry if request.via != "http" else Naming(self, request, entry)

    def place(self, name: bytes, value: bytes) -> tuple[str, bytes]:
        """Return the key of a directory, and the path below it that `value` names.

        Raises Refused: 502 for a value that cannot be meant, 403 for one that is not allowed.
        """
        path, places, setting = value, self._roots, "sendfile"
        if name == ACCEL:
            path, places, setting = value.partition(b"?")[0], self._accel, "accel"
            if _bad_escape(path):
                raise _refused(502, name, f'"{_text(value)}" has a bad percent escape')
            path = unquote_to_bytes(path)
        if not path.startswith(b"/"):
            raise _refused(502, name, f'"{_text(value)}" is not an absolute path')
        for base, key in places:
            if path.startswith(base):
                return key, path[len(base) :].lstrip(b"/")
        why = f'"{_text(value)}" is below nothing that {setting} of this route lists'
        raise _refused(403, name, why)


class Naming:
    """One exchange whose program may name a file."""

    __slots__ = ("_entry", "_fd", "_finishing", "_request", "_sendfile")

    def __init__(
        self, sendfile: Sendfile, request: Request, entry: AbstractAsyncContextManager[Response]
    ) -> None:
        self._sendfile = sendfile
        self._request = request
        self._entry: AbstractAsyncContextManager[Response] | None = entry
        """The program's own; None once it is left."""
        self._fd = -1
        self._finishing: asyncio.Task[None] | None = None
        """Leaves the program, once a file takes the place of its body."""

    async def __aenter__(self) -> Response:
        assert self._entry is not None
        response = await self._entry.__aenter__()
        names = [item for item in response.headers if item[0].lower() in NAMES]
        if not names:
            return response
        entered = False
        try:
            asked = _asked(names)
            if asked is None or response.status in _NO_BODY:
                kept = tuple(item for item in response.headers if item not in names)
                answer = replace(response, headers=kept, encoded=b"")
            else:
                answer = await self._named(response, *asked)
            entered = True
            return answer
        except Refused:
            await self._end_soon(response.body)
            raise
        finally:
            if not entered:
                await self._cut()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        finishing = self._finishing
        if finishing is None:
            entry, self._entry = self._entry, None
            return None if entry is None else await entry.__aexit__(kind, error, trace)
        try:
            if error is None:
                await asyncio.wait((finishing,))  # it takes twice the grace at most
        finally:
            await self._cut()
        if error is None:
            finishing.result()  # what nobody expects is told
        return None

    async def _named(self, response: Response, name: bytes, value: bytes) -> Response:
        """Return the answer with the file that is named. Raises Refused."""
        key, path = self._sendfile.place(name, value)
        request = self._request
        try:
            self._fd = await self._sendfile.keeper.open(
                key, path, patience=request.notes.limits.wait
            )
        except SpawnFailed as failed:
            raise _refused(failed.status, name, failed.why) from None
        answer = _answer(request, response, self._fd, path)
        self._finishing = asyncio.create_task(self._finish(response.body))
        return answer

    async def _finish(self, body: Body) -> None:
        """Let the program end in peace, if it soon does, and leave it."""
        request = self._request
        why: Exception | None = None
        try:
            async with asyncio.timeout(request.notes.limits.grace):
                await _drop(body)
        except TimeoutError:
            why = Truncated("it does not end its answer")
        except (Refused, ConnectionError, Truncated) as error:
            why = error
            text = f"after it had named a file: {str(error) or type(error).__name__}"
            script = request.notes.script
            self._sendfile.journal.write("warn", text, subject=script, request=request.id)
        entry, self._entry = self._entry, None
        if entry is not None:
            await entry.__aexit__(None if why is None else type(why), why, None)

    async def _end_soon(self, body: Body) -> None:
        """The file is not sent: a program that is done may end in peace all the same."""
        self._finishing = asyncio.create_task(self._finish(body))
        await asyncio.wait((self._finishing,), timeout=QUICK)

    async def _cut(self) -> None:
        """Leave all that is not left yet. Never waits."""
        if self._finishing is not None:
            self._finishing.cancel()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        entry, self._entry = self._entry, None
        if entry is not None:
            await entry.__aexit__(Truncated, Truncated("its body is not wanted"), None)


def _answer(request: Request, response: Response, fd: int, path: bytes) -> Response:
    """Return the program's answer with the open file as its body. Raises Refused (412, 416)."""
    info = os.fstat(fd)
    size = info.st_size
    etag, mtime, _ = entity.validators(info, SETTLED)
    fields = [item for item in response.headers if item[0].lower() not in _OF_A_BODY]
    kinds = [value for name, value in fields if name.lower() == b"content-type"]
    if not kinds:
        kinds = [mime.content_type(mime.table(), path.rpartition(b"/")[2])]
        fields += [(b"Content-Type", kinds[0]), _NOSNIFF]
    fields += [(b"Last-Modified", http_date(mtime)), (b"ETag", etag)]
    whole = FileSpan(fd, 0, size)
    if response.status != 200 or request.method not in ("GET", "HEAD"):
        return Response(
            status=response.status, reason=response.reason, headers=tuple(fields), body=whole
        )
    if entity.unchanged(request, etag, mtime):
        kept = tuple(item for item in fields if item[0].lower() not in _NOT_IN_304)
        return Response(status=304, headers=kept)
    headers: Headers = (*fields, (b"Accept-Ranges", b"bytes"))
    spans = entity.wanted(request, size, etag, mtime)
    if spans is None:
        return Response(status=200, reason=response.reason, headers=headers, body=whole)
    if len(spans) > 1:
        return entity.several(headers, fd, spans, size, kinds[0])
    start, stop = spans[0]
    return entity.part(headers, start, stop, size, FileSpan(fd, start, stop - start))


async def _drop(body: Body) -> None:
    """Read what the program still says. Raises Truncated when it is too much to be by chance."""
    if isinstance(body, bytes | FileSpan):
        return
    dropped = 0
    while piece := await body.read():
        dropped += len(piece)
        if dropped > DROP_MAX:
            raise Truncated(f"it wrote more than {DROP_MAX} bytes beside it, which nobody gets")


def _asked(names: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes] | None:
    """Return which of the names counts, and its value; None if all are empty."""
    given = {name.lower(): value for name, value in reversed(names) if value}
    return next(((name, given[name]) for name in NAMES if name in given), None)


def _longest_first(places: Mapping[bytes, str]) -> _Places:
    bases: Iterable[tuple[bytes, str]] = (
        (place.rstrip(b"/") + b"/", key) for place, key in places.items()
    )
    return sorted(bases, key=lambda item: len(item[0]), reverse=True)


def _refused(status: int, name: bytes, why: str) -> Refused:
    headers = ((b"Retry-After", b"1"),) if status == 503 else ()
    say = "" if status in (403, 404) else "The program's answer could not be completed."
    return Refused(status, say, log=f"{_SPELT[name]}: {why}", headers=headers)


_SPELT = {
    b"x-sendfile": "X-Sendfile",
    b"x-lighttpd-send-file": "X-LIGHTTPD-send-file",
    ACCEL: "X-Accel-Redirect",
}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
