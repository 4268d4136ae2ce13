"""The answering side of SCGI: bytes of a connection to one request. The answer has no framing: it
is what a CGI program writes, up to the end of the connection.

Decides where the parameters and the body end. Must not know sockets, sites, or what any parameter
but the two that SCGI itself has means.

Standard: SCGI: A Simple Common Gateway Interface alternative, Neil Schemenauer, 2008-06-23. We take
more than it does in one thing: a name may come twice, and has its last value as it has in
`fcgi_params`. nginx 1.22 sends two when a client repeats a field or when a site sets a `scgi_param`
again after `include scgi_params`. CONTENT_LENGTH and SCGI come once: they say what is a request.

A connection carries one request. What follows its body belongs to nobody and is dropped: it is not
an error, because the request that it follows is whole and may be running. (nginx 1.22 with
`scgi_request_buffering off` announces only the part of a body that it has, and then sends all.)
"""

import re
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from gateway.wire import PeerError

MAX_TOTAL: Final = 256 << 10
"""Bytes of the netstring with the parameters; as many as FastCGI's may have."""
MAX_COUNT: Final = 1000
"""Parameters of one request."""

_LENGTH_LOOKED_AT: Final = 8
"""Seven digits and the colon."""

_length = re.compile(rb"(0|[1-9][0-9]{0,6}):").match
_length_begun = re.compile(rb"(?:0|[1-9][0-9]{0,6})?").fullmatch
_content_length = re.compile(rb"[0-9]{1,18}").fullmatch


class Begin(NamedTuple):
    """The request; its body may still come."""

    params: dict[bytes, bytes]
    length: int
    """What CONTENT_LENGTH says: bytes of body that follow."""


class Stdin(NamedTuple):
    """A piece of the body; never empty."""

    data: bytes


class StdinEnd(NamedTuple):
    """All of the body has come. End of file before that is a body cut short."""


Event: TypeAlias = Begin | Stdin | StdinEnd | PeerError


class _Step(Enum):
    HEAD = "parameters"
    BODY = "body"
    OVER = "nothing: all that comes is dropped"


class RequestParser:
    """Parses the request of one connection. Never raises for what the peer sent."""

    __slots__ = ("_held", "_left", "_needed", "_start", "_step")

    def __init__(self) -> None:
        self._step = _Step.HEAD
        self._held = bytearray()
        self._start = 0
        self._needed = 0  # bytes up to the comma, once the length is known
        self._left = 0

    @property
    def in_head(self) -> bool:
        """Whether some of the parameters have come, and not all."""
        return bool(self._held)

    @property
    def held(self) -> int:
        """Bytes that are kept between two calls: at most a netstring of the largest size."""
        return len(self._held)

    def feed(self, data: bytes) -> list[Event]:
        """Take what arrived and return what it completes, in order.

        A `PeerError` is always the last event, and the request it stands for has not begun. After
        it, and after the end of the body, everything is dropped.
        """
        events: list[Event] = []
        if self._step is _Step.HEAD:
            try:
                data = self._head(data, events)
            except PeerError as error:
                self._held.clear()
                self._step = _Step.OVER
                events.append(error)
        if self._step is _Step.BODY:
            self._body(data, events)
        return events

    def _head(self, data: bytes, events: list[Event]) -> bytes:
        """Gather the netstring; return what follows it."""
        self._held += data
        if not self._needed and not self._know_length():
            return b""
        if len(self._held) < self._needed:
            return b""
        head, rest = bytes(self._held[: self._needed]), bytes(self._held[self._needed :])
        self._held.clear()
        if head[-1:] != b",":
            raise PeerError(400, "the SCGI parameters do not end where their length says")
        params = _decode(head[self._start : -1])
        self._left = int(params[b"CONTENT_LENGTH"])
        events.append(Begin(params, self._left))
        self._step = _Step.BODY
        return rest

    def _know_length(self) -> bool:
        first = bytes(self._held[:_LENGTH_LOOKED_AT])
        found = _length(first)
        if found is None:
            if _length_begun(first) is None:
                raise PeerError(400, "an SCGI request does not begin with a netstring's length")
            return False
        size = int(found[1])
        if size > MAX_TOTAL:
            raise PeerError(431, f"the SCGI parameters are larger than {MAX_TOTAL} bytes")
        self._start = found.end()
        self._needed = self._start + size + 1
        return True

    def _body(self, data: bytes, events: list[Event]) -> None:
        piece = data[: self._left]
        if piece:
            self._left -= len(piece)
            events.append(Stdin(piece))
        if not self._left:
            self._step = _Step.OVER
            events.append(StdinEnd())


def _decode(head: bytes) -> dict[bytes, bytes]:
    """Return the parameters. Raises PeerError for what is not a set of them."""
    ends = head.count(b"\0")
    if ends % 2 or (head and head[-1]):
        raise PeerError(400, "an SCGI parameter is cut off")
    if ends > 2 * MAX_COUNT:
        raise PeerError(431, f"there are more than {MAX_COUNT} SCGI parameters")
    parts = head.split(b"\0")
    names = parts[:-1:2]
    if not names or names[0] != b"CONTENT_LENGTH":
        raise PeerError(400, "the first SCGI parameter is not CONTENT_LENGTH")
    params = dict(zip(names, parts[1::2], strict=True))
    if b"" in params or b"=" in b"".join(params):
        raise PeerError(400, "an SCGI parameter has an impossible name")
    if names.count(b"CONTENT_LENGTH") > 1 or names.count(b"SCGI") > 1:
        raise PeerError(400, "an SCGI request has CONTENT_LENGTH or SCGI twice")
    if params.get(b"SCGI") != b"1":
        raise PeerError(400, "an SCGI request has no parameter SCGI with the value 1")
    if _content_length(params[b"CONTENT_LENGTH"]) is None:
        raise PeerError(400, "an SCGI request has a CONTENT_LENGTH that is not a number")
    return params
