"""A front's side of its channel to the master.

Decides nothing: asks for channels to keepers, takes new logs, tells figures, learns when to leave.
When the master is gone the front leaves too.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

from gateway.process.channel import (
    Message,
)
from gateway.process.descriptors import Descriptors
from gateway.process.figures import sealed
from gateway.process.mastering import (
    Figures,
    FrontLogs,
    KeeperAt,
    LogsAt,
    NoKeeper,
    Ready,
    Retire,
    Stop,
    WantFigures,
    WantKeeper,
    WantLogs,
)
from gateway.process.post import Inbox, send
from gateway.process.spec import SpawnFailed


class MasterLink:
    """See the module. `stopped` is done when the front is to leave: with how, or None when the
    master is gone. `hurry` is done when it is then told to stop, whatever it was told before."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        control: socket.socket,
        logs: tuple[int, int],
        figures: Callable[[], Mapping[str, object]],
    ) -> None:
        """`logs` are the descriptors of error and access log, which new ones are put over;
        `figures` gives what the master is told when it asks."""
        self._loop = loop
        self._control = control
        self._logs = logs
        self._figures = figures
        self._inbox = Inbox()
        self._wanted: dict[str, asyncio.Future[socket.socket]] = {}
        self.logs_opened: Callable[[str, int, int], None] | None = None
        """Takes the access log and the error log of a tenant, which are then its own to close."""
        self.logs_renamed: Callable[[], None] | None = None
        """Told when logs are to be opened anew."""
        self.stopped: asyncio.Future[Stop | Retire | None] = loop.create_future()
        self.hurry: asyncio.Future[None] = loop.create_future()
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
        self._send(WantLogs(tenant))

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
        elif isinstance(message, WantFigures):
            self.tell_figures()
        elif isinstance(message, Stop | Retire):
            self._leave(message)

    def ready(self) -> None:
        """Say that this front serves."""
        self._send(Ready())

    def tell_figures(self, *, last: bool = False) -> None:
        """Send what this front does and has done; `last` when it does nothing more."""
        try:
            fd = sealed({**self._figures(), "last": last})
        except OSError:
            return  # no room for them: the master takes us for silent
        try:
            self._send(Figures(), fd)
        finally:
            os.close(fd)

    def _send(self, message: Message, *descriptors: int) -> None:
        try:
            send(self._control, message.encode(), descriptors)
        except OSError:
            pass  # the master is gone, which is told elsewhere, or does not read

    def _leave(self, message: Stop | Retire | None) -> None:
        if not self.stopped.done():
            self.stopped.set_result(message)
        elif not isinstance(message, Retire) and not self.hurry.done():
            self.hurry.set_result(None)

    def _gone(self) -> None:
        for wanted in self._wanted.values():
            if not wanted.done():
                wanted.set_exception(ConnectionResetError("the master is gone"))
        self._wanted.clear()
        self._leave(None)

    def close(self) -> None:
        Descriptors.of(self._loop).remove_reader(self._control.fileno())
        self._control.close()
