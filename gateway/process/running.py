"""One started script, as the front that ordered it has it.

Decides when a front may close its pipe ends, and how long it listens to a child that outlives the
script and holds its output. Must not know how orders travel: `remote.py` does.
"""

import asyncio
from typing import Protocol

from gateway.process.pipes import PipeReader, PipeWriter, Watch
from gateway.process.spec import Exit

LOST = Exit(-9, 0.0, 0)
"""How a script ended whose keeper is gone."""


class Channel(Protocol):
    """What a `Run` needs of the channel that it came over."""

    loop: asyncio.AbstractEventLoop
    watch: Watch

    def release(self, id: int) -> None:
        """Tell the keeper that this order is over."""
        ...


class Run:
    """One started script. Whoever has it must `release()` it, whatever happened."""

    __slots__ = (
        "_channel", "_exited", "_id", "_released", "_settling", "exit", "patience", "stderr",
        "stdin", "stdout",
    )  # fmt: skip

    def __init__(
        self,
        channel: Channel,
        id: int,
        stdin: PipeWriter | None,
        stdout: PipeReader,
        stderr: PipeReader,
    ) -> None:
        self._channel = channel
        self._id = id
        self.exit: Exit | None = None
        """How the script's own process ended, once that is known."""
        self.patience = 5.0
        """Seconds after that in which a child of it that holds its output is still listened to."""
        self._settling: asyncio.Future[None] | None = None
        self._exited: list[asyncio.Future[Exit]] = []
        self._released = False
        self.stdin = stdin
        """What is written here is the script's body; None if it has none, or got a file."""
        self.stdout = stdout
        self.stderr = stderr

    async def exited(self) -> Exit:
        """Return how the script's own process ended, once it has. Also works after `release`."""
        if self.exit is not None:
            return self.exit
        waiter: asyncio.Future[Exit] = self._channel.loop.create_future()
        self._exited.append(waiter)
        return await waiter

    async def settled(self, seconds: float) -> Exit | None:
        """Return how it ended, waiting at most `seconds`; None if it still runs. One at a time."""
        if self.exit is None:
            loop = self._channel.loop
            settling = self._settling = loop.create_future()
            timer = loop.call_later(seconds, _settle, settling)
            try:
                await settling
            finally:
                timer.cancel()
                self._settling = None
        return self.exit

    def release(self) -> None:
        """Let go: what still runs is stopped by the keeper, then our pipe ends are closed.

        Signal first, close second: a script that writes into a closed pipe would be blamed for it.
        """
        if self._released:
            return
        self._released = True
        if self.exit is None or not (self.stdout.hung_up and self.stderr.hung_up):
            self._channel.release(self._id)
        self.abandon()

    def abandon(self) -> None:
        """Close our pipe ends, and tell nobody."""
        self._released = True
        if self.stdin is not None:
            self.stdin.close()
        self.stdout.close()
        self.stderr.close()

    def ended(self, how: Exit) -> None:
        """The channel tells how it ended."""
        self.exit = how
        if self._settling is not None:
            _settle(self._settling)
        if not (self.stdout.hung_up or self._released):
            self._channel.watch.turn()  # the pipe's end may be there already, only not yet told
            if not self.stdout.hung_up:
                self._channel.loop.call_later(self.patience, self._hear_out)
        for waiter in self._exited:
            if not waiter.done():
                waiter.set_result(how)

    def _hear_out(self) -> None:
        """The script is gone, its output is held open by a child: what is there is all there is."""
        if self.stdout.dry:
            self.stdout.close()
        elif not (self.stdout.hung_up or self._released):
            self._channel.loop.call_later(self.patience, self._hear_out)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
