"""Programs of others that ask by FastCGI and SCGI: flup's own clients, and cgi-fcgi of libfcgi.

flup's clients are WSGI applications that hand a request on, so they are called as such.
"""

import hashlib
import io
import os
import subprocess
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

SHOW = """#!/bin/sh
echo 'a word of complaint' >&2
printf 'Content-Type: text/plain\\nX-Own: yes\\n\\n%s|%s|%s|%s|' \\
    "$REQUEST_METHOD" "$SCRIPT_NAME" "$PATH_INFO" "$QUERY_STRING"
exec sha256sum
"""
LARGE = """#!/bin/sh
printf 'Content-Type: application/octet-stream\\n\\n'
head -c 1000003 /dev/zero
"""
FAILS = "#!/bin/sh\nprintf 'Status: 403 Not You\\nContent-Type: text/plain\\n\\nno\\n'\nexit 7\n"


@pytest.fixture(scope="module")
def sockets(shared_gateway, tmp_path_factory) -> Iterator[Path]:
    """A daemon's sockets, fastcgi.sock and scgi.sock, in a directory with a short name."""
    root = tmp_path_factory.mktemp("root")
    for name, text in (("show.cgi", SHOW), ("large.cgi", LARGE), ("fails.cgi", FAILS)):
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    with tempfile.TemporaryDirectory(prefix="gw-") as base:
        lines = (f'{kind} = ["unix:{base}/{kind}.sock"]' for kind in ("fastcgi", "scgi"))
        shared_gateway(
            f'[[site]]\nhosts = ["localhost"]\nroot = "{root}"\n'
            '[[site.route]]\nmatch = "*.cgi"\ncgi = true\n',
            listen="\n".join(lines),
        )
        yield Path(base)


# flup -----------------------------------------------------------------------------------------


def environ(
    path: str, body: bytes = b"", method: str = "GET", query: str = ""
) -> dict[str, object]:
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_URI": path + ("?" + query if query else ""),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http",
    }


def call(app, path: str, *more) -> tuple[str, dict[str, str], bytes]:
    """Call an application; return status, headers and body."""
    heads: list[tuple[bytes, list[tuple[bytes, bytes]]]] = []
    asked = environ(path, *more)
    body = b"".join(app(asked, lambda status, headers, *_: heads.append((status, headers))))
    ((status, headers),) = heads
    return status.decode(), {name.decode(): value.decode() for name, value in headers}, body


@pytest.fixture(params=["fastcgi", "scgi"])
def client(request, sockets, monkeypatch):
    """flup's client application, connected to us."""
    # flup 1.0.3 still asks Python 2's module what a string is.
    monkeypatch.setattr(types, "StringTypes", (str,), raising=False)
    if request.param == "fastcgi":
        from flup.client.fcgi_app import FCGIApp

        return FCGIApp(connect=str(sockets / "fastcgi.sock"))
    from flup.client.scgi_app import SCGIApp

    return SCGIApp(connect=str(sockets / "scgi.sock"))


@pytest.mark.peer("python:flup.client.fcgi_app")
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1_000_003])
def test_flup_sends_a_body(client, size: int) -> None:
    body = os.urandom(size)
    status, headers, text = call(client, "/show.cgi/more", body, "POST", "x=1")
    assert status.startswith("200")
    assert headers["x-own"] == "yes"
    *values, digest = text.decode().split("|")
    assert values == ["POST", "/show.cgi", "/more", "x=1"]
    assert digest.split()[0] == hashlib.sha256(body).hexdigest()


@pytest.mark.peer("python:flup.client.fcgi_app")
def test_flup_reads_a_large_answer(client) -> None:
    status, _, text = call(client, "/large.cgi")
    assert status.startswith("200")
    assert text == bytes(1_000_003)


@pytest.mark.peer("python:flup.client.fcgi_app")
def test_flup_hears_of_a_status(client) -> None:
    status, _, text = call(client, "/fails.cgi")
    assert (status, text) == ("403 Not You", b"no\n")


@pytest.mark.peer("python:flup.client.fcgi_app")
def test_flup_hears_that_there_is_nothing(client) -> None:
    assert call(client, "/none")[0].startswith("404")


# cgi-fcgi -------------------------------------------------------------------------------------


def cgi_fcgi(
    sockets: Path, body: bytes = b"", **variables: str
) -> "subprocess.CompletedProcess[bytes]":
    """Run it as a web server would run a CGI program, with these variables."""
    given = {
        "PATH": os.environ["PATH"],
        "REQUEST_METHOD": "POST" if body else "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost",
        "CONTENT_LENGTH": str(len(body)),
    }
    return subprocess.run(
        ["cgi-fcgi", "-bind", "-connect", str(sockets / "fastcgi.sock")],
        env=given | variables, input=body, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.peer("cgi-fcgi")
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1_000_003])
def test_cgi_fcgi_sends_a_body(sockets, size: int) -> None:
    body = os.urandom(size)
    done = cgi_fcgi(sockets, body, SCRIPT_NAME="/show.cgi", PATH_INFO="/more", QUERY_STRING="q")
    head, _, text = done.stdout.partition(b"\r\n\r\n")
    assert b"x-own: yes" in head.lower(), done
    *values, digest = text.decode().split("|")
    assert values[1:] == ["/show.cgi", "/more", "q"]
    assert digest.split()[0] == hashlib.sha256(body).hexdigest()
    assert done.returncode == 0


@pytest.mark.peer("cgi-fcgi")
def test_cgi_fcgi_reads_a_large_answer(sockets) -> None:
    done = cgi_fcgi(sockets, SCRIPT_NAME="/large.cgi")
    assert done.stdout.partition(b"\r\n\r\n")[2] == bytes(1_000_003)


@pytest.mark.peer("cgi-fcgi")
def test_cgi_fcgi_exits_as_the_script_did(sockets) -> None:
    done = cgi_fcgi(sockets, SCRIPT_NAME="/fails.cgi")
    assert b"Status: 403" in done.stdout
    assert done.returncode == 7
