"""Scripts that are run again and again in one process, through a real keeper."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from gateway.process.channel import Exited, Queued, Release, Started
from gateway.process.spec import ScriptRoot

Keep = Callable[..., Any]
Until = Callable[[Callable[[], object], str], None]
Content = Callable[[int], bytes]
Lives = Callable[[int], bool]

VERSIONS = ("2.7", *(f"3.{minor}" for minor in range(6, 15)))
PYTHON = f"#!{sys.executable} -S\nimport os, sys\n"
PERL = "#!/usr/bin/perl\nuse strict;\nuse warnings;\n$| = 1;\n"
NO_PERL = pytest.mark.skipif(not shutil.which("perl"), reason="perl is not installed")
PID = {"x.py": "print(os.getpid(), flush=True)\n", "x.pl": 'print "$$\\n";\n'}
HEAD = {"x.py": PYTHON, "x.pl": PERL}
LANGUAGES = [pytest.param("x.py", id="python"), pytest.param("x.pl", id="perl", marks=NO_PERL)]


def pythons() -> dict[str, str]:
    """Return version -> path of each Python that is found here."""
    found: dict[str, str] = {}
    paths = [sys.executable, "/usr/bin/python3", *(f"/usr/bin/python{each}" for each in VERSIONS)]
    paths += sorted(str(path) for path in Path.home().glob(".pyenv/versions/*/bin/python"))
    for path in paths:
        if os.path.exists(path):
            say = "import sys; print('%d.%d' % sys.version_info[:2])"
            ran = subprocess.run([path, "-c", say], capture_output=True, text=True, check=False)
            found.setdefault(ran.stdout.strip(), path)
    return found


PYTHONS = pythons()


class Site:
    """A keeper whose scripts are persistent, and a front that asks for them."""

    def __init__(self, kept: Any, channel: Any, content: Content) -> None:
        self.kept = kept
        self.channel = channel
        self.content = content
        self.last = 100
        self.ended: list[Exited] = []

    def write(self, name: str, text: str) -> None:
        """Write a script that begins by saying its process."""
        self.kept.script(name, HEAD[name] + PID[name] + text)

    def begin(self, name: str, query: str = "", *, stdin: int = -1, **more: str) -> tuple[int, int]:
        self.last += 1
        pairs = {"QUERY_STRING": query, **more}
        block = {key.encode(): value.encode() for key, value in pairs.items()}
        out, err = self.channel.order(self.last, name, block, stdin=stdin)
        return int(out), int(err)

    def end(self, id: int) -> Exited:
        """Return how an order ended."""
        while True:
            for exited in self.ended:
                if exited.id == id:
                    self.ended.remove(exited)
                    return exited
            reply = self.channel.reply()
            assert isinstance(reply, Exited | Queued | Started), reply
            if isinstance(reply, Exited):
                self.ended.append(reply)

    def ask(self, name: str, query: str = "", *, status: int = 0, **more: str) -> tuple[int, str]:
        """Run a script to its end; return its process and what else it wrote."""
        out, err = self.begin(name, query, **more)
        number, _, rest = self.content(out).decode().partition("\n")
        complaint = self.content(err).decode()
        assert self.end(self.last).status == status, complaint
        return int(number), rest + complaint

    def stays(self, name: str, until: Until, query: str = "") -> int:
        """Ask until the same process answers twice: a file may be too young to be relied upon."""
        seen: list[int] = []

        def again() -> bool:
            seen.append(self.ask(name, query)[0])
            return seen[-2:-1] == seen[-1:]

        until(again, f"{name} stays")
        return seen[-1]


def feed(fd: int, body: bytes) -> None:
    with open(fd, "wb") as file:
        file.write(body)


@pytest.fixture
def persistent(
    keep: Keep, open_channel: Any, content: Content, tmp_path: Path
) -> Callable[..., Site]:
    def start(**changes: object) -> Site:
        root = ScriptRoot(root=os.fsencode(tmp_path / "root"), start="persistent")
        kept = keep(scripts={"r": root}, **changes)
        return Site(kept, open_channel(kept), content)

    return start


@pytest.fixture
def site(persistent: Callable[..., Site]) -> Site:
    return persistent()


@pytest.mark.parametrize("name", LANGUAGES)
def test_requests_after_the_first_find_the_process_and_their_own_environment(
    site: Site, until: Until, name: str
) -> None:
    said = {
        "x.py": "print(os.environ['QUERY_STRING'], 'HTTP_X' in os.environ)\n",
        "x.pl": 'print "$ENV{QUERY_STRING} ", exists $ENV{HTTP_X} ? "True" : "False", "\\n";\n',
    }
    site.write(name, said[name])
    pid = site.stays(name, until)
    assert site.ask(name, "a=1", HTTP_X="y") == (pid, "a=1 True\n")
    assert site.ask(name, "b=2") == (pid, "b=2 False\n")


SPOILING = {
    "x.py": """
import builtins, locale, signal
import decimal
seen = [sorted(globals()), sorted(os.environ), os.getcwd(), os.umask(0o22), sys.argv]
seen += [hasattr(sys, "mine"), hasattr(builtins, "mine"), sys.excepthook is sys.__excepthook__]
seen += [signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL, signal.alarm(0), sys.path]
seen += [locale.setlocale(locale.LC_ALL), sys.getrecursionlimit(), sys.gettrace()]
seen += [sorted(os.listdir("/proc/self/fd")), sys.stdout.encoding, sys.stdin.read()]
seen += [signal.pthread_sigmask(signal.SIG_BLOCK, ()), decimal.getcontext().prec]
print(seen)
leaked = 1
os.environ["LEAK"] = "1"
os.putenv("LEAK", "1")
os.chdir("/")
os.umask(0o77)
sys.argv.append("x")
sys.mine = builtins.mine = 1
sys.excepthook = print
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.alarm(1000)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
sys.path.insert(0, sys.path[0])
locale.setlocale(locale.LC_ALL, "C")
sys.setrecursionlimit(5000)
decimal.getcontext().prec = 5
sys.stdout = open("/dev/null", "w")
sys.stdin = None
os.environ = {}
""",
    "x.pl": r"""
use POSIX ();
our ($leaked, @leaked, %leaked);
opendir(my $fds, '/proc/self/fd');
print join("|", map { $_ // 'undef' } $leaked, @leaked, %leaked, @ARGV, $_, $/, $\, $,, $", $;,
    $^W, umask, POSIX::getcwd(), $SIG{USR1}, $SIG{__WARN__}, $SIG{ALRM}, alarm(0), fileno(STDIN),
    join(' ', PerlIO::get_layers(STDOUT)), join(' ', sort keys %ENV), scalar(<STDIN>),
    $main::other, join(' ', @INC), $0, tell(STDOUT),
    join(' ', sort readdir $fds), defined fileno(LEAK)), "\n";
($leaked, @leaked) = (1, 2);
$leaked{x} = 1;
$ENV{LEAK} = 1;
$main::other = 1;
push @ARGV, 'x';
umask 077;
chdir '/';
$SIG{USR1} = 'IGNORE';
$SIG{__WARN__} = sub { };
$SIG{ALRM} = sub { };
alarm 1000;
open(LEAK, '<', '/dev/null');
binmode(STDOUT, ':utf8');
close(STDIN);
($/, $\, $,, $", $;, $^W) = ('a', 'b', 'c', 'd', 'e', 1);
select(STDERR);
$0 = 'other';
""",
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_nothing_of_a_request_is_found_by_the_next(site: Site, until: Until, name: str) -> None:
    site.write(name, SPOILING[name])
    pid = site.stays(name, until)
    second, third = site.ask(name), site.ask(name)
    assert (second[0], third[0]) == (pid, pid)
    site.kept.script(name, (site.kept.root / name).read_text() + "\n")  # another process, its first
    first = site.ask(name)
    assert first[0] != pid
    assert second == (pid, first[1])
    assert third == (pid, first[1])


OWN = {
    "x.py": (
        "own.py",
        "count = 0\ndef add():\n    global count\n    count += 1\n    return count\n",
        "import own\nprint(own.add())\n",
    ),
    "x.pl": (
        "Own.pm",
        "package Own; our $count = 0; sub add { return ++$count } 1;\n",
        "use FindBin; use lib $FindBin::Bin; use Own; print Own::add(), qq{\\n};\n",
    ),
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_own_module_stays_until_its_file_changes(site: Site, until: Until, name: str) -> None:
    module, text, script = OWN[name]
    site.kept.script(module, text)
    site.write(name, script)
    pid = site.stays(name, until)
    count = int(site.ask(name)[1])
    assert count > 2
    assert site.ask(name) == (pid, f"{count + 1}\n")
    site.kept.script(module, text.replace("count = 0", "count = 50"))
    other, said = site.ask(name)
    assert other != pid
    assert said == "51\n"


@pytest.mark.parametrize("name", LANGUAGES)
def test_file_that_a_module_keeps_open_stays_open(site: Site, until: Until, name: str) -> None:
    module, text, script = {
        "x.py": ("own.py", "file = open('/etc/passwd')\n", "import own\nown.file.read(1)\n"
                 "print(own.file.tell())\n"),
        "x.pl": ("Own.pm", "package Own; open(our $file, '<', '/etc/passwd'); 1;\n",
                 "use FindBin; use lib $FindBin::Bin; use Own; read($Own::file, my $x, 1); "
                 "print tell($Own::file), qq{\\n};\n"),
    }[name]  # fmt: skip
    site.kept.script(module, text)
    site.write(name, script)
    pid = site.stays(name, until)
    place = int(site.ask(name)[1])
    assert site.ask(name) == (pid, f"{place + 1}\n")


@pytest.mark.parametrize("name", LANGUAGES)
def test_edited_script_takes_effect_at_once(site: Site, until: Until, name: str) -> None:
    for text in ("one", "two", "six"):  # as long as one another
        site.write(name, f"print('{text}\\n')\n" if name == "x.py" else f'print "{text}\\n\\n";')
        assert site.ask(name)[1] == f"{text}\n\n"
        site.stays(name, until)


ENDINGS = [
    pytest.param("x.py", "sys.exit(3)", 3, id="python exit"),
    pytest.param("x.py", "sys.exit('said')", 1, id="python exit with a text"),
    pytest.param("x.py", "1 / 0", 1, id="python exception"),
    pytest.param("x.py", "sys.stdout.flush(); os._exit(0)", 0, id="python _exit"),
    pytest.param("x.py", "os.kill(os.getpid(), 9)", -9, id="python killed"),
    pytest.param("x.py", "os.execv('/bin/true', ['true'])", 0, id="python exec"),
    pytest.param("x.py", "for n in range(20): os.dup(0)", 0, id="python descriptors"),
    pytest.param("x.py", "os.closerange(3, 2000)", 0, id="python closed all"),
    pytest.param("x.py", "os.nice(1)", 0, id="python nice"),
    pytest.param("x.pl", "exit 3;", 3, id="perl exit", marks=NO_PERL),
    pytest.param("x.pl", "die 'ouch';", 255, id="perl die", marks=NO_PERL),
    pytest.param("x.pl", "kill 9, $$;", -9, id="perl killed", marks=NO_PERL),
    pytest.param("x.pl", "exec '/bin/true';", 0, id="perl exec", marks=NO_PERL),
    pytest.param("x.pl", "use POSIX (); POSIX::_exit(0);", 0, id="perl _exit", marks=NO_PERL),
    pytest.param("x.pl", "use POSIX (); POSIX::dup(0) for 1 .. 20;", 0,
                 id="perl descriptors", marks=NO_PERL),
    pytest.param("x.pl", "use POSIX (); POSIX::close($_) for 3 .. 2000;", 0,
                 id="perl closed all", marks=NO_PERL),
    pytest.param("x.pl", "use POSIX (); POSIX::nice(1);", 0, id="perl nice", marks=NO_PERL),
]  # fmt: skip


@pytest.mark.parametrize(("name", "way", "status"), ENDINGS)
def test_request_that_does_not_end_well_ends_the_process_and_the_next_is_fresh(
    site: Site, until: Until, name: str, way: str, status: int
) -> None:
    condition = "if os.environ['QUERY_STRING']:\n    " if name == "x.py" else ""
    text = condition + way if condition else f"if ($ENV{{QUERY_STRING}}) {{ {way} }}"
    site.write(name, text + "\n")
    pid = site.stays(name, until)
    assert site.ask(name, "now", status=status)[0] == pid
    other = site.ask(name)[0]
    assert other != pid
    assert site.ask(name)[0] == other


def test_exception_is_shown_as_ever(site: Site, until: Until) -> None:
    site.write("x.py", "if os.environ['QUERY_STRING']:\n    raise ValueError('ouch')\n")
    site.stays("x.py", until)
    said = site.ask("x.py", "now", status=1)[1]
    path = site.kept.root / "x.py"
    assert said == (
        f'Traceback (most recent call last):\n  File "{path}", line 5, in <module>\n'
        "    raise ValueError('ouch')\nValueError: ouch\n"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("x.py", "sys.exit(0)\n", id="python"),
        pytest.param("x.py", "sys.exit()\n", id="python, nothing"),
        pytest.param("x.pl", "exit;\n", id="perl", marks=NO_PERL),
        pytest.param("x.pl", "sub f { eval { exit 0 }; print 'no' } f();\n", id="perl, deep",
                     marks=NO_PERL),
    ],
)  # fmt: skip
def test_exit_with_status_0_is_no_error(site: Site, until: Until, name: str, text: str) -> None:
    site.write(name, text)
    pid = site.stays(name, until)
    assert site.ask(name) == (pid, "")


@pytest.mark.parametrize("name", LANGUAGES)
def test_child_process_that_is_left_ends_the_process_and_holds_nobody(
    site: Site, until: Until, name: str
) -> None:
    text = {
        "x.py": "import time\nif os.environ['QUERY_STRING'] and not os.fork():\n"
        "    os.close(1); os.close(2); time.sleep(300)\n",
        "x.pl": "if ($ENV{QUERY_STRING} && !fork) { close(STDOUT); close(STDERR); sleep 300 }\n",
    }
    site.write(name, text[name])
    pid = site.stays(name, until)
    assert site.ask(name, "fork") == (pid, "")
    assert site.ask(name)[0] != pid


@pytest.mark.parametrize("name", LANGUAGES)
def test_grandchild_that_is_left_ends_the_process(site: Site, until: Until, name: str) -> None:
    text = {
        "x.py": "import subprocess\nif os.environ['QUERY_STRING']:\n"
        "    subprocess.call('sleep 300 >/dev/null 2>&1 &', shell=True)\n",
        "x.pl": "system('sleep 300 >/dev/null 2>&1 &') if $ENV{QUERY_STRING};\n",
    }
    site.write(name, text[name])
    pid = site.stays(name, until)
    assert site.ask(name, "fork") == (pid, "")
    assert site.ask(name)[0] != pid


@pytest.mark.parametrize("name", LANGUAGES)
def test_child_process_that_was_waited_for_ends_nothing(
    site: Site, until: Until, name: str
) -> None:
    text = {
        "x.py": "import subprocess\nsubprocess.call(['/bin/echo', 'child'])\n",
        "x.pl": "system('/bin/echo', 'child');\n",
    }
    site.write(name, text[name])
    pid = site.stays(name, until)
    assert site.ask(name) == (pid, "child\n")


@pytest.mark.parametrize("name", LANGUAGES)
def test_child_that_comes_to_the_end_of_the_script_says_nothing_to_us(
    site: Site, until: Until, name: str
) -> None:
    text = {
        "x.py": "if not os.fork(): print('child')\nelse: os.wait(); print('parent')\n",
        "x.pl": "if (!fork) { print qq{child\\n} } else { wait; print qq{parent\\n} }\n",
    }
    site.write(name, text[name])
    pid = site.stays(name, until)
    assert site.ask(name) == (pid, "child\nparent\n")


def test_thread_that_is_left_is_waited_for_and_ends_the_process(site: Site, until: Until) -> None:
    site.write(
        "x.py",
        "import threading\nmain = threading.current_thread()\n"
        "def work():\n    while main.is_alive(): main.join(0.1)\n    print('thread')\n"
        "if os.environ['QUERY_STRING']: threading.Thread(target=work).start()\n",
    )
    pid = site.stays("x.py", until)
    out, _ = site.begin("x.py", "thread")
    assert site.content(out).decode() == f"{pid}\nthread\n"
    assert site.end(site.last).status == 0
    assert site.ask("x.py")[0] != pid


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("x.py", "sys.stdout.close()\n", id="python"),
        pytest.param("x.py", "os.close(1)\n", id="python, descriptor"),
        pytest.param("x.py", "os.close(0)\nos.close(2)\n", id="python, others"),
        pytest.param("x.pl", "close(STDOUT);\n", id="perl", marks=NO_PERL),
        pytest.param("x.pl", "close(STDIN); close(STDERR);\n", id="perl, others", marks=NO_PERL),
    ],
)
def test_script_may_close_its_streams(site: Site, until: Until, name: str, text: str) -> None:
    site.write(name, text)
    pid = site.stays(name, until)
    assert site.ask(name) == (pid, "")


WAYS_TO_WRITE = (
    "own.write('x\\n')",
    "sys.stdout.reconfigure(encoding='utf-16'); sys.stdout.write('x')",
    "sys.stdout = open(1, 'w', closefd=False); print('x')",
    "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8'); print('x')",
    "sys.stdout = codecs.getwriter('utf-8')(sys.stdout.detach()); print('x')",
    "sys.stdout = os.fdopen(1, 'w'); print('x')",
    "sys.stderr = sys.stdout; print('x', file=sys.stderr)",
    "print('x'); sys.stdin.readline()",
    "own.stdin.readline()",
)


def test_what_was_written_or_not_read_is_never_the_next_requests(site: Site, until: Until) -> None:
    site.kept.script("own.py", "import sys\nfrom sys import stdin\nwrite = sys.stdout.write\n")
    lines = "".join(f"elif way == '{n}': {way}\n" for n, way in enumerate(WAYS_TO_WRITE))
    text = f"import codecs, io, own\nway = os.environ['QUERY_STRING']\nif not way: pass\n{lines}"
    site.write("x.py", text + "else: print(repr(sys.stdin.read()))\n")
    site.stays("x.py", until)
    for way in range(len(WAYS_TO_WRITE)):
        reader, writer = os.pipe()
        os.write(writer, b"one\ntwo\n")
        os.close(writer)
        out, err = site.begin("x.py", str(way), stdin=reader)
        os.close(reader)
        said = site.content(out)
        assert b"x" in said or way == len(WAYS_TO_WRITE) - 1, (way, said, site.content(err))
        site.end(site.last)
        assert site.ask("x.py", "more")[1] == "''\n"
        assert site.ask("x.py")[1] == ""


@pytest.mark.parametrize("name", LANGUAGES)
def test_large_bodies_both_ways(site: Site, until: Until, name: str) -> None:
    text = {
        "x.py": "sys.stdout.buffer.write(sys.stdin.buffer.read())\n",
        "x.pl": "binmode(STDIN); binmode(STDOUT); local $/; print <STDIN> // '';\n",
    }
    site.write(name, text[name])
    pid = site.stays(name, until)
    body = os.urandom(3 << 20)
    for _ in range(2):
        reader, writer = os.pipe()
        out, _ = site.begin(name, stdin=reader)
        os.close(reader)
        feeder = Thread(target=feed, args=(writer, body))
        feeder.start()
        assert site.content(out) == f"{pid}\n".encode() + body
        feeder.join()
        assert site.end(site.last).status == 0


@pytest.mark.parametrize("name", LANGUAGES)
def test_client_that_leaves_ends_the_process_and_the_next_request_is_fresh(
    site: Site, until: Until, lives: Lives, name: str
) -> None:
    text = {
        "x.py": "import time\nif os.environ['QUERY_STRING']: time.sleep(300)\n",
        "x.pl": "sleep 300 if $ENV{QUERY_STRING};\n",
    }
    site.write(name, text[name])
    pid = site.stays(name, until)
    out, _ = site.begin(name, "wait")
    assert int(os.read(out, 100)) == pid
    site.channel.send(Release(site.last))
    until(lambda: not lives(pid), "it ends")
    assert site.end(site.last).status == -signal.SIGTERM
    assert site.ask(name)[0] != pid


def test_late_release_does_not_end_the_next_request(site: Site, until: Until) -> None:
    site.write("x.py", "")
    pid = site.stays("x.py", until)
    site.channel.send(Release(site.last))
    site.channel.sync()
    assert site.ask("x.py")[0] == pid


@pytest.mark.parametrize("name", LANGUAGES)
def test_busy_process_gets_no_second_request(site: Site, until: Until, name: str) -> None:
    text = {"x.py": "sys.stdin.read()\n", "x.pl": "my @all = <STDIN>;\n"}
    site.write(name, text[name])
    pid = site.stays(name, until)
    reader, writer = os.pipe()
    first, _ = site.begin(name, stdin=reader)
    busy = site.last
    os.close(reader)
    assert int(os.read(first, 100)) == pid
    second = site.ask(name)[0]
    assert second != pid
    assert site.ask(name)[0] == second
    os.close(writer)
    assert site.end(busy).status == 0
    assert site.ask(name)[0] == pid


@pytest.mark.parametrize("name", LANGUAGES)
def test_idle_process_that_is_killed_costs_no_request(site: Site, until: Until, name: str) -> None:
    site.write(name, "")
    site.stays(name, until)
    for _ in range(5):
        pid = site.ask(name)[0]
        os.kill(pid, signal.SIGKILL)
        assert site.ask(name)[0] != pid


def test_process_that_does_not_begin_is_killed_and_its_order_done(
    persistent: Callable[..., Site], until: Until, lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.process.persistent.STUCK", 0.2)
    monkeypatch.setattr("gateway.process.persistent.SWEEP", 0.1)
    site = persistent()
    site.write("x.py", "")
    pid = site.stays("x.py", until)
    os.kill(pid, signal.SIGSTOP)
    assert site.ask("x.py")[0] != pid
    until(lambda: not lives(pid), "it is killed")


def test_processes_are_bounded_and_one_that_has_rested_makes_room(
    persistent: Callable[..., Site], until: Until, lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.process.persistent.RESTED", 0.0)
    site = persistent(concurrency=1)
    site.write("x.py", "")
    pid = site.stays("x.py", until)
    site.kept.script("y.py", PYTHON + PID["x.py"])
    assert site.ask("y.py")[0] != pid
    until(lambda: not lives(pid), "it makes room")


def test_script_for_which_there_is_no_room_is_warm(
    persistent: Callable[..., Site], until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.process.persistent.RESTED", 1000.0)
    site = persistent(concurrency=1)
    site.write("x.py", "")
    pid = site.stays("x.py", until)
    site.kept.script("y.py", PYTHON + PID["x.py"])
    assert len({site.ask("y.py")[0] for _ in range(3)} - {pid}) == 3
    assert site.ask("x.py")[0] == pid


def test_process_leaves_after_many_requests(
    persistent: Callable[..., Site], until: Until, lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.process.persistent.SERVED_MAX", 20)
    site = persistent()
    site.write("x.py", "")
    pid = site.stays("x.py", until)
    for _ in range(20):
        site.ask("x.py")
    until(lambda: not lives(pid), "it leaves")


def test_idle_process_leaves_and_its_zygote_after_it_which_is_told(
    persistent: Callable[..., Site], until: Until, lives: Lives
) -> None:
    site = persistent(idle=0.5)
    site.write("x.py", "")
    pid = site.stays("x.py", until)
    until(lambda: not lives(pid), "it leaves")
    until(lambda: "the zygote leaves: it served" in site.kept.log(), "so does the zygote")


def test_process_outlives_its_zygote(site: Site, until: Until) -> None:
    site.write("x.py", "")
    pid = site.stays("x.py", until)
    (zygote,) = (each for each in site.kept.children() if each != pid)
    os.kill(zygote, signal.SIGKILL)
    until(lambda: pid in site.kept.children(), "the keeper takes it over")
    assert site.ask("x.py")[0] == pid
    os.kill(pid, signal.SIGKILL)
    assert site.ask("x.py")[0] != pid


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("name", LANGUAGES)
def test_processes_leave_with_their_keeper(
    site: Site, until: Until, lives: Lives, name: str, busy: bool
) -> None:
    text = {
        "x.py": "import time\nif os.environ['QUERY_STRING']: time.sleep(300)\n",
        "x.pl": "sleep 300 if $ENV{QUERY_STRING};\n",
    }
    site.write(name, text[name])
    pid = site.stays(name, until)
    if busy:
        assert int(os.read(site.begin(name, "wait")[0], 100)) == pid
    site.kept.stop()
    site.kept.wait()
    assert not lives(pid)


def test_script_of_another_language_is_executed_and_that_is_told_once(site: Site) -> None:
    site.kept.script("x.sh", "#!/bin/sh\necho $$\n")
    assert len({site.ask("x.sh")[0] for _ in range(3)}) == 3
    assert site.kept.log().count("its route says persistent") == 1


def test_many_requests_leave_no_zombie_and_no_descriptor(site: Site, until: Until) -> None:
    site.write("x.py", "import own\n")
    site.kept.script("own.py", "")
    pid = site.stays("x.py", until)
    before, theirs = site.kept.descriptors(), sorted(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(200):
        assert site.ask("x.py")[0] == pid
        os.close(site.channel._fds.pop())
        os.close(site.channel._fds.pop())
    assert site.kept.descriptors() <= before
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == theirs


def test_atexit_functions_run_at_the_end_of_their_request_and_those_of_modules_with_the_process(
    site: Site, until: Until, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    site.kept.script("own.py", f"import atexit\natexit.register(open, {str(mark)!r}, 'w')\n")
    site.write("x.py", "import atexit, own\natexit.register(print, 'end')\nprint('script')\n")
    pid = site.stays("x.py", until)
    mark.unlink(missing_ok=True)
    assert site.ask("x.py") == (pid, "script\nend\n")
    assert site.ask("x.py") == (pid, "script\nend\n")
    assert not mark.exists()
    site.write("x.py", "")
    site.ask("x.py")
    until(mark.exists, "the module's function is called")


def test_memory_and_requests_of_ready_interpreters_are_told(
    keep: Keep, open_channel: Any, content: Content, tmp_path: Path
) -> None:
    kept = keep(scripts={"r": ScriptRoot(root=os.fsencode(tmp_path / "root"), start="warm")})
    site = Site(kept, open_channel(kept), content)
    site.write("x.py", "import json\n")
    for _ in range(3):
        site.ask("x.py")
    kept.stop()
    kept.wait()
    found = re.findall(
        r" info keeper tests zygote \S+ -S: the zygote leaves: it served 3 in \d+ s, with ([\d.]+) "
        r"MiB of its own, ([\d.]+) MiB shared and (\d+) modules loaded beforehand\n",
        kept.log(),
    )
    assert len(found) == 1
    private, shared, modules = map(float, found[0])
    assert private > 0.5
    assert shared > 0.5
    assert modules >= 1


PLAIN = """import os, sys
sys.stdout.write("%d\\n" % os.getpid())
import atexit, signal, own
seen = ["leaked" in globals(), os.environ.get("LEAK"), os.getcwd(), os.umask(18), sys.argv]
seen += [sys.stdin.read(), sorted(os.listdir("/proc/self/fd")), sys.path, hasattr(sys, "mine")]
seen += [signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL, __name__, own.seen]
sys.stdout.write("%r\\n" % (seen,))
leaked = sys.mine = own.seen = 1
os.environ["LEAK"] = "1"
os.chdir("/")
os.umask(63)
sys.argv.append("x")
sys.path.insert(0, sys.path[0])
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
atexit.register(sys.stdout.write, "end\\n")
if os.environ["QUERY_STRING"] == "raise":
    raise ValueError("ouch")
if os.environ["QUERY_STRING"] == "exit":
    sys.exit("said")
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_every_python_runs_a_script_again(site: Site, until: Until, version: str) -> None:
    if version not in PYTHONS:
        pytest.skip(f"Python {version} is not installed")
    site.kept.script("own.py", "seen = 0\n")
    site.kept.script("x.py", f"#!{PYTHONS[version]} -S\n" + PLAIN)
    first = site.ask("x.py")
    pid = site.stays("x.py", until)
    for _ in range(2):
        assert site.ask("x.py") == (pid, first[1].replace("'__main__', 0]", "'__main__', 1]"))
    path = site.kept.root / "x.py"
    raised, said = site.ask("x.py", "raise", status=1)
    assert raised == pid
    assert said.endswith(f'  File "{path}", line 18, in <module>\n    raise ValueError("ouch")\n'
                         "ValueError: ouch\n")  # fmt: skip
    assert said.count("  File ") == 1
    assert "\nend\n" in said
    exited, said = site.ask("x.py", "exit", status=1)
    assert exited != pid
    assert said.endswith("end\nsaid\n")


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.13"])
def test_module_that_comes_beside_the_script_is_taken_by_the_next_request(
    site: Site, until: Until, version: str
) -> None:
    if version not in PYTHONS:
        pytest.skip(f"Python {version} is not installed")
    text = (
        f"#!{PYTHONS[version]}\nimport os, sys\nprint(os.getpid())\n"
        "import json\nprint(getattr(json, 'OWN', False))\n"
    )
    site.kept.script("x.py", text)
    pid = site.stays("x.py", until)
    assert site.ask("x.py") == (pid, "False\n")
    site.kept.script("json.py", "OWN = True\n")
    now, said = site.ask("x.py")
    assert now != pid
    assert said == "True\n"
