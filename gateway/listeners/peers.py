"""Who is at the other end of a connection, and whether such a one is listed.

Decides the forms of an entry and when an address or an account matches one. Must not know what
being listed means: an entrance asks this of those who may connect, and of those who are believed.

Standard: RFC 4632 and RFC 4291 for networks; unix(7), SO_PEERCRED, for accounts. An IPv4-mapped
IPv6 address (RFC 4291 section 2.5.5.2) is the IPv4 address that it stands for.
"""

import pwd
import re
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Self, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

REMEMBERED = 1024
"""Addresses whose answer is kept: a list of ten networks takes 4 us, the memory 0.06 us."""
ADDRESS_MAX = 45
"""Characters of the longest address, an IPv4-mapped one in full."""

_CREDENTIALS = struct.Struct("iII")
"""`struct ucred`: process, user, group."""
_NUMBER_AND_SLASH = re.compile(r"[0-9./]+")
_NETWORK = re.compile(r"([0-9A-Fa-f:.]{2,45})(?:/(0|[1-9][0-9]{0,2}))?")
_UID = re.compile(r"uid:(0|[1-9][0-9]{0,9})")
_UID_MAX = (1 << 32) - 2


@dataclass(frozen=True, slots=True)
class Peers:
    """Listed networks, for TCP, and accounts, for Unix sockets. An empty list lists nobody."""

    networks: tuple[Network, ...] = ()
    uids: frozenset[int] = frozenset()
    _known: dict[str, bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def parse(cls, items: Sequence[str]) -> Self:
        """Read entries: "127.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", "www-data", "uid:1000".

        Accounts are looked up now. Raises ValueError, in words, for an entry that is none.
        """
        networks: list[Network] = []
        uids: set[int] = set()
        for item in items:
            if item.startswith("uid:"):
                uids.add(_uid(item))
            elif ":" in item or _NUMBER_AND_SLASH.fullmatch(item) or "/" in item:
                networks.append(_network(item))
            else:
                uids.add(_account(item))
        return cls(tuple(networks), frozenset(uids))

    def allows(self, sock: socket.socket) -> bool:
        """Whether the other end of a connected socket is listed. One that is gone is not."""
        try:
            if sock.family == socket.AF_UNIX:
                return self.allows_uid(peer_uid(sock))
            return self.allows_address(sock.getpeername()[0])
        except OSError:
            return False

    def allows_address(self, text: str) -> bool:
        """Whether an IP address is listed; what is no address is not."""
        known = self._known.get(text)
        if known is None:
            if len(text) > ADDRESS_MAX + 17:  # "%" and a device's name of 15, and one to spare
                return False
            known = self._lists(text)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[text] = known
        return known

    def allows_uid(self, uid: int) -> bool:
        """Whether an account is listed."""
        return uid in self.uids

    def _lists(self, text: str) -> bool:
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            return False
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)


def peer_uid(sock: socket.socket) -> int:
    """Return who connected a Unix socket, as of the connect (unix(7), SO_PEERCRED).

    An account that this user namespace does not know is 65534. Raises OSError.
    """
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(data)
    return int(uid)


def _network(text: str) -> Network:
    match = _NETWORK.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f'"{text}" is no address: write "192.0.2.7", "10.0.0.0/8", "::1" or "2001:db8::/32"'
        ) from None
    if network.network_address != ip_address(match[1]):
        raise ValueError(
            f'"{text}" names one host and a whole network: write "{network}" for the network, '
            f'or "{match[1]}" for the host'
        )
    mapped = network.network_address.ipv4_mapped if network.version == 6 else None
    if mapped is not None and network.prefixlen >= 96:
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


def _uid(text: str) -> int:
    match = _UID.fullmatch(text)
    if match is None or int(match[1]) > _UID_MAX:
        raise ValueError(f'"{text}" is no account: a number is written "uid:1000"')
    return int(match[1])


def _account(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # ValueError: a NUL
        raise ValueError(f'no such account: "{name}"; an address is written "127.0.0.1"') from None
