"""Ask a URL once, as the plainest client there is, and say what came.

Decides the forms of a URL, the one request that is sent and how much of the answer is read. Only
http: what is asked is a daemon of this machine or near it. Must not know settings.

The head is parsed by `wire/cgi_reply.py`: an answer of HTTP is what an NPH script writes.
"""

import os
import re
import socket
import stat
import time
from dataclasses import dataclass
from urllib.parse import quote

from gateway.address import Address
from gateway.config.finding import Url
from gateway.wire import PeerError
from gateway.wire.cgi_reply import BadReply, Reply, ReplyParser
from gateway.wire.chunked import ChunkedDecoder

BODY_MAX = 1 << 20
"""Bytes of an answer that are read."""

_HTTP = re.compile(
    r"http://(?P<authority>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<rest>[/?].*)?",
    re.DOTALL | re.IGNORECASE,
)
_SAFE = "/%:;=@!$&'()*+,~-._"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,40}")


class BadUrl(ValueError):
    """It is no URL that can be asked; the text says what one looks like."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart."""

    address: Address
    authority: str
    """The Host field."""
    url: Url
    query: str
    """As it is sent, without "?"."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came."""

    reply: Reply
    body: bytes
    """What of it was read."""
    seconds: float
    """Until the end of it, or of the reading."""
    whole: bool


class NoAnswer(Exception):
    """Nothing that could be understood came; the text says why, and the way out."""


def is_url(text: str) -> bool:
    """Whether a word of the command line is meant as a URL rather than as a file."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|unix:", text) is not None


def parse(text: str) -> Target:
    """Take "http://HOST[:PORT]/PATH[?QUERY]" or "unix:SOCKET/PATH[?QUERY]" apart.

    Raises BadUrl.
    """
    if text.startswith("unix:"):
        path, rest = _socket(text[5:])
        return _target(Address(path=path), "localhost", "localhost", rest)
    match = _HTTP.fullmatch(text)
    if match is None:
        raise BadUrl(f"{text!r} is not http://HOST[:PORT]/PATH or unix:/SOCKET/PATH")
    port = int(match["port"] or 80)
    if not 0 < port < 65536:
        raise BadUrl(f"{text!r}: a port is a number from 1 to 65535")
    host = match["authority"].lower()
    authority = f"{host}:{port}" if match["port"] else host
    return _target(Address(host=host.strip("[]"), port=port), host, authority, match["rest"] or "")


def _socket(path: str) -> tuple[str, str]:
    """Split at the first component that is a Unix socket."""
    end = 0
    while end >= 0:
        end = path.find("/", end + 1)
        name = path if end < 0 else path[:end]
        try:
            if stat.S_ISSOCK(os.stat(name).st_mode):
                return os.path.abspath(name), path[len(name) :]
        except (OSError, ValueError):
            break
    raise BadUrl(f"no Unix socket can be found on {path!r}: unix:/run/gateway/http.sock/PATH")


def _target(address: Address, host: str, authority: str, rest: str) -> Target:
    rest = rest.partition("#")[0]
    path, _, query = rest.partition("?")
    path = quote(path or "/", safe=_SAFE, errors="surrogateescape")
    query = quote(query, safe=_SAFE + "?", errors="surrogateescape")
    return Target(address, authority, Url(host, path), query)


def is_method(text: str) -> bool:
    """Whether a request can have this method (RFC 9110 section 9.1)."""
    return _TOKEN.fullmatch(text) is not None


def ask(target: Target, method: str, body: bytes, seconds: float) -> Answer:
    """Send one request and read its answer, for at most `seconds`. Raises NoAnswer."""
    uri = target.url.path + (f"?{target.query}" if target.query else "")
    head = f"{method} {uri} HTTP/1.1\r\nHost: {target.authority}\r\n"
    head += "User-Agent: gateway-doctor\r\nAccept: */*\r\nConnection: close\r\n"
    if body or method in ("POST", "PUT", "PATCH"):
        head += f"Content-Length: {len(body)}\r\n"
    begun = time.monotonic()
    deadline = begun + seconds
    try:
        with _connect(target.address, seconds) as sock:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                sock.sendall(head.encode("ascii") + b"\r\n" + body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has answered before it had read all; that answer is what we want
            return _answer(sock, begun, deadline, bodyless=method == "HEAD")
    except TimeoutError:
        why = f"no answer within {seconds:g} s: does its program wait for something?"
        raise NoAnswer(why) from None
    except OSError as error:
        raise NoAnswer(f"no answer: {error.strerror or error}") from None


def _connect(address: Address, seconds: float) -> socket.socket:
    try:
        if not address.path:
            return socket.create_connection((address.host, address.port), seconds)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(seconds)
            sock.connect(address.path)
        except OSError:
            sock.close()
            raise
        return sock
    except TimeoutError:
        raise NoAnswer(f"{address} cannot be reached within {seconds:g} s") from None
    except ConnectionRefusedError:
        raise NoAnswer(f"nothing listens at {address}: start the daemon, or see [listen]") from None
    except OSError as error:
        raise NoAnswer(f"{address} cannot be reached: {error.strerror or error}") from None


def _answer(sock: socket.socket, begun: float, deadline: float, *, bodyless: bool) -> Answer:
    parser = ReplyParser()
    reply: Reply | None = None
    try:
        while reply is None:
            data = _receive(sock, deadline)
            reply = parser.feed(data) if data else parser.finish()
    except BadReply as bad:
        raise NoAnswer(f"what came is no answer of HTTP: {bad.why}") from None
    if reply.kind != "nph":
        raise NoAnswer("what came is no answer of HTTP: does that address speak HTTP?")
    bodyless = bodyless or reply.status in (204, 304)
    body, whole = (b"", True) if bodyless else _body(sock, reply, deadline)
    return Answer(reply, body, time.monotonic() - begun, whole)


def _body(sock: socket.socket, reply: Reply, deadline: float) -> tuple[bytes, bool]:
    """Return what of the body came in time, and whether that is all."""
    decoder = ChunkedDecoder() if reply.chunked else None
    body = bytearray()
    data = reply.rest
    try:
        while len(body) < BODY_MAX:
            body += decoder.feed(data) if decoder else data
            if (decoder is not None and decoder.ended) or len(body) == reply.length:
                return bytes(body), True
            data = _receive(sock, deadline)
            if not data:
                return bytes(body), decoder is None and reply.length is None
    except (OSError, PeerError):
        pass
    return bytes(body), False


def _receive(sock: socket.socket, deadline: float) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left)
    return sock.recv(65536)
