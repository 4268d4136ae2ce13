"""CGI scripts behind the whole daemon (RFC 3875)."""

import json
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SITE = """
[[site]]
root = "{dir}/htdocs"
environment = { GREETING = "hello" }

  [[site.route]]
  path = "/open/"
  match = "*.cgi"
  cgi = true
  root = "{dir}/htdocs"
  authorization = true
  stream = true

  [[site.route]]
  match = "*.cgi"
  cgi = true

  [[site.route]]
  match = "*.show"
  cgi = true
  interpreters = { ".show" = "/bin/sh" }
"""

SHOW = f"""#!{sys.executable}
import json, os, sys
body = sys.stdin.buffer.read()
print("Content-Type: application/json\\n")
print(json.dumps({{"env": dict(os.environ), "argv": sys.argv, "cwd": os.getcwd(),
                  "body": body.decode("latin-1")}}))
"""


def put(directory: Path, name: str, text: str, mode: int = 0o755) -> None:
    path = directory / "htdocs" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def sh(*lines: str) -> str:
    return "#!/bin/sh\n" + "\n".join(lines) + "\n"


def ask(port: int, text: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Send a request of HTTP/1.1 that closes, and return its answer with the chunks as they are."""
    head = text.replace("\n", "\r\n") + "\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 15) as client:
        client.sendall(head.encode() + body)
        data = b""
        while piece := client.recv(65536):
            data += piece
    first, _, rest = data.partition(b"\r\n")
    fields, _, answer = rest.partition(b"\r\n\r\n")
    lines = (line.partition(": ") for line in fields.decode("latin-1").split("\r\n"))
    return int(first.split()[1]), {name.lower(): value for name, _, value in lines}, answer


def content(answer: bytes) -> bytes:
    """Return the content of a chunked answer that is complete."""
    assert answer.endswith(b"0\r\n\r\n")
    body = b""
    while True:
        size, _, answer = answer.partition(b"\r\n")
        if not int(size, 16):
            return body
        body += answer[: int(size, 16)]
        answer = answer[int(size, 16) + 2 :]


@pytest.fixture
def site(daemon: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    put(tmp_path, "show.cgi", SHOW)
    put(tmp_path, "open/show.cgi", SHOW)
    (tmp_path / "htdocs/page.txt").write_text("the page")
    return daemon(SITE, '[limits]\nconcurrency = 2\nqueue = 1\ngrace = "1 s"\n')


def test_every_variable(site: Any, tmp_path: Path) -> None:
    status, _, answer = ask(
        site.port,
        "POST /show.cgi/a%20b//c?x=1&y HTTP/1.1\nHost: Example.org:1234\nContent-Length: 3\n"
        "Content-Type: text/x\nX-Thing: one\nX-Thing: two\nAuthorization: Basic eDp5\n"
        "Proxy: evil\nX_Thing: shadow\nCookie: a=1",
        b"abc",
    )
    assert status == 200
    shown = json.loads(content(answer))
    env = shown["env"]
    script = f"{tmp_path}/htdocs/show.cgi"
    assert shown["argv"] == [script]
    assert shown["cwd"] == f"{tmp_path}/htdocs"
    assert shown["body"] == "abc"
    expected = {
        "CONTENT_LENGTH": "3",
        "CONTENT_TYPE": "text/x",
        "DOCUMENT_ROOT": f"{tmp_path}/htdocs",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "GREETING": "hello",
        "HTTP_COOKIE": "a=1",
        "HTTP_HOST": "Example.org:1234",
        "HTTP_X_THING": "one, two",
        "PATH_INFO": "/a b//c",
        "PATH_TRANSLATED": f"{tmp_path}/htdocs/a b//c",
        "QUERY_STRING": "x=1&y",
        "REMOTE_ADDR": "127.0.0.1",
        "REQUEST_METHOD": "POST",
        "REQUEST_URI": "/show.cgi/a%20b//c?x=1&y",
        "SCRIPT_FILENAME": script,
        "SCRIPT_NAME": "/show.cgi",
        "SERVER_NAME": "example.org",
        "SERVER_PORT": str(site.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    assert {name: env.get(name) for name in expected} == expected
    assert env["SERVER_SOFTWARE"].startswith("gateway/")
    assert not {"HTTP_PROXY", "HTTP_AUTHORIZATION", "REMOTE_USER", "AUTH_TYPE"} & set(env)


def test_authorization_only_where_the_route_says_so(site: Any) -> None:
    request = "GET {} HTTP/1.1\nHost: a\nAuthorization: Basic eDp5"
    shown = json.loads(content(ask(site.port, request.format("/open/show.cgi"))[2]))
    assert shown["env"]["HTTP_AUTHORIZATION"] == "Basic eDp5"
    assert "REMOTE_USER" not in shown["env"]


@pytest.mark.parametrize(("where", "length"), [("/show.cgi", "6"), ("/open/show.cgi", None)])
def test_chunked_body_is_stored_or_streamed(site: Any, where: str, length: str | None) -> None:
    body = b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
    head = f"POST {where} HTTP/1.1\nHost: a\nTransfer-Encoding: chunked"
    shown = json.loads(content(ask(site.port, head, body)[2]))
    assert shown["body"] == "abcdef"
    assert shown["env"].get("CONTENT_LENGTH") == length


@pytest.mark.parametrize("query", ["-s", "-d+allow_url_include%3d1", "%ADd+x", "logout"])
def test_query_never_becomes_an_argument(site: Any, query: str) -> None:
    shown = json.loads(content(ask(site.port, f"GET /show.cgi?{query} HTTP/1.1\nHost: a")[2]))
    assert len(shown["argv"]) == 1
    assert shown["env"]["QUERY_STRING"] == query


def test_local_redirect_is_answered_here(site: Any, tmp_path: Path) -> None:
    put(tmp_path, "go.cgi", sh("cat > got", 'printf "Location: /show.cgi/x?y=z\\n\\n"'))
    head = "POST /go.cgi?old=1 HTTP/1.1\nHost: a\nContent-Length: 3"
    status, _, answer = ask(site.port, head, b"abc")
    assert status == 200
    shown = json.loads(content(answer))
    assert shown["env"]["REQUEST_METHOD"] == "GET"
    assert shown["env"]["QUERY_STRING"] == "y=z"
    assert shown["env"]["PATH_INFO"] == "/x"
    assert "CONTENT_LENGTH" not in shown["env"]
    assert (tmp_path / "htdocs/got").read_text() == "abc"
    put(tmp_path, "go.cgi", sh('printf "Location: /page.txt\\n\\n"'))
    assert ask(site.port, "GET /go.cgi HTTP/1.1\nHost: a")[2] == b"the page"


def test_local_redirects_in_a_circle_end(site: Any, tmp_path: Path) -> None:
    put(tmp_path, "go.cgi", sh('printf "Location: /go.cgi\\n\\n"'))
    assert ask(site.port, "GET /go.cgi HTTP/1.1\nHost: a")[0] == 502
    assert "local redirects" in site.log()


def test_client_redirects(site: Any, tmp_path: Path) -> None:
    put(tmp_path, "away.cgi", sh('printf "Location: http://b/c\\n\\n"'))
    status, fields, _ = ask(site.port, "GET /away.cgi HTTP/1.1\nHost: a")
    assert (status, fields["location"]) == (302, "http://b/c")
    put(
        tmp_path,
        "doc.cgi",
        sh(
            'printf "Status: 301 Gone Away\\nLocation: http://b/c\\n"',
            'printf "Content-Type: text/html\\n\\nmoved"',
        ),
    )
    status, fields, answer = ask(site.port, "GET /doc.cgi HTTP/1.1\nHost: a")
    assert (status, fields["location"], content(answer)) == (301, "http://b/c", b"moved")


def test_interpreter_for_a_file_that_is_not_executable(site: Any, tmp_path: Path) -> None:
    put(tmp_path, "a.show", 'printf "Content-Type: text/plain\\n\\nran"', 0o644)
    assert content(ask(site.port, "GET /a.show HTTP/1.1\nHost: a")[2]) == b"ran"
    put(tmp_path, "a.cgi", 'printf "Content-Type: text/plain\\n\\nran"', 0o644)
    assert ask(site.port, "GET /a.cgi HTTP/1.1\nHost: a")[0] == 403


def test_script_killed_in_the_middle_is_seen_to_be_cut(site: Any, tmp_path: Path) -> None:
    put(tmp_path, "die.cgi", sh('printf "Content-Type: text/plain\\n\\nsome"', "kill -9 $$"))
    status, _, answer = ask(site.port, "GET /die.cgi HTTP/1.1\nHost: a")
    assert (status, answer) == (200, b"4\r\nsome\r\n")
    assert "killed" in site.log()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\r\necho\r\n", "CRLF"),
        ("#!/no/such/thing\n", "/no/such/thing"),
        (sh("exit 0"), "exit"),
        (sh("echo '<html>'"), "header"),
        (sh("echo 'Status: abc'", "echo"), "Status"),
        (f"#!{sys.executable}\nimport telnetlib_gone\n", "telnetlib_gone"),
    ],
)
def test_log_says_why_there_is_no_answer(
    site: Any, tmp_path: Path, script: str, reason: str
) -> None:
    put(tmp_path, "bad.cgi", script)
    status, _, answer = ask(site.port, "GET /bad.cgi HTTP/1.1\nHost: a")
    assert status in (500, 502)
    assert reason not in answer.decode()
    assert reason in site.log()
    assert "Traceback" not in "".join(
        line for line in site.log().splitlines() if "bad.cgi" not in line
    )


def test_stderr_is_logged_with_the_request_and_cannot_forge_a_line(
    site: Any, tmp_path: Path, wait: Any
) -> None:
    put(
        tmp_path,
        "loud.cgi",
        sh(
            "printf 'first\\nsecond \\033[1m\\r2020-01-01T00:00:00.000Z error no end' >&2",
            'printf "Content-Type: text/plain\\n\\nok"',
        ),
    )
    ask(site.port, "GET /loud.cgi HTTP/1.1\nHost: a")
    wait(lambda: "no end" in site.log(), "the last line is there")
    lines = [line for line in site.log().splitlines() if "loud.cgi" in line]
    assert [line.partition("loud.cgi: ")[2] for line in lines] == [
        "first",
        "second \\x1b[1m\\x0d2020-01-01T00:00:00.000Z error no end",
    ]
    wait(lambda: "loud.cgi" in site.log("access.log"), "the access record is there")
    record = site.log("access.log").splitlines()[-1]
    number = record.partition(" id=")[2].partition(" ")[0]
    assert f"[{number}]" in lines[0]
    assert " exit=0" in record


def test_deadline_ends_script_and_its_children(
    daemon: Callable[..., Any], tmp_path: Path, wait: Any
) -> None:
    put(tmp_path, "hang.cgi", sh("trap '' TERM", "sleep 1000 & echo $! $$ > pids", "wait", "wait"))
    running = daemon(SITE, '[limits]\nfirst_byte = "300 ms"\ngrace = "300 ms"\n')
    assert ask(running.port, "GET /hang.cgi HTTP/1.1\nHost: a")[0] == 504
    for pid in (tmp_path / "htdocs/pids").read_text().split():
        wait(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"{pid} is gone")


def test_full_queue_is_503_at_once(site: Any, tmp_path: Path, wait: Any) -> None:
    put(tmp_path, "hang.cgi", sh("echo $$ >> pids", "exec sleep 1000"))
    clients = []
    try:
        for _ in range(3):
            client = socket.create_connection(("127.0.0.1", site.port), 15)
            client.sendall(b"GET /hang.cgi HTTP/1.1\r\nHost: a\r\n\r\n")
            clients.append(client)
        pids = tmp_path / "htdocs/pids"
        wait(lambda: pids.exists() and len(pids.read_text().split()) == 2, "two run, one waits")
        wait(
            lambda: ask(site.port, "GET /show.cgi HTTP/1.1\nHost: a")[0] == 503, "the queue is full"
        )
        status, fields, _ = ask(site.port, "GET /show.cgi HTTP/1.1\nHost: a")
        assert (status, fields["retry-after"]) == (503, "1")
    finally:
        for client in clients:
            client.close()
    wait(lambda: ask(site.port, "GET /show.cgi HTTP/1.1\nHost: a")[0] == 200, "there is room again")


def test_client_that_waits_in_the_queue_gets_503_in_time(
    daemon: Callable[..., Any], tmp_path: Path, wait: Any
) -> None:
    put(tmp_path, "hang.cgi", sh("echo $$ >> pids", "exec sleep 1000"))
    running = daemon(SITE, '[limits]\nconcurrency = 1\nwait = "300 ms"\ngrace = "1 s"\n')
    with socket.create_connection(("127.0.0.1", running.port), 15) as client:
        client.sendall(b"GET /hang.cgi HTTP/1.1\r\nHost: a\r\n\r\n")
        wait((tmp_path / "htdocs/pids").exists, "one runs")
        status, fields, _ = ask(running.port, "GET /hang.cgi HTTP/1.1\nHost: a")
        assert (status, fields["retry-after"]) == (503, "1")
