"""Floor 1: where somebody listens, as it is written in settings.

Decides the forms of an address, for our own listeners and for workers that we connect to, and which
forms only a listener can have. Must not open a socket or look at the machine.
"""

import os
import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address, ip_address

PATH_MAX = 107
"""Bytes of a Unix socket's path (unix(7): `sun_path` holds 108 with the NUL)."""
DESCRIPTOR_MAX = 1023

_TCP = re.compile(r"(?:\[([^\[\]]{2,80})\]|(\*|[A-Za-z0-9._-]{0,255})):([0-9]{1,5})")
_NAME = re.compile(r"[ -9;-~]{1,255}")
_DESCRIPTOR = re.compile(r"0|[1-9][0-9]{0,3}")
_ANY = {"", "*", "0.0.0.0", "::"}


@dataclass(frozen=True, slots=True)
class Address:
    """One place: host and port, the path of a Unix socket, or a socket that was handed to us."""

    host: str = ""
    """A name or an IP address."""
    port: int = 0
    path: str = ""
    """Of a Unix socket."""
    name: str = ""
    """Of a socket that systemd passes (`FileDescriptorName=`)."""
    descriptor: int = -1
    """Of a listening socket that the parent process left open for us."""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        if self.name:
            return f"systemd:{self.name}"
        if self.descriptor >= 0:
            return f"fd:{self.descriptor}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def inherited(self) -> bool:
        """Whether somebody else makes the socket."""
        return bool(self.name) or self.descriptor >= 0


def parse_address(text: str) -> Address:
    """Read an address to listen on.

    It is "127.0.0.1:8080", "[::1]:8080", ":8080" or "*:8080" for every IPv4 address of the machine,
    "unix:/run/gateway.sock", "systemd:NAME" (sd_listen_fds(3)) or "fd:0" to "fd:1023". Raises
    ValueError with the right form in its words.
    """
    kind, _, rest = text.partition(":")
    if kind == "unix":
        return Address(path=_path(text, rest))
    if kind == "systemd":
        if _NAME.fullmatch(rest) is None:
            raise ValueError(f'{text!r}: a socket\'s name is ASCII without ":", 1 to 255 long')
        return Address(name=rest)
    if kind == "fd":
        if _DESCRIPTOR.fullmatch(rest) is None or int(rest) > DESCRIPTOR_MAX:
            raise ValueError(f'{text!r}: a descriptor is written "fd:0" to "fd:{DESCRIPTOR_MAX}"')
        return Address(descriptor=int(rest))
    host, port = _host_and_port(
        text, 'an address is written "127.0.0.1:8080", "[::1]:8080" or "unix:/path"'
    )
    return Address(host="0.0.0.0" if host in ("", "*") else host, port=port)


def parse_remote(text: str) -> Address:
    """Read an address to connect to: "127.0.0.1:9000", "[::1]:9000", "name:9000" or "unix:/path".

    Raises ValueError, in words, also for what can only be listened on.
    """
    kind, _, rest = text.partition(":")
    if kind == "unix":
        return Address(path=_path(text, rest))
    if kind in ("systemd", "fd"):
        raise ValueError(f"{text!r} is for listening; to connect, write host:port or unix:/path")
    host, port = _host_and_port(text, f"{text!r} is neither unix:/path nor host:port")
    if host in _ANY:
        raise ValueError(f"{text!r} is for listening; name the host, such as 127.0.0.1:{port}")
    return Address(host=host, port=port)


def needs_allow(address: Address) -> bool:
    """Whether other machines may reach an address, so that it must be said who is let in.

    Not so for Unix sockets. What a socket is that was passed to us shows only when it is taken
    over: see `outside` of `listeners/sockets.py`.
    """
    return bool(address.host) and not is_loopback(address.host)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone: 127.0.0.0/8, ::1 or "localhost" (RFC 6761, 6.3)."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _path(text: str, path: str) -> str:
    if not path:
        raise ValueError(f"{text!r} names no path: unix:/run/gateway.sock")
    if "\0" in path:
        raise ValueError(f"{text!r}: a path has no NUL; abstract sockets are open to everybody")
    if len(os.fsencode(path)) > PATH_MAX:
        raise ValueError(f"{text!r}: the path of a Unix socket has at most {PATH_MAX} bytes")
    return path


def _host_and_port(text: str, form: str) -> tuple[str, int]:
    """Split a TCP address; `form` is what to say of one that is none."""
    match = _TCP.fullmatch(text)
    if match is None or not 0 < int(match[3]) < 65536:
        raise ValueError(form)
    if match[1]:
        try:
            IPv6Address(match[1])
        except AddressValueError:
            raise ValueError(form) from None
    return match[1] or match[2], int(match[3])
