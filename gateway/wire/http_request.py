"""HTTP/1 requests: bytes in, heads and bodies out.

Decides where each request begins and ends. Must not know sockets, deadlines or what a path means.
RFC 9112.

A head is collected until it is whole (bounded, and refused as early as it can be), its bytes are
checked once, then llhttp reads it in one piece and `http_head` says what it means. Bodies do not
pass through llhttp: one with a length is only counted, a chunked one goes through
`chunked.ChunkedDecoder`. So llhttp is always at the beginning of a head, it never sees a byte that
was not checked, and its protocol upgrades, which drop a body's framing, cannot happen inside one.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, TypeAlias

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from gateway.wire import PeerError
from gateway.wire.chunked import ChunkedDecoder
from gateway.wire.headers import TEXT, is_token
from gateway.wire.http_head import Head, HeadLimits, HeadLines, make_head

__all__ = ["END", "End", "Event", "Head", "HeadLimits", "RequestParser"]


class End(Enum):
    """The end of a message's body; every head is followed by one unless an error comes first."""

    END = "end"

    def __repr__(self) -> str:
        return "END"


END: Final = End.END

Event: TypeAlias = Head | bytes | End | PeerError

KNOWN_HEADS: Final = 512
"""Heads that are remembered; when there are more, all are forgotten."""
KNOWN_SIZE: Final = 1024
"""Bytes of the longest head that is remembered."""

KnownHeads: TypeAlias = dict[bytes, tuple[Event, ...]]
"""Heads that came before, and what they mean: parsing is a function of its bytes. A client that
keeps its connection, a front server, a monitor send the same head again and again, and finding it
here takes a tenth of the time. Only heads without a body, of connections that stay open."""

EMPTY_LINES: Final = 8
"""Empty lines taken before a request line (RFC 9112 section 2.2 asks for one)."""

_KNOWN: Final = {
    spelled: name.lower()
    for name in (
        b"Host User-Agent Accept Accept-Language Accept-Encoding Accept-Charset Connection Cookie "
        b"Content-Type Content-Length Transfer-Encoding Referer Origin Authorization Range "
        b"If-Range If-Match If-None-Match If-Modified-Since If-Unmodified-Since Cache-Control "
        b"Pragma Expect Upgrade Upgrade-Insecure-Requests TE Trailer Via DNT Date Forwarded "
        b"Keep-Alive Priority Sec-Fetch-Site Sec-Fetch-Mode Sec-Fetch-Dest Sec-Fetch-User "
        b"Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform X-Forwarded-For X-Forwarded-Proto "
        b"X-Forwarded-Host X-Real-IP X-Requested-With X-Request-ID Proxy Proxy-Connection "
        b"Content-Encoding"
    ).split()
    for spelled in (name, name.lower(), name.title())
}
"""Names as they are usually spelled -> lower case: a look-up instead of a check and a copy."""


class _Collector:
    """What llhttp calls back. Holds no parser, so that a closed connection needs no collector."""

    __slots__ = ("fields", "on_header")

    def __init__(self) -> None:
        fields: list[tuple[bytes, bytes]] = []
        append = fields.append
        known = _KNOWN.get

        def on_header(name: bytes, value: bytes) -> None:
            if value[-1:] <= b" ":  # llhttp leaves white space at the end; or the value is empty
                value = value.rstrip(b" \t")
            append((known(name) or _lower(name), value))

        self.fields = fields
        self.on_header: Callable[[bytes, bytes], None] = on_header


def _lower(name: bytes) -> bytes:
    if not is_token(name):
        raise ValueError("not a token")  # llhttp stops; `_explain` finds the reason
    return name.lower()


class RequestParser:
    """Parses the requests of one connection. Never raises for what the peer sent."""

    __slots__ = (
        "_blank",
        "_chunks",
        "_collector",
        "_easy",
        "_ends",
        "_held",
        "_keep",
        "_known",
        "_left",
        "_limits",
        "_lines",
        "_llhttp",
        "_step",
    )

    def __init__(self, limits: HeadLimits, known: KnownHeads | None = None) -> None:
        """`known` may be shared by all parsers that have the same limits."""
        self._limits = limits
        self._known: KnownHeads = {} if known is None else known
        self._easy = min(limits.line, limits.field, limits.total)
        self._ends = b"\r\n" * (limits.fields + 2)
        self._held = bytearray()
        self._lines = HeadLines(limits)
        self._collector = _Collector()
        self._llhttp = HttpRequestParser(self._collector)
        self._chunks = ChunkedDecoder()
        self._left = 0
        self._blank = 0
        self._keep = True
        # Plain functions, not bound methods: those would make a cycle of each connection.
        self._step: _Step = RequestParser._head

    @property
    def in_head(self) -> bool:
        """True while bytes of a head have arrived and it is not complete."""
        return bool(self._held)

    def feed(self, data: bytes) -> Sequence[Event]:
        """Take what arrived and return what it completes, in order.

        A `PeerError` is always the last item; after it, and after a request that closes the
        connection, everything else is ignored.
        """
        if self._step is _HEAD and not self._held:
            known = self._known.get(data)
            if known is not None:
                self._blank = 0
                return known
        events: list[Event] = []
        pos = 0
        size = len(data)
        try:
            while pos < size:
                pos = self._step(self, data, pos, events)
        except PeerError as error:
            self._held.clear()
            self._step = RequestParser._ignore
            events.append(error)
        return events

    def _ignore(self, data: bytes, pos: int, events: list[Event]) -> int:
        return len(data)

    # Each step takes `data` from `pos`, appends events, and returns where the next one begins.

    def _head(self, data: bytes, pos: int, events: list[Event]) -> int:
        if self._held:
            return self._more_head(data, pos, events)
        if data[pos] == 13:
            return self._empty_line(data, pos)
        stop = data.find(b"\r\n\r\n", pos) + 4
        if stop == 3:
            self._held += data[pos:]
            self._lines.check(self._held)
            return len(data)
        self._whole_head(data if stop - pos == len(data) else data[pos:stop], events)
        return stop

    def _more_head(self, data: bytes, pos: int, events: list[Event]) -> int:
        held = self._held
        if held == b"\r":
            if data[pos] != 10:
                raise PeerError(400, "A bare CR stands before the request.")
            held.clear()
            return self._after_empty_line(pos + 1)
        before = len(held)
        held += data[pos:]
        stop = held.find(b"\r\n\r\n", max(0, before - 3)) + 4
        if stop == 3:
            self._lines.check(held)
            return len(data)
        head = bytes(held[:stop])
        held.clear()
        self._lines = HeadLines(self._limits)
        self._whole_head(head, events)
        return pos + stop - before

    def _empty_line(self, data: bytes, pos: int) -> int:
        if pos + 1 == len(data):
            self._held += b"\r"
            return pos + 1
        if data[pos + 1] != 10:
            raise PeerError(400, "A bare CR stands before the request.")
        return self._after_empty_line(pos + 2)

    def _after_empty_line(self, pos: int) -> int:
        self._blank += 1
        if self._blank > EMPTY_LINES:
            raise PeerError(400, "Too many empty lines stand before the request.")
        return pos

    def _whole_head(self, head: bytes, events: list[Event]) -> None:
        # With the good bytes taken out, only line ends may be left, and no more than the limit.
        if len(head) > self._easy or not self._ends.startswith(head.translate(None, TEXT)):
            self._explain(head)
        fields = self._collector.fields
        try:
            self._llhttp.feed_data(head)
        except HttpParserUpgrade:
            self._renew()  # an ordinary request here, whatever it would like to become
        except HttpParserError:
            self._explain(head)
            self._again(head)
        made = make_head(head[: head.find(b"\r\n")], tuple(fields))
        fields.clear()  # now, so that an idle connection keeps nothing of its last request
        self._blank = 0
        events.append(made)
        self._keep = made.keep_alive
        if made.length == 0:
            events.append(END)
            if not made.keep_alive:
                self._step = RequestParser._ignore
            elif len(head) <= KNOWN_SIZE:
                if len(self._known) >= KNOWN_HEADS:
                    self._known.clear()
                self._known[head] = (made, END)
            return
        self._renew()  # llhttp waits for a body that it will not be given
        if made.length is None:
            self._chunks = ChunkedDecoder()
            self._step = RequestParser._chunked_body
        else:
            self._left = made.length
            self._step = RequestParser._counted_body

    def _renew(self) -> None:
        # A new collector is not needed, and a new parser costs less than half a microsecond.
        self._llhttp = HttpRequestParser(self._collector)

    def _explain(self, head: bytes) -> None:
        """Raise what is wrong with `head`; return if nothing that we look for is."""
        lines = HeadLines(self._limits)
        lines.check(head)
        make_head(lines.line, tuple(lines.fields))

    def _again(self, head: bytes) -> None:
        """Give a good-looking head to a new llhttp, in case the old one thought itself closed."""
        self._collector.fields.clear()
        self._renew()
        try:
            self._llhttp.feed_data(head)
        except HttpParserUpgrade:
            self._renew()
        except HttpParserError:
            raise PeerError(400, "The request head is malformed.") from None

    def _counted_body(self, data: bytes, pos: int, events: list[Event]) -> int:
        there = len(data) - pos
        if there < self._left:
            self._left -= there
            events.append(data[pos:] if pos else data)
            return len(data)
        stop = pos + self._left
        events.append(data[pos:stop])
        self._end(events)
        return stop

    def _chunked_body(self, data: bytes, pos: int, events: list[Event]) -> int:
        pieces: list[bytes] = []
        try:
            pos = self._chunks.take(data, pos, pieces)
        finally:
            if pieces:
                events.append(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._chunks.ended:
            self._end(events)
        return pos

    def _end(self, events: list[Event]) -> None:
        events.append(END)
        self._step = RequestParser._head if self._keep else RequestParser._ignore


_Step: TypeAlias = Callable[[RequestParser, bytes, int, list[Event]], int]
_HEAD: Final = RequestParser._head
