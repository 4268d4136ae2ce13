"""A warm Perl against a Perl that is executed: the same script, both ways, must look the same.

The probes in probes/perl print what a script can see. What differs and cannot be helped is listed
at the head of zygote.pm, and is left out of the comparison in `without_differences` and nowhere
else.
"""

import os
import re
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fcntl import F_DUPFD, fcntl
from pathlib import Path
from select import select

import pytest

import gateway.guests
from gateway.process.spawn import heed_all_signals, spawn

PATIENCE = 20.0
"""Seconds after which what does not come is a failure."""

GUESTS = Path(gateway.guests.__file__).parent
PROBES = Path(__file__).parent / "probes" / "perl"

MAIN = "/dev/" + "./" * 500 + "null"
"""The main program of a zygote: a name with room for that of a script."""

SYSTEM_PERL = shutil.which("perl")
PERLS = [
    SYSTEM_PERL or "/usr/bin/perl",
    *(str(path) for path in sorted(Path.home().glob(".plenv/versions/*/bin/perl"))),
    *(str(path) for path in sorted(Path.home().glob("perl5/perlbrew/perls/*/bin/perl"))),
    *(str(path) for path in sorted(Path("/opt").glob("perl*/bin/perl"))),
]

BASE = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "America/New_York"}
REQUEST = {
    "QUERY_STRING": "a=1&b=2",
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "/probe.pl",
    "GATEWAY_INTERFACE": "CGI/1.1",
    "EMPTY": "",
    "HTTP_X": "é ü=x",
}
PRELOADED = ["CGI", "POSIX", "Encode", "Data::Dumper", "File::Temp", "HTML::Entities", "IO::File"]
WAYS = """exit-0 exit-7 exit-256 die die-line die-errno die-object cycle die-status die-eval
die-handler warn-handler kill term abrt pipe exec exec-fail fork _exit closed undef sub confess
croak string-eval goto method require do alarm dump changed begin-exit begin-die none""".split()


@dataclass
class Ended:
    """What came of a script: what it wrote and its wait status."""

    stdout: bytes
    stderr: bytes
    status: int


def without_differences(ended: Ended) -> Ended:
    """Leave out what a script can see and what cannot be helped: see the head of zygote.pm."""
    numbers = re.compile(rb"\(eval \d+\)")  # counted from the first of the zygote
    return Ended(
        numbers.sub(b"(eval N)", ended.stdout),
        numbers.sub(b"(eval N)", ended.stderr),
        ended.status,
    )


@dataclass
class Zygote:
    """A zygote as its keeper has it."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    environment: dict[str, str]
    orders: int = 0
    aside: list[bytes] = field(default_factory=list)
    """Messages that came while another was waited for."""

    def take(self) -> bytes:
        return self.control.recv(1 << 18)

    def await_kind(self, *kinds: bytes) -> bytes:
        """Return the next message of one of `kinds`, those before it go aside."""
        while True:
            message = self.take()
            if message[:1] in kinds:
                return message
            assert message, f"the zygote has left; it said {self.aside}"
            self.aside.append(message)

    def preload(self, *names: str) -> None:
        self.control.send(b"P" + "\0".join(names).encode())

    def order(
        self, script: Path | str, fds: list[int], cwd: Path | str, environment: dict[str, str]
    ) -> int:
        """Order a script, return the order's number."""
        self.orders += 1
        block = b"\0".join(os.fsencode(f"{k}={v}") for k, v in environment.items())
        path, where = os.fsencode(script), os.fsencode(cwd)
        head = b"R" + struct.pack("<IHH", self.orders, len(path), len(where))
        socket.send_fds(self.control, [head + path + where + block], fds)
        return self.orders

    def run(
        self,
        script: Path | str,
        cwd: Path | str = "/",
        environment: dict[str, str] | None = None,
        stdin: bytes | int = b"",
    ) -> Ended:
        """Order a script and return what came of it. Fails when it is not started."""
        pipes = Pipes(stdin)
        self.order(script, pipes.theirs, cwd, {**self.environment, **(environment or {})})
        pipes.shut()
        stdout, stderr = pipes.drain()
        message = self.await_kind(b"X", b"F")
        assert message[:1] == b"X", message
        return Ended(stdout, stderr, struct.unpack_from("<i", message, 5)[0])

    def refused(self, script: Path | str, cwd: Path | str = "/", **more: str) -> str:
        """Order a script that is not to be started, return why it was not."""
        pipes = Pipes(b"")
        number = self.order(script, pipes.theirs, cwd, {**self.environment, **more})
        pipes.shut()
        assert pipes.drain() == (b"", b"")
        message = self.await_kind(b"F", b"S")
        assert message[:5] == b"F" + struct.pack("<I", number), message
        return message[5:].decode()

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident(self) -> int:
        """Return KiB of memory that are its own."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return sum(int(n) for n in re.findall(r"^(?:Private_\w+|Rss):\s+(\d+)", rollup, re.M))

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


class Pipes:
    """The three pipes of a script."""

    def __init__(self, stdin: bytes | int) -> None:
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        self.fed = b""
        self.feed = -1
        if isinstance(stdin, int):
            given = os.dup(stdin)
        else:
            given, self.feed = os.pipe()
            self.fed = stdin
        self.ours = [out, err]
        self.theirs = [given, out_end, err_end]

    def shut(self) -> None:
        for fd in self.theirs:
            os.close(fd)

    def drain(self) -> tuple[bytes, bytes]:
        """Write the input, return what comes from both outputs until their ends."""
        got = {fd: b"" for fd in self.ours}
        live = set(self.ours)
        while live or self.feed >= 0:
            ready, writable, _ = select(
                list(live), [self.feed] if self.feed >= 0 else [], [], PATIENCE
            )
            assert ready or writable, f"nothing came, until now {got}"
            if writable:
                self._write()
            for fd in ready:
                part = os.read(fd, 1 << 16)
                got[fd] += part
                if not part:
                    live.discard(fd)
                    os.close(fd)
        return got[self.ours[0]], got[self.ours[1]]

    def _write(self) -> None:
        try:
            self.fed = self.fed[os.write(self.feed, self.fed[:4096]) :] if self.fed else b""
        except BrokenPipeError:
            self.fed = b""
        if not self.fed:
            os.close(self.feed)
            self.feed = -1


def executed(
    argv: tuple[str, ...], cwd: Path, environment: dict[str, str], stdin: bytes | int
) -> Ended:
    """What comes of a script that is started as the keeper does without a zygote."""
    pipes = Pipes(stdin)
    entries = [os.fsencode(f"{k}={v}") for k, v in environment.items()]
    words = tuple(os.fsencode(word) for word in argv)
    pid = spawn(words[0], words, entries, os.fsencode(cwd), *pipes.theirs)
    pipes.shut()
    stdout, stderr = pipes.drain()
    return Ended(stdout, stderr, os.waitpid(pid, 0)[1])


Warm = Callable[..., Zygote]


@pytest.fixture(params=PERLS)
def perl(request: pytest.FixtureRequest) -> str:
    path = str(request.param)
    if not os.access(path, os.X_OK):
        pytest.skip(f"{path} is not installed")
    return path


@pytest.fixture
def warm(perl: str) -> Iterator[Warm]:
    """Return a function that starts zygotes, which are gone afterwards."""
    heed_all_signals()
    started: list[Zygote] = []

    def start(
        *flags: str,
        preload: list[str] | None = None,
        environment: dict[str, str] | None = None,
        user: int | None = None,
    ) -> Zygote:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE)
        environment = {**BASE, **(environment or {})}
        with theirs:
            number = fcntl(theirs.fileno(), F_DUPFD, 20)
        process = subprocess.Popen(
            [perl, *flags, "-I", str(GUESTS), f"-Mzygote={number}", MAIN],
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            pass_fds=(number,),
            user=user,
        )
        os.close(number)
        zygote = Zygote(process, ours, environment)
        started.append(zygote)
        assert zygote.take() == b"H" + struct.pack("<I", process.pid)
        if preload:
            zygote.preload(*preload)
        return zygote

    yield start
    for zygote in started:
        for pid in zygote.children() if zygote.process.poll() is None else []:
            os.kill(pid, signal.SIGKILL)
        zygote.control.close()
        zygote.process.wait(PATIENCE)


def script(directory: Path, text: str, name: str = "script.pl", flags: str = "") -> Path:
    path = directory / name
    path.write_text(f"#!{SYSTEM_PERL}{flags}\n{text}")
    path.chmod(0o755)
    return path


def both_ways(
    probe: str, way: str, perl: str, warm: Warm, directory: Path, preload: list[str] | None
) -> tuple[Ended, Ended]:
    """Run a probe executed and warm."""
    text = (PROBES / f"{probe}.pl").read_bytes()
    first, _, rest = text.partition(b"\n")
    words = first.decode(errors="replace").split() if first.startswith(b"#!") else []
    path = directory / f"{probe}.pl"
    if words:
        text = b" ".join([b"#!" + os.fsencode(perl), *map(str.encode, words[1:])]) + b"\n" + rest
    path.write_bytes(text)
    path.chmod(0o755)
    argv = (str(path),) if words else (perl, str(path))
    environment = {**BASE, **REQUEST, "QUERY_STRING": way}
    stdin = b"line 1\nline 2\n" if probe != "big" else os.urandom(300_000)
    old = executed(argv, directory, environment, stdin)
    zygote = warm(*words[1:], preload=preload)
    new = zygote.run(path, directory, {**REQUEST, "QUERY_STRING": way}, stdin)
    return without_differences(old), without_differences(new)


@pytest.mark.parametrize("preload", [None, PRELOADED], ids=["bare", "preloaded"])
@pytest.mark.parametrize(
    "probe",
    sorted(path.stem for path in PROBES.glob("*.pl") if path.stem not in ("endings", "random")),
)
def test_a_script_sees_the_same(
    probe: str, preload: list[str] | None, perl: str, warm: Warm, tmp_path: Path
) -> None:
    old, new = both_ways(probe, REQUEST["QUERY_STRING"], perl, warm, tmp_path, preload)
    assert old.stdout + old.stderr
    assert new == old


@pytest.mark.parametrize("way", WAYS)
def test_a_script_ends_the_same(way: str, perl: str, warm: Warm, tmp_path: Path) -> None:
    old, new = both_ways("endings", way, perl, warm, tmp_path, PRELOADED)
    assert old.stdout + old.stderr or old.status
    assert new == old
