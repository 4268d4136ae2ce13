"""FastCGI programs found by file (`*.fcgi`): each file is a pool of its own, as mod_fcgid has it.

Decides nothing but which pool a file's requests go to; the keeper starts its worker on the first
request, replaces it when the file changes, and lets it go when it is idle.
"""

import os
from collections import OrderedDict
from types import TracebackType

from gateway.address import Address
from gateway.backends.connection import Connection
from gateway.backends.fastcgi import FastCgi
from gateway.backends.pool import Pool
from gateway.backends.spawned import refused
from gateway.backends.stream import StreamSettings
from gateway.backends.supply import Supply, Waiter
from gateway.exchange import Request, Response
from gateway.journal import Journal, visible
from gateway.process.remote import RemoteKeeper
from gateway.process.spec import SpawnFailed

FILES_MAX = 1024
"""Files whose pool a front remembers; the one not used for longest is forgotten first."""
CAPACITY = 64
"""Connections at once to the worker of one file, for each front. flup takes a thread for each."""


class FileWorkers:
    """The handler of a route to such files."""

    def __init__(
        self,
        settings: StreamSettings,
        route: str,
        root: bytes,
        keeper: RemoteKeeper,
        journal: Journal,
    ) -> None:
        self.settings = settings
        self.route = route
        self.root = root
        self.keeper = keeper
        self.journal = journal
        self._handlers: OrderedDict[bytes, FastCgi] = OrderedDict()

    def __call__(self, request: Request) -> "FileExchange":
        return FileExchange(self, request)

    async def handler(self, request: Request) -> FastCgi:
        """Return the handler of the file's pool, which runs now. Raises Refused."""
        file = request.notes.place.file
        try:
            socket = await self.keeper.pool(self.route, file[len(self.root) :].lstrip(b"/"))
        except SpawnFailed as failed:
            raise refused(failed) from None
        handler = self._handlers.get(socket)
        if handler is None:
            handler = self._handlers[socket] = self._make(socket, visible(file))
            if len(self._handlers) > FILES_MAX:
                _, forgotten = self._handlers.popitem(last=False)
                forgotten.supply.close()
        self._handlers.move_to_end(socket)
        return handler

    def _make(self, socket: bytes, name: str) -> FastCgi:
        pool: Pool[Connection, Waiter] = Pool((Address(path=os.fsdecode(socket)),), CAPACITY)
        supply = Supply(name, pool, self.journal, owned=True)
        return FastCgi(
            self.settings, supply, self.journal, down=lambda: self.keeper.pool_state(name)
        )


class FileExchange:
    """One request to such a file."""

    __slots__ = ("_context", "_request", "_workers")

    def __init__(self, workers: FileWorkers, request: Request) -> None:
        self._workers = workers
        self._request = request

    async def __aenter__(self) -> Response:
        handler = await self._workers.handler(self._request)
        self._context = handler(self._request)
        return await self._context.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._context.__aexit__(kind, error, trace)
