"""Which connection an exchange gets. Nothing here opens one: connections and waiters are words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.address import Address
from gateway.backends.pool import (
    WAIT,
    Open,
    Pool,
    PoolSettings,
    Refuse,
    Use,
)

A, B, C = Address(path="/a"), Address(path="/b"), Address("127.0.0.1", 9000)


def pool(*addresses, capacity=2):
    return Pool(addresses or (A,), capacity)


def opened(pool, name):
    assert isinstance(pool.acquire(0, 0), Open)
    return name


def test_first_exchange_opens_a_connection():
    assert pool().acquire(0, 0) == Open(A)


def test_idle_connection_is_used_before_a_new_one():
    p = pool()
    x = opened(p, "x")
    assert p.release(x) is None
    assert p.acquire(0, 0) == Use("x")


def test_most_recently_used_connection_goes_first():
    p = pool(capacity=3)
    for name in "xyz":
        opened(p, name)
    for name in "xyz":
        p.release(name)
    assert [p.acquire(0, 0).connection for _ in "xyz"] == ["z", "y", "x"]


def test_at_capacity_exchanges_queue_in_order():
    p = pool(capacity=1)
    x = opened(p, "x")
    assert p.acquire(0, 2) == WAIT
    p.wait("first")
    assert p.acquire(0, 2) == WAIT
    p.wait("second")
    assert p.release(x) == ("first", Use("x"))
    assert p.release(x) == ("second", Use("x"))
    assert p.release(x) is None


def test_queue_is_bounded():
    p = pool(capacity=1)
    opened(p, "x")
    assert isinstance(p.acquire(0, 0), Refuse)
    p.wait("first")
    assert isinstance(p.acquire(0, 1), Refuse)
    assert p.acquire(0, 2) == WAIT


def test_closed_connection_makes_room_for_the_next_waiter():
    p = pool(capacity=1)
    opened(p, "x")
    p.wait("first")
    p.wait("second")
    assert p.closed(0) == [("first", Open(A))]
    assert p.open == 1


def test_nobody_overtakes_the_queue():
    p = pool(capacity=1)
    opened(p, "x")
    p.wait("first")
    p.capacity = 2  # a place that no grant has reached yet
    assert p.acquire(0, 5) == WAIT


def test_abandoned_waiter_is_passed_over():
    p = pool(capacity=1)
    x = opened(p, "x")
    p.wait("first")
    p.wait("second")
    assert p.abandon("first") is True
    assert p.abandon("first") is False
    assert p.release(x) == ("second", Use("x"))


def test_lost_idle_connection_is_forgotten():
    p = pool()
    p.release(opened(p, "x"))
    p.lost("x")
    assert (p.open, p.idle) == (0, [])
    assert p.acquire(0, 0) == Open(A)


def test_stale_connection_is_replaced_in_its_place():
    p = pool(capacity=1)
    opened(p, "x")
    p.wait("first")
    assert p.again(0) == Open(A)
    assert p.open == 1


def test_addresses_take_turns():
    p = pool(A, B, C, capacity=6)
    assert [p.acquire(0, 0).address for _ in range(6)] == [A, B, C, A, B, C]


def test_address_that_fails_is_set_aside_and_the_next_one_tried():
    p = pool(A, B, capacity=9)
    assert p.acquire(0, 0) == Open(A)
    assert p.failed(A, 0) == Open(B)
    assert p.open == 1
    assert [p.acquire(0.05, 0).address for _ in range(3)] == [B, B, B]
    assert A in [p.acquire(0.2, 0).address for _ in range(2)]


def test_pause_doubles_up_to_ten_seconds_and_success_ends_it():
    p = pool(A, B, capacity=9)
    now, pauses = 0.0, []
    for _ in range(9):
        p.open = 1
        p.failed(A, now)
        step = next(s / 10 for s in range(1, 200) if p._aside[A].until <= now + s / 10 + 1e-6)
        pauses.append(step)
        now += step
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    p.reached(A)
    p.failed(A, now)
    assert p._aside[A].until == pytest.approx(now + 0.1)


def test_with_no_address_left_it_is_refused_with_a_time():
    p = pool(A, B)
    p.acquire(0, 0)
    p.failed(A, 0)
    refusal = p.failed(B, 0)
    assert isinstance(refusal, Refuse)
    assert refusal.retry == 1
    assert p.open == 0
    assert isinstance(p.acquire(0.05, 9), Refuse)
    assert isinstance(p.acquire(0.15, 9), Open)


def test_only_address_is_tried_again_soon():
    p = pool(A)
    for now in range(0, 100, 2):
        assert p.acquire(now, 0) == Open(A)
        assert isinstance(p.failed(A, now), Refuse)


def test_waiters_are_refused_when_nobody_can_be_reached():
    p = pool(A, capacity=1)
    opened(p, "x")
    p.wait("first")
    p.wait("second")
    p.again(0)
    assert isinstance(p.failed(A, 0), Refuse)
    grants = p.vacant(0)
    assert [waiter for waiter, _ in grants] == ["first", "second"]
    assert all(isinstance(decision, Refuse) for _, decision in grants)


@given(st.lists(st.integers(0, 5), max_size=200), st.integers(1, 4), st.integers(0, 3))
def test_places_are_never_lost_and_never_too_many(steps, capacity, queue):
    p = pool(A, B, capacity=capacity)
    busy, waiting, names = [], [], iter(range(10_000))

    def take(decision):
        if isinstance(decision, Use):
            busy.append(decision.connection)
        elif isinstance(decision, Open):
            busy.append(next(names))

    for now, step in enumerate(steps):
        if step == 0:
            decision = p.acquire(now, queue)
            if decision == WAIT:
                waiting.append(next(names))
                p.wait(waiting[-1])
            take(decision)
        elif step == 1 and busy:
            if grant := p.release(busy.pop()):
                waiting.remove(grant[0])
                take(grant[1])
        elif step == 2 and busy:
            busy.pop()
            for waiter, decision in p.closed(now):
                waiting.remove(waiter)
                take(decision)
        elif step == 3 and p.idle:
            p.lost(p.idle[0])
        elif step == 4 and waiting:
            assert p.abandon(waiting.pop(0))
        elif step == 5 and busy:
            busy.pop()
            take(p.failed(A, now))
            for waiter, decision in p.vacant(now):
                waiting.remove(waiter)
                take(decision)
        assert p.open == len(busy) + len(p.idle) <= capacity
        assert list(p.queue) == waiting
        assert len(waiting) <= queue
        assert not (waiting and p.idle)


def test_repr_says_how_it_stands():
    p = pool()
    opened(p, "x")
    p.release(opened(p, "y"))
    assert repr(p) == "<Pool 1 in use, 1 idle, 0 waiting>"


# Settings


@pytest.mark.parametrize("text", ["", "/run/a.sock", "host:0", "systemd:app", "fd:0", "*:9000"])
def test_connect_takes_only_what_can_be_connected_to(text):
    with pytest.raises(ValueError):
        PoolSettings(connect=("unix:/run/a.sock", text))


def test_own_pool_takes_what_its_processes_can():
    settings = PoolSettings(wsgi="a:b", processes=3, threads=4)
    assert settings.capacity == 12
    assert settings.keeps


def test_connections_are_not_kept_to_programs_that_serve_one_at_a_time():
    assert not PoolSettings(command=("/usr/bin/php-cgi",)).keeps
    assert not PoolSettings(connect=("unix:/a",)).keeps
    assert PoolSettings(connect=("unix:/a",), keep=True).keeps
    assert PoolSettings(wsgi="a", engine="flup").keeps
    assert not PoolSettings(wsgi="a", keep=False).keeps


def test_connected_pool_is_bounded_by_connections():
    assert PoolSettings(connect=("unix:/a",)).capacity == 64
    assert PoolSettings(connect=("unix:/a",), connections=5).capacity == 5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "one of wsgi, command and connect"),
        ({"wsgi": "a", "command": ("b",)}, "wsgi and command"),
        ({"wsgi": "a", "processes": 0}, "processes must be at least 1"),
        ({"wsgi": "a", "processes": {"style": "dynamic"}}, "processes must be a number"),
        ({"wsgi": "a", "threads": 0}, "threads must be at least 1"),
        ({"wsgi": "a", "max_requests": -1}, "max_requests must be at least 0"),
        ({"command": ("a",), "engine": "flup"}, "for a pool with wsgi"),
        ({"connect": ("nowhere",)}, "neither unix:/path nor host:port"),
    ],
)
def test_what_a_pool_cannot_be(given, words):
    with pytest.raises(ValueError, match=words):
        PoolSettings(**given)


def test_quick_workers_are_sent_requests_ahead_and_slow_ones_are_not() -> None:
    pool: Pool[str, str] = Pool((Address(path="/a"),), 2, ahead=4)
    assert [type(pool.acquire(0.0, 1)) for _ in range(3)] == [Open, Open, type(WAIT)]
    pool.wait("w")
    for _ in range(100):
        pool.served(0.0001)
    assert pool.room == 8
    grants = pool.vacant(0.0)
    assert [(waiter, type(decision)) for waiter, decision in grants] == [("w", Open)]
    for _ in range(100):
        pool.served(0.1)
    assert pool.room == 2


def test_more_than_there_is_room_for_is_not_handed_on() -> None:
    pool: Pool[str, str] = Pool((Address(path="/a"),), 1, ahead=2)
    for _ in range(100):
        pool.served(0.0001)
    assert [type(pool.acquire(0.0, 1)) for _ in range(2)] == [Open, Open]
    for _ in range(100):
        pool.served(1.0)
    assert pool.acquire(0.0, 1) == WAIT
    pool.wait("w")
    assert pool.release("first") is None
    assert pool.release("second") == ("w", Use("second"))
