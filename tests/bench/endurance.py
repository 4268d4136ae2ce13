"""Many warm requests, and what they leave: `python tests/bench/endurance.py --requests 1000000`.

Asks for a warm Python and a warm Perl script by turns, and tells at each tenth of the way the
memory, descriptors and zombies of keeper and zygotes. With `--kill` a zygote, a child of it or the
keeper is killed every half second, at random; then what counts is that every request is answered or
visibly cut, and how.
"""

import argparse
import http.client
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from cases import build
from peers import Stand, gateway

PATHS = ("/cgi-bin/hello-py", "/cgi-bin/form-pl?name=x")
CLIENTS = 8
TIMEOUT = 30


def below(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def zygotes(keeper: int) -> list[int]:
    marks = ("guests/zygote.py", "warm perl of cgi-gateway")
    return [pid for pid in below(keeper) if any(mark in command(pid) for mark in marks)]


def keeper_of(master: int) -> int:
    """The child of the master that has zygotes below it; 0 when there is none."""
    return next((pid for pid in below(master) if zygotes(pid)), 0)


def shown(pid: int) -> str:
    """Return resident memory, descriptors and zombie children."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        fds = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return f"{pid} is gone"
    resident = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    zombies = sum(1 for child in below(pid) if not command(child))
    return f"{int(resident) / 1024:.1f} MiB, {fds} descriptors, {zombies} zombies"


class Load:
    """Clients that ask until there were enough answers."""

    def __init__(self, port: int, requests: int) -> None:
        self.port = port
        self.left = requests
        self.answers: Counter[str] = Counter()
        self.lock = threading.Lock()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        while True:
            with self.lock:
                if self.left <= 0:
                    return
                self.left -= 1
                path = PATHS[self.left % len(PATHS)]
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                what = f"{answer.status}" if answer.read() else f"{answer.status}, empty"
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                what = "cut" if not isinstance(error, TimeoutError) else "NO ANSWER"
            with self.lock:
                self.answers[what] += 1


def kill_one(master: int) -> str:
    keeper = keeper_of(master)
    ready = zygotes(keeper) if keeper else []
    children = [child for zygote in ready for child in below(zygote)]
    kind, found = random.choice([("zygote", ready), ("child", children), ("keeper", [keeper])])
    if found and found[0]:
        try:
            os.kill(random.choice(found), signal.SIGKILL)
        except ProcessLookupError:
            return "gone already"
        return kind
    return "none there"


def watch(load: Load, master: int, total: int, kill: bool) -> Counter[str]:
    killed: Counter[str] = Counter()
    step, told = total // 10, total
    while load.left > 0:
        time.sleep(0.5)
        if kill:
            killed[kill_one(master)] += 1
        elif told - load.left >= step:
            told = load.left
            keeper = keeper_of(master)
            print(f"{total - told:9} requests: keeper {shown(keeper)}", flush=True)
            for zygote in zygotes(keeper):
                print(f"{'':9}   {command(zygote)[:24]} {shown(zygote)}", flush=True)
    return killed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--kill", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        work = Path(directory)
        work.chmod(0o755)
        build(work / "site")
        stand = Stand(work / "run", work / "site")
        try:
            gateway(stand)
            time.sleep(2)
            load = Load(stand.port, options.requests)
            clients = [threading.Thread(target=load.run) for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            killed = watch(load, stand.running[0].pid, options.requests, options.kill)
            for client in clients:
                client.join()
        finally:
            stand.stop()
    print("answers:", dict(load.answers), "killed:", dict(killed))
    return 0 if "NO ANSWER" not in load.answers else 1


if __name__ == "__main__":
    sys.exit(main())
