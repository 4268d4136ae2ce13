"""Start one process.

Decides with what a new process begins: a process group of its own, its directory, no signal blocked
or ignored, descriptors 0-2 and nothing else (everything of ours is CLOEXEC). Must not know whether
it should be started; the caller has checked. umask, limits and the user are the starter's, from its
birth; limits that are for programs and not for the starter are set around each start (`limits.py`).

A vfork in any case: 0.1 ms whatever the size of our heap, where fork from 300 MB takes 11 ms. Of
the two ways to one, that of `subprocess` (`_posixsubprocess.fork_exec`) is the cheaper by 15 us of
60, because glibc's posix_spawn maps a stack and makes 70 system calls about signals and limits for
each process; it is private, so that of `os` is taken with a Python that was not tried.
"""

import errno
import os
import resource
import signal
import sys
from _posixsubprocess import fork_exec
from collections.abc import Sequence
from typing import NamedTuple

from gateway.process.limits import Rlimit, within

TRIED = sys.version_info < (3, 14)
"""`fork_exec` takes what it is given below: the same from Python 3.11 to 3.13."""

# Python ignores SIGPIPE and SIGXFSZ, and whoever started us may have had others ignored (nohup):
# an ignored signal stays ignored over exec. All of them, also because glibc makes one system call
# for a signal that is named here and two for one that is not. Plain numbers convert faster.
_DEFAULTS = tuple(
    int(number)
    for number in signal.valid_signals()
    if number not in (signal.SIGKILL, signal.SIGSTOP)
)

_DUP2 = os.POSIX_SPAWN_DUP2

_reasons: dict[int, tuple[int, int]] = {}
"""This process's id -> both ends of the pipe that a child which cannot exec writes its reason to.
By id, because a process that was forked has the numbers, and not the descriptors."""


class _Bound(NamedTuple):
    """A limit of programs: what this process sets before a start, after it, and on the program."""

    resource: int
    before: tuple[int, int]
    after: tuple[int, int]
    program: tuple[int, int]


_bounds: tuple[_Bound, ...] = ()
"""As umask and user, a matter of the whole process: whoever starts something is bound by it."""
_victims = False

_score = -1
_own_score = b""

VICTIM = b"1000"
"""oom_score_adj of programs (proc(5)): as if each had all of the memory that is allowed, so that
the keeper is not what the kernel ends when its programs are at their limit."""


class NoDirectory(OSError):
    """The new process could not enter its directory."""


def heed_all_signals() -> None:
    """Let no signal be ignored in this process, so that none is in those that it starts.

    A signal with a handler has its default action again after exec, one that is ignored has not.
    Of the two that Python ignores itself, `spawn` takes care.
    """
    for number in signal.valid_signals():
        if number in (signal.SIGPIPE, signal.SIGXFSZ):
            continue
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if TRIED:
        _reason_pipe()  # now, so that a first script changes nothing of ours


def bound(limits: Sequence[Rlimit], score: int = -1) -> None:
    """Have all programs that this process starts from now on under `limits`, but not itself.

    Their hard bounds are at most its own. `score` is a descriptor of its own oom_score_adj, through
    which it has them ended before itself where memory runs out; -1: it does not. One start costs a
    microsecond or two for each.
    """
    global _bounds, _score, _own_score
    found = []
    for limit in limits:
        own = resource.getrlimit(limit.resource)
        which, soft, hard = within(limit, own[1])
        found.append(_Bound(which, (soft, own[1]), own, (soft, hard)))
    _bounds, _score = tuple(found), score
    _own_score = b"" if score < 0 else os.pread(score, 16, 0).strip()


def _reason_pipe() -> tuple[int, int]:
    pipe = _reasons.get(os.getpid())
    if pipe is None:
        pipe = _reasons[os.getpid()] = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    return pipe


def spawn(
    path: bytes,
    argv: tuple[bytes, ...],
    environment: Sequence[bytes],
    directory: bytes,
    stdin: int,
    stdout: int,
    stderr: int,
) -> int:
    """Start `path` in `directory` and return its process id, also its group's id.

    `environment` has "name=value" entries. `stdin` may be 0, which then is inherited. Needs
    `heed_all_signals` before. Raises OSError, of these NoDirectory for the directory, and
    ValueError for a NUL in `argv` or `environment`.
    """
    if not _bounds and _score < 0:
        return _start(path, argv, environment, directory, stdin, stdout, stderr)
    for each in _bounds:
        resource.setrlimit(each.resource, each.before)
    if _score >= 0:
        os.pwrite(_score, VICTIM, 0)
    try:
        pid = _start(path, argv, environment, directory, stdin, stdout, stderr)
    finally:
        for each in _bounds:
            resource.setrlimit(each.resource, each.after)
        if _score >= 0:
            os.pwrite(_score, _own_score, 0)
    try:
        for each in _bounds:
            resource.prlimit(pid, each.resource, each.program)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended, or is a program that somebody made set-user-id
    return pid


def _start(
    path: bytes,
    argv: tuple[bytes, ...],
    environment: Sequence[bytes],
    directory: bytes,
    stdin: int,
    stdout: int,
    stderr: int,
) -> int:
    if not TRIED:
        return _posix_spawn(path, argv, environment, directory, stdin, stdout, stderr)
    reader, writer = _reason_pipe()
    pid = fork_exec(
        argv,
        (path,),
        False,  # all of ours is CLOEXEC
        (),
        os.fsdecode(directory),
        environment,
        stdin or -1,
        -1,
        -1,
        stdout,
        -1,
        stderr,
        reader,
        writer,
        True,  # SIGPIPE and SIGXFSZ are what they were before Python
        False,
        0,  # a process group of its own
        None,
        None,
        None,
        -1,
        None,  # type: ignore[arg-type]  # typeshed forgets that there may be nothing to call
        True,  # by vfork: when we are here, the child has called exec or failed
    )
    try:
        said = os.read(reader, 200)
    except BlockingIOError:
        return pid
    os.waitpid(pid, 0)
    raise _failure(said)


def _failure(said: bytes) -> OSError:
    """Return what a child meant that said "OSError:<number>:<where>"."""
    kind, _, rest = said.partition(b":")
    digits, _, where = rest.partition(b":")
    number = int(digits, 16) if kind == b"OSError" else errno.EIO
    error = NoDirectory if where.startswith(b"noexec") else OSError
    return error(number, os.strerror(number))


def _posix_spawn(
    path: bytes,
    argv: tuple[bytes, ...],
    environment: Sequence[bytes],
    directory: bytes,
    stdin: int,
    stdout: int,
    stderr: int,
) -> int:
    try:
        os.chdir(directory)
    except OSError as error:
        raise NoDirectory(error.errno, error.strerror) from error
    return os.posix_spawn(
        path,
        argv,
        dict([entry.split(b"=", 1) for entry in environment]),
        file_actions=((_DUP2, stdin, 0), (_DUP2, stdout, 1), (_DUP2, stderr, 2)),
        setpgroup=0,
        setsigmask=(),
        setsigdef=_DEFAULTS,
    )
