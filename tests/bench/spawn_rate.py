"""How many C programs a second a front and a keeper start, end to end, on this machine.

The front's side is this process (asyncio, or uvloop with --uvloop): it orders, reads stdout and
stderr to their ends and waits for the exit status, so that each run is complete. Usage:

    PYTHONPATH=. python tests/bench/spawn_rate.py [--uvloop] [--runs N] [--at-once N] [--profile]
"""

import argparse
import asyncio
import cProfile
import os
import pstats
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from gateway.journal import Journal
from gateway.process import keeper
from gateway.process.mastering import (
    Attach,
    Stop,
)
from gateway.process.post import send
from gateway.process.remote import RemoteKeeper
from gateway.process.spec import KeeperSpec, ScriptRoot

PROGRAM = r"""
#include <unistd.h>
int main(void) {
    static const char reply[] = "Content-Type: text/plain\r\n\r\nhello\n";
    return write(1, reply, sizeof reply - 1) == sizeof reply - 1 ? 0 : 1;
}
"""

ENVIRONMENT = {
    b"GATEWAY_INTERFACE": b"CGI/1.1",
    b"SERVER_PROTOCOL": b"HTTP/1.1",
    b"SERVER_SOFTWARE": b"gateway",
    b"REQUEST_METHOD": b"GET",
    b"SCRIPT_NAME": b"/cgi-bin/hello",
    b"SCRIPT_FILENAME": b"/srv/www/cgi-bin/hello",
    b"DOCUMENT_ROOT": b"/srv/www",
    b"QUERY_STRING": b"a=1&b=2",
    b"REQUEST_URI": b"/cgi-bin/hello?a=1&b=2",
    b"REMOTE_ADDR": b"127.0.0.1",
    b"REMOTE_PORT": b"54321",
    b"SERVER_ADDR": b"127.0.0.1",
    b"SERVER_PORT": b"8080",
    b"SERVER_NAME": b"localhost",
    b"HTTP_HOST": b"localhost:8080",
    b"HTTP_USER_AGENT": b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    b"HTTP_ACCEPT": b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    b"HTTP_ACCEPT_LANGUAGE": b"en-GB,en;q=0.5",
    b"HTTP_ACCEPT_ENCODING": b"gzip, deflate, br",
    b"HTTP_COOKIE": b"session=0123456789abcdef0123456789abcdef",
}


def start_keeper(root: Path, profile: str) -> tuple[int, socket.socket]:
    """Fork a keeper; return its process id and our end of its control channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    spec = KeeperSpec(
        user="bench",
        uid=os.getuid(),
        gid=os.getgid(),
        groups=(),
        switch=False,
        scripts={"bench": ScriptRoot(root=os.fsencode(root))},
        pools=(),
        sockets=os.fsencode(root / "sockets"),
        concurrency=64,
        queue=256,
        grace=1.0,
    )
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    ours.close()
    if profile:
        profiler = cProfile.Profile()
        profiler.enable()
        code = keeper.run(spec, theirs, Journal(2, "keeper"))
        profiler.disable()
        profiler.dump_stats(profile)
    else:
        code = keeper.run(spec, theirs, Journal(2, "keeper"))
    os._exit(code)


async def one(remote: RemoteKeeper) -> None:
    run = await remote.start("bench", b"hello", ENVIRONMENT)
    run.stderr.tap(complaint)
    while await run.stdout.read():
        pass
    ended = await run.exited()
    if ended.status != 0:
        sys.exit(f"the program ended with {ended.status}")
    run.release()


def complaint(data: bytes) -> None:
    sys.exit(f"the program wrote to stderr: {data!r}")


async def measure(control: socket.socket, runs: int, at_once: int) -> float:
    async def connect() -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        send(control, Attach().encode(), (theirs.fileno(),))
        theirs.close()
        return ours

    remote = RemoteKeeper(connect)
    left = iter(range(runs))

    async def client() -> None:
        for _ in left:
            await one(remote)

    await one(remote)
    before = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(at_once)))
    took = time.perf_counter() - before
    remote.close()
    return runs / took


def spent(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    runner: Callable[[Coroutine[Any, Any, float]], float] = asyncio.run
    if options.uvloop:
        import uvloop

        runner = uvloop.run
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "hello.c").write_text(PROGRAM)
        subprocess.run(["cc", "-O2", "-o", root / "hello", root / "hello.c"], check=True)
        stats = str(root / "keeper.stats") if options.profile else ""
        pid, control = start_keeper(root, stats)
        before = spent(resource.RUSAGE_SELF)
        rate = runner(measure(control, options.runs, options.at_once))
        front = spent(resource.RUSAGE_SELF) - before
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        tick = os.sysconf("SC_CLK_TCK")
        keeper_time, scripts = (
            (int(fields[n]) + int(fields[n + 1])) / tick / options.runs for n in (11, 13)
        )
        print(
            f"{rate:,.0f} runs a second; processor time of one run: front "
            f"{front / options.runs * 1e6:.0f} us, keeper {keeper_time * 1e6:.0f} us, "
            f"program {scripts * 1e6:.0f} us"
        )
        send(control, Stop(0.0).encode())
        os.waitpid(pid, 0)
        control.close()
        if stats:
            pstats.Stats(stats).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
