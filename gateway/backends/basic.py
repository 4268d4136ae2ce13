"""Paths that need a name and a password: HTTP's Basic scheme (RFC 7617).

Decides which of the protected paths a request falls under, and who may pass. Must not know where
passwords are: `check` asks somebody who does. Asked before a route is chosen, and of every path
that a request is led to, so files, listings, index files, scripts and local redirects are protected
alike. Whose password was right is REMOTE_USER; the password itself goes no further.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence

from gateway.exchange import Headers, Refused, Request
from gateway.process.terms import Area

CREDENTIALS_MAX = 1024
"""Bytes of name and password as they are sent, in base64."""

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_ORIGIN_BITS = 64
"""Of an IPv6 address: what one subscriber has."""

Check = Callable[[Area, bytes, bytes, bytes], Awaitable[bool]]
"""Whether, for this path, asked by this origin, this user has this password. Raises Refused."""


class Basic:
    """The protected paths of one site."""

    def __init__(self, areas: Sequence[Area], check: Check) -> None:
        by_depth = [(area.names, area) for area in areas]
        self._areas = sorted(by_depth, key=lambda item: len(item[0]), reverse=True)
        self._check = check

    def area(self, names: tuple[bytes, ...]) -> Area | None:
        """Return what protects a path, the innermost; None if nothing does.

        `names` are the components of the decoded path, as `terms.names_of` gives them.
        """
        for inner, area in self._areas:
            if names[: len(inner)] == inner:
                return area
        return None

    async def admit(self, request: Request, names: tuple[bytes, ...]) -> Request:
        """Return the request as it may go on. Raises Refused: 401, or what `check` raises."""
        area = self.area(names)
        if area is None:
            return request
        said = credentials(request.headers)
        if said is None:
            raise _denied(area, "")
        user, password = said
        if not await self._check(area, origin(request.remote[0]), user, password):
            path = area.path.decode("utf-8", "backslashreplace")
            raise _denied(area, f"wrong name or password for {path} from {request.remote[0]}")
        request.notes.user = user
        return request._replace(
            headers=tuple(item for item in request.headers if item[0] != b"authorization"),
            params={**request.params, b"REMOTE_USER": user, b"AUTH_TYPE": b"Basic"},
        )


def credentials(headers: Headers) -> tuple[bytes, bytes] | None:
    """Return the name and the password that a request brings; None if it brings none, or two."""
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1:
        return None
    scheme, _, token = given[0].partition(b" ")
    token = token.strip(b" ")
    if scheme.lower() != b"basic" or len(token) > CREDENTIALS_MAX:
        return None
    try:
        said = base64.b64decode(token, validate=True)
    except binascii.Error:
        return None
    user, colon, password = said.partition(b":")
    # Neither may hold control characters (RFC 7617 section 2); "() {" would not reach a script.
    if not colon or not user or _CONTROL.search(said) or user.startswith(b"() {"):
        return None
    return user, password


def origin(address: str) -> bytes:
    """Return by what the failures of a client are counted: its address, or its IPv6 network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address.encode("ascii", "replace")[:100]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped).encode()
        network = int(parsed) >> (128 - _ORIGIN_BITS) << (128 - _ORIGIN_BITS)
        return f"{ipaddress.IPv6Address(network)}/{_ORIGIN_BITS}".encode()
    return str(parsed).encode()


def _denied(area: Area, log: str) -> Refused:
    wanted = b'Basic realm="%b", charset="UTF-8"' % area.realm
    return Refused(
        401,
        "This page needs a name and a password.",
        log=log,
        headers=((b"WWW-Authenticate", wanted),),
    )
