"""The readings of the settings that are served side by side: one that serves, those before it whose
fronts still finish, and one that is on its way.

Decides which keeper serves the fronts of which generation: one whose `KeeperSpec` would be the same
stays, whatever else has changed. Starts and ends nothing: that is the master's.
"""

import math
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gateway.config.keepers import keeper_spec, pools_of, users
from gateway.config.settings import Settings
from gateway.daemon.openings import Opened
from gateway.process.channel import (
    Message,
)
from gateway.process.mastering import Stop
from gateway.process.post import send
from gateway.process.spec import KeeperSpec

LATE = 5.0
"""Seconds beyond drain and grace after which a keeper that was told to leave is killed."""

FIXED = (
    ("user", "logs and sockets are that account's"),
    ("runtime", "its sockets are there"),
)
"""The keys of `[server]` that cannot change while the daemon runs, and why."""


@dataclass(slots=True, eq=False)
class Child:
    """A process that the master started."""

    pid: int
    name: str
    control: socket.socket
    born: float
    user: str = ""
    """Whose keeper it is; "" for a front."""
    generation: int = 0
    """Of a front: which it belongs to."""
    attached: int = 0
    """Channels that were handed to this keeper."""
    ready: bool = False
    """It has said that it serves, or takes orders."""
    leaving: bool = False


def tell(child: Child, message: Message, *descriptors: int) -> None:
    """Send a message to a child, if it is still there."""
    try:
        send(child.control, message.encode(), descriptors)
    except OSError:
        pass  # it is gone already; SIGCHLD says the rest


@dataclass(slots=True, eq=False)
class Seat:
    """The place of one user's keeper, for all generations that it can serve."""

    user: str
    pools: str
    """The generation's directory in which its sockets are."""
    sockets: bytes
    spec: KeeperSpec
    """As `keeper_spec` gave it when the keeper was last started."""
    keeper: Child | None = None
    names: frozenset[str] = frozenset()
    """The names of tenants that the keeper was started for."""


@dataclass(slots=True, eq=False)
class Generation:
    """One reading of the settings, with what serves it."""

    number: int
    """From 1."""
    settings: Settings
    listeners: Sequence[Opened]
    pools: str
    """The directory in which its fronts look for the pools' sockets."""
    seats: dict[str, Seat] = field(default_factory=dict)
    deadline: float = math.inf
    """When it must have started, or its fronts must have left."""

    def keeper(self, user: str) -> Child | None:
        """Return the keeper of a user that runs and takes orders."""
        seat = self.seats.get(user)
        return None if seat is None else seat.keeper

    def inherit(self, before: "Generation") -> Iterator[Seat]:
        """Take over the seats that would be the same here, and give each."""
        tenants = self.settings.tenants
        known = users(self.settings)
        for user, seat in before.seats.items():
            if user not in known and (tenants is None or tenants != before.settings.tenants):
                continue
            try:
                same = keeper_spec(self.settings, user, seat.sockets, seat.names) == seat.spec
            except KeyError:  # there is no such account any more
                continue
            if same:
                self.seats[user] = seat
                yield seat


class Generations:
    """All that there are."""

    def __init__(self, first: Generation) -> None:
        self.serving = first
        self.coming: Generation | None = None
        """The one that a reload has begun to start."""
        self.retired: list[Generation] = []
        self.dismissed: list[tuple[float, Child]] = []
        """Keepers that were told to leave, and when they must have left."""

    def dismiss(self, keeper: Child, drain: float) -> None:
        """Tell a keeper to leave, `drain` seconds from now at the latest.

        Whose it is may have stopped it (SIGSTOP), so there is an end to that.
        """
        keeper.leaving = True
        due = time.monotonic() + drain + self.serving.settings.limits.grace + LATE
        self.dismissed.append((due, keeper))
        tell(keeper, Stop(drain))

    def every(self) -> list[Generation]:
        """Return all, the newest first."""
        coming = [] if self.coming is None else [self.coming]
        return [*coming, self.serving, *reversed(self.retired)]

    def of(self, front: Child) -> Generation:
        """Return the generation of a front.

        One that never came to serve has none any more, and can have asked before it is gone: for
        that, the one that serves.
        """
        mine = (each for each in self.every() if each.number == front.generation)
        return next(mine, self.serving)

    def promote(self) -> Generation:
        """Let the coming one serve; return the one that did."""
        assert self.coming is not None
        before = self.serving
        self.retired.append(before)
        self.serving, self.coming = self.coming, None
        return before

    def seat_of(self, keeper: Child) -> Seat | None:
        """Return the seat on which a keeper sits, if it does."""
        return next(
            (
                seat
                for generation in self.every()
                if (seat := generation.seats.get(keeper.user)) and seat.keeper is keeper
            ),
            None,
        )

    def user_of(self, seat: Seat) -> Generation | None:
        """Return the newest generation that a seat serves; None: nobody needs it any more."""
        return next((each for each in self.every() if each.seats.get(seat.user) is seat), None)

    def sockets(self) -> set[socket.socket]:
        """Return all listening sockets."""
        return {each.socket for generation in self.every() for each in generation.listeners}

    def vacate(self, keeper: Child) -> bool:
        """A keeper has ended, or leaves; return whether its pools must run all the same."""
        seat = self.seat_of(keeper)
        if seat is None:
            return False
        seat.keeper = None
        generation = self.user_of(seat)
        return generation is not None and bool(pools_of(generation.settings, keeper.user))

    def vacancy(self, user: str) -> Generation | None:
        """Return the newest generation that has pools of a user, and no keeper for them."""
        for generation in self.every():
            seat = generation.seats.get(user)
            if seat is not None and seat.keeper is None and pools_of(generation.settings, user):
                return generation
        return None

    def unused(self, over: Generation) -> list[Seat]:
        """Return the seats of a generation that is over which no other has."""
        return [seat for seat in over.seats.values() if self.user_of(seat) is None]

    def holds(self, pools: str) -> bool:
        """Whether anybody looks for sockets in this directory, or has some there."""
        return any(
            each.pools == pools or any(seat.pools == pools for seat in each.seats.values())
            for each in self.every()
        )


def fixed(old: Settings, new: Settings) -> list[str]:
    """Return, in words, what has changed that cannot change while the daemon runs."""
    return [
        f'[server] {key}: cannot change from "{before}" to "{after}" while it runs: {why}; '
        "stop the daemon and start it again"
        for key, why in FIXED
        if (before := getattr(old.server, key)) != (after := getattr(new.server, key))
    ]
