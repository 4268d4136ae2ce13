"""Access records: their form, that none can be forged, that whole lines are written."""

import json
import os
import re
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.exchange import NO_BODY, Headers, Limits, Notes, Request
from gateway.listeners.accesslog import FLUSH_AT, AccessLog, Format

COMBINED = re.compile(
    r'(?P<remote>\S+) - - \[(?P<stamp>[^]]+)\] "(?P<line>(?:[^"\\]|\\x[0-9a-f]{2})*)" '
    r'(?P<status>\d{3}) (?P<sent>\d+|-) "(?P<referer>(?:[^"\\]|\\x[0-9a-f]{2})*)" '
    r'"(?P<agent>(?:[^"\\]|\\x[0-9a-f]{2})*)" (?P<more>\S+=\S+(?: \S+=\S+)*)\n'
)
"""Any Apache-combined parser's view, stricter."""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    path = tmp_path / "access.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield fd, path
    os.close(fd)


def request(
    target: bytes = b"/a?b=c",
    headers: Headers = ((b"user-agent", b"curl/8.5"),),
    *,
    notes: Notes | None = None,
    remote: str = "192.0.2.1",
) -> Request:
    return Request(
        id="66f1-1",
        method="GET",
        target=target,
        path=target,
        query=b"",
        protocol=b"HTTP/1.1",
        headers=headers,
        host=b"example.org",
        scheme=b"http",
        remote=(remote, 4242),
        local=("192.0.2.9", 80),
        body=NO_BODY,
        length=0,
        notes=notes or Notes(Limits()),
    )


def line_of(asked: Request, status: int = 200, sent: int = 512, form: Format = "combined") -> str:
    """Return the one line that a record becomes."""
    read, write = os.pipe()
    try:
        log = AccessLog(write, form)
        log.record(asked, status, sent, 0.25)
        log.flush()
        return os.read(read, 1 << 20).decode("ascii")
    finally:
        os.close(read)
        os.close(write)


def test_combined_line_reads_as_apache_writes_it() -> None:
    headers = ((b"host", b"x"), (b"referer", b"http://a/"), (b"user-agent", b"Mozilla/5.0 (X11)"))
    found = COMBINED.fullmatch(line_of(request(headers=headers)))
    assert found is not None
    assert found["remote"] == "192.0.2.1"
    assert found["line"] == "GET /a?b=c HTTP/1.1"
    assert (found["status"], found["sent"]) == ("200", "512")
    assert (found["referer"], found["agent"]) == ("http://a/", "Mozilla/5.0 (X11)")
    assert found["more"] == "id=66f1-1 time=0.250000"
    stamp = time.mktime(time.strptime(found["stamp"][:20], "%d/%b/%Y:%H:%M:%S"))
    assert abs(time.time() - stamp) < 120
    assert re.fullmatch(r"[+-]\d{4}", found["stamp"][21:])


def test_what_is_not_known_is_a_dash() -> None:
    found = COMBINED.fullmatch(line_of(request(headers=(), remote=""), status=0, sent=0))
    assert found is not None
    assert (found["remote"], found["referer"], found["agent"]) == ("-", "-", "-")
    assert (found["status"], found["sent"]) == ("000", "-")


def test_script_and_its_process_are_named() -> None:
    notes = Notes(Limits())
    notes.site, notes.route, notes.script = "example.org", "0/2", "/cgi-bin/my script.py"
    notes.exit_status, notes.cpu, notes.memory = -9, 0.0314, 9_437_184
    assert line_of(request(notes=notes)).endswith(
        " id=66f1-1 time=0.250000 site=example.org route=0/2 script=/cgi-bin/my\\x20script.py"
        " exit=-9 cpu=0.031 mem=9437184\n"
    )


@pytest.mark.parametrize("form", ["combined", "json"])
@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60), st.text(max_size=20))
@settings(max_examples=150, deadline=None)
def test_no_bytes_from_outside_forge_a_line(
    form: Format, target: bytes, referer: bytes, agent: bytes, script: str
) -> None:
    notes = Notes(Limits())
    notes.script = script
    headers = ((b"referer", referer), (b"user-agent", agent))
    line = line_of(request(target, headers, notes=notes), form=form)
    assert re.fullmatch(r"[ -~]+\n", line)
    if form == "combined":
        assert COMBINED.fullmatch(line)
    else:
        assert json.loads(line)["script" if script else "id"] in (script, "66f1-1")


def test_quotes_backslashes_and_controls_are_written_out() -> None:
    line = line_of(request(b'/"\\\x1b\xff', ((b"user-agent", b'a" 200 1 "\n'),)))
    assert '"GET /\\x22\\x5c\\x1b\\xff HTTP/1.1"' in line
    assert '"a\\x22 200 1 \\x22\\x0a"' in line


def test_json_line_has_the_same_facts() -> None:
    notes = Notes(Limits())
    notes.site, notes.route, notes.script, notes.exit_status = "s", "1", "/x.cgi", 0
    headers = ((b"referer", b"http://a/"), (b"user-agent", "grüße\x7f".encode()))
    line = line_of(request(headers=headers, notes=notes), form="json")
    record = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("time"))
    assert "\x7f" not in line
    assert record == {
        "id": "66f1-1", "remote": "192.0.2.1", "method": "GET", "host": "example.org",
        "target": "/a?b=c", "protocol": "HTTP/1.1", "status": 200, "sent": 512,
        "duration": 0.25, "referer": "http://a/", "agent": "grüße\x7f", "site": "s", "route": "1",
        "script": "/x.cgi", "exit": 0, "cpu": 0.0, "memory": 0,
    }  # fmt: skip


def test_flush_is_asked_for_once_a_turn(file: tuple[int, Path]) -> None:
    fd, path = file
    asked: list[Callable[[], None]] = []
    log = AccessLog(fd, soon=asked.append)
    log.record(request(), 200, 1, 0.1)
    log.record(request(), 200, 2, 0.1)
    assert len(asked) == 1
    assert path.read_bytes() == b""
    asked.pop()()
    assert path.read_bytes().count(b"\n") == 2
    log.record(request(), 200, 3, 0.1)
    assert len(asked) == 1


def test_much_is_written_without_being_asked(file: tuple[int, Path]) -> None:
    fd, path = file
    log = AccessLog(fd)
    long = request(b"/" + b"x" * 5000)
    for _ in range(30):
        log.record(long, 200, 1, 0.1)
    written = path.read_bytes()
    assert len(written) > FLUSH_AT
    assert written.endswith(b"\n")
    log.flush()
    assert path.read_bytes().count(b"\n") == 30


def test_pipe_gets_whole_lines_in_pieces_that_do_not_mix() -> None:
    # A pipe in packet mode (O_DIRECT, pipe(2)) keeps each write apart.
    read, write = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
    try:
        log = AccessLog(write)
        for number in range(100):
            log.record(request(b"/" + b"x" * number), 200, 1, 0.1)
        log.flush()
        pieces = []
        while select.select([read], [], [], 0)[0]:
            pieces.append(os.read(read, 1 << 16))
    finally:
        os.close(read)
        os.close(write)
    assert len(pieces) > 1
    assert all(piece.endswith(b"\n") and len(piece) <= select.PIPE_BUF for piece in pieces)
    assert sum(piece.count(b"\n") for piece in pieces) == 100


def test_full_disk_does_not_stop_the_server() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        log = AccessLog(fd)
        log.record(request(), 200, 1, 0.1)
        log.flush()
        log.record(request(), 200, 1, 0.1)
        log.flush()
    finally:
        os.close(fd)
