"""What the master says to fronts and keepers, and they to it: one datagram for each message.

Decides the form of those messages; `decoding.py` reads them. Must not know who acts on them, nor
how they travel (`post.py`). What fronts and keepers say to each other is in `channel.py`.
"""

import struct
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

BARE_FORM = struct.Struct("=B")
STOP_FORM = struct.Struct("=Bd")
NO_KEEPER_FORM = struct.Struct("=BHH")
ID_FORM = struct.Struct("=BI")

WHY_MAX = 4 << 10
"""Longest reason in a message, in bytes; what is over is cut."""


class Bare:
    """A message that says all by its kind, and by the descriptors that come with it."""

    __slots__ = ()
    KIND: ClassVar[int]

    def encode(self) -> bytes:
        return BARE_FORM.pack(self.KIND)


def text_of(why: str) -> bytes:
    return why.replace("\0", " ").encode("utf-8", "backslashreplace")[:WHY_MAX]


@dataclass(frozen=True, slots=True)
class Attach(Bare):
    """Master to keeper: with it the keeper's end of a front's channel."""

    KIND = 32


@dataclass(frozen=True, slots=True)
class Stop:
    """Master to keeper: finish what runs within `drain` seconds, end the rest, leave."""

    drain: float

    def encode(self) -> bytes:
        return STOP_FORM.pack(33, self.drain)


@dataclass(frozen=True, slots=True)
class Retire:
    """Master to front: others serve from now. Answer what is still asked on the connections that
    are open, once each, finish what runs within `drain` seconds, end the rest, leave."""

    drain: float

    def encode(self) -> bytes:
        return STOP_FORM.pack(39, self.drain)


@dataclass(frozen=True, slots=True)
class Logs(Bare):
    """Master to keeper: with it the new error log."""

    KIND = 34


@dataclass(frozen=True, slots=True)
class Idle:
    """Keeper to master: nothing runs here, and `attached` fronts have been attached so far."""

    attached: int

    def encode(self) -> bytes:
        return ID_FORM.pack(48, self.attached)


@dataclass(frozen=True, slots=True)
class WantKeeper:
    """Front to master: a channel to the keeper of this user, please."""

    user: str

    def encode(self) -> bytes:
        return BARE_FORM.pack(49) + self.user.encode()


@dataclass(frozen=True, slots=True)
class KeeperAt:
    """Master to front: with it the front's end of a channel to the keeper of `user`."""

    user: str

    def encode(self) -> bytes:
        return BARE_FORM.pack(35) + self.user.encode()


@dataclass(frozen=True, slots=True)
class NoKeeper:
    """Master to front: there is no keeper of `user` to be had. `status` answers the request."""

    user: str
    status: int
    why: str

    def encode(self) -> bytes:
        name = self.user.encode()[:1024]
        return NO_KEEPER_FORM.pack(37, self.status, len(name)) + name + text_of(self.why)


@dataclass(frozen=True, slots=True)
class FrontLogs(Bare):
    """Master to front: with it the new error log and the new access log."""

    KIND = 36


@dataclass(frozen=True, slots=True)
class WantLogs:
    """Front to master: the logs of this tenant, please; smaller ones if they are full."""

    tenant: str

    def encode(self) -> bytes:
        return BARE_FORM.pack(52) + self.tenant.encode()


@dataclass(frozen=True, slots=True)
class LogsAt:
    """Master to front: with it the access log and the error log of a tenant."""

    tenant: str

    def encode(self) -> bytes:
        return BARE_FORM.pack(40) + self.tenant.encode()


@dataclass(frozen=True, slots=True)
class WantFigures(Bare):
    """Master to front or keeper: say what you do and have done, by `Figures`."""

    KIND = 38


@dataclass(frozen=True, slots=True)
class Ready(Bare):
    """Front to master: it serves."""

    KIND = 50


@dataclass(frozen=True, slots=True)
class Figures(Bare):
    """Front or keeper to master: with it a sealed memory file, see `figures.py`."""

    KIND = 51


@dataclass(frozen=True, slots=True)
class Born(Bare):
    """Keeper to master: it is the user now, and takes orders."""

    KIND = 53


@dataclass(frozen=True, slots=True)
class Unborn:
    """Keeper to master: it cannot become what it should, and leaves."""

    why: str

    def encode(self) -> bytes:
        return BARE_FORM.pack(54) + text_of(self.why)


FromMaster: TypeAlias = (
    Attach | Stop | Retire | Logs | KeeperAt | NoKeeper | FrontLogs | LogsAt | WantFigures
)
ToMaster: TypeAlias = Idle | WantKeeper | WantLogs | Ready | Figures | Born | Unborn
