"""HTTP/1 answers: values in, bytes out.

Decides how each body is framed, in one function that every listener calls, and refuses what would
split a response. Must not know where an answer came from. RFC 9112 sections 4, 6, 7 and 9.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

from gateway.wire.chunked import LAST_CHUNK, ChunkedDecoder, chunk
from gateway.wire.headers import TEXT, Headers, is_field_value, is_token

__all__ = [
    "LAST_CHUNK",
    "ChunkedDecoder",
    "Framing",
    "chunk",
    "encode_fields",
    "framing",
    "phrase",
    "status_line",
]

# http.HTTPStatus has other words for 413, 416 and 422 from one Python version to the next.
_PHRASES: Final = {
    100: b"Continue", 101: b"Switching Protocols", 102: b"Processing", 103: b"Early Hints",
    200: b"OK", 201: b"Created", 202: b"Accepted", 203: b"Non-Authoritative Information",
    204: b"No Content", 205: b"Reset Content", 206: b"Partial Content", 207: b"Multi-Status",
    208: b"Already Reported", 226: b"IM Used",
    300: b"Multiple Choices", 301: b"Moved Permanently", 302: b"Found", 303: b"See Other",
    304: b"Not Modified", 305: b"Use Proxy", 307: b"Temporary Redirect",
    308: b"Permanent Redirect",
    400: b"Bad Request", 401: b"Unauthorized", 402: b"Payment Required", 403: b"Forbidden",
    404: b"Not Found", 405: b"Method Not Allowed", 406: b"Not Acceptable",
    407: b"Proxy Authentication Required", 408: b"Request Timeout", 409: b"Conflict",
    410: b"Gone", 411: b"Length Required", 412: b"Precondition Failed",
    413: b"Content Too Large", 414: b"URI Too Long", 415: b"Unsupported Media Type",
    416: b"Range Not Satisfiable", 417: b"Expectation Failed", 418: b"I'm a Teapot",
    421: b"Misdirected Request", 422: b"Unprocessable Content", 423: b"Locked",
    424: b"Failed Dependency", 425: b"Too Early", 426: b"Upgrade Required",
    428: b"Precondition Required", 429: b"Too Many Requests",
    431: b"Request Header Fields Too Large", 451: b"Unavailable For Legal Reasons",
    500: b"Internal Server Error", 501: b"Not Implemented", 502: b"Bad Gateway",
    503: b"Service Unavailable", 504: b"Gateway Timeout", 505: b"HTTP Version Not Supported",
    506: b"Variant Also Negotiates", 507: b"Insufficient Storage", 508: b"Loop Detected",
    511: b"Network Authentication Required",
}  # fmt: skip
"""Status -> reason phrase, from the IANA registry."""

_LINES: Final = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, words) for status, words in _PHRASES.items()
}

_names: set[bytes] = set()
"""Names that were found to be tokens. Bounded; emptied when it is full."""
_NAMES_KEPT: Final = 1024

_ENDS: Final = b"\r\n" * 1024


def phrase(status: int) -> bytes:
    """Return the standard reason phrase of `status`, or b""."""
    return _PHRASES.get(status, b"")


def status_line(status: int, reason: bytes = b"") -> bytes:
    """Return the status line with its end; `reason` in place of the standard phrase if given.

    Always HTTP/1.1, also to an HTTP/1.0 client: it is our version, not the client's (RFC 9110 2.5).

    Raises:
        ValueError: the status has not three digits from 100 to 599, or the reason is not text.
    """
    if not reason:
        line = _LINES.get(status)
        if line is not None:
            return line
    if not 100 <= status <= 599:
        raise ValueError(f"no HTTP status: {status}")
    if not is_field_value(reason):
        raise ValueError("the reason phrase has a control character")
    return b"HTTP/1.1 %d %b\r\n" % (status, reason)


def encode_fields(headers: Headers) -> bytes:
    """Return the field lines with their ends, without the empty line after them.

    Raises:
        ValueError: a name is not a token, or a value has CR, LF, NUL or another control.
    """
    if not headers:
        return b""
    for name, _ in headers:
        if name not in _names:
            _learn(name)
    lines = b"\r\n".join(map(b": ".join, headers)) + b"\r\n"
    # With the good bytes taken out exactly one line end for each field may be left.
    left = lines.translate(None, TEXT)
    if len(left) != 2 * len(headers) or not _ENDS.startswith(left):
        _refuse(headers)
    return lines


def _learn(name: bytes) -> None:
    if not is_token(name):
        raise ValueError(f"not a field name: {name!r}")
    if len(_names) >= _NAMES_KEPT:
        _names.clear()
    if len(name) <= 64:
        _names.add(name)


def _refuse(headers: Iterable[tuple[bytes, bytes]]) -> None:
    for name, value in headers:
        if not is_field_value(value):
            raise ValueError(f"the value of {name.decode('ascii')} has a control character")


Kind: TypeAlias = Literal["none", "length", "chunked", "close"]


class Framing(NamedTuple):
    """How a body is delimited."""

    kind: Kind
    """With "none" no body byte is sent, whatever the handler gave; "close" ends by closing."""
    fields: bytes
    """The Content-Length, Transfer-Encoding and Connection lines, with their ends."""
    keep_alive: bool
    """False: close the connection after this answer."""


@lru_cache(maxsize=4096)
def framing(
    method: str, status: int, protocol: bytes, length: int | None, keep_alive: bool
) -> Framing:
    """Decide how the body of an answer is delimited: the only place that does (RFC 9112 6.3).

    Args:
        method, protocol: of the request.
        length: bytes of the body, or of the body that a GET would have; None when unknown.
        keep_alive: what request and listener would like.

    Raises:
        ValueError: the length is negative.
    """
    if length is not None and length < 0:
        raise ValueError(f"negative length: {length}")
    if 100 <= status < 200:
        return Framing("none", b"", keep_alive)  # interim: the final answer decides the rest
    kind, fields = _delimiter(method, status, protocol, length)
    if kind == "close":
        keep_alive = False
    if not keep_alive:
        fields += b"Connection: close\r\n"
    elif protocol == b"HTTP/1.0":
        fields += b"Connection: keep-alive\r\n"
    return Framing(kind, fields, keep_alive)


def _delimiter(method: str, status: int, protocol: bytes, length: int | None) -> tuple[Kind, bytes]:
    if status == 204 or status == 304:
        return "none", b""  # RFC 9110 8.6: never in 204; in 304 it could only be wrong
    if status == 205:
        return "none", b"Content-Length: 0\r\n"  # RFC 9110 15.3.6
    if method == "HEAD":
        return "none", b"" if length is None else b"Content-Length: %d\r\n" % length
    if length is not None:
        return "length", b"Content-Length: %d\r\n" % length
    if protocol == b"HTTP/1.1":
        return "chunked", b"Transfer-Encoding: chunked\r\n"
    return "close", b""
