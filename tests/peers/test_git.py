"""git's own clients and server programs through us: http-backend and gitweb, both as CGI."""

import html
import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urljoin

import pytest

pytestmark = [pytest.mark.peer("git"), pytest.mark.peer("git-http-backend")]

SMALL_BUFFER = ("-c", "http.postBuffer=65536")
"""Bodies that are larger go out chunked."""

PACK = 6 << 20


@pytest.fixture
def git(tmp_path):
    """Run git as nobody in particular, without the machine's settings; return its output."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "a@example.org",
    }  # fmt: skip

    def run(*command: str, at: Path | None = None, trace: Path | None = None) -> str:
        more = {} if trace is None else {"GIT_TRACE_CURL": str(trace)}
        done = subprocess.run(
            ["git", *command], cwd=at, env=environment | more, text=True, timeout=60,
            capture_output=True, check=False, errors="replace",
        )  # fmt: skip
        assert done.returncode == 0, f"git {command}: {done.stderr}"
        return done.stdout.strip()

    return run


def commit_blobs(git, work: Path, name: str, size: int) -> str:
    """Commit `size` random bytes, which no pack makes smaller; return the commit."""
    (work / name).write_bytes(os.urandom(size))
    git("add", name, at=work)
    git("commit", "-q", "-m", f"Add {name}\n\nWith a body.", at=work)
    return git("rev-parse", "HEAD", at=work)


@pytest.fixture
def bare(git, tmp_path):
    """A bare repository that holds one commit of 6 MiB and takes pushes; and its work tree."""
    work, store = tmp_path / "work", tmp_path / "store" / "project.git"
    git("init", "-q", "-b", "main", str(work))
    commit_blobs(git, work, "first.bin", PACK)
    (work / "README").write_text("A project with <angle> brackets & more\n")
    git("add", "README", at=work)
    git("commit", "-q", "-m", "Say what it is", at=work)
    git("tag", "v1", at=work)
    git("clone", "-q", "--bare", str(work), str(store))
    git("config", "http.receivepack", "true", at=store)
    return store


@pytest.fixture
def served(gateway, script, root, bare, program):
    script("git.cgi", f"#!/bin/sh\nexec {program('git-http-backend')}\n")
    environment = f'GIT_PROJECT_ROOT = "{bare.parent}", GIT_HTTP_EXPORT_ALL = "1"'
    return gateway(
        f'[[site]]\nhosts = ["localhost"]\nroot = "{root}"\nenvironment = {{ {environment} }}\n'
        '[[site.route]]\nmatch = "*.cgi"\ncgi = true\n'
    )


@pytest.mark.parametrize("version", ["0", "2"])
def test_clone_of_a_large_pack(git, bare, served, tmp_path, version):
    copy = tmp_path / "copy"
    git(
        "-c", f"protocol.version={version}", "clone", "-q",
        f"{served.url}/git.cgi/project.git", str(copy),
    )  # fmt: skip
    git("fsck", "--strict", "--full", at=copy)
    assert git("rev-parse", "origin/main", at=copy) == git("rev-parse", "main", at=bare)


def test_push_of_a_large_pack_in_chunks(git, bare, served, tmp_path):
    copy, trace = tmp_path / "copy", tmp_path / "trace"
    git("clone", "-q", f"{served.url}/git.cgi/project.git", str(copy))
    pushed = commit_blobs(git, copy, "second.bin", PACK)
    git(*SMALL_BUFFER, "push", "-q", "origin", "main", at=copy, trace=trace)
    assert "transfer-encoding: chunked" in trace.read_text(errors="replace").lower()
    assert git("rev-parse", "main", at=bare) == pushed
    git("fsck", "--strict", "--full", at=bare)


def test_push_of_a_large_pack_with_a_length(git, bare, served, tmp_path):
    copy = tmp_path / "copy"
    git("clone", "-q", f"{served.url}/git.cgi/project.git", str(copy))
    pushed = commit_blobs(git, copy, "second.bin", PACK)
    git("-c", "http.postBuffer=33554432", "push", "-q", "origin", "main", at=copy)
    assert git("rev-parse", "main", at=bare) == pushed
    git("fsck", "--full", at=bare)


def test_fetch_that_sends_its_many_haves_in_chunks(git, bare, served, tmp_path):
    copy, other, trace = tmp_path / "copy", tmp_path / "other", tmp_path / "trace"
    url = f"{served.url}/git.cgi/project.git"
    git("clone", "-q", url, str(copy))
    git("clone", "-q", url, str(other))
    pushed = commit_blobs(git, other, "third.bin", 1 << 20)
    git(*SMALL_BUFFER, "push", "-q", "origin", "main", at=other)
    # So many commits of its own that the list of what it has does not fit into the buffer.
    script = "".join(
        f"commit refs/heads/side{n}\ncommitter Ada <a@example.org> {1_700_000_000 + n} +0000\n"
        f"data 1\nx\n\n"
        for n in range(3000)
    )
    subprocess.run(
        ["git", "fast-import", "--quiet"], cwd=copy, input=script.encode(), check=True, timeout=60
    )
    git(
        *SMALL_BUFFER, "-c", "protocol.version=0", "-c", "fetch.negotiationAlgorithm=consecutive",
        "fetch", "-q", at=copy, trace=trace,
    )  # fmt: skip
    assert "transfer-encoding: chunked" in trace.read_text(errors="replace").lower()
    assert git("rev-parse", "origin/main", at=copy) == pushed
    git("fsck", "--full", at=copy)


GITWEB = "/usr/share/gitweb/gitweb.cgi"
PAGES = 60


def links(page: str, base: str) -> list[str]:
    found = re.findall(r'<(?:a|link)\b[^>]*\shref="([^"]+)"', page)
    return [urljoin(base, html.unescape(link)).partition("#")[0] for link in found]


@pytest.mark.peer(GITWEB)
@pytest.mark.peer("perl:CGI")
def test_gitweb_followed_link_by_link(bare, gateway, script, root, tmp_path):
    shutil.copytree(Path(GITWEB).parent / "static", root / "static")
    config = tmp_path / "gitweb.conf"
    config.write_text(f'$projectroot = "{bare.parent}";\n1;\n')
    (bare / "description").write_text("A project to look at\n")
    script("gitweb.cgi", f"#!/bin/sh\nexec {GITWEB}\n")
    daemon = gateway(
        f'[[site]]\nhosts = ["localhost"]\nroot = "{root}"\n'
        f'environment = {{ GITWEB_CONFIG = "{config}" }}\n'
        '[[site.route]]\nmatch = "*.cgi"\ncgi = true\n'
    )
    waiting, seen = [f"{daemon.url}/gitweb.cgi"], set()
    while waiting and len(seen) < PAGES:
        url = waiting.pop(0)
        if url in seen or not url.startswith(daemon.url):
            continue
        seen.add(url)
        answer = daemon.get(url.removeprefix(daemon.url))
        assert answer.status_code == 200, f"{url}: {answer.status_code}\n{daemon.log}"
        if answer.headers["Content-Type"].startswith(("text/html", "application/xhtml")):
            waiting += links(answer.text, url)
    assert len(seen) > 20, seen
    assert any("a=blob" in url for url in seen)
    for sign in ("uninitialized", " at /usr/share/gitweb", "Broken pipe"):
        assert sign not in daemon.log
