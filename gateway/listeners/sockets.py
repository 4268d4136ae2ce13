"""Listening sockets: who may connect to one, and how it is opened or taken over.

Decides that a socket is safe: a Unix socket never has more rights than were asked for, nobody can
connect before it has its owner, and only a socket that nobody answers on is taken away. Sockets
that were passed to us are held to the same rules and are never removed. Must not know what is
spoken.

Standard: unix(7); sd_listen_fds(3) for sockets from systemd.
"""

import errno
import fcntl
import os
import re
import socket
import stat
from collections.abc import Iterable, MutableMapping, Sequence
from contextlib import suppress
from typing import NamedTuple, NewType, Self

from gateway.address import DESCRIPTOR_MAX, Address, is_loopback

BACKLOG = 2048
"""Connections that may wait to be accepted; the kernel's own bound is often 4096. nginx has 511."""

FIRST_PASSED = 3
"""The first descriptor that systemd passes (`SD_LISTEN_FDS_START`)."""

Mode = NewType("Mode", int)
"""The nine rights of a Unix socket; only "w" counts when somebody connects (unix(7))."""

_MODE = re.compile(r"0?[0-7]{3}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class _Rights(NamedTuple):
    """Of a Unix socket; -1: no account, or group, in particular."""

    mode: int
    owner: int
    group: int


def parse_mode(text: str) -> Mode:
    """Read "0660" or "660". Raises ValueError with the right form in its words."""
    if _MODE.fullmatch(text) is None:
        raise ValueError(f'"{text}" is no mode: three octal digits, such as "0660"')
    return Mode(int(text, 8))


def check_mode(address: Address, mode: int, *, unsafe: bool) -> None:
    """Raise ValueError if a Unix socket with this mode would be open to every account."""
    if mode & ~0o777:
        raise ValueError(f"mode {mode:#o} has more than the nine rights of user, group and others")
    if address.path and mode & stat.S_IRWXO and not unsafe:
        raise ValueError(
            f'mode "{mode:04o}" opens {address} to every account of this machine: write "0660" '
            "and name owner and group, or set unsafe = true"
        )


def weak_place(address: Address) -> str:
    """Return what the log should say about the directory of a Unix socket; "" for nothing.

    Whoever may write to a directory can put a socket of his own in place of ours.
    """
    if not address.path:
        return ""
    directory = os.path.dirname(os.path.abspath(address.path))
    mode = os.stat(directory).st_mode
    if not mode & stat.S_IWOTH or mode & stat.S_ISVTX:
        return ""
    return (
        f"{directory} can be written by every account, which may put another socket in place of "
        f"{address}: chmod o-w {directory}"
    )


def open_listeners(
    address: Address,
    inherited: "Inherited",
    *,
    mode: int = 0o660,
    owner: int = -1,
    group: int = -1,
    unsafe: bool = False,
    outside: bool = True,
) -> list[socket.socket]:
    """Return the listening sockets of an address, not blocking: one, or all that have its name.

    The rights are those of a Unix socket that we make; one that was passed keeps its own, and only
    `unsafe` counts. `outside` says that a TCP socket may be one that other machines can reach.
    Raises OSError whose text names the address, and ValueError as `check_mode` does.
    """
    if address.inherited:
        listeners = inherited.take(address, unsafe=unsafe)
    else:
        listeners = [open_listener(address, mode=mode, owner=owner, group=group, unsafe=unsafe)]
    if not outside:
        try:
            check_reach(address, listeners)
        except OSError:
            for each in listeners:
                each.close()
            raise
    return listeners


def check_reach(address: Address, listeners: Iterable[socket.socket]) -> None:
    """Raise OSError, whose text names the address, if other machines can reach one of these."""
    for each in listeners:
        if _reaches_outside(each):
            text = (
                f"cannot listen on {address}: {_place(each)} can be reached from other "
                'machines; name in "allow" who may connect'
            )
            raise OSError(errno.EPERM, text)


def open_listener(
    address: Address,
    *,
    mode: int = 0o660,
    owner: int = -1,
    group: int = -1,
    unsafe: bool = False,
) -> socket.socket:
    """Return a listening socket that we make, not blocking.

    `owner` and `group` are ids; -1 leaves them as they come. Raises OSError whose text names the
    address, and ValueError as `check_mode` does.
    """
    if address.inherited:
        raise ValueError(f"{address} is a socket that is passed to us, not one to open")
    check_mode(address, mode, unsafe=unsafe)
    try:
        if address.path:
            return _open_unix(address.path, _Rights(mode, owner, group))
        return _open_tcp(address)
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


def _open_unix(path: str, rights: _Rights) -> socket.socket:
    """Bind, then give away, then listen: until then a connection is refused, whoever asks.

    The mask is that of the whole process, so no other thread may make files meanwhile.
    """
    remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound = False
    try:
        mask = os.umask(0o777 & ~rights.mode)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        bound = True
        _give(path, rights)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        if bound:
            os.unlink(path)
        raise
    return listener


def _give(path: str, rights: _Rights) -> None:
    """Set the owner. By the path itself, never through a link that somebody put there meanwhile."""
    if rights.owner >= 0 or rights.group >= 0:
        try:
            os.chown(path, rights.owner, rights.group, follow_symlinks=False)
        except PermissionError:
            text = "only root may give a socket to another account, or to a group it is not in"
            raise PermissionError(errno.EPERM, text) from None
    mode = stat.S_IMODE(os.lstat(path).st_mode)
    if mode & ~rights.mode:  # a default access list of the directory overrules the mask: acl(5)
        text = f"the directory gives the socket mode {mode:04o}; take its default ACL away"
        raise OSError(errno.EPERM, text)


def remove_paths(addresses: Iterable[Address]) -> None:
    """Remove the Unix sockets among `addresses`, which this process made; no other has a path."""
    for address in addresses:
        if address.path:
            with suppress(FileNotFoundError):  # somebody has tidied up
                os.unlink(address.path)


def remove_stale(path: str) -> None:
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


# Sockets that were passed to us


class Inherited:
    """The descriptors that were open when this process began, and the names that systemd gave.

    Each can be taken once. To be made before anything else is opened, so that no descriptor of
    our own is taken for one of them.
    """

    def __init__(
        self,
        passed: Sequence[tuple[str, int]] = (),
        *,
        why: str = "systemd has passed no sockets: is it started by a .socket unit?",
        present: Iterable[int] = (),
    ) -> None:
        """`passed`: names and descriptors; `why`: the reason when there are none.

        `present`: every descriptor that is open.
        """
        self._passed = list(passed)
        self._why = why
        self._present = frozenset(present) | {descriptor for _, descriptor in passed}
        self._taken: set[int] = set()

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], pid: int) -> Self:
        """Read and remove the variables of sd_listen_fds(3), which no child may see.

        Whatever is wrong with them is said when a socket is asked for.
        """
        variables = {name: environ.pop(name, None) for name in _VARIABLES}
        present = [number for number in range(DESCRIPTOR_MAX + 1) if _is_open(number)]
        count, owner = variables["LISTEN_FDS"], variables["LISTEN_PID"]
        if count is None or owner is None:
            return cls(present=present)
        if owner != str(pid):
            why = f"LISTEN_PID is {owner}, this is process {pid}: start it directly or by exec"
            return cls(why=why, present=present)
        if _NUMBER.fullmatch(count) is None:
            return cls(why=f"LISTEN_FDS is {count!r}, which is no number", present=present)
        numbers = range(FIRST_PASSED, FIRST_PASSED + int(count))
        names = ["unknown"] * len(numbers) if len(numbers) <= DESCRIPTOR_MAX else []
        if variables["LISTEN_FDNAMES"] is not None:
            names = variables["LISTEN_FDNAMES"].split(":")
        if len(names) != len(numbers) or not {*numbers} <= {*present}:
            why = f"LISTEN_FDS is {count}, which is not how many were passed or named"
            return cls(why=why, present=present)
        for number in numbers:
            os.set_inheritable(number, False)
        return cls(list(zip(names, numbers, strict=True)), present=present)

    def take(self, address: Address, *, unsafe: bool = False) -> list[socket.socket]:
        """Return the sockets of "systemd:NAME" or "fd:N", not blocking.

        Raises OSError, whose text names the address, if there is none, or one that is no listening
        stream socket, or a Unix socket that every account may connect to and not `unsafe`.
        """
        numbers = [address.descriptor]
        if address.name:
            numbers = [number for name, number in self._passed if name == address.name]
        try:
            if not numbers:
                raise OSError(errno.ENOENT, self._missing())
            for number in numbers:
                self._check(number, unsafe=unsafe)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None
        self._taken.update(numbers)
        return [_adopt(number) for number in numbers]

    def unused(self) -> list[str]:
        """Return the names of what systemd passed and nobody took."""
        return [name for name, number in self._passed if number not in self._taken]

    def close(self) -> None:
        """Close what systemd passed and nobody took, so that no child holds it."""
        for _, number in self._passed:
            if number not in self._taken:
                self._taken.add(number)
                os.close(number)

    def _missing(self) -> str:
        if not self._passed:
            return self._why
        names = ", ".join(sorted({f'"{name}"' for name, _ in self._passed}))
        return f"systemd passed only {names}; the name is FileDescriptorName= of the .socket unit"

    def _check(self, number: int, *, unsafe: bool) -> None:
        """Raise OSError, in words, for what is not to be listened on."""
        if number not in self._present:
            raise OSError(errno.EBADF, f"descriptor {number} was not open when we were started")
        if number in self._taken:
            raise OSError(errno.EBUSY, f"descriptor {number} is another listener's already")
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            raise OSError(errno.ENOTSOCK, f"descriptor {number} is not a socket")
        with socket.socket(fileno=os.dup(number)) as candidate:
            if candidate.family not in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
                raise OSError(errno.EAFNOSUPPORT, f"descriptor {number} is no Unix or IP socket")
            if candidate.type != socket.SOCK_STREAM:
                text = f"descriptor {number} is not a stream socket: ListenStream= in the unit"
                raise OSError(errno.ESOCKTNOSUPPORT, text)
            if not candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                text = f"descriptor {number} does not listen: it may be one connection (Accept=yes)"
                raise OSError(errno.EINVAL, text)
            if candidate.family == socket.AF_UNIX and not unsafe:
                _check_rights(candidate.getsockname())


def _check_rights(path: str | bytes) -> None:
    """Raise PermissionError if a Unix socket that we did not make is open to every account."""
    fault = ""
    if not path or path[:1] in (b"\0", "\0"):
        fault = "a Unix socket without a path is open to every account"
    else:
        try:
            mode = stat.S_IMODE(os.lstat(path).st_mode)
            if mode & stat.S_IWOTH:
                fault = f"mode {mode:04o} opens it to every account of this machine"
        except OSError as error:
            fault = f"the rights of {os.fsdecode(path)} cannot be seen: {error.strerror}"
    if fault:
        text = f"{fault}; SocketMode=0660 in the .socket unit, or unsafe = true"
        raise PermissionError(errno.EPERM, text)


def _adopt(number: int) -> socket.socket:
    """Make a descriptor ours. One of the three standard ones moves, and is the null device then."""
    if number < FIRST_PASSED:
        moved = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, FIRST_PASSED)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, number)
        os.close(null)
        number = moved
    os.set_inheritable(number, False)
    listener = socket.socket(fileno=number)
    listener.setblocking(False)
    return listener


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _reaches_outside(listener: socket.socket) -> bool:
    return listener.family != socket.AF_UNIX and not is_loopback(listener.getsockname()[0])


def _place(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return str(Address(host=host, port=port))
