"""The answer to `Open`: a descriptor of a file, or why there is none; the front's side.

Decides how long it is waited for, and what is taken for such a file: a keeper belongs to its user,
so what it hands over is looked at here. Must not know why a file is wanted. What else a keeper is
asked over a socket of its own (`WantTerms`, `Check`) is waited for here too.
"""

import asyncio
import fcntl
import os
import socket
import stat

from gateway.process.channel import (
    Checked,
    Failed,
    Message,
    Opened,
    TermsAre,
)
from gateway.process.descriptors import Descriptors
from gateway.process.post import Inbox
from gateway.process.spec import SpawnFailed

_inbox = Inbox()


async def opened(sock: socket.socket, descriptors: Descriptors, patience: float) -> int | None:
    """Return the descriptor that comes over `sock`, the caller's to close; None at its end.

    Raises SpawnFailed for a refusal, for an answer that cannot be, and after `patience` seconds.
    """
    received = await _received(sock, descriptors, patience)
    if received is None:
        return None
    message, fds = received
    if isinstance(message, Opened) and _can_be_sent(fds[0]):
        return fds[0]
    for fd in fds:
        os.close(fd)
    if isinstance(message, Failed):
        raise SpawnFailed(message.errno, message.step, message.why, message.status)
    raise SpawnFailed(0, "open", "the user's keeper handed over something else than a file", 502)


async def answered(
    sock: socket.socket, descriptors: Descriptors, patience: float
) -> TermsAre | Checked | None:
    """Return the answer that comes over `sock`; None at its end. Raises as `opened` does."""
    received = await _received(sock, descriptors, patience)
    if received is None:
        return None
    message, fds = received
    for fd in fds:
        os.close(fd)
    if isinstance(message, TermsAre | Checked):
        return message
    if isinstance(message, Failed):
        raise SpawnFailed(message.errno, message.step, message.why, message.status)
    raise SpawnFailed(0, "ask", "the user's keeper answered something else", 502)


async def _received(
    sock: socket.socket, descriptors: Descriptors, patience: float
) -> tuple[Message, tuple[int, ...]] | None:
    """Return the message that comes over `sock`, and its descriptors, which are the caller's."""
    sock.setblocking(False)
    if not await _readable(sock.fileno(), descriptors, patience):
        raise SpawnFailed(0, "open", f"the user's keeper says nothing for {patience:g} s", 503)
    try:
        return _inbox.receive(sock)
    except (ValueError, OSError) as error:
        why = f"the keeper's answer cannot be taken: {error}"
        raise SpawnFailed(getattr(error, "errno", None) or 0, "open", why, 503) from error


async def _readable(fd: int, descriptors: Descriptors, seconds: float) -> bool:
    """Wait until `fd` can be read; False if it cannot within that time.

    Not `asyncio.timeout`: that needs a task, and an exchange may not have one yet.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[bool] = loop.create_future()

    def settle(how: bool) -> None:
        if not ready.done():
            ready.set_result(how)

    timer = loop.call_later(seconds, settle, False)
    descriptors.add_reader(fd, lambda: settle(True))
    try:
        return await ready
    finally:
        timer.cancel()
        descriptors.remove_reader(fd)


def _can_be_sent(fd: int) -> bool:
    """Whether it is a regular file, open for reading: nothing else can be read without waiting."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return False
    return not fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_PATH)
