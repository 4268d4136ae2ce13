"""The messages between master, keeper and front.

Decides the form of each message: one kind byte, fixed fields by `struct`, then bytes whose lengths
were given; text never holds NUL. Every size and count is checked where a message is read, and a
message that is not exactly right is a `ValueError`: the reader then drops the peer (OpenBSD's
imsg rule; never pickle, since a keeper belongs to a user whom the front must not trust, nor the
other way round). Must not know what anybody does with a message.

`post.py` sends and receives them.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

MESSAGE_MAX = 160 << 10
"""Longest message in bytes. Linux lets a SEQPACKET message be as long as the send buffer (208 KiB
by default, net.core.wmem_default); a request head is bounded to 64 KiB long before."""

REPLY_MAX = 8 << 10
"""Longest message of a keeper to a front."""

EXITS_MAX = 256
"""Ends of scripts in one message."""

AGAIN = "again"
"""The step of a failure that is none: the keeper leaves and has not started this; another may."""

WHY_MAX = 4 << 10
"""Longest reason in a message, in bytes; what is over is cut."""

EXITED = 18
"""The first byte of an `Exited`."""

_ORDER = struct.Struct("=BBIHH")
_ID = struct.Struct("=BI")
_WANT = struct.Struct("=BIH")
_FAILED = struct.Struct("=BIiHBH")
_EXITED = struct.Struct("=BIhdQ")
_NAMED = struct.Struct("=BH")
_BARE = struct.Struct("=B")
_STOP = struct.Struct("=Bd")


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
        head = _ORDER.pack(1, self.stdin, self.id, len(route), len(self.script))
        return b"".join((head, route, self.script, self.environment))


@dataclass(frozen=True, slots=True)
class WantPool:
    """Front to keeper: see that a pool of this file runs, and say where."""

    id: int
    route: str
    script: bytes

    def encode(self) -> bytes:
        route = self.route.encode()
        return _WANT.pack(2, self.id, len(route)) + route + self.script


@dataclass(frozen=True, slots=True)
class Release:
    """Front to keeper: the exchange is over. What still runs for it is stopped."""

    id: int

    def encode(self) -> bytes:
        return _ID.pack(3, self.id)


@dataclass(frozen=True, slots=True)
class Started:
    """Keeper to front: the order that was `Queued` runs. Of other orders it is not said."""

    id: int

    def encode(self) -> bytes:
        return _ID.pack(16, self.id)


@dataclass(frozen=True, slots=True)
class Queued:
    """Keeper to front: the order waits for its turn; `Started` or `Failed` follows."""

    id: int

    def encode(self) -> bytes:
        return _ID.pack(23, self.id)


@dataclass(frozen=True, slots=True)
class Failed:
    """Keeper to front: it could not be started. The fields are those of `spec.SpawnFailed`."""

    id: int
    errno: int
    step: str
    status: int
    why: str

    def encode(self) -> bytes:
        step, why = self.step.encode()[:255], _text(self.why)
        head = _FAILED.pack(17, self.id, self.errno, self.status, len(step), len(why))
        return head + step + why


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
        return _EXITED.pack(EXITED, self.id, self.status, self.cpu, self.memory)


@dataclass(frozen=True, slots=True)
class PoolAt:
    """Keeper to front: the answer to `WantPool`, the absolute path of the pool's socket."""

    id: int
    path: bytes

    def encode(self) -> bytes:
        return _ID.pack(19, self.id) + self.path


@dataclass(frozen=True, slots=True)
class PoolDown:
    """Keeper to front: no worker of this pool stays alive, and why."""

    name: str
    why: str

    def encode(self) -> bytes:
        name = self.name.encode()[:1024]
        return _NAMED.pack(20, len(name)) + name + _text(self.why)


@dataclass(frozen=True, slots=True)
class PoolUp:
    """Keeper to front: the pool has a worker again."""

    name: str

    def encode(self) -> bytes:
        name = self.name.encode()[:1024]
        return _NAMED.pack(21, len(name)) + name


@dataclass(frozen=True, slots=True)
class Leaving:
    """Keeper to front: no more orders here. Those that wait, and those that come all the same, are
    `Failed` with the step `AGAIN`, until the front closes its end."""

    def encode(self) -> bytes:
        return _BARE.pack(22)


@dataclass(frozen=True, slots=True)
class Attach:
    """Master to keeper: with it the keeper's end of a front's channel."""

    def encode(self) -> bytes:
        return _BARE.pack(32)


@dataclass(frozen=True, slots=True)
class Stop:
    """Master to keeper: finish what runs within `drain` seconds, end the rest, leave."""

    drain: float

    def encode(self) -> bytes:
        return _STOP.pack(33, self.drain)


@dataclass(frozen=True, slots=True)
class Logs:
    """Master to keeper: with it the new error log."""

    def encode(self) -> bytes:
        return _BARE.pack(34)


@dataclass(frozen=True, slots=True)
class Idle:
    """Keeper to master: nothing runs here, and `attached` fronts have been attached so far."""

    attached: int

    def encode(self) -> bytes:
        return _ID.pack(48, self.attached)


@dataclass(frozen=True, slots=True)
class WantKeeper:
    """Front to master: a channel to the keeper of this user, please."""

    user: str

    def encode(self) -> bytes:
        return _BARE.pack(49) + self.user.encode()


@dataclass(frozen=True, slots=True)
class KeeperAt:
    """Master to front: with it the front's end of a channel to the keeper of `user`."""

    user: str

    def encode(self) -> bytes:
        return _BARE.pack(35) + self.user.encode()


@dataclass(frozen=True, slots=True)
class NoKeeper:
    """Master to front: there is no keeper of `user` to be had."""

    user: str

    def encode(self) -> bytes:
        return _BARE.pack(37) + self.user.encode()


@dataclass(frozen=True, slots=True)
class FrontLogs:
    """Master to front: with it the new error log and the new access log."""

    def encode(self) -> bytes:
        return _BARE.pack(36)


FromFront: TypeAlias = Order | WantPool | Release
ToFront: TypeAlias = Queued | Started | Failed | Exited | PoolAt | PoolDown | PoolUp | Leaving
FromMaster: TypeAlias = Attach | Stop | Logs | KeeperAt | NoKeeper | FrontLogs
ToMaster: TypeAlias = Idle | WantKeeper
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


def _text(why: str) -> bytes:
    return why.replace("\0", " ").encode("utf-8", "backslashreplace")[:WHY_MAX]


def _read_text(data: bytes) -> str:
    if b"\0" in data:
        raise ValueError("NUL in a text")
    # A cut in the middle of a character is the sender's cut at WHY_MAX, not a fault.
    return data.decode("utf-8", "replace")


def _exact(form: struct.Struct, data: bytes) -> tuple[int, ...]:
    if len(data) != form.size:
        raise ValueError("a message of the wrong size")
    return form.unpack(data)


def _head(form: struct.Struct, data: bytes) -> tuple[int, ...]:
    if len(data) < form.size:
        raise ValueError("a message that is too short")
    return form.unpack_from(data)


def _decode_order(data: bytes, fds: int) -> Order:
    _, stdin, number, route_length, script_length = _head(_ORDER, data)
    if stdin > 1 or fds != 2 + stdin:
        raise ValueError("an order without its descriptors")
    script_at = _ORDER.size + route_length
    environment_at = script_at + script_length
    script = data[script_at:environment_at]
    if environment_at > len(data) or not script or b"\0" in script:
        raise ValueError("an order whose lengths are wrong")
    route = data[_ORDER.size : script_at].decode()
    return Order(number, route, script, data[environment_at:], stdin == 1)


def _decode_want(data: bytes, fds: int) -> WantPool:
    _, number, route_length = _head(_WANT, data)
    script = data[_WANT.size + route_length :]
    if not script or b"\0" in script:
        raise ValueError("a wish without a script")
    return WantPool(number, data[_WANT.size : _WANT.size + route_length].decode(), script)


def _decode_failed(data: bytes, fds: int) -> Failed:
    _, number, errno, status, step_length, why_length = _head(_FAILED, data)
    why_at = _FAILED.size + step_length
    if len(data) != why_at + why_length or not 400 <= status <= 599:
        raise ValueError("a failure whose fields are wrong")
    step, why = _read_text(data[_FAILED.size : why_at]), _read_text(data[why_at:])
    return Failed(number, errno, step, status, why)


def decode_exits(data: bytes) -> list[tuple[int, int, float, int]]:
    """Return (id, status, cpu, memory) of each end of a script in a message of the kind `EXITED`.

    Raises ValueError.
    """
    exits = []
    try:
        for kind, number, status, cpu, memory in _EXITED.iter_unpack(data):
            if kind != EXITED or not -128 <= status <= 255 or not 0 <= cpu < 1e12:
                raise ValueError("an exit that cannot be")
            exits.append((number, status, cpu, memory))
    except struct.error:
        raise ValueError("a message of the wrong size") from None
    return exits


def _decode_exited(data: bytes, fds: int) -> Exited:
    exits = decode_exits(data)
    if len(exits) != 1:
        raise ValueError("a message of the wrong size")
    return Exited(*exits[0])


def _decode_pool_at(data: bytes, fds: int) -> PoolAt:
    _, number = _head(_ID, data)
    path = data[_ID.size :]
    if not path.startswith(b"/") or b"\0" in path:
        raise ValueError("a pool without an absolute path")
    return PoolAt(number, path)


def _named(data: bytes) -> tuple[str, str]:
    _, length = _head(_NAMED, data)
    end = _NAMED.size + length
    if end > len(data):
        raise ValueError("a name that is longer than its message")
    return _read_text(data[_NAMED.size : end]), _read_text(data[end:])


def _decode_pool_up(data: bytes, fds: int) -> PoolUp:
    name, rest = _named(data)
    if rest:
        raise ValueError("a message of the wrong size")
    return PoolUp(name)


def _decode_stop(data: bytes, fds: int) -> Stop:
    drain = _exact(_STOP, data)[1]
    if not 0 <= drain < 1e9:
        raise ValueError("a drain that cannot be")
    return Stop(drain)


def _bare(message: Message) -> Callable[[bytes, int], Message]:
    def decode(data: bytes, fds: int) -> Message:
        _exact(_BARE, data)
        return message

    return decode


_DECODERS: dict[int, tuple[int, Callable[[bytes, int], Message]]] = {
    # kind: (descriptors that come with it, or -1 where the decoder checks; decoder)
    1: (-1, _decode_order),
    2: (0, _decode_want),
    3: (0, lambda data, fds: Release(_exact(_ID, data)[1])),
    16: (0, lambda data, fds: Started(_exact(_ID, data)[1])),
    17: (0, _decode_failed),
    EXITED: (0, _decode_exited),
    19: (0, _decode_pool_at),
    20: (0, lambda data, fds: PoolDown(*_named(data))),
    21: (0, _decode_pool_up),
    22: (0, _bare(Leaving())),
    23: (0, lambda data, fds: Queued(_exact(_ID, data)[1])),
    32: (1, _bare(Attach())),
    33: (0, _decode_stop),
    34: (1, _bare(Logs())),
    35: (1, lambda data, fds: KeeperAt(_read_text(data[1:]))),
    36: (2, _bare(FrontLogs())),
    37: (0, lambda data, fds: NoKeeper(_read_text(data[1:]))),
    48: (0, lambda data, fds: Idle(_exact(_ID, data)[1])),
    49: (0, lambda data, fds: WantKeeper(_read_text(data[1:]))),
}


def decode(data: bytes, fds: int = 0) -> Message:
    """Return the message in `data`, which came with `fds` descriptors. Raises ValueError."""
    expected, decoder = _DECODERS.get(data[0] if data else -1, (0, _unknown))
    if expected not in (-1, fds):
        raise ValueError("a message with the wrong descriptors")
    return decoder(data, fds)


def _unknown(data: bytes, fds: int) -> Message:
    raise ValueError("a message of an unknown kind")
