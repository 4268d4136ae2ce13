"""Which hierarchy holds which limit, from what hosts of several kinds say of themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.process.hierarchies import (
    LEAF,
    LINES_MAX,
    WAYS,
    Mount,
    Survey,
    mounts,
    own_groups,
    survey,
)

UNIFIED_GROUPS = "0::/system.slice/gateway.service\n"
UNIFIED_MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""
HYBRID_GROUPS = """\
9:name=systemd:/x
8:pids:/
4:memory:/sessions/one
2:cpu,cpuacct:/
3:freezer:/
7:blkio:/
0::/
"""
HYBRID_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
ALL = frozenset(("cpu", "io", "memory", "pids"))


def look(
    groups: str,
    mounted: str,
    controllers: frozenset[str] = ALL,
    forbidden: frozenset[str] = frozenset(),
) -> Survey:
    return survey(
        own_groups(groups),
        mounts(mounted),
        lambda path: path not in forbidden,
        lambda path: controllers,
    )


def places(found: Survey) -> dict[str, str]:
    return {limit: f"{each.directory}/{way.files[0]}" for limit, (each, way) in found.found.items()}


def test_host_with_version_2_holds_all_in_one_group() -> None:
    own = "/sys/fs/cgroup/system.slice/gateway.service"
    assert places(look(UNIFIED_GROUPS, UNIFIED_MOUNTS)) == {
        "memory": f"{own}/memory.max",
        "memory_high": f"{own}/memory.high",
        "cpu": f"{own}/cpu.max",
        "processes": f"{own}/pids.max",
        "io_weight": f"{own}/io.weight",
        "kill": f"{own}/cgroup.kill",
    }


def test_hybrid_host_holds_by_version_1_and_ends_by_version_2() -> None:
    found = look(HYBRID_GROUPS, HYBRID_MOUNTS, frozenset())
    assert places(found) == {
        "memory": "/sys/fs/cgroup/memory/sessions/one/memory.limit_in_bytes",
        "cpu": "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us",
        "processes": "/sys/fs/cgroup/pids/pids.max",
        "io_weight": "/sys/fs/cgroup/blkio/blkio.weight",
        "kill": "/sys/fs/cgroup/unified/cgroup.kill",
    }
    assert "version 1 here, which has no such limit" in found.missing["memory_high"]


def test_host_with_version_1_alone_ends_by_the_freezer() -> None:
    groups = HYBRID_GROUPS.replace("0::/\n", "")
    mounted = "".join(line for line in HYBRID_MOUNTS.splitlines(True) if "cgroup2" not in line)
    assert places(look(groups, mounted))["kill"] == "/sys/fs/cgroup/freezer/freezer.state"


def test_controller_that_is_not_delegated_is_missing_with_the_way_out() -> None:
    found = look(UNIFIED_GROUPS, UNIFIED_MOUNTS, frozenset(("memory", "pids")))
    assert set(found.found) == {"memory", "memory_high", "processes", "kill"}
    assert found.missing["cpu"] == (
        "the cpu controller is not in /sys/fs/cgroup/system.slice/gateway.service/"
        "cgroup.controllers: run as a systemd service with Delegate=yes"
    )


def test_directory_that_is_not_ours_to_change_is_missing_with_the_way_out() -> None:
    own = frozenset(("/sys/fs/cgroup/system.slice/gateway.service",))
    found = look(UNIFIED_GROUPS, UNIFIED_MOUNTS, forbidden=own)
    assert found.found == {}
    assert "run as root, or as a systemd service with Delegate=yes" in found.missing["memory"]
    found = look(HYBRID_GROUPS, HYBRID_MOUNTS, frozenset(), frozenset(("/sys/fs/cgroup/pids",)))
    assert "no group of the pids controller may be made" in found.missing["processes"]


@pytest.mark.parametrize(("groups", "mounted"), [("", ""), (UNIFIED_GROUPS, ""), ("junk\n", "x")])
def test_host_without_groups_says_so_for_every_limit(groups: str, mounted: str) -> None:
    found = look(groups, mounted)
    assert found.found == {}
    assert set(found.missing) == set(WAYS)
    assert set(found.missing.values()) == {"no control groups are mounted here"}


@pytest.mark.parametrize(
    ("root", "group", "directory"),
    [
        ("/docker/abc", "/docker/abc", "/sys/fs/cgroup"),
        ("/docker/abc", "/docker/abc/in", "/sys/fs/cgroup/in"),
        ("/", "/", "/sys/fs/cgroup"),
        ("/", f"/service/{LEAF}", "/sys/fs/cgroup/service"),
    ],
)
def test_own_group_is_found_below_what_is_mounted(root: str, group: str, directory: str) -> None:
    line = f"30 23 0:26 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    assert look(f"0::{group}\n", line).found["memory"][0].directory == directory


@pytest.mark.parametrize("group", ["/docker/abcd", "/", "/../x", "/docker/abc/in (deleted)"])
def test_own_group_that_is_not_visible_is_none(group: str) -> None:
    line = "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    assert look(f"0::{group}\n", line).found == {}


def test_mount_with_blanks_in_its_name_is_unescaped() -> None:
    line = "30 23 0:26 /a\\134b /my\\040groups rw - cgroup2 cgroup2 rw\n"
    assert mounts(line) == [Mount(2, frozenset(), "/a\\b", "/my groups")]


def test_endless_file_is_not_read_to_its_end() -> None:
    line = "1:memory:/x\n"
    assert own_groups("junk\n" * LINES_MAX + line) == {}
    assert own_groups("junk\n" * (LINES_MAX - 1) + line) == {"memory": "/x"}


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_survived(groups: str, mounted: str) -> None:
    found = look(groups, mounted + "\n" + UNIFIED_MOUNTS)
    assert found.found.keys() | found.missing.keys() == WAYS.keys()
