"""The table of a worker's life: given a state and an event, what then."""

import itertools
from dataclasses import replace
from math import inf

import pytest

from gateway.process.life import (
    FIRST_DELAY,
    LAST_DELAY,
    SETTLE,
    TABLE,
    WELL,
    Action,
    Event,
    Life,
    Phase,
    delay,
    step,
)

NOW = 1000.0
RESTING = Life(grace=5.0)
STARTING = Life(grace=5.0, phase=Phase.STARTING, since=NOW, due=NOW + SETTLE)
RUNNING = Life(grace=5.0, phase=Phase.RUNNING, since=NOW, due=NOW + WELL)
BACKOFF = Life(grace=5.0, phase=Phase.BACKOFF, failures=1, since=NOW, due=NOW + FIRST_DELAY)
STOPPING = Life(grace=5.0, phase=Phase.STOPPING, since=NOW, due=NOW + 5.0)


def test_every_event_in_every_phase_has_its_row() -> None:
    assert set(TABLE) == set(itertools.product(Phase, Event))


@pytest.mark.parametrize(
    ("given", "event", "later", "phase", "due", "actions"),
    [
        (RESTING, Event.START, 0.0, Phase.STARTING, NOW + SETTLE, (Action.SPAWN,)),
        (RESTING, Event.STOP, 0.0, Phase.RESTING, inf, ()),
        (STARTING, Event.DUE, SETTLE, Phase.RUNNING, NOW + WELL, (Action.UP,)),
        (STARTING, Event.DIED, 0.2, Phase.BACKOFF, NOW + 0.2 + FIRST_DELAY, ()),
        (STARTING, Event.LEFT, 0.2, Phase.BACKOFF, NOW + 0.2 + FIRST_DELAY, ()),
        (STARTING, Event.STOP, 0.2, Phase.STOPPING, NOW + 5.2, (Action.TERM,)),
        (RUNNING, Event.DUE, WELL, Phase.RUNNING, inf, ()),
        (RUNNING, Event.LEFT, 3.0, Phase.STARTING, NOW + 3.0 + SETTLE, (Action.SPAWN,)),
        (RUNNING, Event.DIED, 3.0, Phase.BACKOFF, NOW + 3.0 + FIRST_DELAY, ()),
        (RUNNING, Event.STOP, 3.0, Phase.STOPPING, NOW + 8.0, (Action.TERM,)),
        (RUNNING, Event.START, 3.0, Phase.RUNNING, NOW + WELL, ()),
        (BACKOFF, Event.DUE, 0.1, Phase.STARTING, NOW + 0.1 + 2 * SETTLE, (Action.SPAWN,)),
        (BACKOFF, Event.START, 0.0, Phase.STARTING, NOW + SETTLE, (Action.SPAWN,)),
        (BACKOFF, Event.STOP, 0.0, Phase.RESTING, inf, ()),
        (STOPPING, Event.DUE, 5.0, Phase.STOPPING, inf, (Action.KILL,)),
        (STOPPING, Event.LEFT, 1.0, Phase.RESTING, inf, ()),
        (STOPPING, Event.DIED, 1.0, Phase.RESTING, inf, ()),
        (STOPPING, Event.STOP, 1.0, Phase.STOPPING, NOW + 5.0, ()),
    ],
)
def test_row(
    given: Life, event: Event, later: float, phase: Phase, due: float, actions: tuple[Action, ...]
) -> None:
    then, done = step(given, event, NOW + later)
    assert (then.phase, done) == (phase, actions)
    assert then.due == pytest.approx(due)


def test_delay_doubles_up_to_its_bound() -> None:
    assert [delay(failures) for failures in (1, 2, 3, 4)] == [0.1, 0.2, 0.4, 0.8]
    assert delay(10) == LAST_DELAY
    assert delay(10_000) == LAST_DELAY


def test_crash_loop_waits_longer_each_time_and_is_hopeless() -> None:
    life, now = RESTING, NOW
    waits = []
    for _ in range(12):
        life, actions = step(life, Event.DUE if life.phase is Phase.BACKOFF else Event.START, now)
        assert actions == (Action.SPAWN,)
        assert not life.hopeless
        life, _ = step(life, Event.DIED, now)
        assert life.hopeless
        waits.append(life.due - now)
        now = life.due
    assert waits[:5] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
    assert waits[-1] == LAST_DELAY


def test_failures_are_forgotten_after_it_ran_well() -> None:
    life, _ = step(replace(STARTING, failures=4, due=NOW + 10), Event.DUE, NOW + 10)
    assert (life.phase, life.failures) == (Phase.RUNNING, 0)
    life, _ = step(replace(RUNNING, failures=4), Event.DUE, NOW + WELL)
    life, _ = step(life, Event.DIED, NOW + WELL)
    assert life.failures == 1
    assert not life.hopeless


def test_worker_that_dies_again_and_again_while_up_is_given_up_for_a_time() -> None:
    life = RUNNING
    hopes = []
    for _ in range(3):
        life, _ = step(life, Event.DIED, NOW + 2)
        hopes.append(life.hopeless)
        life, _ = step(life, Event.DUE, NOW + 3)
        life, _ = step(life, Event.DUE, NOW + 4)
    assert hopes == [False, False, True]


def test_worker_that_served_its_number_starts_at_once_however_often() -> None:
    life = RUNNING
    for _ in range(100):
        life, actions = step(life, Event.LEFT, NOW)
        assert actions == (Action.SPAWN,)
        life, _ = step(life, Event.DUE, NOW + SETTLE)
        assert life.phase is Phase.RUNNING


def test_worker_wanted_again_while_it_stops_starts_when_it_is_gone() -> None:
    life, actions = step(STOPPING, Event.START, NOW)
    assert actions == ()
    life, actions = step(life, Event.DUE, NOW + 5)
    assert actions == (Action.KILL,)
    life, actions = step(life, Event.DIED, NOW + 6)
    assert (life.phase, actions) == (Phase.STARTING, (Action.SPAWN,))
    life, _ = step(replace(STOPPING, again=True), Event.STOP, NOW)
    life, actions = step(life, Event.DIED, NOW)
    assert (life.phase, actions) == (Phase.RESTING, ())
