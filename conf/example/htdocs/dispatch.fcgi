#!/usr/bin/env python3
"""The dispatch.fcgi that shared hosting asks for: change to the site's Python, then run flup.

Nothing in here is about Gateway: a listening socket is waiting on descriptor 0, as FastCGI 1.0
section 2.2 has it, and flup takes it from there.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = os.environ.get("SITE_PYTHON", os.path.join(HERE, "../../../.venv/bin/python3"))
if os.path.exists(PYTHON) and os.environ.get("SITE_PYTHON_STARTED") != "yes":
    os.environ["SITE_PYTHON_STARTED"] = "yes"
    os.execv(PYTHON, [PYTHON, *sys.argv])

sys.path.insert(0, os.path.join(HERE, "../apps"))

from classic import application  # noqa: E402
from flup.server.fcgi import WSGIServer  # noqa: E402

if __name__ == "__main__":
    WSGIServer(application).run()
