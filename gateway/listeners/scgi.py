"""The SCGI listener: one object a connection, which carries one request.

Decides when a request begins and that its end is the end of the connection. Which bytes may come is
`wire/scgi.py`; what a request means is `relay.py`.
"""

import socket
import struct

from gateway.listeners.deadline import Cause
from gateway.listeners.door import Door, Entrance
from gateway.listeners.line import socket_of
from gateway.listeners.relay import RelayLine
from gateway.wire import PeerError
from gateway.wire.scgi import Begin, RequestParser, Stdin, StdinEnd

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER (socket(7)): what close() does is a reset."""


class ScgiConnection(RelayLine):
    """See the module."""

    via = "scgi"

    def __init__(self, door: Door, entrance: Entrance) -> None:
        super().__init__(door, entrance)
        self._parser = RequestParser()
        self._begun = False

    @property
    def in_head(self) -> bool:
        return self._parser.in_head

    def data_received(self, data: bytes) -> None:
        if self.leaving:
            return
        self.feeding = True
        for event in self._parser.feed(data):
            if type(event) is Stdin:
                self.body(event.data)
            elif type(event) is Begin:
                self._begun = True
                self.ask(event.params)
            elif type(event) is StdinEnd:
                self.body_end()
            elif isinstance(event, PeerError):
                self._fault(event)
        self.fed()

    def _fault(self, fault: PeerError) -> None:
        if self._begun:
            self.breach(fault)
        else:
            self._begun = True
            self.reject(fault)

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def finish(self, data: bytes) -> None:
        if data:
            self.transport.write(data)

    def complete(self) -> None:
        pass

    def broken(self) -> None:
        # The end of the connection is the end of the answer, so only a reset tells that it is not
        # whole; a Unix socket has none.
        if not self.transport.is_closing() and self.remote[0]:
            socket_of(self).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def between(self) -> None:
        self.deadline.disarm(Cause.HEAD)
        self.leave()
