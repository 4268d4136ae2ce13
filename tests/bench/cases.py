"""What is measured: the requests, who answers them, and the ratios that we mean to reach."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

APPS = Path(__file__).parent / "apps"
HELLO = b"Hello, world!\n"
SMALL = (b"All that is gold does not glitter.\n" * 30)[:1024]
LARGE = bytes(range(256)) * 4096


@dataclass(frozen=True, slots=True)
class Target:
    """`subject` should reach `ratio` times the median of `peer` ("" = the best of all peers)."""

    peer: str
    ratio: float
    subject: str = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    title: str
    path: str
    body: bytes | None
    """The exact answer, or None when it is only to be the same from every server."""
    connections: int
    servers: tuple[str, ...]
    targets: tuple[Target, ...] = ()
    application: str = "hello_wsgi:application"


FILES = ("gateway", "nginx", "lighttpd", "Apache")
CGI = ("gateway", "lighttpd", "Apache", "nginx + fcgiwrap")
WARM = (
    "gateway", "gateway, start exec", "gateway, start persistent",
    "lighttpd", "Apache", "nginx + fcgiwrap",
)  # fmt: skip
"""Scripts that can be warm; beside the peers, ours when every one is a new program, or stays."""
FRONT = ("nginx + gateway", "nginx + fcgiwrap")
WSGI = (
    "gateway", "nginx + uWSGI", "gunicorn",
    "gateway, engine flup", "nginx + flup", "nginx + flup, kept",
)  # fmt: skip

CASES = (
    Case(
        name="static-small",
        title="File of 1 KiB, 32 connections",
        path="/small.txt",
        body=SMALL,
        connections=32,
        servers=FILES,
        targets=(Target("nginx", 1.0),),
    ),
    Case(
        name="static-1MiB",
        title="File of 1 MiB, 8 connections",
        path="/large.bin",
        body=LARGE,
        connections=8,
        servers=FILES,
        targets=(Target("nginx", 0.9),),
    ),
    Case(
        name="cgi-c",
        title="CGI script in C, 8 connections",
        path="/cgi-bin/hello-c",
        body=HELLO,
        connections=8,
        servers=CGI,
        targets=(Target("", 1.0),),
    ),
    Case(
        name="cgi-sh",
        title="CGI script in shell, 8 connections",
        path="/cgi-bin/hello-sh",
        body=HELLO,
        connections=8,
        servers=CGI,
        targets=(Target("", 1.0),),
    ),
    Case(
        name="cgi-py",
        title="CGI script in Python, 8 connections",
        path="/cgi-bin/hello-py",
        body=HELLO,
        connections=8,
        servers=CGI,
    ),
    *(
        Case(
            name=f"front-c-{connections}",
            title=f"CGI script in C behind nginx, {connections} connection(s)",
            path="/cgi-bin/hello-c",
            body=HELLO,
            connections=connections,
            servers=FRONT,
            targets=(Target("nginx + fcgiwrap", 1.0, "nginx + gateway"),),
        )
        for connections in (1, 8, 64)
    ),
    Case(
        name="wsgi-hello",
        title="WSGI hello, 32 connections, 2 worker processes",
        path="/app/",
        body=HELLO,
        connections=32,
        servers=WSGI,
        targets=(
            Target("nginx + uWSGI", 0.8),
            Target("nginx + flup", 4.0),
            Target("nginx + flup", 1.0, "gateway, engine flup"),
        ),
    ),
    Case(
        name="wsgi-page",
        title="Flask page of 10 KiB, 32 connections, 2 worker processes",
        path="/app/",
        body=None,
        connections=32,
        servers=WSGI,
        application="page_wsgi:application",
    ),
)


SCRIPTS = {
    # name: title, path, ratio to the best peer that we mean to reach
    "py-hello": ("hello in Python", "/cgi-bin/hello-py", 4.0),
    "py-form": ("form, sqlite3, json in Python", "/cgi-bin/form-py?name=x", 16.0),
    "py-heavy": ("requests and jinja2 in Python", "/cgi-bin/heavy-py", 0.0),
    "pl-hello": ("hello in Perl", "/cgi-bin/hello-pl", 0.0),
    "pl-form": ("form with CGI.pm in Perl", "/cgi-bin/form-pl?name=x", 4.0),
    "gitweb": ("gitweb's front page", "/cgi-bin/gitweb", 0.0),
}
"""What can be warm."""

CASES += tuple(
    Case(
        name=f"{name}-{connections}",
        title=f"CGI script: {title}, {connections} connection(s)",
        path=path,
        body=HELLO if "hello" in name else None,
        connections=connections,
        servers=WARM,
        targets=(Target("", ratio),) if ratio else (),
    )
    for name, (title, path, ratio) in SCRIPTS.items()
    for connections in (1, 8, 32)
)


def build(site: Path) -> None:
    """Make the directory that every server serves: files, scripts, applications."""
    for name in ("htdocs", "cgi-bin"):
        (site / name).mkdir(parents=True)
    (site / "htdocs" / "small.txt").write_bytes(SMALL)
    (site / "htdocs" / "large.bin").write_bytes(LARGE)
    shutil.copytree(APPS, site / "app", ignore=shutil.ignore_patterns("__pycache__"))
    scripts = site / "cgi-bin"
    subprocess.run(["cc", "-O2", "-o", scripts / "hello-c", APPS / "hello.c"], check=True)
    shutil.copy(APPS / "hello.sh", scripts / "hello-sh")
    shutil.copy(APPS / "hello_cgi.py", scripts / "hello-py")
    shutil.copy(APPS / "sleep.sh", scripts / "sleep")
    for name in ("hello.pl", "form.pl", "form_cgi.py"):
        shutil.copy(APPS / name, scripts / name.replace("_cgi", "").replace(".", "-"))
    heavy = (APPS / "heavy_cgi.py").read_text()
    (scripts / "heavy-py").write_text(f"#!{sys.executable}\n{heavy}")
    build_gitweb(site)
    for script in scripts.iterdir():
        script.chmod(0o755)


def build_gitweb(site: Path) -> None:
    """Put gitweb beside the scripts, with ten repositories to show."""
    program = Path("/usr/share/gitweb/gitweb.cgi")
    if not program.exists():
        return
    for number in range(10):
        run = ["git", "init", "-q", "--bare", str(site / "git" / f"r{number}.git")]
        subprocess.run(run, check=True)
    (site / "gitweb.conf").write_text(f'$projectroot = "{site}/git";\n')
    text = program.read_text().replace("/etc/gitweb.conf", f"{site}/gitweb.conf")
    (site / "cgi-bin" / "gitweb").write_text(text)
