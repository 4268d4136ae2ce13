"""The settings of one listening socket, as they stand in `[listen]`.

Decides the keys and their defaults, and what in them contradicts itself; the text under each field
is its manual. Must not know how a socket is opened (`sockets.py`) nor who reads these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from gateway.address import Address, needs_allow
from gateway.listeners.peers import Peers
from gateway.listeners.sockets import Mode, check_mode
from gateway.wire.forwarded import Believed

Stderr: TypeAlias = Literal["log", "peer", "both"]

MODE = Mode(0o660)

_NOTHING: Mapping[str, str] = MappingProxyType({})


def _nothing() -> Mapping[str, str]:
    return _NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """What every listening socket has. In a list of addresses, an address alone is one of these.

    Raises ValueError for keys that contradict each other.
    """

    address: Address
    """Where: "127.0.0.1:8080", "[::1]:8080", "unix:/run/gateway/http.sock", "systemd:NAME" for a
    socket that systemd passes under that name, or "fd:N" for one that was inherited."""
    mode: Mode = MODE
    """The rights of a Unix socket. Those of others (the last digit) need `unsafe`."""
    owner: str = ""
    """The account that owns a Unix socket. Empty: who starts the daemon."""
    group: str = ""
    """The group of a Unix socket: that of the front server."""
    unsafe: bool = False
    """Whether a socket that everybody on the machine may connect to is opened all the same."""
    allow: tuple[str, ...] | None = None
    """Who may connect: addresses and networks for TCP, accounts for a Unix socket. Missing: whoever
    the system lets."""
    trust: tuple[str, ...] | None = None
    """Of those, whose word about the client is believed: its address, https, the user. Missing: on
    HTTP nobody's; on FastCGI and SCGI that of all who may connect."""

    def __post_init__(self) -> None:
        check_mode(self.address, self.mode, unsafe=self.unsafe)
        for peers in (self.allow, self.trust):
            if peers is not None:
                Peers.parse(peers)
        if self.address.host and (self.owner or self.group):
            raise ValueError('"owner" and "group" are for a Unix socket')


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpListener(Listener):
    """One socket of `[listen] http`."""

    proxy_protocol: bool = False
    """Whether each connection begins with a header of the PROXY protocol, version 1 or 2."""
    forwarded: Believed = "x-forwarded"
    """Which header fields of a trusted proxy tell of the client: X-Forwarded-For, -Proto, -Host and
    -Port; "forwarded" (RFC 7239); or "x-real-ip" alone. Only one kind: what a proxy does not set
    itself it lets pass as the client sent it."""

    def __post_init__(self) -> None:
        Listener.__post_init__(self)
        if self.proxy_protocol and self.allow is None and needs_allow(self.address):
            raise ValueError('proxy_protocol = true needs "allow": the proxies that may connect')


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayListener(Listener):
    """One socket of `[listen] fastcgi` or `scgi`."""

    script: Literal["map", "param"] = "map"
    """Which script a request is for: "map", what our sites say about its path; "param", what the
    front server says in SCRIPT_FILENAME (or DOCUMENT_ROOT and SCRIPT_NAME), below `roots` only."""
    roots: tuple[str, ...] = ()
    """The directories below which `script = "param"` may name scripts, or single scripts."""
    stderr: Stderr = "log"
    """Where what scripts write to their standard error goes: our "log", the front server ("peer",
    FastCGI only), or "both"."""
    authorization: bool = False
    """With `script = "param"`: whether scripts are given the Authorization header."""
    stream: bool = False
    """With `script = "param"`: whether a body of unknown length goes to the script as it comes."""
    environment: Mapping[str, str] = field(default_factory=_nothing)
    """With `script = "param"`: more variables for the scripts."""
    interpreters: Mapping[str, str] = field(default_factory=_nothing)
    """With `script = "param"`: extension to interpreter, for scripts that are not executable."""

    def __post_init__(self) -> None:
        Listener.__post_init__(self)
        if self.allow is None and needs_allow(self.address):
            raise ValueError(
                f"{self.address} can be reached from other machines, and who connects may run "
                'scripts: name the front servers in "allow"'
            )
        if self.script == "param" and not self.roots:
            raise ValueError('script = "param" needs "roots": the directories of the scripts')
        if self.script == "param" and self.trust is not None:
            raise ValueError('script = "param" believes the front server; "allow" says who that is')
        if self.script == "map" and (self.roots or self.environment or self.interpreters):
            raise ValueError('"roots", "environment" and "interpreters" are for script = "param"')
