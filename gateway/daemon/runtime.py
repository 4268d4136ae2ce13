"""Where the daemon keeps what it needs while it runs: logs, sockets, its pid.

Decides how logs are opened (appended to, never through a link in the last place, CVE-2013-2119's
lesson) and who may reach the sockets of a user's pools: that user and the fronts.
"""

import fcntl
import os
import shutil
import tempfile
from dataclasses import dataclass

from gateway.config.keepers import pools_path
from gateway.config.settings import LogSettings, Settings
from gateway.daemon.clearing import Clearing

PID_FILE = "gateway.pid"
CLEAR = 10.0
"""Seconds that the last tidying up takes at most."""
_STANDARD = {"access": 1, "error": 2}


def _open_log(name: str, where: str) -> int:
    if where == "-":
        return os.dup(_STANDARD[name])
    if where == "off":
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(where, flags, 0o640)
    except OSError as error:
        raise OSError(
            error.errno, f"[log] {name}: cannot write {where}: {error.strerror}"
        ) from None


def _lock(path: str) -> int:
    """Write our pid and keep the file locked. Raises BlockingIOError if somebody has it locked."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.write(fd, b"%d\n" % os.getpid())
    except OSError:
        os.close(fd)
        raise
    return fd


@dataclass(frozen=True, slots=True)
class Logs:
    """Two descriptors. Their numbers stay; what they lead to may be replaced."""

    access: int
    error: int

    def reopen(self, settings: LogSettings) -> None:
        """Open both files again, after something has renamed them.

        Raises OSError in words; the old ones are kept then.
        """
        self.replace(open_logs(settings))

    def replace(self, fresh: "Logs") -> None:
        """Write to other files from now; the descriptors of `fresh` are closed."""
        for new, kept in ((fresh.access, self.access), (fresh.error, self.error)):
            os.dup2(new, kept, inheritable=False)
            os.close(new)


def open_logs(settings: LogSettings) -> Logs:
    """Open both logs. Raises OSError in words."""
    access = _open_log("access", settings.access)
    try:
        return Logs(access=access, error=_open_log("error", settings.error))
    except OSError:
        os.close(access)
        raise


@dataclass(frozen=True, slots=True)
class Runtime:
    """The runtime directory."""

    path: str
    private: bool
    """Made for this daemon alone; removed when it leaves."""
    lock: int = -1
    """The pid file, locked while this daemon runs; -1 in a private directory."""

    @staticmethod
    def prepare(settings: Settings) -> "Runtime":
        """Make the directory and write the pid file. Raises OSError in words."""
        named = settings.server.runtime
        if not named:
            path = tempfile.mkdtemp(prefix="gateway-")
            os.chmod(path, 0o711)  # pass through, to the pools' own directories
            return Runtime(path, private=True)
        try:
            os.makedirs(named, 0o755, exist_ok=True)
            lock = _lock(os.path.join(named, PID_FILE))
        except BlockingIOError as error:
            text = f"[server] runtime: another gateway runs with {named}; each needs its own"
            raise OSError(error.errno, text) from None
        except OSError as error:
            text = f"[server] runtime: cannot use {named}: {error.strerror}"
            raise OSError(error.errno, text) from None
        return Runtime(named, private=False, lock=lock)

    def pools(self, generation: int) -> str:
        """Return the directory in which the fronts of a generation look for pools' sockets."""
        return os.path.join(self.path, "pools", str(generation))

    def sockets(self, pools: str, user: str, uid: int, gid: int) -> bytes:
        """Make the directory of the sockets of a user's pools and return its path.

        It belongs to the user and to the fronts' group `gid`, which the sockets in it inherit.
        """
        path = pools_path(pools, user)
        os.makedirs(path, exist_ok=True)
        for above in (pools, os.path.dirname(pools)):
            os.chmod(above, 0o711)
        if os.geteuid() == 0:
            os.chown(path, uid, gid)
        os.chmod(path, 0o2750)
        return os.fsencode(path)

    def share(self, pools: str, user: str, sockets: bytes) -> None:
        """Let the fronts of a later generation find the sockets of a keeper that stays."""
        os.makedirs(pools, exist_ok=True)
        os.chmod(pools, 0o711)
        os.symlink(os.fsdecode(sockets), pools_path(pools, user))

    def remove(self) -> None:
        """Take away what the daemon made."""
        pools = os.path.join(self.path, "pools")
        clearing = Clearing()
        if os.path.isdir(pools):
            for generation in os.listdir(pools):
                clearing.begin(os.path.join(pools, generation))
            clearing.sweep(CLEAR)
        try:
            os.rmdir(pools)
        except OSError:
            pass  # there are none, or more is in them than can be taken away in time
        if self.private:
            if not os.path.exists(pools):
                shutil.rmtree(self.path, ignore_errors=True)
            return
        try:
            os.unlink(os.path.join(self.path, PID_FILE))
        except OSError:
            pass  # somebody was faster
