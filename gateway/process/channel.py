"""The messages between keeper and front; those of the master are in `mastering.py`.

Decides the form of each message: one kind byte, fixed fields by `struct`, then bytes whose lengths
were given; text never holds NUL. Must not know what anybody does with a message.

`decoding.py` reads them, `post.py` sends and receives them.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gateway.process.mastering import BARE_FORM, ID_FORM, Bare, FromMaster, ToMaster, text_of

MESSAGE_MAX = 160 << 10
"""Longest message in bytes. Linux lets a SEQPACKET message be as long as the send buffer (208 KiB
by default, net.core.wmem_default); a request head is bounded to 64 KiB long before."""

REPLY_MAX = 8 << 10
"""Longest message of a keeper to a front."""

EXITS_MAX = 256
"""Ends of scripts in one message."""

AGAIN = "again"
"""The step of a failure that is none: the keeper leaves and has not started this; another may."""


RELEASE = 3
OPEN = 4
WANT_TERMS = 8
CHECK = 9
EXITED = 18
"""The first bytes of an `Open`, a `WantTerms`, a `Check` and an `Exited`."""

ORDER_FORM = struct.Struct("=BBIHH")
WANT_FORM = struct.Struct("=BIH")
CHECK_FORM = struct.Struct("=BHHH")
CHECKED_FORM = struct.Struct("=BB")
FAILED_FORM = struct.Struct("=BIiHBH")
EXITED_FORM = struct.Struct("=BIhdQ")
NAMED_FORM = struct.Struct("=BH")


@dataclass(frozen=True, slots=True)
class Order:
    """Front to keeper: start this script. With it stdin (if `stdin`), stdout and stderr."""

    id: int
    route: str
    script: bytes
    """Relative to the root of `route`."""
    environment: bytes
    """"name=value" entries with NUL between them; see `environment_block`."""
    stdin: bool

    def encode(self) -> bytes:
        route = self.route.encode()
        head = ORDER_FORM.pack(1, self.stdin, self.id, len(route), len(self.script))
        return b"".join((head, route, self.script, self.environment))


@dataclass(frozen=True, slots=True)
class WantPool:
    """Front to keeper: see that a pool of this file runs, and say where."""

    id: int
    route: str
    script: bytes

    def encode(self) -> bytes:
        route = self.route.encode()
        return WANT_FORM.pack(2, self.id, len(route)) + route + self.script


@dataclass(frozen=True, slots=True)
class Open:
    """Front to keeper: open this file for reading. With it a socket, over which the descriptor
    comes (`Opened`) or the reason why not (`Failed`, its id 0), and which is then closed."""

    key: str
    path: bytes
    """Relative to the directory `key` of `KeeperSpec.files`."""

    def encode(self) -> bytes:
        key = self.key.encode()
        return NAMED_FORM.pack(OPEN, len(key)) + key + self.path


@dataclass(frozen=True, slots=True)
class WantTerms:
    """Front to keeper: what has this tenant decided for itself? With it a socket for the answer:
    `TermsAre`, or `Failed` with the reason why not (its id 0)."""

    name: str
    """As "~alice" or "@example.org"."""

    def encode(self) -> bytes:
        return BARE_FORM.pack(WANT_TERMS) + self.name.encode()


@dataclass(frozen=True, slots=True)
class Check:
    """Front to keeper: is this a password of this user? With it a socket for the answer: `Checked`,
    or `Failed` (its id 0) where nobody can say, or nobody may ask so often."""

    name: str
    area: bytes
    """The path that it is asked for, as it stands in the tenant's settings."""
    origin: bytes
    """Who asks: failures are counted by it."""
    user: bytes
    password: bytes

    def encode(self) -> bytes:
        name = self.name.encode()
        head = CHECK_FORM.pack(CHECK, len(name), len(self.area), len(self.origin))
        said = self.user + b":" + self.password
        return b"".join((head, name, self.area, self.origin, said))


@dataclass(frozen=True, slots=True)
class Release:
    """Front to keeper: the exchange is over. What still runs for it is stopped."""

    id: int

    def encode(self) -> bytes:
        return ID_FORM.pack(RELEASE, self.id)


@dataclass(frozen=True, slots=True)
class Started:
    """Keeper to front: the order that was `Queued` runs. Of other orders it is not said."""

    id: int

    def encode(self) -> bytes:
        return ID_FORM.pack(16, self.id)


@dataclass(frozen=True, slots=True)
class Queued:
    """Keeper to front: the order waits for its turn; `Started` or `Failed` follows."""

    id: int

    def encode(self) -> bytes:
        return ID_FORM.pack(23, self.id)


@dataclass(frozen=True, slots=True)
class Failed:
    """Keeper to front: it could not be started. The fields are those of `spec.SpawnFailed`."""

    id: int
    errno: int
    step: str
    status: int
    why: str

    def encode(self) -> bytes:
        step, why = self.step.encode()[:255], text_of(self.why)
        head = FAILED_FORM.pack(17, self.id, self.errno, self.status, len(step), len(why))
        return head + step + why


@dataclass(frozen=True, slots=True)
class Opened(Bare):
    """Keeper to front, over the socket that came with `Open`: with it the file's descriptor."""

    KIND = 24


@dataclass(frozen=True, slots=True)
class TermsAre:
    """Keeper to front, over the socket that came with `WantTerms`."""

    data: bytes
    """As `terms.encode` gives it; not looked at here."""

    def encode(self) -> bytes:
        return BARE_FORM.pack(28) + self.data


@dataclass(frozen=True, slots=True)
class Checked:
    """Keeper to front, over the socket that came with `Check`."""

    right: bool

    def encode(self) -> bytes:
        return CHECKED_FORM.pack(29, self.right)


@dataclass(frozen=True, slots=True)
class Exited:
    """Keeper to front: the script's own process has ended (its children may still run).

    One message may hold several of them, see `decode_exits`.
    """

    id: int
    status: int
    cpu: float
    memory: int

    def encode(self) -> bytes:
        return EXITED_FORM.pack(EXITED, self.id, self.status, self.cpu, self.memory)


@dataclass(frozen=True, slots=True)
class Faulted:
    """Keeper to front: the end of this script, which follows, comes from a limit; `why` says so."""

    id: int
    why: str

    def encode(self) -> bytes:
        return ID_FORM.pack(25, self.id) + text_of(self.why)


@dataclass(frozen=True, slots=True)
class PoolAt:
    """Keeper to front: the answer to `WantPool`, the absolute path of the pool's socket."""

    id: int
    path: bytes

    def encode(self) -> bytes:
        return ID_FORM.pack(19, self.id) + self.path


@dataclass(frozen=True, slots=True)
class PoolDown:
    """Keeper to front: no worker of this pool stays alive, and why."""

    name: str
    why: str

    def encode(self) -> bytes:
        name = self.name.encode()[:1024]
        return NAMED_FORM.pack(20, len(name)) + name + text_of(self.why)


@dataclass(frozen=True, slots=True)
class PoolUp:
    """Keeper to front: the pool has a worker again."""

    name: str

    def encode(self) -> bytes:
        name = self.name.encode()[:1024]
        return NAMED_FORM.pack(21, len(name)) + name


@dataclass(frozen=True, slots=True)
class Leaving(Bare):
    """Keeper to front: no more orders here. Those that wait, and those that come all the same, are
    `Failed` with the step `AGAIN`, until the front closes its end."""

    KIND = 22


Asked: TypeAlias = WantTerms | Check
FromFront: TypeAlias = Order | WantPool | Release | Open | Asked
ToFront: TypeAlias = (
    Queued
    | Started
    | Failed
    | Exited
    | Faulted
    | PoolAt
    | PoolDown
    | PoolUp
    | Leaving
    | Opened
    | TermsAre
    | Checked
)
Message: TypeAlias = FromFront | ToFront | FromMaster | ToMaster


def environment_block(environment: Mapping[bytes, bytes]) -> bytes:
    """Return the environment as one block, as `Order` carries it. Raises ValueError for a NUL."""
    block = b"\0".join([name + b"=" + value for name, value in environment.items()])
    if environment and block.count(b"\0") != len(environment) - 1:
        raise ValueError("NUL in an environment")
    return block


def environment_pairs(block: bytes) -> dict[bytes, bytes]:
    """Return what `environment_block` was given; of equal names the last one stands.

    Raises ValueError for an entry that has no "=" or no name.
    """
    if not block:
        return {}
    pairs: dict[bytes, bytes] = dict([entry.split(b"=", 1) for entry in block.split(b"\0")])
    if b"" in pairs:
        raise ValueError("an environment entry without a name")
    return pairs
