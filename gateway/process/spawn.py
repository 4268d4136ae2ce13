"""Start one process.

Decides with what a new process begins: a process group of its own, no signal blocked or ignored,
descriptors 0-2 and nothing else (everything of ours is CLOEXEC). Must not know whether it should
be started; the caller has checked, and has made the new working directory its own, which
posix_spawn(3) cannot do. umask, limits and the user are the starter's, from its birth.

`os.posix_spawn` because glibc's is a vfork: 0.5 ms whatever the size of our heap, where fork from
300 MB takes 11 ms. A failed exec comes back as an OSError with the number that execve(2) gave.
"""

import os
import signal
from collections.abc import Mapping

# Python ignores SIGPIPE and SIGXFSZ, and whoever started us may have had others ignored (nohup):
# an ignored signal stays ignored over exec. All of them, also because glibc makes one system call
# for a signal that is named here and two for one that is not. Plain numbers convert faster.
_DEFAULTS = tuple(
    int(number)
    for number in signal.valid_signals()
    if number not in (signal.SIGKILL, signal.SIGSTOP)
)

_DUP2 = os.POSIX_SPAWN_DUP2


def spawn(
    path: bytes,
    argv: tuple[bytes, ...],
    environment: Mapping[bytes, bytes],
    stdin: int,
    stdout: int,
    stderr: int,
) -> int:
    """Start `path` in the current directory and return its process id, also its group's id.

    Raises OSError, and ValueError for a NUL in `argv` or `environment`.
    """
    return os.posix_spawn(
        path,
        argv,
        environment,
        file_actions=((_DUP2, stdin, 0), (_DUP2, stdout, 1), (_DUP2, stderr, 2)),
        setpgroup=0,
        setsigmask=(),
        setsigdef=_DEFAULTS,
    )
