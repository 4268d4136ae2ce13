"""Serve an application with flup on a Unix socket: `flup_server.py MODULE:APP SOCKET [fork N]`.

As `dispatch.fcgi` files do it. Without `fork` it is flup's usual threaded server in one process,
with it N preforked processes.
"""

import importlib
import sys

from flup.server.fcgi import WSGIServer as Threaded
from flup.server.fcgi_fork import WSGIServer as Preforked


def main(target: str, socket: str, *fork: str) -> None:
    module, _, name = target.partition(":")
    application = getattr(importlib.import_module(module), name)
    if fork:
        count = int(fork[1])
        server = Preforked(
            application, bindAddress=socket, minSpare=count, maxSpare=count, maxChildren=count
        )
    else:
        server = Threaded(application, bindAddress=socket)
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
