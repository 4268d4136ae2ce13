"""Worker pools of one keeper: those of its spec, and those found by file (`*.fcgi`).

Decides when a pool runs, sleeps or is down, and where its socket is. A worker's restarts are
`life.py`'s. Must not know FastCGI: a pool is a listening Unix socket that each worker has as
descriptor 0.

Down means that no worker stays alive. The socket is then closed and its name removed, so that who
waits in its backlog is let go of at once and nobody new hangs there; fronts are told why. Asleep
means that nobody used it: the socket stays, and the first connection wakes the workers.
"""

import os
import socket
import stat
import time
import zlib
from collections.abc import Callable, Collection
from functools import partial
from resource import struct_rusage
from signal import SIGKILL

from gateway.journal import Journal
from gateway.process import examine
from gateway.process.channel import (
    Failed,
    PoolAt,
    PoolDown,
    PoolUp,
    WantPool,
)
from gateway.process.fronts import Front
from gateway.process.ledger import Ledger
from gateway.process.life import Event, Phase
from gateway.process.loop import Loop
from gateway.process.network import unix_sockets
from gateway.process.roots import Roots
from gateway.process.spawn import NoDirectory, spawn
from gateway.process.spec import KeeperSpec, PoolSpec, Program, SpawnFailed
from gateway.process.workers import Worker

BACKLOG = 1024

Tell = Callable[[PoolDown | PoolUp], None]


class Listener:
    """A listening Unix socket with a name in the file system."""

    def __init__(self, path: bytes) -> None:
        """Raises OSError. A stale socket in the way is removed, any other file is not."""
        self.path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            _remove_socket(path)
            # Its mode from the start: 0660, never for everybody (FIELD section 3, row 13).
            before = os.umask(0o117)
            try:
                self._sock.bind(path)
            finally:
                os.umask(before)
            self._sock.listen(BACKLOG)
            found = os.stat(path)
        except OSError as error:
            self._sock.close()
            shown = path.decode("utf-8", "backslashreplace")
            raise OSError(error.errno, f"its socket {shown} cannot be made: {error}") from error
        self._identity = (found.st_dev, found.st_ino)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        """Close it, and remove its name unless another keeper has taken it over."""
        try:
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == self._identity:
                os.unlink(self.path)
        except OSError:
            pass  # somebody tidied up before us
        self._sock.close()

    def connections(self) -> int:
        """Return how many connections are open or waiting, from /proc/net/unix."""
        ends = b" " + self.path + b"\n"
        # ... state inode path; state 03 is a connection, 01 the listening socket itself.
        lines = unix_sockets()
        return sum(line.endswith(ends) and line.split()[5] == b"03" for line in lines)


class Pool:
    """Some workers and their socket."""

    def __init__(
        self,
        spec: PoolSpec,
        grace: float,
        loop: Loop,
        journal: Journal,
        tell: Tell,
        look: Callable[[], object],
    ) -> None:
        """`look` raises SpawnFailed if the pool's file may not be started (any more)."""
        self.spec = spec
        self._look = look
        self.file = (0, 0, 0, 0)
        """Of a pool found by file: which file it was."""
        self.root: examine.Root | None = None
        """And below which directory, whose settings its workers have."""
        self.used = time.monotonic()
        self.why = ""
        """Why it is down; "" while it is not."""
        self._loop = loop
        self._tell = tell
        self._listener: Listener | None = None
        self._asleep = True
        self.workers = [
            Worker(spec.name, grace, loop, journal, self._start, self._changed)
            for _ in range(max(1, spec.processes))
        ]

    def wake(self) -> None:
        """Start the workers; nothing if they are wanted already."""
        self.used = time.monotonic()
        if not self._asleep:
            return
        self._asleep = False
        if self._listener is not None:
            self._loop.unwatch(self._listener.fileno())
        for worker in self.workers:
            worker.tell(Event.START)
        if self.spec.max_idle:
            self._loop.at(self.used + self.spec.max_idle, self._maybe_sleep)

    def restart(self, spec: PoolSpec) -> None:
        """Run another program from now: the file was edited."""
        self.spec = spec
        self._hope()
        for worker in self.workers:
            worker.tell(Event.STOP)
            worker.tell(Event.START)

    def stop(self) -> None:
        self._asleep = True
        for worker in self.workers:
            worker.tell(Event.STOP)
        self.close_socket()

    def close_socket(self) -> None:
        if self._listener is not None:
            self._loop.unwatch(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def _start(self, output: int) -> int:
        if self._listener is None:
            self._listener = Listener(self.spec.socket)
        self._look()
        program = self.spec.program
        try:
            return spawn(
                program.argv[0],
                program.argv,
                [name + b"=" + value for name, value in program.environment.items()],
                program.directory,
                self._listener.fileno(),
                output,
                output,
            )
        except NoDirectory as error:
            raise examine.lookup_failed("chdir", program.directory, error) from error
        except OSError as error:
            raise examine.exec_failed(error, program.argv, program.argv[-1]) from error

    def _changed(self, up: bool) -> None:
        """A worker's life went on: see what that means for all."""
        if up:
            self._hope()
        lives = [worker.life for worker in self.workers]
        if all(life.phase is Phase.BACKOFF and life.hopeless for life in lives):
            self.close_socket()
            why = next(filter(None, (worker.why for worker in self.workers)), "its workers end")
            if why != self.why:
                self.why = why
                self._tell(PoolDown(self.spec.name, why))
        elif (
            self._asleep
            and self._listener is not None
            and all(life.phase is Phase.RESTING for life in lives)
        ):
            self._loop.watch(self._listener.fileno(), self.wake)

    def _hope(self) -> None:
        if self.why:
            self.why = ""
            self._tell(PoolUp(self.spec.name))

    def _maybe_sleep(self) -> None:
        now = time.monotonic()
        due = self.used + self.spec.max_idle
        if self._asleep:
            return
        if now >= due and self._listener is not None and self._listener.connections():
            self.used, due = now, now + self.spec.max_idle
        if now < due:
            self._loop.at(due, self._maybe_sleep)
            return
        self._asleep = True
        for worker in self.workers:
            worker.tell(Event.STOP)


class Pools:
    """All pools of one keeper."""

    def __init__(
        self,
        spec: KeeperSpec,
        loop: Loop,
        journal: Journal,
        roots: Roots,
        fronts: Collection[Front],
        ledger: Ledger,
    ) -> None:
        self._spec = spec
        self._ledger = ledger
        self._loop = loop
        self._journal = journal
        self._roots = roots
        self._fronts = fronts
        self.grace = spec.grace
        self._named = [self._pool(pool, _known) for pool in spec.pools]
        self._found: dict[bytes, Pool] = {}

    @property
    def groups(self) -> set[int]:
        """The process groups of the workers that live."""
        return {worker.pid for pool in self._all() for worker in pool.workers if worker.pid}

    def start(self) -> None:
        for pool in self._named:
            pool.wake()

    def figures(self) -> list[dict[str, object]]:
        """The pools, each with the workers that live beside those that it may have."""
        return [
            {
                "name": pool.spec.name,
                "workers": sum(worker.pid > 0 for worker in pool.workers),
                "processes": len(pool.workers),
                "down": pool.why,
            }
            for pool in self._all()
        ]

    def introduce(self, front: Front) -> None:
        """Tell a new front what is down."""
        for pool in self._all():
            if pool.why:
                front.send(PoolDown(pool.spec.name, pool.why))

    def want(self, front: Front, message: WantPool) -> None:
        """Answer a front that needs a pool for a file."""
        try:
            pool = self._for_file(message)
        except SpawnFailed as failed:
            front.send(Failed(message.id, failed.errno, failed.step, failed.status, failed.why))
            return
        if pool.why:
            front.send(Failed(message.id, 0, "pool", 502, f"{pool.spec.name}: {pool.why}"))
        else:
            front.send(PoolAt(message.id, pool.spec.socket))

    def reaped(self, pid: int, status: int, usage: struct_rusage) -> bool:
        """A child ended with `status` (of waitpid). Return whether it was a worker of ours."""
        for pool in self._all():
            for worker in pool.workers:
                if worker.pid == pid:
                    code, blame = os.waitstatus_to_exitcode(status), ""
                    if code and worker.life.phase is not Phase.STOPPING:
                        cpu = usage.ru_utime + usage.ru_stime
                        blame = self._ledger.ended(os.fsencode(pool.spec.name), pid, code, cpu)
                    worker.reaped(code, blame)
                    return True
        return False

    def stop(self, drain: float) -> None:
        """End all pools; workers have `drain` seconds (at least the grace) to finish."""
        self.grace = max(self.grace, drain)
        for pool in self._all():
            for worker in pool.workers:
                worker.patience(self.grace)
            pool.stop()

    def kill_all(self) -> None:
        for pool in self._all():
            for worker in pool.workers:
                worker.signal(SIGKILL)

    def close(self) -> None:
        for pool in self._all():
            pool.close_socket()
            for worker in pool.workers:
                worker.close()

    def _all(self) -> list[Pool]:
        return [*self._named, *self._found.values()]

    def _pool(self, spec: PoolSpec, look: Callable[[], object]) -> Pool:
        return Pool(spec, self._spec.grace, self._loop, self._journal, self._broadcast, look)

    def _broadcast(self, message: PoolDown | PoolUp) -> None:
        for front in list(self._fronts):
            front.send(message)

    def _for_file(self, message: WantPool) -> Pool:
        root = self._roots.get(message.route)
        if root is None:
            raise SpawnFailed(0, "route", f'the keeper knows no route "{message.route}"', 500)
        found = root.examine(message.script)
        pool = self._found.get(found.path)
        if pool is None:
            number = len(self._found) + 1
            name = b"%08x-%d.sock" % (zlib.crc32(found.path), number)
            _directory(self._spec.sockets)
            spec = _spec_for(found, root, self._spec.sockets + b"/" + name)
            # Each worker's start is a look of its own: one that died comes back much later.
            look = partial(root.examine, message.script)
            pool = self._found[found.path] = self._pool(spec, look)
        elif pool.file != found.file or pool.root is not root:
            spec = _spec_for(found, root, pool.spec.socket)
            if pool.file != found.file or pool.spec != spec:
                pool.restart(spec)
        pool.file = found.file
        pool.root = root
        pool.wake()
        return pool


def _known() -> None:
    """The command of a pool in the settings needs no look: exec says what is wrong with it."""


def _spec_for(found: examine.Found, root: examine.Root, socket_path: bytes) -> PoolSpec:
    return PoolSpec(
        name=found.path.decode("utf-8", "backslashreplace"),
        program=Program(
            argv=found.argv, directory=found.directory, environment=root.environment({})
        ),
        processes=root.spec.pool_processes,
        socket=socket_path,
        max_idle=root.spec.pool_idle,
    )


def _directory(path: bytes) -> None:
    try:
        os.mkdir(path, 0o750)
    except FileExistsError:
        pass
    except OSError as error:
        why = f"the directory for its socket cannot be made: {error}"
        raise SpawnFailed(error.errno or 0, "socket", why, 500) from error


def _remove_socket(path: bytes) -> None:
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass
