"""Start the servers that are compared, each in a directory of its own, from the templates in conf/.

Every server runs in the foreground as the leader of its own session, so that it is stopped by its
pid and nothing of it can stay behind.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

HERE = Path(__file__).parent
APACHE_MODULES = "/usr/lib/apache2/modules"
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
WORKERS = 2
"""Worker processes of every WSGI server: the cores of a small machine."""


class Missing(Exception):
    """A program that the comparison needs is not installed; the text names it."""


class Broken(Exception):
    """A server did not start or does not answer as it should; the text says what it said."""


@dataclass
class Stand:
    """One running server: its directory, its port and its processes."""

    run: Path
    site: Path
    processes: int = 1
    application: str = "hello_wsgi:application"
    port: int = 0
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def conf(self, template: str, **values: object) -> Path:
        """Fill in a template of conf/ and return the file."""
        text = Template((HERE / "conf" / template).read_text())
        known = {"run": self.run, "site": self.site, "port": self.port, "processes": self.processes}
        target = self.run / template
        target.write_text(text.substitute(known | values))
        return target

    def start(self, program: str, *arguments: object, stdin: int = subprocess.DEVNULL) -> None:
        """Start a program that stays in the foreground. Raises Missing."""
        found = shutil.which(program, path=PATH)
        if found is None:
            raise Missing(program)
        # The checkout is what is measured, also where an older version is installed.
        paths = filter(None, (str(HERE.parents[1]), os.environ.get("PYTHONPATH")))
        environment = os.environ | {"PYTHONPATH": ":".join(paths)}
        with (self.run / "output.log").open("ab") as output:
            process = subprocess.Popen(
                [found, *map(str, arguments)],
                cwd=self.run,
                env=environment,
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(process)

    def socket(self, name: str) -> socket.socket:
        """Return a listening Unix socket for a worker that takes it on descriptor 0."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.run / name))
        os.chmod(self.run / name, 0o666)
        listener.listen(512)
        return listener

    def said(self) -> str:
        """Return how what the server wrote begins and ends: the cause, and what it led to."""
        texts = [self.run / name for name in ("output.log", "error.log")]
        lines = [line for text in texts if text.exists() for line in text.read_text().splitlines()]
        return "\n".join(lines if len(lines) <= 8 else [*lines[:4], "...", *lines[-3:]])

    def cpu(self) -> float:
        """Return the seconds of processor time that all its processes have used, the ended too."""
        parents: dict[int, int] = {}
        used: dict[int, int] = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                numbers = entry.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile; its parent has its time when it was waited for
            pid = int(entry.parent.name)
            parents[pid] = int(numbers[1])
            used[pid] = sum(map(int, numbers[11:15]))
        tree = {process.pid for process in self.running}
        while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
            tree |= more
        return sum(used.get(pid, 0) for pid in tree) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Stop every process: TERM, five seconds, then KILL to what is left of its session."""
        for process in reversed(self.running):
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + 5
        for process in self.running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # the usual case: nothing is left
            process.wait()
        self.running.clear()


def gateway(stand: Stand, engine: str = "gateway", start: str = "auto") -> None:
    pool = (
        '\n  [[site.route]]\n  path = "/app/"\n  pool = "app"\n\n[pool.app]\n'
        f'wsgi = "{stand.application}"\nengine = "{engine}"\ndirectory = "{stand.site}/app"\n'
        f'python = "{sys.executable}"\nprocesses = {WORKERS}\nmax_requests = 0\n'
    )
    user = 'user = "root"' if os.geteuid() == 0 else ""
    file = stand.conf("gateway.toml", pool=pool, user=user, start=start)
    stand.start(sys.executable, "-m", "gateway", "run", "-c", file)


def nginx(stand: Stand, location: str = "", upstream: str = "") -> None:
    user = "user root;" if os.geteuid() == 0 else ""
    file = stand.conf("nginx.conf", user=user, location=location, upstream=upstream)
    stand.start("nginx", "-e", stand.run / "error.log", "-c", file)


def lighttpd(stand: Stand) -> None:
    workers = 0 if stand.processes == 1 else stand.processes
    stand.start("lighttpd", "-D", "-f", stand.conf("lighttpd.conf", workers=workers))


def apache(stand: Stand) -> None:
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    if user:
        shutil.chown(stand.run, "www-data", "www-data")
    threads = 64 * stand.processes
    file = stand.conf("apache.conf", modules=APACHE_MODULES, user=user, threads=threads)
    stand.start("apache2", "-DFOREGROUND", "-f", file)


def fcgiwrap(stand: Stand, count: int) -> None:
    with stand.socket("fcgiwrap.sock") as listener:
        stand.start("fcgiwrap", "-c", count, stdin=listener.fileno())
    nginx(stand, scripts(stand))


def wrapped(stand: Stand, *, keep: bool) -> None:
    """Our own daemon in fcgiwrap's place, with its flags, on the socket that nginx knows."""
    with stand.socket("fcgiwrap.sock") as listener:
        os.chmod(stand.run / "fcgiwrap.sock", 0o660)  # we take no socket that is everybody's
        stand.start(sys.executable, "-m", "gateway", "fcgiwrap", stdin=listener.fileno())
    if keep:
        upstream = f"upstream kept {{ server unix:{stand.run}/fcgiwrap.sock; keepalive 64; }}"
        nginx(stand, scripts(stand, "kept", "fastcgi_keep_conn on;"), upstream)
    else:
        nginx(stand, scripts(stand))


def scripts(stand: Stand, to: str = "", more: str = "") -> str:
    """Return nginx's location of the scripts."""
    return (
        f"location /cgi-bin/ {{ root {stand.site}; include /etc/nginx/fastcgi_params; "
        "fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; "
        f"fastcgi_pass {to or f'unix:{stand.run}/fcgiwrap.sock'}; {more} }}"
    )


def uwsgi(stand: Stand) -> None:
    stand.start(
        "uwsgi", "--plugin", "python3", "--master", "--processes", WORKERS, "--need-app",
        "--socket", stand.run / "uwsgi.sock", "--chmod-socket=666", "--disable-logging",
        "--die-on-term", "--pythonpath", stand.site / "app", *virtualenv(),
        "--module", stand.application,
    )  # fmt: skip
    socket = f"unix:{stand.run}/uwsgi.sock"
    nginx(stand, f"location /app/ {{ include /etc/nginx/uwsgi_params; uwsgi_pass {socket}; }}")


def virtualenv() -> list[str]:
    """Let the system's Python under uWSGI import what this interpreter has installed."""
    found = [path for path in sys.path if path.endswith("site-packages")]
    return [word for path in found for word in ("--pythonpath", path)]


def flup(stand: Stand, *, fork: bool, keep: bool) -> None:
    """Both ways to have two processes: two threaded servers, or one that preforks."""
    names = ["flup.sock"] if fork else [f"flup{number}.sock" for number in range(WORKERS)]
    for name in names:
        more = ["fork", WORKERS] if fork else []
        script = stand.site / "app" / "flup_server.py"
        stand.start(sys.executable, script, stand.application, stand.run / name, *more)
    servers = " ".join(f"server unix:{stand.run}/{name} max_fails=0;" for name in names)
    kept = ("keepalive 32;", "fastcgi_keep_conn on;") if keep else ("", "")
    location = (
        "location /app/ { include /etc/nginx/fastcgi_params; "
        "fastcgi_split_path_info ^(/app)(/.*)$; fastcgi_param PATH_INFO $fastcgi_path_info; "
        f"fastcgi_pass flup; {kept[1]} }}"
    )
    nginx(stand, location, f"upstream flup {{ {servers} {kept[0]} }}")


def gunicorn(stand: Stand, *arguments: str) -> None:
    stand.start(
        sys.executable, "-m", "gunicorn", "--chdir", stand.site / "app", "-w", WORKERS,
        "-b", f"127.0.0.1:{stand.port}", "--access-logfile", stand.run / "access.log",
        *arguments, stand.application,
    )  # fmt: skip


Start = Callable[[Stand], None]

PEERS: dict[str, dict[str, Start]] = {
    "gateway": {"": gateway},
    "gateway, engine flup": {"": lambda stand: gateway(stand, "flup")},
    "gateway, start exec": {"": lambda stand: gateway(stand, start="exec")},
    "gateway, start persistent": {"": lambda stand: gateway(stand, start="persistent")},
    "nginx": {"": nginx},
    "lighttpd": {"": lighttpd},
    "Apache": {"": apache},
    "nginx + gateway": {
        "new connections": lambda stand: wrapped(stand, keep=False),
        "kept connections": lambda stand: wrapped(stand, keep=True),
    },
    "nginx + fcgiwrap": {
        f"-c {count}": lambda stand, count=count: fcgiwrap(stand, count)  # type: ignore[misc]
        for count in (2, 4, 8)
    },
    "nginx + uWSGI": {"": uwsgi},
    "nginx + flup": {
        "threaded": lambda stand: flup(stand, fork=False, keep=False),
        "preforked": lambda stand: flup(stand, fork=True, keep=False),
    },
    # Not nginx's default; flup then serves a few connections fast and lets the others wait.
    "nginx + flup, kept": {"": lambda stand: flup(stand, fork=False, keep=True)},
    "gunicorn": {
        "sync": lambda stand: gunicorn(stand),
        "gthread": lambda stand: gunicorn(stand, "-k", "gthread", "--threads", "4"),
    },
}
"""Each server, and the ways to run it; where there are several, the fastest one is compared."""
