"""`gateway doctor`: for each cause a real script that is broken by it, and what is said of it."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load
from gateway.daemon import cli, doctor
from gateway.daemon.examination import Wish

HERE = Path(__file__).resolve().parents[2]
NOBODY = 65534
GOOD = b"echo Content-Type: text/plain\necho\necho well\n"
BY_ROOT = os.geteuid() == 0


@dataclass
class Said:
    """A report."""

    code: int
    text: str

    def __getitem__(self, name: str) -> list[tuple[str, str]]:
        """Return level and text of each line about `name`."""
        lines = (line for line in self.text.splitlines() if line[4:6] == "  " and line[0] != " ")
        rows = [(line[:4].rstrip(), line[6:17].rstrip(), line[19:]) for line in lines]
        return [(level, text) for level, about, text in rows if about == name]

    def only(self, name: str) -> tuple[str, str]:
        (line,) = self[name]
        return line

    @property
    def failed(self) -> list[str]:
        names = [line[6:17].rstrip() for line in self.text.splitlines() if line[:6] == "FAIL  "]
        return list(dict.fromkeys(names))


@pytest.fixture
def area() -> Iterator[Path]:
    """A directory that every account may search, which pytest's own is not."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


@pytest.fixture
def put(area: Path) -> Callable[..., Path]:
    def put(name: str, content: bytes | str, mode: int = 0o755) -> Path:
        path = area / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    return put


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Have a target checked, and its report taken apart."""

    def said(target: object, settings: Path | None = None, **wish: Any) -> Said:
        capsys.readouterr()
        loaded = None if settings is None else load(str(settings))
        code = doctor.run(str(target), loaded, Wish(**wish))
        return Said(code, capsys.readouterr().out)

    return said


def gateway(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )


# Scripts that are well.


def python(text: str) -> str:
    return f"#!{sys.executable}\n{text}"


WELL = {
    "x.py": python("print('Content-Type: text/plain\\n')\nprint('well')\n"),
    "x.pl": "#!/usr/bin/perl\nprint qq(Content-Type: text/plain\\n\\nwell\\n);\n",
    "x.sh": b"#!/bin/sh\n" + GOOD,
}


@pytest.mark.parametrize("name", WELL)
def test_good_script_is_well(
    name: str, put: Callable[..., Path], said: Callable[..., Said]
) -> None:
    report = said(put(name, WELL[name]))
    assert (report.code, report.failed) == (0, [])
    assert report.only("answer") == ("ok", "200, 5 bytes of body")
    assert report.only("run")[1].startswith("exit status 0 after ")
    assert "| Content-Type: text/plain" in report.text
    assert report.text.splitlines()[-1] == "Nothing is wrong."


def test_program_in_c_is_well(area: Path, said: Callable[..., Said]) -> None:
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler")
    (area / "x.c").write_text(
        '#include <stdio.h>\nint main(void) { puts("Content-Type: text/plain\\n\\nwell"); }\n'
    )
    subprocess.run([compiler, "-o", area / "x.cgi", area / "x.c"], check=True)
    report = said(area / "x.cgi")
    assert report.code == 0
    assert report.only("contents") == ("ok", "a program (ELF)")
    assert report.only("warm")[1].endswith("so it is no script of Python or Perl")


def test_interpreter_tells_its_version(put: Callable[..., Path], said: Callable[..., Said]) -> None:
    report = said(put("x.py", WELL["x.py"]))
    version = ".".join(map(str, sys.version_info[:3]))
    assert report.only("interpreter") == ("ok", f"{sys.executable}, version {version}")
    assert report.only("warm") == ("ok", "yes: a new process of a Python that is ready")


def test_request_is_what_was_wished(
    put: Callable[..., Path], area: Path, said: Callable[..., Said]
) -> None:
    script = put(
        "x.sh",
        '#!/bin/sh\necho "Content-Type: text/plain"\necho "X-Seen: $REQUEST_METHOD $QUERY_STRING '
        '$CONTENT_LENGTH $(cat) $(pwd) $SCRIPT_NAME $#"\necho\n',
    )
    body = put("body", b"a=1&b=2", 0o644)
    report = said(script, method="POST", query="q=1", stdin=str(body))
    assert report.code == 0
    assert f"| X-Seen: POST q=1 7 a=1&b=2 {area} /x.sh 0" in report.text


def test_without_a_body_a_script_reads_an_end(
    put: Callable[..., Path], said: Callable[..., Said]
) -> None:
    assert said(put("x.sh", b"#!/bin/sh\ncat >/dev/null\n" + GOOD)).code == 0


def test_local_redirect_and_nph_are_answers(
    put: Callable[..., Path], said: Callable[..., Said]
) -> None:
    local = said(put("x.sh", "#!/bin/sh\necho 'Location: /there'\necho\n"))
    assert local.only("answer") == ("ok", "a local redirect to /there")
    nph = said(put("nph.sh", "#!/bin/sh\nprintf 'HTTP/1.0 200 Yes\\n\\nx'\n"))
    assert nph.only("answer")[1] == "200, as an NPH script, 1 bytes of body, but " + NO_TYPE


# Its file.


def test_file_that_is_not_there(area: Path, said: Callable[..., Said]) -> None:
    report = said(area / "absent.cgi")
    assert report.code == 1
    assert report.only("file") == ("FAIL", "there is no such file")
    assert report.only("directories")[0] == "ok"


def test_directory_that_is_not_there(area: Path, said: Callable[..., Said]) -> None:
    report = said(area / "absent" / "x.cgi")
    text = f"{area}/absent: there is no such directory"
    assert report.only("directories") == ("FAIL", text)


def test_file_above_it(put: Callable[..., Path], said: Callable[..., Said]) -> None:
    file = put("x.sh", b"#!/bin/sh\n" + GOOD)
    assert said(file / "more").only("directories") == ("FAIL", f"{file} is not a directory")


def test_link_to_nothing(area: Path, said: Callable[..., Said]) -> None:
    (area / "x.cgi").symlink_to("gone.cgi")
    why = "it is a symbolic link to gone.cgi, where nothing is"
    assert said(area / "x.cgi").only("file") == ("FAIL", why)


def test_directory_is_no_script(area: Path, said: Callable[..., Said]) -> None:
    (area / "x.cgi").mkdir()
    assert said(area / "x.cgi").only("file") == ("FAIL", "it is a directory")


def test_fifo_is_no_script_and_is_not_waited_for(area: Path, said: Callable[..., Said]) -> None:
    os.mkfifo(area / "x.cgi", 0o755)
    assert said(area / "x.cgi").only("file") == ("FAIL", "it is not a regular file")


def test_empty_file(put: Callable[..., Path], said: Callable[..., Said]) -> None:
    report = said(put("x.cgi", b""))
    assert report.only("first line") == ("FAIL", "it is an empty file: was its upload cut off?")
    assert report.only("run") == ("FAIL", "it does not start, as is said above")


@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_set_id(mode: int, put: Callable[..., Path], said: Callable[..., Said]) -> None:
    report = said(put("x.cgi", b"#!/bin/sh\n" + GOOD, mode))
    level, why = report.only("file")
    assert (level, why) == (
        "FAIL",
        "it is set-user-id or set-group-id, which is never started: chmod ug-s",
    )
    assert report["run"] == []


def test_not_executable(put: Callable[..., Path], said: Callable[..., Said]) -> None:
    report = said(put("x.cgi", b"#!/bin/sh\n" + GOOD, 0o644))
    assert report.failed == ["mode"]
    assert "make it executable (chmod +x)" in report.only("mode")[1]
    assert report.only("first line") == ("ok", "#!/bin/sh")


def test_who_else_may_write_it_is_a_warning(
    put: Callable[..., Path], said: Callable[..., Said]
) -> None:
    group = said(put("x.cgi", b"#!/bin/sh\n" + GOOD, 0o775))
    assert (group.code, group["mode"][0][0]) == (0, "warn")
    assert "chmod g-w" in group["mode"][0][1]
    assert group.text.endswith("Nothing is wrong but 1 warning.\n")
    world = said(put("x.cgi", b"#!/bin/sh\n" + GOOD, 0o777), dry=True)
    assert "chmod o-w" in world["mode"][0][1]


def test_control_characters_of_a_name_are_inert(
    put: Callable[..., Path], said: Callable[..., Said]
) -> None:
    report = said(put("x\x1b[2J\n.cgi", b"#!/bin/sh\nprintf 'X: \\033]0;x\\n\\n'\n"))
    assert "\x1b" not in report.text
    assert report.text.splitlines()[0].endswith("/x\\x1b[2J\\x0a.cgi, as " + me())


def test_name_that_is_not_utf8(area: Path, said: Callable[..., Said]) -> None:
    path = os.fsencode(area) + b"/\xff.cgi"
    with open(path, "wb") as file:
        file.write(b"#!/bin/sh\n" + GOOD)
    os.chmod(path, 0o755)
    report = said(os.fsdecode(path))
    assert report.code == 0
    assert "/\\udcff.cgi, as " in report.text


def me() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


# Its first line.

FIRST_LINES: dict[str, tuple[bytes, str]] = {
    "crlf": (b"#!/bin/sh\r\necho\r\n", 'an interpreter named "/bin/sh\\r": save it with Unix'),
    "crlf, env": (b"#!/usr/bin/env sh\r\necho\r\n", "its lines end in CRLF: save it with Unix"),
    "bom": (b"\xef\xbb\xbf#!/bin/sh\n" + GOOD, "it begins with a byte order mark"),
    "utf-16": ("#!/bin/sh\n".encode("utf-16"), "it is saved as UTF-16"),
    "missing": (b"#!/opt/none/perl -w\n", 'the interpreter "/opt/none/perl" that its first line'),
    "not executable": (b"#!/etc/passwd\n", 'the interpreter "/etc/passwd" that its first line'),
    "none": (b"echo x\n", "it has no #! line"),
    "blank before": (b"\n#!/bin/sh\n" + GOOD, "its #! is not at the very start"),
    "names nothing": (b"#!\n" + GOOD, "its #! line names no interpreter"),
    "env, absent": (b"#!/usr/bin/env no-such-program-9\n", '"no-such-program-9" that it asks env'),
    "env, two words": (b"#!/usr/bin/env sh -e\n", "write #!/usr/bin/env -S sh -e"),
    "env, none": (b"#!/usr/bin/env\n", "names no program"),
}  # fmt: skip


@pytest.mark.parametrize("case", FIRST_LINES)
def test_first_line(case: str, put: Callable[..., Path], said: Callable[..., Said]) -> None:
    content, words = FIRST_LINES[case]
    report = said(put("x.cgi", content))
    assert report.code == 1
    level, text = report.only("first line")
    assert level == "FAIL"
    assert words in text
    assert "run" in report.failed  # and the system agrees
    assert report["warm"] == []


def test_good_first_lines(put: Callable[..., Path], said: Callable[..., Said]) -> None:
    for line in (b"#! /bin/sh -e", b"#!/usr/bin/env sh", b"#!/usr/bin/env -S A=b sh -e"):
        report = said(put("x.cgi", line + b"\n" + GOOD))
        assert (report.code, report["first line"][0][0]) == (0, "ok"), report.text


def test_relative_interpreter_is_looked_for_beside_the_script(
    put: Callable[..., Path], area: Path, said: Callable[..., Said]
) -> None:
    script = put("x.cgi", b"#!own/sh\n" + GOOD)
    assert said(script).only("first line")[0] == "FAIL"
    (area / "own").mkdir()
    (area / "own/sh").symlink_to("/bin/sh")
    report = said(script)
    assert (report.code, report.only("first line")[0]) == (0, "warn")


def test_program_of_another_processor(put: Callable[..., Path], said: Callable[..., Said]) -> None:
    elf = bytearray(Path(sys.executable).resolve().read_bytes()[:4096])
    elf[18:20] = b"\xf0\xf0"
    report = said(put("x.cgi", bytes(elf)))
    why = "it was built for another processor: build it on this machine"
    assert report.only("contents") == ("warn", why)
    assert report.only("run") == ("FAIL", "it does not start, as is said above")


def test_interpreter_that_a_daemon_does_not_find_is_a_warning(
    put: Callable[..., Path],
    area: Path,
    said: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = area / "bin"
    own.mkdir()
    (own / "own-sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", f"{own}:{os.environ['PATH']}")
    report = said(put("x.cgi", b"#!/usr/bin/env own-sh\n" + GOOD))
    assert report.code == 0
    (_, found), (level, text) = report["first line"]
    assert found.endswith(f"which is {own}/own-sh")
    assert level == "warn"
    assert "finds no own-sh: set PATH" in text


# What it does.

NO_TYPE = "no Content-Type, so it is sent as plain text: print Content-Type: text/html"
RUNS: dict[str, tuple[str, str, str]] = {
    # script, what failed, about what, words
    "a module that is not there": (
        python("import no_such_module_9\n"),
        "run", "the Python module no_such_module_9 is not installed",
    ),
    "a Perl module that is not there": (
        "#!/usr/bin/perl\nuse No::Such9;\n", "run", "the Perl module No::Such9 is not installed",
    ),
    "no blank line": (
        "#!/bin/sh\necho 'Content-Type: text/html'\necho '<p>hello'\n",
        "answer", 'it begins "Content-Type: text/html\\n<p>hello\\n"',
    ),
    "no head": ("#!/bin/sh\necho '<p>hello'\n", "answer", "it looks like HTML"),
    "bad field": (
        "#!/bin/sh\nprintf 'Content-Type : text/html\\n\\n'\n",
        "answer", 'has a space before the colon; it is "Content-Type : text/html"',
    ),
    "nothing": ("#!/bin/sh\n", "answer", "the script ended without any output"),
    "exit 3": ("#!/bin/sh\necho 'no disk' >&2\nexit 3\n", "run", "exit status 3 after"),
    "killed": ("#!/bin/sh\nkill -9 $$\n", "run", "killed by SIGKILL after"),
    "a crash": ("#!/bin/sh\nkill -SEGV $$\n", "run", "crashed (segmentation fault)"),
    "syntax, Python": (
        python("print('x'\n"), "run", "it cannot be compiled: SyntaxError: '(' was never closed",
    ),
    "syntax, Perl": (
        "#!/usr/bin/perl\nprint 1 +;\n", "run", "it cannot be compiled: syntax error at ",
    ),
    "syntax, strict Perl": (
        "#!/usr/bin/perl\nuse strict;\n$x = 1;\n", "run", "it cannot be compiled: Global symbol",
    ),
    "syntax, sh": ("#!/bin/sh\nif true; then\n", "run", "it cannot be compiled: "),
    "syntax, bash": ("#!/bin/bash\necho (\n", "run", "it cannot be compiled: "),
    "a traceback": (python("{}['x']\n"), "run", "it failed with KeyError: 'x'"),
    "a flag that is none": (f"#!{sys.executable} -Z\n", "run", "flag of the #! line: Unknown opt"),
    "a flag that is none, sh": ("#!/bin/sh -Z\n", "run", "does not know a flag of the #! line"),
    "less than announced": (
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\nContent-Length: 9\\n\\nfour'\n",
        "answer", "it announces 9 bytes and sends 4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS)
def test_run(case: str, put: Callable[..., Path], said: Callable[..., Said]) -> None:
    script, name, words = RUNS[case]
    report = said(put("x.cgi", script))
    assert report.code == 1, report.text
    assert ("FAIL", True) in [(level, words in text) for level, text in report[name]], report.text
    assert report.text.splitlines()[-1].startswith("Wrong: ")


def python_313() -> str:
    """Return an interpreter that has no `cgi` any more, also one of pyenv, or skip."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    own = [sys.executable] if sys.version_info >= (3, 13) else []
    for command in [*own, "python3.13", *map(str, pyenv.glob("versions/3.13.*/bin/python3.13"))]:
        try:
            done = subprocess.run([command, "-Ic", "import cgi"], capture_output=True, check=False)
        except OSError:
            continue
        if b"No module named 'cgi'" in done.stderr:
            return shutil.which(command) or command
    pytest.skip("there is no Python 3.13 here, or it has legacy-cgi")


def test_cgi_module_that_python_313_removed(
    put: Callable[..., Path], said: Callable[..., Said]
) -> None:
    report = said(put("x.cgi", f"#!{python_313()} -I\nimport cgi\n"))
    assert "Python 3.13 removed the module cgi: install legacy-cgi" in report.only("run")[1]


def test_what_it_wrote_to_stderr_is_shown_to_its_last_lines(
    put: Callable[..., Path], said: Callable[..., Said]
) -> None:
    report = said(put("x.cgi", "#!/bin/sh\nseq 20 >&2\necho 'no \033disk' >&2\nexit 3\n"))
    assert report.only("stderr") == ("warn", "21 lines, the last 10, for the error log")
    shown = [line.strip() for line in report.text.splitlines() if line.lstrip().startswith("| ")]
    assert shown == [*(f"| {n}" for n in range(12, 21)), "| no \\x1bdisk"]


def test_without_content_type_is_a_warning(
    put: Callable[..., Path], said: Callable[..., Said]
) -> None:
    report = said(put("x.cgi", "#!/bin/sh\nprintf 'X-A: 1\\n\\nx'\n"))
    assert report.code == 0
    assert report.only("answer") == ("warn", f"200, 1 bytes of body, but {NO_TYPE}")


def test_length_of_an_answer_to_head_is_that_of_one_to_get(
    put: Callable[..., Path], said: Callable[..., Said]
) -> None:
    text = "printf 'Content-Type: text/plain\\nContent-Length: 9\\n\\n'\n"
    script = put("x.cgi", f"#!/bin/sh\n{text}")
    assert said(script, method="HEAD").code == 0
    assert said(script).failed == ["answer"]


def test_answer_with_an_exit_status_is_a_warning(
    put: Callable[..., Path], said: Callable[..., Said]
) -> None:
    report = said(put("x.cgi", b"#!/bin/sh\n" + GOOD + b"exit 3\n"))
    assert (report.code, report.only("run")[0]) == (0, "warn")
    assert report.only("run")[1].startswith("exit status 3 after ")


def test_script_that_hangs_is_stopped(
    put: Callable[..., Path], area: Path, said: Callable[..., Said]
) -> None:
    script = put("x.cgi", f"#!/bin/sh\ntrap '' TERM\necho $$ >{area}/pid\nread x </dev/null\n"
                          "while :; do sleep 60; done\n")  # fmt: skip
    report = said(script, seconds=0.5)
    level, text = report.only("run")
    assert level == "FAIL"
    assert text.startswith("no answer in 0.5 s, then it was stopped: does it wait for input")
    assert gone(int((area / "pid").read_text()))


def test_stream_is_cut_and_no_fault(
    put: Callable[..., Path], area: Path, said: Callable[..., Said]
) -> None:
    text = f"echo $$ >{area}/pid\nprintf 'Content-Type: text/plain\\n\\nx'\nexec sleep 60\n"
    report = said(put("x.cgi", f"#!/bin/sh\n{text}"), seconds=0.5)
    assert (report.code, report.only("run")[0]) == (0, "warn")
    assert "right for a stream only" in report.only("run")[1]
    assert gone(int((area / "pid").read_text()))


def test_what_it_leaves_in_the_background_is_stopped(
    put: Callable[..., Path], area: Path, said: Callable[..., Said]
) -> None:
    script = put("x.cgi", b"#!/bin/sh\nsetsid sh -c 'echo $$ >pid; exec sleep 600' &\n"
                          b"while [ ! -s pid ]; do :; done\n" + GOOD)  # fmt: skip
    report = said(script)
    assert report.code == 0
    assert report.only("background")[0] == "warn"
    assert gone(int((area / "pid").read_text()))


def test_much_output_is_counted_and_not_kept(
    put: Callable[..., Path], said: Callable[..., Said]
) -> None:
    text = "printf 'Content-Type: text/plain\\n\\n'\nhead -c 3000000 /dev/zero\n"
    report = said(put("x.cgi", f"#!/bin/sh\n{text}"))
    assert report.only("answer") == ("ok", "200, 3000000 bytes of body")


def test_dry_runs_nothing(put: Callable[..., Path], area: Path, said: Callable[..., Said]) -> None:
    report = said(put("x.cgi", f"#!/bin/sh\ntouch {area}/ran\n".encode() + GOOD), dry=True)
    assert report.only("run") == ("ok", "not run: --dry")
    assert (report.code, report["interpreter"], (area / "ran").exists()) == (0, [], False)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# As somebody else.

needs_root = pytest.mark.skipif(not BY_ROOT, reason="only root can be another user")

SITE = """
[server]
runtime = "run"
[[site]]
hosts = ["a.test"]
root = "htdocs"
user = "nobody"
environment = { GREETING = "hello" }
  [[site.route]]
  path = "/cgi-bin/old/"
  root = "htdocs"
  [[site.route]]
  path = "/cgi-bin/"
  cgi = "scripts"
  [[site.route]]
  match = "*.fcgi"
  fastcgi = true
  [[site.route]]
  path = "/app/"
  pool = "app"
[pool.app]
wsgi = "app:application"
"""


@pytest.fixture
def site(area: Path, put: Callable[..., Path]) -> Path:
    """The settings of a site; without root its account is ours."""
    put("htdocs/index.html", "hello", 0o644)
    (area / "scripts").mkdir()
    text = SITE if BY_ROOT else SITE.replace('user = "nobody"\n', "")
    return put("g.toml", text, 0o644)


@needs_root
def test_root_runs_nothing_of_somebody_else(
    put: Callable[..., Path], area: Path, said: Callable[..., Said]
) -> None:
    script = put("x.cgi", f"#!/bin/sh\ntouch {area}/ran\n".encode() + GOOD)
    os.chown(script, NOBODY, NOBODY)
    report = said(script)
    assert report.failed == ["run"]
    text = f"not run as root, because {script} belongs to nobody: run this as the owner"
    assert report.only("run")[1].startswith(text)
    os.chown(script, 0, 0)
    script.chmod(0o777)
    assert f"because everybody may write {script}" in said(script).only("run")[1]
    script.chmod(0o755)
    (area / "own").mkdir()
    shutil.copy("/bin/sh", area / "own/sh")
    os.chown(area / "own/sh", NOBODY, NOBODY)
    script.write_bytes(f"#!{area}/own/sh\ntouch {area}/ran\n".encode())
    assert f"because {area}/own/sh belongs to nobody" in said(script).only("run")[1]
    script.write_bytes(f"#!/usr/bin/env {area}/own/sh\ntouch {area}/ran\n".encode())
    assert f"because {area}/own/sh belongs to nobody" in said(script).only("run")[1]
    script.write_bytes(b"#!/bin/sh\n" + GOOD)
    (area / "one").symlink_to("two")
    (area / "two").symlink_to("x.cgi")
    os.chown(area / "two", NOBODY, NOBODY, follow_symlinks=False)  # who may point it elsewhere
    assert f"because {area}/two belongs to nobody" in said(area / "one").only("run")[1]
    assert said(script).code == 0
    os.chown(area, NOBODY, NOBODY)
    assert f"because {area} belongs to nobody" in said(script).only("run")[1]
    assert not (area / "ran").exists()


@needs_root
def test_site_s_user_looks_and_runs(
    put: Callable[..., Path], site: Path, said: Callable[..., Said]
) -> None:
    script = put("scripts/x.cgi", '#!/bin/sh\necho "X-Who: $(id -un) $GREETING"\necho\n')
    os.chown(script, NOBODY, NOBODY)
    report = said(script, site)
    assert report.code == 0, report.text
    assert report.text.splitlines()[0] == f"{script}, as nobody"
    text = 'the site "a.test", its route "/cgi-bin/": http://a.test/cgi-bin/x.cgi'
    assert report.only("site") == ("ok", text)
    assert report.only("user") == ("ok", "nobody runs it")
    assert "| X-Who: nobody hello" in report.text


@needs_root
def test_directory_that_the_user_may_not_search(
    put: Callable[..., Path], site: Path, area: Path, said: Callable[..., Said]
) -> None:
    script = put("scripts/x.cgi", b"#!/bin/sh\n" + GOOD)
    (area / "scripts").chmod(0o700)
    report = said(script, site)
    # The front, which is root here, finds it; the account that runs it does not.
    assert report.only("directories") == (
        "FAIL",
        f"{area}/scripts may not be searched by nobody (0700, owner root): "
        "let others search it (chmod o+x), or move the script",
    )


@needs_root
def test_front_that_may_not_search_a_directory(
    put: Callable[..., Path], site: Path, area: Path, said: Callable[..., Said]
) -> None:
    site.write_text(site.read_text().replace('"run"\n', '"run"\nuser = "nobody"\n', 1))
    script = put("scripts/x.cgi", b"#!/bin/sh\n" + GOOD)
    (area / "scripts").chmod(0o700)
    report = said(script, site, dry=True)
    assert "which is answered with 403" in report.only("site")[1]
    assert "may not search its directory" in report.only("site")[1]


@needs_root
def test_file_that_the_user_may_not_read_or_execute(
    put: Callable[..., Path], site: Path, said: Callable[..., Said]
) -> None:
    script = put("scripts/x.cgi", b"#!/bin/sh\n" + GOOD, 0o700)
    assert said(script, site).only("mode")[1] == (
        "0700, owner root: may not be executed by nobody: chmod a+rx it"
    )
    script.chmod(0o711)
    assert "may not be read by nobody" in said(script, site).only("mode")[1]


# With settings.


def test_file_that_no_route_has(
    put: Callable[..., Path], site: Path, said: Callable[..., Said]
) -> None:
    report = said(put("elsewhere/x.cgi", b"#!/bin/sh\n" + GOOD), site)
    assert report.failed == ["site"]
    assert report.only("site")[1].startswith("no route of the settings leads to it")


def test_file_that_a_route_before_hides(
    put: Callable[..., Path], site: Path, said: Callable[..., Said]
) -> None:
    put("scripts/old/x.cgi", b"#!/bin/sh\n" + GOOD)
    put("htdocs/x.cgi", b"text", 0o644)
    report = said(site.parent / "scripts/old/x.cgi", site, dry=True)
    assert report.only("site") == (
        "FAIL",
        f"its URL would be /cgi-bin/old/x.cgi, which leads to {site.parent}/htdocs/x.cgi instead: "
        "a route before takes it",
    )


def test_file_that_is_there_and_is_not_found(
    put: Callable[..., Path], site: Path, said: Callable[..., Said]
) -> None:
    hidden = put("scripts/.x.cgi", b"#!/bin/sh\n" + GOOD)
    text = said(hidden, site, dry=True).only("site")[1]
    assert text.endswith("; a name that starts with a dot is never found")
    link = site.parent / "scripts/y.cgi"
    link.symlink_to("/bin/true")
    text = said(link, site, dry=True).only("site")[1]
    assert text.startswith("its URL would be /cgi-bin/y.cgi, which is answered with 404: ")
    assert text.endswith("see symlinks in the site's settings")


def test_fastcgi_program_is_looked_at_and_not_run(
    put: Callable[..., Path], site: Path, said: Callable[..., Said]
) -> None:
    report = said(put("htdocs/x.fcgi", b"#!/bin/sh\n" + GOOD), site)
    assert report.only("run") == ("ok", "not run: it is a FastCGI program; ask for its URL")
    assert report.code == 0


def test_given_file_has_the_rules_of_its_listener(
    put: Callable[..., Path], area: Path, said: Callable[..., Said]
) -> None:
    script = put("given/x.cgi", b"#!/bin/sh\n" + GOOD, 0o757)
    settings = put(
        "g.toml",
        f'[listen]\nfastcgi = [{{ address = "unix:{area}/s", script = "param", '
        f'roots = ["{area}/given"] }}]\n',
        0o644,
    )
    report = said(script, settings)
    assert report.only("site")[1].startswith("its route ")
    assert report.only("rules")[1].startswith('rule "world-writable": ')
    script.chmod(0o755)
    assert said(script, settings).code == 0


# A URL.


def test_url_of_a_daemon(
    daemon: Any, put: Callable[..., Path], area: Path, said: Callable[..., Said]
) -> None:
    put("htdocs/good.cgi", b"#!/bin/sh\n" + GOOD)
    put("htdocs/bad.cgi", "#!/bin/sh\nexit 3\n")
    put("htdocs/page.html", "hello", 0o644)
    text = (
        f'[[site]]\nhosts = ["a.test"]\nroot = "{area}/htdocs"\n[[site.route]]\nmatch = "*.cgi"\n'
    )
    running = daemon(text + "cgi = true\n")
    settings = running.directory / "gateway.toml"
    base = f"http://127.0.0.1:{running.port}"

    good = said(f"{base}/good.cgi/info?x=1", settings)
    assert good.code == 0, good.text
    assert good.only("URL")[1].startswith("200 OK after ")
    assert f"{area}/htdocs/good.cgi, as {me()}" in good.text
    assert 'its route "*.cgi": ' in good.only("site")[1]
    assert good.only("user") == ("ok", f"{me()} runs it")

    bad = said(f"{base}/bad.cgi", settings)
    assert bad.failed == ["URL", "run", "answer"]
    assert bad.only("URL")[1].startswith("502 Bad Gateway after ")
    assert "this command with -c FILE" in said(f"{base}/bad.cgi").only("URL")[1]

    page = said(f"{base}/page.html", settings)
    assert (page.code, page.only("file")[1]) == (
        0, f"{area}/htdocs/page.html, 5 bytes: sent as it is",
    )  # fmt: skip
    absent = said(f"{base}/absent.html", settings)
    assert absent.failed == ["URL", "file"]
    assert absent.only("file")[1].endswith("there is no such file")
    posted = said(f"{base}/good.cgi", settings, method="POST")
    assert posted.only("run") == ("ok", "not run again: the URL was asked with POST")


def test_url_of_serve_shows_the_reason_that_the_browser_is_shown(
    put: Callable[..., Path], area: Path, said: Callable[..., Said], wait: Callable[..., None]
) -> None:
    put("cgi-bin/bad.cgi", b"#!/bin/sh\r\n" + GOOD)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", str(area), "-p", str(port)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        report = Said(1, "")

        def answered() -> bool:
            nonlocal report
            report = said(f"http://127.0.0.1:{port}/cgi-bin/bad.cgi")
            return "nothing listens" not in report.text

        wait(answered, "the server answers")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert report.only("URL")[1].startswith("500 ")
    assert "save it with Unix line ends (dos2unix)" in report.text


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def test_url_behind_a_unix_socket(
    put: Callable[..., Path], area: Path, said: Callable[..., Said], wait: Callable[..., None]
) -> None:
    put("htdocs/page.html", "hello", 0o644)
    settings = put(
        "g.toml",
        f'[server]\nruntime = "run"\n[listen]\nhttp = ["unix:{area}/http.sock"]\n'
        f'fastcgi = ["unix:{area}/fcgi.sock"]\n[[site]]\nroot = "htdocs"\n',
        0o644,
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "run", "-c", str(settings)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait(lambda: _listens(area / "http.sock"), "it listens")
        report = said(f"unix:{area}/http.sock/page.html", settings)
        wrong = said(f"unix:{area}/fcgi.sock/page.html", settings)
    finally:
        process.terminate()
        process.wait(30)
    assert (report.code, report.only("URL")[1].split()[0]) == (0, "200"), report.text
    assert wrong.failed == ["URL"]


def answering(data: bytes, *, hold: bool = False) -> tuple[int, threading.Thread]:
    """Answer one connection with `data`, and close it when the client does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as client:
            client.recv(65536)
            client.sendall(data)
            while hold and client.recv(1):
                pass

    thread = threading.Thread(target=serve)
    port: int = listener.getsockname()[1]
    return port, thread


@pytest.mark.parametrize(
    ("data", "hold", "words"),
    [
        (b"", False, "no answer of HTTP: the script ended without any output"),
        (b"", True, "no answer within 0.5 s"),
        (b"SSH-2.0-x\r\n\r\n", False, "no answer of HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour", False, "cut off before its end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour", True, "cut off before its end"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", False, "403 No after"),
    ],
)
def test_server_that_does_not_answer_as_it_should(data: bytes, hold: bool, words: str) -> None:
    port, thread = answering(data, hold=hold)
    thread.start()  # a thread beside a fork is what Python warns of, so in another process
    done = gateway("doctor", "--time", "0.5", f"http://127.0.0.1:{port}/")
    thread.join(30)
    assert done.returncode == 1
    assert words in done.stdout, done.stdout


def test_port_where_nothing_listens(said: Callable[..., Said]) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        report = said(f"http://127.0.0.1:{port}/")
    assert report.only("URL") == (
        "FAIL", f"nothing listens at 127.0.0.1:{port}: start the daemon, or see [listen]",
    )  # fmt: skip


def test_url_of_a_pool_says_who_runs_it(site: Path, said: Callable[..., Said]) -> None:
    report = said("http://127.0.0.1:1/app/x", site)
    assert report.failed == ["URL"]
    assert report.only("user")[1].endswith(" runs it")
    assert "the pool app" in report.text


# The command line.


@pytest.mark.parametrize(
    "words",
    [
        "doctor",
        "doctor https://a.test/",
        "doctor http://a.test:70000/",
        "doctor http://a@b/",
        "doctor unix:/no/such.sock/x",
        "doctor x --time 0",
        "doctor x --time nan",
        "doctor x --method 'G T'",
        "doctor x --stdin /no/such/file",
        "doctor x --stdin /dev/zero",
        "doctor x -c /no/such/file",
    ],
)
def test_wrong_command_line_is_code_two(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = cli.main(shlex.split(words))
    except SystemExit as left:
        code = left.code
    assert code == 2
    assert "gateway" in capsys.readouterr().err


def test_command_as_a_person_types_it(put: Callable[..., Path], area: Path) -> None:
    put("x.cgi", b"#!/bin/sh\r\n" + GOOD)
    done = gateway("doctor", "x.cgi", cwd=area)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[0] == f"{area}/x.cgi, as {me()}"
    assert done.stdout.splitlines()[-1] == "Wrong: first line, run."


def test_example_of_the_readme_is_what_comes(area: Path, put: Callable[..., Path]) -> None:
    if not Path("/usr/bin/python3").exists():
        pytest.skip("there is no /usr/bin/python3")
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    block = readme.partition("```\n$ cat cgi-bin/report.cgi\n")[2].partition("```\n")[0]
    script, command, shown = block.partition("$ gateway doctor cgi-bin/report.cgi\n")
    assert command
    put("cgi-bin/report.cgi", script)
    done = gateway("doctor", "cgi-bin/report.cgi", cwd=area)
    came = done.stdout.replace(str(area), "/srv/example")
    came = re.sub(rf"\b{me()}$", "alice", came, flags=re.MULTILINE)
    assert told(came) == told(shown)


def told(text: str) -> str:
    """Return a report without what differs from one machine and run to another."""
    text = re.sub(r"[0-9]+\.[0-9]{3} s", "N s", text)
    return re.sub(r"version [0-9.]+|the [0-9]+ above", "N", text)


def test_interrupted_it_leaves_nothing(
    put: Callable[..., Path], area: Path, wait: Callable[..., None]
) -> None:
    script = put("x.cgi", f"#!/bin/sh\necho $$ >{area}/pid.new\nmv {area}/pid.new {area}/pid\n"
                          "exec sleep 600\n")  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "doctor", "--time", "600", str(script)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stdout=subprocess.DEVNULL,
        # Who runs the tests in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait((area / "pid").exists, "the script runs")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert gone(int((area / "pid").read_text()))
