"""A running daemon for a test, what the tests need from the system, and what must not be left.

Decides how a daemon is started and what counts as left behind: while one runs, this process is the
subreaper of its descendants (prctl(2), PR_SET_CHILD_SUBREAPER), so that whatever outlives its
parent becomes our child and is seen here, whatever session, group or environment it chose.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import requests

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]

DEADLINE = 30.0
"""Seconds that anything may take before a test gives up on it: generous, for a loaded machine."""

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h

PLACES = ("/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/lib/git-core")
"""Where programs are that are not on an ordinary user's PATH."""


# What the tests need from the system ----------------------------------------------------------


def find_program(name: str) -> str | None:
    """Return the absolute path of a program, also of one in a directory for root, or None."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(PLACES))


def answers(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def has_peer(name: str) -> bool:
    """Say whether a peer is there: "perl:CGI" a Perl module, "python:flask" a module of ours,
    "header:fcgiapp.h" a C header, "/a/path" a file, all else a program."""
    kind, _, rest = name.partition(":")
    if kind == "perl" and rest:
        return find_program("perl") is not None and answers("perl", f"-M{rest}", "-e", "1")
    if kind == "python":
        return answers(sys.executable, "-c", f"import {rest}")
    if kind == "header":
        return any(Path(place, rest).exists() for place in ("/usr/include", "/usr/local/include"))
    if name.startswith("/"):
        return Path(name).exists()
    return find_program(name) is not None


_known: dict[str, bool] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "peer(*names): skip by name where one of these is missing")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("peer"):
        for name in marker.args:
            if name not in _known:
                _known[name] = has_peer(name)
            if not _known[name]:
                pytest.skip(f"peer missing: {name}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line how many tests were skipped for want of a peer, and which peers."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        why = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        _, found, name = why.partition("peer missing: ")
        if found:
            reasons[name] += 1
    if reasons:
        names = ", ".join(f"{name} ({count})" for name, count in sorted(reasons.items()))
        terminalreporter.write_line(
            f"peers: {sum(reasons.values())} tests skipped, missing: {names}", yellow=True
        )


# Processes ------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """Poll until `condition()` is true and return what it returned; fail with `what` if never."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"after {deadline:g} s still not: {what}")
        time.sleep(0.01)


def parents() -> dict[int, tuple[int, str]]:
    """Return every process of the system: its parent and its state letter (proc(5))."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text(errors="replace")
            except OSError:
                continue  # gone meanwhile
            state, parent = stat.rpartition(")")[2].split()[:2]
            found[int(entry)] = (int(parent), state)
    return found


def descendants(pid: int) -> set[int]:
    """Return the living processes below `pid`, at any depth; zombies do not count as living."""
    table = parents()
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for child, (parent, _) in table.items() if parent in new} - found
        found |= new
    return {child for child in found if table[child][1] not in "ZX"}


def command_line(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "(gone)"


def reap_strays(known: set[int]) -> None:
    """Collect the exit status of processes that were handed to us by the kernel."""
    for pid, (parent, state) in parents().items():
        if parent == os.getpid() and state == "Z" and pid not in known:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass  # the subprocess module was faster


# The daemon -----------------------------------------------------------------------------------


class Daemon:
    """One running `gateway run`, seen from outside."""

    def __init__(self, directory: Path, settings: str, fronts: int, listen: str) -> None:
        self.directory = directory
        # Unix socket paths hold 107 bytes, and pytest's directories are long.
        self.runtime = Path(tempfile.mkdtemp(prefix="gw-"))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.file = directory / "gateway.toml"
        self.file.write_text(self._head(fronts, listen) + settings)
        self._out = (directory / "daemon.out").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "run", "-c", str(self.file)],
            cwd=REPOSITORY,  # so that `-m` finds this checkout
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.master = self.process.pid

    def _head(self, fronts: int, listen: str) -> str:
        return (
            f'[server]\nfronts = {fronts}\nruntime = "{self.runtime}"\n'
            f'[listen]\nhttp = ["127.0.0.1:{self.port}", "unix:{self.runtime}/http.sock"]\n'
            f"{listen}\n"
            '[log]\naccess = "access.log"\nerror = "error.log"\n'
        )

    def _read(self, name: str) -> str:
        file = self.directory / name
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def log(self) -> str:
        """The error log, and whatever the daemon wrote beside it."""
        return self._read("error.log") + self._read("daemon.out")

    @property
    def access(self) -> str:
        return self._read("access.log")

    def started(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"the daemon ended with {self.process.returncode}:\n{self.log}")
        # A connection alone says little: the kernel takes it before anybody is there to answer.
        try:
            with self.connect() as connection:
                connection.sendall(b"GET /-started HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return bool(connection.recv(1))
        except OSError:
            return False

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)

    def raw(self, sent: bytes) -> bytes:
        """Send bytes on a new connection and return all that comes until the other side closes."""
        with self.connect() as connection:
            connection.sendall(sent)
            pieces = []
            while piece := connection.recv(65536):
                pieces.append(piece)
        return b"".join(pieces)

    def get(self, path: str, **more: object) -> requests.Response:
        return self.request("GET", path, **more)

    def request(self, method: str, path: str, **more: object) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False  # no proxy of the machine's environment
            more.setdefault("timeout", DEADLINE)
            return session.request(method, self.url + path, **more)  # type: ignore[arg-type]

    def processes(self) -> set[int]:
        """Everything that runs below the master."""
        return descendants(self.master)

    def keeper(self, script: int) -> int:
        """Return the process that started `script`: the master's child above it."""
        table = parents()
        pid = script
        while table[pid][0] != self.master:
            pid = table[pid][0]
        return pid

    def fronts(self, keeper: int) -> set[int]:
        """Return the master's other children."""
        table = parents()
        return {
            pid for pid, (parent, state) in table.items()
            if parent == self.master and pid != keeper and state != "Z"
        }  # fmt: skip

    def stop(self) -> int:
        """Send TERM, wait, and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"TERM did not stop the daemon in {DEADLINE:g} s")

    def close(self, before: set[int]) -> set[str]:
        """End it by all means; return the command lines of what had outlived it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        end = time.monotonic() + DEADLINE
        while True:
            reap_strays({self.master})
            left = descendants(os.getpid()) - before
            if not left or time.monotonic() > end:
                break
            time.sleep(0.01)
        lines = {f"{pid} {command_line(pid)}" for pid in left}
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._out.close()
        shutil.rmtree(self.runtime, ignore_errors=True)
        return lines


@contextmanager
def running(base: Path) -> Iterator[Callable[..., Daemon]]:
    """Give `start(settings, fronts=1, listen="")`, which starts a daemon with these settings,
    [server], [listen] and [log] apart; `listen` is for more lines in [listen]. At the end each is
    stopped, and nothing of it may be left."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    before = descendants(os.getpid())
    daemons: list[Daemon] = []

    def start(settings: str, *, fronts: int = 1, listen: str = "") -> Daemon:
        directory = base / f"daemon-{len(daemons)}"
        directory.mkdir()
        daemon = Daemon(directory, settings, fronts, listen)
        daemons.append(daemon)
        wait_until(daemon.started, "the daemon answers")
        return daemon

    prctl(SUBREAPER, 1, 0, 0, 0)
    statuses, left, logs = [], set(), ""
    try:
        yield start
    finally:
        for daemon in daemons:
            killed = daemon.process.poll() == -signal.SIGKILL  # by the test itself
            statuses.append(0 if killed else daemon.stop())
        for daemon in daemons:
            left |= daemon.close(before)
            logs += daemon.log
        prctl(SUBREAPER, 0, 0, 0, 0)
        print(f"--- the daemon's log ---\n{logs}")  # pytest shows it for a test that failed
    assert not left, f"left behind: {left}"
    assert all(status == 0 for status in statuses), f"the daemon ended with {statuses}"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Give `gateway(settings, fronts=1, listen="")`: a daemon for this test alone."""
    with running(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Daemon]]:
    """The same, for all tests of a module."""
    with running(tmp_path_factory.mktemp("shared")) as start:
        yield start


# Small things that many tests need -------------------------------------------------------------


@pytest.fixture
def poll() -> Callable[..., object]:
    """Give `wait_until`."""
    return wait_until


@pytest.fixture
def program() -> Callable[[str], str]:
    """Give a function that finds a program that a `peer` marker has promised."""

    def find(name: str) -> str:
        path = find_program(name)
        assert path is not None, name
        return path

    return find


@pytest.fixture
def alive() -> Callable[[int], bool]:
    """Give a function that says whether a process lives; a zombie does not."""

    def living(pid: int) -> bool:
        return parents().get(pid, (0, "X"))[1] not in "ZX"

    return living


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty document root."""
    path = tmp_path / "htdocs"
    path.mkdir()
    return path


@pytest.fixture
def script(root: Path) -> Callable[..., Path]:
    """Give `script(name, text, mode=0o755)`: write a file below the document root."""

    def write(name: str, text: str | bytes, mode: int = 0o755) -> Path:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def start() -> str:
    """How scripts are started; a module whose tests are to run in both modes has its own."""
    return "auto"


@pytest.fixture
def site(root: Path, start: str) -> str:
    """Settings of a site that serves `root`, with *.cgi as scripts."""
    return (
        f'[[site]]\nhosts = ["localhost"]\nroot = "{root}"\n'
        f'[[site.route]]\nmatch = "*.cgi"\ncgi = true\nstart = "{start}"\n'
    )
