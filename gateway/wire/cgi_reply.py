"""The one parser of a script's header block, for CGI programs, warm scripts and FastCGI workers.

Decides what kind of answer a script gave and what of its head goes on. Must not know where the
output came from, and never reads more of it than the head.

Standard: RFC 3875 section 6 (document, local redirect, client redirect, client redirect with
document) and section 5 (NPH). Where the standard leaves a choice, or scripts differ from it:

- Lines end in LF or CRLF, also mixed. CR alone is no line end. A line that begins with a space is
  refused: "CGI/1.1 does not support continuation lines" (6.3), and joining one would be a guess.
- Output that begins with "HTTP/1." is that of an NPH script, whatever the file is called.
- A head without Content-Type is given "text/plain; charset=utf-8" and "nosniff". Guessing from the
  content lets a script's visitor upload what others then run as a page (CVE-2020-24553).
- Location "/path" and nothing else but Content-Type and Content-Length is a local redirect. With
  a Status of 3xx, with a cookie or any other field, or as "//host/path" or "/path#fragment", it is
  for the client, since a local redirect would lose those. Relative ones are for the client too.
  With a Status that is not 3xx (201 Created) it is a document with a Location field.
- Transfer-Encoding is refused: nobody can know whether the body behind it is chunked. So are two
  values for Content-Length, Status or Location. For Content-Type the last one counts, as in Apache.
- Connection, Date, Server and such are dropped: they are the listener's. An NPH script is asked to
  send its own Date and Server, so these stay.
- Status, Content-Length, Location and Content-Type with nothing behind the colon are as if not sent
  (6.3).
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from gateway.wire.headers import Headers, is_token

LIMIT = 65536
"""Bytes of a head. lighttpd takes 64 KiB, nginx 4 or 8 KiB (`fastcgi_buffer_size`), Apache 8 KiB
a line."""

Kind: TypeAlias = Literal["document", "local-redirect", "client-redirect", "nph"]


class BadReply(Exception):
    """The script's output is no answer. `why` is one sentence, in printable ASCII, that says why.

    It may quote the script's output, so it is for the log and for the developer.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The head of a script's answer."""

    kind: Kind
    status: int
    """200-599; of a local redirect 200, which is not to be sent."""
    reason: bytes
    """The script's own reason phrase, or b""."""
    headers: Headers
    """What to pass on, in the script's order and spelling: without Status, Content-Length and what
    belongs to the connection. Location is among them except for a local redirect."""
    location: bytes
    """The value of Location, or b""."""
    length: int | None
    """The body's length as the script gives it. Nothing says that it is true."""
    chunked: bool
    """The body comes in chunks (NPH only)."""
    rest: bytes
    """What was fed beyond the head: the body's first bytes."""


class _Head(NamedTuple):
    """What the bytes of a head mean; the same bytes always mean the same."""

    kind: Kind
    status: int
    reason: bytes
    headers: Headers
    location: bytes
    length: int | None
    chunked: bool


_END = re.compile(rb"\n\r?\n")
_FIELD = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)\r?"
).fullmatch
"""One line, with the CR of its CRLF."""
_STATUS = re.compile(rb"([2-5][0-9]{2})(?:[ \t]+(.*))?").fullmatch
_STATUS_LINE = re.compile(
    rb"HTTP/(1\.[01])[ \t]+([2-5][0-9]{2})(?:[ \t]+([^\x00-\x08\x0a-\x1f\x7f]*))?\r?"
).fullmatch
_LENGTH = re.compile(rb"[0-9]{1,18}").fullmatch

_DROPPED = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
    )
)
_LISTENERS = _DROPPED | {b"date", b"server"}
_PLAIN_TEXT = (b"Content-Type", b"text/plain; charset=utf-8")
_NOSNIFF = (b"X-Content-Type-Options", b"nosniff")
_BESIDE_LOCAL = frozenset((b"location", b"content-type"))
_SINGLE = frozenset((b"content-length", b"location", b"status"))


class ReplyParser:
    """A script's output, in any pieces, to its `Reply`. Holds little more than the head's limit."""

    __slots__ = ("_first_seen", "_held", "_limit", "_reply", "_why")

    def __init__(self, limit: int = LIMIT) -> None:
        """`limit` is the largest head, in bytes, with the empty line that ends it."""
        self._limit = limit
        self._held = bytearray()
        self._first_seen = False
        self._reply: Reply | None = None
        self._why = ""

    def feed(self, data: bytes) -> Reply | None:
        """Return the reply once its head is whole, else None. What follows it is in `rest`.

        Raises BadReply as soon as it is sure, and again ever after; ValueError after the reply
        was returned.
        """
        if self._reply is not None:
            raise ValueError("the head of this reply is complete")
        if self._why:
            raise BadReply(self._why)
        try:
            self._reply = self._feed(data)
        except BadReply as bad:
            self._why = bad.why
            self._held.clear()
            raise
        return self._reply

    def finish(self) -> Reply:
        """Return the reply at the end of the output. Raises BadReply when its head is not whole."""
        if self._reply is None:
            if not self._why:
                self._why = _explain_end(bytes(self._held))
                self._held.clear()
            raise BadReply(self._why)
        return self._reply

    def _feed(self, data: bytes) -> Reply | None:
        before = len(self._held)
        # One byte more than the limit is enough to see that it is passed, so the same is seen
        # however the output is cut.
        taken = data[: self._limit + 1 - before]
        text: bytes | bytearray = taken
        if before:
            self._held += taken
            text = self._held
        if not self._first_seen and b"\n" in taken:
            _check_first(bytes(text[: text.index(b"\n")]))
            self._first_seen = True
        end = _END.search(text, max(0, before - 2))
        stop = end.end() if end else len(text)
        if stop > self._limit:
            raise BadReply(
                f"the header is longer than {self._limit} bytes{_hint(bytes(text[:_SHOWN]))};"
                f" it begins {_quote(bytes(text))}"
            )
        if end is None:
            if not before:
                self._held += taken
            return None
        head = bytes(text[: end.start()])
        self._held = bytearray()
        known = _parse_often(head) if len(head) <= _OFTEN else _parse(head)
        return Reply(
            kind=known.kind,
            status=known.status,
            reason=known.reason,
            headers=known.headers,
            location=known.location,
            length=known.length,
            chunked=known.chunked,
            rest=data[stop - before :],
        )


def _parse(head: bytes) -> _Head:
    """Return what a head means. Its last line end and the empty line are already off."""
    lines = head.split(b"\n")
    if head.startswith(b"HTTP/1."):
        return _parse_nph(lines)
    single: dict[bytes, bytes] = {}
    kept: list[tuple[bytes, bytes, bytes]] = []
    for lower, name, value in _fields(lines, 1):
        if lower in _LISTENERS:
            continue
        if lower == b"transfer-encoding":
            if value.lower() in (b"", b"identity"):
                continue
            raise BadReply(
                "the script sent Transfer-Encoding, which only an NPH script may:"
                " print the body as it is and leave its transfer to the server"
            )
        if lower in _SINGLE:
            first = value and lower not in single
            _keep(single, lower, value)
            if lower == b"location" and first:
                kept.append((lower, name, value))
            continue
        if lower == b"content-type":
            if not value:
                continue
            kept = [field for field in kept if field[0] != lower]
        kept.append((lower, name, value))
    return _judge(single, kept)


def _judge(single: dict[bytes, bytes], kept: list[tuple[bytes, bytes, bytes]]) -> _Head:
    """Return the kind of the answer, its status and its fields (section 6.2)."""
    location = single.get(b"location", b"")
    length = _length(single)
    status, reason = 0, b""
    if b"status" in single:
        match = _STATUS(single[b"status"])
        if match is None:
            raise BadReply(
                f"bad Status value {_quote(single[b'status'])}:"
                " it must be three digits from 200 to 599, a space and a text"
            )
        status, reason = int(match[1]), match[2] or b""
    names = {lower for lower, _, _ in kept}
    if (
        location.startswith(b"/")
        and not location.startswith(b"//")
        and b"#" not in location
        and not status
        and names <= _BESIDE_LOCAL
    ):
        return _Head("local-redirect", 200, b"", (), location, length, False)
    kind: Kind = "document"
    if location and (not status or (300 <= status <= 399 and status != 304)):
        kind = "client-redirect"
        status = status or 302
    status = status or 200
    headers = [(name, value) for _, name, value in kept]
    if b"content-type" not in names and status not in (204, 304) and length != 0:
        headers.append(_PLAIN_TEXT)
        if b"x-content-type-options" not in names:
            headers.append(_NOSNIFF)
    return _Head(kind, status, reason, tuple(headers), location, length, False)


def _parse_nph(lines: list[bytes]) -> _Head:
    """Return the head of a script that speaks HTTP itself (section 5)."""
    line = _STATUS_LINE(lines[0])
    if line is None:
        raise BadReply(
            f"the script speaks HTTP itself, with the bad status line {_quote(lines[0])}:"
            " it must be like HTTP/1.1 200 OK"
        )
    single: dict[bytes, bytes] = {}
    headers: list[tuple[bytes, bytes]] = []
    for lower, name, value in _fields(lines[1:], 2):
        if lower in (b"content-length", b"transfer-encoding"):
            _keep(single, lower, value)
        elif lower not in _DROPPED:
            if lower == b"location":
                _keep(single, lower, value)
            headers.append((name, value))
    length = _length(single)
    coding = single.get(b"transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked" or line[1] == b"1.0":
            raise BadReply(
                f"the script sent the Transfer-Encoding {_quote(coding)} in an answer"
                f" of HTTP/{line[1].decode()}: only chunked is known, in HTTP/1.1"
            )
        if length is not None:
            raise BadReply("the script sent both Transfer-Encoding and Content-Length")
    location = single.get(b"location", b"")
    status, reason = int(line[2]), (line[3] or b"").rstrip(b" \t")
    return _Head("nph", status, reason, tuple(headers), location, length, coding is not None)


_OFTEN = 1024
_parse_often = lru_cache(maxsize=256)(_parse)
"""Heads up to `_OFTEN` bytes are remembered: a worker gives the same one again and again."""


def _fields(lines: list[bytes], number: int) -> list[tuple[bytes, bytes, bytes]]:
    """Return (lower-case name, name, value) of each line; the first one is line `number`."""
    fields = []
    for line in lines:
        match = _FIELD(line)
        if match is None:
            raise BadReply(_explain_line(line, number))
        name, value = match.groups()
        fields.append((name.lower(), name, value.rstrip(b" \t")))
        number += 1
    return fields


def _keep(single: dict[bytes, bytes], lower: bytes, value: bytes) -> None:
    if value and single.setdefault(lower, value) != value:
        raise BadReply(f"the script sent {lower.decode().title()} twice, with different values")


def _length(single: dict[bytes, bytes]) -> int | None:
    value = single.get(b"content-length")
    if value is None:
        return None
    if not _LENGTH(value):
        raise BadReply(f"bad Content-Length value {_quote(value)}: it must be decimal digits")
    return int(value)


# From here on: words for people. Nothing below decides anything.

_SHOWN = 80
_ESCAPES = tuple(
    chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}"
    for byte in range(256)
)
_SHORT_ESCAPES = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}

_BOM = b"\xef\xbb\xbf"
_LOOKS = (
    (b"<?php", "it looks like PHP source that nothing has run: check the script's interpreter"),
    (b"#!", "it looks like a script's source that nothing has run: check its interpreter"),
    (b"<", "it looks like HTML: print the header and an empty line first"),
    (b"{", "it looks like JSON: print the header and an empty line first"),
    (b"[", "it looks like JSON: print the header and an empty line first"),
    (b"Traceback (most recent call last)", "it is a Python traceback: the script failed"),
    (_BOM, "it begins with a UTF-8 byte order mark: save the script without one"),
)


def _quote(data: bytes) -> str:
    """Return the first bytes in quotes, escaped to printable ASCII."""
    text = "".join(_SHORT_ESCAPES.get(byte) or _ESCAPES[byte] for byte in data[:_SHOWN])
    return f'"{text}"' + (" ..." if len(data) > _SHOWN else "")


def _hint(data: bytes) -> str:
    """Return what the output looks like, after a colon, or nothing."""
    start = data.lstrip(b" \t\r\n")
    for prefix, meaning in _LOOKS:
        if start.startswith(prefix):
            return f": {meaning}"
    return ""


def _check_first(line: bytes) -> None:
    """Refuse what has no header at the end of its first line, however much of it follows."""
    if line in (b"", b"\r"):
        raise BadReply(
            "the output begins with an empty line, so its header is empty:"
            " print at least Content-Type before it"
        )
    if not line.startswith(b"HTTP/1.") and not _FIELD(line):
        raise BadReply(_explain_line(line, 1))


def _explain_line(line: bytes, number: int) -> str:
    """Return why a line is not a header field; `number` counts from 1."""
    line = line.removesuffix(b"\r")
    where = "the first line of the output" if number == 1 else f"line {number} of the header"
    name, colon, _ = line.partition(b":")
    if b"\r" in line:
        why = "has a CR inside: end each line with LF or CRLF, not with CR alone"
    elif b"\0" in line:
        why = "has a NUL byte"
    elif line[:1] in (b" ", b"\t") and (number > 1 or _FIELD(line.lstrip(b" \t"))):
        why = "begins with a space: each header field is one line and starts at its beginning"
    elif colon and is_token(name):
        why = "has a control character"
    elif colon and is_token(name.rstrip(b" \t")):
        why = "has a space before the colon"
    else:
        why = f"is not a header field{_hint(line)}"
        if number > 1 and why.endswith("field"):
            why += ": an empty line must stand between the header and the body"
    return f"{where} {why}; it is {_quote(line)}"


def _explain_end(held: bytes) -> str:
    """Return why output that has ended is no answer."""
    if not held:
        return "the script ended without any output"
    if b"\r" in held and b"\n" not in held:
        return (
            "the lines of the output end in CR alone: end each with LF or CRLF;"
            f" it begins {_quote(held)}"
        )
    return (
        "the output ended before the empty line that must end the header"
        f"{_hint(held)}; it begins {_quote(held)}"
    )
