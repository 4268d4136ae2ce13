"""FastCGI workers: the codec of `stream` for FastCGI 1.0.

Decides nothing but how the events of `wire/fcgi_requester.py` become those of the engine.
"""

from collections.abc import Callable, Mapping

from gateway.backends.codec import Complaint, End, Event
from gateway.backends.stream import StreamBackend, StreamSettings, always_up
from gateway.backends.supply import Supply
from gateway.journal import Journal
from gateway.wire.fcgi_record import (
    AUTHORIZER,
    CANT_MPX_CONN,
    OVERLOADED,
    REQUEST_COMPLETE,
    RESPONDER,
)
from gateway.wire.fcgi_requester import Requester, Stderr, Stdout

_REFUSALS = {
    REQUEST_COMPLETE: "",
    CANT_MPX_CONN: "the worker says that it cannot multiplex, which was not asked of it",
    OVERLOADED: "the worker says that it is overloaded",
}


class FastCgiCodec:
    """One FastCGI request."""

    __slots__ = ("_requester",)

    def __init__(self) -> None:
        self._requester = Requester()

    def open(self, env: Mapping[bytes, bytes], *, keep: bool, use: int) -> bytes:
        # Only a FastCGI listener says so, and only where its front server asked for it.
        role = AUTHORIZER if env.get(b"FCGI_ROLE") == b"AUTHORIZER" else RESPONDER
        return self._requester.begin(env, keep=keep, role=role, use=use)

    def piece(self, data: bytes) -> bytes:
        return self._requester.stdin(data)

    def end(self) -> bytes:
        return self._requester.stdin_end()

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for event in self._requester.feed(data):
            if isinstance(event, Stdout):
                events.append(event.data)
            elif isinstance(event, Stderr):
                events.append(Complaint(event.data))
            else:
                why = _REFUSALS.get(
                    event.protocol_status, "the worker does not take the responder role"
                )
                events.append(End(event.app_status, why))
        return events

    @property
    def reusable(self) -> bool:
        return self._requester.reusable


class FastCgi(StreamBackend):
    """The handler of a route to FastCGI workers."""

    def __init__(
        self,
        settings: StreamSettings,
        supply: Supply,
        journal: Journal,
        *,
        down: Callable[[], str] = always_up,
    ) -> None:
        super().__init__(settings, FastCgiCodec, supply, journal, down=down)
