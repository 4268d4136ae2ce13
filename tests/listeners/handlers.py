"""What the tests of all listeners have behind them: handlers, and a wait for the loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from gateway.exchange import Ready, Request, Response

OK = Response(status=200, headers=((b"Content-Type", b"text/plain"),), body=b"hello")


async def until(true: Callable[[], object]) -> None:
    """Let the loop turn until a condition holds."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - the condition is not ours to signal
            await asyncio.sleep(0)


def plain(request: Request) -> Ready:
    return Ready(OK)


@asynccontextmanager
async def echo(request: Request) -> AsyncIterator[Response]:
    """Answer with the request's body."""
    body = b""
    while piece := await request.body.read():
        body += piece
    yield Response(status=200, body=body)


class Pieces:
    """A body of given pieces; a future among them is waited for, an exception is raised."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = list(pieces)

    async def read(self) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return await piece if isinstance(piece, asyncio.Future) else piece
