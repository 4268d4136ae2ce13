"""A connection from a front server that relays its clients' requests: nginx, Apache, lighttpd, ...

Decides what of its variables is believed, that a body has the length it was said to have, and what
is answered to a request that is none. Must not know how variables and bodies are laid on the wire:
`fastcgi.py` and `scgi.py` do.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping

from gateway.exchange import NO_BODY, Notes, Refused, Request, Stream, Via
from gateway.listeners.cgi_answer import CgiAnswer
from gateway.listeners.deadline import Cause
from gateway.listeners.door import Door, Entrance
from gateway.listeners.drive import drive
from gateway.listeners.fed import FedBody, Valve
from gateway.listeners.line import LINGER, Line, socket_of
from gateway.listeners.page import page
from gateway.wire import PeerError
from gateway.wire.cgi_request import Asked, asked


class RelayLine(Line):
    """See the module."""

    via: Via

    def __init__(self, door: Door, entrance: Entrance) -> None:
        super().__init__(door, entrance)
        self.answer: CgiAnswer | None = None
        self.notes = Notes(door.limits)
        """Those of the last request."""
        self.leaving = False
        """Nothing more is answered on this connection."""
        self.feeding = False
        """What has come is being looked at."""
        self._left: int | None = None
        """Bytes of body that are still to come, where their number was declared."""
        self._shy = False
        """The front server stops sending once an answer has begun."""
        self._coming = False
        """The end of a request, or of its body, has not come."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send a part of an answer."""

    @abstractmethod
    def finish(self, data: bytes) -> None:
        """Send the last part of an answer, and what ends a request."""

    @abstractmethod
    def broken(self) -> None:
        """End an answer so that the front server sees that it is not whole."""

    @abstractmethod
    def between(self) -> None:
        """An answer was given: see how the connection goes on."""

    @abstractmethod
    def complete(self) -> None:
        """All of an exchange is over, also its program."""

    @property
    @abstractmethod
    def in_head(self) -> bool:
        """Whether something of a request has come, and its variables are not complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        trust = self.entrance.trust
        self.trusted = trust is None or trust.allows(socket_of(self))

    def eof_received(self) -> bool:
        self.cut(Cause.GONE)  # nginx, lighttpd and Caddy abort by closing
        return False

    # -- a request ---------------------------------------------------------------------------

    def ask(
        self, params: Mapping[bytes, bytes], stderr: Callable[[bytes], bool] | None = None
    ) -> None:
        """Begin the exchange that these variables describe."""
        self.deadline.disarm(Cause.HEAD)
        self.deadline.disarm(Cause.KEEPALIVE)
        self._coming = True
        if self.entrance.given:
            params = _named(params)
        try:
            if len(self.door.connections) > self.door.connections_max:
                raise PeerError(503, "The server has too many connections.")
            found = asked(params, trusted=self.trusted, peer=self.remote, local=self.local)
        except PeerError as fault:
            self.reject(fault)
            return
        notes = self.notes = Notes(self.door.limits)
        body: Stream = NO_BODY
        self._shy = params.get(b"SERVER_SOFTWARE", b"").startswith(b"nginx/")
        self._left = found.length
        if found.length != 0:
            valve = Valve(self.stop_reading, self.read_again, _nothing)
            body = self.incoming = FedBody(self.loop, notes, self.deadline, valve, False)
        request = self._request(found, notes, body)._replace(stderr=stderr)
        answer = self.answer = CgiAnswer(self, found.method)
        self.begin(self._exchange(request, answer), answer, notes)

    def _request(self, found: Asked, notes: Notes, body: Stream) -> Request:
        return Request(
            id=self.door.next_id(),
            method=found.method,
            target=found.target,
            path=found.path,
            query=found.query,
            protocol=found.protocol,
            headers=found.headers,
            host=found.host,
            scheme=found.scheme,
            remote=found.remote,
            local=found.local,
            body=body,
            length=found.length,
            notes=notes,
            params=found.params,
            via=self.via,
        )

    async def _exchange(self, request: Request, answer: CgiAnswer) -> None:
        await drive(self.service, request, answer)
        if self.notes is request.notes:  # a program may outlive its answer, and the next begin
            self.complete()

    def body(self, data: bytes) -> None:
        """A piece of the request's body has come."""
        body = self.incoming
        if body is None:
            return  # nobody wanted it
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                body.fail(Refused(400, "The request body is longer than its CONTENT_LENGTH."))
                self.incoming = None
                return
        body.feed(data)

    def holds_back(self) -> bool:
        # nginx 1.22 sends no more of a body once an answer has begun. A script that answers first
        # and then reads would wait for the rest for ever.
        return self._shy and self.incoming is not None

    def body_end(self) -> None:
        """All of the request's body has come."""
        if self.answer is not None:
            self.answer.release()
        self._coming = False
        body, self.incoming = self.incoming, None
        if body is None:
            return
        if self._left:
            body.fail(Refused(400, "The request body is shorter than its CONTENT_LENGTH."))
        else:
            body.end()

    def reject(self, fault: PeerError) -> None:
        """Answer what is no request, without asking a handler."""
        self._coming = True
        self.deadline.disarm(Cause.HEAD)
        self.notes = Notes(self.door.limits)  # not those of the request before it
        request = self._request(_NOBODY, self.notes, NO_BODY)
        self.door.complain(f"a request by {self.via}: {fault.say}", self.who)
        answer = self.answer = CgiAnswer(self, "GET")
        response = page(Refused(fault.status, fault.say), request.id, explain=False)
        assert isinstance(response.body, bytes)
        answer.head(response, len(response.body))
        answer.end(response.body)
        self.complete()
        self.service.record(request, fault.status, answer.sent, 0.0)

    def breach(self, fault: PeerError) -> None:
        """The peer does not speak the protocol: say so, and be done with it."""
        text = f"a connection is closed that breaks the protocol ({self.via}): {fault.say}"
        self.door.complain(text, self.who)
        self.cut(Cause.GONE)
        self.transport.abort()

    def answered(self) -> None:
        self.answer = None
        for cause in (Cause.TOTAL, Cause.FIRST_BYTE, Cause.IDLE, Cause.BODY):
            self.deadline.disarm(cause)
        if self.incoming is not None:
            self.incoming.abandon()
            self.incoming = None
        if not self.transport.is_closing():
            self.read_again()
            self.between()

    # -- leaving -----------------------------------------------------------------------------

    def leave(self, *, linger: bool = False) -> None:
        """Close, once what was written is out and what has come was looked at; with `linger`, or
        where something is still to come, only after the peer has, if it does soon."""
        self.leaving = True
        self._coming = self._coming or linger
        if not self.feeding:
            self._part()

    def fed(self) -> bool:
        """What has come was looked at. Return whether the connection goes on."""
        self.feeding = False
        if self.leaving:
            self._part()
        return not (self.leaving or self.transport.is_closing())

    def _part(self) -> None:
        if self.transport.is_closing():
            return
        if self._coming:
            self.end_writing()
            self.deadline.arm(Cause.LINGER, LINGER)
        else:
            self.transport.close()
        self.flush_slowly()

    def _expired(self, cause: Cause) -> None:
        if cause is Cause.CLIENT and self.reads_slowly():
            return
        if self.answer is not None:
            if cause is not Cause.KEEPALIVE:
                self.cut(cause)
            return
        if cause is Cause.LINGER and self.transport.get_write_buffer_size():
            return  # it still takes its answer, and has the client's time for that
        if cause is Cause.HEAD and self.in_head:
            self.breach(PeerError(408, "the variables were not complete in time"))
        self.transport.abort()

    def drain(self) -> None:
        """Finish what runs, then close; an idle connection closes now."""
        if self.answer is None and not self.in_head:
            self.leave()


_NOBODY = Asked(
    method="-", target=b"-", path=b"-", query=b"", protocol=b"-", headers=(), host=b"",
    scheme=b"http", remote=("", 0), local=("", 0), length=0, params={},
)  # fmt: skip


def _named(params: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """Let a script that is named by its file alone have a name, which every request needs."""
    file = params.get(b"SCRIPT_FILENAME", b"")
    if not file or any(params.get(name) for name in _PATHS):
        return params
    return {**params, b"SCRIPT_NAME": b"/" + file.rpartition(b"/")[2]}


_PATHS = (b"SCRIPT_NAME", b"PATH_INFO", b"DOCUMENT_URI", b"REQUEST_URI")


def _nothing() -> None:
    pass
