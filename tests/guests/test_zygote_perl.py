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
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fcntl import F_DUPFD, fcntl
from functools import partial
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
WAYS = [*sorted(set(re.findall(r" eq '([\w-]+)'", (PROBES / "endings.pl").read_text()))), "none"]
FAILING = {"syntax_error", "many_errors", "no_module", "no_newline"}
"""Probes that are to end with an error."""


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
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2:
            with suppress(OSError):  # that of the listing is closed by now
                os.set_inheritable(fd, False)  # what these tests were started with is not meant
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
        processes: int | None = None,
    ) -> Zygote:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE)
        environment = {**BASE, **(environment or {})}
        with theirs:
            number = fcntl(theirs.fileno(), F_DUPFD, 20)
        limit = partial(resource.setrlimit, resource.RLIMIT_NPROC, (processes or 0,) * 2)
        process = subprocess.Popen(
            [perl, *flags, "-I", str(GUESTS), f"-Mzygote={number}", MAIN],
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            pass_fds=(number,),
            user=user,
            preexec_fn=limit if processes else None,
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
    os.utime(path, (1e9, 1e9))  # not of the second in which one of the two may begin (-M)
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
    assert old.stdout or old.status
    assert (old.status != 0) == (probe in FAILING)  # a probe that fails would show nothing
    assert new == old


@pytest.mark.parametrize("way", WAYS)
def test_a_script_ends_the_same(way: str, perl: str, warm: Warm, tmp_path: Path) -> None:
    old, new = both_ways("endings", way, perl, warm, tmp_path, PRELOADED)
    assert old.stdout + old.stderr or old.status
    assert new == old


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("-CS", "print chr 233, chr 256, ${^UNICODE}, length <STDIN>"),
        ("-l", "print 1; print 2; print ord $\\"),
        ("-n", 'print "got $_"; END { print $. }'),
        ("-p", "s/i/I/g"),
        ("-an", "print $F[1]"),
        ("-s", "print $x // 'none', qq{@ARGV}"),
        ("-0777", "print defined $/ ? 1 : 0, length <STDIN>"),
        ("-U", "print ${^TAINT}"),
        ("-MData::Dumper", "$x = 1; print Dumper(7)"),
        ("-c", "BEGIN { print 'begin' } print 'never'"),
    ],
)
def test_switches_mean_what_they_mean(
    flags: str, text: str, perl: str, warm: Warm, tmp_path: Path
) -> None:
    path = tmp_path / "switches.pl"
    path.write_text(f"#!{perl} {flags}\n{text};\n")
    path.chmod(0o755)
    old = executed((str(path),), tmp_path, BASE, b"line 1\nline 2\n")
    assert old.stdout + old.stderr
    assert warm(flags).run(path, tmp_path, stdin=b"line 1\nline 2\n") == old


@pytest.mark.parametrize(
    "setting",
    [{"PERL5OPT": "-w -MData::Dumper"}, {"PERL_UNICODE": "SA"}, {"PERL5LIB": "/opt:/srv"}],
    ids=str,
)
def test_settings_of_the_route_for_perl_hold(
    setting: dict[str, str], perl: str, warm: Warm, tmp_path: Path
) -> None:
    path = script(tmp_path, "print $^W, defined &Dumper, ${^UNICODE}, chr 233, qq{@INC}, %x = 1;")
    old = executed((perl, str(path)), tmp_path, {**BASE, **setting}, b"")
    assert warm(environment=setting).run(path, tmp_path) == old


@pytest.mark.skipif(not Path("/usr/lib/cgi-bin/gitweb.cgi").exists(), reason="needs gitweb")
def test_gitweb_answers_the_same(warm: Warm, perl: str, tmp_path: Path) -> None:
    gitweb = Path("/usr/lib/cgi-bin/gitweb.cgi")
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "one.git")], check=True)
    (tmp_path / "conf").write_text(f"$projectroot = '{tmp_path}'; 1;")
    environment = {**BASE, **REQUEST, "QUERY_STRING": "", "GITWEB_CONFIG": str(tmp_path / "conf")}
    old = executed((perl, str(gitweb)), tmp_path, environment, b"")
    zygote = warm(preload=PRELOADED)
    for _ in range(2):
        new = zygote.run(gitweb, tmp_path, environment)
        assert b"one.git" in new.stdout
        varying = re.compile(rb"generated in.*seconds|'[\d.]+ seconds|\d+\.\d+ s", re.I)
        assert varying.sub(b"", new.stdout) == varying.sub(b"", old.stdout)
        assert (new.stderr, new.status) == (old.stderr, old.status)


HELLO = "print qq{hello $ENV{QUERY_STRING}\\n};\n"


def test_what_is_not_flushed_and_the_place_in_a_file_of_input_are_kept(
    perl: str, warm: Warm, tmp_path: Path
) -> None:
    path = script(
        tmp_path, "print tell(STDIN), ' ', scalar(<STDIN>), tell(STDIN); read STDIN, $x, 3;"
    )
    body = tmp_path / "body"
    body.write_bytes(b"before\nfirst\nsecond\n")
    places = []
    for way in ("executed", "warm"):
        fd = os.open(body, os.O_RDONLY)
        os.lseek(fd, 7, os.SEEK_SET)
        if way == "executed":
            ended = executed((perl, str(path)), tmp_path, BASE, fd)
        else:
            ended = warm().run(path, stdin=fd)
        places.append((ended, os.lseek(fd, 0, os.SEEK_CUR)))
        os.close(fd)
    assert places[0][0].stdout == b"7 first\n13"
    assert places[0] == places[1]


@pytest.mark.parametrize("preload", [None, PRELOADED], ids=["bare", "preloaded"])
def test_random_numbers_and_process_ids_differ_between_orders(
    preload: list[str] | None, warm: Warm, tmp_path: Path
) -> None:
    zygote = warm(preload=preload)
    path = shutil.copy(PROBES / "random.pl", tmp_path)
    assert len({zygote.run(path).stdout for _ in range(10)}) == 10
    assert len({zygote.run(path).stdout.split()[0] for _ in range(10)}) == 10


def test_a_module_that_used_rand_does_not_give_all_scripts_the_same(
    warm: Warm, tmp_path: Path
) -> None:
    (tmp_path / "Rolls.pm").write_text("package Rolls; our $first = rand; 1;")
    zygote = warm("-I", str(tmp_path), preload=["Rolls"])
    path = script(tmp_path, "print rand;")
    assert len({zygote.run(path).stdout for _ in range(5)}) == 5


def test_nothing_of_the_environment_at_start_is_left(warm: Warm, tmp_path: Path) -> None:
    zygote = warm(environment={"AT_START": "1"})
    pipes = Pipes(b"")
    path = script(tmp_path, "$| = 1; print join ' ', sort keys %ENV; print `env`;")
    zygote.order(path, pipes.theirs, "/", {"LANG": "C.UTF-8", "ONLY": "this"})
    pipes.shut()
    stdout, stderr = pipes.drain()
    assert (stdout, stderr) == (b"LANG ONLYLANG=C.UTF-8\nONLY=this\n", b"")


def test_time_begins_with_the_order(warm: Warm, tmp_path: Path) -> None:
    zygote = warm()
    path = script(tmp_path, "print time - $^T")
    end = time.monotonic() + 2.5  # more than the second that the clock may go on by in a script
    while time.monotonic() < end:
        assert zygote.run(path).stdout in (b"0", b"1")


def test_a_module_that_is_preloaded_later_is_looked_for_as_well(warm: Warm, tmp_path: Path) -> None:
    (tmp_path / "CGI.pm").write_text("package CGI; print 'own'; 1;")
    path = script(tmp_path, f"use lib '{tmp_path}'; use CGI;")
    zygote = warm()
    assert zygote.run(path).stdout == b"own"
    zygote.preload("CGI")
    assert zygote.refused(path) == f"{tmp_path}/CGI.pm is before ours"


def test_an_edited_script_is_run_as_it_is_now(warm: Warm, tmp_path: Path) -> None:
    zygote = warm()
    for text in ("one", "two", "six"):
        assert zygote.run(script(tmp_path, f"print '{text}';")).stdout == text.encode()


def test_an_order_says_its_process_and_then_what_that_used(warm: Warm, tmp_path: Path) -> None:
    zygote = warm()
    path = script(tmp_path, "my $n; $n += $_ for 1 .. 3_000_000; print $$; exit 3")
    ended = zygote.run(path)
    pid = int(ended.stdout)
    assert zygote.aside == [b"S" + struct.pack("<II", 1, pid)]
    zygote.aside.clear()
    pipes = Pipes(b"")
    zygote.order(path, pipes.theirs, "/", BASE)
    pipes.shut()
    pipes.drain()
    ended = struct.unpack("<cIiQQQI", zygote.await_kind(b"X"))
    _, pid, status, user, system, resident, id = ended
    assert id == 2
    assert zygote.aside == [b"S" + struct.pack("<II", 2, pid)]
    assert os.waitstatus_to_exitcode(status) == 3
    assert 20_000 < user + system < 20_000_000  # microseconds
    assert 2_000 < resident < 200_000  # KiB


def test_the_process_has_its_own_group_when_it_is_told_of(warm: Warm, tmp_path: Path) -> None:
    zygote = warm()
    path = script(tmp_path, "system('sleep 60')")
    for _ in range(20):
        pipes = Pipes(b"")
        zygote.order(path, pipes.theirs, "/", BASE)
        pipes.shut()
        (pid,) = struct.unpack_from("<I", zygote.await_kind(b"S"), 5)
        os.killpg(pid, signal.SIGKILL)  # at once: there must be such a group
        assert pipes.drain() == (b"", b"")
        zygote.await_kind(b"X")
    assert not zygote.children()


def test_a_killed_script_is_reaped_and_said(warm: Warm, tmp_path: Path) -> None:
    zygote = warm()
    pipes = Pipes(b"")
    zygote.order(script(tmp_path, "sleep 60"), pipes.theirs, "/", BASE)
    pipes.shut()
    (pid,) = struct.unpack_from("<I", zygote.await_kind(b"S"), 5)
    os.kill(pid, signal.SIGKILL)
    message = zygote.await_kind(b"X")
    assert struct.unpack_from("<Ii", message, 1) == (pid, signal.SIGKILL)
    pipes.drain()
    assert zygote.run(script(tmp_path, HELLO)).stdout == b"hello \n"


def test_a_script_that_hangs_does_not_hold_others(warm: Warm, tmp_path: Path) -> None:
    zygote = warm()
    hanging = [Pipes(b"") for _ in range(2)]
    for pipes in hanging:
        zygote.order(
            script(tmp_path, "$| = 1; print 'x'; sleep 60", "h.pl"), pipes.theirs, "/", BASE
        )
        pipes.shut()
        assert os.read(pipes.ours[0], 10) == b"x"
    for n in range(3):
        ended = zygote.run(script(tmp_path, HELLO), environment={"QUERY_STRING": str(n)})
        assert ended.stdout == b"hello %d\n" % n
    assert len(zygote.children()) == 2
    for pid in zygote.children():
        os.kill(pid, signal.SIGTERM)
    for pipes in hanging:
        assert pipes.drain() == (b"", b"")


def test_many_at_once_get_each_their_own(warm: Warm, tmp_path: Path) -> None:
    zygote = warm(preload=["CGI"])
    path = script(tmp_path, "use CGI; print scalar CGI->new->param('n'), <STDIN>;")
    started = []
    for n in range(30):
        pipes = Pipes(b" input %d" % n)
        more = {"QUERY_STRING": f"n={n}", "REQUEST_METHOD": "GET"}
        zygote.order(path, pipes.theirs, "/", {**BASE, **more})
        pipes.shut()
        started.append(pipes)
    for n, pipes in enumerate(started):
        assert pipes.drain() == (b"%d input %d" % (n, n), b"")


def test_when_the_keeper_goes_the_zygote_leaves_and_the_script_ends_by_itself(
    warm: Warm, tmp_path: Path
) -> None:
    zygote = warm()
    pipes = Pipes(b"go on")
    zygote.order(script(tmp_path, "print 'read ', <STDIN>; exit 2"), pipes.theirs, "/", BASE)
    pipes.shut()
    zygote.await_kind(b"S")
    zygote.control.close()
    assert zygote.process.wait(PATIENCE) == 0
    assert pipes.drain() == (b"read go on", b"")


def test_it_leaves_when_asked_and_no_script_is_left(warm: Warm, tmp_path: Path) -> None:
    zygote = warm()
    pipes = Pipes(b"go on")
    zygote.order(script(tmp_path, "print <STDIN>"), pipes.theirs, "/", BASE)
    pipes.shut()
    zygote.await_kind(b"S")
    zygote.control.send(b"Q")
    assert zygote.process.poll() is None
    assert pipes.drain() == (b"go on", b"")
    zygote.await_kind(b"X")
    assert zygote.take() == b""
    assert zygote.process.wait(PATIENCE) == 0
    idle = warm()
    idle.control.send(b"Q")
    assert idle.process.wait(PATIENCE) == 0


def test_after_many_orders_nothing_is_left(warm: Warm, tmp_path: Path) -> None:
    zygote = warm(preload=PRELOADED)
    path = script(tmp_path, HELLO + "exit 1 if $ENV{QUERY_STRING} % 2; die if $$ % 3 == 0;")
    for n in range(20):
        zygote.run(path, environment={"QUERY_STRING": str(n)})
    descriptors, resident = zygote.descriptors(), zygote.resident()
    for n in range(300):
        ended = zygote.run(path, environment={"QUERY_STRING": str(n), "X": "y" * n * 100})
        assert ended.stdout == b"hello %d\n" % n
        if n % 10 == 0:
            zygote.refused(tmp_path / "missing.pl")
    assert zygote.descriptors() == descriptors
    assert zygote.children() == []
    assert zygote.resident() < resident + 600  # KiB: one message of 30 KB, not three hundred


def test_a_large_environment_comes_whole(warm: Warm, tmp_path: Path) -> None:
    path = script(
        tmp_path, "print length $ENV{LARGE}, ' ', scalar keys %ENV; print `echo $ENV{A199}`"
    )
    more = {"LARGE": "x" * 100_000, **{f"A{n}": str(n) * 100 for n in range(200)}}
    ended = warm().run(path, environment=more)
    assert ended.stdout == b"100000 204" + b"199" * 100 + b"\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("use lib $ENV{HOME};", "it changes where modules are looked for"),
        ("BEGIN { unshift @INC, 'lib' }", "it changes where modules are looked for"),
        ("BEGIN { @INC = ('lib', @INC) }", "it changes where modules are looked for"),
        ("use lib 'lib';", "/lib/CGI.pm is before ours"),
        ("use FindBin; use lib qq{x};", "it changes where modules are looked for"),
        ('use FindBin;\nuse lib "$FindBin::Bin/lib";', "/lib/CGI.pm is before ours"),
        ("use FindBin;\nuse lib $FindBin::RealBin, '/opt';", "/CGI.pm is before ours"),
        ("use lib qw(/opt/none lib);", "/lib/CGI.pm is before ours"),
    ],
)
def test_a_script_that_may_have_its_own_module_is_not_started(
    text: str, why: str, warm: Warm, tmp_path: Path
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "CGI.pm").write_text("package CGI; 1;")
    (tmp_path / "CGI.pm").write_text("package CGI; 1;")
    zygote = warm(preload=["CGI"])
    assert zygote.refused(script(tmp_path, text), tmp_path).endswith(why)


@pytest.mark.parametrize(
    "text",
    [
        "use lib 'lib';",
        "use lib qw(lib);\nuse Mine;",
        "print @INC if 0;",
        "push @INC, 'lib'; require Mine;",
        "# use lib $x\n__END__\nuse lib $x;",
    ],
)
def test_a_script_with_modules_that_are_not_ours_is_started(
    text: str, warm: Warm, tmp_path: Path
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "Mine.pm").write_text("package Mine; print 'mine'; 1;")
    zygote = warm(preload=["CGI"])
    ended = zygote.run(script(tmp_path, text), tmp_path)
    assert (ended.status, ended.stderr) == (0, b"")
    assert ended.stdout == (b"mine" if "Mine" in text else b"")


def test_an_order_that_cannot_be_done_is_refused_with_the_reason(
    warm: Warm, tmp_path: Path
) -> None:
    zygote = warm()
    path = script(tmp_path, HELLO)
    assert zygote.refused(tmp_path / "missing.pl") == "No such file or directory"
    assert zygote.refused(tmp_path) == "it is not a file"
    assert zygote.refused(path, tmp_path / "gone").endswith("gone: No such file or directory")
    assert "path" in zygote.refused(script(tmp_path, HELLO, 'qu"ote.pl'))
    assert "path" in zygote.refused("/" + "x/" * 600)
    assert "environment" in zygote.refused(path, LANG="de_DE.UTF-8")
    assert "environment" in zygote.refused(path, PERL5LIB="/opt")
    with open(os.devnull) as null:
        zygote.order(path, [null.fileno()] * 2, "/", BASE)
    assert b"three descriptors" in zygote.await_kind(b"F")
    assert zygote.run(path).stdout == b"hello \n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user that may not fork")
def test_a_fork_that_fails_is_refused(warm: Warm) -> None:
    path = PROBES / "random.pl"
    if subprocess.run(["test", "-r", str(path)], user=64123).returncode:
        pytest.skip("another user cannot read this checkout")
    zygote = warm(user=64123, processes=1)
    assert zygote.refused(path).startswith("fork: ")
    assert zygote.refused(path).startswith("fork: ")


def test_it_tells_what_scripts_load_of_the_system_and_not_what_is_their_own(
    warm: Warm, tmp_path: Path
) -> None:
    zygote = warm(preload=["CGI"])
    (tmp_path / "Own.pm").write_text("package Own; 1;")
    text = "use CGI; use Data::Dumper; require './Own.pm'; use FindBin; exit 3"
    ended = zygote.run(script(tmp_path, text), tmp_path)
    assert os.waitstatus_to_exitcode(ended.status) == 3
    told = zygote.await_kind(b"L") if not zygote.aside[1:] else zygote.aside[1]
    names = told[1:].decode().split("\0")
    assert told[:1] == b"L"
    assert "Data/Dumper.pm" in names
    assert not {"CGI.pm", "Own.pm", "./Own.pm", "FindBin.pm"} & set(names)
    zygote.preload(*names)
    zygote.aside.clear()
    zygote.run(script(tmp_path, text), tmp_path)
    assert [message[:1] for message in zygote.aside] == [b"S"]


def test_an_exit_status_survives_the_telling(warm: Warm, tmp_path: Path) -> None:
    ended = warm().run(script(tmp_path, "use Data::Dumper; END { $? = 44 } die 'x'"))
    assert os.waitstatus_to_exitcode(ended.status) == 44


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("open(our $kept, '<', '/dev/null');", "changes the process: descriptors"),
        ("BEGIN { *CORE::GLOBAL::die = sub { } }", "changes the process: overrides"),
        ("$SIG{__DIE__} = sub { };", "changes the process: signals"),
        ("$SIG{CHLD} = 'IGNORE';", "changes the process: signals"),
        ("$ENV{ADDED} = 1;", "changes the process: environment"),
        ("umask 0;", "changes the process: umask"),
        ("sub UNIVERSAL::all { }", "changes the process: UNIVERSAL"),
        ("sub main::help { }", "changes the process: main subs"),
        ("unshift @INC, '/opt';", "changes the process: search path"),
        ("$| = 1;", "changes the process: variables"),
        ("die qq{not today\\n};", "cannot be loaded: not today"),
        ("1 +;", "cannot be loaded: syntax error"),
    ],
)
def test_a_module_that_changes_the_process_ends_the_zygote(
    text: str, why: str, warm: Warm, tmp_path: Path
) -> None:
    (tmp_path / "Odd.pm").write_text(f"package Odd;\n{text}\n1;\n")
    zygote = warm("-I", str(tmp_path), preload=["Odd"])
    assert zygote.take().startswith(f"WOdd.pm: {why}".encode())
    assert zygote.take() == b""
    assert zygote.process.wait(PATIENCE) == 75


def test_a_module_that_is_not_for_preloading_is_left_out(warm: Warm, tmp_path: Path) -> None:
    (tmp_path / "Tenant.pm").write_text("package Tenant; die; 1;")
    zygote = warm(environment={"PERL5LIB": str(tmp_path)})
    zygote.preload("No::Such", "Tenant", "FindBin", "../x")
    for expected in (
        "WNo::Such: not found",
        f"WTenant: found in {tmp_path}, not in a directory of the system",
        "WFindBin: depends on the script, so it is not preloaded",
        "W../x: not the name of a module",
    ):
        assert zygote.take().decode() == expected
    assert zygote.run(script(tmp_path, HELLO)).stdout == b"hello \n"


def test_a_changed_module_has_the_order_executed_and_the_zygote_replaced(
    warm: Warm, tmp_path: Path
) -> None:
    module = tmp_path / "Shared.pm"
    module.write_text("package Shared; our $says = 'old'; 1;")
    zygote = warm("-I", str(tmp_path), preload=["Shared"])
    path = script(tmp_path, "use Shared; print $Shared::says;")
    assert zygote.run(path).stdout == b"old"
    module.write_text("package Shared; our $says = 'newer'; 1;")
    deadline = time.monotonic() + PATIENCE
    while True:  # it looks once a second
        zygote.aside.clear()
        pipes = Pipes(b"")
        zygote.order(path, pipes.theirs, "/", BASE)
        pipes.shut()
        pipes.drain()
        if zygote.await_kind(b"X", b"F")[:1] == b"F":
            break
        assert time.monotonic() < deadline
    assert zygote.take() == f"W{module} has changed".encode()
    assert zygote.take() == b"C"
    assert zygote.refused(path) == f"{module} has changed"


def test_the_log_gets_nothing_in_all_of_this(perl: str, tmp_path: Path) -> None:
    checked = subprocess.run(
        [perl, "-W", "-T", "-I", str(GUESTS), "-c", str(GUESTS / "zygote.pm")],
        capture_output=True,
        text=True,
    )
    assert checked.stderr == f"{GUESTS / 'zygote.pm'} syntax OK\n"
    started = subprocess.run(
        [perl, "-I", str(GUESTS), "-Mzygote=9", MAIN], capture_output=True, text=True
    )
    assert started.returncode != 0
    assert started.stderr.startswith("zygote: ")
