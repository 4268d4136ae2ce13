"""The figures of the whole daemon: asked of each process, added up, laid as somebody wants them.

Decides what `gateway status` knows, and that nobody is waited for: a process that has not answered
after `PATIENCE` is shown as silent. Fronts that have left are not forgotten: what they counted is
kept. Must not know how a status is printed (`report.py`).
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence

from gateway import __version__
from gateway.config.load import SettingsFile
from gateway.daemon import report
from gateway.daemon.generations import Child, Generations, tell
from gateway.daemon.reloading import Reloading
from gateway.meter import Counts, Meter
from gateway.process.figures import FIGURES_MAX, unsealed
from gateway.process.mastering import (
    Figures,
    WantFigures,
)
from gateway.process.post import Inbox

PATIENCE = 1.0
"""Seconds in which a process must answer."""
KEEPER_MAX = 256 << 10
"""Bytes of a keeper's figures that are read."""

TEXT_MAX = 500
ITEMS_MAX = 200
NUMBER_MAX = 1 << 62
"""Bounds of what is shown of a process's own figures."""

Answer = Callable[[int, Sequence[str]], None]

FORMS: Mapping[str, Callable[[Mapping[str, object]], str]] = {
    "text": report.text,
    "json": lambda status: json.dumps(status, indent=1),
    "prometheus": report.prometheus,
}
"""How a status can be laid."""


class Census:
    """One round of asking after the other; who asks during a round shares it."""

    def __init__(
        self,
        generations: Generations,
        children: Mapping[int, Child],
        reloading: Reloading,
        file: SettingsFile | None,
    ) -> None:
        self._generations = generations
        self._children = children
        self._reloading = reloading
        self._file = file
        self._born = time.monotonic()
        self._past = Meter()
        """What fronts counted that have left."""
        self._asking: list[tuple[str, Answer]] = []
        self._missing: set[int] = set()
        self._found: dict[int, dict[str, object]] = {}
        self._deadline = math.inf

    def begin(self, form: str, answer: Answer) -> None:
        """Ask everybody; `answer` gets the status in this form of `FORMS`."""
        self._asking.append((form, answer))
        if self._deadline < math.inf:
            return
        self._deadline = time.monotonic() + PATIENCE
        self._found = {}
        self._missing = set(self._children)
        for child in list(self._children.values()):
            tell(child, WantFigures())
        self._maybe_done()

    def take(self, child: Child, fd: int) -> None:
        """Take what a process has sent, asked or not. Raises ValueError."""
        asked = child.pid in self._missing
        if child.user and not asked:
            raise ValueError("nobody has asked for them")
        figures = unsealed(fd, KEEPER_MAX if child.user else FIGURES_MAX)
        if child.user or not figures.get("last"):
            self._found[child.pid] = figures
        else:
            self._past.add(figures.get("sites"))
            self._found.pop(child.pid, None)
        self._missing.discard(child.pid)
        self._maybe_done()

    def last_words(self, child: Child, inbox: Inbox) -> None:
        """Read what a process that has ended had still to say: what it counted. Wait no more."""
        while True:
            try:
                received = inbox.receive(child.control)
                if received is None:
                    break
                message, descriptors = received
                try:
                    if isinstance(message, Figures):
                        self.take(child, descriptors[0])
                finally:
                    for descriptor in descriptors:
                        os.close(descriptor)
            except ConnectionResetError:
                continue  # it had something unread; what it sent is still there
            except (ValueError, OSError):
                break
        self._missing.discard(child.pid)
        self._maybe_done()

    def due(self) -> float:
        """Return when the round is over whatever is missing; infinity while there is none."""
        return self._deadline

    def sweep(self) -> None:
        """End the round, if it is time."""
        if time.monotonic() >= self._deadline:
            self._done()

    def _maybe_done(self) -> None:
        if self._deadline < math.inf and not self._missing:
            self._done()

    def _done(self) -> None:
        self._deadline = math.inf
        asking, self._asking = self._asking, []
        status = self._status()
        self._found = {}
        for form, answer in asking:
            answer(0, FORMS[form](status).split("\n"))

    def _status(self) -> dict[str, object]:
        meter = Meter()
        meter.add(self._past.figures())
        fronts: list[dict[str, object]] = []
        keepers: list[dict[str, object]] = []
        for child in self._children.values():
            figures = self._found.get(child.pid)
            state = self._state(child) if figures is not None else "silent"
            shown: dict[str, object] = {"pid": child.pid, "state": state}
            if child.user:
                keepers.append({**_modest(figures), "user": child.user, **shown})
                continue
            if figures is not None:
                try:
                    meter.add(figures.pop("sites", {}))
                except ValueError:
                    shown["state"] = "broken"
            fronts.append({**_modest(figures), "name": child.name, **shown})
        return {
            "version": __version__,
            "pid": os.getpid(),
            "settings": self._file.file if self._file is not None else "",
            "uptime": round(time.monotonic() - self._born, 3),
            "reloads": self._reloading.count,
            "fronts": fronts,
            "keepers": keepers,
            **_sums(meter),
        }

    def _state(self, child: Child) -> str:
        if child.leaving:
            return "leaving"
        return "serving" if child.user or child.ready else "starting"


def _modest(figures: Mapping[str, object] | None) -> dict[str, object]:
    """Return what is plain in the figures of a process, which may be anything that JSON can say."""
    kept = _plain(figures or {}, 3)
    return kept if isinstance(kept, dict) else {}


def _plain(value: object, depth: int) -> object:
    """Return a copy of what is neither deep nor long nor large; None for the rest."""
    if isinstance(value, str):
        return value[:TEXT_MAX]
    if isinstance(value, int | float):
        return value if -NUMBER_MAX < value < NUMBER_MAX else None
    if depth and isinstance(value, list):
        return [_plain(each, depth - 1) for each in value[:ITEMS_MAX]]
    if depth and isinstance(value, dict):
        items = list(value.items())[:ITEMS_MAX]
        return {str(name)[:TEXT_MAX]: _plain(each, depth - 1) for name, each in items}
    return None


def _sums(meter: Meter) -> dict[str, object]:
    """Return the counts of all exchanges, of each kind of route, and of each site."""
    total = Counts()
    kinds: dict[str, Counts] = {}
    sites: dict[str, Counts] = {}
    for site, kind, counts in meter.every():
        total.add(counts)
        kinds.setdefault(kind or "none", Counts()).add(counts)
        sites.setdefault(site, Counts()).add(counts)
    return {
        "total": _shown(total),
        "kinds": {name: _shown(each) for name, each in sorted(kinds.items())},
        "sites": {name: _shown(each) for name, each in sorted(sites.items())},
    }


def _shown(counts: Counts) -> dict[str, object]:
    return {"requests": counts.requests, "errors": counts.errors, **counts.figures()}
