"""What one warm request costs in the zygote and its child: processor time, page faults, latency.

Copies of `gateway/guests` are compared by orders in turn, without daemon or front, so that small
changes show on a busy machine (faults do not depend on it at all). Usage:

    PYTHONPATH=. python tests/bench/fork_cost.py SCRIPT GUESTS [GUESTS ...] [--interpreter PATH]
"""

import argparse
import os
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
REQUEST = ENVIRONMENT | {
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SERVER_SOFTWARE": "gateway",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "8080",
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "/cgi-bin/script",
    "QUERY_STRING": "name=x",
    "REMOTE_ADDR": "127.0.0.1",
    "HTTP_HOST": "localhost:8080",
    "HTTP_USER_AGENT": "fork_cost",
}
WARMING = 60


class Run(NamedTuple):
    answered: float
    """Seconds until the script's output ended."""
    child: int
    """Microseconds of processor time."""


class Zygote:
    """A zygote, as the keeper has it."""

    def __init__(self, guests: Path, interpreter: str, script: Path) -> None:
        self.script = script
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = theirs.fileno()
        command = [interpreter, str(guests / "zygote.py"), str(fd)]
        if "perl" in os.path.basename(interpreter):
            long = f"/dev/{'./' * 500}null"
            command = [interpreter, "-I", str(guests), f"-Mzygote={fd}", long]
        self.null = os.open(os.devnull, os.O_RDONLY)
        self.log, writer = os.pipe()  # as the keeper does: the streams of a zygote are pipes
        self.process = subprocess.Popen(
            command, stdin=self.null, stdout=writer, stderr=writer, env=ENVIRONMENT, pass_fds=[fd]
        )
        theirs.close()
        os.close(writer)
        self.wait_for(b"H")

    def wait_for(self, kind: bytes) -> bytes:
        while True:
            data = self.control.recv(1 << 16)
            if data[:1] == b"L":
                self.control.send(b"P" + data[1:])  # it learns, as from the keeper
            elif data[:1] == kind:
                return data
            elif data[:1] in b"FC":
                raise SystemExit(f"refused: {data[1:]!r}")

    def run(self) -> Run:
        out, their_out = os.pipe()
        err, their_err = os.pipe()
        path, directory = os.fsencode(self.script), os.fsencode(self.script.parent)
        head = struct.pack("<cIHH", b"R", 1, len(path), len(directory))
        entries = "\0".join(f"{name}={value}" for name, value in REQUEST.items())
        message = head + path + directory + os.fsencode(entries)
        began = time.perf_counter()
        socket.send_fds(self.control, [message], [self.null, their_out, their_err])
        os.close(their_out)
        os.close(their_err)
        while os.read(out, 1 << 16):
            pass
        answered = time.perf_counter() - began
        while os.read(err, 1 << 16):
            pass
        os.close(out)
        os.close(err)
        _, _, status, user, system, _ = struct.unpack_from("<cIiQQQ", self.wait_for(b"X"))
        if status:
            raise SystemExit(f"{self.script} ended with {status}")
        return Run(answered, user + system)

    def spent(self) -> tuple[int, int, float]:
        """Return the faults of the zygote and of its children, and its microseconds."""
        process = Path(f"/proc/{self.process.pid}")
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        ran = int((process / "schedstat").read_text().split()[0])
        return int(fields[7]), int(fields[8]), ran / 1000

    def close(self) -> None:
        self.control.close()
        self.process.wait()


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare what warm requests cost.")
    parser.add_argument("script", type=Path)
    parser.add_argument("guests", type=Path, nargs="+")
    parser.add_argument("--interpreter", default="/usr/bin/python3")
    parser.add_argument("--runs", type=int, default=300)
    options = parser.parse_args()
    script = options.script.absolute()
    zygotes = [Zygote(path.absolute(), options.interpreter, script) for path in options.guests]
    for _ in range(WARMING):
        for zygote in zygotes:
            zygote.run()
    before = [zygote.spent() for zygote in zygotes]
    runs: list[list[Run]] = [[] for _ in zygotes]
    for _ in range(options.runs):
        for done, zygote in zip(runs, zygotes, strict=True):
            done.append(zygote.run())
    print("answered us | processor us: zygote + child | faults: zygote + child")
    for path, zygote, was, done in zip(options.guests, zygotes, before, runs, strict=True):
        faults, child_faults, own = (
            (now - then) / options.runs for now, then in zip(zygote.spent(), was, strict=True)
        )
        answered, child = (
            middle([run.answered for run in done]),
            middle([run.child for run in done]),
        )
        print(
            f"{answered * 1e6:11.0f} | {own:8.0f} + {child:5.0f} = {own + child:5.0f}       "
            f"| {faults:5.0f} + {child_faults:4.0f}  {path}"
        )
        zygote.close()


if __name__ == "__main__":
    main()
