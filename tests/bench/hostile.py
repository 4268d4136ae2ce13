"""What one tenant can do to another: `python tests/bench/hostile.py [--seconds 6]`.

Run as root, on a quiet machine. One tenant's script and file are asked for without pause while
another tenant, in turn: forks without end, takes memory without end, computes without end in as
many scripts as it may, fills the disk, and lets a thousand requests wait. Told is the neighbour's
median and 99th percentile for each, beside its quiet value (aim: p99 within twice of that), how the
attacker was answered, and what its faults log says.
"""

import argparse
import asyncio
import collections
import os
import re
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

from tenants import UID, Daemon, alone, prepare, settings

FILE_SIZE = "64 MiB"
LIMITS = (
    'memory = "128 MiB"\ncpu = "50 %"\nprocesses = 40\nconcurrency = 10\nqueue = 20\n'
    f'file_size = "{FILE_SIZE}"\nlogs = "{{directory}}/logs"\n'
)
HEAD = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n"
ATTACKS = {
    "forks without end": (f"{HEAD}exec perl -e 'while (1) {{ fork }}'\n", 10),
    "takes memory": (f"{HEAD}exec perl -e 'my @x; push @x, \"x\" x 1048576 while 1'\n", 10),
    "computes": (f"{HEAD}exec perl -e '1 while 1'\n", 10),
    "fills the disk": (
        f"{HEAD}exec dd if=/dev/zero of=fill$$ bs=1M count=100000 2>&1\n", 4,
    ),
    "lets a thousand wait": (f"{HEAD}exec sleep 3\n", 1000),
}  # fmt: skip
"""What the attacker's script does, and how many ask for it at once."""


class Attack:
    """Many clients of one script, in a process of their own, until they are told to stop."""

    def __init__(self, port: int, path: str, clients: int) -> None:
        reader, writer = os.pipe()
        self._reader = reader
        self._pid = os.fork()
        if not self._pid:
            try:
                os.close(reader)
                answers = asyncio.run(_attack(port, path, clients))
                shown = ", ".join(f"{count} x {what}" for what, count in answers.most_common())
                os.write(writer, shown.encode())
            finally:
                os._exit(0)
        os.close(writer)

    def stop(self) -> str:
        os.kill(self._pid, signal.SIGTERM)
        with os.fdopen(self._reader) as said:
            answers = said.read()
        os.waitpid(self._pid, 0)
        return answers


async def _attack(port: int, path: str, clients: int) -> "collections.Counter[str]":
    answers: collections.Counter[str] = collections.Counter()
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    asking = [asyncio.create_task(_client(port, path, answers)) for _ in range(clients)]
    await over.wait()
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    return answers


async def _client(port: int, path: str, answers: "collections.Counter[str]") -> None:
    """Ask again and again; after a 503 as late as it says."""
    text = f"GET {path} HTTP/1.1\r\nHost: t1.example\r\nConnection: close\r\n\r\n".encode()
    while True:
        pause = 0.05
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(text)
            answer = await asyncio.wait_for(reader.read(), 8)
            status = answer[9:12].decode()
            answers[status or "nothing"] += 1
            if found := re.search(rb"\r\nRetry-After: ([0-9]+)\r\n", answer):
                pause = float(found[1])
        except (OSError, TimeoutError) as error:
            answers[type(error).__name__] += 1
        finally:
            if writer is not None:
                writer.close()
        await asyncio.sleep(pause)


def neighbour(daemon: Daemon, seconds: float) -> dict[str, list[float]]:
    """Ask for another tenant's script and file by turns; return milliseconds."""
    times: dict[str, list[float]] = {"/id.cgi": [], "/index.html": []}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for path, found in times.items():
            status, body, taken = daemon.get(path, "t0.example")
            if path == "/id.cgi":
                daemon.expect(0, status, body)
            found.append(taken * 1000)
    return times


def told(times: dict[str, list[float]], quiet: dict[str, float]) -> str:
    words = []
    for path, found in times.items():
        found.sort()
        p99 = found[int(len(found) * 0.99)]
        ratio = f" ({p99 / quiet[path]:.1f} x)" if path in quiet else ""
        quiet.setdefault(path, p99)
        words.append(f"{path} p50 {found[len(found) // 2]:.1f} p99 {p99:.1f} ms{ratio}")
    return ", ".join(words)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    alone()
    with tempfile.TemporaryDirectory(prefix="gateway-hostile-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        prepare(directory, 2)
        home = directory / "www" / "t1.example" / "htdocs"
        for number, (text, _) in enumerate(ATTACKS.values()):
            script = home / f"a{number}.cgi"
            script.write_text(text)
            script.chmod(0o755)
            os.chown(script, UID + 1, UID + 1)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        settings(directory, port, LIMITS.format(directory=directory))
        daemon = Daemon(directory, port)
        quiet: dict[str, float] = {}
        try:
            neighbour(daemon, 1.0)
            print(f"{'quiet':21}: {told(neighbour(daemon, options.seconds), quiet)}")
            for number, (what, (_, clients)) in enumerate(ATTACKS.items()):
                attack = Attack(port, f"/a{number}.cgi", clients)
                time.sleep(0.5)  # the attack is to be under way
                times = neighbour(daemon, options.seconds)
                answers = attack.stop()
                print(f"{what:21}: {told(times, quiet)}; attacker: {answers}", flush=True)
                for file in home.glob("fill*"):
                    file.unlink()
        finally:
            daemon.stop()
        for file in sorted((directory / "logs" / "t1").glob("faults.log")):
            lines = file.read_text().splitlines()
            print(f"faults.log of the attacker: {len(lines)} lines, for example:")
            print("\n".join(lines[:3]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
