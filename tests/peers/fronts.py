"""Web servers in front of us, each started with the block that `gateway snippet` printed.

Decides the smallest configuration around a block, and the account that each server runs as: as
root, www-data, as it would be on a machine of the kind. Each runs in the foreground and is stopped
by its pid.
"""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PLACES = ("/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin")
ACCOUNT = "www-data"
APACHE = "/usr/lib/apache2/modules"
APACHE_MODULES = (
    "mpm_event", "authz_core", "dir", "mime", "env", "headers", "setenvif",
    "proxy", "proxy_fcgi", "proxy_scgi", "proxy_http",
)  # fmt: skip


@dataclass(frozen=True)
class Front:
    """A web server and the protocol it speaks to us."""

    server: str
    """As `gateway snippet` names it."""
    via: str
    program: str

    @property
    def name(self) -> str:
        return f"{self.server}-{self.via}"


FRONTS = (
    Front("nginx", "fastcgi", "nginx"),
    Front("apache", "fastcgi", "apache2"),
    Front("lighttpd", "fastcgi", "lighttpd"),
    Front("caddy", "fastcgi", "caddy"),
    Front("haproxy", "fastcgi", "haproxy"),
    Front("nginx", "scgi", "nginx"),
    Front("apache", "scgi", "apache2"),
    Front("lighttpd", "scgi", "lighttpd"),
    Front("nginx", "http", "nginx"),
    Front("apache", "http", "apache2"),
    Front("lighttpd", "http", "lighttpd"),
    Front("caddy", "http", "caddy"),
    Front("haproxy", "http", "haproxy"),
)


def may_change_account() -> bool:
    return os.geteuid() == 0


def program(front: Front) -> str:
    path = os.pathsep.join((os.environ["PATH"], *PLACES))
    found = shutil.which(front.program, path=path)
    assert found is not None, front.program
    return found


def printed(front: Front, file: Path) -> str:
    """Return what `gateway snippet` prints for a settings file."""
    words = [front.server, "-c", str(file), *(["--scgi"] if front.via == "scgi" else [])]
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "snippet", *words],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


class Running:
    """One server that runs with a block."""

    def __init__(self, front: Front, run: Path, block: str) -> None:
        self.prepare(front, run)
        command = [program(front), *_COMMANDS[front.server](self, block)]
        account: dict[str, object] = {}
        if may_change_account() and front.server == "caddy":  # it has no setting for it
            account = {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []}
        with (run / "output.log").open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=run,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **account,  # type: ignore[call-overload]
            )

    def prepare(self, front: Front, run: Path) -> None:
        """Make its directory and choose its port."""
        self.front = front
        self.run = run
        run.mkdir()
        if may_change_account():
            shutil.chown(run, ACCOUNT, ACCOUNT)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]

    def environment(self) -> dict[str, str]:
        home = str(self.run)
        return {"PATH": os.environ["PATH"], "HOME": home, "XDG_DATA_HOME": home}

    def said(self) -> str:
        """Return what the server wrote to its logs."""
        files = [self.run / name for name in ("output.log", "error.log")]
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def listening(self) -> bool:
        """Whether it takes connections. Fails in words when it has ended."""
        assert self.process.poll() is None, f"{self.front.name} ended:\n{self.said()}"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Stop it at once, and whatever it started."""
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def write(self, name: str, text: str) -> str:
        file = self.run / name
        file.write_text(text)
        return str(file)


def understood(front: Front, run: Path, block: str) -> str:
    """Let a server look at a block without starting; return what it says, or "" if it is good."""
    prepared = Running.__new__(Running)
    prepared.prepare(front, run)
    words = [_CHECK.get(word, word) for word in _COMMANDS[front.server](prepared, block)]
    if front.server == "nginx":
        words.append("-t")
    done = subprocess.run(
        [program(front), *words], cwd=run, env=prepared.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return f"{done.returncode}: {done.stdout}" if done.returncode else ""


_CHECK = {"-DFOREGROUND": "-t", "-D": "-tt", "run": "validate", "-db": "-c"}
"""For the word that starts a server in the foreground: the one with which it only looks."""


def _nginx(running: Running, block: str) -> list[str]:
    run = running.run
    running.write("block.conf", block.replace("listen 80;", f"listen 127.0.0.1:{running.port};"))
    user = f"user {ACCOUNT};" if may_change_account() else ""
    temporary = "".join(
        f"{kind}_temp_path {run}/{kind};"
        for kind in ("client_body", "fastcgi", "proxy", "uwsgi", "scgi")
    )
    main = (
        f"{user} daemon off; pid {run}/pid; error_log {run}/error.log; worker_processes 1;\n"
        "events { worker_connections 256; }\n"
        f"http {{ access_log off; {temporary} include block.conf; }}\n"
    )
    return ["-e", f"{run}/error.log", "-c", running.write("nginx.conf", main)]


def _apache(running: Running, block: str) -> list[str]:
    run = running.run
    running.write("block.conf", block.replace("*:80", f"127.0.0.1:{running.port}"))
    lines = [f"LoadModule {name}_module {APACHE}/mod_{name}.so" for name in APACHE_MODULES]
    lines += [
        "ServerName localhost",
        f"ServerRoot {run}",
        f"DefaultRuntimeDir {run}",
        f"PidFile {run}/pid",
        f"Listen 127.0.0.1:{running.port}",
        f"ErrorLog {run}/error.log",
        "TypesConfig /etc/mime.types",
        "StartServers 1",
        "ServerLimit 1",
        "ThreadsPerChild 16",
        "MaxRequestWorkers 16",
    ]
    if may_change_account():
        lines += [f"User {ACCOUNT}", f"Group {ACCOUNT}"]
    lines.append(f"Include {run}/block.conf")
    return ["-DFOREGROUND", "-f", running.write("apache.conf", "\n".join(lines) + "\n")]


def _lighttpd(running: Running, block: str) -> list[str]:
    run = running.run
    lines = [
        'server.bind = "127.0.0.1"',
        f"server.port = {running.port}",
        f'server.document-root = "{run}"',
        f'server.errorlog = "{run}/error.log"',
        f'server.upload-dirs = ( "{run}" )',
        'mimetype.assign = ( ".txt" => "text/plain", "" => "application/octet-stream" )',
    ]
    if may_change_account():
        lines += [f'server.username = "{ACCOUNT}"', f'server.groupname = "{ACCOUNT}"']
    return ["-D", "-f", running.write("lighttpd.conf", "\n".join([*lines, block]))]


def _caddy(running: Running, block: str) -> list[str]:
    # Without automatic https, the names of the block are served on the port for http.
    main = f"{{\n\tadmin off\n\tauto_https off\n\thttp_port {running.port}\n}}\n"
    text = main + block.replace("localhost {", "http://localhost {", 1)
    return ["run", "--adapter", "caddyfile", "--config", running.write("Caddyfile", text)]


def _haproxy(running: Running, block: str) -> list[str]:
    account = f"    user {ACCOUNT}\n    group {ACCOUNT}\n" if may_change_account() else ""
    main = f"global\n    log stderr local0 notice\n{account}defaults\n    log global\n"
    text = main + block.replace("bind :80 ", f"bind 127.0.0.1:{running.port} ")
    return ["-db", "-f", running.write("haproxy.cfg", text)]


_COMMANDS: Mapping[str, Callable[[Running, str], list[str]]] = {
    "nginx": _nginx,
    "apache": _apache,
    "lighttpd": _lighttpd,
    "caddy": _caddy,
    "haproxy": _haproxy,
}
