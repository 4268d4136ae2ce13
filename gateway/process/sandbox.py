"""The walls around one user's programs: what they see of the machine, and what they may change.

Decides what "home" and "strict" mean (`Sandbox` in `spec.py`) and sees that all of it holds or that
the keeper is not born: nothing is ever silently weaker. Must not know whose keeper it is, nor where
tenants live; which directories are hidden and which of their contents appear again is in the spec.

Both presets give a mount namespace and an IPC namespace, in which

- /tmp, /var/tmp and /dev/shm are empty file systems in memory, of `TEMPORARY` bytes each. They live
  as long as the keeper or anything that it started: a user who is idle has nothing there any more.
  What is in them counts as the user's memory;
- the directories of `hidden` are empty and cannot be written, but for what lies in them of `shown`:
  the home, the roots of scripts, the sockets.

"strict" makes everything read-only besides, however it is mounted and whatever its mode, except
what is shown and those three; nothing there gains rights when it is executed (no sudo, no ping, no
set-group-id sendmail); /proc shows the user's own processes only; `landlock.py` sets a second lock.

- "home" hears of what is mounted and unmounted outside later (a home that is mounted on demand), as
  its user would without a sandbox; it comes to lie below what hides. "strict" does not: a file
  system that is mounted later could be written. One that is unmounted outside stays in use there
  until the keeper leaves.
- No process namespace: it needs a first process that reaps, and what a keeper leaves behind is
  ended by its master as it is.
- Root is needed, also for one's own account: without it only a user namespace gives mounts, which
  many systems forbid, and Landlock alone hides nothing. So without root there is no sandbox, and
  who asks for one is refused.
- Linux 5.12, for mount_setattr(2), which makes a whole tree read-only at once. A walk over a list
  of mounts could be raced, and would be a second way that nobody tests.
- An account's other doors (a login, cron) lead to the machine as it is. "home" does not lock them:
  `crontab` works there, and a process of the same user outside may be looked into.
"""

import errno
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from gateway.guests import ZYGOTE_PYTHON
from gateway.process import kernel, landlock
from gateway.process.spec import KeeperSpec
from gateway.process.trail import look_up, make_way

TEMPORARY = 256 << 20
"""Bytes of each temporary directory, and at most as many files as would be of 4 KiB each."""
PLACES = (b"/tmp", b"/var/tmp", b"/dev/shm")
ALWAYS = (b"/dev/mqueue", b"/run/user")
"""Hidden in any case: the message queues of the namespace that was left (those of the new one need
no file system), and sockets of service managers, which would start something outside for a user."""

_COVER = {"size": "1m", "nr_inodes": "4096", "mode": "0755"}
"""What is hidden is an empty file system with room for the way to what is shown."""
_OWN = {"size": str(TEMPORARY), "nr_inodes": str(TEMPORARY >> 12), "mode": "1777"}
_INERT = kernel.NO_SET_ID | kernel.NO_DEVICES
_PATH = os.O_PATH | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Shown:
    """A directory that appears again."""

    path: bytes
    """Without links."""
    fd: int
    """Of the directory; then of a copy of its mounts."""
    writable: bool


class Enclosure:
    """The sandbox of one keeper while it is born: `enclose` as root, `restrict` as the user."""

    def __init__(self, spec: KeeperSpec) -> None:
        self._spec = spec
        self._strict = spec.sandbox == "strict"
        self._writable: list[int] = []
        """Descriptors of what may be written to, for Landlock."""

    def enclose(self) -> None:
        """Take this process into its namespaces. Raises OSError; then it must not go on."""
        spec = self._spec
        if spec.sandbox == "none":
            return
        if spec.uid == 0:
            raise OSError(f'sandbox = "{spec.sandbox}" cannot hold root; name another user')
        try:
            kernel.unshare(kernel.NEW_MOUNTS | kernel.NEW_IPC)
            with ExitStack() as held:
                self._build(held)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS):
                raise
            why = (
                f'sandbox = "{spec.sandbox}" is not possible: {error.strerror}; it takes root with '
                "CAP_SYS_ADMIN, which a container may lack, and Linux 5.12 or newer; else set "
                'sandbox = "none"'
            )
            raise OSError(why) from error

    def restrict(self) -> None:
        """Give up, as the user, what strictness forbids. Raises OSError."""
        if not self._strict:
            return
        kernel.no_new_rights()
        with ExitStack() as held:
            for fd in self._writable:
                held.callback(os.close, fd)
            devices = []
            for place in ("/dev", "/proc"):
                devices.append(os.open(place, _PATH))
                held.callback(os.close, devices[-1])
            landlock.restrict(self._writable, devices)

    def _build(self, held: ExitStack) -> None:
        spec = self._spec
        os.umask(0o022)  # the ways that are made are for all to pass
        root = os.open("/", _PATH)
        held.callback(os.close, root)
        kernel.set_mount(root, 0, kernel.SLAVE, deep=True)
        temporary = _found(PLACES, held)
        covers = {**_found({*spec.hidden, *ALWAYS}, held), **temporary}
        shown = _shown(spec, held)
        home = next(iter(_found((spec.home,), held)), b"")
        _agree(spec, home, covers, shown)
        outermost = [path for path in covers if not _below(path, covers)]
        if not self._strict:
            shown = [each for each in shown if _below(each.path, outermost)]
        # All copies before anything is covered or made read-only: they stay as they are now.
        copies = [self._copy(each, held) for each in shown]
        if self._strict:
            everything = kernel.READ_ONLY | kernel.NO_SET_ID
            kernel.set_mount(root, everything, kernel.PRIVATE, deep=True)
            _own_processes(held)
        walls = {path: _covered(covers[path], path in temporary, held) for path in outermost}
        own = [fd for path, fd in walls.items() if path in temporary]
        for path in temporary:
            if path not in walls:
                own.append(_mount("tmpfs", _OWN, _INERT, held))
                _place(path, own[-1], walls)
        for copy in copies:
            _place(copy.path, copy.fd, walls)
        for path, fd in walls.items():
            if path not in temporary:
                kernel.set_mount(fd, kernel.READ_ONLY)
        if self._strict:
            own += [copy.fd for copy in copies if copy.writable]
            self._writable += map(os.dup, own)

    def _copy(self, shown: _Shown, held: ExitStack) -> _Shown:
        fd = kernel.clone_tree(shown.fd)
        held.callback(os.close, fd)
        if self._strict:
            attributes = _INERT if shown.writable else _INERT | kernel.READ_ONLY
            kernel.set_mount(fd, attributes, kernel.PRIVATE, deep=True)
        return _Shown(shown.path, fd, shown.writable)


def _shown(spec: KeeperSpec, held: ExitStack) -> list[_Shown]:
    """Return what appears again, outer directories first, without what another one holds."""
    writable = {
        spec.home,
        spec.sockets,
        *spec.shown,
        *(each.root for each in spec.scripts.values()),
    }
    readable = {*spec.files.values(), os.fsencode(os.path.dirname(ZYGOTE_PYTHON))}
    every = [_Shown(path, fd, True) for path, fd in _found(writable, held).items()]
    every += [_Shown(path, fd, False) for path, fd in _found(readable, held).items()]
    every.sort(key=lambda each: (each.path, not each.writable))
    kept: dict[bytes, _Shown] = {}
    for each in every:
        around = [other for path, other in kept.items() if _below(each.path, (path,))]
        if each.path in kept or any(other.writable >= each.writable for other in around):
            continue
        kept[each.path] = each
    return list(kept.values())


def _agree(
    spec: KeeperSpec, home: bytes, covers: Collection[bytes], shown: Iterable[_Shown]
) -> None:
    """See that what is hidden stays hidden. Raises OSError."""
    way_out = f'; change one of them, or set sandbox = "none" for {spec.user}'
    for each in shown:
        for path in covers:
            if path == each.path or _below(path, (each.path,)):
                raise OSError(
                    f"{os.fsdecode(each.path)} is the user's, and {os.fsdecode(path)}, which is "
                    f"hidden, is that or in it{way_out}"
                )
    if b"/" in covers:
        raise OSError(f'"/" cannot be hidden{way_out}')
    if home and not _below(home, covers):
        raise OSError(
            f"the home {os.fsdecode(home)} is in no directory that is hidden, so others' homes "
            f"would be seen{way_out}"
        )


def _found(paths: Iterable[bytes], held: ExitStack) -> dict[bytes, int]:
    """Look directories up: path without links -> descriptor. What is not there is left out."""
    found: dict[bytes, int] = {}
    for path in paths:
        if path:
            try:
                fd, real = look_up(path)
            except FileNotFoundError:
                continue  # hidden as it is, or nothing to show
            held.callback(os.close, fd)
            found[real] = fd
    return found


def _below(path: bytes, others: Iterable[bytes]) -> bool:
    """Whether `path` is inside one of the others."""
    return any(path != other and path.startswith(other.rstrip(b"/") + b"/") for other in others)


def _mount(kind: str, options: Mapping[str, str], attributes: int, held: ExitStack) -> int:
    fd = kernel.new_mount(kind, options, attributes)
    held.callback(os.close, fd)
    return fd


def _covered(directory: int, temporary: bool, held: ExitStack) -> int:
    """Mount an empty file system on a directory; return its descriptor."""
    if temporary:
        fd = _mount("tmpfs", _OWN, _INERT, held)
    else:
        fd = _mount("tmpfs", _COVER, _INERT | kernel.NO_PROGRAMS, held)
    kernel.attach(fd, directory)
    return fd


def _place(path: bytes, mount: int, walls: Mapping[bytes, int]) -> None:
    """Attach a mount at `path`, to which a way is made where a wall is."""
    for wall, fd in walls.items():
        if _below(path, (wall,)):
            place = make_way(fd, path[len(wall.rstrip(b"/")) + 1 :])
            break
    else:
        place, _ = look_up(path)
    try:
        kernel.attach(mount, place)
    finally:
        os.close(place)


def _own_processes(held: ExitStack) -> None:
    """Mount a /proc that shows one's own processes only."""
    options, attributes = {"hidepid": "2"}, _INERT | kernel.NO_PROGRAMS
    _place(b"/proc", _mount("proc", options, attributes, held), {})
