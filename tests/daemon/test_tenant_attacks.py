"""What a tenant that means harm tries on the whole daemon, with real accounts and processes."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.process.channel import environment_block
from gateway.process.examine import Root
from gateway.process.spec import ScriptRoot

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become tenants")

ID = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nid -u\n"
RELAY = "#!/bin/sh\nexec /usr/bin/python3 worker.py hello:application\n"
HELLO = """import os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getuid()} {environ['SCRIPT_NAME']}".encode()]
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account may pass through, as pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="gateway-attacks-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def hosting(daemon: Any, place: Path, tenant: Any) -> Callable[..., Any]:
    """Return a function that starts a daemon with tenants."""

    def start(more: str = "", sites: str = "", head: str = "", **others: Any) -> Any:
        text = (
            f'{head}[tenants]\nuserdir = "{tenant.home.parent}/*/public_html"\n'
            f"min_uid = 100\nmin_gid = 100\n{more}\n"
        )
        return daemon(sites, head=text, server='user = "nobody"\n', tmp_path=place, **others)

    return start


def pages(account: Any, **programs: str) -> Path:
    """Give an account pages and programs, a "_" in their names being a dot."""
    directory: Path = account.directory("public_html")
    for name, text in {"id_cgi": ID, **programs}.items():
        account.script(f"public_html/{name.replace('_', '.')}", text)
    return directory


def of_uid(daemon: Any, uid: int) -> list[int]:
    """Return the keepers of an account."""
    return [
        pid
        for pid in daemon.children()
        if os.stat(f"/proc/{pid}/task").st_uid == uid or uid_of(pid) == uid
    ]


def uid_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Uid:"))


def sockets(daemon: Any, account: Any) -> list[Path]:
    """Return the sockets of an account's FastCGI programs."""
    below = daemon.directory / "run" / "pools" / "1" / account.name
    return [path for path in below.rglob("*") if path.is_socket()]


def test_nobodys_requests_reach_anothers_workers_through_a_link_for_a_socket(
    hosting: Any, tenant: Any, attacker: Any
) -> None:
    worker = Path("gateway/guests/worker.py").resolve().read_text()
    for account in (tenant, attacker):
        pages(account, app_fcgi=RELAY, hello_py=HELLO, worker_py=worker)
    daemon = hosting()
    for account in (tenant, attacker):
        answer = (200, f"{account.uid} /~{account.name}/app.fcgi".encode())
        assert daemon.get(f"/~{account.name}/app.fcgi") == answer
    (victims,), (own,) = sockets(daemon, tenant), sockets(daemon, attacker)
    subprocess.run(
        ["/bin/ln", "-sfn", str(victims), str(own)],
        user=attacker.uid,
        group=attacker.gid,
        check=True,
    )
    status, body = daemon.get(f"/~{attacker.name}/app.fcgi")
    assert (status, str(tenant.uid).encode() in body) == (503, False)
    assert f"account {tenant.uid}" in daemon.log()
    answer = (200, f"{tenant.uid} /~{tenant.name}/app.fcgi".encode())
    assert daemon.get(f"/~{tenant.name}/app.fcgi") == answer


def test_a_deep_tree_in_the_directory_of_its_sockets_stops_neither_reload_nor_end(
    hosting: Any, tenant: Any, other: Any, wait: Any
) -> None:
    dig = "#!/usr/bin/python3\nimport os, sys\nos.chdir(sys.argv[1])\n"
    dig += "for _ in range(2500):\n    os.mkdir('d')\n    os.chdir('d')\n"
    for account in (tenant, other):
        pages(account)
    daemon = hosting()
    for account in (tenant, other):
        assert daemon.get(f"/~{account.name}/id.cgi")[0] == 200
    below = daemon.directory / "run" / "pools" / "1" / tenant.name
    script = tenant.script("dig.py", dig)
    subprocess.run([str(script), str(below)], user=tenant.uid, group=tenant.gid, check=True)
    settings = daemon.directory / "gateway.toml"
    settings.write_text(settings.read_text().replace("[tenants]", "[tenants]\nqueue = 3"))
    daemon.process.send_signal(signal.SIGHUP)
    wait(lambda: "settings read again" in daemon.log(), "the settings are read again")
    wait(lambda: not below.exists(), "the directory of the old settings is gone")
    assert daemon.get(f"/~{other.name}/id.cgi")[0] == 200
    subprocess.run(
        [str(script), str(daemon.directory / "run" / "pools" / "2" / other.name)], check=True
    )
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log()
    assert not (daemon.directory / "run" / "pools").exists()


def wedged(daemon: Any, account: Any) -> int:
    """Have an account stop its own keeper as a script of it can, and return that one's number."""
    (keeper,) = of_uid(daemon, account.uid)
    subprocess.run(
        ["/bin/kill", "-STOP", str(keeper)], user=account.uid, group=account.gid, check=True
    )
    return keeper


def ask_and_leave(port: int, path: str, times: int) -> None:
    """Begin requests, some at a time, and go without an answer."""
    text = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    for _ in range(times // 50):
        socks = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(50)]
        for sock in socks:
            sock.sendall(text)
        for sock in socks:
            sock.close()


def front_of(daemon: Any) -> int:
    """Return the number of the one front."""
    return next(pid for pid in daemon.children() if uid_of(pid) == 65534)


def test_a_stopped_keeper_costs_a_front_few_descriptors_and_others_nothing(
    hosting: Any, tenant: Any, other: Any, wait: Any
) -> None:
    for account in (tenant, other):
        pages(account)
    daemon = hosting()
    path = f"/~{tenant.name}/id.cgi"
    assert daemon.get(path)[0] == 200
    front = front_of(daemon)
    keeper = wedged(daemon, tenant)
    ask_and_leave(daemon.port, path, 1000)
    waiting = [socket.create_connection(("127.0.0.1", daemon.port), 10) for _ in range(300)]
    for sock in waiting:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert daemon.get(f"/~{other.name}/id.cgi")[0] == 200
    # The last ones are refused at once, because too many wait already.
    assert waiting[-1].recv(65536).startswith(b"HTTP/1.1 503 ")
    assert "takes nothing" in daemon.log()
    for sock in waiting:
        sock.close()
    wait(lambda: len(os.listdir(f"/proc/{front}/fd")) < 100, "the front has let go of all")
    os.kill(keeper, signal.SIGCONT)
    wait(lambda: daemon.get(path)[0] == 200, "the tenant is served again")


def test_a_stopped_keeper_does_not_outlive_the_settings_that_it_was_for(
    hosting: Any, tenant: Any, other: Any, wait: Any
) -> None:
    for account in (tenant, other):
        pages(account)
    daemon = hosting(head='[limits]\ngrace = "1 s"\ndrain = "2 s"\n')
    path = f"/~{tenant.name}/id.cgi"
    assert daemon.get(path)[0] == 200
    keeper = wedged(daemon, tenant)
    settings = daemon.directory / "gateway.toml"
    settings.write_text(settings.read_text().replace("[tenants]", "[tenants]\nqueue = 3"))
    daemon.process.send_signal(signal.SIGHUP)
    wait(lambda: "settings read again" in daemon.log(), "the settings are read again")
    assert daemon.get(path)[0] == 200  # by another keeper
    wait(lambda: keeper not in daemon.children(), "the old keeper is gone")
    assert f"keeper {tenant.name} does not leave; it is killed" in daemon.log()
    wedged(daemon, tenant)
    assert daemon.stop() == 0


LEFT = """#!/usr/bin/python3
import os, signal, sys, time
def below(depth):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.setsid()
    if depth and os.fork() == 0:
        below(depth - 1)
    held = b"x" * (20 << 20)  # takes a while to give back, so that none is gone at once
    if not depth:
        open(os.environ["DOCUMENT_ROOT"] + "/ready", "w").close()
    time.sleep(1000)
if os.fork() == 0:
    os.close(1), os.close(2)
    below(12)
print("Content-Type: text/plain\\n")
"""


def test_the_daemon_leaves_nothing_of_a_keeper_that_it_has_to_kill(
    daemon: Any, place: Path, tenant: Any, wait: Any
) -> None:
    home = pages(tenant, left_cgi=LEFT)
    # Without [tenants] there is no control group that would end all of them at once.
    site = f'[[site]]\nhosts = ["a.example"]\nroot = "{home}"\nuser = "{tenant.name}"\n'
    running = daemon(
        site + '[[site.route]]\nmatch = "*.cgi"\ncgi = true\n',
        head='[limits]\ngrace = "1 s"\ndrain = "1 s"\n',
        server='user = "nobody"\n',
        tmp_path=place,
    )
    assert running.get("/left.cgi", "a.example")[0] == 200
    wait((home / "ready").exists, "all of them run")
    wedged(running, tenant)
    assert running.stop() == 0
    assert processes(tenant.uid) == []


def processes(uid: int) -> list[int]:
    """Return all processes of an account."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found += [int(name)] if uid_of(int(name)) == uid else []
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


def test_an_account_that_is_gone_costs_the_daemon_nothing(
    hosting: Any, make_account: Any, tenant: Any, place: Path, wait: Any
) -> None:
    pages(tenant)
    (place / "a.cgi").write_text(ID)
    (place / "a.cgi").chmod(0o755)
    name = f"gwx{os.getpid()}"
    subprocess.run(["useradd", "-M", "-U", "-s", "/bin/sh", name], check=True)
    site = f'[[site]]\nhosts = ["a.example"]\nroot = "{place}"\nuser = "{name}"\n'
    try:
        daemon = hosting(sites=site + '[[site.route]]\nmatch = "*.cgi"\ncgi = true\n')
    finally:
        subprocess.run(["userdel", "-f", name], check=True)
    assert daemon.get("/a.cgi", "a.example")[0] == 503
    assert daemon.get(f"/~{tenant.name}/id.cgi")[0] == 200
    assert name in daemon.log()


def test_what_asks_cannot_name_where_a_tenants_programs_load_from(
    place: Path,
) -> None:
    # What a front that was taken over would send, to the part of the keeper that takes it.
    sent = {b"HOME": b"/tmp", b"XDG_CONFIG_HOME": b"/tmp", b"GIT_DIR": b"/tmp", b"HTTP_X": b"1"}
    ours = {b"HOME": b"/srv/home"}
    tenants = Root(ScriptRoot(root=bytes(place), tenant=True, environment=ours))
    for block in (environment_block(sent), environment_block(sent)):  # the names are remembered
        entries = tenants.entries(block)
        assert sorted(entries)[:2] == [b"HOME=/srv/home", b"HTTP_X=1"]
        assert len(entries) == 3  # and PATH
    others = Root(ScriptRoot(root=bytes(place)))
    assert {b"HOME=/tmp", b"GIT_DIR=/tmp"} <= set(others.entries(environment_block(sent)))
