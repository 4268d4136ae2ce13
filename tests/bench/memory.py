"""Show that memory stays flat: `python tests/bench/memory.py`. Exit code 1 when out of bounds.

First many small requests, then bodies of 1 GiB past a side that is slow, both ways.
"""

import argparse
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cases import SMALL, build
from peers import Stand, gateway
from run import as_text, fetch

MIB = 1 << 20
FRONT_MAX = 40 * MIB
GROWTH_MAX = 1 * MIB
"""From a fifth of the requests to the last: what still counts as flat."""
ADDED_MAX = 8 * MIB
FLOW_SECONDS = 180
PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Family:
    """The daemon's own processes."""

    master: int
    fronts: tuple[int, ...]
    keepers: tuple[int, ...]

    @staticmethod
    def of(stand: Stand) -> "Family":
        """Tell the master's children apart: a front holds the listening socket."""
        master = stand.running[0].pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        listening = f"socket:[{listener(stand.port)}]"
        fronts = tuple(int(pid) for pid in children if holds(pid, listening))
        return Family(master, fronts, tuple(int(pid) for pid in children if int(pid) not in fronts))

    def sizes(self) -> dict[str, int]:
        """Return the resident bytes of each kind of process, the largest where it is several."""
        return {
            "master": resident(self.master),
            "front": max(map(resident, self.fronts), default=0),
            "keeper": max(map(resident, self.keepers), default=0),
        }


def listener(port: int) -> str:
    """Return the inode of the socket that listens on a port of 127.0.0.1."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == f"0100007F:{port:04X}" and fields[3] == "0A":
            return fields[9]
    raise LookupError(f"nothing listens on {port}")


def holds(pid: str, target: str) -> bool:
    return any(str(link.readlink()) == target for link in Path(f"/proc/{pid}/fd").iterdir())


def resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def proportional(pid: int) -> int:
    """Return the PSS: shared pages count in parts."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0


def mib(size: int) -> str:
    return f"{size / MIB:.1f}"


def many(
    stand: Stand, path: str, connections: int, wanted: int
) -> list[tuple[int, dict[str, int]]]:
    """Send at least `wanted` requests; return (requests so far, sizes) from time to time."""
    samples: list[tuple[int, dict[str, int]]] = []
    count = errors = 0
    deadline = time.monotonic() + 600
    while count < wanted and time.monotonic() < deadline:
        url = f"http://127.0.0.1:{stand.port}{path}"
        text = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", "-d2s", url],
            capture_output=True, text=True, timeout=30, check=True,
        ).stdout  # fmt: skip
        found = re.search(r"(\d+) requests in", text)
        count += int(found[1]) if found else 0
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        errors += int(bad[1]) if bad else 0
        samples.append((count, Family.of(stand).sizes()))
    if errors or count < wanted:
        print(f"{path}: {count} requests, {errors} of them failed", file=sys.stderr)
    return samples


def requests(stand: Stand, share: float) -> bool:
    """The first part. Return whether the bounds hold."""
    good = True
    lines = [["requests", "process", "RSS at 20 %", "RSS at end", "PSS at end", ""]]
    for name, path, connections, wanted in (
        ("file", "/small.txt", 32, 1_000_000),
        ("CGI", "/cgi-bin/hello-c", 8, 20_000),
        ("WSGI", "/app/?0", 32, 100_000),
    ):
        samples = many(stand, path, connections, int(wanted * share))
        total, end = samples[-1]
        _, early = next(sample for sample in samples if sample[0] >= total * 0.2)
        family = Family.of(stand)
        for process, pid in (
            ("front", family.fronts[0]),
            ("keeper", family.keepers[0] if family.keepers else 0),
            ("master", family.master),
        ):
            if pid:
                flat = end[process] - early[process] <= GROWTH_MAX
                small = process != "front" or end[process] < FRONT_MAX
                good = good and flat and small
                lines.append([
                    f"{total} {name}", process, mib(early[process]), mib(end[process]),
                    mib(proportional(pid)), "ok" if flat and small else "OUT OF BOUNDS",
                ])  # fmt: skip
    print(f"Memory in MiB\n{as_text(lines)}", flush=True)
    return good


def upload(stand: Stand, path: str, size: int) -> None:
    """Send a body as fast as it is taken."""
    with socket.create_connection(("127.0.0.1", stand.port), timeout=FLOW_SECONDS) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        client.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
        for _ in range(size // PIECE):
            client.sendall(bytes(PIECE))
        answer = b""
        while data := client.recv(PIECE):
            answer += data
    if str(size).encode() not in answer:
        raise ConnectionError(f"{path} took another number of bytes: {answer[-200:]!r}")


def download(stand: Stand, path: str, size: int) -> None:
    """Take a body slowly: not at all for two seconds, then at most 500 MB a second."""
    with socket.create_connection(("127.0.0.1", stand.port), timeout=FLOW_SECONDS) as client:
        client.sendall(f"GET {path}?{size} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(2)
        count = 0
        since_pause = 0
        while data := client.recv(PIECE):
            count += len(data)
            since_pause += len(data)
            if since_pause > MIB:
                since_pause = 0
                time.sleep(0.002)
    if not size <= count < size + 65536:
        raise ConnectionError(f"{path} gave {count} bytes of {size}")


def watched(stand: Stand, work: Callable[[], None]) -> tuple[dict[str, int], float]:
    """Do `work` and return what each process had added at its largest, and the seconds it took."""
    before = Family.of(stand).sizes()
    most = dict(before)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for name, size in Family.of(stand).sizes().items():
                most[name] = max(most[name], size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return {name: most[name] - before[name] for name in most}, time.monotonic() - started


def flows(stand: Stand, size: int) -> bool:
    """The second part. Return whether the bounds hold."""
    good = True
    lines = [["body", "seconds", "front adds MiB", "keeper adds MiB", ""]]
    for name, flow, path in (
        ("upload to a slow CGI script", upload, "/cgi-bin/flow"),
        ("answer of a CGI script to a slow client", download, "/cgi-bin/flow"),
        ("upload to a slow application", upload, "/app/"),
        ("answer of an application to a slow client", download, "/app/"),
        ("file to a slow client", download, "/huge.bin"),
    ):
        # What is needed once is there before the measurement.
        flow(stand, path.replace("huge", "large"), MIB)
        added, seconds = watched(stand, lambda flow=flow, path=path: flow(stand, path, size))  # type: ignore[misc]
        fits = added["front"] < ADDED_MAX and added["keeper"] < ADDED_MAX
        good = good and fits
        lines.append([
            name, f"{seconds:.1f}", mib(added["front"]), mib(added["keeper"]),
            "ok" if fits else "OUT OF BOUNDS",
        ])  # fmt: skip
    print(f"\nBodies of {size >> 20} MiB\n{as_text(lines)}", flush=True)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description="Show that the memory of the gateway stays flat.")
    parser.add_argument("--share", type=float, default=1.0, help="part of the requests, to try it")
    parser.add_argument("--size", type=int, default=1024, help="MiB of a large body")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        work = Path(directory)
        work.chmod(0o755)
        build(work / "site")
        shutil.copy(work / "site" / "app" / "flow_cgi.py", work / "site" / "cgi-bin" / "flow")
        (work / "site" / "cgi-bin" / "flow").chmod(0o755)
        with (work / "site" / "htdocs" / "huge.bin").open("wb") as huge:
            huge.truncate(options.size * MIB)  # a hole: it needs no room on the disk
        stand = Stand(work / "gateway", work / "site", application="flow_wsgi:application")
        try:
            gateway(stand)
            wait_for(stand)
            good = requests(stand, options.share)
            good = flows(stand, options.size * MIB) and good
        finally:
            stand.stop()
    return 0 if good else 1


def wait_for(stand: Stand) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            if fetch(stand.port, "/small.txt") == (200, SMALL):
                return
        except OSError:
            if time.monotonic() > deadline or stand.running[0].poll() is not None:
                raise ConnectionError(f"the gateway does not start: {stand.said()}") from None
        time.sleep(0.05)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
