"""System calls that neither `os` nor the C library has: mounts by descriptor, namespaces, Landlock.

Decides nothing: each function is one call, or a few that only make sense together, and raises
OSError with the call's name. Must not know what it is used for.

The numbers are the same on every architecture, because all of these calls came after they were
unified (5.1); `unshare` and `prctl` are the C library's. A kernel without a call says ENOSYS.
"""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Mapping

NEW_MOUNTS = 0x00020000
NEW_IPC = 0x08000000
NEW_NETWORK = 0x40000000

READ_ONLY = 0x01
NO_SET_ID = 0x02
NO_DEVICES = 0x04
NO_PROGRAMS = 0x08
"""Attributes of a mount (MOUNT_ATTR_*, mount_setattr(2))."""

PRIVATE = 1 << 18
SLAVE = 1 << 19
"""Whether a mount hears of what is mounted below its twin in another namespace: never, or always.
(MS_PRIVATE, MS_SLAVE)"""

_OPEN_TREE = 428
_MOVE_MOUNT = 429
_FSOPEN = 430
_FSCONFIG = 431
_FSMOUNT = 432
_MOUNT_SETATTR = 442
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446

_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_CLONE = 0x1
_FROM_AND_TO_ARE_DESCRIPTORS = 0x4 | 0x40
_SET_STRING, _CREATE = 1, 6
_CLOEXEC = 0x1
_BELOW_PATH = 1
_ASK_VERSION = 1
_PR_SET_NO_NEW_PRIVS = 38
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _call(name: str, number: int, *arguments: int | bytes | None) -> int:
    """Make one system call. Bytes are passed by their address, and are only read."""
    words = [
        ctypes.c_long(each) if isinstance(each, int) else ctypes.c_char_p(each)
        for each in arguments
    ]
    result: int = _libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise _error(name)
    return result


def _error(name: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{name}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces of `flags` for new ones."""
    if _libc.unshare(ctypes.c_int(flags)) != 0:
        raise _error("unshare")


def clone_tree(fd: int) -> int:
    """Return a descriptor of a copy of the mounts below the directory `fd`, attached nowhere."""
    flags = _CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE
    return _call("open_tree", _OPEN_TREE, fd, b"", flags)


def new_mount(kind: str, options: Mapping[str, str], attributes: int) -> int:
    """Return a descriptor of a new file system of that kind, mounted nowhere."""
    context = _call("fsopen", _FSOPEN, kind.encode(), _CLOEXEC)
    try:
        for key, value in options.items():
            words = (key.encode(), value.encode(), 0)
            _call(f"fsconfig({key})", _FSCONFIG, context, _SET_STRING, *words)
        _call("fsconfig", _FSCONFIG, context, _CREATE, None, None, 0)
        return _call("fsmount", _FSMOUNT, context, _CLOEXEC, attributes)
    finally:
        os.close(context)


def attach(mount: int, directory: int) -> None:
    """Mount what the descriptor `mount` holds on the directory of the other one."""
    flags = _FROM_AND_TO_ARE_DESCRIPTORS
    _call("move_mount", _MOVE_MOUNT, mount, b"", directory, b"", flags)


def set_mount(fd: int, attributes: int, propagation: int = 0, *, deep: bool = False) -> None:
    """Add attributes to the mount of `fd`; `deep` also to all mounts below it, or to none."""
    how = struct.pack("=QQQQ", attributes, 0, propagation, 0)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if deep else 0)
    _call("mount_setattr", _MOUNT_SETATTR, fd, b"", flags, how, len(how))


def raise_loopback() -> None:
    """Bring up "lo" in this network namespace: 127.0.0.1 and ::1 of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack_from("16xH", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[0]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


def no_new_rights() -> None:
    """Never again gain a right by executing a file: set-user-id, file capabilities."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, *(ctypes.c_ulong(each) for each in (1, 0, 0, 0))) != 0:
        raise _error("prctl(PR_SET_NO_NEW_PRIVS)")


def landlock_version() -> int:
    """Return the version of Landlock's interface; 0 where there is none or it is turned off."""
    try:
        return _call("landlock", _LANDLOCK_CREATE_RULESET, None, 0, _ASK_VERSION)
    except OSError:
        return 0


def landlock_rules(attributes: bytes) -> int:
    """Return a descriptor of an empty set of rules; `attributes` is a landlock_ruleset_attr."""
    name = "landlock_create_ruleset"
    return _call(name, _LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)


def landlock_allow(rules: int, directory: int, access: int) -> None:
    """Allow `access` to all that is below the directory of a descriptor."""
    rule = struct.pack("=Qi", access, directory)
    _call("landlock_add_rule", _LANDLOCK_ADD_RULE, rules, _BELOW_PATH, rule, 0)


def landlock_restrict(rules: int) -> None:
    """Hold this process, and all that it will start, to the rules. Needs `no_new_rights`."""
    _call("landlock_restrict_self", _LANDLOCK_RESTRICT_SELF, rules, 0)
