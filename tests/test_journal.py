"""The error log: one line an event, whatever the bytes in it."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal import LINE_MAX, Journal, visible


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "error.log"


def write(log: Path, text: str | bytes, *, subject: str = "", request: str = "") -> str:
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        Journal(fd, "front 1").write("warn", text, subject=subject, request=request)
    finally:
        os.close(fd)
    return log.read_text(encoding="utf-8")


def test_line_has_time_level_process_request_subject_and_text(log: Path) -> None:
    line = write(log, "it failed", subject="/cgi-bin/a.py", request="a1-7")
    form = (
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warn front 1 \[a1-7\] /cgi-bin/a\.py: it failed\n"
    )
    assert re.fullmatch(form, line)


def test_line_without_request_and_subject_is_short(log: Path) -> None:
    assert write(log, "started").endswith("Z warn front 1 started\n")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\nb", "a\\x0ab"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("a\rb\tc\0", "a\\x0db\\x09c\\x00"),
        ("\x7f", "\\x7f"),
        ("grüße", "grüße"),
        (b"gr\xfc\xdfe", "gr\\xfc\\xdfe"),
        ("\udcff", "\\udcff"),
    ],
)
def test_control_characters_are_written_out(raw: str | bytes, shown: str) -> None:
    assert visible(raw) == shown


@given(st.one_of(st.text(), st.binary()))
def test_any_text_becomes_one_line_that_can_be_encoded(raw: str | bytes) -> None:
    shown = visible(raw)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", shown)


def test_forged_line_stays_inside_its_own(log: Path) -> None:
    text = "x\n2025-01-01T00:00:00.000Z error master all is lost"
    assert write(log, text, subject="a\nb").count("\n") == 1


def test_long_line_is_cut_and_marked(log: Path) -> None:
    line = write(log, "x" * 100_000)
    assert len(line) == LINE_MAX + 1
    assert line.endswith("x [cut]\n")


def test_full_disk_does_not_stop_the_writer() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        Journal(fd, "front 1").write("error", "nowhere to go")
    finally:
        os.close(fd)
