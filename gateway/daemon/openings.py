"""The daemon's listening sockets: all of `[listen]` opened, and what of it must be removed again.

Decides nothing about a single socket: that is `listeners/sockets.py`. Imports no event loop: the
master opens them, the fronts listen.
"""

import grp
import pwd
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.config.settings import ListenSettings
from gateway.exchange import Via
from gateway.listeners.listening import Listener
from gateway.listeners.sockets import Inherited, open_listeners, remove_paths, weak_place


@dataclass(frozen=True, slots=True)
class Opened:
    """One listening socket."""

    socket: socket.socket
    via: Via
    number: int
    """Which of its protocol's listeners it is, from 0."""
    listener: Listener


@contextmanager
def opened(
    listen: ListenSettings, inherited: Inherited, warn: Callable[[str], None]
) -> Iterator[Sequence[Opened]]:
    """Open everything, and remove afterwards what was made.

    Raises OSError and ValueError whose text names the address and the way out.
    """
    found: list[Opened] = []
    try:
        for via, number, listener in listen.every():
            found += (
                Opened(one, via, number, listener)
                for one in open_listeners(
                    listener.address,
                    inherited,
                    mode=listener.mode,
                    owner=pwd.getpwnam(listener.owner).pw_uid if listener.owner else -1,
                    group=grp.getgrnam(listener.group).gr_gid if listener.group else -1,
                    unsafe=listener.unsafe,
                    outside=via == "http" or listener.allow is not None,
                )
            )
            if weak := weak_place(listener.address):
                warn(weak)
        for name in inherited.unused():
            warn(f'systemd passes a socket "{name}" that no listener in [listen] names')
        inherited.close()
        yield found
    finally:
        close(found)


def close(sockets: Sequence[Opened]) -> None:
    """Close what is open of `sockets`, and remove the paths that were made for it.

    Not later than that: another daemon may listen at the same path by then.
    """
    still = [each for each in sockets if each.socket.fileno() >= 0]
    remove_paths(each.listener.address for each in still)
    for each in still:
        each.socket.close()
