"""One ordered script, as the front that ordered it has it.

Decides when a front may close its pipe ends, how long it listens to a child that outlives the
script and holds its output, and which scripts are `brief`. Must not know how orders travel:
`remote.py` does.
"""

import asyncio
from typing import Protocol

from gateway.process.diagnosis import exit_cause
from gateway.process.pipes import PipeReader, PipeWriter
from gateway.process.spec import Exit, SpawnFailed

LOST = Exit(-9, 0.0, 0)
"""How a script ended whose keeper is gone."""

SILENCE = 1.0
"""Seconds that the end of an output without a byte waits for the keeper's word: was it started?"""

LINGER = 5.0
"""Seconds for which a child that holds its script's output is listened to, where nobody says."""

LOOK = 0.01
"""Seconds from the first output of a script to its end if it is brief; so is one that says all it
has to say at once, and one that was silent until its end."""


class Channel(Protocol):
    """What a `Run` needs of the channel that it came over."""

    loop: asyncio.AbstractEventLoop

    def release(self, id: int, queued: bool) -> None:
        """Tell the keeper that this order is over; nothing is heard of one that was `queued`."""
        ...

    def learn(self, run: "Run", brief: bool) -> None:
        """Take note of whether this script is brief."""
        ...


class Run:
    """One ordered script. Whoever has it must `release()` it, whatever happened.

    That it could not be started shows where its output is read: `stdout.read` raises SpawnFailed.
    """

    __slots__ = (
        "_channel", "_exited", "_failure", "_lingering", "_queued", "_released",
        "_settling", "_turn", "blame", "brief", "exit", "id", "name", "patience", "stderr", "stdin",
        "stdout", "wait",
    )  # fmt: skip

    def __init__(
        self,
        channel: Channel,
        id: int,
        name: tuple[str, bytes],
        stdin: PipeWriter | None,
        stdout: PipeReader,
        stderr: PipeReader,
        brief: bool,
        patience: float = LINGER,
    ) -> None:
        self._channel = channel
        self.id = id
        self.name = name
        """Route and script."""
        self.brief = brief
        """Its output is not looked at before it has ended, or for `LOOK` at least."""
        self.exit: Exit | None = None
        """How the script's own process ended, once that is known."""
        self.blame = ""
        """The limit that ended it, in a sentence; "" where it was none."""
        self.patience = patience
        """Seconds after that in which a child of it that holds its output is still listened to."""
        self.wait = 60.0
        """Seconds that the order may wait in the keeper's queue."""
        self._failure: SpawnFailed | None = None
        self._queued = False
        """It waits for its turn, and `_turn` says how long."""
        self._turn: asyncio.TimerHandle | None = None
        self._settling: asyncio.Future[None] | None = None
        self._exited: list[asyncio.Future[Exit]] = []
        self._lingering = False
        self._released = False
        self.stdin = stdin
        """What is written here is the script's body; None if it has none, or got a file."""
        self.stdout = stdout
        stdout.silent = self._silent
        self.stderr = stderr

    async def exited(self) -> Exit:
        """Return how the script's own process ended, once it has. Also works after `release`.

        Raises SpawnFailed for one that never was.
        """
        if self.exit is not None:
            return self.exit
        if self._failure is not None:
            raise self._failure
        waiter: asyncio.Future[Exit] = self._channel.loop.create_future()
        self._exited.append(waiter)
        return await waiter

    async def settled(self, seconds: float) -> Exit | None:
        """Return how it ended, waiting at most `seconds`; None if it still runs. One at a time."""
        if self.exit is None and self._failure is None:
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
        over = self.exit is not None and self.stdout.hung_up and self.stderr.hung_up
        if not over and self._failure is None:
            self._channel.release(self.id, self._queued)
        self.abandon()

    def abandon(self) -> None:
        """Close our pipe ends, and tell nobody."""
        if self.exit is None and self.brief and not (self._released or self._seems_brief()):
            self._channel.learn(self, False)
        self._released = True
        if self._turn is not None:
            self._turn.cancel()
        if self.stdin is not None:
            self.stdin.close()
        self.stdout.silent = None  # a reference in a ring would wait for the garbage collector
        self.stdout.close()
        self.stderr.close()

    def queued(self) -> None:
        """The channel tells that the order has to wait for its turn."""
        if not (self._queued or self._released):
            self._queued = True
            self._turn = self._channel.loop.call_later(self.wait, self._too_late)

    def started(self) -> None:
        """The channel tells that an order that had to wait has been started."""
        self._queued = False
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def cause(self, told: bytes = b"") -> str:
        """Say why it ended as it did, with the help of what it `told` on stderr; "" if unknown."""
        status = 0 if self.exit is None else self.exit.status
        if self.blame and status < 0:
            return self.blame
        return "; ".join(filter(None, (self.blame, exit_cause(status, told))))

    def ended(self, how: Exit) -> None:
        """The channel tells how it ended."""
        self.exit = how
        if self._settling is not None:
            _settle(self._settling)
        stdout = self.stdout
        if not self._released:
            brief = self._seems_brief()
            stdout.look(self._linger)
            if (brief and not stdout.full) is not self.brief and how is not LOST:
                self._channel.learn(self, not self.brief)
        for waiter in self._exited:
            if not waiter.done():
                waiter.set_result(how)

    def failed(self, failure: SpawnFailed) -> None:
        """The channel tells that it is not started."""
        self._failure = failure
        self.started()
        self.stdout.fail(failure)
        if self._settling is not None:
            _settle(self._settling)
        for waiter in self._exited:
            if not waiter.done():
                waiter.set_exception(failure)

    def lost(self, why: SpawnFailed) -> None:
        """The channel tells that its keeper is gone, and with it whatever ran."""
        self.started()
        if not self.stdout.pieces:
            self.stdout.fail(why)
        self.ended(LOST)

    def watch(self) -> None:
        """It is not as brief as it was taken to be: see what it says while it runs."""
        if not self._released:
            self.stdout.watch()
            self.stderr.watch()

    def _seems_brief(self) -> bool:
        stdout = self.stdout
        return stdout.pieces < 2 or self._channel.loop.time() - stdout.since < LOOK

    async def _silent(self) -> None:
        """Its output has ended without a byte: wait for the word that says why."""
        await self.settled(SILENCE)

    def _too_late(self) -> None:
        why = f"no place was free for it within {self.wait:g} s"
        self.stdout.fail(SpawnFailed(0, "queue", why, 503))

    def _linger(self) -> None:
        """The script is gone, and a child of it holds its output: listen for a while."""
        if not self._lingering:
            self._lingering = True
            self._channel.loop.call_later(self.patience, self._hear_out)

    def _hear_out(self) -> None:
        """What is there now is all there is."""
        self._lingering = False
        if self.stdout.dry:
            self.stdout.close()


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
