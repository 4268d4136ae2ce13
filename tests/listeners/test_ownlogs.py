"""A tenant's own logs: what waits for a file, what is lost, and when a file is full."""

import os
from pathlib import Path

import pytest

from gateway.listeners import ownlogs
from gateway.listeners.ownlogs import HELD_MAX, OwnLogsRegistry


class House:
    def __init__(self, directory: Path, limit: int = 1 << 20) -> None:
        self.directory = directory
        self.wanted: list[str] = []
        self.registry = OwnLogsRegistry(
            "combined", limit, lambda flush: None, self.wanted.append, "front 1"
        )

    def open(self, name: str) -> None:
        """Do the master's part."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        fds = [os.open(self.path(name, kind), flags) for kind in ("access", "error")]
        self.registry.opened(name, *fds)

    def path(self, name: str, kind: str = "error") -> Path:
        return self.directory / f"{name}.{kind}"

    def error(self, name: str) -> str:
        return self.path(name).read_text()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(ownlogs.time, "monotonic", lambda: now[0])
    return now


def test_lines_wait_for_the_file(house: House) -> None:
    logs = house.registry.of("~a")
    assert house.wanted == []
    logs.complain("first", "/x.cgi", "1-2")
    logs.journal.write("warn", "second\x1b[2J")
    assert house.wanted == ["~a"]
    house.open("~a")
    assert [line.split(" ", 1)[1] for line in house.error("~a").splitlines()] == [
        "error front 1 [1-2] /x.cgi: first",
        "warn front 1 second\\x1b[2J",
    ]
    logs.complain("third", "", "")
    assert "third" in house.error("~a")
    assert house.path("~a", "access").read_text() == ""
    assert house.wanted == ["~a"]


def test_what_waits_is_bounded(house: House) -> None:
    logs = house.registry.of("~a")
    for _ in range(100):
        logs.complain("x" * 4000, "", "")
    house.open("~a")
    assert HELD_MAX - 8000 < len(house.error("~a")) <= HELD_MAX


def test_the_master_is_asked_once_a_second(house: House, clock: list[float]) -> None:
    logs = house.registry.of("~a")
    for _ in range(5):
        logs.complain("x", "", "")
    assert house.wanted == ["~a"]
    clock[0] += ownlogs.ASK_EVERY
    logs.complain("x", "", "")
    assert house.wanted == ["~a"] * 2


def test_a_full_file_is_told(tmp_path: Path, clock: list[float]) -> None:
    house = House(tmp_path, limit=200_000)
    logs = house.registry.of("~a")
    logs.complain("x", "", "")
    house.open("~a")
    clock[0] += 10
    while house.path("~a").stat().st_size < 200_000 and len(house.wanted) < 2:
        logs.complain("x" * 4000, "", "")
    for _ in range(ownlogs.LOOK_EVERY // 4000 + 1):
        logs.complain("x" * 4000, "", "")
    assert house.wanted == ["~a"] * 2


def test_few_are_open_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownlogs, "OPEN_MAX", 2)
    before = len(os.listdir("/proc/self/fd"))
    for name in ("~a", "~b", "~c", "~d"):
        house.registry.of(name).complain("x", "", "")
        house.open(name)
    assert len(os.listdir("/proc/self/fd")) == before + 4
    house.open("~a")  # an answer that comes too late is not kept
    assert len(os.listdir("/proc/self/fd")) == before + 4
    for name in ("~c", "~d"):
        for file in house.registry.of(name).files:
            file.close()


def test_renamed_files_are_asked_for_again(house: House, clock: list[float]) -> None:
    logs = house.registry.of("~a")
    logs.complain("x", "", "")
    house.open("~a")
    house.path("~a").rename(house.path("~a", "old"))
    clock[0] += 10
    house.registry.renamed()
    assert house.wanted == ["~a"] * 2
    house.open("~a")
    logs.complain("new", "", "")
    assert "new" in house.error("~a")


def test_a_site_that_is_made_anew_leaves_no_file_open(house: House) -> None:
    before = house.registry.of("~a")
    now = house.registry.of("~a")  # an exchange with the old site is still under way
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        for logs in (before, now):
            logs.complain("line", "", "")
            house.open("~a")
    assert house.error("~a").count("line") == 10
    assert len(os.listdir("/proc/self/fd")) == open_before + 2
