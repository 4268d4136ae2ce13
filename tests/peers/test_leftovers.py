"""After a client that left, a deadline or a killed process of ours: nothing stays behind.

The `gateway` fixture asserts at the end of each test that no process is left; here each way to end
is tried while scripts run.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

HANG = """#!/bin/sh
sleep 1000 &
printf '%s %s\\n' $$ $! > {pids}.new && mv {pids}.new {pids}
{before}
wait
"""

APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"""

HEADER = "printf 'Content-Type: text/plain\\n\\nbegun\\n'"
IGNORE = "trap '' TERM"
WRITE = "exec yes"


@pytest.fixture(params=["exec", "warm"])
def start(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def hang(script, tmp_path, poll) -> Callable[[str], Callable[[], list[int]]]:
    """Write hang.cgi, which does `before` and waits; give what waits for the pids of it and of
    its child."""
    pids = tmp_path / "pids"

    def write(before: str) -> Callable[[], list[int]]:
        script("hang.cgi", HANG.format(pids=pids, before=before))

        def running() -> list[int]:
            poll(pids.exists, "the script runs")
            return [int(pid) for pid in pids.read_text().split()]

        return running

    return write


def ask(daemon, path: str = "/hang.cgi") -> socket.socket:
    connection = daemon.connect()
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass  # an abort is one way to show that the answer is not whole
    return b"".join(pieces)


def read_begun(connection: socket.socket, before: str) -> bytes:
    """Return what has come of the answer of a script that prints HEADER, b"" of any other.

    That it runs does not say that it has printed: one that is ended before that gets its client a
    whole answer, of ours, on a connection that is kept open.
    """
    answer = b""
    while HEADER in before and b"begun\n" not in answer:
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    return answer


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


QUICK = '[limits]\ngrace = "1 s"\n'


@pytest.mark.parametrize(
    "before", ["", HEADER, IGNORE, f"{HEADER}; {IGNORE}", f"{HEADER}; {WRITE}"]
)
@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_that_left(gateway, site, hang, alive, poll, before, how):
    running = hang(before)
    daemon = gateway(QUICK + site)
    connection = ask(daemon)
    pids = running()
    read_begun(connection, before)
    assert all(alive(pid) for pid in pids)
    if how == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    poll(lambda: not any(alive(pid) for pid in pids), "the script and its child are gone")
    assert daemon.get("/none").status_code == 404


@pytest.mark.parametrize("before", ["", IGNORE])
def test_first_byte_deadline(gateway, site, hang, alive, poll, before):
    running = hang(before)
    daemon = gateway('[limits]\ngrace = "1 s"\nfirst_byte = "1 s"\n' + site)
    answer = daemon.get("/hang.cgi")
    assert answer.status_code == 504
    pids = running()
    poll(lambda: not any(alive(pid) for pid in pids), "the script and its child are gone")
    assert "hang.cgi" in daemon.log


def test_idle_deadline_aborts_what_has_begun(gateway, site, hang, alive, poll):
    running = hang(HEADER)
    daemon = gateway('[limits]\ngrace = "1 s"\nidle = "1 s"\n' + site)
    with ask(daemon) as connection:
        answer = read_all(connection)
    assert b"begun\n" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    pids = running()
    poll(lambda: not any(alive(pid) for pid in pids), "the script and its child are gone")


@pytest.mark.parametrize("before", ["", HEADER])
def test_killed_front(gateway, site, hang, alive, poll, before):
    running = hang(before)
    daemon = gateway(QUICK + site)
    with ask(daemon) as connection:
        pids = running()
        read_begun(connection, before)
        fronts = daemon.fronts(daemon.keeper(pids[0]))
        assert len(fronts) == 1
        os.kill(fronts.pop(), signal.SIGKILL)
        assert not read_all(connection).endswith(b"0\r\n\r\n")
    poll(lambda: not any(alive(pid) for pid in pids), "the script and its child are gone")
    poll(lambda: answered(daemon, "/none") == 404, "another front answers")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{daemon.runtime}/http.sock")
        connection.sendall(b"GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 404 ")


def answered(daemon, path: str) -> int:
    """Return the status of a GET, 0 if there was no answer."""
    try:
        return daemon.get(path).status_code
    except requests.exceptions.ConnectionError:
        return 0


@pytest.mark.parametrize("before", ["", HEADER])
def test_killed_keeper(gateway, site, hang, script, alive, poll, before):
    running = hang(before)
    script("a.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nran\\n'\n")
    daemon = gateway(QUICK + site)
    with ask(daemon) as connection:
        pids = running()
        answer = read_begun(connection, before)
        os.kill(daemon.keeper(pids[0]), signal.SIGKILL)
        poll(lambda: not any(alive(pid) for pid in pids), "the script and its child are gone")
        answer += read_all(connection) if before else connection.recv(65536)
    assert not answer.endswith(b"0\r\n\r\n")
    if not before:
        assert re.match(rb"HTTP/1\.1 50[023] ", answer), answer
    poll(lambda: answered(daemon, "/a.cgi") == 200, "another keeper runs scripts")


@pytest.mark.parametrize("before", ["", HEADER, IGNORE])
def test_killed_master(gateway, site, hang, alive, poll, before):
    running = hang(before)
    daemon = gateway(QUICK + site, fronts=2)
    with ask(daemon) as connection:
        everything = {*running(), *daemon.processes()}
        read_begun(connection, before)
        daemon.process.kill()
        daemon.process.wait()
        poll(lambda: not any(alive(pid) for pid in everything), "everything below is gone")
        assert not read_all(connection).endswith(b"0\r\n\r\n")


def test_killed_master_with_a_pool(gateway, root, alive, poll, tmp_path):
    (tmp_path / "app.py").write_text(APPLICATION)
    daemon = gateway(
        f'[[site]]\nhosts = ["localhost"]\nroot = "{root}"\n'
        '[[site.route]]\npath = "/app/"\npool = "app"\n'
        f'[pool.app]\nwsgi = "app:application"\ndirectory = "{tmp_path}"\n'
        f'python = "{sys.executable}"\nprocesses = 2\n'
    )
    assert daemon.get("/app/").text == "ok", daemon.log
    everything = daemon.processes()
    daemon.process.kill()
    daemon.process.wait()
    poll(lambda: not any(alive(pid) for pid in everything), "everything below is gone")


def test_stop_finishes_what_runs(gateway, script, site, tmp_path, poll):
    go, begun = tmp_path / "go", tmp_path / "begun"
    script(
        "slow.cgi",
        f"#!/bin/sh\n{HEADER}\n: > {begun}\nuntil [ -e {go} ]; do sleep 0.05; done\necho ended\n",
    )
    daemon = gateway(site)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(daemon.get, "/slow.cgi")
        poll(begun.exists, "the script runs")
        daemon.process.send_signal(signal.SIGTERM)

        def closed() -> bool:
            try:
                daemon.connect().close()
            except ConnectionRefusedError:
                return True
            return False

        poll(closed, "no new connection is taken")
        go.touch()
        assert answer.result().text == "begun\nended\n"
    assert daemon.process.wait(30) == 0


def test_stop_leaves_no_sockets(gateway, script, root, tmp_path):
    script(
        "a.fcgi",
        f"#!{sys.executable}\nfrom flup.server.fcgi import WSGIServer\n{APPLICATION}"
        "WSGIServer(application).run()\n",
    )
    daemon = gateway(
        f'[[site]]\nhosts = ["localhost"]\nroot = "{root}"\n'
        '[[site.route]]\nmatch = "*.fcgi"\nfastcgi = true\n'
    )
    assert daemon.get("/a.fcgi").text == "ok", daemon.log
    assert any(path.is_socket() for path in daemon.runtime.rglob("*"))
    assert daemon.stop() == 0
    assert [path for path in daemon.runtime.rglob("*") if path.is_socket()] == []


def test_descriptors_do_not_grow(gateway, script, root, site, poll, tmp_path):
    script("pid.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s\\n' $PPID\n")
    script("bad.cgi", "#!/bin/sh\nexit 3\n")
    script("mode.cgi", "#!/bin/sh\n", 0o644)
    (root / "a.bin").write_bytes(bytes(1 << 20))
    (tmp_path / "app.py").write_text(APPLICATION)
    daemon = gateway(
        f'{QUICK}{site}[[site.route]]\npath = "/app/"\npool = "app"\n'
        f'[pool.app]\nwsgi = "app:application"\ndirectory = "{tmp_path}"\n'
        f'python = "{sys.executable}"\nprocesses = 1\n'
    )
    keeper = int(daemon.get("/pid.cgi").text)
    (front,) = daemon.fronts(keeper)
    watched = (daemon.master, front, keeper)

    def some(count: int) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for _ in range(count):
                for path in ("/pid.cgi", "/bad.cgi", "/mode.cgi", "/a.bin", "/none", "/app/"):
                    session.get(daemon.url + path, timeout=30)
                session.post(daemon.url + "/pid.cgi", data=b"x" * 300_000, timeout=30)
                session.post(daemon.url + "/pid.cgi", data=iter([b"x" * 9000]), timeout=30)
                for path in ("/a.bin", "/pid.cgi", "/app/"):
                    ask(daemon, path).close()

    some(10)
    before = {pid: descriptors(pid) for pid in watched}
    some(35)
    for pid in watched:
        # What is on its way out may take a moment; a leak stays.
        few = before[pid] + 2
        poll(lambda pid=pid, few=few: descriptors(pid) <= few, "its descriptors are closed")
    assert int(daemon.get("/pid.cgi").text) == keeper


def test_scripts_inherit_only_their_three_descriptors(gateway, script, site):
    script(
        "fds.cgi",
        f"#!{sys.executable}\nimport os\nprint('Content-Type: text/plain\\n')\n"
        "print(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1])\n",
    )
    assert gateway(site).get("/fds.cgi").text == "[0, 1, 2]\n"


def test_serve_leaves_nothing_when_interrupted(gateway, root, poll, tmp_path):
    """`gateway serve` in the foreground, ended by control-C."""
    cgi_bin = root / "cgi-bin"
    cgi_bin.mkdir()
    script = cgi_bin / "hello.sh"
    script.write_text("#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello\\n'\n")
    script.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", str(root), "-p", str(port)],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def text() -> str:
        try:
            with requests.Session() as session:
                session.trust_env = False
                return session.get(f"http://127.0.0.1:{port}/cgi-bin/hello.sh", timeout=30).text
        except requests.exceptions.ConnectionError:
            assert process.poll() is None, out.read_text()
            return ""

    try:
        assert poll(text, "it serves") == "hello\n"
        assert f"http://127.0.0.1:{port}/" in Path(out).read_text()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(30) in (0, 130, -signal.SIGINT), out.read_text()
        assert "Traceback" not in out.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
