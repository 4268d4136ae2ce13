"""The resource limits that follow from an allowance."""

import resource

import pytest

from gateway.process.limits import (
    INFINITY,
    LAST_SECONDS,
    SPARE_DATA,
    SPARE_PROCESSES,
    Rlimit,
    files_of_keeper,
    of_all,
    of_programs,
    within,
)
from gateway.process.spec import Allowance

CORE = Rlimit(resource.RLIMIT_CORE, 0, 0)


def test_nothing_that_is_allowed_is_bounded() -> None:
    assert of_all(Allowance(), (), 0) == [CORE]
    assert of_programs(Allowance()) == []


def test_what_a_group_holds_is_not_held_twice() -> None:
    asked = Allowance(memory=512 << 20, processes=64)
    above = 64 + SPARE_PROCESSES
    assert of_all(asked, ("memory", "processes"), 0) == [
        CORE,
        Rlimit(resource.RLIMIT_NPROC, above, above),
    ]
    assert of_all(asked, (), 0) == [
        CORE,
        Rlimit(resource.RLIMIT_NPROC, 65, 65),
        Rlimit(resource.RLIMIT_DATA, 512 << 20, 512 << 20),
    ]


def test_keeper_has_the_data_that_it_needs_itself() -> None:
    asked = Allowance(memory=1 << 20)
    assert of_all(asked, (), 90 << 20)[-1].soft == (90 << 20) + SPARE_DATA


def test_programs_have_what_a_keeper_cannot_live_with() -> None:
    asked = Allowance(file_size=1 << 30, cpu_time=9.2, open_files=256, nice=5)
    assert of_programs(asked) == [
        Rlimit(resource.RLIMIT_FSIZE, 1 << 30, 1 << 30),
        Rlimit(resource.RLIMIT_CPU, 10, 10 + LAST_SECONDS),
        Rlimit(resource.RLIMIT_NOFILE, 256, 256),
    ]


def test_short_processor_time_is_a_second() -> None:
    assert of_programs(Allowance(cpu_time=0.01))[0].soft == 1


def test_full_queue_has_its_descriptors() -> None:
    assert files_of_keeper(50, 20) > 3 * 70


@pytest.mark.parametrize(
    ("soft", "hard", "bound", "result"),
    [
        (10, 20, INFINITY, (10, 20)),
        (10, 20, 15, (10, 15)),
        (10, 20, 5, (5, 5)),
        (INFINITY, INFINITY, 5, (5, 5)),
    ],
)
def test_hard_bound_that_stands_is_kept(
    soft: int, hard: int, bound: int, result: tuple[int, int]
) -> None:
    assert within(Rlimit(1, soft, hard), bound) == Rlimit(1, *result)
