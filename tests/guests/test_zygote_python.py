"""Warm Python: a script that a zygote runs cannot tell that from being executed.

Each probe is run both ways, on every Python that is found, and all that came of it is compared.
What cannot be the same is in `DIFFERENT` and what follows it, and nowhere else.
"""

import glob
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.guests import WORKER
from gateway.process.spawn import heed_all_signals, spawn

ZYGOTE = os.path.join(os.path.dirname(WORKER), "zygote.py")
PROBES = Path(__file__).parent / "probes" / "python"

DIFFERENT = {
    "pid": "another process",
    "parent": "the zygote instead of the keeper",
    "proc cmdline": "the zygote's",
    "proc environ": "the zygote's: what a process was started with",
    "proc maps": "addresses",
    "modules": "those that are preloaded are there",
    "meta_path": "with a preloaded module that gives a warning, a finder more",
    "frozen": "what is preloaded is not collected",
}
"""Facts of probes/python/facts.py that may differ, and why."""

BELOW = {"frames": "Python 2.7 has one of ours below the script's"}
"""The same for Python 2.7 only."""
BELOW_TELLS = {"look_at_the_stack"}
"""Probes that would tell it."""

UNORDERED = {"end_finalizers", "end_after_collections"}
"""Probes whose lines may come in another order: it depends on when the collector ran last."""

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIVEN": "by the settings"}


def interpreters() -> list[str]:
    """Every Python that this can find: one of each version, and the system's."""
    found: dict[tuple[int, ...], str] = {}
    names = ["python2.7", *(f"python3.{minor}" for minor in range(6, 15))]
    paths = [shutil.which(name) for name in names]
    paths += sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/*/bin/python")))
    for path in ["/usr/bin/python3", *paths]:
        if path and os.path.exists(path):
            say = "import sys; print('%d %d' % sys.version_info[:2]); print(sys.executable)"
            ran = subprocess.run([path, "-c", say], capture_output=True, text=True, check=False)
            if ran.returncode == 0:
                numbers, real = ran.stdout.splitlines()
                version = tuple(map(int, numbers.split()))
                if version >= (3, 6) or version == (2, 7):
                    found.setdefault(version, real)
    return [found[version] for version in sorted(found)]


PYTHONS = interpreters()
VERSIONS = ("2.7", *(f"3.{minor}" for minor in range(6, 15)))


def version_of(python: str) -> str:
    say = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", say], capture_output=True, text=True).stdout.strip()


BY_VERSION = {version_of(python): python for python in PYTHONS}


def here(version: str) -> str:
    """Return the interpreter of a version, or skip by its name."""
    if version not in BY_VERSION:
        pytest.skip(f"Python {version} is not installed")
    return BY_VERSION[version]


@dataclass
class Outcome:
    out: bytes = b""
    err: bytes = b""
    status: int = 0


@dataclass
class Running:
    """One order whose pipes we hold."""

    id: int
    out: int
    err: int
    stdin: int = -1
    pid: int = 0
    outcome: Outcome = field(default_factory=Outcome)

    def collect(self) -> None:
        """Read both pipes to their ends, which is when everybody who held them is gone."""
        open_fds = {self.out: b"", self.err: b""}
        ended: dict[int, bytes] = {}
        while len(ended) < 2:
            waiting = [fd for fd in open_fds if fd not in ended]
            ready, _, _ = select.select(waiting, (), (), 30)
            assert ready, "nothing came for 30 seconds"
            for fd in ready:
                data = os.read(fd, 65536)
                open_fds[fd] += data
                if not data:
                    ended[fd] = open_fds[fd]
                    os.close(fd)
        self.outcome.out, self.outcome.err = ended[self.out], ended[self.err]


class Keeper:
    """What the keeper does with a zygote."""

    def __init__(self, python: str, *flags: str, environment: dict[str, str] | None = None) -> None:
        self.environment = ENVIRONMENT if environment is None else environment
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(30)
        self.log, writer = os.pipe()
        try:
            self.process = subprocess.Popen(
                [python, *flags, ZYGOTE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=self.environment,
                pass_fds=[theirs.fileno()],
            )
        finally:
            os.close(writer)
            theirs.close()
        self.old = python == BY_VERSION.get("2.7")
        self.orders = 0
        self.failed: dict[int, str] = {}
        self.started: dict[int, int] = {}
        self.ended: dict[int, tuple[int, int, int, int]] = {}
        self.learned: list[set[str]] = []
        self.warned: list[str] = []
        self.changed: list[str] = []
        message = self.sock.recv(300000)
        assert message[:1] == b"H"
        assert struct.unpack("<I", message[1:]) == (self.process.pid,)

    def hear(self) -> None:
        """Take one message."""
        message = self.sock.recv(300000)
        kind, rest = message[:1], message[1:]
        if kind == b"S":
            id, pid = struct.unpack("<II", rest)
            self.started[id] = pid
        elif kind == b"F":
            self.failed[struct.unpack("<I", rest[:4])[0]] = rest[4:].decode()
        elif kind == b"X":
            pid, status, user, system, memory, id = struct.unpack("<IiQQQI", rest)
            assert pid not in self.ended
            assert self.started[id] == pid
            self.ended[pid] = (status, user, system, memory)
        elif kind == b"L":
            self.learned.append({name.decode() for name in rest.split(b"\0")})
        elif kind == b"W":
            self.warned.append(rest.decode())
        elif kind == b"C":
            self.changed.append(rest.decode())
        else:
            raise EOFError(message)

    def preload(self, *names: str) -> None:
        self.sock.send(b"P" + "\0".join(names).encode())

    def order(
        self, script: Path, stdin: bytes | int | None = None, extra: dict[str, str] | None = None
    ) -> Running:
        self.orders += 1
        out, their_out = os.pipe()
        err, their_err = os.pipe()
        their_in = input_descriptor(stdin)
        path, directory = os.fsencode(script), os.fsencode(script.parent)
        block = "\0".join(f"{k}={v}" for k, v in (self.environment | (extra or {})).items())
        head = struct.pack("<IHH", self.orders, len(path), len(directory))
        message = b"R" + head + path + directory + os.fsencode(block)
        socket.send_fds(self.sock, [message], [their_in, their_out, their_err])
        for fd in (their_in, their_out, their_err):
            os.close(fd)
        return Running(self.orders, out, err)

    def begin(self, running: Running) -> str:
        """Wait until an order runs; return why it does not."""
        while running.id not in self.started:
            if running.id in self.failed:
                return self.failed[running.id]
            self.hear()
        running.pid = self.started[running.id]
        return ""

    def finish(self, running: Running) -> Outcome:
        assert self.begin(running) == ""
        running.collect()
        while running.pid not in self.ended:
            self.hear()
        running.outcome.status = self.ended[running.pid][0]
        return running.outcome

    def run(
        self, script: Path, stdin: bytes | int | None = None, extra: dict[str, str] | None = None
    ) -> Outcome:
        return self.finish(self.order(script, stdin, extra))

    def why_not(self, script: Path, extra: dict[str, str] | None = None) -> str:
        """Return why an order cannot run."""
        running = self.order(script, extra=extra)
        why = self.begin(running)
        assert why
        running.collect()
        assert (running.outcome.out, running.outcome.err) == (b"", b"")
        return why

    def close(self) -> str:
        """Leave; return what the zygote itself said."""
        self.sock.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
        os.set_blocking(self.log, False)
        try:
            return os.read(self.log, 65536).decode()
        except BlockingIOError:  # a child that lives on holds it
            return ""
        finally:
            os.close(self.log)


def input_descriptor(stdin: bytes | int | None) -> int:
    """Return a descriptor to read what is given from: nothing, a pipe, or a file that is open."""
    if stdin is None:
        return os.open("/dev/null", os.O_RDONLY)
    if isinstance(stdin, int):
        os.lseek(stdin, 0, os.SEEK_SET)
        return os.dup(stdin)
    reader, writer = os.pipe()
    os.write(writer, stdin)
    os.close(writer)
    return reader


def alone() -> None:
    """Let a script inherit nothing from whoever runs the tests."""
    heed_all_signals()
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and os.path.exists(f"/proc/self/fd/{name}"):
            os.set_inheritable(int(name), False)


def executed(script: Path, stdin: bytes | int | None, environment: dict[str, str]) -> Outcome:
    """Start a script as the keeper does without a zygote."""
    alone()
    out, their_out = os.pipe()
    err, their_err = os.pipe()
    their_in = input_descriptor(stdin)
    path = os.fsencode(script)
    entries = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
    directory = os.fsencode(script.parent)
    pid = spawn(path, (path,), entries, directory, their_in, their_out, their_err)
    for fd in (their_in, their_out, their_err):
        os.close(fd)
    running = Running(0, out, err)
    running.collect()
    running.outcome.status = os.waitpid(pid, 0)[1]
    return running.outcome


@pytest.fixture
def make_keeper() -> Iterator[Callable[..., Keeper]]:
    keepers: list[Keeper] = []

    def make(python: str = PYTHONS[-1], *flags: str, **options: dict[str, str]) -> Keeper:
        keepers.append(Keeper(python, *flags, **options))
        return keepers[-1]

    yield make
    for keeper in keepers:
        if keeper.sock.fileno() >= 0:
            keeper.close()


@pytest.fixture
def make_script(tmp_path: Path) -> Callable[..., Path]:
    """Write a script that has not changed for a while, so that its code is kept."""

    def make(text: str | bytes, python: str = PYTHONS[-1], flags: str = "", name: str = "") -> Path:
        source = text.encode() if isinstance(text, str) else text
        path = tmp_path / (name or "script.py")
        path.write_bytes(f"#!{python} {flags}".rstrip().encode() + b"\n" + source)
        path.chmod(0o755)
        settle(path)
        return path

    return make


def settle(path: Path) -> None:
    """Let a file be an hour old for all who look at its time of change (not its inode's)."""
    when = time.time() - 3600
    os.utime(path, (when, when))


# The same both ways

PRELOADED = ("cgi", "json", "datetime", "sqlite3", "html", "traceback", "logging", "subprocess")

INPUTS: dict[str, bytes] = {
    "input_text": b"first\nsecond\nthird",
    "input_bytes": b"0123456789" * 10,
}
EXTRA: dict[str, dict[str, str]] = {
    "form": {"REQUEST_METHOD": "GET", "QUERY_STRING": "a=1&b=2&a=%E4"},
    "facts": {"TZ": "Asia/Tokyo", "HTTP_X": "\udce4 b", "EMPTY": ""},
    "process_subprocess": {"HTTP_COOKIE": "a=b"},
}


def compare(
    keeper: Keeper,
    script: Path,
    stdin: bytes | int | None = None,
    extra: dict[str, str] | None = None,
) -> None:
    """Run a script executed and twice warm; all that came of it has to be the same."""
    cold = executed(script, stdin, keeper.environment | (extra or {}))
    for _ in range(2):
        running = keeper.order(script, stdin, extra)
        if keeper.begin(running):
            running.collect()
            continue  # it says that it cannot: it is executed
        warm = keeper.finish(running)
        order = sorted if script.stem in UNORDERED else list
        assert order(facts(warm.out, keeper.old)) == order(facts(cold.out, keeper.old))
        assert facts(warm.err, keeper.old) == facts(cold.err, keeper.old)
        assert warm.status == cold.status


ADDRESS = re.compile(rb"\b0x[0-9a-f]{6,}")


def facts(out: bytes, old: bool) -> list[str]:
    """Return the lines of a probe that are to be the same, without the addresses of objects."""
    different = DIFFERENT | BELOW if old else DIFFERENT
    lines = ADDRESS.sub(b"0x", out).decode(errors="surrogateescape").splitlines()
    return [line for line in lines if line.partition(": ")[0] not in different]


PROBE_NAMES = sorted(path.stem for path in PROBES.glob("*.py"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("preloaded", [(), PRELOADED], ids=["bare", "preloaded"])
def test_a_script_cannot_tell(version, preloaded, make_keeper, make_script):
    python = here(version)
    keeper = make_keeper(python)
    keeper.preload(*preloaded)
    wrong = []
    for name in PROBE_NAMES:
        if keeper.old and name in BELOW_TELLS:
            continue
        script = make_script((PROBES / f"{name}.py").read_bytes(), python, name=f"{name}.py")
        try:
            compare(keeper, script, INPUTS.get(name), EXTRA.get(name))
        except AssertionError as error:
            wrong.append(f"{name}: {error}")
    assert not wrong, "\n\n".join(wrong)
    assert "Traceback" not in keeper.close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("flags", ["-u", "-E", "-s", "-O", "-OO", "-B", "-Wd", "-S", "-I", "-sEB"])
def test_flags_of_the_interpreter_are_the_scripts(version, flags, make_keeper, make_script):
    python = here(version)
    if flags == "-I" and version == "2.7":
        pytest.skip("Python 2.7 has no -I")
    keeper = make_keeper(python, flags)
    for name in ("facts", "output_order", "end_exception"):
        text = (PROBES / f"{name}.py").read_bytes()
        compare(keeper, make_script(text, python, flags, name=f"{name}.py"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "settings",
    [
        {"LANG": "C"},
        {"LC_ALL": "C.UTF-8"},
        {"PYTHONIOENCODING": "latin-1:replace"},
        {"PYTHONUNBUFFERED": "1"},
        {"PYTHONWARNINGS": "error", "PYTHONHASHSEED": "0"},
    ],
    ids=str,
)
def test_settings_of_the_environment_are_the_scripts(version, settings, make_keeper, make_script):
    python = here(version)
    keeper = make_keeper(python, environment=ENVIRONMENT | settings)
    for name in ("facts", "output_not_encodable"):
        text = (PROBES / f"{name}.py").read_bytes()
        compare(keeper, make_script(text, python, name=f"{name}.py"))


@pytest.mark.parametrize("version", VERSIONS)
def test_input_that_is_a_file(version, make_keeper, make_script, tmp_path):
    python = here(version)
    keeper = make_keeper(python)
    with open(tmp_path / "body", "w+b") as file:
        file.write(b"0123456789" * 2000)
        file.flush()
        for name in ("facts", "input_text", "input_bytes"):
            text = (PROBES / f"{name}.py").read_bytes()
            compare(keeper, make_script(text, python, name=f"{name}.py"), file.fileno())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_script_reached_by_a_symbolic_link(version, make_keeper, make_script, tmp_path):
    python = here(version)
    keeper = make_keeper(python)
    script = make_script((PROBES / "facts.py").read_bytes(), python, name="facts.py")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link.cgi"
    link.symlink_to(script)
    compare(keeper, link)


ENVIRONS = """
import os, sys, time
print(list(os.environ.items()))
print((time.tzname, time.strftime("%H", time.localtime(0))))
sys.stdout.flush()
os.system("env")
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_the_environment_of_each_request_is_its_own(version, make_keeper, make_script):
    python = here(version)
    keeper = make_keeper(python)
    script = make_script(ENVIRONS, python)
    for extra in (
        {"A": "1", "B": "2"},
        {"A": "1", "B": "3=4"},
        {"B": "3=4", "A": "1"},
        {"B": "", "A": "1", "C": "2"},
        {"TZ": "Asia/Tokyo"},
        {"TZ": "Europe/Paris"},
        {"A": "\udce4", "GIVEN": "another"},
        {},
    ):
        compare(keeper, script, extra=extra)


@pytest.mark.parametrize("version", VERSIONS)
def test_scripts_of_one_zygote_take_turns(version, make_keeper, make_script, tmp_path):
    python = here(version)
    keeper = make_keeper(python)
    own = Path(f"/proc/{keeper.process.pid}/comm").read_text()
    text = (PROBES / "facts.py").read_bytes()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    scripts = [make_script(text, python, name=f"{name}/{name}.py") for name in ("one", "two")]
    for script in scripts * 2:
        compare(keeper, script)
    assert Path(f"/proc/{keeper.process.pid}/comm").read_text() == own


@pytest.mark.parametrize("version", VERSIONS)
def test_a_module_is_preloaded_without_the_environment_of_a_request(
    version, make_keeper, make_script, tmp_path
):
    keeper = make_keeper(here(version), environment=packages(tmp_path))
    module = tmp_path / "site-packages" / "ours.py"
    module.write_text("import os, time\nseen = os.environ.get('SECRET'), time.tzname\n")
    script = make_script("import ours\nprint(ours.seen)\n", here(version))
    plain = make_script("print(1)\n", here(version), name="plain.py")
    assert keeper.run(plain, extra={"SECRET": "x", "TZ": "Asia/Tokyo"}).out == b"1\n"
    keeper.preload("ours")
    out = keeper.run(script, extra={"SECRET": "x", "TZ": "Asia/Tokyo"}).out
    assert b"x" not in out
    assert b"JST" not in out


RANDOM = """
import os, random, sys, tempfile
print((random.random(), os.urandom(4), tempfile.mktemp()))
if sys.version_info[0] > 2:
    import secrets, uuid
    print((secrets.token_hex(), uuid.uuid4(), uuid.uuid1()))
if "multiprocessing.process" in sys.modules:
    print(repr(sys.modules["multiprocessing.process"].current_process().authkey))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_random_differs_between_requests(version, make_keeper, make_script):
    python = here(version)
    keeper = make_keeper(python)
    keeper.preload("random", "uuid", "secrets", "tempfile", "multiprocessing.process")
    script = make_script(RANDOM, python)
    first, second = (keeper.run(script).out.splitlines() for _ in range(2))
    assert len(first) >= 2
    assert all(one != other for one, other in zip(first, second, strict=True))


# Scripts and modules that change


def test_an_edited_script_is_run_as_it_is_now(make_keeper, make_script):
    keeper = make_keeper()
    script = make_script("print(1)")
    for number in range(5):
        script.write_text(f"print({number})")
        assert keeper.run(script).out == b"%d\n" % number


def test_a_replaced_script_of_the_same_size_and_time_is_another(make_keeper, make_script, tmp_path):
    keeper = make_keeper()
    script = make_script("print(1)")
    assert keeper.run(script).out == b"1\n"
    other = make_script("print(2)", name="other.py")
    found = script.stat()
    os.utime(other, ns=(found.st_mtime_ns, found.st_mtime_ns))
    other.rename(script)
    assert keeper.run(script).out == b"2\n"


def packages(tmp_path: Path) -> dict[str, str]:
    """Make a directory for packages of the system that a test can write to."""
    (tmp_path / "site-packages").mkdir()
    return ENVIRONMENT | {"PYTHONPATH": str(tmp_path / "site-packages")}


@pytest.mark.parametrize("version", VERSIONS)
def test_an_edited_module_makes_the_zygote_useless(version, make_keeper, make_script, tmp_path):
    keeper = make_keeper(here(version), environment=packages(tmp_path))
    module = tmp_path / "site-packages" / "ours.py"
    module.write_text("value = 1\n")
    settle(module)
    keeper.preload("ours")
    script = make_script("import ours\nprint(ours.value)\n", here(version))
    assert keeper.run(script).out == b"1\n"
    module.write_text("value = 22\n")
    deadline = time.monotonic() + 10
    while not keeper.changed:  # it looks once a second
        assert time.monotonic() < deadline
        running = keeper.order(script)
        if keeper.begin(running):
            running.collect()
        else:
            assert keeper.finish(running).out == b"1\n"
    assert "ours.py changed" in keeper.changed[0]
    assert "ours.py changed" in keeper.why_not(script)
    keeper.sock.send(b"Q")
    assert keeper.process.wait(10) == 0


# Modules that are preloaded


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_script_loaded_is_learned(version, make_keeper, make_script, tmp_path):
    keeper = make_keeper(here(version), environment=packages(tmp_path))
    (tmp_path / "site-packages" / "ours.py").write_text("import string\n")
    (tmp_path / "own.py").write_text("")
    script = make_script("import ours, own, xml.dom.minidom\n", here(version))
    keeper.run(script)
    keeper.run(script)
    assert {"ours", "string", "xml.dom.minidom"} <= keeper.learned[0]
    assert not {"own", "__main__", "sys"} & keeper.learned[0]
    keeper.preload(*keeper.learned[0])
    keeper.learned.clear()
    keeper.run(script)
    assert not keeper.learned
    assert not keeper.warned


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import threading\nt = threading.Thread(target=__import__('time').sleep, args=(60,))\n"
         "t.daemon = True\nt.start()\n", "it starts threads"),
        ("import socket\ns = socket.socket()\n", "it leaves descriptors open"),
        ("import os\nfd = os.dup(0)\n", "it leaves descriptors open"),
    ],
    ids=["thread", "socket", "descriptor"],
)  # fmt: skip
def test_a_module_that_cannot_be_forked(version, text, why, make_keeper, tmp_path):
    keeper = make_keeper(here(version), environment=packages(tmp_path))
    (tmp_path / "site-packages" / "bad.py").write_text(text)
    keeper.preload("json", "bad", "datetime")
    keeper.hear()
    assert keeper.warned == [f"bad: cannot be preloaded: {why}"]
    assert keeper.process.wait(10) == 75


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "text",
    ["1 / 0", "raise SystemExit(3)", "print('noise'); import sys; sys.stdout.write('more')", "?"],
)
def test_a_module_that_is_odd_harms_no_script(version, text, make_keeper, make_script, tmp_path):
    keeper = make_keeper(here(version), environment=packages(tmp_path))
    (tmp_path / "site-packages" / "odd.py").write_text(text + "\n")
    keeper.preload("odd", "no_such_module")
    script = make_script("print(1)", here(version))
    assert keeper.run(script).out == b"1\n"
    assert any(line.startswith("no_such_module: not preloaded: ") for line in keeper.warned)


def test_a_module_that_is_not_the_systems_is_not_loaded(make_keeper, make_script, tmp_path):
    keeper = make_keeper(environment=ENVIRONMENT | {"PYTHONPATH": str(tmp_path)})
    (tmp_path / "own.py").write_text("open('loaded', 'w')")
    keeper.preload("own")
    keeper.run(make_script(""))
    assert "is not the system's" in keeper.warned[0]
    assert not (tmp_path / "loaded").exists()


# What cannot run here is left to be executed


@pytest.mark.parametrize("version", VERSIONS)
def test_what_does_not_compile_is_left_to_the_interpreter(version, make_keeper, make_script):
    keeper = make_keeper(here(version))
    assert "does not compile" in keeper.why_not(make_script("print(", here(version)))
    assert keeper.why_not(make_script(b"# \xff\nprint(1)", here(version)))
    assert keeper.why_not(make_script(b"print(1)\0", here(version)))


def test_what_cannot_be_read_is_left_to_the_interpreter(make_keeper, tmp_path):
    keeper = make_keeper()
    assert "cannot be read" in keeper.why_not(tmp_path / "nowhere.py")
    os.mkfifo(tmp_path / "fifo.py")
    assert keeper.why_not(tmp_path / "fifo.py")


@pytest.mark.parametrize("name", ["PYTHONPATH", "LANG", "LC_ALL", "LD_PRELOAD", "PYTHONHASHSEED"])
def test_other_settings_of_the_interpreter_need_another(name, make_keeper, make_script):
    keeper = make_keeper()
    assert "settings of the interpreter" in keeper.why_not(make_script(""), {name: "x"})


def test_a_directory_that_is_not_there(make_keeper, make_script, tmp_path):
    keeper = make_keeper()
    script = make_script("")
    head = struct.pack("<IHH", 7, len(os.fsencode(script)), 8)
    fds = [os.open("/dev/null", os.O_RDWR) for _ in range(3)]
    message = b"R" + head + os.fsencode(script) + b"/nowhere"
    socket.send_fds(keeper.sock, [message], fds)
    for fd in fds:
        os.close(fd)
    keeper.hear()
    assert keeper.failed


def test_an_order_without_its_descriptors(make_keeper, make_script):
    keeper = make_keeper()
    script = os.fsencode(make_script(""))
    keeper.sock.send(b"R" + struct.pack("<IHH", 7, len(script), 1) + script + b"/")
    keeper.hear()
    assert "descriptors" in keeper.failed[7]


# Processes

EVERYWHERE = pytest.mark.parametrize("version", VERSIONS)


@EVERYWHERE
def test_a_killed_script_is_reaped(version, make_keeper, make_script):
    keeper = make_keeper(here(version))
    running = keeper.order(make_script("import time\ntime.sleep(60)", here(version)))
    assert keeper.begin(running) == ""
    assert os.getpgid(running.pid) == running.pid
    os.killpg(running.pid, signal.SIGKILL)
    assert keeper.finish(running).status == signal.SIGKILL


@EVERYWHERE
def test_a_script_that_hangs_holds_nobody(version, make_keeper, make_script):
    keeper = make_keeper(here(version))
    slow = keeper.order(make_script("import time\ntime.sleep(60)", here(version), name="slow.py"))
    quick = make_script("print(1)", here(version), name="quick.py")
    for _ in range(5):
        assert keeper.run(quick).out == b"1\n"
    assert keeper.begin(slow) == ""
    os.kill(slow.pid, signal.SIGKILL)
    keeper.finish(slow)


@EVERYWHERE
def test_two_scripts_at_once(version, make_keeper, make_script, tmp_path):
    """Each writes to the other by a FIFO, so neither could end alone."""
    keeper = make_keeper(here(version))
    text = "import sys\nwith open('fifo', '{}') as file:\n    {}\n"
    os.mkfifo(tmp_path / "fifo")
    reads = make_script(text.format("r", "print(file.read())"), here(version), name="reads.py")
    writes = make_script(text.format("w", "file.write('hello')"), here(version), name="writes.py")
    one, other = keeper.order(reads), keeper.order(writes)
    assert keeper.finish(one).out == b"hello\n"
    assert keeper.finish(other).status == 0
    assert one.pid != other.pid


@EVERYWHERE
def test_scripts_live_on_when_the_keeper_is_gone(version, make_keeper, make_script, tmp_path):
    keeper = make_keeper(here(version))
    os.mkfifo(tmp_path / "gate")
    running = keeper.order(make_script("print(open('gate').read())", here(version)))
    assert keeper.begin(running) == ""
    keeper.sock.close()
    assert keeper.process.wait(10) == 0
    (tmp_path / "gate").write_text("go on")
    running.collect()
    assert running.outcome.out == b"go on\n"


def test_told_to_leave_it_waits_for_its_scripts(make_keeper, make_script, tmp_path):
    keeper = make_keeper()
    os.mkfifo(tmp_path / "gate")
    script = make_script("print(open('gate').read())")
    running = keeper.order(script)
    assert keeper.begin(running) == ""
    keeper.sock.send(b"Q")
    assert "leaves" in keeper.why_not(script)
    (tmp_path / "gate").write_text("go on")
    assert keeper.finish(running).out == b"go on\n"
    assert keeper.process.wait(10) == 0


def proc_status(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(name)).split()[1])


@EVERYWHERE
def test_three_hundred_requests_leave_nothing(version, make_keeper, make_script):
    keeper = make_keeper(here(version))
    script = make_script("import json\nprint(json.dumps({'a': [1]}))", here(version))
    descriptors = memory = 0
    for number in range(300):
        running = keeper.order(script)
        assert keeper.finish(running).out == b'{"a": [1]}\n'
        if number == 20:
            descriptors = len(os.listdir(f"/proc/{keeper.process.pid}/fd"))
            memory = proc_status(keeper.process.pid, "VmRSS")
    assert len(os.listdir(f"/proc/{keeper.process.pid}/fd")) == descriptors
    assert proc_status(keeper.process.pid, "VmRSS") <= memory + 200
    assert len(keeper.ended) == 300
    children = Path(f"/proc/{keeper.process.pid}/task/{keeper.process.pid}/children")
    assert children.read_text() == ""


def test_figures_of_a_script(make_keeper, make_script):
    keeper = make_keeper()
    script = make_script("x = b'x' * (64 << 20)\nfor i in range(2000000): pass\n")
    running = keeper.order(script)
    keeper.finish(running)
    _, user, system, memory = keeper.ended[running.pid]
    assert user + system > 20_000
    assert memory > 64 << 10


@EVERYWHERE
def test_nobody_reads_what_a_script_writes(version, make_keeper, make_script):
    """A broken pipe: the same words and the same status."""
    python = here(version)
    keeper = make_keeper(python)
    script = make_script("import sys\nsys.stdin.readline()\nprint('x' * 100)\n", python)
    outcomes = []
    for warm in (True, False):
        running, gate = waiting_for_input(keeper, script, warm)
        os.close(running.out)
        os.write(gate, b"go\n")
        os.close(gate)
        running.outcome.err = read_all(running.err)
        if warm:
            while running.pid not in keeper.ended:
                keeper.hear()
            running.outcome.status = keeper.ended[running.pid][0]
        else:
            running.outcome.status = os.waitpid(running.pid, 0)[1]
        outcomes.append((running.outcome.err, running.outcome.status))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] or version == "2.7"


def waiting_for_input(keeper: Keeper, script: Path, warm: bool) -> tuple[Running, int]:
    reader, gate = os.pipe()
    if warm:
        keeper.orders += 1
    out, their_out = os.pipe()
    err, their_err = os.pipe()
    path, directory = os.fsencode(script), os.fsencode(script.parent)
    entries = [os.fsencode(f"{name}={value}") for name, value in keeper.environment.items()]
    running = Running(keeper.orders, out, err)
    if warm:
        head = struct.pack("<IHH", keeper.orders, len(path), len(directory))
        message = b"R" + head + path + directory + b"\0".join(entries)
        socket.send_fds(keeper.sock, [message], [reader, their_out, their_err])
        assert keeper.begin(running) == ""
    else:
        alone()
        running.pid = spawn(path, (path,), entries, directory, reader, their_out, their_err)
    for fd in (reader, their_out, their_err):
        os.close(fd)
    return running, gate


def read_all(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()


def test_all_versions_that_are_installed_are_found():
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in BY_VERSION or "3.11" in BY_VERSION


# Modules of the script's own that hide those that are here

OWN = "OWN = True\n"
TELLS = "import {0}\nprint(getattr({0}, 'OWN', False))\n"


def own(script: Path, name: str, text: str = OWN) -> Path:
    """Put a module or another file beside a script."""
    path = script.parent / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def answer(keeper: Keeper, script: Path) -> tuple[Outcome, str]:
    """Return what comes of an order, executed if it is refused, and why it was refused."""
    running = keeper.order(script)
    why = keeper.begin(running)
    if not why:
        return keeper.finish(running), ""
    running.collect()
    return executed(script, None, keeper.environment), why


def as_executed(keeper: Keeper, script: Path) -> tuple[bytes, str]:
    """Require that an order comes to the same as if it is executed; return its output and why it
    was refused."""
    done, why = answer(keeper, script)
    real = executed(script, None, keeper.environment)
    assert (done.out, done.status) == (real.out, real.status)
    return done.out, why


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("names", "hides"),
    [
        (["json.py"], True),
        (["json/__init__.py"], True),
        (["json.so"], True),
        (["json.py/data"], None),
        (["json/data"], False),
        (["json.txt", "json", "Json.py", "myjson.py"], False),
    ],
    ids=str,
)
def test_a_module_beside_the_script_is_taken_as_if_it_is_executed(
    version, names, hides, make_keeper, make_script
):
    python = here(version)
    keeper = make_keeper(python)
    keeper.preload("json", "datetime")
    script = make_script(TELLS.format("json"), python)
    assert as_executed(keeper, script) == (b"False\n", "")
    for name in names:
        own(script, name)
    out, why = as_executed(keeper, script)
    if hides is None:  # with Python 2.7 it cannot be imported, later ones pass over it
        hides = not out
    assert bool(why) == hides
    assert (str(script.parent / names[0].partition("/")[0]) in why) == hides


@pytest.mark.parametrize("version", VERSIONS)
def test_a_module_with_the_name_of_one_that_the_zygote_needs_itself(
    version, make_keeper, make_script, tmp_path
):
    python = here(version)
    keeper = make_keeper(python)
    keeper.preload("logging")
    names = (
        "struct select fcntl mmap warnings resource stat io os time site errno gc signal warm "
        "re logging sys importlib encodings zygote ctypes imp collections"
    )
    found = []
    for name in names.split():
        (tmp_path / name).mkdir()
        script = make_script(TELLS.format(name), python, name=f"{name}/script.py")
        own(script, f"{name}.py")
        found.append(as_executed(keeper, script)[1] != "")
    assert True in found
    assert False in found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_module_that_comes_or_goes_counts_from_the_next_request_on(
    version, make_keeper, make_script
):
    python = here(version)
    keeper = make_keeper(python)
    keeper.preload("json")
    script = make_script(TELLS.format("json"), python)
    (script.parent / "json").mkdir()
    for _ in range(3):
        assert as_executed(keeper, script) == (b"False\n", "")
        for name in ("json.py", "json/__init__.py"):
            file = own(script, name)
            out, why = as_executed(keeper, script)
            assert out == b"True\n"
            assert why
            file.unlink()
            for cached in script.parent.glob("**/*.pyc"):
                cached.unlink()
            assert as_executed(keeper, script) == (b"False\n", "")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_directory_that_counts_is_the_one_a_link_leads_to(
    version, make_keeper, make_script, tmp_path
):
    python = here(version)
    keeper = make_keeper(python)
    keeper.preload("json")
    script = make_script(TELLS.format("json"), python)
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link.py"
    link.symlink_to(script)
    own(link, "json.py")
    assert as_executed(keeper, link) == (b"False\n", "")
    own(script, "json.py")
    out, why = as_executed(keeper, link)
    assert out == b"True\n"
    assert why


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("flag", ["-I", "-P"])
def test_a_directory_that_is_not_in_the_path_hides_nothing(version, flag, make_keeper, make_script):
    python = here(version)
    if subprocess.run([python, flag, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"Python {version} has no {flag}")
    keeper = make_keeper(python, flag)
    keeper.preload("json")
    script = make_script(TELLS.format("json"), python, flag)
    own(script, "json.py")
    assert as_executed(keeper, script) == (b"False\n", "")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_module_that_comes_into_pythonpath_makes_the_zygote_useless(
    version, make_keeper, make_script, tmp_path
):
    python = here(version)
    (tmp_path / "lib").mkdir()
    environment = ENVIRONMENT | {"PYTHONPATH": f"{tmp_path}/none:{tmp_path}/lib"}
    keeper = make_keeper(python, environment=environment)
    keeper.preload("json")
    script = make_script(TELLS.format("json"), python)
    assert as_executed(keeper, script) == (b"False\n", "")
    (tmp_path / "lib" / "other.py").write_text(OWN)
    assert as_executed(keeper, script) == (b"False\n", "")
    (tmp_path / "lib" / "json.py").write_text(OWN)
    out, why = as_executed(keeper, script)
    assert out == b"True\n"
    assert str(tmp_path / "lib" / "json.py") in why
    while not keeper.changed:
        keeper.hear()
    later = make_keeper(python, environment=environment)
    later.preload("json", "logging")
    assert as_executed(later, script) == (b"True\n", "")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", ["lib", "/nowhere:", ".:/nowhere"])
def test_pythonpath_that_depends_on_the_directory_is_not_for_a_zygote(
    version, path, make_keeper, make_script
):
    python = here(version)
    keeper = make_keeper(python, environment=ENVIRONMENT | {"PYTHONPATH": path})
    script = make_script(TELLS.format("mine"), python)
    own(script, "lib/mine.py", "OWN = 'lib'\n")
    _, why = as_executed(keeper, script)
    assert "PYTHONPATH" in why
