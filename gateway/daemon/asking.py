"""`gateway reload`, `stop` and `status`: the other side of `daemon/control.py`.

Decides where the daemon's control socket is (the runtime directory of the settings file, else
`RUNTIME`), how long to wait for an answer, and what is printed where.
"""

import os
import re
import socket
import sys
from collections.abc import Mapping

from gateway.config.load import runtime_of
from gateway.daemon.control import NAME, refusal
from gateway.journal import visible

RUNTIME = "/run/gateway"
"""Where it is looked for when nothing is said."""
TIMES: Mapping[str, float] = {"reload": 180.0, "status": 15.0, "stop": 0.0, "ping": 15.0}
"""Seconds until an answer must be there. 0: as long as it takes; what runs is let finish."""

_CODE = re.compile(rb"[0-9]{1,3}")


def place(config: str, runtime: str) -> str:
    """Return the control socket's path. Raises ValueError and BadConfig in words."""
    if runtime:
        return os.path.join(runtime, NAME)
    if not config:
        return os.path.join(RUNTIME, NAME)
    if found := runtime_of(config):
        return os.path.join(found, NAME)
    raise ValueError(
        f"{config} names no [server] runtime, so its daemon has a private directory: set runtime = "
        f'"{RUNTIME}" there and restart it; until then use signals (HUP reloads, TERM stops)'
    )


def ask(path: str, request: str) -> int:
    """Ask, print the answer, and return the exit code."""
    seconds = TIMES[request.partition(" ")[0]]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(seconds or None)
        try:
            sock.connect(path)
            sock.sendall(request.encode("ascii") + b"\n")
            answer = bytearray()
            while data := sock.recv(65536):
                answer += data
        except TimeoutError:
            return _complain(path, f"no answer within {seconds:.0f} s")
        except OSError as error:
            return _complain(path, refusal(error))
    code, _, text = bytes(answer).partition(b"\n")
    if _CODE.fullmatch(code) is None:
        return _complain(path, "the daemon hung up; its log may say why")
    lines = text.decode("utf-8", "replace").split("\n")[:-1]
    for line in lines:
        if int(code):
            print(f"gateway: {visible(line)}", file=sys.stderr)
        else:
            print(visible(line))
    return int(code)


def _complain(path: str, why: str) -> int:
    print(f"gateway: {visible(path)}: {why}", file=sys.stderr)
    return 1
