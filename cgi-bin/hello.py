#!/usr/bin/env python3
"""The smallest useful CGI script in Python: header lines, an empty line, the page."""

import html
import os
import platform

name = html.escape(os.environ.get("REMOTE_ADDR") or "somebody")

print("Content-Type: text/html; charset=utf-8")
print()
print(f"""<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Hello from Python</title><link rel="stylesheet" href="/style.css">
<main class="page">
<h1>Hello from Python</h1>
<p>You are <b>{name}</b>. This is Python {platform.python_version()}, process {os.getpid()}.
<p><a href="/">Back to all examples</a>
</main>""")
