"""Shared hosting by the whole daemon, with real accounts."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.guests import WORKER as WORKER_FILE

ID = """#!/bin/sh
printf 'Content-Type: text/plain\\n\\n'
echo $(id -u) $(id -g) $(id -G) $SCRIPT_NAME
"""
WARM = """#!/usr/bin/python3
import json
import os
print("Content-Type: text/plain\\n")
print(json.dumps([os.getuid(), os.geteuid(), os.getgid(), os.getgroups(), os.getcwd()]))
"""
WORKER = "#!/bin/sh\nexec /usr/bin/python3 worker.py hello:application\n"
HELLO = """import os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getuid()} {environ['SCRIPT_NAME']} {environ['PATH_INFO']}".encode()]
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account may pass through, as pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="gateway-tenants-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def hosting(daemon: Any, place: Path, tenant: Any) -> Callable[..., Any]:
    """Return a function that starts a daemon with tenants."""

    def start(more: str = "", sites: str = "", **others: Any) -> Any:
        head = (
            f'[tenants]\nuserdir = "{tenant.home.parent}/*/public_html"\n'
            f'hosts = "{place}/www/{{host}}/htdocs"\nmin_uid = 100\nmin_gid = 100\n{more}\n'
        )
        return daemon(sites, head=head, server='user = "nobody"\n', tmp_path=place, **others)

    return start


def pages(account: Any, files: Mapping[str, str] | None = None) -> Path:
    """Give an account pages and the programs of these names."""
    directory: Path = account.directory("public_html")
    account.directory("public_html/cgi-bin")
    (directory / "index.html").write_text(f"page of {account.name}\n")
    account.own(directory / "index.html")
    for name, text in {"id.cgi": ID, "cgi-bin/id": ID, **(files or {})}.items():
        account.script(f"public_html/{name}", text)
    return directory


def test_each_users_programs_run_as_that_user(hosting: Any, tenant: Any, other: Any) -> None:
    worker = Path(WORKER_FILE).read_text()  # where every account may read it
    files = {"warm.cgi": WARM, "app.fcgi": WORKER, "hello.py": HELLO, "worker.py": worker}
    for account in (tenant, other):
        pages(account, files)
    daemon = hosting()
    for account in (tenant, other, tenant):
        name = account.name
        assert daemon.get(f"/~{name}/") == (200, f"page of {name}\n".encode())
        for path in (f"/~{name}/id.cgi", f"/~{name}/cgi-bin/id", f"/%7E{name}/id.cgi"):
            uid, gid, groups, script = daemon.get(path)[1].decode().split(" ", 3)
            assert (int(uid), int(gid), groups) == (account.uid, account.gid, gid)
            assert script.strip() == path.replace("%7E", "~")
        for _ in range(3):  # executed first, then warm
            status, body = daemon.get(f"/~{name}/warm.cgi")
            expected = [account.uid, account.uid, account.gid, [account.gid]]
            assert status == 200
            assert body.decode().strip() == str(
                [*expected, str(account.home / "public_html")]
            ).replace("'", '"')
        answer = daemon.get(f"/~{name}/app.fcgi/a/b")
        assert answer == (200, f"{account.uid} /~{name}/app.fcgi /a/b".encode())
    assert "Traceback" not in daemon.log()


def test_a_host_is_its_directorys_owners(hosting: Any, place: Path, tenant: Any) -> None:
    home = place / "www" / "a.example" / "htdocs"
    home.mkdir(parents=True)
    for path in (place / "www", home.parent, home):
        path.chmod(0o755)
    (home / "id.cgi").write_text(ID)
    (home / "id.cgi").chmod(0o755)
    tenant.own(home.parent, home, home / "id.cgi")
    daemon = hosting(sites='[[site]]\nhosts = ["b.example"]\nroot = "{dir}"\n')
    answer = f"{tenant.uid} {tenant.gid} {tenant.gid} /id.cgi\n".encode()
    assert daemon.get("/id.cgi", "a.example") == (200, answer)
    assert daemon.get("/id.cgi", "A.Example.:80") == (200, answer)
    for host in ("c.example", "..", ".", "a.example..", "-a", "x/../a.example"):
        assert daemon.get("/id.cgi", host)[0] in (400, 404)


def test_nothing_runs_for_who_is_idle(hosting: Any, tenant: Any, other: Any, wait: Any) -> None:
    for account in (tenant, other):
        pages(account, {"warm.cgi": WARM})
    daemon = hosting('idle = "2 s"')
    fronts = set(daemon.children())
    assert daemon.get(f"/~{tenant.name}/")[0] == 200
    assert set(daemon.children()) == fronts  # a file needs no process of the user
    for account in (tenant, other):
        for _ in range(2):
            assert daemon.get(f"/~{account.name}/warm.cgi")[0] == 200
    assert len(daemon.children()) == len(fronts) + 2
    wait(lambda: set(daemon.children()) == fronts, "only the fronts are left")
    assert daemon.get(f"/~{tenant.name}/id.cgi")[0] == 200


def test_a_script_may_open_its_standard_streams_by_name(hosting: Any, tenant: Any) -> None:
    text = "#!/bin/sh\nprintf 'Status: 200\\n\\n' > /dev/stdout\n"
    text += "cat /dev/stdin > /dev/stdout\necho said > /dev/stderr\n"
    pages(tenant, {"open.cgi": text, "warm.cgi": WARM + "open('/dev/stderr', 'w').write('w')\n"})
    daemon = hosting()
    assert daemon.get(f"/~{tenant.name}/open.cgi") == (200, b"")
    assert "said" in daemon.log()
    for _ in range(3):
        assert daemon.get(f"/~{tenant.name}/warm.cgi")[0] == 200
    assert "denied" not in daemon.log()


RULES = {
    "world-writable": lambda home: (home / "id.cgi").chmod(0o757),
    "group-writable": lambda home: (home / "id.cgi").chmod(0o775),
    "directory-writable": lambda home: home.chmod(0o777),
    "set-id": lambda home: (home / "id.cgi").chmod(0o4755),
    "owner": lambda home: os.chown(home / "id.cgi", 0, -1),
    "group": lambda home: os.chown(home / "id.cgi", -1, 0),
    "above-writable": lambda home: home.parent.chmod(0o777),
}


@pytest.mark.parametrize("rule", RULES)
def test_what_a_rule_forbids_is_403_with_its_name_in_the_log(
    hosting: Any, tenant: Any, rule: str
) -> None:
    home = pages(tenant)
    daemon = hosting()
    path = f"/~{tenant.name}/id.cgi"
    assert daemon.get(path)[0] == 200
    RULES[rule](home)
    assert daemon.get(path)[0] == 403  # at once, though it ran a moment ago
    assert f'rule "{rule}"' in daemon.log()


@pytest.mark.parametrize("kind", ["file", "directory", "pages", "absolute", "script"])
def test_nobody_gets_at_another_tenants_files_by_a_link(
    hosting: Any, tenant: Any, attacker: Any, kind: str
) -> None:
    secret = pages(tenant) / "secret.txt"
    secret.write_text("secret")  # the world may read it where its own pages show it
    tenant.own(secret)
    home = attacker.home / "public_html"
    if kind == "pages":
        home.symlink_to(f"../{tenant.name}/public_html")
        attacker.own(home)
    else:
        pages(attacker)
        link, target = {
            "file": ("secret.txt", f"../../{tenant.name}/public_html/secret.txt"),
            "directory": ("sub", f"../../{tenant.name}/public_html"),
            "absolute": ("secret.txt", str(secret)),
            "script": ("steal.cgi", f"../../{tenant.name}/public_html/id.cgi"),
        }[kind]
        (home / link).symlink_to(target)
        attacker.own(home / link)
    daemon = hosting()
    assert daemon.get(f"/~{tenant.name}/secret.txt") == (200, b"secret")
    for path in ("secret.txt", "sub/secret.txt", "steal.cgi", "id.cgi"):
        status, body = daemon.get(f"/~{attacker.name}/{path}")
        assert b"secret" not in body
        assert status in (403, 404) or body.startswith(str(attacker.uid).encode())


def test_a_local_redirect_stays_with_its_tenant(hosting: Any, tenant: Any, attacker: Any) -> None:
    text = "#!/bin/sh\nprintf 'Location: %s\\n\\n' \"$QUERY_STRING\"\n"
    pages(tenant)
    pages(attacker, {"to.cgi": text})
    daemon = hosting()
    own = daemon.get(f"/~{attacker.name}/to.cgi?/~{attacker.name}/id.cgi")
    assert own[1].startswith(f"{attacker.uid} ".encode())
    for path in (f"/~{tenant.name}/id.cgi", f"/~{attacker.name}/../~{tenant.name}/id.cgi", "/"):
        assert daemon.get(f"/~{attacker.name}/to.cgi?{path}")[0] in (404, 502)


@pytest.mark.parametrize(
    "path", ["/~root/", "/~../", "/~nobody/x", "/~./", "/~/", "/~daemon/", "/~%00/", "/~a%2fb/"]
)
def test_what_is_no_tenant_is_not_found(hosting: Any, tenant: Any, path: str) -> None:
    pages(tenant)
    daemon = hosting()
    assert daemon.get(path)[0] in (400, 404)
    assert daemon.get(f"/~{tenant.name}/../../etc/passwd")[0] == 404
    assert len(daemon.children()) == 1


def test_a_directory_of_somebody_else_runs_nothing(
    hosting: Any, tenant: Any, attacker: Any
) -> None:
    """A directory under one account's name that another one owns."""
    home = pages(tenant)
    os.chown(home, attacker.uid, attacker.gid)
    daemon = hosting()
    assert daemon.get(f"/~{tenant.name}/id.cgi")[0] == 403
    assert f"it belongs to {attacker.name}" in daemon.log()
    assert len(daemon.children()) == 1


def test_a_front_server_reaches_tenants(hosting: Any, tenant: Any) -> None:
    pages(tenant)
    daemon = hosting(listen='fastcgi = ["unix:{dir}/fastcgi.sock"]\n')
    path = f"/~{tenant.name}/id.cgi/more".encode()
    with daemon.front() as front:
        answer = front.ask({
            b"REQUEST_METHOD": b"GET", b"REQUEST_URI": path, b"SCRIPT_NAME": path,
            b"SERVER_PROTOCOL": b"HTTP/1.1", b"SERVER_NAME": b"x", b"QUERY_STRING": b"",
            b"REMOTE_ADDR": b"192.0.2.1",
        })  # fmt: skip
    assert answer.status == 200
    assert answer.body.startswith(f"{tenant.uid} ".encode())


def test_each_tenant_has_logs_of_its_own(
    hosting: Any, tenant: Any, other: Any, place: Path, wait: Any
) -> None:
    fails = "#!/bin/sh\necho 'what went wrong' >&2\nexit 3\n"
    for account in (tenant, other):
        pages(account, {"fails.cgi": fails})
    daemon = hosting('logs = "{dir}/logs"')
    assert daemon.get(f"/~{tenant.name}/fails.cgi")[0] == 502
    assert daemon.get(f"/~{other.name}/index.html")[0] == 200
    directory = place / "logs" / tenant.name
    wait(lambda: (directory / "access.log").exists() and (directory / "access.log").read_text(),
         "the record is written")  # fmt: skip
    record = (directory / "access.log").read_text()
    assert f"GET /~{tenant.name}/fails.cgi" in record
    assert other.name not in record
    errors = (directory / "error.log").read_text()
    assert "what went wrong" in errors
    assert "without any output (exit status 3)" in errors
    assert "what went wrong" not in daemon.log()
    assert "without any output (exit status 3)" in daemon.log()
    for file in (directory / "access.log", directory / "error.log"):
        info = file.stat()
        assert (info.st_uid, info.st_gid, info.st_mode & 0o777) == (0, tenant.gid, 0o640)
        command = ["setpriv", f"--reuid={other.uid}", f"--regid={other.gid}", "--clear-groups"]
        assert subprocess.run([*command, "cat", str(file)], capture_output=True).returncode
    # Renamed by somebody, as logrotate does.
    (directory / "access.log").rename(directory / "old.log")
    daemon.process.send_signal(signal.SIGUSR1)
    wait(lambda: (directory / "access.log").exists(), "the log is opened again")
    assert daemon.get(f"/~{tenant.name}/index.html")[0] == 200
    wait(lambda: "index.html" in (directory / "access.log").read_text(), "a record is written")


def test_a_limit_that_is_hit_is_told_where_the_tenant_can_read_it(
    hosting: Any, tenant: Any, place: Path, wait: Any
) -> None:
    hog = "#!/bin/sh\nx=xxxxxxxx\nwhile :; do x=$x$x; done\n"
    pages(tenant, {"hog.cgi": hog})
    daemon = hosting('logs = "{dir}/logs"\nmemory = "48 MiB"')
    assert daemon.get(f"/~{tenant.name}/hog.cgi")[0] in (500, 502)
    faults = place / "logs" / tenant.name / "faults.log"
    wait(lambda: faults.exists() and "fault memory" in faults.read_text(), "the fault is told")
    assert "hog.cgi" in faults.read_text()
    assert "limit 48 MiB" in faults.read_text()
    assert "fault memory" in daemon.log()
    assert daemon.get(f"/~{tenant.name}/id.cgi")[0] == 200
    info = faults.stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o777) == (0, tenant.gid, 0o640)


def test_a_full_log_is_renamed(hosting: Any, tenant: Any, place: Path, wait: Any) -> None:
    loud = "#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' x >&2\nprintf 'Status: 204\\n\\n'\n"
    pages(tenant, {"loud.cgi": loud})
    daemon = hosting('logs = "{dir}/logs"\nlog_size = "200 KB"')
    full = place / "logs" / tenant.name / "error.log.1"
    for _ in range(20):
        assert daemon.get(f"/~{tenant.name}/loud.cgi")[0] == 204
        if full.exists():
            break
    wait(full.exists, "the full log is renamed")
    daemon.get(f"/~{tenant.name}/loud.cgi")
    total = sum(file.stat().st_size for file in full.parent.iterdir())
    assert total < 2 * (2 * 200_000 + 2 * 64 * 1024)


def test_logs_in_a_directory_of_a_tenant_are_refused(daemon: Any, place: Path, tenant: Any) -> None:
    logs = tenant.directory("logs")
    (place / "x.toml").write_text(
        f'[server]\nuser = "nobody"\n[tenants]\nuserdir = "/home/*/x"\nlogs = "{logs}"\n'
        f'[listen]\nhttp = ["unix:{place}/x.sock"]\n'
    )
    command = [sys.executable, "-m", "gateway", "run", "-c", str(place / "x.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "must be a directory of root's that nobody else may write" in done.stderr


@pytest.mark.parametrize("sandbox", ["home", "strict"])
def test_in_a_sandbox_a_tenant_sees_its_own_alone(
    hosting: Any, tenant: Any, other: Any, place: Path, sandbox: str
) -> None:
    look = (
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n"
        f"ls -d /tmp/* {other.home} {tenant.home} {place}/www/* {place}/run/* 2>/dev/null\n"
        "echo x > /tmp/mine && echo x > made && echo written\n"
        f"echo x > {other.home}/made && echo broken\n"
    )
    for account in (tenant, other):
        pages(account, {"look.cgi": look, "warm.cgi": WARM})
    hosts = []
    for host, account in (("a.example", tenant), ("b.example", tenant), ("c.example", other)):
        root = place / "www" / host / "htdocs"
        root.mkdir(parents=True)
        for path in (place / "www", root.parent, root):
            path.chmod(0o755)
        (root / "id.cgi").write_text(ID)
        (root / "id.cgi").chmod(0o755)
        account.own(root.parent, root, root / "id.cgi")
        hosts.append((host, account))
    daemon = hosting(f'sandbox = "{sandbox}"\nlogs = "{{dir}}/logs"')
    status, body = daemon.get(f"/~{tenant.name}/look.cgi")
    assert status == 200, daemon.log()
    seen = body.decode().split("\n")
    assert "written" in seen
    assert "broken" not in seen
    assert str(other.home) not in seen
    assert not any("www" in line or line.endswith((".sock", ".pid")) for line in seen), seen
    assert not (other.home / "made").exists()
    for _ in range(2):
        assert daemon.get(f"/~{tenant.name}/warm.cgi")[0] == 200
        for host, account in hosts:  # each seen when it is asked for, also by a running keeper
            status, body = daemon.get("/id.cgi", host)
            assert (status, body.split()[:1]) == (200, [str(account.uid).encode()]), daemon.log()
    assert daemon.get(f"/~{tenant.name}/look.cgi")[0] == 200


def test_a_sandbox_that_cannot_be_had_is_503_with_the_reason(
    hosting: Any, tenant: Any, place: Path
) -> None:
    """A home that contains what is to be hidden from others."""
    pages(tenant)
    root = place / "www" / "a.example"
    root.mkdir(parents=True)
    shown = tenant.home.parent / "deep"
    shown.mkdir(mode=0o755)
    daemon = hosting('sandbox = "strict"\nlogs = "{dir}/logs"')
    subprocess.run(["usermod", "-d", str(tenant.home.parent), tenant.name], check=True)
    try:
        for _ in range(3):
            assert daemon.get(f"/~{tenant.name}/id.cgi")[0] == 503
    finally:
        subprocess.run(["usermod", "-d", str(tenant.home), tenant.name], check=True)
        shown.rmdir()
    assert "sandbox: " in daemon.log()
    assert daemon.get(f"/~{tenant.name}/")[0] == 200  # files need no keeper
    assert daemon.get(f"/~{tenant.name}/id.cgi")[0] == 200


def test_a_user_of_a_site_is_a_tenant_as_well(hosting: Any, tenant: Any, place: Path) -> None:
    home = pages(tenant)
    daemon = hosting(
        sites=f'[[site]]\nroot = "{home}"\nuser = "{tenant.name}"\n'
        '[[site.route]]\nmatch = "*.cgi"\ncgi = true\n'
    )
    for path in ("/id.cgi", f"/~{tenant.name}/id.cgi", "/id.cgi"):
        status, body = daemon.get(path)
        assert status == 200
        assert body.startswith(f"{tenant.uid} ".encode())
    assert len(daemon.children()) == 2  # one front, one keeper
