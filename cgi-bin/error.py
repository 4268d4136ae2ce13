#!/usr/bin/env python3
"""Fail on purpose, to show how Gateway explains what went wrong.

`?how=crash` (also without a query) ends with a traceback, `?how=header` prints a page without a
header, `?how=silent` prints nothing at all, `?how=exit` ends with status 3 before any output.
"""

import os
import sys
from urllib.parse import parse_qs

how = parse_qs(os.environ.get("QUERY_STRING", "")).get("how", ["crash"])[0]

if how == "header":
    print("<h1>This page has no header lines above it</h1>")
elif how == "silent":
    pass
elif how == "exit":
    sys.exit(3)
else:
    answer = {"known": 42}
    print(answer["unknown"])
