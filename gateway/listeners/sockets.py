"""Listening sockets: where they are and how they are opened.

Decides the forms of an address and that a socket is safe: a Unix socket has mode 0660 from the
moment it exists, and only a socket that nobody answers on is taken away.
"""

import errno
import os
import re
import socket
import stat
from collections.abc import Iterable
from dataclasses import dataclass

BACKLOG = 2048
"""Connections that may wait to be accepted; the kernel's own bound is often 4096. nginx has 511."""

_TCP = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.*_-]*)):([0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen on: host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read "127.0.0.1:8080", "[::1]:8080", ":8080", "*:8080" or "unix:/run/gateway.sock".

    Raises ValueError with the right form in its words.
    """
    if text.startswith("unix:") and len(text) > 5:
        return Address(path=text[5:])
    match = _TCP.fullmatch(text)
    if match is None or not 0 < int(match[3]) < 65536:
        raise ValueError('an address is written "127.0.0.1:8080", "[::1]:8080" or "unix:/path"')
    host = match[1] or match[2]
    return Address(host="0.0.0.0" if host in ("", "*") else host, port=int(match[3]))


def open_listener(address: Address) -> socket.socket:
    """Return a listening socket, not blocking. Raises OSError whose text names the address."""
    try:
        return _open_unix(address.path) if address.path else _open_tcp(address)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {address}: {_way_out(error)}") from None


def _way_out(error: OSError) -> str:
    text = error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        return f"{text}; stop the program that listens there, or choose another port"
    if error.errno == errno.EACCES:
        return f"{text}; ports below 1024 need root, a Unix socket a directory you may write to"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{text}; this machine has no such address"
    return text


def _open_tcp(address: Address) -> socket.socket:
    family, kind, protocol, _, name = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(name)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _open_unix(path: str) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def remove_paths(addresses: Iterable[Address]) -> None:
    """Remove the Unix sockets among `addresses`, which this process made."""
    for address in addresses:
        if address.path:
            try:
                os.unlink(address.path)
            except FileNotFoundError:
                pass  # somebody has tidied up


def _remove_stale(path: str) -> None:
    """Remove a socket that a dead process left; refuse one that is answered, or another thing."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise OSError(errno.EADDRINUSE, "there is something else that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # somebody listens, and is busy
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
