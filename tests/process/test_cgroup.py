"""Control groups: what is written where in version 2, and version 1 on the real kernel."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.process.cgroup import Cgroups, enter, held, lacking, look
from gateway.process.cgroupfs import Kernel, members
from gateway.process.hierarchies import LEAF
from gateway.process.spec import Allowance
from tests.process.cgroup_tree import OWN, Tree

ASKED = Allowance(memory=100 << 20, cpu=1.5, processes=20, io_weight=200)
OTHER = 55
"""A process of somebody else in our group."""


def made(tree: Tree) -> dict[str, str]:
    """Make a keeper's group and return what was written to it."""
    groups = Cgroups.prepare(tree, 100)
    result = groups.make("alice-1", ASKED)
    assert result.missing == ()
    (directory,) = result.directories
    assert os.fsdecode(directory) == f"{OWN}/gateway-100/alice-1"
    return tree.groups[os.fsdecode(directory)].written


def test_version_2_is_written_all_limits() -> None:
    assert made(Tree()) == {
        "memory.max": str(100 << 20),
        "memory.high": str(90 << 20),
        "memory.swap.max": "0",
        "cpu.max": "150000 100000",
        "pids.max": "21",
        "io.weight": "default 200",
    }


def test_we_leave_our_group_for_a_leaf_before_limits_can_be_below_it() -> None:
    tree = Tree()
    made(tree)
    assert tree.groups[OWN].pids == set()
    assert tree.groups[f"{OWN}/{LEAF}"].pids == {100}
    assert tree.groups[OWN].enabled == {"memory", "cpu", "pids", "io"}
    assert tree.groups[f"{OWN}/gateway-100"].enabled == {"memory", "cpu", "pids", "io"}


def test_we_stay_where_the_controllers_are_enabled_already() -> None:
    tree = Tree(pids=())
    tree.write(f"{OWN}/cgroup.subtree_control", "+memory +cpu +pids +io")
    tree.make(f"{OWN}/mine")
    tree.write(f"{OWN}/mine/cgroup.procs", "100")
    tree.groups[f"{OWN}/mine"].controllers = set()
    groups = Cgroups.prepare(tree, 100)
    assert f"{OWN}/mine/{LEAF}" not in tree.groups
    assert "not in" in groups.survey().missing["memory"]


def test_group_that_others_are_in_is_left_as_it_was_and_said() -> None:
    tree = Tree(pids=(100, OTHER))
    groups = Cgroups.prepare(tree, 100)
    assert tree.groups[OWN].pids == {100, OTHER}
    assert tree.groups[OWN].enabled == set()
    assert f"{OWN}/{LEAF}" not in tree.groups
    result = groups.make("alice-1", ASKED)
    assert [line.partition(":")[0] for line in result.missing] == [
        "memory",
        "cpu",
        "processes",
        "io_weight",
    ]
    assert all("others are in our group" in line for line in result.missing)
    assert all("Delegate=yes" in line for line in result.missing)
    # What is in it can still be ended at once.
    assert result.directories == (os.fsencode(f"{OWN}/gateway-100/alice-1"),)


def test_only_what_is_asked_for_is_written() -> None:
    tree = Tree()
    groups = Cgroups.prepare(tree, 100)
    groups.make("bob-1", Allowance(processes=5))
    assert tree.groups[f"{OWN}/gateway-100/bob-1"].written == {"pids.max": "6"}


def test_group_ends_by_one_write_and_is_removed() -> None:
    tree = Tree()
    groups = Cgroups.prepare(tree, 100)
    directories = groups.make("alice-1", ASKED).directories
    path = os.fsdecode(directories[0])
    tree.make(f"{path}/below")
    tree.alive |= {200, 201}
    tree.groups[path].pids = {200}
    tree.groups[f"{path}/below"].pids = {201}
    assert not groups.remove(directories)
    assert groups.end(directories)
    assert tree.alive == {100}
    assert groups.remove(directories)
    assert path not in tree.groups


def test_kernel_without_kill_freezes_kills_and_thaws() -> None:
    tree = Tree()
    tree.can_kill = False
    groups = Cgroups.prepare(tree, 100)
    directories = groups.make("alice-1", ASKED).directories
    tree.groups[os.fsdecode(directories[0])].pids = {200, 201}
    tree.alive |= {200, 201}
    assert not groups.end(directories)
    assert tree.alive == {100}
    assert tree.frozen == ["1", "0"]
    assert groups.end(directories)


def test_daemon_that_leaves_restores_its_group() -> None:
    tree = Tree()
    groups = Cgroups.prepare(tree, 100)
    groups.make("alice-1", ASKED)
    assert groups.close() == []
    assert set(tree.groups) == {OWN}
    assert tree.groups[OWN].pids == {100}
    assert tree.groups[OWN].enabled == set()


def test_second_life_finds_its_group_from_the_leaf() -> None:
    tree = Tree()
    Cgroups.prepare(tree, 100)
    groups = Cgroups.prepare(tree, 100)  # the same process, after exec
    assert groups.make("alice-1", ASKED).missing == ()
    assert not [name for name in tree.groups if name.startswith(f"{OWN}/{LEAF}/")]


def test_only_empty_groups_of_dead_daemons_are_removed() -> None:
    tree = Tree()
    for name in ("gateway-7", "gateway-8", "gateway-9", "gateway-7x", "other"):
        tree.make(f"{OWN}/{name}")
        tree.make(f"{OWN}/{name}/alice-1")
    tree.alive |= {8, 300}
    tree.groups[f"{OWN}/gateway-9/alice-1"].pids = {300}
    Cgroups.prepare(tree, 100)
    left = {name.split("/")[6] for name in tree.groups if name.endswith("alice-1")}
    assert left == {"gateway-8", "gateway-9", "gateway-7x", "other"}


@pytest.mark.parametrize(
    ("name", "path"),
    [("alice", "alice"), ("a/../b", "a%2f%2e%2e%2fb"), ("cgroup.procs", "cgroup%2eprocs")],
)
def test_name_of_a_user_is_one_plain_component(name: str, path: str) -> None:
    tree = Tree()
    Cgroups.prepare(tree, 100).make(name, ASKED)
    assert f"{OWN}/gateway-100/{path}" in tree.groups


@pytest.mark.parametrize(
    ("allowance", "file", "text"),
    [
        (Allowance(cpu=0.001), "cpu.max", "1000 100000"),
        (Allowance(cpu=0.5), "cpu.max", "50000 100000"),
        (Allowance(io_weight=10_000), "io.weight", "default 10000"),
    ],
)
def test_value_is_within_what_the_kernel_takes(allowance: Allowance, file: str, text: str) -> None:
    tree = Tree()
    Cgroups.prepare(tree, 100).make("a", allowance)
    assert tree.groups[f"{OWN}/gateway-100/a"].written[file] == text


def test_daemon_without_groups_lacks_what_is_asked_for_and_nothing_else() -> None:
    groups = Cgroups.none(Tree())
    result = groups.make("alice-1", Allowance(memory=1))
    assert result.directories == ()
    assert [line.partition(":")[0] for line in result.missing] == ["memory", "ending all at once"]
    assert lacking(Allowance(), groups.survey()) == []
    assert groups.close() == []


# The real kernel, whose hierarchies are of version 1, or of both.

REAL = look(Kernel()).found if os.getuid() == 0 else {}
needs_groups = pytest.mark.skipif(
    not {"memory", "processes", "cpu"} <= REAL.keys(),
    reason="needs root, and control groups for memory, cpu and pids",
)
needs_freezer = pytest.mark.skipif(
    os.getuid() != 0 or not os.path.isdir("/sys/fs/cgroup/freezer"),
    reason="needs root, and the freezer of version 1 at /sys/fs/cgroup/freezer",
)


@pytest.fixture
def groups() -> Iterator[Cgroups]:
    prepared = Cgroups.prepare(Kernel(), os.getpid())
    yield prepared
    assert prepared.close() == []


Inside = Callable[[tuple[bytes, ...], str], int]


@pytest.fixture
def inside() -> Iterator[Inside]:
    """Start a shell in groups; return its process id."""
    started: list[subprocess.Popen[bytes]] = []

    def start(directories: tuple[bytes, ...], text: str) -> int:
        process = subprocess.Popen(["/bin/sh", "-c", text], preexec_fn=lambda: enter(directories))
        started.append(process)
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.wait()


@needs_groups
def test_limits_are_what_the_kernel_says_then(groups: Cgroups) -> None:
    result = groups.make("alice-1", ASKED)
    assert held(result.directories) == {"memory", "processes"}
    said = {
        file.name: file.read_text().strip()
        for where in result.directories
        for name in ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us")
        if (file := Path(os.fsdecode(where), name)).exists()
    }
    assert said.pop("pids.max") == "21"
    assert said.pop("cpu.cfs_quota_us", "150000") == "150000"
    assert set(said.values()) == {str(100 << 20)}


@needs_groups
def test_group_without_limits_holds_none(groups: Cgroups) -> None:
    assert held(groups.make("alice-1", Allowance(cpu=1.0)).directories) == frozenset()


@needs_groups
def test_all_that_was_started_inside_ends(
    groups: Cgroups, inside: Inside, until: Any, lives: Callable[[int], bool]
) -> None:
    directories = groups.make("alice-1", ASKED).directories
    inside(directories, "setsid sleep 300 & sleep 300 & sleep 300; :")
    until(lambda: len(members(directories, Kernel())) == 4, "all four run")
    pids = members(directories, Kernel())
    assert not groups.remove(directories)
    until(lambda: groups.end(directories), "something lives")
    until(lambda: groups.remove(directories), "the groups are there")
    until(lambda: not any(map(lives, pids)), "something lives")
    assert not any(map(os.path.exists, directories))


@needs_freezer
def test_freezer_ends_all_where_nothing_better_is_there(
    inside: Inside, until: Any, lives: Callable[[int], bool]
) -> None:
    class First(Kernel):
        """The host as it would be without version 2."""

        def read(self, path: str) -> str:
            lines = super().read(path).splitlines(True)
            drop = "cgroup2" if path.endswith("mountinfo") else "0::"
            return "".join(line for line in lines if drop not in line)

    groups = Cgroups.prepare(First(), os.getpid())
    (directory,) = groups.make("alice-1", Allowance(nice=1)).directories
    assert b"/freezer/" in directory
    # A shell that starts another one for ever, in a group without a bound but this: one at a time.
    pid = inside((directory,), "while :; do sleep 0.01; done")
    until(lambda: pid in members([directory], Kernel()), "it runs")
    until(lambda: groups.end([directory]), "something lives")
    until(lambda: not lives(pid), "it lives")
    assert groups.close() == []
    assert not os.path.exists(directory)


@needs_groups
def test_groups_of_a_dead_daemon_are_removed_for_real(groups: Cgroups) -> None:
    parents = [each.directory for each, _ in groups.survey().found.values()]
    child = os.fork()
    if not child:
        Cgroups.prepare(Kernel(), os.getpid()).make("alice-1", ASKED)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    left = [f"{parent}/gateway-{child}" for parent in parents]
    assert all(map(os.path.isdir, left))
    again = Cgroups.prepare(Kernel(), os.getpid())
    assert not any(map(os.path.exists, left))
    assert again.survey().found == groups.survey().found


def test_process_that_may_not_enter_is_told() -> None:
    with pytest.raises(OSError):
        enter((b"/nowhere",))
