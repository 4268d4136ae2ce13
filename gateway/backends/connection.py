"""One connection to a worker: bytes out, bytes in, with back-pressure both ways.

Decides how bytes move. Must not know what they mean, nor who uses the connection next.

It works on the socket itself (`add_reader`, `add_writer`), not on a transport: a transport that
cannot write drops what it could still have read. A worker that answers without reading the whole
request body closes, and then our write fails (EPIPE) while its answer is still to be read.
"""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address

from gateway.address import Address
from gateway.process.descriptors import Descriptors

HELD_MAX = 128 * 1024
"""Bytes received and not yet asked for, beyond which nothing more is received."""
RECEIVE = 65536
"""Bytes of one recv. 128 KiB and more would be mapped and unmapped by malloc each time."""
BACKLOG_FIRST, BACKLOG_MOST = 0.005, 0.1
"""Seconds between attempts when a Unix socket's backlog is full; they double from one to the
other."""

_CREDENTIALS = struct.Struct("=3i")  # struct ucred: pid, uid, gid


class Connection:
    """A connected socket. One exchange at a time reads and writes it."""

    __slots__ = (
        "_descriptors",
        "_failure",
        "_fd",
        "_held",
        "_out",
        "_pieces",
        "_reading",
        "_sock",
        "_waiter",
        "_writer",
        "address",
        "broken",
        "closed",
        "ended",
        "loop",
        "receiver",
        "taken_at",
        "uses",
        "why",
    )

    def __init__(self, sock: socket.socket, address: Address) -> None:
        self.loop = asyncio.get_running_loop()
        self._descriptors = Descriptors.of(self.loop)
        self._sock = sock
        self._fd = sock.fileno()
        self._pieces: list[bytes] = []
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._out = memoryview(b"")
        self._failure: BaseException | None = None
        self.address = address
        self.receiver: Callable[[Connection, bytes], None] | None = None
        """Called with what comes (b"" = the end) while nobody reads: between exchanges."""
        self.taken_at = self.loop.time()
        """When the exchange that has it got it, on the loop's clock."""
        self.uses = 0
        """Exchanges that it has had, with the one under way."""
        self.ended = False
        """Nothing more will be received."""
        self.broken = False
        """Nothing more can be sent."""
        self.closed = False
        self.why = "it closed the connection"
        """Once `ended`: what happened."""
        self._reading = True
        self._descriptors.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            data = b""
            self.why = f"the connection broke: {error.strerror}"
        if not data:
            self.ended = True
            self._pause()
        if self.receiver is not None:
            self.receiver(self, data)
            return
        if data:
            self._pieces.append(data)
            self._held += len(data)
            if self._held > HELD_MAX:
                self._pause()
        self._wake()

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._descriptors.remove_reader(self._fd)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Make `read` raise `error` when nothing is left to read: the request cannot be sent."""
        self._failure = error
        self._wake()

    async def read(self) -> bytes:
        """Return what has come; b"" at the end, of whatever kind (see `why`)."""
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self.ended:
                return b""
            if not self._reading:
                self._reading = True
                self._descriptors.add_reader(self._fd, self._readable)
            self._waiter = self.loop.create_future()
            await self._waiter
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._held = 0
        return data

    def taken(self) -> bytes:
        """Return what has come, without waiting."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        if not self._reading and not self.ended:
            self._reading = True
            self._descriptors.add_reader(self._fd, self._readable)
        return data

    def write(self, data: bytes) -> None:
        """Send, or hold what cannot be sent yet. A worker that takes nothing more is no error."""
        if self.broken or self.closed:
            return
        if self._out:
            self._out = memoryview(bytes(self._out) + data)
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.broken = True
            return
        if sent < len(data):
            self._out = memoryview(data)[sent:]
            self._descriptors.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        try:
            self._out = self._out[self._sock.send(self._out) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.broken = True
            self._out = memoryview(b"")
        if not self._out:
            self._descriptors.remove_writer(self._fd)
            if self._writer is not None and not self._writer.done():
                self._writer.set_result(None)

    async def drain(self) -> None:
        """Wait until all that was written is sent, or cannot be."""
        if self._out:
            self._writer = self.loop.create_future()
            await self._writer

    @property
    def drained(self) -> bool:
        return not self._out

    def close(self) -> None:
        """Close at once, whatever is under way: for the worker, that is the abort. Idempotent."""
        if self.closed:
            return
        self.closed = self.ended = True
        self._pause()
        if self._out:
            self._descriptors.remove_writer(self._fd)
            self._out = memoryview(b"")
        self._sock.close()
        self._wake()
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)


async def connect(address: Address, patience: float, *, owned: bool = False) -> Connection:
    """Open a connection. Raises OSError (TimeoutError after `patience` seconds).

    With `owned` a Unix socket must be listened on by the owner of the directory that it is in.
    """
    if address.path and (sock := _try_unix(address.path, owned)) is not None:
        return Connection(sock, address)
    # A timeout needs a task, and an exchange gets one only when it first waits.
    await asyncio.sleep(0)
    async with asyncio.timeout(patience):
        if address.path:
            return Connection(await _connect_unix(address.path, owned), address)
        return Connection(await _connect_tcp(address.host, address.port), address)


def _try_unix(path: str, owned: bool) -> socket.socket | None:
    """Connect to a Unix socket; None when its backlog has no place."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected = False
    try:
        sock.setblocking(False)
        sock.connect(path)
        if owned:
            _see_who_listens(sock, path)
        connected = True
        return sock
    except BlockingIOError:
        return None
    finally:
        if not connected:
            sock.close()


def _see_who_listens(sock: socket.socket, path: str) -> None:
    """Raise PermissionError unless the directory's owner listens at the other end.

    The owner can put a link in the place of its socket, and we may connect where it may not: to
    the workers of somebody else, who would take its requests for ours (unix(7), SO_PEERCRED: who
    called listen). Whose the directory is, the master decides, in one that only root can write.
    """
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    owner = os.stat(os.path.dirname(path)).st_uid
    if uid != owner:
        why = f"account {uid} listens there, and not account {owner}, whose directory it is"
        raise PermissionError(errno.EPERM, why)


async def _connect_unix(path: str, owned: bool) -> socket.socket:
    """Connect to a Unix socket, waiting for a place in its backlog.

    The event loops take the EAGAIN of a full backlog for EINPROGRESS, so the call is made here.
    """
    pause = BACKLOG_FIRST
    while (sock := _try_unix(path, owned)) is None:
        await asyncio.sleep(pause)
        pause = min(BACKLOG_MOST, pause * 2)
    return sock


async def _connect_tcp(host: str, port: int) -> socket.socket:
    """Connect to a host: a name may have several addresses, of which not all need answer."""
    loop = asyncio.get_running_loop()
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
        return await _connect_to(family, (host, port))
    except ValueError:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure = OSError("the name has no address")
    for entry in found:
        try:
            return await _connect_to(entry[0], entry[4])
        except OSError as error:
            failure = error
    raise failure


async def _connect_to(family: int, where: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    connected = False
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, where)
        connected = True
        return sock
    finally:
        if not connected:
            sock.close()
