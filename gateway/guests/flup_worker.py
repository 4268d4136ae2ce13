"""Serve a WSGI application with flup's WSGIServer on the listening socket that is descriptor 0.

    flup_worker.py [--threads N] [--max-requests N] [--directory D] MODULE:APP

Decides only how the application is found and how flup is called. flup takes a thread for each
connection and closes those beyond its bound at once, so that is left open: how many requests a
process gets is the pool's business. With one thread it locks the application, as flup does.
--max-requests is taken and ignored: flup cannot leave by itself.

Exit codes as in `worker.py`: 0 asked to leave, 2 wrong arguments or no flup, 3 the application
cannot be loaded.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from typing import Any


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
    WSGIServer(application, multithreaded=options.threads > 1, multiprocess=True).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
