"""Have one piece of work done by a user, as that user's keeper would do it, and hear what it says.

Decides nothing of the work. It is done in a process of its own, made like a keeper (`birth.py`), so
that it may see what that user sees, and only that. When the caller is gone, the work is told.
"""

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
    failed = "it ended without a word"
    try:
        with open(reader, "rb") as lines:
            for line in lines:
                told = json.loads(line)
                if "value" in told:
                    heard(told["value"])
                else:
                    failed = told["failed"]
    finally:
        os.close(life)  # if we leave early, it need not go on
        _, status = os.waitpid(pid, 0)
    if status:
        raise ErrandFailed(failed)


def _child(spec: KeeperSpec, work: Work, writer: int, alive: int, keep: Iterable[int]) -> None:
    """Be the one that does the work. Does not return."""
    code = 1
    try:
        birth.become(spec, (writer, alive, *keep))
        heed_all_signals()
        work(lambda value: _write(writer, {"value": value}), alive)
        code = 0
    except birth.BirthFailed as failed:
        _write(writer, {"failed": f"cannot become {spec.user}: {failed}"})
    finally:
        kind, error, trace = sys.exc_info()
        if kind is not None and not isinstance(error, BrokenPipeError):
            last = traceback.extract_tb(trace)[-1]
            text = f"{kind.__name__}: {error} ({last.filename}:{last.lineno})"
            _write(writer, {"failed": f"a fault of gateway's own: {text}"})
        os._exit(code)


def _write(pipe: int, value: dict[str, Any]) -> None:
    # Plain bytes: what Python loads at its first use may be where this user cannot read it.
    data = json.dumps(value).encode() + b"\n"
    while data:
        data = data[os.write(pipe, data) :]
