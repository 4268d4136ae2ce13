"""The HTTP listener behind a proxy: whose request it is when somebody else made the connection.

Decides when a header of the PROXY protocol is taken off a connection, when the fields that a proxy
adds are believed, and what of the request they change: `remote`, `local`, `scheme` and `host`.
What they say is `wire/proxy_protocol.py` and `wire/forwarded.py`; the header fields themselves stay
as they came.

A listener that believes nobody uses `http.HttpConnection`, which knows nothing of this.

With the PROXY protocol the bytes after the header are those of the client that it names, so it is
that client whose header fields count, if its own address is trusted, and not those of the proxy
that connected, even if that one adds some.
"""

import asyncio
from collections.abc import Callable

from gateway.exchange import Notes
from gateway.listeners.deadline import Cause
from gateway.listeners.door import Door, Entrance
from gateway.listeners.fed import FedBody
from gateway.listeners.http import HttpConnection
from gateway.listeners.line import socket_of
from gateway.wire import PeerError
from gateway.wire.forwarded import Origin, client
from gateway.wire.http_request import Head
from gateway.wire.proxy_protocol import Preface, ProxyParser


def http_connections(entrance: Entrance) -> Callable[[Door, Entrance], HttpConnection]:
    """Return what makes the connections of an HTTP listener."""
    believes = entrance.trust is not None or entrance.proxy_protocol
    return BehindProxy if believes else HttpConnection


class BehindProxy(HttpConnection):
    """One connection that a proxy may have made for its client."""

    def __init__(self, door: Door, entrance: Entrance) -> None:
        super().__init__(door, entrance)
        self._header = ProxyParser() if entrance.proxy_protocol else None
        self._trusted = False
        """Whether the word of whoever sends the requests counts."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.entrance.trust is not None:
            self._trusted = self.entrance.trust.allows(socket_of(self))

    def data_received(self, data: bytes) -> None:
        if self._header is not None:
            if self._leaving or self.transport.is_closing():
                return
            try:
                preface = self._header.feed(data)
            except PeerError as fault:
                self._breach(fault.say)
                return
            if preface is None:
                return
            self._header = None
            self._introduce(preface)
            data = preface.rest
        if data:
            super().data_received(data)

    def _introduce(self, preface: Preface) -> None:
        if preface.source is not None and preface.destination is not None:
            self.remote, self.local = preface.source, preface.destination
            trust = self.entrance.trust
            self._trusted = trust is not None and trust.allows_address(self.remote[0])
        if preface.tls:
            self.scheme = b"https"

    def _breach(self, why: str) -> None:
        text = f"a connection is closed that breaks the protocol (proxy_protocol): {why}"
        self.door.complain(text, self.who)
        self.transport.abort()

    def _expired(self, cause: Cause) -> None:
        if cause is Cause.HEAD and self._header is not None and self._header.held:
            self._breach("The PROXY protocol header was not complete in time.")
        else:
            super()._expired(cause)

    def _begin(self, head: Head, body: FedBody | None, notes: Notes) -> None:
        origin = None
        if self._trusted:
            origin = client(head.headers, self.remote[0], self._vouches, self.entrance.forwarded)
        if origin is None:
            super()._begin(head, body, notes)
            return
        own = self.remote, self.local, self.scheme
        self._believe(origin)
        super()._begin(head._replace(host=origin.host) if origin.host else head, body, notes)
        self.remote, self.local, self.scheme = own  # the next request may be somebody else's

    def _vouches(self, address: str) -> bool:
        trust = self.entrance.trust
        # "" is a peer behind a Unix socket, which `_trusted` is about; no element is "".
        return not address or (trust is not None and trust.allows_address(address))

    def _believe(self, origin: Origin) -> None:
        if origin.address:
            self.remote = origin.address, origin.port
        port = origin.server_port
        if origin.scheme:
            self.scheme = origin.scheme
            # A front names its port only if it is not the usual one; ours is none of the client's.
            port = port or (443 if origin.scheme == b"https" else 80)
        if port:
            self.local = self.local[0], port
