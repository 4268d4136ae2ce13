"""Look at a script's file and decide what is executed for it.

Decides whether a path below a script root may be started, with which argv, where, and with which
environment. Must not know who asked. The process that looks already is the user that the script
runs as, so a file swapped between the look and the exec gains nothing that the user does not have
(FIELD section 3, row 16; `identity.py` says why nobody else can swap a tenant's). The same holds
for a file that a zygote compiles: it opens it by its path as exec would, and knows it again by
device, inode, size and times.
"""

import os
import shutil
import time
from dataclasses import dataclass

from gateway.process import diagnosis, identity
from gateway.process.beneath import open_beneath, walk_beneath, walk_to
from gateway.process.channel import (
    environment_pairs,
)
from gateway.process.spawn import NoDirectory
from gateway.process.spec import ScriptRoot, SpawnFailed
from gateway.process.warm import Cold, Recipe, is_light, recipe
from gateway.wire.cgi_env import refused, refused_tenant

PATH = b"/usr/local/bin:/usr/bin:/bin"
"""What a script finds as PATH when nobody set another."""

_FRESH = 1.0
"""Seconds for which a root directory that was looked at is taken to be the one at its path, and a
script to be the file that it was. A deployment that renames a new tree into place is seen after
that; whatever is wrong with a file that is started without another look, exec tells."""

SOURCE = 1 << 18
"""Bytes of a script that are looked through for what it loads."""

_HARMLESS_MAX = 256

_RECENT_MAX = 1000


@dataclass(slots=True)
class Found:
    """A script that may be started: what to execute, and the file that it was."""

    argv: tuple[bytes, ...]
    directory: bytes
    path: bytes
    """The script's own absolute path; the last of `argv`."""
    file: tuple[int, int, int, int]
    """Device, inode, time of change and size: another value is another file."""
    recipe: Recipe | None = None
    """With which zygote it may be warm; None: it is executed."""
    cold: str = ""
    """Why it is."""


_NEVER: tuple[float, Found | None] = (0.0, None)


class Root:
    """One `ScriptRoot` as the keeper uses it, with its directory kept open."""

    def __init__(self, spec: ScriptRoot) -> None:
        self.spec = spec
        self._fd = -1
        self._identity = (0, 0)
        self._looked = 0.0
        self._environment = {b"PATH": PATH, **spec.environment}
        self._refused = refused_tenant if spec.tenant else refused
        self._harmless: dict[tuple[bytes, ...], list[bytes]] = {}
        """Names that were looked at before, since the same browsers send the same headers, and
        which entries of the settings go before them."""
        self._recent: dict[bytes, tuple[float, Found | None]] = {}
        """Script -> until when it may be started as it was found, and that."""
        self._recipes: dict[tuple[object, ...], tuple[Recipe | None, str]] = {}
        """Command and file -> what its first bytes say."""
        self._told: set[bytes] = set()
        self.base = tuple(_entries(self._environment))
        """The environment that every script has, whatever its order brings."""

    def environment(self, pairs: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Return a script's whole environment: settings, and over them what the order brings."""
        pairs = {name: value for name, value in pairs.items() if not self._refused(name)}
        return self._environment | pairs

    def entries(self, block: bytes) -> list[bytes]:
        """Return the "name=value" entries of what `environment` gives for the pairs of `block`.

        Raises ValueError as `environment_pairs` does.
        """
        pairs = environment_pairs(block)
        names = tuple(pairs)
        settings = self._harmless.get(names)
        if settings is None:
            if any(map(self._refused, names)):
                return _entries(self.environment(pairs))
            settings = _entries(
                {name: value for name, value in self._environment.items() if name not in pairs}
            )
            if len(self._harmless) >= _HARMLESS_MAX:
                self._harmless.clear()
            self._harmless[names] = settings
        own = block.split(b"\0") if block else []
        if len(own) != len(names):  # of equal names the last one stands
            own = _entries(pairs)
        return settings + own

    def recent(self, script: bytes) -> Found:
        """Return what `examine` gave for `script` within the last second, else what it gives now.

        If that cannot be started, `forget` it and see what is there. Raises SpawnFailed.

        Nothing is remembered of a file that a front server names, nor of a tenant's: a mode or an
        owner that changes must tell at once, and to compare them is to look: 6 us of about 100 for
        a start, and 35 for a tenant's, since every directory from "/" to it is looked at too.
        """
        if self.spec.given or self.spec.tenant:
            return self.examine(script)
        until, found = self._recent.get(script, _NEVER)
        now = time.monotonic()
        if found is None or now > until:
            found = self.examine(script)
            if len(self._recent) >= _RECENT_MAX:
                self._recent.clear()
            self._recent[script] = now + _FRESH, found
        return found

    def forget(self, script: bytes) -> bool:
        """Return whether `recent` may give something else now."""
        return self._recent.pop(script, None) is not None

    def examine(self, script: bytes) -> Found:
        """Return what to execute for `script`, a path below this root. Raises SpawnFailed."""
        path = self.spec.root.rstrip(b"/") + b"/" + script
        found = self._looked_up(script, path)
        wrong = diagnosis.file_kind(found.st_mode)
        if wrong is not None:
            raise SpawnFailed(0, "check", _about(script, wrong.why), wrong.status)
        argv: tuple[bytes, ...] = (path,)
        if not found.st_mode & 0o111:
            interpreter = self.spec.interpreters.get(os.path.splitext(script)[1])
            if interpreter is None:
                wrong = diagnosis.not_executable(head(path) or b"?")
                raise SpawnFailed(0, "check", _about(script, wrong.why), wrong.status)
            argv = (interpreter, path)
        directory = path[: path.rfind(b"/")] or b"/"
        file = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        known = self._recipes.get((argv, file))
        if known is None:
            if len(self._recipes) >= _RECENT_MAX:
                self._recipes.clear()
            known = self._recipes[argv, file] = self._recipe(argv, path)
        return Found(argv, directory, path, file, *known)

    def _recipe(self, argv: tuple[bytes, ...], path: bytes) -> tuple[Recipe | None, str]:
        """Return with what a script may be warm, or None and why it is not."""
        if self.spec.start == "exec":
            return None, 'its route says start = "exec"'
        first = head(path)
        if len(argv) > 1:
            # As if its interpreter stood in it. A #! line of its own would add flags to that.
            first = b"#!" + argv[0] + b"\n" + first.partition(b"\n")[2]
        try:
            found = recipe(first, self._which)
        except Cold as cold:
            return None, str(cold)
        if self.spec.start == "auto" and found.language == "perl" and is_light(head(path, SOURCE)):
            return None, "it loads no module, so that a new process is as quick"
        return found, ""

    @property
    def path(self) -> bytes:
        """Where a script's programs are looked for: its PATH."""
        return self._environment[b"PATH"]

    def _which(self, name: str) -> str | None:
        return shutil.which(name, path=os.fsdecode(self.path))

    def _looked_up(self, script: bytes, path: bytes) -> os.stat_result:
        """Return what the file is that `script` names. Raises SpawnFailed."""
        if self.spec.only and path != self.spec.only:
            raise identity.not_listed(path)
        if self.spec.tenant:
            return self._tenants(script, path)
        try:
            root_fd = self._directory()
            if self.spec.root == b"/":
                # Nothing is outside of it, and the system's own links are absolute.
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            else:
                fd = open_beneath(root_fd, script, os.O_PATH, self.spec.symlinks)
        except OSError as error:
            refused = identity.not_below(path, error) if self.spec.given else None
            raise refused or lookup_failed("open", script, error) from error
        try:
            found = os.fstat(fd)
        finally:
            os.close(fd)
        if self.spec.given:
            identity.judge(path, identity.Case(found, os.fstat(root_fd), os.geteuid()))
        return found

    def _tenants(self, script: bytes, path: bytes) -> os.stat_result:
        """Return what the file is that `script` names below a tenant's root. Raises SpawnFailed."""
        identity.judge_name(path, script)
        try:
            above = walk_to(self.spec.root)
            try:
                below = walk_beneath(above.fd, script, os.O_PATH, self.spec.symlinks)
            finally:
                os.close(above.fd)
        except OSError as error:
            refused = identity.not_below(path, error)
            raise refused or lookup_failed("open", script, error) from error
        try:
            found = os.fstat(below.fd)
        finally:
            os.close(below.fd)
        who = os.geteuid(), os.getegid()
        identity.judge_tenant(path, self.spec.root, above, below, found, *who)
        return found

    def _directory(self) -> int:
        """Return a descriptor of the root, opened again when its path names another directory."""
        now = time.monotonic()
        if self._fd < 0 or now - self._looked > _FRESH:
            there = os.stat(self.spec.root)
            if self._fd < 0 or (there.st_dev, there.st_ino) != self._identity:
                fd = os.open(self.spec.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                if self._fd >= 0:
                    os.close(self._fd)
                self._fd = fd
                self._identity = (there.st_dev, there.st_ino)
            self._looked = now
        return self._fd

    def tell_cold(self, found: Found) -> bool:
        """Whether it was not yet told that this script cannot be warm."""
        if found.path in self._told or len(self._told) >= _RECENT_MAX:
            return False
        self._told.add(found.path)
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _entries(environment: dict[bytes, bytes]) -> list[bytes]:
    return [name + b"=" + value for name, value in environment.items()]


def head(path: bytes, size: int = diagnosis.HEAD) -> bytes:
    """Return the first bytes of a file, or b"" if it cannot be read. Never waits for a FIFO."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return b""
    try:
        return os.read(fd, size)
    except OSError:
        return b""
    finally:
        os.close(fd)


def exec_failed(error: OSError, argv: tuple[bytes, ...], path: bytes) -> SpawnFailed:
    """Return the reason why starting `argv`, which is for the file `path`, failed."""
    number = error.errno or 0
    mode, noexec = 0o100755, False
    try:
        mode = os.stat(path).st_mode
        noexec = bool(os.statvfs(path).f_flag & os.ST_NOEXEC)
    except OSError:
        pass  # it is gone: then exec failed for that, and its first bytes are not there either
    said = diagnosis.exec_failure(
        number, mode, head(path), noexec=noexec, interpreter=len(argv) > 1
    )
    return SpawnFailed(number, "exec", _about(path, said.why), said.status)


def start_failed(error: OSError, found: Found) -> SpawnFailed:
    """Return the reason why `spawn` failed with what was found."""
    if isinstance(error, NoDirectory):
        return lookup_failed("chdir", found.directory, error)
    return exec_failed(error, found.argv, found.path)


def lookup_failed(step: str, path: bytes, error: OSError) -> SpawnFailed:
    """Return the reason why looking for `path` failed at `step`."""
    number = error.errno or 0
    said = diagnosis.lookup_failure(number)
    return SpawnFailed(number, step, _about(path, said.why), said.status)


def _about(path: bytes, why: str) -> str:
    return f"{path.decode('utf-8', 'backslashreplace')}: {why}"
