"""Have one piece of work done by a user, as that user's keeper would do it, and hear what it says.

Decides nothing of the work. It is done in a process of its own, made like a keeper (`birth.py`), so
that it may see what that user sees, and only that. When the caller is gone, the work is told.
"""

import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from gateway.process import birth
from gateway.process.spawn import heed_all_signals
from gateway.process.spec import KeeperSpec

Tell: TypeAlias = Callable[[Any], None]
"""Takes one value that JSON can hold."""

Work: TypeAlias = Callable[[Tell, int], None]
"""Is given what to tell with, and a descriptor that becomes readable when its caller is gone."""


class ErrandFailed(Exception):
    """The work could not be done; the text says why."""


def errand(spec: KeeperSpec, work: Work, heard: Tell, keep: Iterable[int] = ()) -> None:
    """Do `work` as the user of `spec` and call `heard` with each value that it tells.

    Of our descriptors it has those of `keep`. Raises ErrandFailed.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    alive, life = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.close(life)
        _child(spec, work, writer, alive, keep)
    os.close(writer)
    os.close(alive)
    try:
        with open(reader, "rb") as lines:
            for line in lines:
                heard(json.loads(line))
    finally:
        os.close(life)  # if we leave early, it need not go on
        _, status = os.waitpid(pid, 0)
    if status:
        raise ErrandFailed(f"it cannot be looked at as {spec.user}: see above")


def _child(spec: KeeperSpec, work: Work, writer: int, alive: int, keep: Iterable[int]) -> None:
    """Be the one that does the work. Does not return."""
    code = 1
    try:
        birth.become(spec, (writer, alive, *keep))
        heed_all_signals()
        # Plain writes: what Python loads at its first use may be where this user cannot read it.
        with open(writer, "wb", buffering=0, closefd=False) as lines:
            work(lambda value: _write(lines, json.dumps(value).encode() + b"\n"), alive)
        code = 0
    except birth.BirthFailed as failed:
        print(f"gateway: cannot become {spec.user}: {failed}", file=sys.stderr)
    finally:
        if code and not isinstance(sys.exc_info()[1], BrokenPipeError | None):
            traceback.print_exc()
        os._exit(code)


def _write(pipe: io.FileIO, data: bytes) -> None:
    while data:
        data = data[pipe.write(data) :]
