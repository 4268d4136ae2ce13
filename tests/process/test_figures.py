"""Figures in a memory file: nobody can change them, and nobody is waited for."""

import fcntl
import json
import os
import tempfile

import pytest

from gateway.process.figures import sealed, unsealed


def test_what_was_sealed_is_read() -> None:
    figures = {"running": 3, "pools": [{"name": "ä", "down": ""}]}
    fd = sealed(figures)
    try:
        assert unsealed(fd) == figures
        assert unsealed(fd) == figures
    finally:
        os.close(fd)


def test_sealed_figures_cannot_be_changed() -> None:
    fd = sealed({"running": 3})
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 1)
    finally:
        os.close(fd)


def test_pipe_is_refused_and_not_waited_for() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(ValueError, match="cannot be read"):
            unsealed(reader)
    finally:
        os.close(reader)
        os.close(writer)


def test_ordinary_file_is_refused() -> None:
    with tempfile.TemporaryFile(dir="/") as file:
        file.write(b"{}")
        file.flush()
        with pytest.raises(ValueError, match=r"cannot be read|may still change"):
            unsealed(file.fileno())


def _memory(data: bytes, *, seal: bool = True) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    if seal:
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "Expecting value"),
        (b"[1]", "no table"),
        (b"{", "Expecting"),
        (b"\xff\xfe{}", "codec|Expecting|UTF"),
        (b"[" * 100_000, "too deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
    ],
)
def test_what_is_no_figures_is_refused(data: bytes, why: str) -> None:
    fd = _memory(data)
    try:
        with pytest.raises(ValueError, match=why):
            unsealed(fd)
    finally:
        os.close(fd)


def test_figures_that_may_change_are_refused() -> None:
    fd = _memory(json.dumps({"a": 1}).encode(), seal=False)
    try:
        with pytest.raises(ValueError, match="may still change"):
            unsealed(fd)
    finally:
        os.close(fd)


def test_more_than_is_wanted_is_not_read() -> None:
    fd = sealed({"a": "x" * 1000})
    try:
        with pytest.raises(ValueError, match="of 10"):
            unsealed(fd, 500)
    finally:
        os.close(fd)
