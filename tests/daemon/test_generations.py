"""Which keeper serves which reading of the settings; when a child is started again."""

import math
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.config.keepers import keeper_spec, our_account
from gateway.config.settings import ServerSettings, Settings
from gateway.daemon.generations import Child, Generation, Generations, Seat, fixed
from gateway.daemon.restarts import DELAY_MAX, FAST_DEATH, Restarts
from gateway.site.site import RouteSettings, SiteSettings

US = our_account().name


def settings(**changes: Any) -> Settings:
    site = SiteSettings(root="/srv", route=(RouteSettings(match="*.cgi", cgi=True),))
    return Settings(site=(replace(site, **changes),))


@pytest.fixture
def child() -> Iterator[Child]:
    one, other = socket.socketpair()
    with one, other:
        yield Child(os.getpid(), "keeper", one, time.monotonic(), US)


def generation(number: int, of: Settings) -> Generation:
    return Generation(number, of, (), f"/run/pools/{number}")


def seated(of: Generation, keeper: Child) -> Seat:
    sockets = f"{of.pools}/{US}".encode()
    spec = keeper_spec(of.settings, US, sockets)
    seat = of.seats[US] = Seat(US, of.pools, sockets, spec, keeper)
    return seat


def test_keeper_that_would_be_the_same_stays(child: Child) -> None:
    first, second = generation(1, settings()), generation(2, settings(listing=True))
    seat = seated(first, child)
    assert list(second.inherit(first)) == [seat]
    assert second.keeper(US) is child


def test_keeper_whose_scripts_changed_does_not(child: Child) -> None:
    first, second = generation(1, settings()), generation(2, settings(environment={"A": "b"}))
    seated(first, child)
    assert list(second.inherit(first)) == []
    assert second.keeper(US) is None


def test_seat_is_unused_only_when_nobody_has_it(child: Child) -> None:
    every = Generations(generation(1, settings()))
    first = every.serving
    seat = seated(first, child)
    every.coming = generation(2, settings())
    list(every.coming.inherit(first))
    assert every.promote() is first
    every.retired.remove(first)
    assert every.unused(first) == []
    assert every.holds(first.pools)
    every.coming = generation(3, settings(environment={"A": "b"}))
    second = every.promote()
    every.retired.remove(second)
    assert every.unused(second) == [seat]
    assert not every.holds(first.pools)


def test_ended_keeper_leaves_its_seat_in_every_generation(child: Child) -> None:
    every = Generations(generation(1, settings()))
    seated(every.serving, child)
    every.coming = generation(2, settings())
    list(every.coming.inherit(every.serving))
    assert every.vacate(child) is False  # no pools: the next request starts one
    assert [each.keeper(US) for each in every.every()] == [None, None]


def test_account_and_place_are_fixed() -> None:
    before = settings()
    assert fixed(before, settings(listing=True)) == []
    after = replace(before, server=ServerSettings(user="nobody", runtime="/run/x", fronts=3))
    assert [text.split(":")[0] for text in fixed(before, after)] == [
        "[server] user",
        "[server] runtime",
    ]


def test_child_that_keeps_ending_waits_longer_each_time(child: Child) -> None:
    restarts = Restarts()
    waits = []
    for _ in range(9):
        child.born = time.monotonic()
        waits.append(restarts.again(child))
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, DELAY_MAX, DELAY_MAX]
    restarts.clear()
    assert restarts.due() == math.inf
    child.born = time.monotonic() - FAST_DEATH - 1
    restarts.again(child)
    assert restarts.take() == [child]
    assert restarts.due() == math.inf


def test_front_that_never_came_to_serve_has_the_generation_that_serves(child: Child) -> None:
    every = Generations(generation(1, settings()))
    every.coming = generation(2, settings())
    front = replace(child, user="", generation=2)
    assert every.of(front) is every.coming
    every.coming = None  # the reload failed, and what the front has sent is still to be read
    assert every.of(front) is every.serving
