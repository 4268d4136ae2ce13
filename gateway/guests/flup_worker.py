"""Serve a WSGI application with flup's WSGIServer on the listening socket that is descriptor 0.

    flup_worker.py [--threads N] [--max-requests N] [--directory D] MODULE:APP

Decides only how the application is found and how flup is called. flup serves a connection in a
thread until it ends. Its own pool of threads may leave a connection in a queue behind kept ones
that never end, and waits for those when it is asked to leave; so here each connection has a thread
of its own. How many requests a process gets at once is the business of the pool that it is in.
With --threads 1 flup locks the application. --max-requests is taken and ignored: flup cannot leave
by itself.

Exit codes as in `worker.py`: 0 asked to leave, 2 wrong arguments or no flup, 3 the application
cannot be loaded.
"""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import sys
import threading
import time
import traceback
from typing import Any

POLITENESS = 0.002
"""Seconds that a new connection is left to other processes for each one that is held already.
Connections are kept, so without it one process may end up with all of them."""
PATIENCE = 60.0
"""Seconds that requests have to finish after TERM; who sent it will not wait so long."""


class Threads:
    """In place of flup's ThreadPool: a thread for each connection."""

    def __init__(self) -> None:
        self.connections: dict[Any, float] = {}
        """Connection -> when it was accepted."""

    @property
    def kept(self) -> int:
        """Connections that are there for longer than one request usually takes."""
        before = time.monotonic() - 0.1
        return sum(since < before for since in list(self.connections.values()))

    def addJob(self, job: Any, allowQueuing: bool = True) -> bool:
        self.connections[job] = time.monotonic()
        threading.Thread(target=self.run, args=(job,), daemon=True).start()
        return True

    def run(self, job: Any) -> None:
        try:
            job.run()
        finally:
            del self.connections[job]

    def shutdown(self) -> None:
        """Wait for the requests, but not for idle connections."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if not any(job._requests for job in list(self.connections)):
                return
            time.sleep(0.01)


class Polite:
    """The listening socket, accepting later the more connections are kept."""

    def __init__(self, listener: socket.socket, threads: Threads) -> None:
        listener.setblocking(False)  # it may be taken meanwhile, which flup understands
        self.listener = listener
        self.threads = threads
        self.fileno = listener.fileno
        self.close = listener.close

    def accept(self) -> Any:
        time.sleep(min(0.05, POLITENESS * self.threads.kept))
        return self.listener.accept()


def load(target: str) -> Any:
    """Import MODULE and return APP of it: a dotted path, called once if it ends in "()"."""
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    path = path or "application"
    for name in path[:-2].split(".") if path.endswith("()") else path.split("."):
        found = getattr(found, name)
    return found() if path.endswith("()") else found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="flup_worker")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-requests", type=int, default=0)
    parser.add_argument("--directory", default="")
    parser.add_argument("application", metavar="MODULE:APP")
    options = parser.parse_args(arguments)
    try:
        from flup.server.fcgi import WSGIServer
    except ImportError as error:
        print(f"flup_worker: {error}; install flup for {sys.executable}", file=sys.stderr)
        return 2
    if options.directory:
        os.chdir(options.directory)
    sys.path[0] = os.getcwd()  # instead of the directory of this file
    sys.argv = [options.application]
    try:
        application = load(options.application)
    except BaseException:  # whatever an import may raise: it is the boot that failed
        traceback.print_exc()
        print(f"flup_worker: cannot load {options.application}", file=sys.stderr)
        return 3
    threads = Threads()

    class Server(WSGIServer):  # type: ignore[misc]  # flup has no types
        def _setupSocket(self) -> Polite:
            return Polite(super()._setupSocket(), threads)

    many = options.threads > 1
    server = Server(application, multithreaded=many, multiprocess=True, minSpare=0, maxSpare=0)
    server._threadPool = threads
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
