"""The front's side of a keeper, in asyncio: orders go out, running scripts come back.

Decides which order may be tried again. Only one that surely has not started: one that could not be
sent, which is tried again here, and one that a keeper hands back because it leaves (it was idle, or
a reload replaced it), which shows as a SpawnFailed with the step `AGAIN`; whoever ordered it knows
whether the request's body is still there. To open a file or to ask may be tried again in any case.
What happens on one connection is `attachment.py`.
"""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Mapping

from gateway.process.attachment import Attachment, Gone
from gateway.process.channel import (
    AGAIN,
    Asked,
    Checked,
    TermsAre,
    environment_block,
)
from gateway.process.running import LINGER, LOST, Run
from gateway.process.spec import SpawnFailed

__all__ = ["AGAIN", "LOST", "PATIENCE", "RemoteKeeper", "Run"]

PATIENCE = 60.0
"""Seconds that an order may wait for its turn where nobody says otherwise."""

_PATH_MAX = 4096
"""Longest path in bytes (PATH_MAX of Linux, with its NUL)."""


class RemoteKeeper:
    """One user's keeper, as a front uses it. Connects when it is first needed."""

    def __init__(
        self, connect: Callable[[], Awaitable[socket.socket]], *, foreign: bool = False
    ) -> None:
        """`connect` returns our end of a new channel to a keeper that takes orders; `foreign` says
        that it is another user than we are."""
        self._connect = connect
        self._foreign = foreign
        self._channel: Attachment | None = None
        self._channels: set[Attachment] = set()
        """The present one, and those of keepers that leave while scripts of ours still run."""
        self._brief: set[tuple[str, bytes]] = set()
        self._connecting: asyncio.Future[Attachment] | None = None
        self._closed = False

    async def start(
        self,
        route: str,
        script: bytes,
        env: Mapping[bytes, bytes],
        *,
        body: bool = False,
        stdin: int | None = None,
        patience: float = PATIENCE,
        linger: float = LINGER,
    ) -> Run:
        """Order `script`, a path below the root of `route`, and return its `Run`.

        `stdin` is a descriptor that becomes its standard input and stays the caller's to close;
        else `body` makes a pipe for it; else it reads an empty file. Raises SpawnFailed when it
        could not be ordered, and ValueError for a NUL in `env`. That it could not be started, or
        not within `patience` seconds in the keeper's queue (503), is raised by its `stdout.read`.
        `linger` is `Run.patience`.
        """
        block = environment_block(env)
        for _ in range(2):
            channel = self._channel
            if channel is None or channel.closed:
                channel = await self._connected()
            try:
                return channel.start(route, script, block, body, stdin, patience, linger)
            except Gone:
                continue
        raise _no_keeper("it left twice before it had started the script")

    async def pool(self, route: str, script: bytes) -> bytes:
        """See that a pool of this file runs, and return the path of its socket.

        Ask for each request: that is how the keeper sees that the file was edited and that the
        pool is in use. Raises SpawnFailed.
        """
        for _ in range(2):
            channel = self._channel
            if channel is None or channel.closed:
                channel = await self._connected()
            try:
                return await channel.pool(route, script)
            except Gone:
                continue
        raise _no_keeper("it left twice before it had answered")

    async def open(self, key: str, path: bytes, *, patience: float = PATIENCE) -> int:
        """Return a descriptor of a file, opened for reading as the keeper's user; the caller's.

        `path` is relative to the directory `key` of `KeeperSpec.files`. It is a regular file, and
        the descriptor does not block. Raises SpawnFailed: its `errno` is the system's (ENOENT,
        EACCES, EXDEV, ...; EISDIR and ENXIO for what is no regular file), its `status` the answer;
        503 when the keeper says nothing for `patience` seconds.
        """
        if not path or b"\0" in path or len(path) >= _PATH_MAX:
            raise SpawnFailed(errno.EINVAL, "open", "this cannot be the path of a file", 404)
        for _ in range(2):
            channel = self._channel
            if channel is None or channel.closed:
                channel = await self._connected()
            try:
                return await channel.open(key, path, patience)
            except Gone:
                continue
        raise _no_keeper("it left twice before it had opened a file")

    async def ask(self, asked: Asked, *, patience: float = PATIENCE) -> TermsAre | Checked:
        """Return what the keeper says of its tenant's own settings, or of a password.

        Nobody but the tenant vouches for it. Raises SpawnFailed with the answer's `status`; 503
        when the keeper says nothing for `patience` seconds.
        """
        for _ in range(2):
            channel = self._channel
            if channel is None or channel.closed:
                channel = await self._connected()
            try:
                return await channel.ask(asked, patience)
            except Gone:
                continue
        raise _no_keeper("it left twice before it had answered")

    def pool_state(self, name: str) -> str:
        """Return why the pool `name` is down, or "" while it is not known to be.

        A pool found by file has the absolute path of the file as its name.
        """
        return "" if self._channel is None else self._channel.down.get(name, "")

    def close(self) -> None:
        """Let go of the keeper; what it runs for us is stopped."""
        self._closed = True
        for channel in list(self._channels):
            channel.lose()

    async def _connected(self) -> Attachment:
        """Return an open channel; all who wait for one at the same time share it."""
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._open())
            self._connecting.add_done_callback(self._settled)
        try:
            return await asyncio.shield(self._connecting)
        except OSError as error:
            raise _no_keeper(str(error), error.errno or 0) from error

    async def _open(self) -> Attachment:
        if self._let_go():
            raise ConnectionAbortedError("this front lets go of it")
        sock = await self._connect()
        channel = Attachment(
            sock, asyncio.get_running_loop(), self._channels.discard, self._brief, self._foreign
        )
        self._channels.add(channel)
        if self._let_go():
            channel.lose()
        self._channel = channel
        return channel

    def _let_go(self) -> bool:
        return self._closed

    def _settled(self, opened: "asyncio.Future[Attachment]") -> None:
        self._connecting = None
        if not opened.cancelled():
            opened.exception()  # told to those who wait, if any still do


def _no_keeper(why: str, errno: int = 0) -> SpawnFailed:
    return SpawnFailed(errno, "connect", f"the user's keeper cannot be reached: {why}", 503)
