"""Become a keeper: a flat list of named steps from "a fork of the master" to "that user".

Decides the order: what takes root's rights first (the control groups before all, so that every
later page and process counts there; the namespaces last), then groups before gid before uid, then
a check that there is no way back, then what the user itself may do. Each step fails loudly
(`BirthFailed` names it). Must not know what the keeper does.

PR_SET_PDEATHSIG is not used: the end of the control channel tells that the master is gone, and a
signal could come before the keeper has stopped what it runs. Its equal for what a keeper leaves
behind is "subreaper", here and in the master.
"""

import ctypes
import errno
import fcntl
import os
import resource
from collections.abc import Callable, Iterable

from gateway.process import cgroup, limits, network, spawn
from gateway.process.sandbox import Enclosure
from gateway.process.spec import KeeperSpec

_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

UMASK = 0o022


class BirthFailed(Exception):
    """A step of the way to becoming a keeper failed. `step` is its name."""

    def __init__(self, step: str, why: object) -> None:
        super().__init__(f"{step}: {why}")
        self.step = step


def become(spec: KeeperSpec, keep: Iterable[int]) -> None:
    """Make this process the keeper of `spec`, with only the descriptors of `keep`.

    Descriptor 0 is /dev/null afterwards, 1 and 2 are what they were or /dev/null. Raises
    BirthFailed.
    """
    kept = {0, 1, 2, *keep}
    enclosure = Enclosure(spec)
    steps: list[tuple[str, Callable[[], None]]] = [
        ("cgroup", lambda: cgroup.enter(spec.cgroup)),
        ("rlimits", lambda: _rlimits(spec, kept)),
        ("nice", lambda: _nice(spec)),
        ("no_new_privs", lambda: _no_new_privs() if spec.no_new_privs else None),
        ("standard descriptors", _standard_descriptors),
        ("other descriptors", lambda: _close_others(kept)),
        ("session", _session),
        ("network", lambda: None if spec.network else network.leave()),
        ("sandbox", enclosure.enclose),
        ("groups", lambda: os.setgroups(spec.groups) if spec.switch else None),
        ("gid", lambda: os.setresgid(spec.gid, spec.gid, spec.gid) if spec.switch else None),
        ("uid", lambda: os.setresuid(spec.uid, spec.uid, spec.uid) if spec.switch else None),
        ("identity", lambda: _identity(spec)),
        ("second lock", enclosure.restrict),
        ("umask", _umask),
        ("directory", lambda: os.chdir("/")),
        ("environment", _environment),
        ("subreaper", subreaper),
    ]
    for name, step in steps:
        try:
            step()
        except (OSError, ValueError, OverflowError) as error:
            raise BirthFailed(name, error) from error


def _standard_descriptors() -> None:
    # A script without a body reads descriptor 0 as it is here. 1 and 2 may be the journal.
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    for fd in (1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.dup2(null, fd)
    if null > 2:
        os.close(null)


def _close_others(kept: set[int]) -> None:
    """Close all but `kept`, and see that none of those reaches a script."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd not in kept:
                os.close(fd)
            elif fd > 2:
                os.set_inheritable(fd, False)
        except OSError as error:
            if error.errno != errno.EBADF:  # the listing's own descriptor is closed by now
                raise


def _session() -> None:
    # No terminal: its Ctrl-C must not reach scripts before the keeper decides.
    if os.getsid(0) != os.getpid():
        if os.getpgrp() == os.getpid():
            raise OSError("a process group's leader cannot make a session: fork first")
        os.setsid()


def _rlimits(spec: KeeperSpec, kept: set[int]) -> None:
    """Bound this process and all below it, and then all below it but itself."""
    held = cgroup.held(spec.cgroup)
    with open("/proc/self/statm", "rb") as file:
        data = int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    for limit in limits.of_all(spec.allowance, held, data):
        which, soft, hard = limits.within(limit, resource.getrlimit(limit.resource)[1])
        resource.setrlimit(which, (soft, hard))
    _open_files(limits.files_of_keeper(spec.queue, spec.concurrency))
    score = -1
    if spec.allowance.memory:
        score = _score()
        kept.add(score)
    spawn.bound(limits.of_programs(spec.allowance), score)


def _score() -> int:
    """Open what says how soon this process is ended where memory runs out: once it is the user, it
    may not even look into itself. That the daemon is spared (OOMScoreAdjust=) is not inherited."""
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.pread(fd, 16, 0).startswith(b"-"):
            os.pwrite(fd, b"0", 0)
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def _open_files(need: int) -> None:
    """See that a full queue fits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < need:
        if hard != resource.RLIM_INFINITY:
            need = min(need, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


def _nice(spec: KeeperSpec) -> None:
    if spec.allowance.nice:
        os.nice(spec.allowance.nice)


def _no_new_privs() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS")


def _identity(spec: KeeperSpec) -> None:
    """Check that we are who we should be and cannot be anybody else again."""
    if not spec.switch:
        return
    if os.getresuid() != (spec.uid,) * 3 or os.getresgid() != (spec.gid,) * 3:
        raise OSError("the user or group is not what was asked for")
    if set(os.getgroups()) != set(spec.groups):
        raise OSError("the groups are not what was asked for")
    if spec.uid != 0:
        try:
            os.setuid(0)
        except PermissionError:
            return
        raise OSError("the way back to root is open")


def _umask() -> None:
    os.umask(UMASK)


def _environment() -> None:
    """Forget what the daemon was started with: also what only a library knows."""
    os.environ.clear()
    ctypes.CDLL(None).clearenv()


def subreaper() -> None:
    """Become the parent of what is orphaned below this process. Raises OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, "PR_SET_CHILD_SUBREAPER")


def _prctl(number: int, name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(number, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({name})")
