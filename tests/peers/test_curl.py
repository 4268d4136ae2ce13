"""The odd cases of HTTP/1.1, with curl and with bare sockets."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.peer("curl")

COUNT = f"""#!{sys.executable}
import hashlib, os, sys
length = os.environ.get("CONTENT_LENGTH", "")
data = sys.stdin.buffer.read(int(length)) if length else b""
print("Content-Type: text/plain\\n")
print(os.environ["REQUEST_METHOD"], os.environ["SERVER_PROTOCOL"], length or "none",
      hashlib.sha256(data).hexdigest())
"""

UPLOAD = 12 << 20


@pytest.fixture
def curl():
    """Run curl; return its output as bytes, and its messages."""

    def run(*words: str, body: bytes = b"", code: int = 0) -> tuple[bytes, str]:
        done = subprocess.run(
            ["curl", "-sS", "--noproxy", "*", "--max-time", "60", *words],
            input=body, capture_output=True, check=False, timeout=90,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout, done.stderr.decode(errors="replace")

    return run


@pytest.fixture
def upload(tmp_path) -> tuple[Path, str]:
    """A large file and its digest."""
    data = os.urandom(UPLOAD)
    path = tmp_path / "upload.bin"
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


# Requests -------------------------------------------------------------------------------------


def test_expect_100_continue_with_a_large_upload(gateway, script, site, curl, upload):
    script("count.cgi", COUNT)
    daemon = gateway(site)
    path, digest = upload
    out, messages = curl(
        "-v", "-H", "Expect: 100-continue", "--expect100-timeout", "60",
        "-T", str(path), f"{daemon.url}/count.cgi",
    )  # fmt: skip
    assert "< HTTP/1.1 100 Continue" in messages
    assert out.decode() == f"PUT HTTP/1.1 {UPLOAD} {digest}\n"


def test_unknown_expectation_is_417(gateway, script, site, curl):
    script("count.cgi", COUNT)
    daemon = gateway(site)
    out, _ = curl(
        "-o", "/dev/null", "-w", "%{http_code}", "-H", "Expect: miracles", "-d", "x",
        f"{daemon.url}/count.cgi",
    )  # fmt: skip
    assert out == b"417"


def test_chunked_upload_has_a_content_length(gateway, script, site, curl, upload):
    script("count.cgi", COUNT)
    daemon = gateway(site)
    path, digest = upload
    out, _ = curl("-T", "-", f"{daemon.url}/count.cgi", body=path.read_bytes())
    assert out.decode() == f"PUT HTTP/1.1 {UPLOAD} {digest}\n"


@pytest.mark.parametrize("chunked", [False, True])
def test_body_over_the_limit_is_413(gateway, script, site, curl, upload, chunked):
    script("count.cgi", COUNT)
    daemon = gateway('[limits]\nrequest_body = "1 MiB"\n' + site)
    path, _ = upload
    words = ["-T", "-"] if chunked else ["-T", str(path)]
    body = path.read_bytes() if chunked else b""
    out, _ = curl("-o", "/dev/null", "-w", "%{http_code}", *words,
                  f"{daemon.url}/count.cgi", body=body)  # fmt: skip
    assert out == b"413"
    assert daemon.get("/count.cgi").status_code == 200


def test_http_1_0_gets_no_chunks(gateway, script, site, curl):
    script("long.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\none\\n'; echo two\n")
    daemon = gateway(site)
    out, _ = curl("-i", "--http1.0", f"{daemon.url}/long.cgi")
    head, _, body = out.partition(b"\r\n\r\n")
    assert body == b"one\ntwo\n"
    assert b"transfer-encoding" not in head.lower()


def test_head_has_the_fields_of_get_and_no_body(gateway, root, site, curl):
    (root / "a.txt").write_text("some text\n")
    daemon = gateway(site)
    head, _ = curl("-I", f"{daemon.url}/a.txt")
    get, _ = curl("-i", f"{daemon.url}/a.txt")

    def fields(answer: bytes) -> set[bytes]:
        lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
        return {line for line in lines if not line.lower().startswith(b"date:")}

    assert fields(head) == fields(get)
    assert b"Content-Length: 10" in head


def test_head_of_a_script(gateway, script, site, curl):
    script("a.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nbody\\n'\n")
    daemon = gateway(site)
    answer = daemon.raw(b"HEAD /a.cgi HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("asked", "given"),
    [("0-9", b"0123456789"), ("-4", b"wxyz"), ("34-", b"yz"), ("30-99", b"uvwxyz")],
)
def test_ranges(gateway, root, site, curl, asked, given):
    (root / "a.txt").write_bytes(b"0123456789abcdefghijklmnopqrstuvwxyz")
    out, _ = curl("-w", "%{http_code}", "-r", asked, f"{gateway(site).url}/a.txt")
    assert out == given + b"206"


def test_several_ranges_and_none_that_fits(gateway, root, site, curl):
    (root / "a.txt").write_bytes(b"0123456789")
    daemon = gateway(site)
    out, _ = curl("-i", "-r", "0-1,8-9", f"{daemon.url}/a.txt")
    assert b"multipart/byteranges" in out
    assert b"bytes 0-1/10" in out
    assert b"bytes 8-9/10" in out
    out, _ = curl("-i", "-r", "10-", f"{daemon.url}/a.txt")
    assert out.startswith(b"HTTP/1.1 416 ")
    assert b"bytes */10" in out


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/sub/../../secret.txt", "/%2e%2e/secret.txt", "/.%2e/secret.txt",
        "/sub/..%2f..%2fsecret.txt", "/%252e%252e/secret.txt", "/..%5csecret.txt",
        "/sub/%2e%2e/%2e%2e/secret.txt", "//../secret.txt", "/..;/secret.txt", "/out.txt",
        "/../htdocs-neighbour/secret.txt", "/x.cgi/../../secret.txt", "/out/secret.txt",
    ],
)  # fmt: skip
def test_nothing_outside_the_root(gateway, script, root, site, curl, path):
    (root / "sub").mkdir()
    neighbour = root.parent / "htdocs-neighbour"
    neighbour.mkdir()
    for place in (root.parent, neighbour):
        (place / "secret.txt").write_text("the secret")
    (root / "out.txt").symlink_to("../secret.txt")
    (root / "out").symlink_to("../htdocs-neighbour")
    script("x.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nran\\n'\n")
    out, _ = curl("-w", "%{http_code}", "--path-as-is", f"{gateway(site).url}{path}")
    assert b"the secret" not in out
    assert out[-3:] in (b"400", b"403", b"404")


def test_absolute_form_through_a_proxy_option(gateway, root, site, curl):
    (root / "a.txt").write_text("text")
    daemon = gateway(site)
    out, _ = curl("--noproxy", "", "--proxy", daemon.url, "http://localhost/a.txt")
    assert out == b"text"


def test_unix_socket_listener(gateway, root, site, curl):
    (root / "a.txt").write_text("text")
    daemon = gateway(site)
    out, _ = curl("--unix-socket", f"{daemon.runtime}/http.sock", "http://localhost/a.txt")
    assert out == b"text"


def test_pipelined_requests_are_answered_in_order(gateway, script, root, site):
    script("slow.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nfrom the script'\n")
    (root / "a.txt").write_text("from a file")
    daemon = gateway(site)
    answer = daemon.raw(
        b"GET /slow.cgi HTTP/1.1\r\nHost: localhost\r\n\r\n"
        b"POST /slow.cgi HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nabcde"
        b"GET /a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"
        b"GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) == [b"200", b"200", b"200", b"404"]
    places = [answer.index(b"from the script"), answer.rindex(b"from the script"),
              answer.index(b"from a file")]  # fmt: skip
    assert places == sorted(set(places))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", b"505"),
        (b"GET /\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"v" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"414"),
        (
            b"POST /count.cgi HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
        (
            b"POST /count.cgi HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
            b"0\r\n\r\n",
            b"501",
        ),
        (b"POST /count.cgi HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde", b"400"),
    ],
)
def test_malformed_request_is_answered_and_closed(gateway, script, site, sent, status):
    script("count.cgi", COUNT)
    answer = gateway(site).raw(sent)
    assert re.match(rb"HTTP/1\.[01] %s " % status, answer), answer[:200]


# Answers --------------------------------------------------------------------------------------


def test_events_are_seen_one_by_one(gateway, script, site, tmp_path):
    go = tmp_path / "go"
    script(
        "events.cgi",
        "#!/bin/sh\nprintf 'Content-Type: text/event-stream\\n\\ndata: one\\n\\n'\n"
        f"until [ -e {go} ]; do sleep 0.05; done\nprintf 'data: two\\n\\n'\n",
    )
    daemon = gateway(site)
    command = ["curl", "-sSN", "--noproxy", "*", "--max-time", "60", f"{daemon.url}/events.cgi"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert [client.stdout.readline() for _ in range(2)] == [b"data: one\n", b"\n"]
        go.touch()
        assert client.stdout.read() == b"data: two\n\n"
    assert client.returncode == 0


def test_own_header_of_an_nph_script(gateway, script, site, curl):
    script(
        "nph-own.cgi",
        "#!/bin/sh\nprintf 'HTTP/1.1 299 Just So\\r\\nX-Own: yes\\r\\n\\r\\nall mine\\n'\n",
    )
    out, _ = curl("-i", f"{gateway(site).url}/nph-own.cgi")
    assert out.startswith(b"HTTP/1.1 299 Just So\r\n")
    assert b"X-Own: yes\r\n" in out
    assert out.endswith(b"all mine\n")


@pytest.mark.parametrize("chunked", [False, True])
def test_answer_before_a_large_body_is_read(gateway, script, site, curl, upload, chunked):
    script(
        "no.cgi",
        "#!/bin/sh\nprintf 'Status: 403 No\\nContent-Type: text/plain\\n\\nnot here\\n'\n",
    )
    daemon = gateway(site)
    path, _ = upload
    words = ["-T", "-"] if chunked else ["-T", str(path)]
    out, _ = curl("-w", "%{http_code}", *words, f"{daemon.url}/no.cgi",
                  body=path.read_bytes() if chunked else b"")  # fmt: skip
    assert out == b"not here\n403"


@pytest.mark.parametrize("chunked", [False, True])
def test_script_that_writes_much_before_it_reads_much(gateway, script, site, curl, upload, chunked):
    script(
        "both.cgi",
        f"#!{sys.executable}\nimport hashlib, os, sys\n"
        "print('Content-Type: text/plain\\n')\nprint('x' * (4 << 20))\nsys.stdout.flush()\n"
        "data = sys.stdin.buffer.read(int(os.environ['CONTENT_LENGTH']))\n"
        "print(hashlib.sha256(data).hexdigest())\n",
    )
    daemon = gateway(site)
    path, digest = upload
    words = ["-T", "-"] if chunked else ["-T", str(path)]
    out, _ = curl(*words, f"{daemon.url}/both.cgi", body=path.read_bytes() if chunked else b"")
    assert out == b"x" * (4 << 20) + f"\n{digest}\n".encode()


def test_child_that_holds_stdout_does_not_hold_the_exchange(gateway, script, site, curl):
    script(
        "back.cgi",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nstarted\\n'\nsleep 1000 &\n",
    )
    daemon = gateway('[limits]\ngrace = "1 s"\n' + site)
    out, _ = curl(f"{daemon.url}/back.cgi")
    assert out == b"started\n"


def test_large_answer_arrives_whole(gateway, script, site, curl):
    script(
        "large.cgi",
        "#!/bin/sh\nprintf 'Content-Type: application/octet-stream\\n\\n'\n"
        "head -c 50000000 /dev/zero\n",
    )
    out, _ = curl(f"{gateway(site).url}/large.cgi")
    assert out == bytes(50_000_000)


def test_slow_reader_gets_everything(gateway, root, site, curl):
    data = os.urandom(2 << 20)
    (root / "a.bin").write_bytes(data)
    out, _ = curl("--limit-rate", "1M", f"{gateway(site).url}/a.bin")
    assert out == data
