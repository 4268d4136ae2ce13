"""What is remembered of static files: their description, and the bytes of the small ones.

Decides when a remembered file may stand for the one on disk. Must not know requests or URLs.

A `Copy` is made from an open descriptor that `open_beneath` gave under the site's rules. Before it
answers, its path is looked at again (one stat, or the fstat of a new descriptor): unless device,
inode, size, mtime and ctime are all as they were, the file is opened anew, so an edit, a chmod or
a new file under the old name shows at once. After `TRUST` seconds everything is opened anew anyway.

What remains: that stat follows links without the site's rules. So a path whose directory was
replaced by a link to the very file that was opened before keeps answering with that file's bytes
for `TRUST` seconds; the bytes of any other file can never come out, because no other file has that
inode and ctime. ctime has the clock's coarse step, so a file that was changed within `SETTLED`
seconds is described but its bytes are not kept, and its entity tag is weak.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Sequence

from gateway.backends.entity import validators
from gateway.exchange import Headers, Ready, Response
from gateway.wire.fields import http_date
from gateway.wire.http_response import encode_fields

TRUST = 1.0
"""Seconds after which a file is opened again under the site's rules and its neighbours looked for
again; nginx's open_file_cache_valid is 60."""
SETTLED = 1.0
"""Seconds since its last change after which a further change surely has another ctime."""
KEEP = 65536
"""Largest file whose bytes are kept."""
WEIGHT = 2048
"""Bytes that a description itself takes, about."""

CONDITIONAL = frozenset(
    (
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"range",
    )
)
"""Request fields that make the answer something else than the whole file."""
_NEGOTIATED = CONDITIONAL | {b"accept-encoding"}


class Copy:
    """One file as it was at one time."""

    __slots__ = (
        "coding", "content_type", "ctime_ns", "data", "dev", "encoded", "etag", "file", "headers",
        "ino", "mtime", "mtime_ns", "others", "path", "ready", "settled", "size", "unchanged",
        "until", "watched",
    )  # fmt: skip

    def __init__(self, file: bytes, path: bytes, info: os.stat_result, coding: bytes = b"") -> None:
        self.file = file
        """Absolute."""
        self.path = path
        """Below the root."""
        self.coding = coding
        """Its Content-Encoding; b"" for the file that was asked for."""
        self.dev = info.st_dev
        self.ino = info.st_ino
        self.size = info.st_size
        self.mtime_ns = info.st_mtime_ns
        self.ctime_ns = info.st_ctime_ns
        self.etag, self.mtime, self.settled = validators(info, SETTLED, coding)
        self.content_type = b""
        self.headers: Headers = ()
        self.encoded = b""
        self.data: bytes | None = None
        """All of the file's bytes."""
        self.ready: Ready | None = None
        """The whole answer, while `data` is kept."""
        self.unchanged = Ready(Response(status=304))
        self.others: tuple[Copy, ...] = ()
        """The compressed neighbours, the preferred first."""
        self.watched = CONDITIONAL
        """Request fields with which `ready` is not the answer."""
        self.until = time.monotonic() + TRUST

    def finish(self, content_type: bytes, others: Sequence["Copy"]) -> None:
        """Make the header fields, once the neighbours are known."""
        varies = bool(others or self.coding)
        fields = [(b"Last-Modified", http_date(self.mtime)), (b"ETag", self.etag)]
        if varies:
            fields.append((b"Vary", b"Accept-Encoding"))
        unchanged = tuple(fields)
        if self.coding:
            fields.append((b"Content-Encoding", self.coding))
        fields.append((b"Content-Type", content_type))
        fields.append((b"Accept-Ranges", b"bytes"))
        fields.append((b"X-Content-Type-Options", b"nosniff"))
        self.content_type = content_type
        self.headers = tuple(fields)
        self.encoded = encode_fields(self.headers)
        self.others = tuple(others)
        if others:
            self.watched = _NEGOTIATED
        if self.data is not None:
            self.keep(self.data)
        encoded = encode_fields(unchanged)
        self.unchanged = Ready(Response(status=304, headers=unchanged, encoded=encoded))

    def keep(self, data: bytes) -> None:
        """Make the whole answer of the file's bytes."""
        self.data = data
        self.ready = Ready(
            Response(status=200, headers=self.headers, body=data, encoded=self.encoded)
        )

    @property
    def keepable(self) -> bool:
        """Whether its bytes may be kept."""
        return self.settled and self.size <= KEEP

    def same(self, info: os.stat_result) -> bool:
        """Whether `info` is of the very same content."""
        return (
            info.st_ctime_ns == self.ctime_ns
            and info.st_ino == self.ino
            and info.st_dev == self.dev
            and info.st_size == self.size
            and info.st_mtime_ns == self.mtime_ns
        )


class Shelf:
    """A bounded number of copies.

    A copy is renewed every `TRUST` seconds while it is asked for, which puts it last; the first is
    thrown out. So it is the least recently used that goes, without any work on a hit.
    """

    __slots__ = ("_copies", "get", "held", "room")

    def __init__(self, room: int) -> None:
        self.room = room
        """Bytes."""
        self.held = 0
        self._copies: OrderedDict[bytes, Copy] = OrderedDict()
        self.get = self._copies.get

    def put(self, copy: Copy) -> None:
        """Keep a copy, in place of an older one of the same file."""
        self.drop(copy.file)
        self._copies[copy.file] = copy
        self.held += _weight(copy)
        self._make_room()

    def drop(self, file: bytes) -> None:
        """Forget a file."""
        old = self._copies.pop(file, None)
        if old is not None:
            self.held -= _weight(old)

    def hold(self, main: Copy, copy: Copy, data: bytes) -> None:
        """Keep the bytes of `copy`, which is `main` or one of its neighbours, if they may be."""
        if not copy.keepable or copy.data is not None:
            return
        if self._copies.get(main.file) is not main:
            return  # it was thrown out meanwhile; nobody would count the bytes
        copy.keep(data)
        self.held += len(data)
        self._make_room()

    def _make_room(self) -> None:
        while self.held > self.room and self._copies:
            _, old = self._copies.popitem(last=False)
            self.held -= _weight(old)


def _weight(copy: Copy) -> int:
    held = WEIGHT + len(copy.data or b"")
    return held + sum(WEIGHT + len(other.data or b"") for other in copy.others)
