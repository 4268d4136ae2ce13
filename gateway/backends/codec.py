"""What a protocol must supply to `stream`: the seam between the engine and its codecs.

Decides the events of an answer and who frames what. A new protocol is a `Codec`, and no more.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeAlias


class Complaint(NamedTuple):
    """Text for the error log."""

    data: bytes


class End(NamedTuple):
    """The worker is done with the request."""

    status: int = 0
    """What it says a program would have exited with."""
    refusal: str = ""
    """Why it did not take the request; "" if it did."""


Event: TypeAlias = bytes | Complaint | End


class Codec(Protocol):
    """One request in some protocol, as bytes. What may be sent when is the engine's business."""

    def open(self, env: Mapping[bytes, bytes], *, keep: bool, use: int) -> bytes:
        """Return what begins a request; `keep` asks for a connection that stays open.

        `use` counts the requests of its connection, from 1.
        """
        ...

    def piece(self, data: bytes) -> bytes:
        """Return a piece of the request's body."""
        ...

    def end(self) -> bytes:
        """Return what ends the request's body; also of a request that has none."""
        ...

    def feed(self, data: bytes) -> list[Event]:
        """Return what the worker's bytes mean: pieces of CGI output, complaints, the end.

        b"" is the end of the connection; where that does not end an answer it means nothing.
        Raises PeerError.
        """
        ...

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        ...
