"""What a process says of itself is shown as far as it is modest."""

import json
import os
import socket
import time
from collections.abc import Iterator

import pytest

from gateway.config.keepers import our_account
from gateway.config.settings import Settings
from gateway.daemon.figures import Census
from gateway.daemon.generations import Child, Generation, Generations
from gateway.daemon.reloading import Reloading
from gateway.daemon.runtime import Logs, Runtime
from gateway.journal import Journal
from gateway.listeners.sockets import Inherited
from gateway.process.figures import sealed
from gateway.site.site import SiteSettings


def deep(levels: int) -> object:
    return [deep(levels - 1)] if levels else "x"


@pytest.fixture
def keeper() -> Iterator[Child]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield Child(4711, "keeper", one, time.monotonic(), our_account().name)


@pytest.fixture
def census(keeper: Child) -> Census:
    first = Generation(1, Settings(site=(SiteSettings(root="/srv"),)), (), "/run/pools/1")
    generations = Generations(first)
    children = {keeper.pid: keeper}

    def never(*_: object) -> Child:
        raise AssertionError("nothing is started here")

    def no_front(name: str, generation: Generation) -> None:
        never()

    reloading = Reloading(
        None, Inherited(), generations, children, Runtime("/run", private=True), Logs(1, 2),
        Journal(2, "master"), no_front, never, lambda settings: None,
    )  # fmt: skip
    return Census(generations, children, reloading, None)


def told(census: Census, keeper: Child, figures: dict[str, object], form: str = "json") -> str:
    said: list[str] = []
    census.begin(form, lambda code, lines: said.extend(lines))
    fd = sealed(figures)
    try:
        census.take(keeper, fd)
    finally:
        os.close(fd)
    return "\n".join(said)


def test_keeper_cannot_pass_for_another(census: Census, keeper: Child) -> None:
    answer = told(census, keeper, {"user": "root", "pid": 1, "state": "fine", "running": 2})
    (shown,) = json.loads(answer)["keepers"]
    assert shown == {
        "user": our_account().name, "pid": 4711, "state": "serving", "running": 2,
    }  # fmt: skip


@pytest.mark.parametrize("form", ["json", "text", "prometheus"])
def test_what_is_deep_or_large_or_strange_is_left_out(
    census: Census, keeper: Child, form: str
) -> None:
    figures: dict[str, object] = {
        "a": deep(300), "running": 10**400, "queue": float("nan"), "queued": float("inf"),
        "zygotes": "\x1b[2J", "pools": [{"name": "\ud800\x1b", "workers": []}] * 2000,
        "concurrency": {"x": 1}, "long": "x" * 100_000,
    }  # fmt: skip
    answer = told(census, keeper, figures, form)
    assert answer
    assert len(answer) < 100_000
    assert "\x1b" not in answer


def test_keeper_that_was_not_asked_is_not_heard(census: Census, keeper: Child) -> None:
    fd = sealed({"running": 1})
    try:
        with pytest.raises(ValueError, match="nobody has asked"):
            census.take(keeper, fd)
    finally:
        os.close(fd)
