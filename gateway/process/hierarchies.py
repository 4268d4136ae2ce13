"""Which limits the control groups of this machine can hold: by which file, or why not.

Decides that from the text of /proc/self/cgroup and /proc/self/mountinfo (proc(5), cgroups(7)): a
controller is in one hierarchy only, of version 2 or, on a hybrid host, of version 1. Pure: what it
has to know of a directory, the caller answers. Must not know whose limits they are, nor make
anything (`cgroup.py` does).
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

LINES_MAX = 4096
"""Lines that are looked at of either file; a host with thousands of containers has more mounts, and
the control groups' are among the first."""

LEAF = "gateway-main"
"""The group that we move ourselves into where version 2 demands that a group with limits below it
holds no process itself."""

_ESCAPED = re.compile(r"\\([0-3][0-7]{2})")


class Way(NamedTuple):
    """One way to set a limit."""

    version: int
    controller: str
    """"" where none is needed."""
    files: tuple[str, ...]
    """In a group of its own; the first that is there is the one."""


WAYS: Mapping[str, tuple[Way, ...]] = {
    "memory": (
        Way(2, "memory", ("memory.max",)),
        Way(1, "memory", ("memory.limit_in_bytes",)),
    ),
    "memory_high": (Way(2, "memory", ("memory.high",)),),
    "cpu": (
        Way(2, "cpu", ("cpu.max",)),
        Way(1, "cpu", ("cpu.cfs_quota_us",)),
    ),
    "processes": (
        Way(2, "pids", ("pids.max",)),
        Way(1, "pids", ("pids.max",)),
    ),
    "io_weight": (
        Way(2, "io", ("io.weight", "io.bfq.weight")),
        Way(1, "blkio", ("blkio.weight", "blkio.bfq.weight")),
    ),
    "kill": (
        Way(2, "", ("cgroup.kill",)),
        Way(1, "freezer", ("freezer.state",)),
    ),
}
"""Limit -> the ways to it, the better one first. "kill" is to end all in a group at once."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted hierarchy."""

    version: int
    controllers: frozenset[str]
    """Of version 1; those of version 2 are told by each group."""
    root: str
    """The group that is seen at `point`."""
    point: str


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A hierarchy with our own group in it."""

    version: int
    controllers: frozenset[str]
    directory: str
    """Our own group's."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What this machine can hold."""

    found: Mapping[str, tuple[Hierarchy, Way]]
    missing: Mapping[str, str]
    """The limits that nothing holds, and why."""


def own_groups(text: str) -> dict[str, str]:
    """Return controller -> our group, from /proc/self/cgroup; version 2 is the controller ""."""
    groups: dict[str, str] = {}
    for line in _lines(text):
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not (number.isascii() and number.isdigit() and colon and path.startswith("/")):
            continue
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def mounts(text: str) -> list[Mount]:
    """Return the hierarchies that are mounted, from /proc/self/mountinfo."""
    found = []
    for line in _lines(text):
        # id parent major:minor root point options optional... - type source super-options
        before, dash, after = line.partition(" - ")
        place, kind = before.split(" "), after.split(" ")
        if not dash or len(place) < 6 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        version = 2 if kind[0] == "cgroup2" else 1
        controllers = frozenset(kind[2].split(",")) if version == 1 else frozenset[str]()
        found.append(Mount(version, controllers, _unescaped(place[3]), _unescaped(place[4])))
    return found


def hierarchies(
    groups: Mapping[str, str], mounted: list[Mount], may: Callable[[str], bool]
) -> list[Hierarchy]:
    """Return the hierarchies in which we have a directory that `may` have groups made in it."""
    found = []
    for mount in mounted:
        for controller in {""} if mount.version == 2 else mount.controllers & groups.keys():
            path = _seen(groups.get(controller, ""), mount)
            if path and may(path):
                found.append(Hierarchy(mount.version, mount.controllers, path))
                break
    return found


def survey(
    groups: Mapping[str, str],
    mounted: list[Mount],
    may: Callable[[str], bool],
    controllers: Callable[[str], frozenset[str]],
) -> Survey:
    """Return which hierarchy and file hold each limit.

    `may` says whether groups may be made in a directory, `controllers` what its cgroup.controllers
    has (version 2).
    """
    usable = hierarchies(groups, mounted, may)
    given = {
        each.directory: each.controllers if each.version == 1 else controllers(each.directory)
        for each in usable
    }
    found: dict[str, tuple[Hierarchy, Way]] = {}
    missing: dict[str, str] = {}
    for limit, ways in WAYS.items():
        for way in ways:
            for each in usable:
                has = not way.controller or way.controller in given[each.directory]
                if each.version == way.version and has and limit not in found:
                    found[limit] = each, way
        if limit not in found:
            missing[limit] = _why(ways, groups, mounted, usable, given)
    return Survey(found, missing)


def _why(
    ways: tuple[Way, ...],
    groups: Mapping[str, str],
    mounted: list[Mount],
    usable: list[Hierarchy],
    given: Mapping[str, frozenset[str]],
) -> str:
    """Say why none of `ways` can be gone."""
    if not mounted:
        return "no control groups are mounted here"
    names = " or ".join(sorted({way.controller for way in ways if way.controller}))
    held = {name for names in given.values() for name in names}
    if any(way.controller in held for way in ways if way.controller):
        return f"the {names} controller is one of version 1 here, which has no such limit"
    if any(way.controller in groups for way in ways if way.controller and way.version == 1):
        return _not_ours(names)
    second = [each for each in usable if each.version == 2]
    if second:
        where = second[0].directory
        return (
            f"the {names} controller is not in {where}/cgroup.controllers: "
            "run as a systemd service with Delegate=yes"
        )
    if any(mount.version == 2 for mount in mounted):
        return _not_ours(names)
    return f"the kernel has no {names} controller"


def _not_ours(names: str) -> str:
    return (
        f"no group of the {names} controller may be made below our own: run as root, or as a "
        "systemd service with Delegate=yes"
    )


def _seen(group: str, mount: Mount) -> str:
    """Return the directory of a group as this mount shows it; "" where it does not."""
    if not group or group.endswith(" (deleted)") or "/../" in f"{group}/":
        return ""
    if os.path.basename(group) == LEAF:
        group = os.path.dirname(group)  # where an earlier life of ours has moved us
    root = mount.root.rstrip("/")
    if group != root and not group.startswith(f"{root}/"):
        return ""
    return f"{mount.point.rstrip('/')}/{group[len(root) :].strip('/')}".rstrip("/")


def _lines(text: str) -> Iterator[str]:
    yield from text.split("\n", LINES_MAX)[:LINES_MAX]


def _unescaped(text: str) -> str:
    """Return a path as it is: mountinfo writes blanks and the like as three octal digits."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)
