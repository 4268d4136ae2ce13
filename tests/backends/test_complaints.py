"""What a program writes to stderr: to the log, to the peer, or to both."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.complaints import LINES_MAX, TOLD_MAX, Complaints
from gateway.exchange import NO_BODY, Limits, Notes, Request
from gateway.journal import Journal

Make = Callable[..., Complaints]


def request(stderr: Callable[[bytes], bool] | None) -> Request:
    return Request(
        id="0a1b2c",
        method="GET",
        target=b"/",
        path=b"/",
        query=b"",
        protocol=b"HTTP/1.1",
        headers=(),
        host=b"",
        scheme=b"http",
        remote=("", 0),
        local=("", 0),
        body=NO_BODY,
        length=0,
        notes=Notes(Limits()),
        stderr=stderr,
    )


class Peer:
    """Takes what it is sent, and wants it logged or not."""

    def __init__(self, logged: bool) -> None:
        self.logged = logged
        self.taken: list[bytes] = []

    def __call__(self, data: bytes) -> bool:
        self.taken.append(data)
        return self.logged


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """A journal, and the texts of its lines."""

    class Log:
        def __init__(self) -> None:
            self.path = tmp_path / "error.log"
            self.fd = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            self.journal = Journal(self.fd, "front 1")

        def lines(self) -> list[str]:
            return [line.split("a.cgi: ", 1)[1] for line in self.path.read_text().splitlines()]

    log = Log()
    yield log
    os.close(log.fd)


@pytest.fixture
def complaints(log: Any) -> Make:
    def make(stderr: Callable[[bytes], bool] | None = None) -> Complaints:
        return Complaints(log.journal, "a.cgi", request(stderr))

    return make


def test_lines_are_logged_whole_with_the_request(log: Any, complaints: Make) -> None:
    said = complaints()
    for piece in (b"on", b"e\ntwo\r\n\nth", b"ree"):
        said.feed(piece)
    assert log.lines() == ["one", "two"]
    said.finish()
    assert log.lines() == ["one", "two", "three"]
    assert "[0a1b2c]" in log.path.read_text()


def test_peer_gets_each_piece_as_it_comes_and_nothing_is_logged(log: Any, complaints: Make) -> None:
    peer = Peer(logged=False)
    said = complaints(peer)
    said.feed(b"on")
    assert peer.taken == [b"on"]
    said.feed(b"e\ntw")
    assert peer.taken == [b"on", b"e\ntw"]
    said.finish()
    assert log.lines() == []
    assert said.told == "one\ntw"


def test_both_get_it(log: Any, complaints: Make) -> None:
    peer = Peer(logged=True)
    said = complaints(peer)
    said.feed(b"one\ntw")
    said.finish()
    assert peer.taken == [b"one\ntw"]
    assert log.lines() == ["one", "tw"]


def test_peer_that_is_gone_leaves_the_rest_to_the_log(log: Any, complaints: Make) -> None:
    peer = Peer(logged=False)
    said = complaints(peer)
    said.feed(b"one\n")
    peer.logged = True
    said.feed(b"two\n")
    assert log.lines() == ["two"]
    assert said.told == "one\ntwo\n"


@pytest.mark.parametrize("stderr", [None, Peer(logged=False), Peer(logged=True)])
def test_only_the_last_is_remembered(complaints: Make, stderr: Peer | None) -> None:
    said = complaints(stderr)
    for _ in range(10):
        said.feed(b"x" * TOLD_MAX)
    said.feed(b"end")
    assert said.told == "x" * (TOLD_MAX - 3) + "end"


def test_lines_without_end_are_counted(log: Any, complaints: Make) -> None:
    said = complaints()
    said.feed(b"x\n" * (LINES_MAX + 5))
    said.finish()
    assert len(log.lines()) == LINES_MAX + 1
    assert log.lines()[-1] == "(5 more lines were not logged)"
