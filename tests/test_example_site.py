"""The example site as it is in the repository: every link of its first page, followed."""

import html
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

HERE = Path(__file__).resolve().parent.parent
DEADLINE = 30.0

EXPECTED = {
    "/logo.svg": (200, "image/svg+xml", "linearGradient"),
    "/style.css": (200, "text/css", "prefers-color-scheme: dark"),
    "/clock.html": (200, "text/html", "EventSource"),
    "/cgi-bin/hello.py": (200, "text/html", "<h1>Hello from Python</h1>"),
    "/cgi-bin/hello.pl?name=Camel": (200, "text/html", "You are <b>Camel</b>"),
    "/cgi-bin/hello.sh": (200, "text/html", "<h1>Hello from the shell</h1>"),
    "/cgi-bin/hello-c?from=the+index": (200, "text/html", "<code>from=the+index</code>"),
    "/cgi-bin/form.py": (200, "text/html", 'enctype="multipart/form-data"'),
    "/cgi-bin/env.py/extra/path?colour=blue": (200, "text/html", "<code>/extra/path</code>"),
    "/where.cgi/some/path?and=a+query": (200, "text/html", "<code>/some/path</code>"),
    "/cgi-bin/redirect-local.sh": (200, "text/html", "<code>redirected=locally</code>"),
    "/cgi-bin/redirect-client.sh": (200, "text/html", "<code>redirected=by-the-client</code>"),
    "/cgi-bin/nph-count.sh": (200, "text/plain", "one\ntwo\nthree\n"),
    "/flask/": (200, "text/html", "<h1>Flask</h1>"),
    "/flup/": (200, "text/html", "<code>/flup</code>"),
    "/dispatch.fcgi/welcome": (200, "text/html", "<code>/welcome</code>"),
    "/cgi-bin/error.py": (502, "text/", ""),
    "/cgi-bin/error.py?how=header": (502, "text/", ""),
    "/cgi-bin/error-crlf.sh": (500, "text/", ""),
    "/cgi-bin/error-mode.sh": (403, "text/", ""),
}
"""What each link answers: status, start of the type, a part of the page."""

REASONS = {
    "/cgi-bin/error.py": ["KeyError: 'unknown'", "error.py"],
    "/cgi-bin/error.py?how=header": ["error.py"],
    "/cgi-bin/error.py?how=silent": ["error.py"],
    "/cgi-bin/error.py?how=exit": ["error.py", "3"],
    "/cgi-bin/error-crlf.sh": ["error-crlf.sh", "CRLF"],
    "/cgi-bin/error-mode.sh": ["error-mode.sh", "execut"],
}
"""What the error log says after each of them."""


@dataclass
class Site:
    """The running example."""

    url: str
    log: Path

    def request(self, method: str, path: str, **more: object) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False  # no proxy of the machine's environment
            return session.request(method, self.url + path, timeout=DEADLINE, **more)  # type: ignore[arg-type]


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE).close()
    except ConnectionRefusedError:
        return False
    return True


def copied(directory: Path, port: int) -> Path:
    """Copy the example, so that nothing is written into the checkout; return its settings file.

    Changed are the address, where the logs go, and which Python a script may use.
    """
    shutil.copytree(HERE / "cgi-bin", directory / "cgi-bin")
    shutil.copytree(HERE / "conf/example", directory / "conf/example")
    text = (HERE / "conf/example.toml").read_text()
    address, environment = '"127.0.0.1:8080"', "environment = { "
    assert text.count(address) == 1
    assert text.count(environment) == 1
    text = text.replace(address, f'"127.0.0.1:{port}"')
    text = text.replace(environment, f'{environment}SITE_PYTHON = "{sys.executable}", ')
    text = '[log]\naccess = "access.log"\nerror = "error.log"\n' + text
    (directory / "conf/example.toml").write_text(text)
    return directory / "conf/example.toml"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("example")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = copied(directory, port)
    if compiler := shutil.which("cc"):
        source, program = directory / "cgi-bin/hello.c", directory / "cgi-bin/hello-c"
        subprocess.run([compiler, "-Wall", "-Werror", "-o", program, source], check=True)
    out = directory / "daemon.out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "run", "-c", str(settings)],
            cwd=HERE,  # so that `-m` finds this checkout
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + DEADLINE
        while not accepts(port):
            assert process.poll() is None, out.read_text()
            assert time.monotonic() < end, out.read_text()
            time.sleep(0.01)
        yield Site(f"http://127.0.0.1:{port}", directory / "conf/error.log")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(DEADLINE)
        finally:
            process.kill()
            process.wait()
    assert status == 0, out.read_text()


def links(page: str) -> set[str]:
    found = re.findall(r'(?:href|src)="([^"]+)"', page)
    return {html.unescape(link) for link in found}


def test_first_page_needs_nothing_from_elsewhere(site: Site) -> None:
    page = site.request("GET", "/").text
    assert all(link.startswith("/") for link in links(page))
    assert links(page) == set(EXPECTED)


@pytest.mark.parametrize("path", sorted(EXPECTED))
def test_link_of_the_first_page(site: Site, path: str) -> None:
    if path.startswith("/cgi-bin/hello-c") and shutil.which("cc") is None:
        pytest.skip("peer missing: cc")
    if path.startswith("/cgi-bin/hello.pl") and not Path("/usr/bin/perl").exists():
        pytest.skip("peer missing: perl")
    status, kind, part = EXPECTED[path]
    answer = site.request("GET", path)
    assert answer.status_code == status, site.log.read_text()
    assert answer.headers["Content-Type"].startswith(kind)
    assert part in answer.text


@pytest.mark.parametrize("path", sorted(REASONS))
def test_failure_is_explained_in_the_log_and_not_to_everybody(site: Site, path: str) -> None:
    before = site.log.stat().st_size
    answer = site.request("GET", path)
    assert 400 <= answer.status_code < 600
    added = site.log.read_bytes()[before:].decode()
    for word in REASONS[path]:
        assert word in added
    assert "Traceback" not in answer.text
    assert "This is never sent" not in answer.text


def test_client_redirect_is_one(site: Site) -> None:
    answer = site.request("GET", "/cgi-bin/redirect-client.sh", allow_redirects=False)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"{site.url}/cgi-bin/env.py?redirected=by-the-client"
    assert site.request("GET", "/cgi-bin/redirect-local.sh").history == []


def test_own_header_is_sent_as_it_was_written(site: Site) -> None:
    assert site.request("GET", "/cgi-bin/nph-count.sh").reason == "Counted"


def test_clock_ticks_while_it_is_read(site: Site) -> None:
    with site.request("GET", "/cgi-bin/clock.sh", stream=True) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        lines = answer.iter_lines()
        assert next(lines) == b"id: 1"
        assert re.fullmatch(rb"data: \d\d:\d\d:\d\d", next(lines))


def test_form_echoes_and_escapes(site: Site) -> None:
    answer = site.request("POST", "/cgi-bin/form.py", data={"name": "<b>Jo</b>", "message": "ü"})
    assert answer.status_code == 200
    assert "&lt;b&gt;Jo&lt;/b&gt;" in answer.text
    assert "<td>ü" in answer.text
    answer = site.request(
        "POST", "/cgi-bin/form.py", data={"name": "x"}, files={"file": ("<i>.txt", b"abc\r\n\0")}
    )
    assert "&lt;i&gt;.txt: 6 bytes" in answer.text
    answer = site.request("POST", "/cgi-bin/form.py", json={"name": "x"})
    assert answer.status_code == 415


def test_notes_are_kept_in_the_session(site: Site) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.post(f"{site.url}/flask/add", data={"note": "first"}, timeout=DEADLINE)
        page = session.post(f"{site.url}/flask/add", data={"note": "<second>"}, timeout=DEADLINE)
    assert page.url == f"{site.url}/flask/"
    assert "<td>first" in page.text
    assert "<td>&lt;second&gt;" in page.text
    upload = site.request("POST", "/flask/upload", files={"file": ("a.bin", os.urandom(300_000))})
    assert "300000 bytes" in upload.text


@pytest.mark.parametrize("base", ["/flup/", "/dispatch.fcgi/"])
def test_worker_stays_and_counts(site: Site, base: str) -> None:
    pages = [site.request("GET", base).text for _ in range(3)]
    counts = [re.search(r"Process (\d+) stays, and this is its answer number (\d+)", page)
              for page in pages]  # fmt: skip
    assert all(counts)
    found = [(count[1], int(count[2])) for count in counts if count]
    assert len({pid for pid, _ in found}) == 1
    assert [number - found[0][1] for _, number in found] == [0, 1, 2]


@pytest.mark.parametrize("path", ["/cgi-bin/hello.c", "/cgi-bin/", "/cgi-bin", "/cgi-bin/none.py"])
def test_sources_and_lists_of_scripts_are_not_given(site: Site, path: str) -> None:
    answer = site.request("GET", path)
    assert answer.status_code in (403, 404)
    assert "#include" not in answer.text
    assert "hello.py" not in answer.text
