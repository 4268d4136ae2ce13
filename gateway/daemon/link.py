"""A front's side of its channel to the master.

Decides nothing: asks for channels to keepers, takes new logs, learns when to leave. When the master
is gone the front leaves too.
"""

import asyncio
import os
import socket
from collections.abc import Callable

from gateway.process.channel import (
    FrontLogs,
    KeeperAt,
    LogsAt,
    NoKeeper,
    Stop,
    WantKeeper,
    WantLogs,
)
from gateway.process.descriptors import Descriptors
from gateway.process.post import Inbox, send
from gateway.process.spec import SpawnFailed


class MasterLink:
    """See the module. `stopped` is done when the front is to leave: with the seconds it has, or
    None when the master is gone."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, control: socket.socket, logs: tuple[int, int]
    ) -> None:
        """`logs` are the descriptors of error and access log, which new ones are put over."""
        self._loop = loop
        self._control = control
        self._logs = logs
        self._inbox = Inbox()
        self._wanted: dict[str, asyncio.Future[socket.socket]] = {}
        self.logs_opened: Callable[[str, int, int], None] | None = None
        """Takes the access log and the error log of a tenant, which are then its own to close."""
        self.logs_renamed: Callable[[], None] | None = None
        """Told when logs are to be opened anew."""
        self.stopped: asyncio.Future[float | None] = loop.create_future()
        control.setblocking(False)
        Descriptors.of(loop).add_reader(control.fileno(), self._readable)

    async def keeper(self, user: str) -> socket.socket:
        """Return a new channel to the keeper of `user`, which may be the name of a tenant.

        Raises ConnectionError, and SpawnFailed with the master's reason where there is none.
        """
        wanted = self._wanted.get(user)
        if wanted is None:
            wanted = self._wanted[user] = self._loop.create_future()
            send(self._control, WantKeeper(user).encode())
        return await asyncio.shield(wanted)

    def want_logs(self, tenant: str) -> None:
        """Ask for the logs of a tenant; `logs_opened` gets them, unless it has none."""
        try:
            send(self._control, WantLogs(tenant).encode())
        except OSError:
            pass  # no room: whoever wants to write asks again; or the master is gone

    def _readable(self) -> None:
        while True:
            try:
                received = self._inbox.receive(self._control)
            except BlockingIOError:
                return
            except (OSError, ValueError):
                received = None
            if received is None:
                Descriptors.of(self._loop).remove_reader(self._control.fileno())
                self._gone()
                return
            self._take(*received)

    def _take(self, message: object, descriptors: tuple[int, ...]) -> None:
        if isinstance(message, KeeperAt):
            channel = socket.socket(fileno=descriptors[0])
            wanted = self._wanted.pop(message.user, None)
            if wanted is None or wanted.done():
                channel.close()
            else:
                wanted.set_result(channel)
        elif isinstance(message, NoKeeper):
            refused = self._wanted.pop(message.user, None)
            if refused is not None and not refused.done():
                refused.set_exception(SpawnFailed(0, "keeper", message.why, message.status))
        elif isinstance(message, FrontLogs):
            for fresh, kept in zip(descriptors, self._logs, strict=True):
                os.dup2(fresh, kept, inheritable=False)
                os.close(fresh)
            if self.logs_renamed is not None:
                self.logs_renamed()
        elif isinstance(message, LogsAt):
            if self.logs_opened is not None:
                self.logs_opened(message.tenant, *descriptors)
        elif isinstance(message, Stop) and not self.stopped.done():
            self.stopped.set_result(message.drain)

    def _gone(self) -> None:
        for wanted in self._wanted.values():
            if not wanted.done():
                wanted.set_exception(ConnectionResetError("the master is gone"))
        self._wanted.clear()
        if not self.stopped.done():
            self.stopped.set_result(None)

    def close(self) -> None:
        Descriptors.of(self._loop).remove_reader(self._control.fileno())
        self._control.close()
