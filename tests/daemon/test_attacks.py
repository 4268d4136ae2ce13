"""The whole daemon under attack, over sockets only (FIELD section 3)."""

import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.sources import Glob, Sources

LIMITS = """
[limits]
concurrency = 4
wait = "1 s"
first_byte = "2 s"
idle = "2 s"
client = "1 s"
body = "2 s"
total = "6 s"
grace = "1 s"
drain = "1 s"
"""
SITE = """
[[site]]
root = "{dir}/htdocs"
listing = true

  [[site.route]]
  path = "/evil/"
  pool = "evil"

  [[site.route]]
  match = "*.cgi"
  cgi = true

[pool.evil]
connect = ["unix:{dir}/evil.sock"]
keep = true
"""
SECRET = "the secret of the source"


def put(directory: Path, name: str, *lines: str, mode: int = 0o755) -> None:
    path = directory / "htdocs" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", f"# {SECRET}", *lines, "")))
    path.chmod(mode)


def request(path: str, method: str = "GET", fields: str = "", body: bytes = b"") -> bytes:
    lines = f"{method} {path} HTTP/1.1\nHost: a\n{fields}".rstrip("\n")
    return lines.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body


def last(path: str, method: str = "GET", fields: str = "", body: bytes = b"") -> bytes:
    return request(path, method, f"{fields}\nConnection: close".lstrip("\n"), body)


def talk(port: int, data: bytes) -> bytes:
    """Send `data` and return all that comes until the daemon closes."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        try:
            client.sendall(data)
            while piece := client.recv(1 << 20):
                answer += piece
        except ConnectionError:
            pass  # reset, because we sent what nobody wants
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)]


def leave(client: socket.socket) -> None:
    """Close with a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def sound(site: Any) -> None:
    """Assert that it works as if nothing had happened, and has written no traceback."""
    assert statuses(talk(site.port, request("/ok.cgi") + last("/page.txt"))) == [200, 200]
    assert "Traceback" not in site.log()


@pytest.fixture
def site(daemon: Callable[..., Any], tmp_path: Path) -> Any:
    put(tmp_path, "ok.cgi", 'printf "Content-Type: text/plain\\n\\nok"')
    put(tmp_path, "hang.cgi", "echo $$ >> hung", "exec sleep 1000")
    (tmp_path / "htdocs/page.txt").write_text("the page")
    return daemon(SITE, LIMITS)


# Requests.

INNER = request("/page.txt")
MALFORMED = [
    "Content-Length: 4\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: chunked\xa0",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding:",
    "Content-Length: 1,1",
    "Content-Length: 1\nContent-Length: 1",
    "Content-Length: +1",
    "Content-Length: 0x1",
    "Content-Length: 1_0",
    "Content-Length: \xb9",
    "Content-Length: -1",
    "Content-Length:",
    "Content-Length: 9223372036854775808",
    "X: a\n b",
    "X: a\x00b",
    "X: a\rb",
    ": a",
    "nocolon",
    "Host: b",
    "Expect: something\nContent-Length: 1",
]


def test_doubtful_framing_is_refused_and_nothing_behind_it_is_a_request(site: Any) -> None:
    for fields in MALFORMED:
        found = statuses(talk(site.port, request("/ok.cgi", "POST", fields, INNER)))
        assert len(found) == 1, fields
        assert found[0] in (400, 417, 501), fields
    sound(site)


def test_doubtful_chunks_are_refused_and_nothing_behind_them_is_a_request(site: Any) -> None:
    for chunks in (
        b"1;a\nb\r\nx\r\n0\r\n\r\n",
        b"1;a\rb\r\nx\r\n0\r\n\r\n",
        b"1 \r\nx\r\n0\r\n\r\n",
        b"0x1\r\nx\r\n0\r\n\r\n",
        b"-1\r\nx\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nx",
        b"1\r\nxyz\r\n0\r\n\r\n",
        b"1\nx\n0\n\n",
        b"0\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    ):
        data = request("/ok.cgi", "POST", "Transfer-Encoding: chunked", chunks + INNER)
        found = statuses(talk(site.port, data))
        assert len(found) == 1, chunks
        assert found[0] in (400, 431), chunks
    sound(site)


def test_bad_request_lines_are_refused(site: Any) -> None:
    for line in (
        b"GET /page.txt",
        b"GET  /page.txt HTTP/1.1",
        b"GET\t/page.txt\tHTTP/1.1",
        b"GET /page.txt http/1.1",
        b"GET /page.txt HTTP/1.2",
        b"GET /a b HTTP/1.1",
        b"GET /page.txt#x HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET ftp://a/ HTTP/1.1",
        b"GET http://u@a/ HTTP/1.1",
        b"CONNECT a:80 HTTP/1.1",
        b"get / HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1",
        b"\x16\x03\x01\x02\x00",
    ):
        found = statuses(talk(site.port, line + b"\r\nHost: a\r\nConnection: close\r\n\r\n"))
        assert len(found) == 1, line
        assert found[0] in (400, 414, 501, 505), line
    sound(site)


def test_many_pipelined_requests_are_answered_in_order(site: Any) -> None:
    answer = talk(site.port, request("/page.txt") * 300 + last("/ok.cgi"))
    assert statuses(answer) == [200] * 301
    assert answer.endswith(b"ok\r\n0\r\n\r\n")


def test_resets_at_any_point_leave_nothing_open(site: Any, wait: Any) -> None:
    (front, *_) = site.children()
    sound(site)
    (site.directory / "htdocs/big.bin").write_bytes(bytes(2_000_000))
    before = descriptors(front)
    whole = (
        request("/ok.cgi"),
        request("/ok.cgi", "POST", "Content-Length: 100", b"x" * 50),
        request("/ok.cgi", "POST", "Transfer-Encoding: chunked", b"5\r\nabc"),
        request("/big.bin"),
        request("/big.bin", fields="Range: bytes=0-9,20-1900000"),
        request("/", fields="Range: bytes=0-"),
    )
    for data in whole:
        for stop in range(1, len(data) + 1, 7):
            client = socket.create_connection(("127.0.0.1", site.port), 10)
            client.sendall(data[:stop])
            if stop % 2:
                leave(client)
            else:
                client.close()
    wait(lambda: descriptors(front) <= before + 2, "its descriptors are closed")
    sound(site)


def test_script_of_a_client_that_left_ends_with_what_waited_behind_it(
    site: Any, tmp_path: Path, wait: Any
) -> None:
    hung = tmp_path / "htdocs/hung"
    for count in range(1, 5):
        client = socket.create_connection(("127.0.0.1", site.port), 10)
        client.sendall(request("/hang.cgi") * 3)
        wait(lambda count=count: hung.exists() and len(hung.read_text().split()) >= count, "runs")
        client.close()
    wait(lambda: not any(map(alive, hung.read_text().split())), "none is left", 6)
    sound(site)


def test_nothing_is_started_behind_an_answer_that_was_broken_off(
    site: Any, tmp_path: Path, wait: Any
) -> None:
    put(tmp_path, "die.cgi", 'printf "Content-Type: text/plain\\n\\nsome"', "kill -9 $$")
    talk(site.port, request("/die.cgi") + request("/hang.cgi", "POST", "Content-Length: 0") * 3)
    sound(site)
    hung = tmp_path / "htdocs/hung"
    assert not hung.exists() or not hung.read_text()


def test_client_that_does_not_read_its_last_answer_is_dropped(site: Any, wait: Any) -> None:
    (front, *_) = site.children()
    (site.directory / "htdocs/big.bin").write_bytes(os.urandom(250_000))
    sound(site)
    before = descriptors(front)
    clients = []
    for count in range(1, 26):  # how much the kernel takes is not known: one of these is enough
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", site.port))
        client.sendall(request("/big.bin") * (count - 1) + last("/big.bin"))
        clients.append(client)
    try:
        wait(lambda: descriptors(front) > before + 5, "they are there")
        wait(lambda: descriptors(front) <= before, "they are dropped", 6)
    finally:
        for client in clients:
            client.close()


def test_front_without_descriptors_recovers(site: Any, wait: Any) -> None:
    sound(site)
    (front, *_) = site.children()
    resource.prlimit(front, resource.RLIMIT_NOFILE, (descriptors(front) + 10,) * 2)
    clients = []
    for _ in range(100):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", site.port))
        clients.append(client)
    for client in clients:
        client.close()
    wait(lambda: statuses(talk(site.port, last("/ok.cgi"))) == [200], "it has recovered")
    assert front in site.children()
    sound(site)


# Paths.


def test_no_url_leads_out_or_to_a_source_or_to_what_is_no_file(site: Any, tmp_path: Path) -> None:
    root = tmp_path / "htdocs"
    for name in ("ok.cgi.bak", "ok.cgi~", "OK2.CGI", "ok.cgi.gz", ".hidden", "ok.cgi "):
        (root / name).write_text(SECRET)
    (tmp_path / "outside").write_text(SECRET)
    (root / "out").symlink_to("../outside")
    (root / "abs").symlink_to(tmp_path / "outside")
    (root / "name.txt").symlink_to("ok.cgi")
    os.mkfifo(root / "fifo")
    (root / "dir.cgi").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "sock"))
    put(tmp_path, "plain.cgi", mode=0o644)
    for path in (
        "/../outside",
        "/%2e%2e/outside",
        "/..%2foutside",
        "/%252e%252e/outside",
        "/%%32%65%%32%65/outside",
        "/\\..\\outside",
        "/out",
        "/abs",
        "/name.txt",
        "/fifo",
        "/sock",
        "/dir.cgi",
        "/ok.cgi.bak",
        "/ok.cgi~",
        "/OK.CGI",
        "/OK2.CGI",
        "/ok.cgi%20",
        "/ok.cgi.",
        "/ok.cgi%00",
        "/ok.cgi%0a",
        "/ok.cgi%2f",
        "/ok%ef%bc%8ecgi",
        "/ok.cgi;x",
        "/ok.cgi.gz",
        "/plain.cgi",
        "/page.txt/ok.cgi",
        "/.hidden",
        "/~root/",
        "/" + "a" * 300,
        "/" + "a/" * 2000,
        "/%ff%fe",
        "/%g1",
    ):
        for method, fields in (
            ("GET", ""),
            ("HEAD", ""),
            ("GET", "Range: bytes=0-"),
            ("GET", "If-None-Match: *"),
            ("GET", "Accept-Encoding: gzip"),
        ):
            answer = talk(site.port, last(path, method, fields))
            assert statuses(answer)[0] in (400, 403, 404), path
            assert SECRET.encode() not in answer, path
    sound(site)


def test_names_in_a_listing_are_inert(site: Any, tmp_path: Path) -> None:
    directory = tmp_path / "htdocs/d"
    directory.mkdir()
    for name in (b"<img src=x onerror=alert(1)>", b"javascript:alert(1)", b"\xff\x1b[31m"):
        (directory / os.fsdecode(name)).touch()
    answer = talk(site.port, last("/d/"))
    assert b"<img" not in answer
    assert b'"javascript:' not in answer
    assert b"\x1b" not in answer
    assert b"Content-Security-Policy: default-src 'none'" in answer


def test_source_is_hidden_also_while_it_is_replaced(tmp_path: Path) -> None:
    script = tmp_path / "a.cgi"
    script.write_text(SECRET)
    fd = os.open(script, os.O_PATH)
    try:
        (tmp_path / "new").write_text(SECRET)
        (tmp_path / "new").rename(script)  # a deployment, between our open and our look
        assert Sources([(b"", Glob(b"*.cgi"))]).hide(fd)
    finally:
        os.close(fd)


def test_source_of_one_site_is_not_sent_by_another(
    daemon: Callable[..., Any], tmp_path: Path
) -> None:
    put(tmp_path, "ok.cgi", 'printf "Content-Type: text/plain\\n\\nok"')
    other = '[[site]]\nhosts = ["b.test"]\nroot = "{dir}"\n'
    running = daemon(SITE + other, LIMITS)
    answer = talk(running.port, last("http://b.test/htdocs/ok.cgi"))
    assert SECRET.encode() not in answer


# Scripts.

CHUNKED = r"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN = [
    r"Content-Type: text/plain\nX: a\r\rSet-Cookie: b\n\nok",
    r"X: a\000b\n\nok",
    r"X: a\n b\n\nok",
    r"Content-Length: 1\nContent-Length: 2\n\nok",
    r"Content-Length: -1\n\nok",
    r"Content-Length: +2\n\nok",
    r"Content-Length: 99999999999999999999\n\nok",
    r"Transfer-Encoding: chunked\n\n0\r\n\r\n",
    r"Status: 100 Continue\n\nok",
    r"Status: 000 X\n\nok",
    r"Status: 999 X\n\nok",
    r"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    r"Location: /a\nLocation: /b\n\n",
    r"Location: /%%00\n\n",
    r"\n\n",
    "",
]


def test_script_cannot_split_or_forge_an_answer(site: Any, tmp_path: Path) -> None:
    for output in BROKEN:
        put(tmp_path, "bad.cgi", f"printf '{output}'")
        answer = talk(site.port, request("/bad.cgi") + last("/page.txt"))
        assert statuses(answer) == [502, 200], output
        assert b"Set-Cookie" not in answer
    sound(site)


def test_body_that_is_not_as_long_as_said_never_shifts_the_next_answer(
    site: Any, tmp_path: Path
) -> None:
    for output in (
        r"Content-Length: 1\n\nok",
        r"Content-Length: 9\n\nok",
        r"Status: 204\n\nHTTP/1.1 200 Forged\r\n\r\n",
        r"Status: 304\n\nHTTP/1.1 200 Forged\r\n\r\n",
        rf"{CHUNKED}0\r\n\r\nHTTP/1.1 200 Forged\r\n\r\n",
        rf"{CHUNKED}zz\r\nok",
    ):
        put(tmp_path, "bad.cgi", f"printf '{output}'")
        answer = talk(site.port, request("/bad.cgi") + last("/page.txt"))
        assert b"Forged" not in answer
        assert len(statuses(answer)) == 1 or answer.endswith(b"\r\n\r\nthe page")
    sound(site)


def test_head_without_an_end_is_refused_within_bounds(site: Any, tmp_path: Path) -> None:
    for line in ("exec yes 'A: b'", "exec cat /dev/zero", "echo 'X:'; exec yes"):
        put(tmp_path, "bad.cgi", line)
        assert statuses(talk(site.port, request("/bad.cgi") + last("/page.txt"))) == [502, 200]


def test_request_fields_do_not_collide_or_steer_a_script(site: Any, tmp_path: Path) -> None:
    put(tmp_path, "env.cgi", 'printf "Content-Type: text/plain\\n\\n"', "cat /proc/$$/environ")
    fields = (
        "Proxy: evil\nX-Forwarded-For: good\nX_Forwarded_For: evil\nX.Forwarded.For: evil\n"
        "Remote-User: x\nRemote_User: evil\nContent_Length: evil\nLD-PRELOAD: fine\n"
        "LD_PRELOAD: evil\nUser-Agent: () { :;}; evil\nX-Sendfile-Type: fine"
    )
    answer = talk(site.port, last("/env.cgi?-s+-d", fields=fields))
    assert b"evil" not in answer
    entries = [entry.partition(b"=")[0] for entry in answer.split(b"\r\n\r\n", 1)[1].split(b"\0")]
    assert len(entries) == len(set(entries))
    assert not {b"REMOTE_USER", b"HTTP_PROXY", b"LD_PRELOAD"} & set(entries)


def test_complete_answer_is_complete_although_its_script_goes_on(site: Any, tmp_path: Path) -> None:
    for line in ("exec sleep 1000", "exec cat /dev/zero"):
        put(tmp_path, "more.cgi", 'printf "Content-Length: 5\\n\\nhello"', line)
        answer = talk(site.port, request("/more.cgi") + last("/page.txt"))
        assert statuses(answer) == [200, 200], line


def test_answer_without_a_body_is_complete_although_its_script_goes_on(
    site: Any, tmp_path: Path
) -> None:
    put(tmp_path, "none.cgi", 'printf "Status: 204\\n\\n"', "exec cat /dev/zero")
    assert statuses(talk(site.port, request("/none.cgi") + last("/page.txt"))) == [204, 200]
    put(tmp_path, "body.cgi", 'printf "Content-Type: text/plain\\n\\n"', "exec cat /dev/zero")
    assert statuses(talk(site.port, request("/body.cgi", "HEAD") + last("/page.txt"))) == [200, 200]


ESCAPE = f"""#!{sys.executable}
import os, time
os.setpgid(0, os.getpgid(os.getppid()))
with open("escaped", "a") as file:
    file.write(f"{{os.getpid()}} ")
time.sleep(30)
"""


def test_script_that_leaves_its_process_group_is_ended_and_its_place_is_free(
    site: Any, tmp_path: Path, wait: Any
) -> None:
    put(tmp_path, "escape.cgi")
    (tmp_path / "htdocs/escape.cgi").write_text(ESCAPE)
    clients = []
    for _ in range(4):
        client = socket.create_connection(("127.0.0.1", site.port), 10)
        client.sendall(request("/escape.cgi"))
        clients.append(client)
    escaped = tmp_path / "htdocs/escaped"
    wait(lambda: escaped.exists() and len(escaped.read_text().split()) == 4, "they run")
    for client in clients:
        client.close()
    try:
        wait(lambda: not any(map(alive, escaped.read_text().split())), "they are ended", 5)
        sound(site)
    finally:
        for pid in filter(alive, escaped.read_text().split()):
            os.kill(int(pid), signal.SIGKILL)


def test_script_that_stops_itself_is_ended(site: Any, tmp_path: Path, wait: Any) -> None:
    put(tmp_path, "stop.cgi", "echo $$ > stopped", "kill -STOP $$")
    assert statuses(talk(site.port, request("/stop.cgi") + last("/page.txt"))) == [504, 200]
    wait(lambda: not alive((tmp_path / "htdocs/stopped").read_text().strip()), "it is ended")
    sound(site)


def test_script_that_kills_its_keeper_hurts_only_what_ran(site: Any, tmp_path: Path) -> None:
    put(tmp_path, "kill.cgi", "kill -9 $PPID", "exec sleep 1000")
    assert statuses(talk(site.port, last("/kill.cgi")))[0] in (502, 503)
    sound(site)


def test_process_that_went_into_the_background_does_not_outlive_the_daemon(
    site: Any, tmp_path: Path, wait: Any
) -> None:
    put(
        tmp_path,
        "back.cgi",
        "setsid -f sh -c 'echo $$ > back; exec sleep 1000'",
        'printf "Content-Type: text/plain\\n\\nok"',
    )
    talk(site.port, last("/back.cgi"))
    back = tmp_path / "htdocs/back"
    wait(lambda: back.exists() and back.read_text().strip(), "it runs")
    assert alive(back.read_text().strip())
    site.stop()
    wait(lambda: not alive(back.read_text().strip()), "it is gone")


def test_body_that_nobody_reads_does_not_hold_up_its_answer(site: Any, tmp_path: Path) -> None:
    body = bytes(800_000)
    fields = f"Content-Length: {len(body)}"
    answer = talk(site.port, request("/ok.cgi", "POST", fields, body) + last("/page.txt"))
    assert statuses(answer) == [200, 200]


def test_what_clients_send_is_inert_in_the_logs(site: Any, wait: Any) -> None:
    talk(site.port, last("/%0aforged%1b[31m", fields='User-Agent: \x9b"x\\\nReferer: \xff" forged'))
    wait(lambda: "forged" in site.log("access.log"), "it is recorded")
    (line,) = [line for line in site.log("access.log").splitlines() if "forged" in line]
    assert line.isprintable()
    assert r"\x9b\x22x\x5c" in line


# FastCGI workers that misbehave.

GOOD = b"Content-Type: text/plain\n\nok"
POISON = b"Content-Type: text/plain\n\npoison"


def record(kind: int, content: bytes = b"", id: int = 1, version: int = 1, pad: int = 0) -> bytes:
    head = struct.pack(">BBHHBx", version, kind, id, len(content), pad)
    return head + content + b"P" * pad


def reply(id: int, output: bytes = GOOD) -> bytes:
    return record(6, output, id) + record(6, b"", id) + record(3, bytes(8), id)


class Evil:
    """A worker that answers each request with what `say` makes of its id and of the one before."""

    def __init__(self, path: Path) -> None:
        self.say: Callable[[int, int], bytes] = lambda id, before: reply(id)
        self.hang_up = False
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(100)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        before = 0
        with client, client.makefile("rb") as stream:
            try:
                while len(head := stream.read(8)) == 8:
                    _, kind, id, size, pad = struct.unpack(">BBHHBx", head)
                    stream.read(size + pad)
                    if kind == 5 and not size:
                        client.sendall(self.say(id, before))
                        before = id
                        if self.hang_up:
                            client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the daemon has had enough of it


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[Evil]:
    made = Evil(tmp_path / "evil.sock")
    yield made
    made.listener.shutdown(socket.SHUT_RDWR)
    made.listener.close()


def test_records_that_break_the_protocol_are_502_and_harm_nobody_else(
    site: Any, evil: Evil
) -> None:
    for wrong in (
        lambda id, before: reply(id + 1),
        lambda id, before: reply(0),
        lambda id, before: reply(65535 if id != 65535 else 1),
        lambda id, before: record(6, GOOD, id, version=2) + reply(id),
        lambda id, before: record(3, bytes(8), id),
        lambda id, before: record(6, b"", id) + record(3, bytes(8), id),
        lambda id, before: record(6, GOOD, id) + record(3, b"\0", id),
        lambda id, before: record(6, GOOD, id) + record(3, b"\0\0\0\0\x09\0\0\0", id),
        lambda id, before: record(1, bytes(8), id) + reply(id),
        lambda id, before: record(6, b"X: " + b"a" * 60000, id) * 3,
    ):
        evil.say = wrong
        assert statuses(talk(site.port, last("/evil/")))[0] == 502
        evil.say = lambda id, before: reply(id)
        assert talk(site.port, last("/evil/")).endswith(b"\r\n\r\nok")
    sound(site)


def test_connection_closed_at_every_byte_is_never_a_whole_answer(site: Any, evil: Evil) -> None:
    evil.hang_up = True
    for stop in range(len(reply(1)) + 1):
        evil.say = lambda id, before, stop=stop: reply(id)[:stop]
        answer = talk(site.port, last("/evil/"))
        if stop == len(reply(1)):
            assert answer.endswith(b"\r\n\r\nok")
        else:
            assert statuses(answer) == [502] or b"chunked" in answer, stop
            assert not answer.endswith(b"\r\n0\r\n\r\n"), stop
    sound(site)


def test_padding_and_management_records_are_taken(site: Any, evil: Evil) -> None:
    evil.say = lambda id, before: (
        record(10, b"", 0) * 1000 + record(6, GOOD, id, pad=255) + record(3, bytes(8), id, pad=255)
    )
    for _ in range(3):
        assert talk(site.port, last("/evil/")).endswith(b"\r\n\r\nok")


def test_length_that_is_not_true_never_shifts_the_next_answer(site: Any, evil: Evil) -> None:
    for length in (1, 3, 2**32 + 1):
        output = b"Content-Length: %d\n\nok" % length
        evil.say = lambda id, before, output=output: reply(id, output)
        talk(site.port, last("/evil/"))
        evil.say = lambda id, before: reply(id)
        assert talk(site.port, last("/evil/")).endswith(b"\r\n\r\nok")


def test_late_records_of_one_request_are_not_the_answer_to_the_next(site: Any, evil: Evil) -> None:
    evil.say = lambda id, before: reply(before, POISON) if before else reply(id)
    for _ in range(4):
        assert b"poison" not in talk(site.port, last("/evil/"))


# The processes.


@pytest.mark.parametrize("how", ["no directory", "a link"])
def test_logs_that_cannot_be_reopened_do_not_stop_the_daemon(
    site: Any, tmp_path: Path, wait: Any, how: str
) -> None:
    sound(site)
    (tmp_path / "access.log").rename(tmp_path / "access.log.1")
    if how == "a link":
        (tmp_path / "access.log").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "access.log").mkdir()
    site.process.send_signal(signal.SIGUSR1)
    wait(lambda: site.process.poll() is not None or "access.log" in site.log(), "it says so")
    assert site.process.poll() is None
    assert not (tmp_path / "elsewhere").exists()
    assert statuses(talk(site.port, last("/page.txt"))) == [200]


def test_master_without_descriptors_replaces_a_front_when_it_has_them_again(
    site: Any, wait: Any
) -> None:
    (front,) = site.children()
    master = site.process.pid
    before = resource.prlimit(master, resource.RLIMIT_NOFILE)
    resource.prlimit(master, resource.RLIMIT_NOFILE, (3, before[1]))
    os.kill(front, signal.SIGKILL)
    # Once for its end, once for the attempt that failed.
    wait(lambda: site.process.poll() is not None or site.log().count("front 1") > 1, "it is seen")
    if site.process.poll() is None:
        resource.prlimit(master, resource.RLIMIT_NOFILE, before)
    wait(lambda: site.process.poll() is not None or len(site.children()) == 1, "it is replaced")
    assert site.process.poll() is None
    sound(site)


def test_second_daemon_does_not_take_the_runtime_directory_of_the_first(
    site: Any, tmp_path: Path
) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    text = (tmp_path / "gateway.toml").read_text().replace(f":{site.port}", f":{port}")
    (tmp_path / "second.toml").write_text(text)
    command = [sys.executable, "-m", "gateway", "run", "-c", str(tmp_path / "second.toml")]
    second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert second.stdout is not None
    second.stdout.readline()  # it listens, or it has ended
    second.terminate()
    second.wait(20)
    second.stdout.close()
    assert (tmp_path / "run/gateway.pid").read_text().strip() == str(site.process.pid)


def test_pid_file_is_not_written_through_a_link(daemon: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "htdocs").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run/gateway.pid").symlink_to(tmp_path / "precious")
    (tmp_path / "evil.sock").touch()
    try:
        daemon(SITE, LIMITS)
    except AssertionError:
        pass  # it may refuse to start
    assert (tmp_path / "precious").read_text() == "precious"


def test_flood_of_complaints_is_counted_and_not_logged_whole(
    daemon: Any, tmp_path: Path, wait: Any
) -> None:
    htdocs = tmp_path / "htdocs"
    htdocs.mkdir()
    loud = htdocs / "loud.cgi"
    loud.write_text("#!/bin/sh\nyes x | head -n 100000 >&2\nprintf 'Content-Type: a/b\\n\\nok'\n")
    loud.chmod(0o755)
    running = daemon(
        '[[site]]\nroot = "{dir}/htdocs"\n[[site.route]]\nmatch = "*.cgi"\ncgi = true\n'
    )
    assert running.get("/loud.cgi") == (200, b"ok")
    wait(lambda: "(99000 more lines were not logged)" in running.log(), "the rest is counted")
    assert running.log().count("loud.cgi: x\n") == 1000
