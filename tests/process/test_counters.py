"""The counters of control groups: which file tells what, in both versions."""

import os
from pathlib import Path

from gateway.process.counters import URGENT, Counts, counts, files_of, read


def write(directory: Path, **files: str) -> bytes:
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return os.fsencode(directory)


def test_version_2_tells_all_in_one_group(tmp_path: Path) -> None:
    group = write(
        tmp_path,
        memory__events="low 0\nhigh 5\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n",
        memory__peak="1048576\n",
        pids__events="max 4\n",
        cpu__stat="usage_usec 1500000\nuser_usec 1\nnr_periods 10\nnr_throttled 6\n",
    )
    assert read([group]) == Counts(
        oom_kills=2, memory_hits=7, forks_refused=4, throttled=6, memory_peak=1048576, cpu=1.5
    )


def test_version_1_tells_it_in_a_group_for_each_controller(tmp_path: Path) -> None:
    memory = write(
        tmp_path / "memory",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        memory__failcnt="12\n",
        memory__max_usage_in_bytes="4096\n",
    )
    cpu = write(tmp_path / "cpu", cpu__stat="nr_periods 9\nnr_throttled 8\nthrottled_time 77\n")
    spent = write(tmp_path / "cpuacct", cpuacct__usage="2500000000\n")
    pids = write(tmp_path / "pids", pids__events="max 1\n")
    assert read([memory, cpu, spent, pids]) == Counts(
        oom_kills=3, memory_hits=12, forks_refused=1, throttled=8, memory_peak=4096, cpu=2.5
    )


def test_what_is_urgent_is_two_files(tmp_path: Path) -> None:
    group = write(tmp_path, memory__events="oom_kill 1\n", pids__events="max 1\n", cpu__stat="")
    paths = files_of([group], URGENT)
    assert [os.path.basename(path) for path in paths] == ["memory.events", "pids.events"]
    assert counts(paths) == Counts(oom_kills=1, forks_refused=1)


def test_group_that_is_gone_or_says_nonsense_says_nothing(tmp_path: Path) -> None:
    group = write(tmp_path, memory__events="oom_kill ٣\noom_kill\n", memory__peak="max\n" * 3)
    paths = files_of([group])
    assert counts(paths) == Counts()
    for path in paths:
        os.unlink(path)
    assert counts(paths) == Counts()
    assert read([b"/nowhere"]) == Counts()
