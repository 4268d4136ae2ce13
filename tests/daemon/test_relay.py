"""The whole daemon behind a front server that speaks FastCGI or SCGI.

`row_N` in a name is the row of the field's security history that the test holds.
"""

import json
import os
import random
import re
import socket
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.wire import fcgi_record as fcgi
from gateway.wire.fcgi_params import encode_params
from gateway.wire.fcgi_record import BEGIN_BODY, encode_record

LISTEN = """
fastcgi = [
  "unix:{dir}/fastcgi.sock",
  { address = "unix:{dir}/untrusted.sock", trust = ["uid:4242"] },
  { address = "unix:{dir}/closed.sock", allow = ["uid:4242"] },
  { address = "unix:{dir}/peer.sock", stderr = "peer" },
  { address = "unix:{dir}/both.sock", stderr = "both" },
  { address = "unix:{dir}/param.sock", script = "param", roots = [
      "{dir}/given", "{dir}/one.cgi",
    ], environment = { GREETING = "hello" } },
]
scgi = ["unix:{dir}/scgi.sock"]
"""
LIMITS = """
[limits]
request_body = "1 MiB"
first_byte = "5 s"
body = "1 s"
head = "1 s"
grace = "1 s"
"""
SITE = """
[[site]]
root = "{dir}/htdocs"

  [[site.route]]
  path = "/open/"
  match = "*.cgi"
  cgi = true
  root = "{dir}/htdocs"
  authorization = true

  [[site.route]]
  match = "*.cgi"
  cgi = true
"""
SHOW = f"""#!{sys.executable}
import json, os, sys
body = sys.stdin.buffer.read()
with open("/proc/self/environ", "rb") as environ:
    names = [item.partition(b"=")[0].decode("latin-1") for item in environ.read().split(b"\\0")]
sys.stdout.write("Content-Type: application/json\\n\\n")
json.dump({{"env": dict(os.environ), "argv": sys.argv, "names": names[:-1],
           "body": body.decode("latin-1")}}, sys.stdout)
"""
GET = {
    b"REQUEST_METHOD": b"GET",
    b"SCRIPT_NAME": b"/show.cgi",
    b"REQUEST_URI": b"/show.cgi",
    b"QUERY_STRING": b"",
    b"HTTP_HOST": b"example.org",
}


def put(path: Path, text: str, mode: int = 0o755) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def sh(*lines: str) -> str:
    return "\n".join(("#!/bin/sh", *lines, ""))


def at(path: str, **more: bytes) -> dict[bytes, bytes]:
    """Return the parameters of a GET of this path."""
    name = path.encode()
    return (
        GET
        | {b"SCRIPT_NAME": name, b"REQUEST_URI": name}
        | {key.encode(): value for key, value in more.items()}
    )


def posted(path: str, length: int | bytes) -> dict[bytes, bytes]:
    size = length if isinstance(length, bytes) else b"%d" % length
    return at(path, REQUEST_METHOD=b"POST", CONTENT_LENGTH=size)


def connects(site: Any, name: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(f"{site.directory}/{name}")
        except OSError:
            return False
    return True


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def site(daemon: Callable[..., Any], tmp_path: Path) -> Any:
    """A daemon with scripts; each says what it is in its name."""
    htdocs = tmp_path / "htdocs"
    for path in ("show.cgi", "open/show.cgi"):
        put(htdocs / path, SHOW)
    ok = "printf 'Content-Type: text/plain\\n\\nok'"
    put(htdocs / "zero.cgi", sh(ok))
    put(htdocs / "three.cgi", sh(ok, "exit 3"))
    put(htdocs / "killed.cgi", sh("printf 'Content-Length: 2\\n\\nok'", "kill -9 $$"))
    put(htdocs / "on.cgi", sh(ok, "exec >&- 2>&-", "sleep 1000", "exit 3"))
    put(htdocs / "hang.cgi", sh(f"echo $$ > {tmp_path}/pid", "exec sleep 1000"))
    put(htdocs / "early.cgi", sh(ok, "exec cat > /dev/null"))
    put(htdocs / "deaf.cgi", sh(ok))
    put(htdocs / "size.cgi", sh("printf 'Content-Type: text/plain\\n\\n'", "sha256sum"))
    put(htdocs / "complain.cgi", sh("echo one complaint >&2", ok))
    put(htdocs / "shout.cgi", sh("head -c 1000000 /dev/zero | tr '\\0' x >&2", ok))
    put(htdocs / "allow.cgi", sh(
        "[ \"$FCGI_ROLE\" = AUTHORIZER ] || exit 1",
        "printf 'Status: 200\\nVariable-USER: alice\\nContent-Type: text/plain\\n\\n'",
        "wc -c",
    ))  # fmt: skip
    put(htdocs / "slow.cgi", sh(
        f"echo $$ > {tmp_path}/pid", f"until [ -e {tmp_path}/go ]; do sleep 0.02; done", ok
    ))  # fmt: skip
    (htdocs / "page.txt").write_text("the page")
    for path in ("given/show.cgi", "given/dir/show.cgi", "one.cgi", "outside.cgi"):
        put(tmp_path / path, SHOW)
    put(tmp_path / "given/redirect.cgi", sh("printf 'Location: /elsewhere\\n\\n'"))
    put(tmp_path / "given/suid.cgi", SHOW, 0o4755)
    put(tmp_path / "given/writable.cgi", SHOW, 0o777)
    put(tmp_path / "given/plain.txt", "no script", 0o644)
    (tmp_path / "given/out.cgi").symlink_to(tmp_path / "outside.cgi")
    return daemon(SITE, LIMITS, listen=LISTEN)


def shown(answer: Any) -> dict[str, Any]:
    assert answer.status == 200, answer.output
    found: dict[str, Any] = json.loads(answer.body)
    return found


def sound(site: Any) -> None:
    """Assert that it works as if nothing had happened, and has written no traceback."""
    with site.front() as front:
        assert front.ask(at("/zero.cgi")).body == b"ok"
        assert front.ask(at("/page.txt")).body == b"the page"
    assert site.get("/page.txt") == (200, b"the page")
    assert "Traceback" not in site.log()


# Variables


def test_script_sees_what_the_front_server_says(site: Any, tmp_path: Path, wait: Any) -> None:
    told = {
        b"REMOTE_ADDR": b"192.0.2.7", b"REMOTE_PORT": b"5678", b"HTTPS": b"on",
        b"SERVER_NAME": b"front.example", b"SERVER_PORT": b"443", b"SERVER_ADDR": b"192.0.2.1",
        b"SSL_CLIENT_S_DN": b"CN=alice", b"CONTENT_TYPE": b"text/x", b"HTTP_X_THING": b"one",
        b"SERVER_PROTOCOL": b"HTTP/2.0", b"PATH_INFO": b"/a b", b"QUERY_STRING": b"x=1",
        b"REQUEST_URI": b"/show.cgi/a%20b?x=1",
    }  # fmt: skip
    with site.front() as front:
        found = shown(front.ask(posted("/show.cgi", 3) | told, b"abc"))
    expected = {name.decode(): value.decode() for name, value in told.items()} | {
        "SCRIPT_NAME": "/show.cgi",
        "SCRIPT_FILENAME": f"{tmp_path}/htdocs/show.cgi",
        "DOCUMENT_ROOT": f"{tmp_path}/htdocs",
        "CONTENT_LENGTH": "3",
        "REQUEST_SCHEME": "https",
    }
    assert {name: found["env"].get(name) for name in expected} == expected
    assert (found["body"], found["argv"]) == ("abc", [f"{tmp_path}/htdocs/show.cgi"])
    wait(lambda: "192.0.2.7 - " in site.log("access.log"), "the client is in the access log")


@pytest.mark.parametrize("name", [b"HTTP_PROXY", b"http_proxy", b"Http_Proxy", b"HTTP_proxy"])
def test_row_1_httpoxy_reaches_no_script(site: Any, name: bytes) -> None:
    for path in ("fastcgi.sock", "untrusted.sock"):
        with site.front(path) as front:
            found = shown(front.ask(GET | {name: b"http://evil.example/"}))
        assert not any("PROXY" in variable.upper() for variable in found["names"])


def test_row_2_each_variable_comes_once_and_has_a_plain_name(site: Any) -> None:
    begin = encode_record(fcgi.BEGIN_REQUEST, 1, BEGIN_BODY.pack(fcgi.RESPONDER, 0))
    pairs = [
        *GET.items(), (b"HTTP_X_FORWARDED_FOR", b"first"), (b"HTTP_X_FORWARDED_FOR", b"last"),
        (b"HTTP_X-FORWARDED-FOR", b"dash"), (b"HTTP_X.FORWARDED.FOR", b"dot"),
        (b"HTTP_x_forwarded_for", b"low"), (b"HTTP_CONTENT_LENGTH", b"99"),
        (b"HTTP_CONTENT_TYPE", b"evil/evil"), (b"HTTP_", b"none"), (b"HTTP_\xc4", b"high"),
        (b"proxy-nokeepalive", b"1"), (b"SCRIPT_NAME", b"/show.cgi"), (b"2NAMES", b"x"),
    ]  # fmt: skip
    records = encode_record(fcgi.PARAMS, 1, encode_params(pairs))
    with site.front() as front:
        front.requester.begin({}, keep=False)
        front.socket.sendall(begin + records + encode_record(fcgi.PARAMS, 1, b""))
        front.socket.sendall(encode_record(fcgi.STDIN, 1, b""))
        found = shown(front.answer())
    names, env = found["names"], found["env"]
    assert len(names) == len(set(names))
    assert env["HTTP_X_FORWARDED_FOR"] == "last"
    assert all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) for name in names)
    assert not {"HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_"} & set(names)
    assert not {"dash", "dot", "high", "99"} & set(env.values())


def test_row_4_nobody_is_a_user_without_a_word_of_the_front_server(site: Any) -> None:
    basic = GET | {b"HTTP_AUTHORIZATION": b"Basic YWxpY2U6eA=="}
    claims = {
        b"REMOTE_USER": b"alice", b"AUTH_TYPE": b"Basic", b"REMOTE_ADDR": b"192.0.2.7",
        b"HTTPS": b"on", b"SERVER_NAME": b"front.example", b"SSL_CLIENT_VERIFY": b"SUCCESS",
    }  # fmt: skip
    with site.front() as front:
        env = shown(front.ask(basic))["env"]
        assert not {"REMOTE_USER", "AUTH_TYPE", "HTTP_AUTHORIZATION"} & set(env)
        env = shown(front.ask(basic | claims))["env"]
        assert (env["REMOTE_USER"], env["AUTH_TYPE"]) == ("alice", "Basic")
        env = shown(front.ask(basic | at("/open/show.cgi")))["env"]
        assert env["HTTP_AUTHORIZATION"] == "Basic YWxpY2U6eA=="
    with site.front("untrusted.sock") as front:
        env = shown(front.ask(basic | claims))["env"]
    assert not {"REMOTE_USER", "AUTH_TYPE", "HTTPS", "SSL_CLIENT_VERIFY"} & set(env)
    assert (env["REMOTE_ADDR"], env["SERVER_NAME"]) == ("", "example.org")


STEERING = re.findall(
    "[^ ]+",
    "LD_PRELOAD LD_LIBRARY_PATH PATH IFS BASH_ENV ENV PYTHONPATH PYTHONINSPECT PERL5OPT PERL5LIB "
    "BASH_FUNC_x RUBYOPT NODE_OPTIONS MALLOC_CHECK_ SHELLOPTS PS4 TMPDIR GCONV_PATH",
)


@pytest.mark.parametrize("way", ["fastcgi.sock", "param.sock"])
def test_row_14_what_steers_a_program_is_not_taken_from_params(
    site: Any, tmp_path: Path, way: str
) -> None:
    evil = dict.fromkeys((name.encode() for name in STEERING), b"/evil")
    own = {b"CONTENT_LENGTH": b"0", b"GATEWAY_INTERFACE": b"CGI/9", b"UA": b"() { :;}; touch x"}
    file = {b"SCRIPT_FILENAME": bytes(tmp_path / "given/show.cgi")}
    with site.front(way) as front:
        found = shown(front.ask(GET | evil | own | file | {b"DOCUMENT_ROOT": b"/evil-root"}))
    env = found["env"]
    assert not [name for name in STEERING if env.get(name) == "/evil"]
    assert "/bin" in env["PATH"]
    assert not any(value.startswith("() {") for value in env.values())
    if way == "fastcgi.sock":
        assert env["SCRIPT_FILENAME"] == f"{tmp_path}/htdocs/show.cgi"
        assert env["DOCUMENT_ROOT"] == f"{tmp_path}/htdocs"
    else:
        assert env["GREETING"] == "hello"


# Records and bodies


def test_row_11_garbage_never_stops_the_daemon(site: Any) -> None:
    rng = random.Random(11)
    begin = encode_record(fcgi.BEGIN_REQUEST, 1, BEGIN_BODY.pack(1, 1))
    children = site.children()
    for number in range(60):
        data = rng.randbytes(rng.randrange(1, 400))
        if number % 3:  # nearer to the truth: a kind and a length that are right
            data = begin + encode_record(rng.randrange(12), rng.randrange(3), data)
        for name in ("fastcgi.sock", "scgi.sock"):
            with site.front(name) as front:
                try:
                    front.socket.sendall(data)
                    front.socket.shutdown(socket.SHUT_WR)
                    while front.socket.recv(65536):
                        pass
                except ConnectionError:
                    pass
    sound(site)
    assert set(children) <= set(site.children())


def test_row_11_params_larger_than_any_script_could_have(site: Any) -> None:
    begin = encode_record(fcgi.BEGIN_REQUEST, 1, BEGIN_BODY.pack(1, 0))
    with site.front() as front:
        front.requester.begin({}, keep=False)
        front.socket.sendall(begin + encode_record(fcgi.PARAMS, 1, bytes(300_000)))
        assert front.answer().status == 431
    with site.front() as front:
        large = front.ask(GET | {b"HTTP_COOKIE": b"c" * 100_000})
        assert shown(large)["env"]["HTTP_COOKIE"] == "c" * 100_000
        assert front.ask(GET | {b"HTTP_COOKIE": b"c" * 140_000}).status >= 400  # E2BIG
    sound(site)


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 99000, 1 << 20])
def test_row_12_body_of_any_size_comes_whole(site: Any, size: int) -> None:
    # What a forged record would look like stands all through it.
    forged = encode_record(fcgi.BEGIN_REQUEST, 1, BEGIN_BODY.pack(1, 1))
    body = (forged * (size // len(forged) + 1))[:size]
    with site.front() as front:
        for _ in range(2):
            answer = front.ask(posted("/size.cgi", size), body)
            assert answer.body.split()[0].decode() == sha256(body).hexdigest()


@pytest.mark.parametrize("length", [b"-1", b"9223372036854775808", b"10" + b"0" * 30, b"1,1", b"x"])
def test_row_22_impossible_content_length(site: Any, length: bytes) -> None:
    with site.front() as front:
        assert front.ask(posted("/show.cgi", length), b"12345").status == 400
        assert shown(front.ask(posted("/show.cgi", 5), b"12345"))["body"] == "12345"


def test_row_22_body_of_another_length_than_announced(site: Any) -> None:
    with site.front() as front:
        assert front.ask(posted("/show.cgi", 5), b"123").status == 400
        assert front.ask(posted("/show.cgi", 5), b"1234567").status == 400
        assert front.ask(posted("/show.cgi", 2 << 20)).status == 413
        front.begin(posted("/show.cgi", 5))
        front.send(b"123", end=False)
        assert front.answer().status == 408
        assert shown(front.ask(posted("/show.cgi", 0)))["body"] == ""


def test_script_that_answers_before_it_reads_or_never_reads(site: Any) -> None:
    with site.front() as front:
        for path in ("/early.cgi", "/deaf.cgi"):
            front.begin(posted(path, 1 << 20))
            answer = front.answer(until=b"ok")
            assert answer.body == b"ok"
            front.send(bytes(1 << 20))
            assert answer.ended or front.answer().ended
            assert front.ask(at("/zero.cgi")).body == b"ok"


# The end of a script


@pytest.mark.parametrize(("path", "status"), [("/zero.cgi", 0), ("/three.cgi", 3)])
def test_exit_status_is_told(site: Any, path: str, status: int) -> None:
    with site.front() as front:
        for _ in range(3):
            answer = front.ask(at(path))
            assert (answer.body, answer.app_status) == (b"ok", status)


def test_killed_script_is_told_as_a_shell_tells_it(site: Any) -> None:
    with site.front() as front:
        answer = front.ask(at("/killed.cgi"))
        assert (answer.body, answer.app_status) == (b"ok", 128 + 9)


def test_script_that_works_on_does_not_hold_the_end_up(site: Any) -> None:
    with site.front() as front:
        answer = front.ask(at("/on.cgi"))  # would come too late for the test after the script's end
        assert (answer.body, answer.ended) == (b"ok", True)
        for _ in range(3):
            assert front.ask(at("/three.cgi")).app_status == 3
    assert "Traceback" not in site.log()


@pytest.mark.parametrize("way", ["abort", "close"])
def test_script_of_a_front_server_that_let_go_is_gone(
    site: Any, tmp_path: Path, wait: Any, way: str
) -> None:
    with site.front() as front:
        front.begin(at("/hang.cgi"))
        front.send(b"")
        wait(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "it runs")
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
        if way == "abort":
            front.socket.sendall(encode_record(fcgi.ABORT_REQUEST, 1, b""))
            answer = front.answer()
            assert (answer.output, answer.ended) == (b"", True)
            assert front.ask(at("/zero.cgi")).body == b"ok"
        else:
            front.socket.close()
        wait(lambda: not alive(pid), "it is gone", 5.0)


@pytest.mark.parametrize(
    ("name", "passed", "logged"),
    [("fastcgi.sock", False, True), ("peer.sock", True, False), ("both.sock", True, True)],
)
def test_complaints_go_where_the_listener_says(
    site: Any, name: str, passed: bool, logged: bool
) -> None:
    with site.front(name) as front:
        answer = front.ask(at("/complain.cgi"))
        assert answer.stderr == (b"one complaint\n" if passed else b"")
        assert ("one complaint" in site.log()) == logged
        answer = front.ask(at("/shout.cgi"))
        assert answer.body == b"ok"
        assert len(answer.stderr) == (65536 if passed else 0)


def test_authorizer(site: Any) -> None:
    with site.front() as front:
        front.begin(posted("/allow.cgi", 5), role=fcgi.AUTHORIZER)
        answer = front.answer()
        assert (answer.status, answer.fields["variable-user"]) == (200, "alice")
        assert answer.body.strip() == b"0"


def test_stop_lets_a_request_finish(site: Any, tmp_path: Path, wait: Any) -> None:
    with site.front() as front:
        front.begin(at("/slow.cgi"))
        front.send(b"")
        wait(lambda: (tmp_path / "pid").exists(), "it runs")
        site.process.terminate()
        wait(lambda: not connects(site, "param.sock"), "nobody listens any more")
        (tmp_path / "go").touch()
        answer = front.answer()
        assert (answer.body, answer.ended) == (b"ok", True)
        assert front.socket.recv(1) == b""
    assert site.process.wait(20) == 0


def test_scgi(site: Any) -> None:
    pairs = {b"CONTENT_LENGTH": b"3", b"SCGI": b"1"} | GET | {b"REMOTE_ADDR": b"192.0.2.7"}
    pairs[b"REQUEST_METHOD"] = b"POST"
    head = b"".join(name + b"\0" + value + b"\0" for name, value in pairs.items())
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(15)
        client.connect(f"{site.directory}/scgi.sock")
        client.sendall(b"%d:%b,abc" % (len(head), head))
        data = b""
        while piece := client.recv(65536):
            data += piece
    assert data.startswith(b"Status: 200 OK\r\n")
    found = json.loads(data.partition(b"\r\n\r\n")[2])
    assert (found["body"], found["env"]["REMOTE_ADDR"]) == ("abc", "192.0.2.7")


# Who may connect, and which scripts a front server may name


def test_row_13_account_that_is_not_listed_is_closed_at_once(site: Any) -> None:
    with site.front("closed.sock") as front:
        try:
            front.begin(GET)
            assert front.socket.recv(1) == b""
        except ConnectionError:
            pass
    assert "may not connect" in site.log()
    sound(site)


def test_row_13_sockets_are_not_for_everybody(site: Any) -> None:
    for path in site.directory.glob("*.sock"):
        assert path.stat().st_mode & 0o777 == 0o660


def test_script_that_the_front_server_names(site: Any, tmp_path: Path) -> None:
    file = tmp_path / "given/dir/show.cgi"
    with site.front("param.sock") as front:
        found = shown(front.ask(GET | {b"SCRIPT_FILENAME": bytes(file), b"PATH_INFO": b"/x"}))
        env = found["env"]
        assert (env["SCRIPT_FILENAME"], env["PATH_INFO"]) == (str(file), "/x")
        assert (env["SCRIPT_NAME"], env["GREETING"]) == ("/show.cgi", "hello")
        walked = at("/given/dir/show.cgi/a/b", DOCUMENT_ROOT=bytes(tmp_path))
        env = shown(front.ask(walked))["env"]
        assert (env["SCRIPT_NAME"], env["PATH_INFO"]) == ("/given/dir/show.cgi", "/a/b")
        alone = {b"SCRIPT_FILENAME": b"proxy:fcgi://x" + bytes(tmp_path / "one.cgi")}
        assert shown(front.ask(GET | alone))["env"]["SCRIPT_FILENAME"] == f"{tmp_path}/one.cgi"
        redirect = {b"SCRIPT_FILENAME": bytes(tmp_path / "given/redirect.cgi")}
        answer = front.ask(GET | redirect)
        assert (answer.status, answer.fields["location"]) == (302, "/elsewhere")


@pytest.mark.parametrize(
    ("file", "rule"),
    [
        ("given/show.cgi", "relative"),
        ("{dir}/given/../outside.cgi", "dots"),
        ("{dir}/outside.cgi", "outside"),
        ("{dir}/given", "outside"),
        ("/bin/sh", "outside"),
        ("{dir}/given/out.cgi", "outside"),
        ("{dir}/given/dir", "not-regular"),
        ("{dir}/given/suid.cgi", "set-id"),
        ("{dir}/given/writable.cgi", "world-writable"),
    ],
)
def test_row_13_named_script_that_is_refused_is_logged_with_its_rule(
    site: Any, tmp_path: Path, file: str, rule: str
) -> None:
    named = file.replace("{dir}", str(tmp_path)).encode()
    with site.front("param.sock") as front:
        answer = front.ask(GET | {b"SCRIPT_FILENAME": named})
        assert answer.status == 403
        assert str(tmp_path).encode() not in answer.body
        assert f'rule "{rule}"' in site.log()
        assert front.ask(GET | {b"SCRIPT_FILENAME": bytes(tmp_path / "given/none")}).status == 404


def test_row_13_walked_path_that_leads_out_is_refused(site: Any, tmp_path: Path) -> None:
    with site.front("param.sock") as front:
        answer = front.ask(at("/out.cgi/x", DOCUMENT_ROOT=bytes(tmp_path / "given")))
        assert answer.status == 403
        assert 'rule "outside"' in site.log()
        assert front.ask(at("/none.cgi", DOCUMENT_ROOT=bytes(tmp_path / "given"))).status == 404


def test_row_13_files_of_somebody_else_are_refused(site: Any, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    put(tmp_path / "given/other.cgi", SHOW)
    os.chown(tmp_path / "given/other.cgi", 4242, 4242)
    with site.front("param.sock") as front:
        asked = GET | {b"SCRIPT_FILENAME": bytes(tmp_path / "given/other.cgi")}
        assert front.ask(asked).status == 403
        assert 'rule "someone-else\'s"' in site.log()


def test_nothing_is_left_open(site: Any, wait: Any) -> None:
    """Many connections of every kind later the front has as many descriptors as before."""
    (front,) = site.children()  # no keeper yet
    sound(site)

    def load() -> None:
        for _ in range(20):
            with site.front() as client:
                client.ask(at("/zero.cgi"))
                client.begin(posted("/show.cgi", 10))
                client.send(b"12", end=False)
            with site.front("scgi.sock") as client:
                client.socket.sendall(b"7")

    load()
    before = len(os.listdir(f"/proc/{front}/fd"))
    load()
    wait(lambda: len(os.listdir(f"/proc/{front}/fd")) <= before, "none is left open")
    sound(site)
