"""The master and the control groups of its keepers: made, ended with the keeper, and removed."""

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.daemon import groups
from gateway.process.cgroup import look
from gateway.process.cgroupfs import Kernel
from gateway.process.spec import Allowance
from tests.daemon.conftest import until

needs_groups = pytest.mark.skipif(
    os.getuid() != 0 or not {"memory", "processes"} <= look(Kernel()).found.keys(),
    reason="needs root, and control groups for memory and pids",
)

HERE = Path(__file__).resolve().parents[2]

ALLOWANCE = Allowance(memory=64 << 20, processes=20, cpu=1.0)
"""A keeper's of this file."""

OK = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nok'\n"
ESCAPES = """#!/bin/sh
setsid sh -c 'setsid sleep 300 & echo $! > files/away; wait' &
while ! [ -s files/away ]; do :; done
echo $$ > files/pid
exec sleep 300
"""
HOG = "#!/bin/sh\nx=xxxxxxxx\nwhile :; do x=$x$x; done\n"


RUN = """
import sys
from dataclasses import replace
from gateway.config.load import load
from gateway.daemon import groups, master
from gateway.process.cgroupfs import Kernel
from gateway.process.spec import Allowance

class Without(Kernel):
    def read(self, path):
        lines = super().read(path).splitlines(True)
        hide = without if without and path.endswith("/mountinfo") else "no such line"
        return "".join(line for line in lines if hide not in line)

file, without = sys.argv[1:]
groups.Kernel = Without
plain, asked = master.keeper_spec, ALLOWANCE
master.keeper_spec = lambda *given: replace(plain(*given), allowance=asked)
sys.exit(master.run(load(file)))
""".replace("ALLOWANCE", repr(ALLOWANCE))
"""A daemon whose users have an allowance, on a host without one controller."""


class Daemon:
    """A master whose keepers have control groups. A process of its own: a keeper must be small."""

    def __init__(self, directory: Path, pid: int, port: int) -> None:
        self.directory = directory
        self.pid = pid
        self.port = port

    def script(self, name: str, text: str) -> None:
        path = self.directory / "htdocs" / name
        path.write_text(text)
        path.chmod(0o755)

    def ask(self, path: str) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), 20)
        client.sendall(b"GET %s HTTP/1.0\r\nHost: a\r\n\r\n" % path.encode())
        return client

    def get(self, path: str) -> bytes:
        with self.ask(path) as client:
            answer = b""
            while data := client.recv(65536):
                answer += data
        return answer

    def log(self) -> str:
        return (self.directory / "error.log").read_text()

    def file(self, name: str) -> int:
        path = self.directory / "htdocs/files" / name
        until(lambda: path.exists() and path.read_text().strip(), f"{name} is written")
        return int(path.read_text())

    def parents(self) -> list[Path]:
        name = f"gateway-{self.pid}"
        found = {each.directory for each, _ in look(Kernel()).found.values()}
        return [Path(each, name) for each in found if Path(each, name).exists()]

    def keepers(self) -> set[str]:
        return {
            each.name for parent in self.parents() for each in parent.iterdir() if each.is_dir()
        }

    def keeper(self) -> int:
        (path,) = {each for parent in self.parents() for each in parent.glob("*/pids.max")}
        text = (path.parent / "cgroup.procs").read_text()
        return min(int(word) for word in text.split())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        os.kill(self.pid, number)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def started() -> Iterator[Callable[..., Daemon]]:
    running: list[Daemon] = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "htdocs/files").mkdir(parents=True)
        (directory / "htdocs/files").chmod(0o777)
        directory.chmod(0o755)

        def start(without: str = "") -> Daemon:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                port = sock.getsockname()[1]
            (directory / "gateway.toml").write_text(
                f'[server]\nuser = "nobody"\nfronts = 1\nruntime = "{directory}/run"\n'
                f'[listen]\nhttp = ["127.0.0.1:{port}"]\n'
                f'[log]\naccess = "off"\nerror = "{directory}/error.log"\n'
                f'[limits]\ngrace = "1 s"\n'
                f'[[site]]\nroot = "{directory}/htdocs"\n'
                '[[site.route]]\nmatch = "*.cgi"\ncgi = true\nstart = "exec"\n'
                '[tenants]\nuserdir = "/home/*/public_html"\n'
            )
            pid = os.fork()
            if not pid:
                words = ["-c", RUN, str(directory / "gateway.toml"), without]
                os.execve(sys.executable, [sys.executable, *words], {"PYTHONPATH": str(HERE)})
            running.append(Daemon(directory, pid, port))
            until(lambda: _listens(port), "it listens")
            return running[-1]

        yield start
        for each in running:
            try:
                os.kill(each.pid, signal.SIGKILL)
                os.waitpid(each.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass  # the test has stopped it


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def gone(pid: int) -> Callable[[], bool]:
    return lambda: not Path(f"/proc/{pid}").exists()


@needs_groups
def test_keeper_is_in_a_group_and_nothing_is_left_when_the_daemon_leaves(
    started: Callable[[], Daemon],
) -> None:
    daemon = started()
    daemon.script(
        "ok.cgi", "#!/bin/sh\necho Content-Type: text/plain\necho\ncat /proc/self/cgroup\n"
    )
    answer = daemon.get("/ok.cgi").decode()
    assert f"/gateway-{daemon.pid}/nobody-1\n" in answer
    assert daemon.keepers() == {"nobody-1"}
    memory = [parent / "nobody-1" for parent in daemon.parents()]
    values = {
        file.read_text().strip()
        for path in memory
        for name in ("memory.limit_in_bytes", "memory.max")
        if (file := path / name).exists()
    }
    assert values == {str(64 << 20)}
    assert daemon.stop() == 0
    assert daemon.parents() == []


@needs_groups
def test_killed_keeper_leaves_no_process_even_one_that_hid_in_a_session(
    started: Callable[[], Daemon],
) -> None:
    daemon = started()
    daemon.script("escapes.cgi", ESCAPES)
    daemon.script("ok.cgi", OK)
    with daemon.ask("/escapes.cgi"):
        pids = [daemon.file("pid"), daemon.file("away")]
        assert not any(gone(pid)() for pid in pids)
        os.kill(daemon.keeper(), signal.SIGKILL)
        for pid in pids:
            until(gone(pid), f"{pid} is gone")
    assert daemon.get("/ok.cgi").endswith(b"ok")
    until(lambda: daemon.keepers() == {"nobody-2"}, "the first keeper's groups are removed")
    assert daemon.stop() == 0
    assert daemon.parents() == []


@needs_groups
def test_front_is_told_which_limit_killed_the_script(started: Callable[[], Daemon]) -> None:
    daemon = started()
    daemon.script("hog.cgi", HOG)
    assert daemon.get("/hog.cgi").startswith(b"HTTP/1.1 502 ")
    until(lambda: "hog.cgi: " in daemon.log(), "the front has said it")
    assert "killed by its memory limit (64 MiB)" in daemon.log()
    assert "fault memory: script hog.cgi" in daemon.log()
    assert "or by hand" not in daemon.log()
    assert daemon.stop() == 0


@needs_groups
def test_groups_of_a_killed_daemon_are_removed_by_the_next_one(
    started: Callable[[], Daemon],
) -> None:
    first = started()
    first.script("ok.cgi", OK)
    assert first.get("/ok.cgi").endswith(b"ok")
    keeper = first.keeper()
    first.stop(signal.SIGKILL)
    until(gone(keeper), "the keeper follows its master")
    assert first.keepers() <= {"nobody-1"}  # another daemon of the tests may have removed it
    second = started()
    until(lambda: not first.parents(), "the next one removes them")
    assert second.stop() == 0


@needs_groups
@pytest.mark.skipif(
    not os.path.isdir("/sys/fs/cgroup/blkio"), reason="needs the blkio controller of version 1"
)
def test_what_cannot_be_held_is_said_once_at_the_start(
    started: Callable[..., Daemon],
) -> None:
    daemon = started("blkio")
    daemon.script("ok.cgi", OK)
    assert daemon.get("/ok.cgi").endswith(b"ok")
    lines = [line for line in daemon.log().splitlines() if "[tenants] " in line]
    assert len(lines) == 1
    assert " warn master [tenants] io_weight: " in lines[0]
    assert daemon.stop() == 0


def test_check_says_what_holds_each_limit_and_what_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Bare(Kernel):
        """A host without control groups."""

        def read(self, path: str) -> str:
            return "" if path.startswith("/proc/self/") else super().read(path)

    asked = Allowance(memory=1 << 20, cpu=1.0, processes=5, io_weight=100)
    monkeypatch.setattr(groups, "Kernel", Bare)
    assert groups.summary(asked) == ["memory_high: no control groups are mounted here"] + [
        f"{limit}: no control groups are mounted here; {instead}"
        for limit, instead in (
            ("memory", "RLIMIT_DATA holds for each process only"),
            ("cpu", "it is not limited"),
            ("processes", "RLIMIT_NPROC holds for the account as a whole"),
            ("io_weight", "it is not set"),
            ("ending all at once", "processes are found by their parents"),
        )
    ]


@needs_groups
def test_check_names_the_files_of_this_host() -> None:
    lines = groups.summary(ALLOWANCE)
    assert any(line.startswith("memory by memory.") for line in lines)
    assert any(line.startswith("processes by pids.max (cgroup v") for line in lines)
