"""The life of one worker, as a table: (state, event, now) -> (state, actions).

Decides when a worker is started again after it ended, when it counts as up, and how it is stopped.
Pure: it starts nothing, knows no clock and no process; `pools.py` performs the actions.

A worker that keeps failing waits twice as long each time, up to 30 s (daemontools waits 1 s, which
fills a log and a CPU; CVE-2015-9253), and has to stay up longer each time before it counts as up.
One that has run well for 10 s starts with a clean record. A clean exit (status 0) of a worker that
was up is how a worker ends that has served its number of requests: the next one starts at once.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

FIRST_DELAY = 0.1
"""Seconds before the first restart; doubled for each failure in a row."""
LAST_DELAY = 30.0
SETTLE = 1.0
"""Seconds that a new worker must stay up to count as up; doubled likewise, up to `WELL`."""
WELL = 10.0
"""Seconds after which earlier failures are forgotten."""
TOO_MANY = 3
"""Failures in a row after which a worker is given up for now, even if it was up in between."""


class Phase(enum.Enum):
    RESTING = "resting"
    """Not wanted, and not there."""
    STARTING = "starting"
    """It runs, but not yet for long enough to count as up."""
    RUNNING = "running"
    BACKOFF = "backoff"
    """It ended; the next one starts when the delay is over."""
    STOPPING = "stopping"
    """TERM has been sent."""


class Event(enum.Enum):
    START = "start"
    """It is wanted."""
    LEFT = "left"
    """It ended with exit status 0."""
    DIED = "died"
    """It ended in any other way, or could not be started."""
    DUE = "due"
    """The moment that `Life.due` named has come."""
    STOP = "stop"
    """It is not wanted any more."""


class Action(enum.Enum):
    SPAWN = "spawn"
    UP = "up"
    """It counts as up from now."""
    TERM = "term"
    KILL = "kill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One worker's state."""

    phase: Phase = Phase.RESTING
    grace: float = 5.0
    """Seconds from TERM to KILL."""
    failures: int = 0
    """Ends in a row that were failures."""
    since: float = 0.0
    """When it was last started."""
    due: float = inf
    """When `Event.DUE` should come."""
    again: bool = False
    """While stopping: start anew when it is gone."""
    hopeless: bool = False
    """In BACKOFF: nobody should wait for it. It ended before it was up, or has failed too often."""


Result = tuple[Life, tuple[Action, ...]]


def step(life: Life, event: Event, now: float) -> Result:
    """Return the state after `event`, and what is to be done, in order."""
    return TABLE[life.phase, event](life, now)


def delay(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row."""
    return min(LAST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 20))


def _stay(life: Life, now: float) -> Result:
    return life, ()


def _start(life: Life, now: float) -> Result:
    settle = min(WELL, SETTLE * 2.0 ** min(life.failures, 10))
    new = replace(
        life, phase=Phase.STARTING, since=now, due=now + settle, again=False, hopeless=False
    )
    return new, (Action.SPAWN,)


def _settled(life: Life, now: float) -> Result:
    new = replace(life, phase=Phase.RUNNING, due=life.since + WELL)
    return (_well(new, now)[0] if now >= new.due else new), (Action.UP,)


def _well(life: Life, now: float) -> Result:
    return replace(life, failures=0, due=inf), ()


def _failed_early(life: Life, now: float) -> Result:
    return _fail(life, now, hopeless=True)


def _failed(life: Life, now: float) -> Result:
    return _fail(life, now, hopeless=life.failures + 1 >= TOO_MANY)


def _fail(life: Life, now: float, *, hopeless: bool) -> Result:
    failures = life.failures + 1
    due = now + delay(failures)
    new = replace(life, phase=Phase.BACKOFF, failures=failures, due=due, hopeless=hopeless)
    return new, ()


def _start_afresh(life: Life, now: float) -> Result:
    """Somebody has reason to think that it will run now: forget the failures."""
    return _start(replace(life, failures=0), now)


def _stop(life: Life, now: float) -> Result:
    return replace(life, phase=Phase.STOPPING, due=now + life.grace, again=False), (Action.TERM,)


def _rest(life: Life, now: float) -> Result:
    return replace(life, phase=Phase.RESTING, failures=0, due=inf, hopeless=False), ()


def _kill(life: Life, now: float) -> Result:
    return replace(life, due=inf), (Action.KILL,)


def _want_again(life: Life, now: float) -> Result:
    return replace(life, again=True), ()


def _unwant_again(life: Life, now: float) -> Result:
    return replace(life, again=False), ()


def _stopped(life: Life, now: float) -> Result:
    rested, _ = _rest(life, now)
    return _start(rested, now) if life.again else (rested, ())


TABLE: dict[tuple[Phase, Event], Callable[[Life, float], Result]] = {
    (Phase.RESTING, Event.START): _start,
    (Phase.RESTING, Event.LEFT): _stay,
    (Phase.RESTING, Event.DIED): _stay,
    (Phase.RESTING, Event.DUE): _stay,
    (Phase.RESTING, Event.STOP): _stay,
    (Phase.STARTING, Event.START): _stay,
    (Phase.STARTING, Event.LEFT): _failed_early,
    (Phase.STARTING, Event.DIED): _failed_early,
    (Phase.STARTING, Event.DUE): _settled,
    (Phase.STARTING, Event.STOP): _stop,
    (Phase.RUNNING, Event.START): _stay,
    (Phase.RUNNING, Event.LEFT): _start,
    (Phase.RUNNING, Event.DIED): _failed,
    (Phase.RUNNING, Event.DUE): _well,
    (Phase.RUNNING, Event.STOP): _stop,
    (Phase.BACKOFF, Event.START): _start_afresh,
    (Phase.BACKOFF, Event.LEFT): _stay,
    (Phase.BACKOFF, Event.DIED): _stay,
    (Phase.BACKOFF, Event.DUE): _start,
    (Phase.BACKOFF, Event.STOP): _rest,
    (Phase.STOPPING, Event.START): _want_again,
    (Phase.STOPPING, Event.LEFT): _stopped,
    (Phase.STOPPING, Event.DIED): _stopped,
    (Phase.STOPPING, Event.DUE): _kill,
    (Phase.STOPPING, Event.STOP): _unwant_again,
}
