"""How a process begins: the same by both ways to start one."""

import errno
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.process import spawn
from gateway.process.limits import Rlimit
from gateway.process.spawn import NoDirectory, heed_all_signals

SHOW = f"""#!{sys.executable} -SE
import os
print(os.getcwd(), os.environ["A"], os.getpgrp() == os.getpid(), os.get_blocking(1))
print(sum(int(line.split()[1], 16) for line in open("/proc/self/status")
      if line.startswith("SigBlk")))
"""


@pytest.fixture(params=[True, False], ids=["fork_exec", "posix_spawn"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spawn, "TRIED", request.param and spawn.TRIED)
    monkeypatch.chdir(tmp_path)  # and back at the end: one of the two changes ours


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open("/dev/null", os.O_RDWR)
    yield fd
    os.close(fd)


def start(path: Path, directory: Path, null: int, env: bytes = b"A=b") -> bytes:
    """Start `path`, and return what it says until it has ended well."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        name = os.fsencode(path)
        pid = spawn.spawn(name, (name,), [env], os.fsencode(directory), null, writer, null)
        os.close(writer)
        writer = -1
        assert os.waitpid(pid, 0)[1] == 0
        return os.read(reader, 4096)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.usefixtures("way")
def test_limits_are_those_of_programs_and_not_of_their_starter(
    tmp_path: Path, null: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawn, "_bounds", ())
    before = resource.getrlimit(resource.RLIMIT_FSIZE), resource.getrlimit(resource.RLIMIT_NOFILE)
    spawn.bound([Rlimit(resource.RLIMIT_FSIZE, 512, 1024), Rlimit(resource.RLIMIT_NOFILE, 30, 40)])
    shows = executable(tmp_path / "shows", "#!/bin/sh\nulimit -Sf; ulimit -Sn\n")
    assert start(shows, tmp_path, null) == b"1\n30\n"  # blocks of 512 bytes
    text = "#!/bin/sh\nwhile [ `ulimit -Hf``ulimit -Hn` != 240 ]; do :; done\n"
    assert start(executable(tmp_path / "waits", text), tmp_path, null) == b""
    after = resource.getrlimit(resource.RLIMIT_FSIZE), resource.getrlimit(resource.RLIMIT_NOFILE)
    assert after == before
    with pytest.raises(OSError):
        start(tmp_path / "absent", tmp_path, null)
    after = resource.getrlimit(resource.RLIMIT_FSIZE), resource.getrlimit(resource.RLIMIT_NOFILE)
    assert after == before


@pytest.mark.usefixtures("way")
def test_process_has_its_directory_group_and_environment_and_no_signal_blocked(
    tmp_path: Path, null: int
) -> None:
    show = executable(tmp_path / "show", SHOW)
    (tmp_path / "sub").mkdir()
    said = start(show, tmp_path / "sub", null).decode()
    assert said == f"{tmp_path}/sub b True True\n0\n"


@pytest.mark.usefixtures("way")
def test_failure_says_what_failed_and_leaves_no_child(tmp_path: Path, null: int) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        start(tmp_path / "none", tmp_path, null)
    assert not isinstance(caught.value, NoDirectory)
    with pytest.raises(NoDirectory) as no_directory:
        start(Path("/bin/true"), tmp_path / "none", null)
    assert no_directory.value.errno == errno.ENOENT
    plain = tmp_path / "plain"
    plain.write_text("text")
    with pytest.raises(PermissionError):
        start(plain, tmp_path, null)
    plain.chmod(0o755)
    with pytest.raises(OSError, match="Exec format"):
        start(plain, tmp_path, null)
    with pytest.raises(ValueError, match="null byte"):
        start(plain, tmp_path, null, b"A=\0")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_ignored_signals_are_heeded_again() -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        heed_all_signals()
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR2, before)
