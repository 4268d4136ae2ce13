"""What front servers say about the client: Forwarded, X-Forwarded-* and X-Real-IP.

Decides whose word counts and how far. Must not know which addresses are trusted (it is told), nor
what is done with the answer.

Anybody can send these fields, so nothing at all is believed unless the peer of the connection is
trusted. Then the chain of addresses is walked from its end, which that peer wrote, to its
beginning, which the client may have made up: each address that is trusted vouches for the one
before it, and the first that is not is the client. If all are trusted it is the one farthest from
us. An element that is no address ends the walk: the last good one counts.

Only one family of fields is believed, which the settings name. A front that sets X-Forwarded-For
passes on the Forwarded or the X-Real-IP that a client made up, and the other way round; to take
whichever is there would let clients choose who they are. For the same reason a front has to set
all that it is believed for, or take away what the client sent: see `Believed`.

Standard: RFC 7239 for Forwarded. There is none for the others; each front appends an address
(Apache, Caddy, HAProxy, lighttpd, nginx by $proxy_add_x_forwarded_for) or replaces the field.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple, TypeAlias

from gateway.wire import PeerError
from gateway.wire.headers import Headers
from gateway.wire.http_head import normal_host
from gateway.wire.ip import PORT_MAX, ip_text

Believed: TypeAlias = Literal["x-forwarded", "forwarded", "x-real-ip"]
"""Which fields the front sets, so that they may be believed.

"x-forwarded": X-Forwarded-For, -Proto, -Host and -Port. "x-real-ip": X-Real-IP, and the same three
beside it. "forwarded": Forwarded (RFC 7239) alone, which says all of it in one element, so that
nothing in it can come from somebody else.
"""

ELEMENTS_MAX: Final = 32
"""Elements of a chain that are looked at, from its end. No honest chain is as long."""
VALUE_MAX: Final = 8192
"""Bytes of Forwarded that are looked at, from its end: all that nginx takes in a line."""


class Origin(NamedTuple):
    """What a trusted front said. What it did not say stays as the connection has it."""

    address: str
    """The client's address; "" if it is not known, or hidden on purpose (RFC 7239 section 6.3)."""
    port: int
    """The client's port; 0 if it is not known."""
    scheme: bytes
    """b"http" or b"https", as the client came to the front; b"" if it is not known."""
    host: bytes
    """The host that the client asked the front for, lower case, no port; b"" if it is not known."""
    server_port: int
    """The port that the client asked at the front; 0 if none was named: the scheme's own."""


class _Said(NamedTuple):
    """One element of Forwarded."""

    node: tuple[str, int] | None
    scheme: bytes
    host: bytes
    port: int


_BESIDE: Final = (b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port")
_NAMES: Final[Mapping[Believed, tuple[bytes, ...]]] = {
    "x-forwarded": (b"x-forwarded-for", *_BESIDE),
    "x-real-ip": (b"x-real-ip", *_BESIDE),
    "forwarded": (b"forwarded",),
}

_marks = re.compile(rb"""\\+"?|"|,""").finditer
# A value that has to be quoted but is not (an address with a port, in brackets) is read all the
# same: several fronts send it so, and it can mean nothing else.
_pair = re.compile(
    rb"[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)="
    rb"""(?:([!#$%&'*+.^_`|~0-9A-Za-z:[\]-]+)|"([^"\\]*(?:\\.[^"\\]*)*)")[ \t]*)?(?:;|\Z)""",
    re.DOTALL,
).match
_escaped = re.compile(rb"\\(.)", re.DOTALL)
_node = re.compile(
    rb"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::(?:([0-9]{1,5})|_[A-Za-z0-9._-]+))?"
).fullmatch
_port = re.compile(rb"[0-9]{1,5}").fullmatch
_port_of = re.compile(rb":([0-9]{1,5})").search


def client(
    headers: Headers,
    peer: str,
    trusted: Callable[[str], bool],
    believed: Believed = "x-forwarded",
) -> Origin | None:
    """Return what is to be believed about the client, or None if nothing is.

    Args:
        headers: The request's fields, names in lower case.
        peer: The address of the connection's peer, as text; "" behind a Unix socket.
        trusted: Whether the word of a front with this address counts.
        believed: Which fields the front sets.
    """
    if not trusted(peer):
        return None
    said = _gather(headers, believed)
    if not said:
        return None
    if believed == "forwarded":
        origin = _forwarded(said[b"forwarded"], trusted)
    elif believed == "x-forwarded":
        chain = _elements(said.get(b"x-forwarded-for", b""))
        node, place = _walk(chain, trusted)
        origin = _beside(said, node, len(chain), place)
    else:
        # No chain: one value, by the last who set it.
        value = said.get(b"x-real-ip", b"")
        origin = _beside(said, read_node(value.rpartition(b",")[2].strip(b" \t")), 0, 0)
    return origin if any(origin) else None


def _gather(headers: Headers, believed: Believed) -> dict[bytes, bytes]:
    """Return the fields that are believed, repeated ones joined (RFC 9110 section 5.2)."""
    names = _NAMES[believed]
    said: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in names:
            said[name] = said[name] + b"," + value if name in said else value
    return said


def _elements(value: bytes) -> list[bytes]:
    """Return the last elements of a list; empty ones do not count (RFC 9110 section 5.6.1)."""
    split = value.rsplit(b",", ELEMENTS_MAX)[-ELEMENTS_MAX:]
    return [element for part in split if (element := part.strip(b" \t"))]


def _walk(
    chain: Sequence[bytes], trusted: Callable[[str], bool]
) -> tuple[tuple[str, int] | None, int]:
    """Return the client in a chain of addresses, and its place in it."""
    found: tuple[str, int] | None = None
    place = len(chain) - 1
    for index in range(place, -1, -1):
        node = read_node(chain[index])
        if node is None:
            break
        found, place = node, index
        if not trusted(node[0]):
            break
    return found, place


def _beside(
    said: Mapping[bytes, bytes], node: tuple[str, int] | None, count: int, place: int
) -> Origin:
    """Return what X-Forwarded-Proto, -Host and -Port say beside an address.

    Some fronts append a word as they append an address: then there are as many (`count`), and the
    word at the same `place` is the one. Otherwise the last counts, the word of our own peer.
    """
    words = []
    for name in _BESIDE:
        found = _elements(said[name]) if name in said else ()
        words.append((found[place] if len(found) == count else found[-1]) if found else b"")
    address, port = node or ("", 0)
    host, server_port = _authority(words[1])
    if _port(words[2]) and 0 < int(words[2]) <= PORT_MAX:
        server_port = int(words[2])
    return Origin(address, port, _scheme(words[0]), host, server_port)


def _forwarded(value: bytes, trusted: Callable[[str], bool]) -> Origin:
    """Walk Forwarded. Every element before the end of the walk was written by a trusted front;
    where several tell a scheme or a host, the one nearest to the client knows it best."""
    address, port, scheme, host, server_port = "", 0, b"", b"", 0
    for element in islice(_from_the_end(value), ELEMENTS_MAX):
        said = _read_element(element)
        if said is None:
            break
        scheme = said.scheme or scheme
        if said.host:
            host, server_port = said.host, said.port
        if said.node is None:
            break
        address, port = said.node
        if not trusted(address):
            break
    return Origin(address, port, scheme, host, server_port)


def _from_the_end(value: bytes) -> Iterator[bytes]:
    """Give the elements of a Forwarded value that are not empty, the last one first.

    Read backwards, because what the client made up stands before what a front has added: an open
    quote in it would swallow the front's element if it were read from the beginning.
    """
    if len(value) > VALUE_MAX:
        value = value[-VALUE_MAX:].partition(b",")[2]
    stop = len(value)
    quoted = False
    for mark in reversed(list(_marks(value))):
        found = mark[0]
        if found == b",":
            if not quoted:
                if element := value[mark.end() : stop].strip(b" \t"):
                    yield element
                stop = mark.start()
        elif found.endswith(b'"') and (not quoted or len(found) % 2):
            # Inside a quoted string, a quote after an odd number of backslashes is part of it.
            quoted = not quoted
    if element := value[:stop].strip(b" \t"):
        yield element


def _read_element(element: bytes) -> _Said | None:
    """Read one forwarded-element (RFC 7239 section 4); None if it is malformed."""
    pairs: dict[bytes, bytes] = {}
    position = 0
    while position < len(element):
        match = _pair(element, position)
        if match is None:
            return None
        position = match.end()
        if match[1] is None:
            continue  # nothing between two semicolons, which is allowed
        name = match[1].lower()
        if name in pairs:
            return None
        pairs[name] = match[2] if match[3] is None else _escaped.sub(rb"\1", match[3])
    host, port = _authority(pairs.get(b"host", b""))
    node = read_node(pairs.get(b"for", b""))
    return _Said(node, _scheme(pairs.get(b"proto", b"")), host, port)


def read_node(text: bytes) -> tuple[str, int] | None:
    """Return address and port (0 if there is none) of a node; None if it is no address.

    Takes "192.0.2.1", "192.0.2.1:80", "[2001:db8::1]", "[2001:db8::1]:80" (RFC 7239 section 6) and
    "2001:db8::1" (as X-Forwarded-For has it). A port that is obfuscated is none; "unknown" and
    names that begin with "_" are no addresses.
    """
    match = _node(text)
    if match is None:
        address = ip_text(text) if b":" in text else ""
        return (address, 0) if address else None
    address = ip_text(match[1] or match[2])
    port = int(match[3] or b"0")
    # Brackets are for IPv6 alone.
    if not address or port > PORT_MAX or (match[2] is not None and b":" not in match[2]):
        return None
    return address, port


def _scheme(word: bytes) -> bytes:
    word = word.lower()
    return word if word in (b"http", b"https") else b""


def _authority(value: bytes) -> tuple[bytes, int]:
    """Return host and port of a Host value; (b"", 0) if it is not valid."""
    try:
        host = normal_host(value)
    except PeerError:
        return b"", 0
    # What is after an IPv6 address's bracket, or after the one colon of a name.
    match = _port_of(value, value.rfind(b"]") + 1)
    return host, int(match[1]) if match else 0
