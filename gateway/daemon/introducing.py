"""How fronts come to keepers, and to the logs of tenants: by a name, which the master looks up.

Decides whose keeper a front gets, whatever the front has seen: it may have been taken over. A
keeper that is being born takes nobody yet: if it cannot become what it should (a sandbox that
cannot be had), those who wait are told why. In a sandbox a keeper sees the directories only of
the names under which it was asked for; when another one comes, a new keeper takes its place.
"""

import os
import socket
from collections.abc import Callable

from gateway.config.keepers import users
from gateway.config.tenancy import tenant_account
from gateway.daemon import tenantlogs
from gateway.daemon.generations import Child, Generation, Generations, tell
from gateway.daemon.leaving import Leaving
from gateway.journal import Journal
from gateway.process.accounts import account
from gateway.process.mastering import (
    Attach,
    KeeperAt,
    LogsAt,
    NoKeeper,
)
from gateway.process.spec import SpawnFailed

_Start = Callable[[str, Generation, frozenset[str]], Child]


class Introducing:
    """See the module."""

    def __init__(
        self, generations: Generations, leaving: Leaving, journal: Journal, start_keeper: _Start
    ) -> None:
        self._generations = generations
        self._leaving = leaving
        self._journal = journal
        self._start_keeper = start_keeper
        self._waiting: dict[int, dict[tuple[int, str], Child]] = {}
        """Process number of a keeper that is being born -> fronts, and by what name they asked;
        each once, however often it asks."""

    def keeper(self, front: Child, name: str) -> None:
        """Give a front a channel to the keeper of a user or tenant, which is started if need be."""
        try:
            kept = self._keeper(self._generations.of(front), name)
        except SpawnFailed as failed:
            tell(front, NoKeeper(name, failed.status, failed.why))
            return
        except (OSError, KeyError) as error:  # KeyError: an account that is there no more
            text = error.strerror if isinstance(error, OSError) else error.args[0]
            why = f"no keeper of {name} can be started: {text or error}"
            self._journal.write("error", why)
            tell(front, NoKeeper(name, 503, why))
            return
        if kept.ready:
            self._attach(kept, front, name)
        else:
            self._waiting.setdefault(kept.pid, {})[front.pid, name] = front

    def _keeper(self, generation: Generation, name: str) -> Child:
        """Return a keeper that runs, or is being born. Raises SpawnFailed and OSError."""
        if self._leaving.begun:
            raise SpawnFailed(0, "keeper", "the daemon is leaving", 503)
        settings = generation.settings
        if name in users(settings):
            return generation.keeper(name) or self._start_keeper(name, generation, frozenset())
        user = tenant_account(settings.tenants, name)
        seat = generation.seats.get(user)
        if seat is None or seat.keeper is None:
            return self._start_keeper(user, generation, frozenset((name,)))
        if name in seat.names or settings.tenants is None or settings.tenants.sandbox == "none":
            return seat.keeper
        self._generations.dismiss(seat.keeper, settings.limits.drain)
        seat.keeper = None
        return self._start_keeper(user, generation, seat.names | {name})

    def born(self, keeper: Child) -> None:
        """A keeper takes orders now."""
        keeper.ready = True
        for (_, name), front in self._waiting.pop(keeper.pid, {}).items():
            self._attach(keeper, front, name)

    def unborn(self, keeper: Child, why: str) -> None:
        """A keeper cannot become what it should."""
        for (_, name), front in self._waiting.pop(keeper.pid, {}).items():
            tell(front, NoKeeper(name, 503, f"the keeper of {name} cannot start: {why}"))

    def ended(self, child: Child) -> None:
        """A child has ended: nobody waits for it any more."""
        self.unborn(child, "it ended before it took orders")

    def _attach(self, keeper: Child, front: Child, name: str) -> None:
        try:
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            tell(front, NoKeeper(name, 503, f"no channel to it can be made: {error.strerror}"))
            return
        with one, other:
            tell(keeper, Attach(), one.fileno())
            keeper.attached += 1
            tell(front, KeeperAt(name), other.fileno())

    def logs(self, front: Child, name: str) -> None:
        """Hand a front the logs of a tenant; nothing where it has none."""
        tenants = self._generations.of(front).settings.tenants
        if tenants is None or not tenants.logs:
            return
        try:
            who = account(tenant_account(tenants, name))
            fds = tenantlogs.open_logs(
                tenants.logs, who.name, who.gid, tenants.log_size, tenantlogs.FILES[:2]
            )
        except (SpawnFailed, OSError, KeyError) as error:
            self._journal.write("error", f"no logs of {name}: {error}")
            return
        tell(front, LogsAt(name), *fds)
        for fd in fds:
            os.close(fd)
