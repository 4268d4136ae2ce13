"""The head of a request as a value: what its request line and its fields mean together.

Decides method, target, version, host, the length of the body and whether the connection stays
open, and is stricter in each than llhttp, which has read the head before. Must not know how the
bytes arrived. RFC 9112 sections 2 to 6, RFC 9110 sections 4.2, 5, 7 and 10.1.1.

One head costs microseconds and every request pays them: the usual case is looked up in tables,
and only what a table does not know is taken apart.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import Final, NamedTuple

from gateway.wire import PeerError
from gateway.wire.headers import TEXT, Headers, every, is_field_value, is_token


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bounds of one request head, in bytes where not said otherwise; a line without its end."""

    line: int = 8192
    """The request line; beyond it 414 (nginx 8 KiB, Apache 8190, gunicorn 4094)."""
    field: int = 16384
    """One field line; beyond it 431 (nginx 8 KiB, Apache 8190, Node.js 16 KiB in sum)."""
    fields: int = 100
    """The number of field lines; beyond it 431 (Apache 100, gunicorn 100)."""
    total: int = 65536
    """All lines together, with their ends but the last; beyond it 431 (waitress 256 KiB)."""


class Head(NamedTuple):
    """One request head. A named tuple: frozen, and built in a third of a dataclass's time."""

    method: str
    """One of `METHODS`' values."""
    target: bytes
    """As it stood on the request line."""
    path: bytes
    """Still percent-encoded; starts with "/", or is "*"."""
    query: bytes
    """What follows the first "?"; b"" if there is none."""
    protocol: bytes
    """b"HTTP/1.1" or b"HTTP/1.0"."""
    headers: Headers
    """Lower-case names; values without outer white space."""
    host: bytes
    """Lower case, no port, no final dot, brackets around an IPv6 address; b"" if none is named."""
    length: int | None
    """Bytes of the body; 0 for none, None for a chunked one."""
    keep_alive: bool
    expect_continue: bool
    """The client waits for 100 Continue before it sends the body."""


METHODS: Final = {
    word: word.decode()
    for word in (
        b"GET HEAD POST PUT DELETE OPTIONS PATCH TRACE QUERY "  # RFC 9110, 5789, HTTP QUERY
        b"PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK SEARCH ACL "  # WebDAV and its extensions
        b"BIND REBIND UNBIND REPORT MKACTIVITY CHECKOUT MERGE MKCALENDAR "
        b"M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE LINK UNLINK"
    ).split()
}
"""The HTTP methods that llhttp knows, without CONNECT, PRI and those of other protocols.

Any other token is answered with 501 (RFC 9110 section 9.1).
"""

LARGEST_LENGTH: Final = 2**63 - 1
"""What a signed 64-bit integer holds, which is what scripts and back ends count in."""

_HOSTS: dict[bytes, bytes] = {}
"""Host values seen and found good -> host without port. Bounded; emptied when it is full."""
_HOSTS_KEPT: Final = 512

_version = re.compile(rb"HTTP/[0-9]\.[0-9]").fullmatch
_visible = re.compile(rb"[!-~]+").fullmatch
_absolute = re.compile(rb"https?://([^/?]*)([^?]*)(?:\?(.*))?", re.IGNORECASE).fullmatch
_digits = re.compile(rb"[0-9]{1,19}").fullmatch
_host = re.compile(
    rb"(?:([a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?|(\[[0-9a-f:.]{2,45}\]))(?::([0-9]{0,5}))?"
).fullmatch


def request_line(line: bytes) -> tuple[str, bytes, bytes]:
    """Return method, target and protocol of a request line without its end.

    Raises:
        PeerError: 400, 501 or 505.
    """
    parts = line.split(b" ")
    if len(parts) != 3:
        raise PeerError(400, "The request line is not a method, a target and a version.")
    word, target, protocol = parts
    method = METHODS.get(word)
    if protocol != b"HTTP/1.1" and protocol != b"HTTP/1.0":
        if _version(protocol) is None:
            raise PeerError(400, "The request line has no HTTP version.")
        raise PeerError(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    if method is None:
        if not is_token(word):
            raise PeerError(400, "The method is not a token.")
        raise PeerError(501, "The method is not implemented.")
    return method, target, protocol


def split_target(method: str, target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Return path, query and, for an absolute form, authority of a request target (RFC 9112 3.2).

    Raises:
        PeerError: 400.
    """
    if not _visible(target) or b"#" in target:
        raise PeerError(400, "The request target has a byte that may not stand there.")
    if target.startswith(b"/"):
        path, _, query = target.partition(b"?")
        return path, query, None
    if target == b"*" and method == "OPTIONS":
        return target, b"", None
    match = _absolute(target)
    if match is None:
        raise PeerError(400, "The request target is neither a path nor an http URL.")
    authority, path, query = match[1], match[2], match[3]
    if not path:
        # RFC 9112 section 3.2.4: OPTIONS of a bare authority asks about the server as a whole.
        path = b"*" if method == "OPTIONS" and query is None else b"/"
    return path, query or b"", authority


def field_line(line: bytes) -> tuple[bytes, bytes]:
    """Return the lower-case name and the value of a field line without its end.

    Raises:
        PeerError: 400.
    """
    if line[:1] in (b" ", b"\t"):
        raise PeerError(400, "A header field is folded over several lines.")
    name, colon, value = line.partition(b":")
    if not colon or not is_token(name):
        raise PeerError(400, "A header line does not begin with a field name and a colon.")
    if not is_field_value(value):
        raise PeerError(400, "A header field has a control character.")
    return name.lower(), value.strip(b" \t")


def normal_host(value: bytes) -> bytes:
    """Return the host of a Host value or an authority: lower case, no port, no final dot.

    Narrower than RFC 3986: letters, digits, "-", "_" and single dots, or an IPv6 address in
    brackets, because the name goes on into file names and scripts.

    Raises:
        PeerError: 400.
    """
    known = _HOSTS.get(value)
    if known is not None:
        return known
    match = _host(value.lower())
    if match is None or len(value) > 261 or int(match[3] or b"0") > 65535:
        raise PeerError(400, "The host is not a valid name or address.")
    host: bytes = match[1] or match[2]
    if match[2]:
        try:
            IPv6Address(host[1:-1].decode("ascii"))
        except AddressValueError:
            raise PeerError(400, "The host is not a valid name or address.") from None
    if len(_HOSTS) >= _HOSTS_KEPT:
        _HOSTS.clear()
    _HOSTS[value] = host
    return host


def _members(values: Sequence[bytes]) -> list[bytes]:
    """Split list values (RFC 9110 section 5.6.1) into lower-case members, empty ones included."""
    return [member.strip(b" \t").lower() for value in values for member in value.split(b",")]


def _check_transfer_encoding(values: Sequence[bytes], protocol: bytes, sized: bool) -> None:
    """Let only `chunked` pass, once, in HTTP/1.1, with no Content-Length (RFC 9112 6.1, 6.3)."""
    if sized:
        raise PeerError(400, "Transfer-Encoding and Content-Length are given together.")
    if protocol == b"HTTP/1.0":
        raise PeerError(400, "HTTP/1.0 has no Transfer-Encoding.")
    codings = _members(values)
    if codings == [b"chunked"]:
        return
    if b"chunked" in codings[:-1] or not all(is_token(coding) for coding in codings):
        raise PeerError(400, "The Transfer-Encoding is malformed.")
    raise PeerError(501, "Only the transfer coding chunked is implemented.")


def _content_length(values: Sequence[bytes]) -> int:
    # Equal duplicates may be accepted (RFC 9110 section 8.6); nobody sends them in good faith.
    if len(values) != 1:
        raise PeerError(400, "Content-Length is given more than once.")
    if not _digits(values[0]):  # before int(), which takes signs, spaces and other scripts' digits
        raise PeerError(400, "The Content-Length is not a number.")
    length = int(values[0])
    if length > LARGEST_LENGTH:
        raise PeerError(400, "The Content-Length is too large.")
    return length


def _expects(values: Sequence[bytes]) -> None:
    if any(value.lower() != b"100-continue" for value in values):
        raise PeerError(417, "Only the expectation 100-continue can be met.")


_FRAMING: Final = frozenset((b"transfer-encoding", b"content-length", b"expect", b"connection"))


def make_head(line: bytes, fields: Headers) -> Head:
    """Return the head that a request line and its fields (checked, names lower case) make.

    Raises:
        PeerError: 400, 417, 501 or 505.
    """
    method, target, protocol = request_line(line)
    authority = None
    if target[:1] == b"/" and b"#" not in target and target.isascii():
        path, _, query = target.partition(b"?")  # controls are ruled out by the caller
    else:
        path, query, authority = split_target(method, target)

    current = protocol == b"HTTP/1.1"
    table = dict(fields)
    named = table.get(b"host")
    if named is None:
        if current:
            raise PeerError(400, "HTTP/1.1 needs a Host.")
        host = b""
    else:
        host = _HOSTS.get(named) or normal_host(named)
        if len(table) != len(fields) and len(every(fields, b"host")) > 1:
            raise PeerError(400, "Host is given more than once.")
    if authority is not None:
        # RFC 9112 section 3.2.2: the target wins, but a bad or missing Host is still an error.
        host = normal_host(authority)

    if _FRAMING.isdisjoint(table):
        return Head(method, target, path, query, protocol, fields, host, 0, current, False)
    length, keep_alive, waits = _framing(fields, protocol)
    return Head(method, target, path, query, protocol, fields, host, length, keep_alive, waits)


def _framing(fields: Headers, protocol: bytes) -> tuple[int | None, bool, bool]:
    """Return length, keep-alive and expect-continue of a head that has fields about them."""
    codings, lengths, expected, options = _every(fields)
    length: int | None = 0
    if codings:
        _check_transfer_encoding(codings, protocol, bool(lengths))
        length = None
    elif lengths:
        length = _content_length(lengths)
    if expected:
        _expects(expected)
    keep_alive = protocol == b"HTTP/1.1"
    if options:
        if options == [b"keep-alive"]:
            keep_alive = True
        else:
            named = _members(options)
            keep_alive = b"close" not in named and (keep_alive or b"keep-alive" in named)
    # RFC 9110 section 10.1.1: ignored in HTTP/1.0, and pointless when no body follows.
    waits = bool(expected) and length != 0 and protocol == b"HTTP/1.1"
    return length, keep_alive, waits


def _every(fields: Headers) -> tuple[list[bytes], list[bytes], list[bytes], list[bytes]]:
    codings: list[bytes] = []
    lengths: list[bytes] = []
    expected: list[bytes] = []
    options: list[bytes] = []
    for name, value in fields:
        if name == b"connection":
            options.append(value)
        elif name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name == b"expect":
            expected.append(value)
    return codings, lengths, expected, options


class HeadLines:
    """Checks the lines of one head in the order they come in, each as soon as it is there.

    It serves two ends: a head that is not complete is refused as early as it can be, with memory
    and time bounded; and a head that the fast path does not take is explained, with the same
    answer however it was cut.
    """

    __slots__ = ("_count", "_limits", "_seen", "_start", "fields", "line")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._start = 0
        self._seen = 0
        self._count = 0
        self.line = b""
        """The request line, once it is in."""
        self.fields: list[tuple[bytes, bytes]] = []
        """The fields whose lines are complete."""

    def check(self, held: bytes | bytearray) -> None:
        """Go on with `held`, the head so far (it only grows between calls).

        Raises:
            PeerError: 400, 414, 431, 501 or 505.
        """
        while True:
            end = held.find(b"\r\n", self._seen)
            if end == self._start and end > 0:
                return  # the empty line
            self._check_span(held, end)
            if end < 0:
                return
            self._take(bytes(held[self._start : end]))
            self._start = self._seen = end + 2

    def _check_span(self, held: bytes | bytearray, end: int) -> None:
        """Check the length and the bytes of the line that ends at `end`, or not yet (-1)."""
        limits = self._limits
        start = self._start
        stop = end
        if end < 0:
            stop = len(held)
            if held[-1:] == b"\r":  # perhaps half of a line end
                stop -= 1
        bound = min(start + (limits.field if start else limits.line), limits.total)
        part = held[self._seen : min(stop, bound + 1)]
        if part.translate(None, TEXT):
            raise PeerError(400, "The request head has a control character or a bare CR or LF.")
        if stop > bound:
            if not start:
                raise PeerError(414, "The request line is too long.")
            raise PeerError(431, "The request head is too large.")
        self._seen = max(self._seen, stop)

    def _take(self, line: bytes) -> None:
        if not self._start:
            request_line(line)
            self.line = line
            return
        self._count += 1
        if self._count > self._limits.fields:
            raise PeerError(431, "The request has too many header fields.")
        self.fields.append(field_line(line))
