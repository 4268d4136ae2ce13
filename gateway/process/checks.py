"""What a front asks a tenant's keeper about the tenant's own settings: its terms, and passwords.

Decides who may ask how often, and what is remembered of a password that was right. The keeper must
not be held up by anybody who guesses, nor by a password file that was made to be slow; so each
password is compared in a process of its own, which the system ends after `SECONDS`:

- one that was right is remembered for `REMEMBERED` seconds, as a keyed hash, while its file stays
  as it is: a browser sends it with every request;
- of the others `AT_ONCE` are compared at a time, and `WAITING` wait; beyond that the answer is 503;
- who was wrong `BURST` times is answered 429, and may try again once in `PAUSE` seconds; all
  together may be wrong `BURST_ALL` times, and then once in `PAUSE_ALL` seconds.
"""

import hashlib
import os
import resource
import secrets
import signal
import socket
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from gateway.journal import Journal
from gateway.process import passwords
from gateway.process.channel import (
    Asked,
    Check,
    Checked,
    Failed,
    Message,
    TermsAre,
)
from gateway.process.own import OwnArea
from gateway.process.ownfile import OwnFiles, identity, open_own, settled
from gateway.process.post import send
from gateway.process.spec import SpawnFailed
from gateway.process.terms import encode

SECONDS = 2
"""Processor time of one comparison."""
AT_ONCE = 2
WAITING = 64
REMEMBERED = 300.0
REMEMBERED_MAX = 1000
BURST = 10
PAUSE = 3.0
BURST_ALL = 100
PAUSE_ALL = 0.05
ORIGINS_MAX = 1000
FILE_MAX = 256 << 10
"""Bytes of a password file."""

_RIGHT, _WRONG, _BROKEN = 0, 1, 70


class Allowed:
    """How often somebody may still be wrong: a bucket that fills up again."""

    def __init__(self, burst: int, pause: float, origins: int) -> None:
        self._burst = burst
        self._pause = pause
        self._origins = origins
        self._used: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        """Origin -> attempts that count against it, and as of when."""

    def take(self, origin: bytes, now: float) -> bool:
        """Whether `origin` may try; if so, that counts as a failure until it is given back."""
        used, since = self._used.pop(origin, (0.0, now))
        used = max(0.0, used - (now - since) / self._pause)
        may = used + 1 <= self._burst
        self._used[origin] = (used + may, now)
        if len(self._used) > self._origins:
            self._used.popitem(last=False)
        return may

    def give_back(self, origin: bytes) -> None:
        """It was right after all."""
        if origin in self._used:
            used, since = self._used[origin]
            self._used[origin] = (max(0.0, used - 1), since)


@dataclass(slots=True)
class _Pending:
    """One password that is compared, or waits for that, and who wants to know."""

    check: Check
    key: bytes
    fd: int
    """The password file, open; ours to close."""
    may: bool
    """Whether this user may enter at all, if the password is right."""
    lasting: bool
    """Whether the file's next change will show."""
    asked: list[socket.socket] = field(default_factory=list)


class Checks:
    """See the module."""

    def __init__(self, own: OwnFiles | None, journal: Journal) -> None:
        self._own = own
        self._journal = journal
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._origins = Allowed(BURST, PAUSE, ORIGINS_MAX)
        self._all = Allowed(BURST_ALL, PAUSE_ALL, 1)
        self._pending: dict[bytes, _Pending] = {}
        self._waiting: deque[_Pending] = deque()
        self._running: dict[int, _Pending] = {}

    def answer(self, asked: Asked, reply_fd: int) -> None:
        """Answer over the socket `reply_fd`, which is ours to close; a password perhaps later."""
        try:
            sock = socket.socket(fileno=reply_fd)
        except OSError:
            os.close(reply_fd)  # it is no socket: nobody can be answered
            return
        sock.setblocking(False)
        try:
            if self._own is None:
                raise SpawnFailed(0, "own", "this keeper is no tenant's", 404)
            if isinstance(asked, Check):
                self._check(self._own, asked, sock)
                return
            own = self._own.of(asked.name, now=True)
            _tell(sock, TermsAre(encode(own.terms())))
        except SpawnFailed as failed:
            _refuse(sock, failed)

    def _check(self, own: OwnFiles, check: Check, sock: socket.socket) -> None:
        """Answer whether a password is right, now or later. Raises SpawnFailed."""
        area = next(
            (each for each in own.of(check.name).areas if each.path.encode() == check.area), None
        )
        if area is None:
            why = "this is not protected any more; ask again"
            raise SpawnFailed(0, "check", why, 503)
        pending = self._opened(own, area, check)
        same = self._pending.get(pending.key)
        now = time.monotonic()
        if same is not None:
            os.close(pending.fd)
            same.asked.append(sock)
        elif now < self._right.get(pending.key, 0.0):
            os.close(pending.fd)
            _tell(sock, Checked(pending.may))
        else:
            try:
                self._may_try(check, now)
            except SpawnFailed:
                os.close(pending.fd)
                raise
            pending.asked.append(sock)
            self._pending[pending.key] = pending
            self._waiting.append(pending)
            self._next()

    def _opened(self, own: OwnFiles, area: OwnArea, check: Check) -> _Pending:
        home, path = own.home(check.name)
        shown = f"{os.fsdecode(path)}/{area.file}"
        try:
            fd, info = open_own(home, area.file.encode())
        except (OSError, ValueError) as error:
            said = (error.strerror if isinstance(error, OSError) else None) or str(error)
            why = f"{shown}: the password file of {area.path} cannot be used: {said}"
            raise SpawnFailed(0, "check", why, 500) from None
        finally:
            os.close(home)
        if info.st_size > FILE_MAX:
            os.close(fd)
            why = f"{shown}: a password file has at most {FILE_MAX >> 10} KiB"
            raise SpawnFailed(0, "check", why, 500)
        parts = (
            check.name.encode(), check.area, repr(identity(info)).encode(), check.user,
            check.password,
        )  # fmt: skip
        key = hashlib.blake2b(b"\0".join(parts), key=self._secret, digest_size=32).digest()
        may = not area.users or check.user in map(str.encode, area.users)
        return _Pending(check, key, fd, may, settled(info))

    def _may_try(self, check: Check, now: float) -> None:
        if len(self._waiting) >= WAITING or not self._all.take(b"", now):
            raise SpawnFailed(0, "check", "too many passwords are to be compared", 503)
        if not self._origins.take(check.origin, now):
            self._all.give_back(b"")
            origin = check.origin.decode("latin-1")
            raise SpawnFailed(0, "check", f"too many wrong passwords from {origin}", 429)

    def _next(self) -> None:
        while self._waiting and len(self._running) < AT_ONCE:
            pending = self._waiting.popleft()
            try:
                pid = os.fork()
            except OSError as error:
                os.close(pending.fd)
                why = f"no process to compare a password in: {error.strerror}"
                self._settle(pending, SpawnFailed(error.errno or 0, "check", why, 503))
                continue
            if not pid:
                code = _BROKEN
                try:
                    code = _compare(pending, self._journal)
                finally:
                    os._exit(code)
            os.close(pending.fd)
            self._running[pid] = pending

    def reaped(self, pid: int, status: int) -> bool:
        """A child ended with `status` (of waitpid). Return whether it compared a password."""
        pending = self._running.pop(pid, None)
        if pending is None:
            return False
        code = os.waitstatus_to_exitcode(status)
        if code == _RIGHT:
            self._origins.give_back(pending.check.origin)
            self._all.give_back(b"")
            if pending.lasting:
                self._right[pending.key] = time.monotonic() + REMEMBERED
                if len(self._right) > REMEMBERED_MAX:
                    self._right.popitem(last=False)
            self._settle(pending, Checked(pending.may))
        elif code == _WRONG:
            self._settle(pending, Checked(False))
        else:
            why = f"comparing a password took more than {SECONDS} s or failed ({code})"
            self._settle(pending, SpawnFailed(0, "check", why, 503))
        self._next()
        return True

    def _settle(self, pending: _Pending, how: Checked | SpawnFailed) -> None:
        del self._pending[pending.key]
        for sock in pending.asked:
            if isinstance(how, SpawnFailed):
                _refuse(sock, how)
            else:
                _tell(sock, how)

    def close(self) -> None:
        """Let go of all that wait; they are told nothing more."""
        for pending in self._waiting:
            os.close(pending.fd)
        for pending in self._pending.values():
            for sock in pending.asked:
                sock.close()


def _refuse(sock: socket.socket, failed: SpawnFailed) -> None:
    _tell(sock, Failed(0, failed.errno, failed.step, failed.status, failed.why))


def _tell(sock: socket.socket, message: Message) -> None:
    with sock:
        try:
            send(sock, message.encode())
        except OSError:
            pass  # whoever asked has gone


def _compare(pending: _Pending, journal: Journal) -> int:
    """In a process of its own: return the exit code that says whether the password is right."""
    _alone({pending.fd, journal.fd})
    data = b""
    while len(data) < FILE_MAX and (piece := os.read(pending.fd, FILE_MAX)):
        data += piece
    check = pending.check
    entry, theirs = passwords.stored(data, check.user)
    if not entry:
        return _WRONG
    try:
        right = passwords.fits(check.password, entry)
    except ValueError as error:
        if theirs:
            user = check.user.decode("utf-8", "backslashreplace")
            text = f"the password of {user} is never right: {error}"
            journal.write("warn", text, subject=check.name)
        return _WRONG
    return _RIGHT if right and theirs else _WRONG


def _alone(kept: set[int]) -> None:
    """Make what was the keeper an ordinary process, with an end in sight."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for what, most in ((resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))
    # The keeper's channels must end with the keeper, whatever becomes of this process.
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # there is no /proc where this user is confined
        numbers = list(range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    for fd in numbers:
        if fd > 2 and fd not in kept:
            try:
                os.close(fd)
            except OSError:
                pass  # the one that listed them
