"""The one builder of CGI variables, for scripts started here and for FastCGI and SCGI workers.

Decides which variables a request becomes, and which of its header fields a program may see. Must
not know where the program runs: PATH, TZ and what the settings add are the process floor's.

Standard: RFC 3875 section 4.1. Beyond it, what Apache's and nginx's programs rely on:
DOCUMENT_ROOT, HTTPS, REMOTE_PORT, REQUEST_SCHEME, REQUEST_URI, SCRIPT_FILENAME, SERVER_ADDR,
REDIRECT_STATUS (php-cgi refuses to run without it), and the request's id as REQUEST_ID and as
UNIQUE_ID (Apache's name for it).

Header fields become HTTP_* (section 4.1.18) with these bounds:

- only names of [A-Za-z0-9-]. "X_Forwarded_For" and "X.Forwarded.For" would become the very name of
  "X-Forwarded-For" in many programs, and so get past whoever checked the latter;
- never Proxy: HTTP_PROXY steers the program's own outgoing requests (CVE-2016-5385, "httpoxy");
- not X-Sendfile-Type and X-Accel-Mapping, by which a client would choose how an application hands
  its files over (CVE-2025-61780);
- not Content-Type and Content-Length, which have variables of their own;
- Authorization and Proxy-Authorization only where the route says so; no REMOTE_USER and no
  AUTH_TYPE are ever made of them, because nobody has checked them;
- nothing that concerns only the connection to the client (Connection, TE, Transfer-Encoding,
  Expect, ...). A field that the client merely names in Connection stays: this is the end of the
  message's way, and a client must not be able to take fields away;
- no value that starts with "() {": old versions of bash run it (CVE-2014-6271), and nothing
  honest looks like that;
- a repeated field is one variable, joined by ", " (Cookie by "; ", RFC 6265 section 5.4).

What a trusted front server sent as FastCGI or SCGI parameters (`cgi_request.py`, the inverse)
stands as it was sent, over what would be computed here: REMOTE_USER, AUTH_TYPE, SSL_*, SERVER_*,
whatever its administrator adds. Not so:

- what follows from the request (`_OURS`), which was decided here, or changed by a local redirect;
- HTTP_*, which are header fields again and have the bounds above;
- a value that starts with "() {": a `fastcgi_param` may be made of what the client sent;
- an empty SERVER_NAME, which may not be (section 4.1.14) and which nginx sends where a server block
  has no name.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from gateway.wire.headers import Headers

_FUNCTION = b"() {"

_PLAIN_NAME = re.compile(rb"[A-Za-z0-9-]+").fullmatch

_HIDDEN = (
    b"connection",
    b"content-length",
    b"content-type",
    b"expect",
    b"http2-settings",
    b"keep-alive",
    b"proxy",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"x-accel-mapping",
    b"x-sendfile-type",
)
_SECRET = (b"HTTP_AUTHORIZATION", b"HTTP_PROXY_AUTHORIZATION")

_NAMES_LIMIT = 1024
_NAMES_LENGTH = 64
_names: dict[bytes, bytes] = dict.fromkeys(_HIDDEN, b"")
"""Field names already translated; b"" for a field that is not passed on. Clients choose the names,
so it is emptied when it becomes too large."""


def _variable(name: bytes) -> bytes:
    """Return the variable of a header field, or b"" for a field that is not passed on."""
    known = _names.get(name)
    if known is not None:
        return known
    variable = b""
    if _PLAIN_NAME(name) and name.lower() not in _HIDDEN:
        variable = b"HTTP_" + name.upper().replace(b"-", b"_")
    if len(name) <= _NAMES_LENGTH:
        if len(_names) >= _NAMES_LIMIT:
            _names.clear()
        _names[name] = variable
    return variable


# What changes how a program starts, whoever sets it: no request may, and no front server (FIELD
# section 3, rows 1, 14). Settings may: they do not come this way. Apache sends its own PATH along
# with each request.
_REFUSED_PREFIXES = (b"LD_", b"DYLD_", b"PYTHON", b"PERL5", b"BASH_FUNC_", b"MALLOC_")
_REFUSED = frozenset(
    b"BASH_ENV ENV IFS SHELLOPTS BASHOPTS PS4 CDPATH PERLLIB RUBYOPT RUBYLIB NODE_OPTIONS NODE_PATH"
    b" LUA_INIT JAVA_TOOL_OPTIONS PHPRC PHP_INI_SCAN_DIR GCONV_PATH GLIBC_TUNABLES LOCPATH NLSPATH"
    b" HOSTALIASES RES_OPTIONS LOCALDOMAIN TMPDIR PATH".split()
)


def refused(name: bytes) -> bool:
    """Tell whether a program may never be given the variable `name` by a request.

    HTTP_PROXY counts in any case: programs look for http_proxy too.
    """
    return (
        name in _REFUSED
        or name.startswith(_REFUSED_PREFIXES)
        or (len(name) == 10 and name.upper() == b"HTTP_PROXY")
    )


# Where programs look for what they load: Python runs usercustomize.py below HOME, git what its own
# settings name. A front server may say so for scripts of its own account, and nobody for others'.
_REFUSED_TENANT_PREFIXES = (b"XDG_", b"GIT")
_REFUSED_TENANT = frozenset((b"HOME",))


def refused_tenant(name: bytes) -> bool:
    """Tell whether a tenant's program may never be given the variable `name` by a request.

    What asks may be a front that was taken over, and is to run nothing of its own as the tenant.
    """
    return name in _REFUSED_TENANT or name.startswith(_REFUSED_TENANT_PREFIXES) or refused(name)


_OURS = frozenset(
    b"REQUEST_METHOD REQUEST_URI QUERY_STRING SCRIPT_NAME SCRIPT_FILENAME PATH_INFO PATH_TRANSLATED"
    b" DOCUMENT_ROOT CONTENT_LENGTH CONTENT_TYPE".split()
)
"""What follows from the request, whatever a front server sent."""

_NO_PARAMS: Mapping[bytes, bytes] = MappingProxyType({})


def variables(
    *,
    method: str,
    request_uri: bytes,
    query: bytes,
    protocol: bytes,
    headers: Headers,
    length: int | None,
    script_name: bytes,
    path_info: bytes,
    document_root: bytes,
    script_filename: bytes,
    scheme: bytes,
    server_name: bytes,
    server_port: int,
    server_address: str,
    remote_address: str,
    remote_port: int,
    software: bytes,
    authorization: bool = False,
    request_id: str = "",
    params: Mapping[bytes, bytes] = _NO_PARAMS,
) -> dict[bytes, bytes]:
    """Return the variables of one request, each name once.

    `length` is in bytes, None where only the end of input will tell. `server_port` 0 and
    `server_address` "" stand for a Unix socket, `server_name` b"" for a request without a host.
    `authorization` passes the two Authorization fields on. `params` is what a trusted front server
    sent, as `cgi_request.asked` gives it.

    Raises ValueError for a NUL byte, which no environment can hold.
    """
    env = {
        b"GATEWAY_INTERFACE": b"CGI/1.1",
        b"SERVER_SOFTWARE": software,
        b"SERVER_PROTOCOL": protocol,
        b"SERVER_NAME": server_name or _host(server_address),
        b"SERVER_PORT": b"%d" % (server_port or (443 if scheme == b"https" else 80)),
        b"REQUEST_METHOD": method.encode("ascii"),
        b"REQUEST_SCHEME": scheme,
        b"REQUEST_URI": request_uri,
        b"QUERY_STRING": query,
        b"SCRIPT_NAME": script_name,
        b"SCRIPT_FILENAME": script_filename,
        b"PATH_INFO": path_info,
        b"DOCUMENT_ROOT": document_root,
        b"REMOTE_ADDR": remote_address.encode("ascii"),
        b"REDIRECT_STATUS": b"200",
    }
    _add_connection(env, scheme, server_address, remote_port, request_id)
    if params:
        _add_params(env, params)
    if path_info:
        _add_translated(env, document_root, path_info)
    _add_headers(env, headers, length, authorization)
    if b"\0" in b"".join(env.values()):
        raise ValueError("a CGI variable would have a NUL byte")
    return env


def _host(address: str) -> bytes:
    """Return SERVER_NAME for a request that named no host; it may not be empty (4.1.14)."""
    if not address:
        return b"localhost"
    return b"[%b]" % address.encode("ascii") if ":" in address else address.encode("ascii")


def _add_connection(
    env: dict[bytes, bytes], scheme: bytes, server_address: str, remote_port: int, request_id: str
) -> None:
    """Add what is there for some requests only."""
    if server_address:
        env[b"SERVER_ADDR"] = server_address.encode("ascii")
    if remote_port:
        env[b"REMOTE_PORT"] = b"%d" % remote_port
    if scheme == b"https":
        env[b"HTTPS"] = b"on"
    if request_id:
        env[b"REQUEST_ID"] = env[b"UNIQUE_ID"] = request_id.encode("ascii")


def _add_params(env: dict[bytes, bytes], params: Mapping[bytes, bytes]) -> None:
    """Put what a trusted front server sent over what was computed."""
    for name, value in params.items():
        if name in _OURS or name.startswith(b"HTTP_") or value.startswith(_FUNCTION):
            continue
        if value or name != b"SERVER_NAME":
            env[name] = value


def _add_translated(env: dict[bytes, bytes], document_root: bytes, path_info: bytes) -> None:
    """Add PATH_TRANSLATED (4.1.6). The root with a path that climbs out of it is not one."""
    if b"/../" not in path_info + b"/":
        env[b"PATH_TRANSLATED"] = document_root.rstrip(b"/") + path_info


def _add_headers(
    env: dict[bytes, bytes], headers: Headers, length: int | None, authorization: bool
) -> None:
    """Add HTTP_*, CONTENT_TYPE and CONTENT_LENGTH (4.1.18, 4.1.3, 4.1.2).

    CONTENT_LENGTH is there exactly when the request has a body of known length. A body of no bytes
    is a body if the client announced one: "Content-Length: 0" gives "0", as with Apache and nginx;
    a GET without that field gives none. A body of unknown length gives none; it ends with the
    input.
    """
    names = _names
    announced = False
    for name, value in headers:
        variable = names.get(name)
        if variable is None:
            variable = _variable(name)
        if not variable:
            kind = name.lower()
            if kind == b"content-type":
                if b"CONTENT_TYPE" not in env and not value.startswith(_FUNCTION):
                    env[b"CONTENT_TYPE"] = value
            elif kind == b"content-length" or kind == b"transfer-encoding":
                announced = True
        elif not value.startswith(_FUNCTION):
            if variable in env:
                joint = b"; " if variable == b"HTTP_COOKIE" else b", "
                value = env[variable] + joint + value
            env[variable] = value
    if not authorization:
        for name in _SECRET:
            env.pop(name, None)
    if length or (length == 0 and announced):
        env[b"CONTENT_LENGTH"] = b"%d" % length
