"""One zygote: how its interpreter is started, and what the keeper knows of it.

Decides the command line, descriptors and environment of an interpreter that is to be a zygote
(`guests/zygote.py`, `guests/zygote.pm`). Must not know which zygotes there are (`zygotes.py`).
"""

import fcntl
import os
import socket
import time

from gateway.guests import ZYGOTE_PERL, ZYGOTE_PYTHON
from gateway.journal import Journal
from gateway.process.loop import Loop
from gateway.process.memory import NONE, memory_of
from gateway.process.spawn import spawn
from gateway.process.warm import Recipe
from gateway.process.workers import Output

Key = tuple[Recipe, tuple[bytes, ...]]
"""What a zygote is for: a recipe, and the environment that its interpreter starts with."""


class Zygote:
    """One process."""

    __slots__ = (
        "born", "children", "control", "counted", "failed_module", "key", "memory", "modules",
        "output", "pid", "ready", "retired", "served", "used", "waiting",
    )  # fmt: skip

    def __init__(self, key: Key, pid: int, control: socket.socket, output: Output) -> None:
        self.key = key
        self.pid = pid
        self.control = control
        self.output = output
        self.born = self.used = time.monotonic()
        self.ready = False
        self.retired = False
        """It gets no more orders."""
        self.served = 0
        self.children: set[int] = set()
        """Those that it has started and not told the end of."""
        self.waiting: dict[int, float] = {}
        """Orders that it has been sent and has not answered, and since when."""
        self.failed_module = ""
        """The module that its last warning was about."""
        self.modules: set[bytes] = set()
        """What it was told to load beforehand."""
        self.memory = NONE
        """As it was when `counted` was last set."""
        self.counted = False
        """It has loaded nothing since."""

    def count(self) -> None:
        """Note what memory it takes, unless it is gone."""
        self.memory = memory_of(self.pid) or self.memory
        self.counted = True


class Past:
    """What is known of a key's zygotes that were."""

    __slots__ = ("banned", "cold_until", "failures", "modules")

    def __init__(self) -> None:
        self.modules: dict[bytes, None] = {}
        """To be loaded beforehand, in the order in which they were learned."""
        self.banned: set[bytes] = set()
        """Modules that do not survive a fork."""
        self.failures = 0
        self.cold_until = 0.0


def spawned(key: Key, loop: Loop, journal: Journal) -> Zygote:
    """Start the interpreter of a zygote, whose output goes to the journal. Raises OSError."""
    recipe, environment = key
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    # Above what an interpreter opens for itself, and the one descriptor that exec leaves open.
    control = -1
    try:
        control = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD, 10)
        argv = _command(recipe, control)
        pid = spawn(
            os.fsencode(recipe.interpreter), argv, environment, b"/", nothing, writer, writer
        )
    except OSError:
        ours.close()
        os.close(reader)
        raise
    finally:
        for fd in (writer, nothing, control):
            if fd >= 0:
                os.close(fd)
        theirs.close()
    ours.setblocking(False)
    output = Output(reader, loop, journal, name_of(recipe))
    return Zygote(key, pid, ours, output)


def name_of(recipe: Recipe) -> str:
    """Return what a zygote is called in the journal."""
    return f"zygote {' '.join((recipe.interpreter, *recipe.flags))}"


def _command(recipe: Recipe, control: int) -> tuple[bytes, ...]:
    words = [recipe.interpreter, *recipe.flags]
    if recipe.language == "python":
        words += [ZYGOTE_PYTHON, str(control)]
    else:
        directory = os.path.dirname(ZYGOTE_PERL)
        # A long name of /dev/null: the zygote puts each script's in its place.
        words += ["-I", directory, f"-Mzygote={control}", f"/dev/{'./' * 500}null"]
    return tuple(os.fsencode(word) for word in words)
