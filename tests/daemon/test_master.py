"""The master and its processes, from outside."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

STATIC = '[[site]]\nroot = "{dir}/htdocs"\n'
SCRIPTS = STATIC + '[[site.route]]\nmatch = "*.cgi"\ncgi = true\n'

Start = Callable[..., Any]


def page(directory: Path, name: str = "index.html", text: str = "hello") -> None:
    (directory / "htdocs").mkdir(exist_ok=True)
    (directory / "htdocs" / name).write_text(text)


def script(directory: Path, name: str, text: str) -> None:
    page(directory, name, f"#!/bin/sh\n{text}\n")
    (directory / "htdocs" / name).chmod(0o755)


def test_stop_leaves_nothing(daemon: Start, tmp_path: Path) -> None:
    page(tmp_path)
    running = daemon(STATIC)
    assert running.get() == (200, b"hello")
    assert (tmp_path / "run/gateway.pid").read_text().strip() == str(running.process.pid)
    assert running.stop() == 0
    assert not (tmp_path / "run/gateway.pid").exists()
    assert not (tmp_path / "run/pools").exists()


def test_no_keeper_before_the_first_script(daemon: Start, tmp_path: Path) -> None:
    page(tmp_path)
    script(tmp_path, "a.cgi", "printf 'Content-Type: text/plain\\n\\nok'")
    running = daemon(SCRIPTS)
    running.get()
    assert len(running.children()) == 1
    assert running.get("/a.cgi") == (200, b"ok")
    assert len(running.children()) == 2


def test_running_request_is_finished_before_the_stop(
    daemon: Start, tmp_path: Path, wait: Any
) -> None:
    script(
        tmp_path,
        "slow.cgi",
        'printf "Content-Type: text/plain\\n\\nstart "; touch started; read gate < gate; echo end',
    )
    os.mkfifo(tmp_path / "htdocs/gate")
    running = daemon(SCRIPTS)
    with socket.create_connection(("127.0.0.1", running.port), 10) as client:
        client.sendall(b"GET /slow.cgi HTTP/1.1\r\nHost: a\r\n\r\n")
        wait((tmp_path / "htdocs/started").exists, "the script runs")
        running.process.send_signal(signal.SIGTERM)
        wait(lambda: not _listens(running.port), "it takes no new connections")
        (tmp_path / "htdocs/gate").write_text("go\n")
        answer = b""
        while data := client.recv(4096):
            answer += data
    assert answer.endswith(b"4\r\nend\n\r\n0\r\n\r\n")
    assert running.process.wait(10) == 0


def test_stop_answers_those_whom_the_kernel_has_already_connected(
    daemon: Start, tmp_path: Path, wait: Any
) -> None:
    page(tmp_path)
    running = daemon(SCRIPTS)
    (front,) = running.children()
    with ExitStack() as stack:
        os.kill(front, signal.SIGSTOP)  # as if it was busy: it accepts nobody
        try:
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 10))
                for _ in range(8)
            ]
            for client in clients:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            before = _sockets(running.process.pid)
            running.process.send_signal(signal.SIGTERM)
            wait(lambda: _sockets(running.process.pid) < before, "the master has closed its own")
        finally:
            os.kill(front, signal.SIGCONT)
        for client in clients:
            answer = b""
            while data := client.recv(4096):
                answer += data
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"\r\n\r\nhello")
    assert running.process.wait(10) == 0


def _sockets(pid: int) -> int:
    """Return how many sockets a process has."""
    directory = f"/proc/{pid}/fd"
    links = [os.readlink(f"{directory}/{fd}") for fd in os.listdir(directory)]
    return sum(link.startswith("socket:") for link in links)


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as client:
            client.settimeout(1)
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(client.recv(1))
    except OSError:
        return False


def test_second_word_stops_at_once(daemon: Start, tmp_path: Path, wait: Any) -> None:
    script(tmp_path, "slow.cgi", "touch started; exec sleep 1000")
    running = daemon(SCRIPTS, '[limits]\ngrace = "1 s"\n')
    with socket.create_connection(("127.0.0.1", running.port), 10) as client:
        client.sendall(b"GET /slow.cgi HTTP/1.1\r\nHost: a\r\n\r\n")
        wait((tmp_path / "htdocs/started").exists, "the script runs")
        running.process.send_signal(signal.SIGTERM)
        wait(lambda: not _listens(running.port), "it takes no new connections")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0


def test_killed_front_is_replaced_and_its_scripts_end(
    daemon: Start, tmp_path: Path, wait: Any
) -> None:
    page(tmp_path)
    script(tmp_path, "slow.cgi", "echo $$ > pid; exec sleep 1000")
    running = daemon(SCRIPTS, '[limits]\ngrace = "1 s"\n')
    (front,) = running.children()
    with socket.create_connection(("127.0.0.1", running.port), 10) as client:
        client.sendall(b"GET /slow.cgi HTTP/1.1\r\nHost: a\r\n\r\n")
        wait((tmp_path / "htdocs/pid").exists, "the script runs")
        wait(lambda: (tmp_path / "htdocs/pid").read_text().strip(), "it has said its pid")
        os.kill(front, signal.SIGKILL)
        pid = (tmp_path / "htdocs/pid").read_text().strip()
        wait(lambda: not Path(f"/proc/{pid}").exists(), "the script is gone")
    assert running.get() == (200, b"hello")
    assert "front 1 ended with -9" in running.log()


def test_killed_keeper_is_replaced_and_its_scripts_end(
    daemon: Start, tmp_path: Path, wait: Any
) -> None:
    script(tmp_path, "slow.cgi", "sleep 1000 & echo $! > child; echo $$ > pid; wait")
    script(tmp_path, "ok.cgi", "printf 'Content-Type: text/plain\\n\\nok'")
    running = daemon(SCRIPTS)
    with socket.create_connection(("127.0.0.1", running.port), 10) as client:
        client.sendall(b"GET /slow.cgi HTTP/1.1\r\nHost: a\r\n\r\n")
        wait((tmp_path / "htdocs/pid").exists, "the script runs")
        wait(lambda: (tmp_path / "htdocs/pid").read_text().strip(), "it has said its pid")
        (keeper,) = [pid for pid, below in running.children().items() if below]
        os.kill(keeper, signal.SIGKILL)
        assert client.recv(100).startswith(b"HTTP/1.1 502 ")
        for name in ("pid", "child"):
            pid = (tmp_path / "htdocs" / name).read_text().strip()
            wait(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"{name} is gone")
    assert running.get("/ok.cgi") == (200, b"ok")


def test_everything_leaves_when_the_master_is_killed(
    daemon: Start, tmp_path: Path, wait: Any
) -> None:
    script(tmp_path, "slow.cgi", "trap '' TERM; echo $$ > pid; while :; do sleep 1; done")
    running = daemon(SCRIPTS, '[limits]\ngrace = "1 s"\n')
    with socket.create_connection(("127.0.0.1", running.port), 10) as client:
        client.sendall(b"GET /slow.cgi HTTP/1.1\r\nHost: a\r\n\r\n")
        wait((tmp_path / "htdocs/pid").exists, "the script runs")
        wait(lambda: (tmp_path / "htdocs/pid").read_text().strip(), "it has said its pid")
        below = [pid for one, more in running.children().items() for pid in (one, *more)]
        assert len(below) >= 3
        running.process.kill()
        running.process.wait(10)
        wait(
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in below),
            f"all of {below} are gone",
        )


def test_logs_are_reopened(daemon: Start, tmp_path: Path, wait: Any) -> None:
    page(tmp_path)
    script(tmp_path, "err.cgi", "echo complaint >&2; printf 'Content-Type: text/plain\\n\\nok'")
    running = daemon(SCRIPTS)
    running.get("/err.cgi")
    wait(lambda: "err.cgi" in running.log("access.log"), "the access record is there")
    for name in ("access.log", "error.log"):
        (tmp_path / name).rename(tmp_path / f"{name}.1")
    running.process.send_signal(signal.SIGUSR1)
    wait(lambda: (tmp_path / "access.log").exists(), "a new log is there")

    def moved() -> bool:
        running.get("/err.cgi")
        return "err.cgi" in running.log("access.log") and "complaint" in running.log()

    wait(moved, "records go to the new logs")


def test_several_fronts_serve(daemon: Start, tmp_path: Path) -> None:
    script(tmp_path, "ok.cgi", "printf 'Content-Type: text/plain\\n\\nok'")
    running = daemon(SCRIPTS, fronts=3)
    assert {running.get("/ok.cgi") for _ in range(20)} == {(200, b"ok")}
    assert len(running.children()) == 4


def test_taken_address_is_said_in_words(daemon: Start, tmp_path: Path) -> None:
    page(tmp_path)
    running = daemon(STATIC)
    file = tmp_path / "second.toml"
    text = (tmp_path / "gateway.toml").read_text()
    file.write_text(text.replace(f'"{tmp_path}/run"', f'"{tmp_path}/other"'))
    command = [sys.executable, "-m", "gateway", "run", "-c", str(file)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert f"127.0.0.1:{running.port}" in second.stderr
    assert "Traceback" not in second.stderr
    assert running.get() == (200, b"hello")


def test_serve_explains_a_broken_script_and_dies_with_ctrl_c(tmp_path: Path, wait: Any) -> None:
    script(tmp_path, "broken.cgi", "echo 'something went wrong' >&2; exit 3")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [sys.executable, "-m", "gateway", "serve", str(tmp_path / "htdocs"), "-p", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
        wait(lambda: _listens(port), "it listens")
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(b"GET /broken.cgi HTTP/1.0\r\n\r\n")
            answer = b""
            while data := client.recv(65536):
                answer += data
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"something went wrong" in answer
        assert b"exit status 3" in answer
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        process.stdout.close()
