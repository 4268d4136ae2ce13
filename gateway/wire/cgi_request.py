"""FastCGI or SCGI variables of a front server as the values of a request: `cgi_env.py` inverted.

Decides what method, path, host, body length and client such a set of variables means, and which of
them a program may be shown again. Must not know records, netstrings or sockets; who is trusted is
for the caller to say. From a peer that is not trusted only what any HTTP client could have said is
taken: method, path, query, header fields and length. Where the client is, whether it came by TLS,
and who it is (REMOTE_USER, AUTH_TYPE, SSL_*) is the word of a trusted front server or nobody's.

Standard: RFC 3875 section 4.1. It gives SCRIPT_NAME and PATH_INFO, whose joint is the decoded path,
and nothing else about the target; beyond it all fronts send REQUEST_URI (as the client sent it),
and nginx and Caddy send DOCUMENT_URI. What they make of the path:

- nginx: SCRIPT_NAME is the whole path, or what fastcgi_split_path_info leaves of it, PATH_INFO then
  being the rest; its scgi_params have neither, only DOCUMENT_URI, which is the whole path. Recipes
  for git and for WSGI set PATH_INFO to the whole path beside a SCRIPT_NAME that is it too;
- Apache (mod_proxy_fcgi, mod_proxy_scgi): SCRIPT_NAME is the whole path, or without PATH_INFO;
- lighttpd: SCRIPT_NAME is the prefix that was configured, PATH_INFO what follows it;
- Caddy: the two are split at split_path, and DOCUMENT_URI lacks what is in PATH_INFO;
- HAProxy: SCRIPT_NAME is the whole path, or without what its path-info directive matched.

The joint has been decoded once, so it is encoded again: our own decoding gives the same bytes, and
none becomes a slash that was not one.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.wire import PeerError
from gateway.wire.cgi_env import refused
from gateway.wire.headers import TEXT, Headers, is_field_value, is_token
from gateway.wire.http_head import normal_host, split_target
from gateway.wire.ip import PORT_MAX, ip_text

METHOD_MAX: Final = 64
"""Bytes of a method; a longer one is answered with 501 (RFC 9112 section 3)."""
PATH_MAX: Final = 8192
"""Bytes of a decoded path; a longer one is answered with 414, as on HTTP."""

_BODILESS: Final = frozenset(("GET", "HEAD", "DELETE", "OPTIONS", "TRACE"))
"""Methods whose requests have no body where nothing announces one."""

_OFF: Final = frozenset((b"", b"off", b"0"))
_NOT_NAMES: Final = frozenset((b"", b"_"))
"""What nginx sends as SERVER_NAME where a server block has no name, or the usual stand-in."""

_NOT_FIELDS: Final = frozenset((b"HTTP_CONTENT_LENGTH", b"HTTP_CONTENT_TYPE"))
"""nginx, lighttpd and Caddy send these beside CONTENT_LENGTH and CONTENT_TYPE, which alone count:
two names of one thing may differ."""

_ENTITY: Final = frozenset((b"CONTENT_TYPE", b"CONTENT_LENGTH"))

_NAMES_LIMIT: Final = 1024
_NAMES_LENGTH: Final = 64
_names: dict[bytes, tuple[bytes, bool]] = {}
"""Names that came before, and what `_meaning` says of them. Clients choose some of them, so it is
emptied when it becomes too large."""

_NOTHING: Final[Mapping[bytes, bytes]] = {}

_protocol = re.compile(rb"HTTP/[0-9](?:\.[0-9])?").fullmatch
_field = re.compile(rb"HTTP_([A-Z0-9_]+)").fullmatch
_variable = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*").fullmatch
_visible = re.compile(rb"[!-~\x80-\xff]+").fullmatch
_length_digits = re.compile(rb"[0-9]{1,18}").fullmatch
_port_digits = re.compile(rb"[0-9]{1,5}").fullmatch
_encode_path = re.compile(rb"[^A-Za-z0-9._~!$&'()*+,;=:@/-]").sub
_encode_high = re.compile(rb"[\x80-\xff]").sub


class Asked(NamedTuple):
    """What a set of variables asks for: the values of an `exchange.Request`."""

    method: str
    """As sent; any token."""
    target: bytes
    """REQUEST_URI, else path and query."""
    path: bytes
    """Percent-encoded; starts with "/", or is "*"."""
    query: bytes
    protocol: bytes
    """What the client spoke to the front server, e.g. b"HTTP/2.0"; nothing here is framed by it."""
    headers: Headers
    """Lower-case names; values without outer white space."""
    host: bytes
    """Lower case, no port; b"" if none was named."""
    scheme: bytes
    """b"http" or b"https"."""
    remote: tuple[str, int]
    """The client's address and port; ("", 0) where it has none."""
    local: tuple[str, int]
    """The address and port that the client reached; ("", 0) where there is none."""
    length: int | None
    """Bytes of the body; 0 for none, None where only its end will tell."""
    params: Mapping[bytes, bytes]
    """What a program may be shown of all that was sent; empty unless trusted."""


def asked(
    params: Mapping[bytes, bytes],
    *,
    trusted: bool,
    peer: tuple[str, int],
    local: tuple[str, int],
) -> Asked:
    """Return what `params` ask for.

    `trusted`: whether the front server's word about the client is believed. `peer` and `local` are
    the two ends of the connection that the variables came by; they stand where it is not.

    Names and values have no NUL byte: the decoders of FastCGI and SCGI refuse them.

    Raises:
        PeerError: 400, 414 or 501; its sentence names the variable.
    """
    method = _method(params)
    length = _length(params, method)
    target = params.get(b"REQUEST_URI", b"")
    if target and _visible(target) is None:
        raise PeerError(400, "REQUEST_URI has a byte that may not stand there.")
    query = params.get(b"QUERY_STRING")
    if query is None:
        # After a rewrite the query of REQUEST_URI is another one, but then there is a SCRIPT_NAME.
        query = b"" if b"SCRIPT_NAME" in params else target.partition(b"?")[2]
    elif not is_field_value(query):
        raise PeerError(400, "QUERY_STRING has a control character.")
    path = _path(params, method, target)
    if not target:
        target = path + b"?" + query if query else path
    protocol = params.get(b"SERVER_PROTOCOL", b"")
    scheme = b"http"
    shown = _NOTHING
    remote = peer
    if trusted:
        scheme = _scheme(params)
        remote, local = _ends(params, peer, local)
        shown = _shown(params)
    return Asked(
        method=method,
        target=target,
        path=path,
        query=query,
        protocol=protocol if _protocol(protocol) else b"HTTP/1.1",
        headers=_headers(params),
        host=_host(params, trusted),
        scheme=scheme,
        remote=remote,
        local=local,
        length=length,
        params=shown,
    )


def _method(params: Mapping[bytes, bytes]) -> str:
    method = params.get(b"REQUEST_METHOD", b"")
    if not is_token(method):
        raise PeerError(400, "REQUEST_METHOD is missing or not a token.")
    if len(method) > METHOD_MAX or method == b"CONNECT":
        raise PeerError(501, "The REQUEST_METHOD is not implemented.")
    return method.decode("ascii")


def _path(params: Mapping[bytes, bytes], method: str, target: bytes) -> bytes:
    """Return the path, percent-encoded."""
    name, info = params.get(b"SCRIPT_NAME", b""), params.get(b"PATH_INFO", b"")
    path = name + info
    if name and name == info and name == unquote_to_bytes(target.partition(b"?")[0]):
        path = name  # each of them is the whole
    path = path or params.get(b"DOCUMENT_URI", b"")
    if path == b"*" == target or (target and not path):
        return _target_path(method, target)
    if not path:
        raise PeerError(400, "No SCRIPT_NAME, PATH_INFO, DOCUMENT_URI or REQUEST_URI was sent.")
    if not path.startswith(b"/"):
        raise PeerError(400, "The path of SCRIPT_NAME and PATH_INFO does not start with a slash.")
    if len(path) > PATH_MAX:
        raise PeerError(414, "The path of SCRIPT_NAME and PATH_INFO is too long.")
    return _encode_path(_percent, path)


def _target_path(method: str, target: bytes) -> bytes:
    """Return the path of REQUEST_URI, which is still encoded, as HTTP would understand it."""
    try:
        path = split_target(method, _encode_high(_percent, target))[0]
    except PeerError:
        raise PeerError(400, "REQUEST_URI is neither a path nor an http URL.") from None
    if len(path) > 3 * PATH_MAX:
        raise PeerError(414, "The path of REQUEST_URI is too long.")
    return path


def _percent(byte: re.Match[bytes]) -> bytes:
    return b"%%%02X" % byte[0][0]


def _headers(params: Mapping[bytes, bytes]) -> Headers:
    """Return the header fields: HTTP_* (4.1.18), CONTENT_TYPE and CONTENT_LENGTH if not empty."""
    names = _names
    fields: list[tuple[bytes, bytes]] = []
    for variable, value in params.items():
        name = (names.get(variable) or _meaning(variable))[0]
        if not name:
            continue
        if value.translate(None, TEXT):
            raise PeerError(400, "A variable HTTP_* or CONTENT_TYPE has a control character.")
        value = value.strip(b" \t")
        if value or variable not in _ENTITY:
            fields.append((name, value))
    return tuple(fields)


def _shown(params: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return what a program may be shown.

    No shell could name the rest (notes inside Apache have dashes), or it would change how programs
    start.
    """
    names = _names
    return {name: value for name, value in params.items() if (names.get(name) or _meaning(name))[1]}


def _meaning(variable: bytes) -> tuple[bytes, bool]:
    """Return the header field of a variable, b"" for none, and whether programs may be shown it."""
    name = b""
    shown = _variable(variable) is not None and not refused(variable)
    if variable in _ENTITY:
        name = variable
    elif shown and variable not in _NOT_FIELDS and (match := _field(variable)):
        name = match[1]
    meaning = name.replace(b"_", b"-").lower(), shown
    if len(variable) <= _NAMES_LENGTH:
        if len(_names) >= _NAMES_LIMIT:
            _names.clear()
        _names[variable] = meaning
    return meaning


def _host(params: Mapping[bytes, bytes], trusted: bool) -> bytes:
    """Return the host that was asked for, else the front server's name for itself, else b""."""
    for variable in (b"HTTP_HOST", b"SERVER_NAME") if trusted else (b"HTTP_HOST",):
        value = params.get(variable, b"")
        if value not in _NOT_NAMES:
            try:
                return normal_host(value)
            except PeerError:
                pass  # nginx sends also patterns as SERVER_NAME
    return b""


def _length(params: Mapping[bytes, bytes], method: str) -> int | None:
    """Return the length of the body. "" is what nginx sends where the client announced none."""
    sent = params.get(b"CONTENT_LENGTH", b"")
    if sent:
        if _length_digits(sent) is None:  # before int(), which takes signs, spaces, other digits
            raise PeerError(400, "CONTENT_LENGTH is not a number of bytes.")
        return int(sent)
    if method in _BODILESS and b"chunked" not in params.get(b"HTTP_TRANSFER_ENCODING", b"").lower():
        return 0
    return None


def _scheme(params: Mapping[bytes, bytes]) -> bytes:
    if params.get(b"HTTPS", b"").lower() not in _OFF:
        return b"https"
    return b"https" if params.get(b"REQUEST_SCHEME", b"").lower() == b"https" else b"http"


def _ends(
    params: Mapping[bytes, bytes], peer: tuple[str, int], local: tuple[str, int]
) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return the client's end of its connection and the front server's.

    One that is no address, as nginx's "unix:", is ("", 0). Caddy names only its port.
    """
    if (address := params.get(b"REMOTE_ADDR")) is not None:
        peer = _end(address, params.get(b"REMOTE_PORT", b""))
    address, port = params.get(b"SERVER_ADDR"), params.get(b"SERVER_PORT", b"")
    if address is not None:
        local = _end(address, port)
    elif port:
        local = "", _port(port)
    return peer, local


def _end(address: bytes, port: bytes) -> tuple[str, int]:
    """Return an address, of IPv6 without brackets and zone, and its port."""
    text = ip_text(address) or ip_text(address.strip(b"[]").partition(b"%")[0])
    return (text, _port(port)) if text else ("", 0)


def _port(port: bytes) -> int:
    number = int(port) if _port_digits(port) else 0
    return number if number <= PORT_MAX else 0
