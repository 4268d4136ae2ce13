"""Shared hosting at scale: ten thousand tenants on disk, some hundred of them active.

    PYTHONPATH=. python tests/bench/tenants.py [--tenants 10000] [--active 500] [--sites 10000]

Run as root. It makes a mount namespace of its own, in which a copy of /etc has an account for
each tenant; the machine's is not touched. Measured: the time and memory of a start, the first
request of a tenant whose keeper does not run (over the same script's time when it does), the
private memory of each active tenant, that all are gone after `idle`, and a reload with as many
explicit sites while requests go on.
"""

import argparse
import http.client
import os
import pwd
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

UID = 20000
"""The first tenant's."""
IDLE = 5.0
SCRIPT = "#!/bin/sh\necho 'Content-Type: text/plain'\necho\nid -u\n"


class Daemon:
    """One daemon, and how much it takes."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        began = time.perf_counter()
        command = [sys.executable, "-m", "gateway", "run", "-c", str(directory / "gateway.toml")]
        with (directory / "said.log").open("ab") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=said)
        while not self.answers():
            if self.process.poll() is not None:
                sys.exit((directory / "said.log").read_text())
        self.start = time.perf_counter() - began
        self.fronts = set(self.below())

    def answers(self) -> bool:
        try:
            self.get("/nothing", "nobody.example")
        except OSError:
            time.sleep(0.005)  # between two looks
            return False
        return True

    def get(self, path: str, host: str) -> tuple[int, bytes, float]:
        """Ask once on a new connection; return status, body and seconds."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={"Host": host})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        return response.status, body, time.perf_counter() - began

    def expect(self, number: int, status: int, body: bytes) -> None:
        """End the bench where a tenant's script was not answered by that tenant."""
        if (status, body) != (200, b"%d\n" % (UID + number)):
            sys.exit(f"t{number}: {status}\n{(self.directory / 'error.log').read_text()}")

    def below(self) -> list[int]:
        """Return all processes of the daemon below the master."""
        found = [self.process.pid]
        for pid in found:
            path = Path(f"/proc/{pid}/task/{pid}/children")
            found += [int(word) for word in path.read_text().split()] if path.exists() else []
        return found[1:]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def memory(pid: int, kinds: tuple[str, ...]) -> int:
    """Return KiB of some kinds of a process's memory."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(kinds))


def alone() -> None:
    """Go on in a mount namespace of our own."""
    if os.environ.get("GATEWAY_BENCH_NAMESPACE") != "1":
        os.environ["GATEWAY_BENCH_NAMESPACE"] = "1"
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
        os.execvp(command[0], command)


def prepare(directory: Path, tenants: int) -> None:
    """Make the accounts, their directories, and one script for each."""
    accounts = [Path("/etc/passwd").read_text()]
    groups = [Path("/etc/group").read_text()]
    www = directory / "www"
    www.mkdir()
    for number in range(tenants):
        uid = UID + number
        accounts.append(f"t{number}:x:{uid}:{uid}::{www}/t{number}.example:/bin/sh\n")
        groups.append(f"t{number}:x:{uid}:\n")
        root = www / f"t{number}.example" / "htdocs"
        root.mkdir(parents=True)
        for name, text, mode in (("id.cgi", SCRIPT, 0o755), ("index.html", "hello\n", 0o644)):
            file = root / name
            file.write_text(text)
            file.chmod(mode)
            os.chown(file, uid, uid)
        for each in (root, root.parent):
            os.chown(each, uid, uid)
    # All of /etc: a mount over a single file is lost when somebody replaces the file below it.
    etc = directory / "etc"
    subprocess.run(["cp", "-a", "/etc", etc], check=True)
    (etc / "passwd").write_text("".join(accounts))
    (etc / "group").write_text("".join(groups))
    subprocess.run(["mount", "--bind", etc, "/etc"], check=True)
    assert pwd.getpwuid(UID).pw_name == "t0"


def settings(directory: Path, port: int, more: str = "") -> None:
    (directory / "gateway.toml").write_text(
        f'[server]\nuser = "nobody"\nruntime = "{directory}/run"\n'
        f'[listen]\nhttp = ["127.0.0.1:{port}"]\n'
        f'[log]\naccess = "{directory}/access.log"\nerror = "{directory}/error.log"\n'
        f'[tenants]\nhosts = "{directory}/www/{{host}}/htdocs"\nidle = "{IDLE:g} s"\n{more}'
    )


def started(daemon: Daemon) -> None:
    pids = [daemon.process.pid, *daemon.below()]
    total = sum(memory(pid, ("Pss:",)) for pid in pids) / 1024
    resident = sum(memory(pid, ("Rss:",)) for pid in pids) / 1024
    print(f"start: {daemon.start:.2f} s (aim 1), {total:.1f} MiB in all (aim 60; "
          f"resident sizes added up: {resident:.1f})")  # fmt: skip


def cold(daemon: Daemon, count: int) -> None:
    """The first request of tenants whose keeper does not run, and the second one."""
    first, second = [], []
    for number in range(count):
        for times in (first, second):
            status, body, seconds = daemon.get("/id.cgi", f"t{number}.example")
            daemon.expect(number, status, body)
            times.append(seconds * 1000)
    over = [one - other for one, other in zip(first, second, strict=True)]
    over.sort()
    print(f"first request of a cold tenant: median {statistics.median(over):.1f} ms over the "
          f"script's own {statistics.median(second):.1f} ms, p95 {over[int(count * .95)]:.1f} "
          f"(aim 30)")  # fmt: skip


def active(daemon: Daemon, count: int) -> None:
    """Tenants active in turn, and what they leave."""
    before = daemon.fronts
    for number in range(count):
        status, body, _ = daemon.get("/id.cgi", f"t{number}.example")
        daemon.expect(number, status, body)
    keepers = [pid for pid in daemon.below() if pid not in before]
    private = [memory(pid, ("Private_Clean:", "Private_Dirty:")) / 1024 for pid in keepers]
    print(f"{count} tenants active: {len(keepers)} keepers alive at the end, private memory of "
          f"each {statistics.mean(private):.2f} MiB on average, {max(private):.2f} at most "
          "(aim 4)")  # fmt: skip
    deadline = time.monotonic() + 6 * IDLE
    while set(daemon.below()) - before and time.monotonic() < deadline:
        time.sleep(0.2)  # between two looks
    print(f"after idle: {len(set(daemon.below()) - before)} of them left (aim 0)")


def reload(daemon: Daemon, directory: Path, port: int, sites: int) -> None:
    """A reload with many explicit sites, with requests all the time."""
    text = "".join(
        f'[[site]]\nhosts = ["s{number}.example"]\nroot = "{directory}/www/t{number}.example"\n'
        f'user = "t{number}"\n[[site.route]]\nmatch = "*.cgi"\ncgi = true\n'
        for number in range(sites)
    )
    failed: list[object] = []
    asked = [0]
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                status, _, _ = daemon.get("/", "t1.example")
            except OSError as error:
                failed.append(error)
            else:
                if status != 200:
                    failed.append(status)
            asked[0] += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for turn in ("first", "second"):
            settings(directory, port, text)
            began = time.perf_counter()
            command = [sys.executable, "-m", "gateway", "reload", "-c"]
            subprocess.run([*command, str(directory / "gateway.toml")], check=True)
            print(f"{turn} reload with {sites} sites: {time.perf_counter() - began:.2f} s "
                  "with the command's own start (aim 1)")  # fmt: skip
            status, _, seconds = daemon.get("/index.html", "s1.example")
            print(f"  then a new site's first file: {status}, {seconds * 1000:.1f} ms")
    finally:
        done.set()
        thread.join()
    print(f"requests meanwhile: {asked[0]}, failed: {failed[:5] if failed else 'none'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--active", type=int, default=500)
    parser.add_argument("--sites", type=int, default=10_000)
    options = parser.parse_args()
    alone()
    with tempfile.TemporaryDirectory(prefix="gateway-tenants-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        prepare(directory, options.tenants)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        settings(directory, port)
        daemon = Daemon(directory, port)
        try:
            started(daemon)
            cold(daemon, min(50, options.active))
            active(daemon, options.active)
            if options.sites:
                reload(daemon, directory, port, options.sites)
        finally:
            daemon.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
