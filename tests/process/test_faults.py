"""Which limit was hit, as rows: given, when, then; and how it is said."""

import errno
import signal

import pytest

from gateway.process.counters import Counts
from gateway.process.faults import (
    SHOWN,
    Fault,
    Running,
    accounted,
    of_exit,
    of_look,
    of_start,
    size,
)
from gateway.process.spec import Allowance

ALL = Allowance(memory=512 << 20, processes=20, cpu_time=10, file_size=1 << 30)
NONE = Allowance()
BEFORE = Counts(oom_kills=1, forks_refused=5)
KILLED = Counts(oom_kills=2, forks_refused=5)
REFUSED = Counts(oom_kills=1, forks_refused=9)


@pytest.mark.parametrize(
    ("status", "cpu", "after", "allowance", "kind", "words"),
    [
        (-signal.SIGKILL, 0.1, KILLED, ALL, "memory", "killed by its memory limit (512 MiB)"),
        (137, 0.1, KILLED, ALL, "memory", "a process was killed by the memory limit (512 MiB)"),
        (1, 0.1, KILLED, ALL, "memory", "while it ran"),
        (-signal.SIGKILL, 0.1, BEFORE, ALL, "", ""),
        (-signal.SIGKILL, 10.2, BEFORE, ALL, "cpu-time", "its limit of processor time (10 s)"),
        (-signal.SIGXCPU, 10.0, BEFORE, ALL, "cpu-time", "its limit of processor time (10 s)"),
        (-signal.SIGXCPU, 10.0, BEFORE, NONE, "", ""),
        (-signal.SIGXFSZ, 0.1, BEFORE, ALL, "file-size", "its limit of file size (1 GiB)"),
        (-signal.SIGXFSZ, 0.1, BEFORE, NONE, "", ""),
        (2, 0.1, REFUSED, ALL, "processes", "the limit of processes (20) is reached"),
        (2, 0.1, BEFORE, ALL, "", ""),
        (-signal.SIGSEGV, 0.1, BEFORE, ALL, "", ""),
    ],
)
def test_verdict_on_an_exit(
    status: int, cpu: float, after: Counts, allowance: Allowance, kind: str, words: str
) -> None:
    verdict = of_exit(status, cpu, BEFORE, after, allowance)
    if kind:
        assert verdict is not None
        assert verdict.kind == kind
        assert words in verdict.why
    else:
        assert verdict is None


def test_two_scripts_that_were_killed_at_once_are_both_named() -> None:
    """The counts are those after both ends already when the first one is heard of."""
    before, after = Counts(), Counts(oom_kills=2)
    for _ in range(2):
        verdict = of_exit(-signal.SIGKILL, 0.1, before, after, ALL)
        assert verdict is not None
        before = accounted(-signal.SIGKILL, verdict, before, after)
    assert before == after
    assert of_exit(-signal.SIGKILL, 0.1, before, after, ALL) is None


def test_script_that_failed_beside_leaves_the_killed_one_to_be_named() -> None:
    before, after = Counts(), Counts(oom_kills=1)
    verdict = of_exit(1, 0.1, before, after, ALL)
    assert verdict is not None
    assert accounted(1, verdict, before, after) == before


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EAGAIN, "processes"),
        (errno.ENOMEM, "memory"),
        (errno.EMFILE, "open-files"),
        (errno.ENFILE, None),  # the system's limit, not the user's
        (errno.ENOENT, None),
        (0, None),
    ],
)
def test_start_that_failed(number: int, kind: str | None) -> None:
    assert of_start(number) == kind


def test_look_tells_what_no_end_told() -> None:
    assert of_look(BEFORE, BEFORE) == []
    assert of_look(BEFORE, KILLED) == [("memory", 1, "1 process was killed")]
    assert of_look(Counts(), REFUSED) == [
        ("memory", 1, "1 process was killed"),
        ("processes", 9, "9 processes or threads were refused"),
    ]


def test_line_names_limit_script_and_what_was_running() -> None:
    fault = Fault(
        kind="memory",
        when=0.0,
        script="a b.cgi",
        pid=7,
        limit="512 MiB",
        detail="killed",
        running=(Running(7, 1 << 20, "small"), Running(8, 500 << 20, "large")),
    )
    assert fault.line() == (
        "fault memory: script a b.cgi (pid 7), limit 512 MiB, killed, "
        "running: large (pid 8, 500 MiB), small (pid 7, 1 MiB)"
    )


def test_line_is_short_whatever_runs() -> None:
    many = tuple(Running(pid, pid, "sh") for pid in range(1, 101))
    line = Fault(kind="processes", when=0.0, script="", detail="x", running=many).line()
    assert line.startswith("fault processes: x, running: sh (pid 100, 100 B), ")
    assert line.count("(pid ") == SHOWN
    assert line.endswith("and 92 more")


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (64 << 20, "64 MiB"), (3 << 29, "1.5 GiB")],
)
def test_size_in_words(number: int, words: str) -> None:
    assert size(number) == words
