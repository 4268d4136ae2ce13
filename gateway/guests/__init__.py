"""Floor 2: files that run inside somebody else's interpreter. Here only where they are."""

import os

_HERE = os.path.dirname(os.path.abspath(__file__))

WORKER = os.path.join(_HERE, "worker.py")
"""FastCGI to WSGI, ours."""
FLUP_WORKER = os.path.join(_HERE, "flup_worker.py")
"""The same with flup's WSGIServer."""
ZYGOTE_PYTHON = os.path.join(_HERE, "zygote.py")
"""An interpreter that is ready and forks a child for each script."""
ZYGOTE_PERL = os.path.join(_HERE, "zygote.pm")
"""The same for Perl."""
