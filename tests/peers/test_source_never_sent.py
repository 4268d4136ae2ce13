"""A script that cannot be run is refused with a reason; its source is never sent instead."""

import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

SECRET = "source-that-nobody-may-see"
RUNS = f"#!/bin/sh\n# {SECRET}\nprintf 'Content-Type: text/plain\\n\\nran\\n'\n"
PARENT = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s\\n' $PPID\n"

REQUESTS = [
    ("GET", {}),
    ("HEAD", {}),
    ("POST", {}),
    ("PUT", {}),
    ("OPTIONS", {}),
    ("GET", {"Range": "bytes=0-"}),
    ("GET", {"Range": "bytes=-20"}),
    ("GET", {"If-None-Match": '"x"'}),
    ("GET", {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:01 GMT"}),
    ("GET", {"If-Match": "*"}),
    ("GET", {"If-Range": '"x"', "Range": "bytes=0-9"}),
    ("GET", {"Accept-Encoding": "gzip, br"}),
]
"""Everything that makes a file server give a file in another way."""

UNRUNNABLE = {
    "not executable": (RUNS, 0o644),
    "interpreter missing": (f"#!/nowhere/perl\n# {SECRET}\n", 0o755),
    "CRLF in the first line": (RUNS.replace("\n", "\r\n"), 0o755),
    "no first line": (f"# {SECRET}\necho ran\n", 0o755),
    "binary of no known kind": (f"\x7fELF {SECRET}", 0o755),
    "empty first line": (f"#!\n# {SECRET}\n", 0o755),
}


@pytest.fixture(params=["exec", "warm"])
def start(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def check_all(daemon, path: str, *, statuses: range) -> None:
    for method, headers in REQUESTS:
        answer = daemon.request(method, path, headers=headers)
        where = f"{method} {path} {headers}: {answer.status_code} {answer.text[:200]}"
        assert SECRET not in answer.text, where
        assert SECRET not in str(answer.headers), where
        assert answer.status_code in statuses, where


@pytest.mark.parametrize("why", sorted(UNRUNNABLE))
def test_script_that_cannot_run(gateway, script, site, why):
    text, mode = UNRUNNABLE[why]
    script("a.cgi", text, mode)
    daemon = gateway(site)
    check_all(daemon, "/a.cgi", statuses=range(400, 600))
    assert "a.cgi" in daemon.log


@pytest.mark.parametrize("route", ['match = "*.fcgi"\nfastcgi = true', 'path = "/"\ncgi = "."'])
def test_unrunnable_file_of_another_kind_of_route(gateway, script, root, route):
    script("a.fcgi", RUNS, 0o644)
    route = route.replace('"."', f'"{root}"')
    daemon = gateway(f'[[site]]\nhosts = ["localhost"]\nroot = "{root}"\n[[site.route]]\n{route}\n')
    check_all(daemon, "/a.fcgi", statuses=range(400, 600))


def test_pool_that_is_down(gateway, script, root):
    script("a.php", f"<?php // {SECRET}\n", 0o644)
    daemon = gateway(
        f'[limits]\nwait = "1 s"\n[[site]]\nhosts = ["localhost"]\nroot = "{root}"\n'
        '[[site.route]]\nmatch = "*.php"\npool = "php"\n'
        '[pool.php]\ncommand = ["/bin/false"]\nprocesses = 1\n'
    )
    answer = daemon.get("/a.php")
    assert 500 <= answer.status_code < 600
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    "path",
    ["/a.cgi", "/a.cgi/", "/a.cgi/more", "//a.cgi", "/./a.cgi", "/a%2ecgi", "/%61.cgi",
     "/a.cgi%00", "/a.cgi%20", "/a.cgi.", "/a.CGI", "/A.CGI", "/a.cgi;x", "/a.cgi%0a",
     "/a.cgi::$DATA", "/sub/../a.cgi", "/a.cgi?a.txt", "/a.txt/../a.cgi"],
)  # fmt: skip
def test_spellings_of_the_path_of_a_good_script(gateway, script, root, site, path):
    script("a.cgi", RUNS)
    (root / "sub").mkdir()
    (root / "a.txt").write_text("text")
    daemon = gateway(site)
    answer = daemon.raw(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )
    assert SECRET.encode() not in answer
    assert answer.split()[1] in (b"200", b"400", b"403", b"404"), answer[:200]
    if b" 200 " in answer[:20]:
        assert b"ran" in answer


def test_every_kind_of_request_of_a_good_script(gateway, script, site):
    script("a.cgi", RUNS)
    check_all(gateway(site), "/a.cgi", statuses=range(200, 600))


@pytest.mark.parametrize(
    "name",
    ["a.cgi~", "a.cgi.bak", "a.cgi.old", "a.cgi.orig", "a.cgi.save", ".a.cgi.swp", "#a.cgi#",
     "a.cgi.swp", ".htaccess", ".git/config", "a.cgi.rej", "a.cgi.tmp"],
)  # fmt: skip
def test_copies_that_editors_leave(gateway, script, site, name):
    script(name, RUNS, 0o644)
    daemon = gateway(site)
    check_all(daemon, "/" + name.replace("#", "%23"), statuses=range(400, 500))


def test_descriptors_used_up_in_the_keeper(gateway, script, site, poll):
    script("a.cgi", RUNS)
    script("pid.cgi", PARENT)
    daemon = gateway(site)
    keeper = int(daemon.get("/pid.cgi").text)
    assert keeper in daemon.processes()
    soft, hard = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
    # Fewer than it has open already: it can neither be given descriptors nor open any.
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, (3, hard))
    check_all(daemon, "/a.cgi", statuses=range(500, 600))
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, (soft, hard))
    poll(lambda: daemon.get("/a.cgi").text == "ran\n", "the script runs again")


@pytest.fixture
def ordinary(gateway, root):
    """A directory and a daemon whose scripts run as somebody whom limits and modes bind, which they
    do not for root: as ourselves, or else as "nobody", who needs a directory he may enter."""
    if os.geteuid() != 0:
        yield root, lambda: gateway(settings(root, ""))
        return
    directory = Path(tempfile.mkdtemp(prefix="gw-"))
    directory.chmod(0o755)
    try:
        yield directory, lambda: gateway(settings(directory, 'user = "nobody"\n'))
    finally:
        shutil.rmtree(directory)


def settings(directory: Path, user: str) -> str:
    return (
        f'[[site]]\nhosts = ["localhost"]\nroot = "{directory}"\n{user}'
        '[[site.route]]\nmatch = "*.cgi"\ncgi = true\n'
    )


def test_script_that_its_user_may_not_read(ordinary):
    directory, start = ordinary
    path = directory / "a.cgi"
    path.write_text(RUNS)
    path.chmod(0o111)
    daemon = start()
    check_all(daemon, "/a.cgi", statuses=range(400, 600))


def soft_limit(keeper: int, value: str) -> str:
    """Set the soft limit on processes of `keeper`; return what it was. Only its own user may."""
    status = Path(f"/proc/{keeper}").stat()
    who = {"user": status.st_uid, "group": status.st_gid, "extra_groups": []}
    command = ["prlimit", f"--pid={keeper}", "--raw", "--noheadings", "--output=SOFT", "--nproc"]
    whose = who if os.geteuid() == 0 else {}
    done = subprocess.run(command, capture_output=True, text=True, check=True, **whose)
    subprocess.run(["prlimit", f"--pid={keeper}", f"--nproc={value}:"], check=True, **whose)
    return done.stdout.strip()


@pytest.mark.peer("prlimit")
def test_fork_refused(ordinary, poll):
    directory, start = ordinary
    for name, text in (("a.cgi", RUNS), ("pid.cgi", PARENT)):
        path = directory / name
        path.write_text(text)
        path.chmod(0o755)
    daemon = start()
    keeper = int(daemon.get("/pid.cgi").text)
    before = soft_limit(keeper, "0")
    check_all(daemon, "/a.cgi", statuses=range(500, 600))
    assert "a.cgi" in daemon.log
    soft_limit(keeper, before)
    poll(lambda: daemon.get("/a.cgi").text == "ran\n", "the script runs again")
