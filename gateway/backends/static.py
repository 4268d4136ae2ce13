"""Static files (RFC 9110); what is done with an open one is in `entity.py`.

Decides how a file, a directory or their absence is answered. Must not know which URL leads to which
file: the router has put that into `request.notes.place`, whose `file` ends with a slash where a
directory was asked for. Every file is opened with `open_beneath`, so nothing outside the root is
ever sent, and only regular files are; what `sources` hides is not there.
"""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from os import stat as stat_file
from time import monotonic
from types import TracebackType
from urllib.parse import quote_from_bytes

from gateway.backends import entity, listing, mime
from gateway.backends.copies import Copy, Shelf
from gateway.backends.sources import Sources
from gateway.exchange import FileSpan, Headers, Place, Refused, Request, Response
from gateway.process.beneath import open_beneath
from gateway.process.spec import SymlinkPolicy
from gateway.units import Size
from gateway.wire.fields import accepts_coding

WHOLE = 256 << 10
"""Largest file that is read and sent in one write. Measured: above it sendfile wins."""

METHODS = b"GET, HEAD, OPTIONS"

_NEIGHBOURS = ((b"br", b".br"), (b"gzip", b".gz"))
"""Codings of compressed neighbours, the smaller first."""

# A FIFO or a device must not hold us up, nor a terminal become ours.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_CLOEXEC

_ABSENT = (
    errno.EINVAL,
    errno.ENAMETOOLONG,
    errno.ENODEV,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENXIO,  # a socket
)
_LINKS = (errno.ELOOP, errno.EXDEV)
_EXHAUSTED = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)

_LISTING_HEADERS: Headers = (
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'"),
)

_SAFE = "/!$&'()*+,;=:@"
"""What RFC 3986 section 3.3 allows in a path beside the unreserved characters."""

_ATTEMPTS = 4
"""Times that a file which changes while it is opened is opened again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticSettings:
    """One directory of files."""

    root: bytes
    """Absolute. It may be a link; it is resolved anew each time, so a deployment can move it."""
    listing: bool = False
    """Whether a directory without an index file is listed; else 403."""
    symlinks: SymlinkPolicy = "owner-match"
    sources: Sources = field(default_factory=Sources)
    """The text of programs, never sent."""
    types: Mapping[bytes, bytes] = field(default_factory=mime.table)
    """Extension, lower case, to Content-Type."""
    cache: Size = Size(8 << 20)
    """Memory for small files, in bytes."""


class Changed(Exception):
    """A file is no longer what was remembered of it."""


class Static:
    """The handler of one directory. For one event loop: it has no locks."""

    __slots__ = ("_base", "_get", "_root", "_shelf", "settings")

    def __init__(self, settings: StaticSettings, shelf: Shelf | None = None) -> None:
        """`shelf` is shared by handlers whose files cannot be the same; else each has its own."""
        self.settings = settings
        self._root = settings.root.rstrip(b"/") or b"/"
        self._base = settings.root.rstrip(b"/") + b"/"
        self._shelf = shelf or Shelf(settings.cache)
        self._get = self._shelf.get

    def __call__(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """Answer from memory where nothing has changed: that costs one stat and opens nothing.

        The comparison is `Copy.same`, written out: a call would be a tenth of the whole.
        """
        copy = self._get(request.notes.place.file)
        if (
            copy is None
            or (ready := copy.ready) is None
            or request.method != "GET"
            or monotonic() >= copy.until
        ):
            return Sending(self, request)
        try:
            info = stat_file(copy.file)
        except OSError:
            return Sending(self, request)
        if (
            info.st_ctime_ns != copy.ctime_ns
            or info.st_ino != copy.ino
            or info.st_size != copy.size
            or info.st_mtime_ns != copy.mtime_ns
            or info.st_dev != copy.dev
        ):
            return Sending(self, request)
        watched = copy.watched
        for name, _ in request.headers:
            if name in watched:
                return Sending(self, request)
        return ready

    def answer(self, request: Request) -> tuple[Response, int]:
        """Return the answer and the descriptor that it needs open, or -1. Raises Refused."""
        if request.method not in ("GET", "HEAD"):
            allow = ((b"Allow", METHODS),)
            if request.method == "OPTIONS":
                return Response(status=204, headers=allow), -1
            raise Refused(405, "This is a file: it can only be read.", headers=allow)
        file = request.notes.place.file
        for _ in range(_ATTEMPTS):
            try:
                if file.endswith(b"/"):
                    return self._directory(request.notes.place), -1
                copy = self._current(file)
                if copy is None:
                    return _with_slash(request), -1
                return self._send(copy, request)
            except Changed:
                self._shelf.drop(file)
            except OSError as error:
                raise _refused(error, file, self.settings.symlinks) from None
        raise Refused(503, log=f"{os.fsdecode(file)} changes faster than it can be read")

    def _current(self, file: bytes) -> Copy | None:
        """Return the description of a file as it is now, or None for a directory."""
        copy = self._get(file)
        if copy is not None and monotonic() < copy.until and copy.same(stat_file(file)):
            return copy
        path = file[len(self._base) :]
        root_fd = self._open_root()
        try:
            copy = self._describe(root_fd, path, b"")
            others = () if copy is None else tuple(self._neighbours(root_fd, copy))
        finally:
            os.close(root_fd)
        if copy is None:
            self._shelf.drop(file)
            return None
        content_type = mime.content_type(self.settings.types, path.rpartition(b"/")[2])
        for other in others:
            other.finish(content_type, ())
        copy.finish(content_type, others)
        self._shelf.put(copy)
        return copy

    def _open_root(self) -> int:
        try:
            return os.open(self._root, _LOOK | os.O_DIRECTORY)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            log = f"the site's root {os.fsdecode(self._root)} cannot be opened: {why}"
            raise Refused(503 if error.errno in _EXHAUSTED else 404, log=log) from None

    def _describe(self, root_fd: int, path: bytes, coding: bytes) -> Copy | None:
        """Open, look at and close one file; None for a directory.

        Raises OSError: ENOENT also for what is not a regular file or must not be sent.
        """
        try:
            fd = open_beneath(root_fd, path, _READ, self.settings.symlinks)
        except PermissionError:
            # A directory that may be entered but not read is still one.
            fd = open_beneath(root_fd, path, _LOOK, self.settings.symlinks)
            try:
                if stat.S_ISDIR(os.fstat(fd).st_mode):
                    return None
            finally:
                os.close(fd)
            raise
        try:
            info = os.fstat(fd)
            if stat.S_ISDIR(info.st_mode):
                return None
            if not stat.S_ISREG(info.st_mode) or self.settings.sources.hide(fd):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            copy = Copy(self._base + path, path, info, coding)
            if copy.keepable and not coding:
                copy.data = _read(fd, 0, copy.size)  # saves opening it again at once
            return copy
        finally:
            os.close(fd)

    def _neighbours(self, root_fd: int, copy: Copy) -> Iterator[Copy]:
        """Find the compressed forms of a file; one older than the file is out of date."""
        if copy.path.endswith(tuple(suffix for _, suffix in _NEIGHBOURS)):
            return
        for coding, suffix in _NEIGHBOURS:
            try:
                other = self._describe(root_fd, copy.path + suffix, coding)
            except OSError:
                continue
            if other is not None and other.mtime_ns >= copy.mtime_ns:
                yield other

    def _send(self, copy: Copy, request: Request) -> tuple[Response, int]:
        """Answer with a file or one of its compressed forms. Raises Changed, Refused, OSError."""
        headers = request.headers
        chosen = copy
        for other in copy.others:
            if accepts_coding(headers, other.coding):
                if not _is_same(other):
                    raise Changed
                chosen = other
                break
        if entity.unchanged(request, chosen.etag, chosen.mtime):
            return chosen.unchanged.response, -1
        spans = entity.wanted(request, chosen.size, chosen.etag, chosen.mtime)
        if spans is None and chosen.ready is not None:
            return chosen.ready.response, -1
        if spans is not None and len(spans) == 1 and chosen.data is not None:
            start, stop = spans[0]
            data = chosen.data[start:stop]
            return entity.part(chosen.headers, start, stop, chosen.size, data), -1
        return self._send_open(copy, chosen, spans, request.method == "HEAD")

    def _send_open(
        self, main: Copy, copy: Copy, spans: entity.Spans | None, head: bool
    ) -> tuple[Response, int]:
        fd = self._reopen(copy)
        keep = False
        try:
            if spans is not None and len(spans) > 1:
                keep = True
                kind = copy.content_type
                return entity.several(copy.headers, fd, spans, copy.size, kind), fd
            start, stop = spans[0] if spans else (0, copy.size)
            body: bytes | FileSpan
            if head or stop - start > WHOLE:
                keep = True
                body = FileSpan(fd, start, stop - start)
            else:
                body = _read(fd, start, stop)
                if spans is None:
                    self._shelf.hold(main, copy, body)
            if spans:
                response = entity.part(copy.headers, start, stop, copy.size, body)
            else:
                response = _whole(copy, body)
            return response, fd if keep else -1
        finally:
            if not keep:
                os.close(fd)

    def _reopen(self, copy: Copy) -> int:
        """Open a file that was described, under the same rules. Raises Changed, OSError."""
        root_fd = self._open_root()
        try:
            fd = open_beneath(root_fd, copy.path, _READ, self.settings.symlinks)
        except OSError:
            if copy.coding:
                raise Changed from None  # the file itself may still be there
            raise
        finally:
            os.close(root_fd)
        if not copy.same(os.fstat(fd)):
            os.close(fd)
            raise Changed
        return fd

    def _directory(self, place: Place) -> Response:
        """List a directory, if that is allowed. Raises Refused, OSError."""
        path = place.file[len(self._base) :] or b"."
        root_fd = self._open_root()
        try:
            if not self.settings.listing:
                os.close(open_beneath(root_fd, path, _LOOK, self.settings.symlinks))
                raise Refused(403, "This directory has no index file, and it is not listed.")
            found, complete = listing.entries(root_fd, path, self.settings.symlinks)
        finally:
            os.close(root_fd)
        body = listing.page(place.script_name, found, complete)
        return Response(status=200, headers=_LISTING_HEADERS, body=body)


class Sending:
    """One answer that was not ready. Nothing is opened before it is entered."""

    __slots__ = ("_fd", "_request", "_static")

    def __init__(self, static: Static, request: Request) -> None:
        self._static = static
        self._request = request
        self._fd = -1

    async def __aenter__(self) -> Response:
        response, self._fd = self._static.answer(self._request)
        return response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def _is_same(copy: Copy) -> bool:
    try:
        return copy.same(stat_file(copy.file))
    except OSError:
        return False


def _read(fd: int, start: int, stop: int) -> bytes:
    """Return that part of a file. Raises Changed when it is no longer there."""
    data = os.pread(fd, stop - start, start)
    while start + len(data) < stop:
        more = os.pread(fd, stop - start - len(data), start + len(data))
        if not more:
            raise Changed
        data += more
    return data


def _whole(copy: Copy, body: bytes | FileSpan) -> Response:
    return Response(status=200, headers=copy.headers, body=body, encoded=copy.encoded)


def _with_slash(request: Request) -> Response:
    """Send the client to the directory's own URL, so that relative links in its index work.

    The place is made anew from the decoded path, which starts with exactly one slash, and encoded:
    neither "//evil.example" nor "/\\evil.example" can become another host.
    """
    location = quote_from_bytes(request.notes.place.script_name, _SAFE).encode() + b"/"
    if request.query:
        location += b"?" + request.query
    return Response(status=301, headers=((b"Location", location),))


def _refused(error: OSError, file: bytes, symlinks: SymlinkPolicy) -> Refused:
    """Return what an error of the file system means to the client and to the operator."""
    why = os.strerror(error.errno or 0)
    name = os.fsdecode(file)
    if error.errno in _ABSENT:
        return Refused(404)
    if error.errno in _LINKS:
        log = f'{name} leads through a link that symlinks = "{symlinks}" does not allow ({why})'
        return Refused(404, log=log)
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refused(403, log=f"the gateway's account may not read {name}")
    return Refused(503 if error.errno in _EXHAUSTED else 500, log=f"cannot read {name}: {why}")
