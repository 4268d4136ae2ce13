"""The FastCGI listener (FastCGI 1.0): one object a connection, one request on it at a time.

Decides when a request begins (when its PARAMS end, so a script runs while its body still comes),
when it is over, and how it is aborted: by ABORT_REQUEST or by closing the connection. Which bytes
may come when is `wire/fcgi_responder.py`; what a request means is `relay.py`.

The end of a request tells the exit status of its script (appStatus), so it waits for that a little;
the answer itself does not.
"""

import asyncio
from functools import partial

from gateway.listeners.deadline import Cause
from gateway.listeners.door import Door, Entrance
from gateway.listeners.relay import RelayLine
from gateway.wire import PeerError
from gateway.wire.fcgi_record import AUTHORIZER
from gateway.wire.fcgi_responder import (
    Abort,
    Begin,
    Hangup,
    Reply,
    Responder,
    Stdin,
    StdinEnd,
)

SETTLE = 0.1
"""Seconds that the end of a request waits for its script's exit status."""
STDERR_MAX = 65536
"""Bytes of a script's standard error that are passed on to the front server, for one request; it
may not read them as fast as a script can complain."""
ABORTED = 1
"""appStatus of a request that was aborted."""


class FastCgiConnection(RelayLine):
    """See the module."""

    via = "fastcgi"

    def __init__(self, door: Door, entrance: Entrance) -> None:
        super().__init__(door, entrance)
        self._responder = Responder()
        self._open = False
        """A request has begun, and its END_REQUEST was not sent."""
        self._aborted = False
        self._number = 0
        """Counts the requests."""
        self._complained = 0
        self._flooded = False
        """It asks more than it reads answers to."""
        self._ending: asyncio.TimerHandle | None = None

    @property
    def in_head(self) -> bool:
        return self._responder.in_head

    def data_received(self, data: bytes) -> None:
        if self.leaving:
            return
        self.feeding = True
        for event in self._responder.feed(data):
            if type(event) is Stdin:
                self.body(event.data)
            elif type(event) is Begin:
                self._begin(event)
            elif type(event) is StdinEnd:
                self.body_end()
            elif type(event) is Reply:
                self._reply(event)
            elif type(event) is Abort:
                self._abort()
            elif type(event) is Hangup:
                self.leave()
            elif isinstance(event, PeerError):
                self._fault(event)
        if self.fed() and self.answer is None and not self._open:
            self._await_request()

    def _await_request(self) -> None:
        if self._responder.in_head:
            self.deadline.disarm(Cause.KEEPALIVE)
            self.deadline.arm_once(Cause.HEAD, self.door.limits.head)
        else:
            self.deadline.disarm(Cause.HEAD)
            self.deadline.arm_once(Cause.KEEPALIVE, self.door.limits.keepalive)

    def _reply(self, reply: Reply) -> None:
        """Answer what has nothing to do with a request, no faster than it is read."""
        self.transport.write(reply.data)
        if self.full:
            self._flooded = True
            self.stop_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._flooded:
            self._flooded = False
            self.read_again()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._open = False
        self._settle()

    # -- requests ----------------------------------------------------------------------------

    def _begin(self, begin: Begin) -> None:
        if self.leaving:
            return
        self._open = True
        self._aborted = False
        self._number += 1
        self._complained = 0
        params = begin.params
        if begin.role == AUTHORIZER:
            params[b"FCGI_ROLE"] = b"AUTHORIZER"
            params[b"CONTENT_LENGTH"] = b"0"  # section 6.3: an authorizer is sent no body
        else:
            params.pop(b"FCGI_ROLE", None)
        complain = partial(self._complain, self._number)
        self.ask(params, None if self.entrance.stderr == "log" else complain)

    def _abort(self) -> None:
        """The front server lets go of the request; the connection may stay (section 5.4)."""
        self._aborted = True
        if self.answer is None:
            self._end(ABORTED)
        elif self.answer.task is None:
            self.answer.abort()
        else:
            self.cut(Cause.GONE)

    def _fault(self, fault: PeerError) -> None:
        if self._responder.live and not self._open:  # its variables are none: it is told so
            self._open = True
            self.reject(fault)
            self.leave()
        else:
            self.breach(fault)

    def _complain(self, number: int, data: bytes) -> bool:
        """Pass on what a script writes to its standard error; return whether it is logged too.

        What it says after its request has ended is logged: the front server would take it for the
        next one's.
        """
        if number != self._number or not self._open:
            return True
        room = STDERR_MAX - self._complained
        if room > 0 and not self.transport.is_closing():
            self._complained += len(data)
            self.transport.write(self._responder.stderr(data[:room]))
        return self.entrance.stderr == "both"

    # -- answers -----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self.transport.write(self._responder.stdout(data))

    def finish(self, data: bytes) -> None:
        notes = self.notes
        records = self._responder.stdout(data) if data else b""
        if notes.exit_status is not None or not notes.script:
            self._end(_app_status(notes.exit_status), records)
            return
        if records:
            self.transport.write(records)
        self._ending = self.loop.call_later(SETTLE, self.complete)

    def complete(self) -> None:
        self._end(_app_status(self.notes.exit_status))

    def _end(self, status: int, records: bytes = b"") -> None:
        """Send END_REQUEST, unless that was done."""
        self._settle()
        if not self._open:
            return
        self._open = False
        self.transport.write(records + self._responder.end(status))
        self.between()

    def _settle(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None

    def broken(self) -> None:
        if self._aborted and not self.transport.is_closing():
            self._end(ABORTED)
        else:
            self._open = False
            self.transport.abort()

    def between(self) -> None:
        if self._open or self.answer is not None or self.transport.is_closing():
            return
        if not self._responder.keep or self.door.draining:
            self.leave(linger=True)  # flup's client sends an empty DATA record after all the rest
        else:
            self.deadline.arm(Cause.KEEPALIVE, self.door.limits.keepalive)

    def drain(self) -> None:
        if not self._open:
            super().drain()


def _app_status(exit_status: int | None) -> int:
    """Return the exit status as a shell gives it: 128 and the number of a signal that killed."""
    if exit_status is None:
        return 0
    return exit_status if exit_status >= 0 else 128 - exit_status
