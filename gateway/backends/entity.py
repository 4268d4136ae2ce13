"""One open file as an answer: its entity tag, its conditions, its ranges (RFC 9110 8.8, 13 and 14).

Decides whether a client has the file already and which part of it is sent. Must not know how the
file was found, nor who asked for it to be sent.
"""

import os
import time
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from gateway.backends.parts import Parts
from gateway.exchange import FileSpan, Headers, Refused, Request, Response
from gateway.wire.fields import Unsatisfiable, conditional, ranges

_SUFFIXES: Mapping[bytes, bytes] = {b"": b"", b"br": b"-br", b"gzip": b"-gz"}
_MIX = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1

Spans: TypeAlias = tuple[tuple[int, int], ...]
"""Half-open ranges of a file, in the order in which they are to be sent."""


class Validators(NamedTuple):
    """What tells one state of a file from another."""

    etag: bytes
    """With its quotes, and with W/ while it is weak."""
    mtime: int
    """Whole seconds: Last-Modified."""
    settled: bool
    """Whether the last change is so long ago that another one would show."""


def validators(info: os.stat_result, settle: float, coding: bytes = b"") -> Validators:
    """Return the validators of a file, or of its form that has this Content-Encoding.

    The tag of a file that was changed within the last `settle` seconds is weak, since it may be
    changed again without another tag (RFC 9110 section 8.8.1).
    """
    now = time.time()
    settled = now - info.st_ctime_ns / 1e9 > settle
    # A Last-Modified later than the answer's own Date is forbidden (RFC 9110 8.8.2.1).
    mtime = min(info.st_mtime_ns // 1_000_000_000, int(now))
    # The inode is mixed in, not shown (CVE-2003-1418).
    mixed = (info.st_ino * _MIX ^ info.st_mtime_ns) & _MASK
    tag = b'"%x-%x%b"' % (mixed, info.st_size, _SUFFIXES[coding])
    return Validators(tag if settled else b"W/" + tag, mtime, settled)


def unchanged(request: Request, etag: bytes, mtime: int) -> bool:
    """Whether the answer is 304. Raises Refused (412)."""
    status = conditional(request.method, request.headers, etag, mtime)
    if status == 412:
        raise Refused(412, "The file is not in the state that the request asks for.")
    return status == 304


def wanted(request: Request, size: int, etag: bytes, mtime: int) -> Spans | None:
    """Return the parts that are asked for, or None for the whole. Raises Refused (416)."""
    if request.method != "GET":
        return None
    try:
        return ranges(request.headers, size, etag, mtime)
    except Unsatisfiable:
        where = (b"Content-Range", b"bytes */%d" % size)
        raise Refused(416, "The file is shorter than that.", headers=(where,)) from None


def part(headers: Headers, start: int, stop: int, size: int, body: bytes | FileSpan) -> Response:
    """Return the answer that is one part of a file."""
    where = (b"Content-Range", b"bytes %d-%d/%d" % (start, stop - 1, size))
    return Response(status=206, headers=(*headers, where), body=body)


def several(headers: Headers, fd: int, spans: Spans, size: int, content_type: bytes) -> Response:
    """Return the answer that is several parts of the file `fd`, which stays its owner's."""
    parts = Parts(fd, spans, size, content_type)
    others = tuple(item for item in headers if item[0].lower() != b"content-type")
    kind = (b"Content-Type", b"multipart/byteranges; boundary=" + parts.boundary)
    return Response(status=206, headers=(*others, kind), body=parts, length=parts.length)
