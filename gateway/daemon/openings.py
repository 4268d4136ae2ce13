"""The daemon's listening sockets: all of `[listen]` opened, and what of it must be removed again.

Decides nothing about a single socket: that is `listeners/sockets.py`. Imports no event loop: the
master opens them, the fronts listen.
"""

import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.config.settings import ListenSettings
from gateway.exchange import Via
from gateway.listeners.listening import Listener
from gateway.listeners.sockets import (
    Inherited,
    check_reach,
    open_listeners,
    remove_paths,
    weak_place,
)


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
            found += _open(via, number, listener, inherited)
            if weak := weak_place(listener.address):
                warn(weak)
        for name in inherited.unused():
            warn(f'systemd passes a socket "{name}" that no listener in [listen] names')
        inherited.close()
        yield found
    finally:
        close(found)


def renewed(
    before: Sequence[Opened],
    listen: ListenSettings,
    inherited: Inherited,
    warn: Callable[[str], None],
) -> Sequence[Opened]:
    """Open what is new in `listen`, and keep the sockets of the addresses that stay.

    Nothing of `before` is closed, not even for a moment: see `leave`. Raises OSError and ValueError
    whose text names the address and the way out; nothing is left open then.
    """
    found: list[Opened] = []
    fresh: list[Opened] = []
    try:
        for via, number, listener in listen.every():
            held = [each.socket for each in before if each.listener.address == listener.address]
            if held:
                if via != "http" and listener.allow is None:
                    check_reach(listener.address, held)
                found += (Opened(one, via, number, listener) for one in held)
                continue
            fresh += (made := _open(via, number, listener, inherited))
            found += made
            if weak := weak_place(listener.address):
                warn(weak)
    except (OSError, ValueError, KeyError):
        close(fresh)
        raise
    return found


def leave(before: Sequence[Opened], after: Sequence[Opened]) -> None:
    """Close what only `before` has."""
    kept = {each.socket for each in after}
    close([each for each in before if each.socket not in kept])


def set_rights(before: Sequence[Opened], after: Sequence[Opened]) -> None:
    """Give the Unix sockets that stay the rights that they have now. Raises OSError."""
    was = {each.socket: each.listener for each in before}
    for each in after:
        old, new = was.get(each.socket), each.listener
        if old is None or not new.address.path:
            continue
        if (old.mode, old.owner, old.group) != (new.mode, new.owner, new.group):
            _set_rights(old, new)


def _set_rights(old: Listener, new: Listener) -> None:
    # By a descriptor of what is there, so that nobody can put a link to something else in its way.
    fd = os.open(new.address.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTSOCK, f"{new.address}: there is something else by now")
        path = f"/proc/self/fd/{fd}"
        owner, group = _ids(new)
        os.chmod(path, old.mode & new.mode)  # what is taken away is not open to a new owner
        os.chown(
            path,
            os.geteuid() if owner < 0 else owner,
            os.getegid() if group < 0 else group,
        )
        os.chmod(path, new.mode)
    finally:
        os.close(fd)


def _open(via: Via, number: int, listener: Listener, inherited: Inherited) -> list[Opened]:
    owner, group = _ids(listener)
    return [
        Opened(one, via, number, listener)
        for one in open_listeners(
            listener.address,
            inherited,
            mode=listener.mode,
            owner=owner,
            group=group,
            unsafe=listener.unsafe,
            outside=via == "http" or listener.allow is not None,
        )
    ]


def _ids(listener: Listener) -> tuple[int, int]:
    """Return owner and group of a Unix socket; -1: nobody in particular."""
    return (
        pwd.getpwnam(listener.owner).pw_uid if listener.owner else -1,
        grp.getgrnam(listener.group).gr_gid if listener.group else -1,
    )


def close(sockets: Sequence[Opened]) -> None:
    """Close what is open of `sockets`, and remove the paths that were made for it.

    Not later than that: another daemon may listen at the same path by then.
    """
    still = [each for each in sockets if each.socket.fileno() >= 0]
    remove_paths(each.listener.address for each in still)
    for each in still:
        each.socket.close()
