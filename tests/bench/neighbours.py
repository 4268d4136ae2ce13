"""How long a fast script takes while a hundred slow ones run: `python tests/bench/neighbours.py`.

nginx stands before each; a hundred clients ask for a script that sleeps for a second, over and
over, and one client asks for a script in C. Its latencies are told, quiet and beside the others.
"""

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cases import CASES, HELLO, build
from peers import Missing, Stand, fcgiwrap, wrapped
from run import fetch, ready

SLOW = 100
"""Clients of the slow script."""
ASKED = 200
"""Requests of the fast one that are timed."""
PATIENCE = 60.0
"""Seconds after which the rest of them is not waited for."""
SERVERS: dict[str, Callable[[Stand], None]] = {
    "nginx + gateway": lambda stand: wrapped(stand, keep=False),
    "nginx + fcgiwrap -c 8": lambda stand: fcgiwrap(stand, 8),
}


def fast(port: int) -> list[float]:
    """Return the milliseconds of each request of the fast script."""
    taken: list[float] = []
    start = time.monotonic()
    while len(taken) < ASKED and time.monotonic() - start < PATIENCE:
        before = time.monotonic()
        try:
            status, body = fetch(port, "/cgi-bin/hello-c")
        except OSError:
            status, body = 0, b""
        if (status, body) != (200, HELLO):
            print(f"  answered {status}", file=sys.stderr)
        taken.append((time.monotonic() - before) * 1000)
    return taken


def slow(port: int, over: threading.Event) -> None:
    while not over.is_set():
        try:
            fetch(port, "/cgi-bin/sleep")
        except OSError:
            over.wait(0.1)


def told(name: str, when: str, taken: list[float]) -> str:
    ordered = sorted(taken)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"{name:24}{when:20}{statistics.median(taken):10.1f}{p99:10.1f}{len(taken):8}"


def measure(name: str, work: Path) -> None:
    case = next(case for case in CASES if case.name == "front-c-8")
    stand = Stand(work / name.replace(" ", ""), work / "site")
    over = threading.Event()
    clients = [threading.Thread(target=slow, args=(stand.port, over)) for _ in range(SLOW)]
    try:
        SERVERS[name](stand)
        ready(stand, case, HELLO)
        print(told(name, "quiet", fast(stand.port)), flush=True)
        for client in clients:
            client.start()
        time.sleep(2)  # all of them are asking
        print(told(name, f"{SLOW} slow ones", fast(stand.port)), flush=True)
    finally:
        over.set()
        stand.stop()
        for client in clients:
            if client.ident is not None:
                client.join()


def main() -> int:
    print(f"{'server':24}{'neighbours':20}{'p50 ms':>10}{'p99 ms':>10}{'count':>8}")
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        work = Path(directory)
        work.chmod(0o755)
        build(work / "site")
        for name in SERVERS:
            try:
                measure(name, work)
            except Missing as missing:
                print(f"{name}: left out, {missing} is not installed", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
