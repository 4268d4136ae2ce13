#!/usr/bin/env python3
"""Show everything that a CGI script is told: its environment, arguments and directory.

Standard: RFC 3875 section 4.1.
"""

import html
import os
import sys

REQUEST = (
    "REQUEST_METHOD", "REQUEST_URI", "SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED",
    "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH",
)  # fmt: skip


def row(name: str, value: str) -> str:
    return f"<tr><th>{html.escape(name)}<td><code>{html.escape(value)}</code>"


def table(title: str, names: list[str]) -> str:
    rows = "\n".join(row(name, os.environ.get(name, "")) for name in names)
    return f"<h2>{title}</h2>\n<table>\n{rows}\n</table>"


present = [name for name in REQUEST if name in os.environ]
headers = sorted(name for name in os.environ if name.startswith("HTTP_"))
others = sorted(set(os.environ) - set(present) - set(headers))
process = [
    row("arguments", " ".join(sys.argv)),
    row("directory", os.getcwd()),
    row("user and group", f"{os.getuid()}:{os.getgid()}"),
    row("process, group", f"{os.getpid()}, {os.getpgrp()}"),
]

page = f"""<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>What a script is told</title><link rel="stylesheet" href="/style.css">
<main class="page">
<h1>What a script is told</h1>
{table("The request", present)}
{table("Its header fields", headers)}
{table("The server", others)}
<h2>The process</h2>
<table>
{chr(10).join(process)}
</table>
<p><a href="/">Back to all examples</a>
</main>
"""
# Bytes in the environment that are not UTF-8 come as surrogates; show them instead of failing.
body = page.encode("utf-8", "backslashreplace")
sys.stdout.buffer.write(b"Content-Type: text/html; charset=utf-8\r\n")
sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n" % len(body))
sys.stdout.buffer.write(body)
