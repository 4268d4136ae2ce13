"""The logs of single tenants: for each an access log and an error log that the tenant may read.

Decides when one is opened, how much is held back until it is, and when it is full. Must not know
where the files are nor open them: the master does (a front may not write there), and renames full
ones. What cannot be kept is lost here alone; the server's own logs have all of it.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from weakref import WeakValueDictionary

from gateway.exchange import Request
from gateway.journal import Journal
from gateway.listeners.accesslog import AccessLog, Format

OPEN_MAX = 256
"""Tenants whose logs a front holds open; the one that wrote least lately is closed first."""
HELD_MAX = 64 << 10
"""Bytes of one log that wait for its file; what is over is lost."""
LOOK_EVERY = 64 << 10
"""Bytes after which the size of a file is looked at."""
ASK_EVERY = 1.0
"""Seconds between two wishes of one tenant."""

Soon = Callable[[Callable[[], None]], object]


class _File:
    """One of the files; it may be closed."""

    __slots__ = ("fd", "held", "over", "size", "unlooked")

    def __init__(self) -> None:
        self.fd = -1
        self.held: list[bytes] = []
        self.size = 0
        """Bytes that are held."""
        self.unlooked = 0
        self.over = False
        """It is twice as large as it may be, since nobody has renamed it: nothing is added."""

    def put(self, data: bytes) -> None:
        if self.over:
            return
        if self.fd >= 0:
            try:
                os.write(self.fd, data)
            except OSError:
                pass  # a full disk must not stop the daemon
            self.unlooked += len(data)
        elif self.size + len(data) <= HELD_MAX:
            self.held.append(data)
            self.size += len(data)

    def open(self, fd: int) -> None:
        self.close()
        self.fd = fd
        self.over = False
        held, self.held, self.size = self.held, [], 0
        if held:
            self.put(b"".join(held))
        self.unlooked = LOOK_EVERY

    def full(self, limit: int) -> bool:
        if self.fd < 0 or self.unlooked < LOOK_EVERY:
            return False
        self.unlooked = 0
        size = os.fstat(self.fd).st_size
        self.over = size >= 2 * limit
        return size >= limit

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class _Access(AccessLog):
    def __init__(self, put: Callable[[bytes], None], form: Format, soon: Soon) -> None:
        super().__init__(-1, form, soon)
        self._put = put

    def put(self, data: bytes) -> None:
        self._put(data)


class _Errors(Journal):
    def __init__(self, put: Callable[[bytes], None], who: str) -> None:
        super().__init__(-1, who)
        self._put = put

    def put(self, line: bytes) -> None:
        self._put(line)


class OwnLogs:
    """The logs of one tenant. As `exchange.SiteLogs`."""

    def __init__(self, name: str, registry: "OwnLogsRegistry") -> None:
        self.name = name
        self._registry = registry
        self._asked = 0.0
        self._asking = False
        """It is to ask again soon."""
        self.files = (_File(), _File())
        """Access log and error log."""
        self._access = _Access(self._record, registry.form, registry.soon)
        self.journal: Journal = _Errors(self._complain, registry.who)
        """For what the tenant's programs write to their standard error."""

    def record(self, request: Request, status: int, sent: int, duration: float) -> None:
        self._access.record(request, status, sent, duration)

    def complain(self, text: str, subject: str, request: str) -> None:
        self.journal.write("error", text, subject=subject, request=request)

    def _record(self, data: bytes) -> None:
        self._put(self.files[0], data)

    def _complain(self, data: bytes) -> None:
        self._put(self.files[1], data)

    def _put(self, file: _File, data: bytes) -> None:
        file.put(data)
        self._registry.used(self)
        if file.fd < 0 or file.full(self._registry.limit):
            self.ask()

    def ask(self) -> None:
        """Ask the master for the files; in a while, if that was just done."""
        now = time.monotonic()
        if now - self._asked >= ASK_EVERY:
            self._asked = now
            self._registry.want(self.name)
        elif not self._asking:
            self._asking = True
            self._registry.soon(self._ask_again)

    def _ask_again(self) -> None:
        self._asking = False
        self.ask()


class OwnLogsRegistry:
    """The logs of all tenants of a front."""

    def __init__(
        self, form: Format, limit: int, soon: Soon, want: Callable[[str], None], who: str
    ) -> None:
        """`limit` is the size in bytes at which a file is full; `want` asks the master for the
        files of a tenant; `soon` is as for `AccessLog`."""
        self.form = form
        self.limit = limit
        self.soon = soon
        self.want = want
        self.who = who
        self._logs: OrderedDict[str, OwnLogs] = OrderedDict()
        """Those that are open, or asked for."""
        self._every: WeakValueDictionary[str, OwnLogs] = WeakValueDictionary()
        """All that somebody may write to: two of one name would each have files open, of which only
        those of the last one are known here."""

    def of(self, name: str) -> OwnLogs:
        """Return the logs of a tenant. Nothing is opened before something is to be written."""
        logs = self._every.get(name)
        if logs is None:
            logs = self._every[name] = OwnLogs(name, self)
        return logs

    def used(self, logs: OwnLogs) -> None:
        """Keep `logs` among those that are open."""
        self._logs[logs.name] = logs
        self._logs.move_to_end(logs.name)
        if len(self._logs) > OPEN_MAX:
            _, oldest = self._logs.popitem(last=False)
            for file in oldest.files:
                file.close()

    def opened(self, name: str, access: int, errors: int) -> None:
        """Take the files of a tenant."""
        logs = self._logs.get(name)
        if logs is None:  # nothing was written lately
            os.close(access)
            os.close(errors)
            return
        for file, fd in zip(logs.files, (access, errors), strict=True):
            file.open(fd)

    def renamed(self) -> None:
        """Somebody has renamed the files: ask for new ones."""
        for logs in self._logs.values():
            logs.ask()
