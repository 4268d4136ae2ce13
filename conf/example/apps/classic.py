"""A WSGI application (PEP 3333) that shows what it was asked. Runs under any WSGI server."""

import html
import os
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

SHOWN = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_SOFTWARE")

_answered = 0


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    global _answered
    _answered += 1
    values = [(name, html.escape(str(environ.get(name, "")))) for name in SHOWN]
    rows = "\n".join(f"<tr><th>{name}<td><code>{value}</code>" for name, value in values)
    page = f"""<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>WSGI on flup</title><link rel="stylesheet" href="/style.css">
<main class="page">
<h1>WSGI on flup</h1>
<p>Process {os.getpid()} stays, and this is its answer number {_answered}.
Reload, and it counts on.
<table>
{rows}
</table>
<p><a href="/">Back to all examples</a>
</main>
"""
    body = page.encode()
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]
