"""The control socket: who may ask, what is answered, and that nobody holds the master up."""

import http.client
import json
import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.daemon import asking

HERE = Path(__file__).resolve().parents[2]
SITE = """
[[site]]
hosts = ["example.org"]
root = "{dir}/htdocs"
  [[site.route]]
  match = "*.cgi"
  cgi = true
"""

Start = Callable[..., Any]


def ask(*words: str, directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", *words, "-c", str(directory / "gateway.toml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def fill(directory: Path) -> None:
    (directory / "htdocs").mkdir()
    (directory / "htdocs/index.html").write_text("hello")
    work = directory / "htdocs/work.cgi"
    work.write_text(
        "#!/bin/sh\ni=0\nwhile [ $i -lt 20000 ]; do i=$((i+1)); done\n"
        "printf 'Content-Type: text/plain\\n\\nok'\n"
    )
    work.chmod(0o755)


def connected(directory: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(str(directory / "run/control.sock"))
    return sock


def said(sock: socket.socket) -> bytes:
    """Return all that comes until the end."""
    answer = b""
    try:
        while data := sock.recv(65536):
            answer += data
    except ConnectionResetError:  # it was closed with something of ours unread
        pass
    return answer


def test_stop_returns_when_the_daemon_has_gone(daemon: Start, tmp_path: Path) -> None:
    fill(tmp_path)
    running = daemon(SITE)
    done = ask("stop", directory=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert running.process.wait(5) == 0
    assert os.listdir(tmp_path / "run") == []
    late = ask("stop", directory=tmp_path)
    assert late.returncode == 1
    where = f"{tmp_path}/run/control.sock"
    assert late.stderr == f"gateway: {where}: no gateway runs with this runtime directory\n"


def test_socket_is_for_its_owner_alone(daemon: Start, tmp_path: Path) -> None:
    fill(tmp_path)
    daemon(SITE)
    mode = os.stat(tmp_path / "run/control.sock").st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to be somebody else")
def test_another_account_is_refused_even_with_the_rights(
    daemon: Start, tmp_path: Path, wait: Any
) -> None:
    fill(tmp_path)
    running = daemon(SITE)
    nobody = pwd.getpwnam("nobody").pw_uid
    # As if somebody had given the socket away: only the kernel's word counts.
    os.chmod(tmp_path / "run/control.sock", 0o666)
    here = os.open(tmp_path / "run", os.O_PATH)
    program = (
        "import os, socket, sys\n"
        f"os.setresuid({nobody}, {nobody}, {nobody})\n"
        "sock = socket.socket(socket.AF_UNIX)\n"
        f"sock.connect('/proc/self/fd/{here}/control.sock')\n"
        "try:\n"
        "    sock.sendall(b'stop\\n')\n"
        "    sys.exit(len(sock.recv(100)))\n"
        "except (BrokenPipeError, ConnectionResetError):\n"
        "    sys.exit(0)\n"
    )
    try:
        command = [sys.executable, "-c", program]
        assert subprocess.run(command, pass_fds=(here,), timeout=60, check=False).returncode == 0
    finally:
        os.close(here)
    wait(
        lambda: f"account {nobody} may not use the control socket" in running.log(),
        "it is said who was refused",
    )
    assert running.get() == (200, b"hello")


@pytest.mark.parametrize(
    "request_", [b"dance\n", b"status yaml\n", b"\n", b"stop now\n", b"\xff\n"]
)
def test_what_is_no_command_is_answered_so(daemon: Start, tmp_path: Path, request_: bytes) -> None:
    fill(tmp_path)
    running = daemon(SITE)
    with connected(tmp_path) as sock:
        sock.sendall(request_)
        assert said(sock).startswith(b"2\nthe daemon does not know this command")
    assert running.get() == (200, b"hello")


def test_request_without_end_is_dropped(daemon: Start, tmp_path: Path) -> None:
    fill(tmp_path)
    daemon(SITE)
    with connected(tmp_path) as sock:
        sock.sendall(b"a" * 600)
        assert said(sock) == b""


def test_nobody_who_says_nothing_keeps_others_from_asking(daemon: Start, tmp_path: Path) -> None:
    fill(tmp_path)
    daemon(SITE)
    silent = [connected(tmp_path) for _ in range(10)]
    try:
        with connected(tmp_path) as sock:
            sock.sendall(b"ping\n")
            assert said(sock) == b"0\n"
        assert [said(sock) for sock in silent] == [b""] * 10  # they are dropped in the end
    finally:
        for sock in silent:
            sock.close()


def test_status_adds_up_what_all_fronts_and_keepers_say(
    daemon: Start, tmp_path: Path, wait: Any
) -> None:
    fill(tmp_path)
    running = daemon(SITE, fronts=2)
    for _ in range(6):
        assert running.get() == (200, b"hello")
    assert running.get("/work.cgi") == (200, b"ok")
    assert running.get("/absent.html")[0] == 404

    def status() -> dict[str, Any]:
        done = ask("status", "--json", directory=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    wait(lambda: status()["total"]["requests"] == 8, "all are counted")
    found = status()
    assert found["pid"] == running.process.pid
    assert [front["state"] for front in found["fronts"]] == ["serving", "serving"]
    assert found["kinds"]["script"]["requests"] == 1
    site = found["sites"]["example.org"]
    assert site["classes"] == [0, 0, 7, 0, 1, 0]
    assert site["errors"] == 0
    assert site["sent"] >= 6 * 5 + 2
    assert site["cpu"] > 0
    (keeper,) = found["keepers"]
    assert (keeper["running"], keeper["concurrency"], keeper["queued"]) == (0, 64, 0)

    # What a front has counted is not lost with it.
    assert ask("reload", directory=tmp_path).returncode == 0
    wait(lambda: len(status()["fronts"]) == 2, "the old fronts have left")
    assert status()["total"]["requests"] == 8
    assert status()["reloads"] == 1


def test_process_that_does_not_answer_is_shown_as_silent(daemon: Start, tmp_path: Path) -> None:
    fill(tmp_path)
    running = daemon(SITE, fronts=2)
    stopped = next(iter(running.children()))
    os.kill(stopped, signal.SIGSTOP)
    try:
        done = ask("status", "--json", directory=tmp_path)
    finally:
        os.kill(stopped, signal.SIGCONT)
    states = {front["pid"]: front["state"] for front in json.loads(done.stdout)["fronts"]}
    assert states.pop(stopped) == "silent"
    assert [*states.values()] == ["serving"]


def test_prometheus_has_a_sample_for_each_status(daemon: Start, tmp_path: Path, wait: Any) -> None:
    fill(tmp_path)
    running = daemon(SITE)
    running.get()
    running.get("/absent")
    wanted = {
        'gateway_requests_total{site="example.org",status="2xx"} 1',
        'gateway_requests_total{site="example.org",status="4xx"} 1',
        'gateway_request_seconds_count{kind="static"} 2',
    }

    def there() -> bool:
        done = ask("status", "--prometheus", directory=tmp_path)
        return wanted <= set(done.stdout.splitlines())

    wait(there, "both are counted")


def _shape(text: str) -> list[list[str]]:
    """Return a text's words by lines, numbers as "0", with the settings file's name left out."""
    lines = re.sub(r"settings \S+", "settings FILE", text).strip().splitlines()
    return [re.sub(r"\d+(\.\d+)*", "0", line).split() for line in lines]


def test_readme_shows_what_is_printed(daemon: Start, tmp_path: Path, wait: Any) -> None:
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"\$ gateway status\n(.*?)\n```", readme, re.DOTALL)
    assert shown is not None
    fill(tmp_path)
    running = daemon(SITE, fronts=2, head="[limits]\nconcurrency = 20\n")
    for path in ("/", "/work.cgi", "/work.cgi"):
        running.get(path)
    printed = [""]

    def same() -> bool:
        printed[0] = ask("status", directory=tmp_path).stdout
        return _shape(printed[0]) == _shape(shown[1])

    wait(same, "what is printed looks like what the README shows")


def test_readme_shows_what_reload_prints(daemon: Start, tmp_path: Path) -> None:
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"\$ gateway reload\n(.*?)\n", readme)
    assert shown is not None
    fill(tmp_path)
    daemon(SITE)
    assert _shape(ask("reload", directory=tmp_path).stdout) == _shape(shown[1])


@pytest.mark.parametrize("word", ["reload", "stop", "status"])
def test_private_runtime_directory_is_said_with_the_way_out(word: str, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text('[[site]]\nroot = "/"\n')
    done = ask(word, directory=tmp_path)
    assert done.returncode == 2
    assert 'set runtime = "/run/gateway"' in done.stderr


def test_daemon_without_a_place_says_so_when_it_starts(tmp_path: Path, wait: Any) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    file = tmp_path / "gateway.toml"
    file.write_text(f'[listen]\nhttp = ["127.0.0.1:{port}"]\n[[site]]\nroot = "{tmp_path}"\n')
    command = [sys.executable, "-m", "gateway", "run", "-c", str(file)]
    with (tmp_path / "said").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
    try:
        wait(lambda: b"will not find it" in (tmp_path / "said").read_bytes(), "it says so")
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_mistake_elsewhere_in_the_file_does_not_hide_the_daemon(
    daemon: Start, tmp_path: Path
) -> None:
    fill(tmp_path)
    daemon(SITE)
    file = tmp_path / "gateway.toml"
    file.write_text(file.read_text().replace("root =", "rot ="))
    assert ask("status", directory=tmp_path).returncode == 0


def test_place_is_that_of_the_file_else_the_named_one_else_the_usual(tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text('[server]\nruntime = "here"\n')
    assert asking.place(str(tmp_path / "g.toml"), "") == f"{tmp_path}/here/control.sock"
    assert asking.place("", "/there") == "/there/control.sock"
    assert asking.place("", "") == "/run/gateway/control.sock"


def test_status_is_answered_while_a_reload_is_under_way(daemon: Start, tmp_path: Path) -> None:
    fill(tmp_path)
    running = daemon(SITE)
    with connected(tmp_path) as reloading, connected(tmp_path) as asking_:
        reloading.sendall(b"reload\n")
        asking_.sendall(b"status json\n")
        code, _, text = said(asking_).partition(b"\n")
        assert code == b"0"
        assert json.loads(text)["pid"] == running.process.pid
        assert said(reloading).startswith(b"0\nsettings read again")
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"hello"
    connection.close()


def test_status_shows_what_memory_an_interpreter_takes(
    daemon: Start, tmp_path: Path, wait: Any
) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "a.cgi").write_text(
        f"#!{sys.executable}\nimport json\nprint('Content-Type: text/plain\\n\\nran')\n"
    )
    (scripts / "a.cgi").chmod(0o755)
    running = daemon(
        f'[[site]]\nroot = "{scripts}"\n[[site.route]]\nmatch = "*.cgi"\ncgi = true\n'
        'start = "warm"\n'
    )
    assert running.get("/a.cgi") == (200, b"ran\n")
    done = ask("status", "--json", directory=tmp_path)
    (keeper,) = json.loads(done.stdout)["keepers"]
    (row,) = keeper["interpreters"]
    assert (row["interpreter"], row["script"], row["served"]) == (sys.executable, "", 1)
    assert row["private"] > 1 << 20
    assert row["pid"] in running.children()[keeper["pid"]]
    printed = ask("status", directory=tmp_path).stdout
    assert re.search(rf"^{re.escape(sys.executable)}\s+{row['pid']}\s.*MiB", printed, re.MULTILINE)
