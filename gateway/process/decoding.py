"""Read the messages between master, keeper and front: bytes -> the values of `channel.py`.

Decides what is a message. Every size and count is checked here, and what is not exactly right is a
`ValueError`: the reader then drops the peer (OpenBSD's imsg rule; never pickle, since a keeper
belongs to a user whom the front must not trust, nor the other way round).
"""

import struct
from collections.abc import Callable

from gateway.process.channel import (
    CHECK,
    CHECK_FORM,
    CHECKED_FORM,
    EXITED,
    EXITED_FORM,
    FAILED_FORM,
    NAMED_FORM,
    OPEN,
    ORDER_FORM,
    RELEASE,
    WANT_FORM,
    WANT_TERMS,
    Check,
    Checked,
    Exited,
    Failed,
    Faulted,
    Leaving,
    Message,
    Open,
    Opened,
    Order,
    PoolAt,
    PoolDown,
    PoolUp,
    Queued,
    Release,
    Started,
    TermsAre,
    WantPool,
    WantTerms,
)
from gateway.process.mastering import (
    BARE_FORM,
    ID_FORM,
    NO_KEEPER_FORM,
    STOP_FORM,
    Attach,
    Born,
    Figures,
    FrontLogs,
    Idle,
    KeeperAt,
    Logs,
    LogsAt,
    NoKeeper,
    Ready,
    Retire,
    Stop,
    Unborn,
    WantFigures,
    WantKeeper,
    WantLogs,
)


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
    _, stdin, number, route_length, script_length = _head(ORDER_FORM, data)
    if stdin > 1 or fds != 2 + stdin:
        raise ValueError("an order without its descriptors")
    script_at = ORDER_FORM.size + route_length
    environment_at = script_at + script_length
    script = data[script_at:environment_at]
    if environment_at > len(data) or not script or b"\0" in script:
        raise ValueError("an order whose lengths are wrong")
    route = data[ORDER_FORM.size : script_at].decode()
    return Order(number, route, script, data[environment_at:], stdin == 1)


def _decode_want(data: bytes, fds: int) -> WantPool:
    _, number, route_length = _head(WANT_FORM, data)
    script = data[WANT_FORM.size + route_length :]
    if not script or b"\0" in script:
        raise ValueError("a wish without a script")
    return WantPool(number, data[WANT_FORM.size : WANT_FORM.size + route_length].decode(), script)


def _decode_open(data: bytes, fds: int) -> Open:
    _, length = _head(NAMED_FORM, data)
    end = NAMED_FORM.size + length
    path = data[end:]
    if not path or b"\0" in path:
        raise ValueError("a file without a path")
    return Open(data[NAMED_FORM.size : end].decode(), path)


def _decode_check(data: bytes, fds: int) -> Check:
    _, *lengths = _head(CHECK_FORM, data)
    parts = []
    at = CHECK_FORM.size
    for length in lengths:
        parts.append(data[at : at + length])
        at += length
    user, colon, password = data[at:].partition(b":")
    if at > len(data) or not colon or b"\0" in data[CHECK_FORM.size :]:
        raise ValueError("a check whose fields are wrong")
    return Check(parts[0].decode(), parts[1], parts[2], user, password)


def _decode_checked(data: bytes, fds: int) -> Checked:
    right = _exact(CHECKED_FORM, data)[1]
    if right > 1:
        raise ValueError("an answer that is neither yes nor no")
    return Checked(right == 1)


def _decode_failed(data: bytes, fds: int) -> Failed:
    _, number, errno, status, step_length, why_length = _head(FAILED_FORM, data)
    why_at = FAILED_FORM.size + step_length
    if len(data) != why_at + why_length or not 400 <= status <= 599:
        raise ValueError("a failure whose fields are wrong")
    step, why = _read_text(data[FAILED_FORM.size : why_at]), _read_text(data[why_at:])
    return Failed(number, errno, step, status, why)


def decode_exits(data: bytes) -> list[tuple[int, int, float, int]]:
    """Return (id, status, cpu, memory) of each end of a script in a message of the kind `EXITED`.

    Raises ValueError.
    """
    exits = []
    try:
        for kind, number, status, cpu, memory in EXITED_FORM.iter_unpack(data):
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


def _decode_faulted(data: bytes, fds: int) -> Faulted:
    _, number = _head(ID_FORM, data)
    return Faulted(number, _read_text(data[ID_FORM.size :]))


def _decode_pool_at(data: bytes, fds: int) -> PoolAt:
    _, number = _head(ID_FORM, data)
    path = data[ID_FORM.size :]
    if not path.startswith(b"/") or b"\0" in path:
        raise ValueError("a pool without an absolute path")
    return PoolAt(number, path)


def _named(data: bytes) -> tuple[str, str]:
    _, length = _head(NAMED_FORM, data)
    end = NAMED_FORM.size + length
    if end > len(data):
        raise ValueError("a name that is longer than its message")
    return _read_text(data[NAMED_FORM.size : end]), _read_text(data[end:])


def _decode_pool_up(data: bytes, fds: int) -> PoolUp:
    name, rest = _named(data)
    if rest:
        raise ValueError("a message of the wrong size")
    return PoolUp(name)


def _decode_no_keeper(data: bytes, fds: int) -> NoKeeper:
    _, status, length = _head(NO_KEEPER_FORM, data)
    end = NO_KEEPER_FORM.size + length
    if end > len(data) or not 400 <= status <= 599:
        raise ValueError("a refusal whose fields are wrong")
    return NoKeeper(_read_text(data[NO_KEEPER_FORM.size : end]), status, _read_text(data[end:]))


def _decode_stop(data: bytes, fds: int) -> Stop:
    return Stop(_drain(data))


def _drain(data: bytes) -> float:
    drain = _exact(STOP_FORM, data)[1]
    if not 0 <= drain < 1e9:
        raise ValueError("a drain that cannot be")
    return drain


def _bare(message: Message) -> Callable[[bytes, int], Message]:
    def decode(data: bytes, fds: int) -> Message:
        _exact(BARE_FORM, data)
        return message

    return decode


_DECODERS: dict[int, tuple[int, Callable[[bytes, int], Message]]] = {
    # kind: (descriptors that come with it, or -1 where the decoder checks; decoder)
    1: (-1, _decode_order),
    2: (0, _decode_want),
    RELEASE: (0, lambda data, fds: Release(_exact(ID_FORM, data)[1])),
    OPEN: (1, _decode_open),
    WANT_TERMS: (1, lambda data, fds: WantTerms(_read_text(data[1:]))),
    CHECK: (1, _decode_check),
    16: (0, lambda data, fds: Started(_exact(ID_FORM, data)[1])),
    17: (0, _decode_failed),
    EXITED: (0, _decode_exited),
    19: (0, _decode_pool_at),
    20: (0, lambda data, fds: PoolDown(*_named(data))),
    21: (0, _decode_pool_up),
    22: (0, _bare(Leaving())),
    23: (0, lambda data, fds: Queued(_exact(ID_FORM, data)[1])),
    24: (1, _bare(Opened())),
    25: (0, _decode_faulted),
    28: (0, lambda data, fds: TermsAre(data[1:])),
    29: (0, _decode_checked),
    32: (1, _bare(Attach())),
    33: (0, _decode_stop),
    34: (1, _bare(Logs())),
    35: (1, lambda data, fds: KeeperAt(_read_text(data[1:]))),
    36: (2, _bare(FrontLogs())),
    37: (0, _decode_no_keeper),
    38: (0, _bare(WantFigures())),
    39: (0, lambda data, fds: Retire(_drain(data))),
    40: (2, lambda data, fds: LogsAt(_read_text(data[1:]))),
    48: (0, lambda data, fds: Idle(_exact(ID_FORM, data)[1])),
    49: (0, lambda data, fds: WantKeeper(_read_text(data[1:]))),
    50: (0, _bare(Ready())),
    51: (1, _bare(Figures())),
    52: (0, lambda data, fds: WantLogs(_read_text(data[1:]))),
    53: (0, _bare(Born())),
    54: (0, lambda data, fds: Unborn(_read_text(data[1:]))),
}


def decode(data: bytes, fds: int = 0) -> Message:
    """Return the message in `data`, which came with `fds` descriptors. Raises ValueError."""
    expected, decoder = _DECODERS.get(data[0] if data else -1, (0, _unknown))
    if expected not in (-1, fds):
        raise ValueError("a message with the wrong descriptors")
    return decoder(data, fds)


def _unknown(data: bytes, fds: int) -> Message:
    raise ValueError("a message of an unknown kind")
