"""Reading the settings again while requests go on: none is lost, and a bad file changes nothing."""

import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SITE = """
[[site]]
root = "{dir}/htdocs"
  [[site.route]]
  match = "*.cgi"
  cgi = true
"""
APP = """
  [[site.route]]
  path = "/app/"
  pool = "app"
[pool.app]
wsgi = "hello:application"
directory = "{dir}/app"
processes = 2
environment = { WORD = "one" }
"""
HELLO = """\
import os
def application(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return [os.environ["WORD"].encode()]
"""
OK = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nok'\n"

Start = Callable[..., Any]


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def reload(directory: Path) -> subprocess.CompletedProcess[str]:
    return ask("reload", "-c", str(directory / "gateway.toml"))


def fill(directory: Path) -> None:
    (directory / "htdocs").mkdir()
    (directory / "app").mkdir()
    (directory / "app/hello.py").write_text(HELLO)
    (directory / "htdocs/index.html").write_text("hello")
    (directory / "htdocs/ok.cgi").write_text(OK)
    (directory / "htdocs/ok.cgi").chmod(0o755)


def change(directory: Path, old: str, new: str) -> None:
    file = directory / "gateway.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


class Client(threading.Thread):
    """Asks without a pause, and remembers what was not as it should be."""

    def __init__(self, port: int, path: str, wanted: set[bytes], *, keep: bool) -> None:
        super().__init__()
        self.port, self.path, self.wanted, self.keep = port, path, wanted, keep
        self.served = 0
        self.faults: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        connection = self._new()
        used = False
        while not self.over.is_set() and len(self.faults) < 5:
            try:
                connection.request("GET", self.path)
                answer = connection.getresponse()
                used = self.keep
                body = answer.read()
                if answer.status != 200 or body not in self.wanted:
                    self.faults.append(f"{self.path}: {answer.status} {body[:200]!r}")
                self.served += 1
                if not self.keep:
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                # A kept connection may end at any time: who asks again on a new one loses nothing
                # (RFC 9112 section 9.3.1), as long as nothing of an answer came.
                if not (used and isinstance(error, http.client.RemoteDisconnected)):
                    self.faults.append(f"{self.path}: {error!r} after {self.served}")
                used = False
                connection.close()
                connection = self._new()
        connection.close()

    def _new(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)


def test_no_request_is_lost_in_five_reloads(daemon: Start, tmp_path: Path, wait: Any) -> None:
    fill(tmp_path)
    running = daemon(SITE + APP, fronts=2)
    wait(lambda: running.get("/app/") == (200, b"one"), "the pool is up")
    words = {b"one", b"word 0", b"word 1", b"word 2", b"word 3", b"word 4"}
    clients = [
        Client(running.port, path, wanted, keep=keep)
        for path, wanted in (("/", {b"hello"}), ("/ok.cgi", {b"ok"}), ("/app/", words))
        for keep in (True, False)
    ]
    for client in clients:
        client.start()
    try:
        word = "one"
        for number in range(5):
            before = [client.served for client in clients]
            # Half of the reloads change what the pool is, so that its keeper is another.
            change(tmp_path, f'WORD = "{word}"', f'WORD = "word {number // 2}"')
            word = f"word {number // 2}"
            done = reload(tmp_path)
            assert (done.returncode, done.stderr) == (0, "")
            wait(
                lambda before=before: all(
                    client.served > count + 5 or client.faults
                    for client, count in zip(clients, before, strict=True)
                ),
                "everybody was served after the reload",
            )
    finally:
        for client in clients:
            client.over.set()
        for client in clients:
            client.join()
    assert [fault for client in clients for fault in client.faults] == []
    assert running.get("/app/") == (200, b"word 2")


def test_connections_of_a_front_server_are_kept_for_one_more_request(
    daemon: Start, tmp_path: Path
) -> None:
    fill(tmp_path)
    running = daemon(SITE, listen='fastcgi = ["unix:{dir}/fastcgi.sock"]\n')
    params = {
        b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/ok.cgi", b"REQUEST_URI": b"/ok.cgi",
        b"SERVER_PROTOCOL": b"HTTP/1.1", b"QUERY_STRING": b"",
    }  # fmt: skip
    with running.front() as front:
        assert front.ask(params).body == b"ok"
        assert reload(tmp_path).returncode == 0
        assert front.ask(params).body == b"ok"
        assert front.socket.recv(100) == b""  # and closed after it
    with running.front() as front:
        assert front.ask(params).body == b"ok"


@pytest.mark.parametrize("word", ["reload", "HUP"])
def test_new_settings_serve(daemon: Start, tmp_path: Path, wait: Any, word: str) -> None:
    fill(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/index.html").write_text("other")
    running = daemon(SITE)
    change(tmp_path, f"{tmp_path}/htdocs", f"{tmp_path}/other")
    if word == "reload":
        done = reload(tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("settings read again, 1 site")
    else:
        running.process.send_signal(signal.SIGHUP)
    wait(lambda: running.get() == (200, b"other"), "the other page is there")
    wait(lambda: len(running.children()) == 1, "the old front has left")


def test_bad_file_changes_nothing_and_is_said_where(daemon: Start, tmp_path: Path) -> None:
    fill(tmp_path)
    running = daemon(SITE)
    fronts = running.children()
    change(tmp_path, "root =", "rot =")
    done = reload(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    where = f"{tmp_path}/gateway.toml:11: [[site]] #1"
    assert done.stderr == f'gateway: {where}: rot: unknown key; did you mean "root"?\n'
    assert running.get() == (200, b"hello")
    assert running.children() == fronts
    assert 'rot: unknown key; did you mean "root"?' in running.log()
    assert "the settings stay as they were" in running.log()


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('/run"\n', '/elsewhere"\n', "runtime"),
        ("[server]\n", '[server]\nuser = "nobody"\n', "user"),
    ],
)
def test_what_cannot_change_is_refused_in_words(
    daemon: Start, tmp_path: Path, old: str, new: str, key: str
) -> None:
    fill(tmp_path)
    running = daemon(SITE)
    change(tmp_path, old, new)
    done = ask("reload", "--runtime", str(tmp_path / "run"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"gateway: [server] {key}: cannot change from ")
    assert running.get() == (200, b"hello")


def test_fronts_that_cannot_start_leave_the_old_ones_serving(daemon: Start, tmp_path: Path) -> None:
    fill(tmp_path)
    running = daemon(SITE)
    fronts = running.children()
    pid = running.process.pid
    unlimited = resource.prlimit(pid, resource.RLIMIT_AS)
    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    # Enough to read settings and to fork, not to load an event loop.
    resource.prlimit(pid, resource.RLIMIT_AS, (size + (6 << 20), unlimited[1]))
    change(tmp_path, "fronts = 1", "fronts = 2")
    done = reload(tmp_path)
    assert done.returncode == 1
    assert "before all of them served" in done.stderr
    assert running.get() == (200, b"hello")
    assert fronts.items() <= running.children().items()
    resource.prlimit(pid, resource.RLIMIT_AS, unlimited)
    assert reload(tmp_path).returncode == 0
    assert running.get() == (200, b"hello")


def _listening(port: int) -> set[str]:
    """Return the inodes of the sockets that listen on a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_listeners_stay_come_and_go(daemon: Start, tmp_path: Path, wait: Any) -> None:
    fill(tmp_path)
    running = daemon(SITE, listen='fastcgi = ["unix:{dir}/a.sock"]\nscgi = ["unix:{dir}/c.sock"]\n')
    kept, path = _listening(running.port), os.stat(tmp_path / "c.sock").st_ino
    port = _free_port()
    change(tmp_path, f'http = ["127.0.0.1:{running.port}"]',
           f'http = ["127.0.0.1:{running.port}", "127.0.0.1:{port}"]')  # fmt: skip
    change(tmp_path, "a.sock", "b.sock")
    assert reload(tmp_path).returncode == 0
    assert _listening(running.port) == kept
    assert os.stat(tmp_path / "c.sock").st_ino == path
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"hello"
    connection.close()
    assert (tmp_path / "b.sock").is_socket()
    assert not (tmp_path / "a.sock").exists()

    change(tmp_path, f', "127.0.0.1:{port}"', "")
    assert reload(tmp_path).returncode == 0
    wait(lambda: not _listening(port), "nobody listens on the address that went")
    assert running.get() == (200, b"hello")


def test_taken_address_changes_nothing(daemon: Start, tmp_path: Path) -> None:
    fill(tmp_path)
    running = daemon(SITE)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        change(tmp_path, f'http = ["127.0.0.1:{running.port}"]', f'http = ["127.0.0.1:{taken}"]')
        done = reload(tmp_path)
    assert done.returncode == 1
    assert f"127.0.0.1:{taken}" in done.stderr
    assert running.get() == (200, b"hello")


def test_rights_of_a_socket_that_stays_follow_the_settings(daemon: Start, tmp_path: Path) -> None:
    fill(tmp_path)
    daemon(SITE, listen='[[listen.fastcgi]]\naddress = "unix:{dir}/a.sock"\nmode = "0600"\n')
    assert os.stat(tmp_path / "a.sock").st_mode & 0o777 == 0o600
    change(tmp_path, 'mode = "0600"', 'mode = "0660"')
    assert reload(tmp_path).returncode == 0
    assert os.stat(tmp_path / "a.sock").st_mode & 0o777 == 0o660


def test_keeper_stays_while_nothing_of_it_changes(daemon: Start, tmp_path: Path, wait: Any) -> None:
    fill(tmp_path)
    running = daemon(SITE + APP)
    wait(lambda: running.get("/app/") == (200, b"one"), "the pool is up")
    (keeper,) = [pid for pid, below in running.children().items() if below]
    workers = running.children()[keeper]
    change(tmp_path, "fronts = 1", "fronts = 2")
    assert reload(tmp_path).returncode == 0
    assert running.get("/app/") == (200, b"one")
    assert running.children()[keeper] == workers

    change(tmp_path, '"one"', '"two"')
    assert reload(tmp_path).returncode == 0
    wait(lambda: running.get("/app/") == (200, b"two"), "the new pool serves")
    wait(lambda: keeper not in running.children(), "the old keeper has left")
    wait(lambda: len(os.listdir(tmp_path / "run/pools")) == 1, "its sockets are gone")
    assert running.get("/app/") == (200, b"two")


def test_killed_keeper_that_two_generations_share_is_replaced_for_both(
    daemon: Start, tmp_path: Path, wait: Any
) -> None:
    fill(tmp_path)
    running = daemon(SITE + APP)
    wait(lambda: running.get("/app/") == (200, b"one"), "the pool is up")
    assert reload(tmp_path).returncode == 0
    (keeper,) = [pid for pid, below in running.children().items() if below]
    os.kill(keeper, signal.SIGKILL)

    def another() -> bool:
        return [pid for pid, below in running.children().items() if below] not in ([keeper], [])

    wait(another, "there is another keeper, with workers")
    assert running.get("/app/") == (200, b"one")


def test_script_that_runs_is_finished_by_its_old_front(
    daemon: Start, tmp_path: Path, wait: Any
) -> None:
    fill(tmp_path)
    script = tmp_path / "htdocs/slow.cgi"
    script.write_text(
        '#!/bin/sh\nprintf "Content-Type: text/plain\\n\\nstart "\ntouch started\n'
        "read gate < gate\necho end\n"
    )
    script.chmod(0o755)
    os.mkfifo(tmp_path / "htdocs/gate")
    running = daemon(SITE)
    with socket.create_connection(("127.0.0.1", running.port), 30) as client:
        client.sendall(b"GET /slow.cgi HTTP/1.1\r\nHost: a\r\n\r\n")
        wait((tmp_path / "htdocs/started").exists, "the script runs")
        # The route is another now: the old keeper is not for new fronts.
        change(tmp_path, "cgi = true", 'cgi = true\n  environment = { A = "b" }')
        assert reload(tmp_path).returncode == 0
        assert running.get("/ok.cgi") == (200, b"ok")
        (tmp_path / "htdocs/gate").write_text("go\n")
        answer = b""
        while data := client.recv(4096):
            answer += data
    assert answer.endswith(b"4\r\nend\n\r\n0\r\n\r\n")
    wait(lambda: len(running.children()) == 2, "one front and one keeper are left")


def test_logs_change_with_the_settings(daemon: Start, tmp_path: Path, wait: Any) -> None:
    fill(tmp_path)
    running = daemon(SITE)
    change(tmp_path, "/access.log", "/other.log")
    assert reload(tmp_path).returncode == 0
    running.get("/ok.cgi")
    wait(lambda: "ok.cgi" in running.log("other.log"), "the record is in the new log")
    assert "ok.cgi" not in running.log("access.log")


def test_reload_that_is_asked_for_during_another_is_done_after_it(
    daemon: Start, tmp_path: Path, wait: Any
) -> None:
    fill(tmp_path)
    running = daemon(SITE)
    command = [sys.executable, "-m", "gateway", "reload", "-c", str(tmp_path / "gateway.toml")]
    asking = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [each.wait(60) for each in asking] == [0, 0, 0]
    wait(lambda: len(running.children()) == 1, "one front is left")
    assert running.get() == (200, b"hello")


def test_server_of_a_directory_says_that_it_has_no_file(tmp_path: Path, wait: Any) -> None:
    port = _free_port()
    command = [sys.executable, "-u", "-m", "gateway", "serve", str(tmp_path), "-p", str(port)]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        wait(lambda: b"Serving" in (tmp_path / "said").read_bytes(), "it listens")
        process.send_signal(signal.SIGHUP)
        wait(lambda: b"no settings file" in (tmp_path / "said").read_bytes(), "it says so")
    finally:
        process.terminate()
        assert process.wait(30) == 0
