"""What is counted of exchanges."""

import json
from typing import Any

import pytest

from gateway.meter import BOUNDS, NOWHERE, OTHERS, Counts, Meter


def counts_of(meter: Meter, site: str, kind: str = "static") -> Counts:
    return {(name, each): counts for name, each, counts in meter.every()}[site, kind]


def test_statuses_are_counted_by_their_class() -> None:
    meter = Meter()
    for status in (200, 206, 304, 404, 499, 500, 503, 0, 999):
        meter.record("a", "static", status, 0.1)
    counts = counts_of(meter, "a")
    assert counts.classes == [1, 0, 2, 1, 2, 3]
    assert counts.requests == 9
    assert counts.errors == 4


@pytest.mark.parametrize(
    ("seconds", "place"), [(0.0, 0), (BOUNDS[0], 0), (0.002, 1), (BOUNDS[-1], 9), (61.0, 10)]
)
def test_duration_is_counted_below_the_first_bound_that_holds_it(
    seconds: float, place: int
) -> None:
    meter = Meter()
    meter.record("a", "script", 200, seconds)
    assert counts_of(meter, "a", "script").durations[place] == 1


def test_costs_are_added_and_the_largest_memory_stays() -> None:
    meter = Meter()
    meter.record("a", "script", 200, 1.0, sent=10, received=3, cpu=0.5, memory=300)
    meter.record("a", "script", 200, 2.0, sent=20, received=4, cpu=0.25, memory=200)
    counts = counts_of(meter, "a", "script")
    assert (counts.sent, counts.received, counts.cpu, counts.memory) == (30, 7, 0.75, 300)
    assert counts.seconds == 3.0


def test_kinds_of_routes_are_told_apart() -> None:
    meter = Meter()
    meter.record("a", "static", 200, 0.1)
    meter.record("a", "script", 200, 0.1)
    assert counts_of(meter, "a", "static").requests == 1
    assert counts_of(meter, "a", "script").requests == 1


def test_exchange_of_no_site_has_a_name_too() -> None:
    meter = Meter()
    meter.record("", "", 400, 0.1)
    meter.record("", "", 400, 0.1)
    assert counts_of(meter, NOWHERE, "").requests == 2


def test_sites_are_bounded_and_nothing_is_lost() -> None:
    meter = Meter(most=100)
    for number in range(1000):
        meter.record(f"site {number}", "static", 200, 0.1, sent=1)
        meter.record("busy", "static", 200, 0.1, sent=1)
    names = {name for name, _, _ in meter.every()}
    assert len(names) <= 101
    assert {"busy", OTHERS, "site 999"} <= names
    assert "site 0" not in names
    assert sum(counts.requests for _, _, counts in meter.every()) == 2000
    assert counts_of(meter, "busy").requests == 1000


def test_figures_of_several_meters_are_added_up() -> None:
    meters = []
    for _ in range(2):
        meter = Meter()
        meter.record("a", "static", 200, 0.1, sent=5)
        meter.record("b", "script", 500, 2.0, cpu=0.5, memory=7)
        meters.append(meter)
    total = Meter()
    for meter in meters:
        total.add(json.loads(json.dumps(meter.figures())))
    assert counts_of(total, "a").sent == 10
    assert counts_of(total, "b", "script").cpu == 1.0
    assert counts_of(total, "b", "script").memory == 7
    assert counts_of(meters[0], "a").sent == 5


def broken(**changed: Any) -> dict[str, Any]:
    return {"a": {"static": {**Counts().figures(), **changed}}}


@pytest.mark.parametrize(
    "figures",
    [
        None,
        [],
        {"a": 1},
        {"a": {"static": {}}},
        {"a": {"dance": Counts().figures()}},
        {"a" * 2000: {"static": Counts().figures()}},
        broken(classes=[1, 2]),
        broken(classes=[1, 2, 3, 4, 5, "6"]),
        broken(durations=[-1] * 11),
        broken(sent=True),
        broken(sent=1 << 70),
        broken(sent=1.5),
        broken(cpu=float("nan")),
        broken(cpu=float("inf")),
        broken(cpu=-1),
        broken(cpu="1"),
        broken(more=1),
    ],
)
def test_figures_that_no_meter_gives_are_refused_whole(figures: Any) -> None:
    meter = Meter()
    with pytest.raises(ValueError, match=r"figures|count|time"):
        meter.add(figures)
    assert list(meter.every()) == []
