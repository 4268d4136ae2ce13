"""Landlock alone, on the real kernel: what may be changed, and what goes on working."""

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.process import kernel, landlock

VERSION = kernel.landlock_version()

with_landlock = pytest.mark.skipif(
    VERSION < landlock.ENOUGH, reason=f"this kernel's Landlock is version {VERSION}"
)
with_scopes = pytest.mark.skipif(
    VERSION < 6, reason=f"this kernel's Landlock is version {VERSION}, which closes no sockets"
)


def locked(own: Path, look: Callable[[], Any]) -> Any:
    """Return what `look` sees in a process that may write below `own` only."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.dup2(writer, 1)
            kernel.no_new_rights()
            directories = [os.open(path, os.O_PATH) for path in (own, "/dev", "/proc")]
            landlock.restrict(directories[:1], directories[1:])
            os.write(writer, json.dumps(look()).encode())
        except BaseException as error:
            os.write(writer, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = json.loads(file.read())
    os.waitpid(pid, 0)
    return answer


def tried(deed: Callable[[], object]) -> str:
    try:
        deed()
    except OSError as error:
        return type(error).__name__
    return "done"


@with_landlock
def test_everything_may_be_changed_inside_and_nothing_outside(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    for place in (own, other):
        (place / "sub").mkdir(parents=True)
        (place / "file").write_text("text")

    def deeds(place: Path) -> list[str]:
        with socket.socket(socket.AF_UNIX) as sock:
            return [
                tried(lambda: (place / "file").write_text("other")),
                tried(lambda: os.truncate(place / "file", 1)),
                tried(lambda: (place / "new").touch()),
                tried(lambda: (place / "directory").mkdir()),
                tried(lambda: os.mkfifo(place / "fifo")),
                tried(lambda: (place / "link").symlink_to("/")),
                tried(lambda: sock.bind(os.fsencode(place / "socket"))),
                tried(lambda: os.rename(place / "file", place / "sub/file")),
                tried(lambda: os.rmdir(place / "sub")),
                tried(lambda: os.unlink(place / "file")),
            ]

    inside, outside = locked(own, lambda: [deeds(own), deeds(other)])
    # The last two: a directory that is not empty, and a file that was renamed.
    assert inside == ["done"] * 8 + ["OSError", "FileNotFoundError"]
    truncated = "PermissionError" if VERSION >= 3 else "done"
    assert outside[:2] == ["PermissionError", truncated]
    # A rename out of reach is EXDEV, for which programs copy.
    assert set(outside[2:7] + outside[8:]) == {"PermissionError"}
    assert outside[7] in ("PermissionError", "OSError")


@with_landlock
def test_devices_pipes_and_reading_go_on_working(tmp_path: Path) -> None:
    def look() -> list[str]:
        def write(path: str) -> None:
            with open(path, "wb", buffering=0) as file:
                file.write(b"")

        return [
            tried(lambda: write("/dev/null")),
            tried(lambda: write("/dev/stdout")),
            tried(lambda: write("/proc/self/comm")),
            tried(lambda: Path("/etc/passwd").read_text()),
            tried(lambda: subprocess.run(["/bin/true"], check=True)),
        ]

    assert locked(tmp_path, look) == ["done"] * 5


@with_scopes
def test_abstract_sockets_and_processes_outside_are_out_of_reach(tmp_path: Path) -> None:
    outside = os.getpid()
    name = f"\0gateway-test-{outside}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()

        def look() -> list[str]:
            with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as own:
                own.bind(name + "-own")
                own.listen()
                return [
                    tried(lambda: sock.connect(name)),
                    tried(lambda: os.kill(outside, 0)),
                    tried(lambda: os.kill(os.getpid(), 0)),
                    tried(lambda: os.readlink(f"/proc/{outside}/root")),
                    tried(lambda: sock.connect(name + "-own")),
                ]

        assert locked(tmp_path, look) == [
            "PermissionError", "PermissionError", "done", "PermissionError", "done",
        ]  # fmt: skip


@with_landlock
def test_there_is_no_way_back(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "other").mkdir()

    def look() -> str:
        directory = os.open(tmp_path / "other", os.O_PATH)
        landlock.restrict([directory], [])
        return tried((tmp_path / "other/file").touch)

    assert locked(tmp_path / "own", look) == "PermissionError"


@pytest.mark.parametrize("version", range(8))
def test_each_version_is_asked_for_what_it_knows(version: int) -> None:
    truncate = 1 << 14
    assert bool(landlock.rights(version) & truncate) is (version >= 3)
    assert landlock.rights(version) < (1 << 15)
    assert ("without" in landlock.describe(version)) is (version < landlock.ENOUGH)
    assert ("sockets" in landlock.describe(version)) is (version >= 6)


def test_kernel_without_the_call_is_version_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_LANDLOCK_CREATE_RULESET", 9999)  # a call that no kernel has
    assert kernel.landlock_version() == 0
    landlock.restrict([], [])  # no failure: the mounts are what holds
