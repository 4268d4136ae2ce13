"""The same list of cases through every web server that may stand in front of us.

Each is started with the block that `gateway snippet` prints for the daemon's own settings; only the
port that it listens on is another. `tests/peers/fronts_table.py` makes the table of the README from
a run of this file: a test may write down what is to stand in its cell.
"""

import hashlib
import http.client
import importlib.util
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

import pytest

HERE = Path(__file__).parent


def _beside(name: str) -> ModuleType:
    """Import a module of this directory, which is no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


fronts = _beside("fronts")
site = _beside("fronts_site")

TIMEOUT = 20
LARGE = 50_000_000
LOOKS_WHEN_IT_WRITES = {"apache-fastcgi", "apache-scgi", "apache-http", "caddy-fastcgi"}
"""They see that their client has left only when they have something to send to it."""
WANTS_A_LENGTH = {"apache-scgi", "caddy-fastcgi", "haproxy-fastcgi"}
"""They do not hand on a body of unknown length, or none that is larger than a buffer of theirs."""


@dataclass
class Place:
    """The directories that the daemon and the servers in front share, and the daemon."""

    base: Path
    settings: str = ""
    daemon: object = None

    def go(self, name: str) -> Path:
        return self.base / "go" / name


@pytest.fixture(scope="module")
def place(shared_gateway) -> Iterator[Place]:
    """One daemon with all its doors, for all servers."""
    # Not pytest's own directory, which other accounts may not enter.
    with tempfile.TemporaryDirectory(prefix="gw-fronts-") as name:
        base = Path(name)
        site.lay_out(base)
        group = f', group = "{fronts.ACCOUNT}"' if fronts.may_change_account() else ""
        listen = "".join(
            f'{kind} = [{{ address = "unix:{base}/sockets/{kind}.sock"{group} }}]\n'
            for kind in ("fastcgi", "scgi")
        )
        daemon = shared_gateway(site.SETTINGS.replace("{base}", name), listen=listen)
        yield Place(base, str(daemon.file), daemon)


def block(front, place: Place) -> str:
    """Return the block for the daemon that runs."""
    file = Path(place.settings)
    if front.via == "http":  # the same without the other doors
        text = re.sub(r"(?m)^(?:fastcgi|scgi) = .*$", "", file.read_text())
        file = file.with_name("http-only.toml")
        file.write_text(text)
    return str(fronts.printed(front, file))


def marked(front) -> object:
    return pytest.param(front, id=front.name, marks=pytest.mark.peer(front.program))


@pytest.fixture(scope="module", params=[marked(front) for front in fronts.FRONTS])
def running(request, place) -> Iterator[object]:
    """A server in front of the daemon."""
    front = request.param
    server = fronts.Running(front, place.base / front.name, block(front, place))
    try:
        end = time.monotonic() + TIMEOUT
        while not server.listening():
            assert time.monotonic() < end, server.said()
            time.sleep(0.01)
        yield server
    finally:
        server.stop()
        print(f"--- {front.name} ---\n{server.said()}")


@pytest.fixture
def cell(request) -> Callable[[str], None]:
    """Give a function that says what is to stand in the table, where "yes" would say too much."""

    def say(text: str) -> None:
        request.node.user_properties.append(("cell", text))

    return say


def ask(server, path: str, method: str = "GET", body: object = None, **headers: str):
    """Send one request with no header that is not needed; return the answer and its body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", f"localhost:{server.port}")
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if isinstance(body, bytes):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def _open(server, path: str, method: str = "GET", fields: str = "") -> socket.socket:
    """Send the head of a request on a new connection."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
    connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
    return connection


def shown(text: bytes) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.decode().splitlines())


# The block ------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["unix:/tmp/gw.sock", "127.0.0.1:9", "[::1]:9"])
@pytest.mark.parametrize("front", [marked(front) for front in fronts.FRONTS])
def test_block_for_unusual_sites_is_understood(front, address: str, tmp_path) -> None:
    (tmp_path / "first root" / "cgi").mkdir(parents=True)
    head = f'[listen]\n{front.via} = ["{address}"]\n'
    file = tmp_path / "gateway.toml"
    file.write_text(head + site.UNUSUAL.replace("{base}", str(tmp_path)))
    said = fronts.understood(front, tmp_path / "run", fronts.printed(front, file))
    assert said == ""


# Requests -------------------------------------------------------------------------------------


def test_get(running) -> None:
    answer, text = ask(running, "/cgi-bin/show?x=1&y=%2F+%26")
    assert answer.status == 200, running.said()
    values = shown(text)
    assert values["REQUEST_METHOD"] == "GET"
    assert values["SCRIPT_NAME"] == "/cgi-bin/show"
    assert values["PATH_INFO"] in ("", "(unset)")
    assert values["QUERY_STRING"] == "x=1&y=%2F+%26"
    assert values["SERVER_NAME"] == "localhost"
    assert values["REMOTE_ADDR"] == "127.0.0.1"
    assert values["HTTPS"] in ("(unset)", "off")
    if running.front.via != "http":
        assert values["SERVER_PORT"] == str(running.port)


def test_head(running) -> None:
    answer, text = ask(running, "/cgi-bin/show", "HEAD")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert text == b""


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 99_000, LARGE])
def test_post(running, size: int) -> None:
    body = os.urandom(size)
    answer, text = ask(running, "/cgi-bin/hash", "POST", body)
    assert answer.status == 200, text
    assert text.split()[0].decode() == hashlib.sha256(body).hexdigest()


def test_answer_that_begins_before_the_body_is_read(running) -> None:
    if running.front.server == "nginx" and running.front.via == "http":
        pytest.xfail("nginx sends no more of a body once an answer has begun")
    body = os.urandom(LARGE)
    answer, text = ask(running, "/cgi-bin/early", "POST", body)
    assert answer.status == 200, text
    assert text.split()[0].decode() == hashlib.sha256(body).hexdigest()


def test_answer_instead_of_reading_the_body(running) -> None:
    """It is there although the client is not done with sending."""
    seen, left = b"", memoryview(bytes(LARGE))
    with _open(running, "/cgi-bin/refuse", "POST", f"Content-Length: {LARGE}\r\n") as connection:
        while b"not here\n" not in seen:
            readable, writable, _ = select.select(
                [connection], [connection][: len(left)], [], TIMEOUT
            )
            assert readable or writable, (seen, running.said())
            if readable:
                piece = connection.recv(65536)
                assert piece, seen
                seen += piece
            else:
                left = left[connection.send(left[:65536]) :]
    assert seen.startswith(b"HTTP/1.1 403 "), seen


def test_script_among_the_pages_and_a_plain_file(running) -> None:
    assert shown(ask(running, "/page.cgi/info")[1])["PATH_INFO"] == "/info"
    answer, text = ask(running, "/plain.txt")
    assert (answer.status, text) == (200, b"a plain file\n")


@pytest.mark.parametrize(
    "info", ["/a b", "/é/ü", "/100%", "/a%2Fb", "/a+b;c=d,e", "/x?y#z"], ids=ascii
)
def test_path_info(running, info: str) -> None:
    """Encoded once, it arrives decoded once: also what then looks like an escape."""
    answer, text = ask(running, f"/cgi-bin/show{quote(info, safe='/')}?q")
    assert answer.status == 200, text
    assert shown(text)["PATH_INFO"] == info
    assert shown(text)["SCRIPT_NAME"] == "/cgi-bin/show"


def test_encoded_slash(running, cell) -> None:
    answer, text = ask(running, "/cgi-bin/show/a%2Fb")
    if answer.status == 404:
        found = "404"
    else:
        found = shown(text)["PATH_INFO"].removeprefix("/a").removesuffix("b")
    cell(f"`{found}`")
    assert found in ("404", "/", "%2F")


@pytest.mark.parametrize("name", site.SECRET)
def test_text_of_programs_is_not_sent(running, name: str) -> None:
    answer, text = ask(running, f"/{name}")
    assert answer.status in (403, 404)
    assert b"the text of a program" not in text


def test_what_the_client_claims_is_not_believed(running) -> None:
    claims = {"Proxy": "http://evil.example/", "Authorization": "Basic cm9vdDpyb290"}
    values = shown(ask(running, "/cgi-bin/show", **claims, X_Forwarded_For="192.0.2.1")[1])
    assert values["REMOTE_ADDR"] == "127.0.0.1"
    assert {values[name] for name in ("HTTP_PROXY", "HTTP_AUTHORIZATION", "REMOTE_USER")} <= {
        "", "(unset)",
    }  # fmt: skip


def test_authorization_where_the_route_wants_it(running) -> None:
    values = shown(ask(running, "/asking/show", Authorization="Basic cm9vdDpyb290")[1])
    assert values["HTTP_AUTHORIZATION"] == "Basic cm9vdDpyb290"


# Answers --------------------------------------------------------------------------------------


def test_304_for_a_file_through_us(running, place) -> None:
    first, text = ask(running, "/files/a.txt")
    assert (first.status, text) == (200, b"a file\n")
    again, text = ask(running, "/files/a.txt", If_None_Match=first.headers["ETag"])
    assert (again.status, text) == (304, b"")


def test_304_of_a_script(running) -> None:
    first, text = ask(running, "/cgi-bin/same")
    assert (first.status, text) == (200, b"the text\n")
    again, text = ask(running, "/cgi-bin/same", If_None_Match=first.headers["ETag"])
    assert (again.status, text) == (304, b"")


def test_local_redirect(running) -> None:
    answer, text = ask(running, "/cgi-bin/local")
    assert answer.status == 200
    assert shown(text)["PATH_INFO"] == "/there"
    assert shown(text)["QUERY_STRING"] == "from=local"


def test_external_redirect(running) -> None:
    answer, _ = ask(running, "/cgi-bin/external")
    assert answer.status == 302
    assert answer.headers["Location"] == "http://elsewhere.example/x?y=1"


def test_8_kb_of_cookies_both_ways(running) -> None:
    cookie = "; ".join(f"c{n}={'v' * 986}" for n in range(8))
    answer, text = ask(running, "/cgi-bin/cookies", Cookie=cookie)
    assert answer.status == 200, running.said()
    assert text.decode() == cookie
    assert len(answer.headers.get_all("Set-Cookie")) == 8


def _read(connection: socket.socket, until: bytes) -> bytes:
    """Return what comes up to the piece that holds this."""
    seen = b""
    while until not in seen:
        piece = connection.recv(65536)
        assert piece, seen
        seen += piece
    return seen


def test_stream_is_seen_piece_by_piece(running, place) -> None:
    name = running.front.name
    with _open(running, f"/cgi-bin/pieces?{name}") as connection:
        for number in (1, 2, 3):
            seen = _read(connection, b"data: %d\n" % number)
            assert b"data: %d\n" % (number + 1) not in seen
            place.go(f"{name}-{number}").touch()
        _read(connection, b"data: end\n")


@pytest.mark.parametrize("kind", ["writing", "silent"])
def test_client_that_leaves(running, place, poll, alive, cell, kind: str) -> None:
    """The script is gone within a second."""
    file = place.go(f"left-{kind}-{running.front.name}")
    with _open(running, f"/cgi-bin/{kind}?{file.name}") as connection:
        _read(connection, b"here\n")
        pid = int(file.read_text())
        assert alive(pid)
    if kind == "silent" and running.front.name in LOOKS_WHEN_IT_WRITES:
        cell("when it writes")
        os.kill(pid, signal.SIGTERM)
    poll(lambda: not alive(pid), f"the script {pid} is gone", 1.0)


def test_script_that_fails(running, place) -> None:
    before = place.daemon.log.count("the cause of it")
    answer, _ = ask(running, "/cgi-bin/fails")
    assert answer.status == 502
    assert place.daemon.log.count("the cause of it") > before


# git ------------------------------------------------------------------------------------------


@pytest.fixture
def git(tmp_path):
    """Run git without the machine's settings; return its output."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "a@example.org",
    }  # fmt: skip

    def run(*command: str, at: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *command], cwd=at, env=environment, text=True, timeout=60,
            capture_output=True, check=False, errors="replace",
        )  # fmt: skip
        assert done.returncode == 0, f"git {command}: {done.stderr}"
        return done.stdout.strip()

    return run


def _commit(git, work: Path, name: str, size: int) -> str:
    (work / name).write_bytes(os.urandom(size))
    git("add", name, at=work)
    git("commit", "-q", "-m", f"Add {name}", at=work)
    return git("rev-parse", "HEAD", at=work)


@pytest.fixture
def store(git, place, running) -> Path:
    """An empty repository that takes pushes."""
    number = len(os.listdir(place.base / "store"))
    path: Path = place.base / "store" / f"{running.front.name}-{number}.git"
    git("init", "-q", "--bare", "-b", "main", str(path))
    git("config", "http.receivepack", "true", at=path)
    return path


@pytest.fixture
def copy(git, store, running, tmp_path) -> Path:
    """A clone of it by HTTP, in which something was committed first."""
    work, path = tmp_path / "work", tmp_path / "copy"
    git("init", "-q", "-b", "main", str(work))
    first = _commit(git, work, "first.bin", 300_000)
    git("push", "-q", str(store), "main", at=work)
    git("clone", "-q", f"http://localhost:{running.port}/cgi-bin/git/{store.name}", str(path))
    assert git("rev-parse", "HEAD", at=path) == first
    return path


@pytest.mark.peer("git")
@pytest.mark.peer("git-http-backend")
def test_git_clone_and_push(git, store, copy) -> None:
    pushed = _commit(git, copy, "second.bin", 300_000)
    git("push", "-q", "origin", "main", at=copy)
    assert git("rev-parse", "main", at=store) == pushed
    git("fsck", "--full", at=store)


@pytest.mark.peer("git")
@pytest.mark.peer("git-http-backend")
def test_git_push_of_unknown_length(running, git, store, copy, cell) -> None:
    """Larger than git's buffer, so that it comes in chunks."""
    pushed = _commit(git, copy, "second.bin", 300_000)
    push = ("-c", "http.postBuffer=65536", "push", "-q", "origin", "main")
    if running.front.name in WANTS_A_LENGTH:
        with pytest.raises(AssertionError, match="RPC failed"):
            git(*push, at=copy)
        cell("no")
        return
    git(*push, at=copy)
    assert git("rev-parse", "main", at=store) == pushed
    git("fsck", "--full", at=store)
