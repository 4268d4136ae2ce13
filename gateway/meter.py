"""Floor 1: what is counted of exchanges: how many, how they ended, how long, and at what cost.

Decides the figures of a site and of each kind of its routes, and that no more than `SITES_MAX`
sites are told apart, whatever is asked for: the tenth that was not used for longest goes into
`OTHERS`. One exchange costs about a quarter of a microsecond. Must not know who asks, or how the
figures travel.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from math import isfinite

SITES_MAX = 2000
OTHERS = "(others)"
"""The name of what was folded together."""
NOWHERE = "(none)"
"""The name where no site was found: what was no request, or named no host of ours."""

KINDS = frozenset(("static", "script", "app", ""))
"""The kinds of routes; "" where none was found."""
NAME_MAX = 1024
"""Longest name of a site that is taken from another meter."""

BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
"""Upper bounds in seconds of the classes in which durations are counted; one more has the rest."""

CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
"""The classes of statuses; "none": cut before there was any."""

_WHOLE_MAX = 1 << 62


class Counts:
    """Some exchanges, added up."""

    __slots__ = ("classes", "cpu", "durations", "memory", "received", "seconds", "sent")

    def __init__(self) -> None:
        self.classes = [0] * len(CLASSES)
        self.durations = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.sent = 0
        """Bytes of answers' bodies."""
        self.received = 0
        """Bytes of requests' bodies, where their length was told."""
        self.cpu = 0.0
        """Seconds of processor time of scripts."""
        self.memory = 0
        """The largest resident size of a script, in bytes."""

    @property
    def requests(self) -> int:
        return sum(self.classes)

    @property
    def errors(self) -> int:
        """Answers that say that we, or a program, failed, and answers that never came."""
        return self.classes[5] + self.classes[0]

    def add(self, other: "Counts") -> None:
        """Add all of another one."""
        self.classes = [a + b for a, b in zip(self.classes, other.classes, strict=True)]
        self.durations = [a + b for a, b in zip(self.durations, other.durations, strict=True)]
        self.seconds += other.seconds
        self.sent += other.sent
        self.received += other.received
        self.cpu += other.cpu
        self.memory = max(self.memory, other.memory)

    def figures(self) -> dict[str, object]:
        """Return all of it, as `of` reads it."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, figures: object) -> "Counts":
        """Return what `figures` was made of. Raises ValueError for anything else."""
        if not isinstance(figures, dict) or figures.keys() != set(cls.__slots__):
            raise ValueError("counts whose names are wrong")
        made = cls()
        made.classes = _wholes(figures["classes"], len(CLASSES))
        made.durations = _wholes(figures["durations"], len(BOUNDS) + 1)
        made.sent, made.received, made.memory = _wholes(
            [figures["sent"], figures["received"], figures["memory"]], 3
        )
        made.seconds, made.cpu = _seconds(figures["seconds"]), _seconds(figures["cpu"])
        return made


def _wholes(values: object, count: int) -> list[int]:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError("counts that are not as many as they should be")
    if not all(type(value) is int and 0 <= value < _WHOLE_MAX for value in values):
        raise ValueError("a count that cannot be")
    return values


def _seconds(value: object) -> float:
    if type(value) not in (int, float) or not isinstance(value, int | float):
        raise ValueError("a time that is no number")
    if not (isfinite(value) and 0 <= value < 1e15):
        raise ValueError("a time that cannot be")
    return float(value)


class _Site:
    """The kinds of one site's routes."""

    __slots__ = ("kinds", "used")

    def __init__(self) -> None:
        self.kinds: dict[str, Counts] = {}
        self.used = 0


class Meter:
    """The counts of every site."""

    def __init__(self, most: int = SITES_MAX) -> None:
        self._most = most
        self._sites: dict[str, _Site] = {}
        self._number = 0

    def record(
        self,
        site: str,
        kind: str,
        status: int,
        seconds: float,
        *,
        sent: int = 0,
        received: int = 0,
        cpu: float = 0.0,
        memory: int = 0,
    ) -> None:
        """Count one exchange. `status` is 0 where there was none."""
        self._number += 1
        found = self._sites.get(site)
        if found is None:
            found = self._site(site[:NAME_MAX] or NOWHERE)
        found.used = self._number
        counts = found.kinds.get(kind)
        if counts is None:
            counts = found.kinds[kind] = Counts()
        counts.classes[status // 100 if status < 600 else 5] += 1
        counts.durations[bisect_left(BOUNDS, seconds)] += 1
        counts.seconds += seconds
        counts.sent += sent
        counts.received += received
        if cpu or memory:
            counts.cpu += cpu
            if memory > counts.memory:
                counts.memory = memory

    def every(self) -> Iterator[tuple[str, str, Counts]]:
        """Give each site and kind with its counts."""
        for name, site in self._sites.items():
            for kind, counts in site.kinds.items():
                yield name, kind, counts

    def figures(self) -> dict[str, object]:
        """Return all of it, as `add` reads it."""
        return {
            name: {kind: counts.figures() for kind, counts in site.kinds.items()}
            for name, site in self._sites.items()
        }

    def add(self, figures: object) -> None:
        """Add what another meter's `figures` gave. Raises ValueError, and adds nothing then."""
        if not isinstance(figures, Mapping):
            raise ValueError("figures that are no table")
        read = []
        for name, kinds in figures.items():
            if not isinstance(kinds, Mapping):
                raise ValueError("a site whose figures are no table")
            if len(name) > NAME_MAX or not kinds.keys() <= KINDS:
                raise ValueError("figures of what cannot be")
            read += [(name, kind, Counts.of(each)) for kind, each in kinds.items()]
        for name, kind, counts in read:
            self._number += 1
            site = self._sites.get(name) or self._site(name)
            site.used = self._number
            site.kinds.setdefault(kind, Counts()).add(counts)

    def _site(self, name: str) -> _Site:
        """Return the place of a site, which may be a new one."""
        if name not in self._sites and len(self._sites) >= self._most:
            self._fold()
        return self._sites.setdefault(name, _Site())

    def _fold(self) -> None:
        """Put the sites that were not used for longest together."""
        others = self._sites.setdefault(OTHERS, _Site())
        names = sorted(self._sites, key=lambda name: self._sites[name].used)
        for name in names[: max(2, self._most // 10)]:
            if name not in (OTHERS, NOWHERE):
                for kind, counts in self._sites.pop(name).kinds.items():
                    others.kinds.setdefault(kind, Counts()).add(counts)
