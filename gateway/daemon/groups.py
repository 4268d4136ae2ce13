"""The control groups of the keepers, as the master has them: made before, ended and removed after.

Decides when a group is made (for a keeper with an allowance), that everything in it ends with its
keeper, and what is said at the start about limits that nothing holds here. How a group is made is
`process/cgroup.py`'s. Never waits, but when the daemon leaves.
"""

import math
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from gateway.journal import Journal
from gateway.process import counters
from gateway.process.cgroup import Cgroups, lacking, look
from gateway.process.cgroupfs import Kernel
from gateway.process.hierarchies import Survey
from gateway.process.spec import Allowance, KeeperSpec
from gateway.site.tenants import TenantsSettings

PAUSE = 0.05
"""Seconds between two looks whether what was killed is gone, at first; doubled each time."""
PAUSE_MAX = 1.0

_NAMES = {"kill": "ending all at once"}


@dataclass(slots=True)
class _Ending:
    """Groups whose keeper is gone, until nothing is left of them."""

    directories: tuple[bytes, ...]
    due: float
    pause: float = PAUSE


class Groups:
    """All control groups of one master."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._said: set[str] = set()
        self._keepers: dict[int, KeeperSpec] = {}
        self._ending: list[_Ending] = []
        self._count = 0
        self._prepared = False
        self._cgroups = Cgroups.none(Kernel())

    def expect(self, tenants: TenantsSettings | None) -> None:
        """Get ready for these tenants, and say what cannot be held for them.

        To be called before anything is forked, because version 2 wants us out of our group, and
        again with other settings. Groups are made only where there are tenants.
        """
        if tenants is None:
            return
        if not self._prepared:
            self._prepared = True
            self._cgroups = Cgroups.prepare(Kernel(), os.getpid())
        self._say(lacking(tenants.allowance, self._cgroups.survey()))

    def confine(self, spec: KeeperSpec) -> KeeperSpec:
        """Make the groups of a keeper that is about to start; return its spec with them."""
        if spec.allowance == Allowance():
            return spec
        self._count += 1
        # Another number for each: one that leaves may still be there when the next one starts.
        made = self._cgroups.make(f"{spec.user}-{self._count}", spec.allowance)
        self._say(made.missing)
        return replace(spec, cgroup=made.directories)

    def started(self, pid: int, spec: KeeperSpec) -> None:
        """The keeper of `spec` runs as this process."""
        if spec.cgroup:
            self._keepers[pid] = spec

    def ended(self, pid: int, code: int) -> None:
        """A child of the master was reaped: if it was a keeper, all that it left ends."""
        spec = self._keepers.pop(pid, None)
        if spec is None:
            return
        if code == -signal.SIGKILL and (killed := counters.read(spec.cgroup).oom_kills):
            text = f"fault memory: the keeper itself was killed, or {killed} of its processes were"
            self._journal.write("error", text, subject=f"keeper {spec.user}")
        self._ending.append(_Ending(spec.cgroup, 0.0))
        self.sweep()

    def sweep(self) -> None:
        """Kill what is left in the groups of dead keepers; remove those that are empty."""
        if not self._ending:
            return
        now = time.monotonic()
        for each in list(self._ending):
            if now < each.due:
                continue
            if self._cgroups.end(each.directories) and self._cgroups.remove(each.directories):
                self._ending.remove(each)
            else:
                each.due, each.pause = now + each.pause, min(PAUSE_MAX, each.pause * 2)

    def due(self) -> float:
        """The moment at which `sweep` has something to do."""
        return min((each.due for each in self._ending), default=math.inf)

    def close(self) -> None:
        """The daemon leaves: remove all groups that it made."""
        for path in self._cgroups.close():
            self._journal.write("error", f"the control group {path} stays: somebody is in it")

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line not in self._said:
                self._said.add(line)
                self._journal.write("warn", f"[tenants] {line}")


def summary(allowance: Allowance) -> list[str]:
    """Return for `gateway check` what would hold the limits of a tenant here, and what would not.

    Makes nothing, so a group of ours that others are in as well shows at the start only.
    """
    found = look(Kernel())
    lines = [f"{_NAMES.get(limit, limit)} by {_where(found, limit)}" for limit in found.found]
    lines += [f"{limit}: {why}" for limit, why in found.missing.items() if limit == "memory_high"]
    return lines + lacking(allowance, found)


def _where(found: Survey, limit: str) -> str:
    hierarchy, way = found.found[limit]
    return f"{' or '.join(way.files)} (cgroup v{way.version}, below {hierarchy.directory})"
