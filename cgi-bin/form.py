#!/usr/bin/env python3
"""A form, and what was sent with it. Needs the standard library only, without the `cgi` module.

Whatever came from outside goes through `html.escape` before it is shown: copy that part first.
"""

import hashlib
import html
import os
import sys
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl

LARGEST = 16 << 20  # this example holds the body in memory, so it has to have a bound

FORM = """<form method="post" enctype="multipart/form-data">
<label>Your name <input name="name" autocomplete="name"></label>
<label>A message <textarea name="message" rows="3"></textarea></label>
<label>A file <input type="file" name="file"></label>
<button>Send</button>
</form>"""


class Wrong(Exception):
    """The request cannot be read as a form; the text says why and is shown to its sender."""

    def __init__(self, status: str, say: str) -> None:
        super().__init__(say)
        self.status = status


def read_body() -> bytes:
    text = os.environ.get("CONTENT_LENGTH") or "0"
    if not (text.isascii() and text.isdigit()):
        raise Wrong("400 Bad Request", "CONTENT_LENGTH is not a number.")
    length = int(text)
    if length > LARGEST:
        raise Wrong("413 Content Too Large", f"This form takes {LARGEST >> 20} MiB at most.")
    body = sys.stdin.buffer.read(length)
    if len(body) != length:
        raise Wrong("400 Bad Request", "The body ended early.")
    return body


def show_part(part: Message) -> tuple[str, str]:
    content = part.get_payload(decode=True)
    data = content if isinstance(content, bytes) else b""
    name = str(part.get_param("name", "", "content-disposition"))
    filename = part.get_filename()
    if filename is None:
        return name, data.decode("utf-8", "replace")
    digest = hashlib.sha256(data).hexdigest()
    return name, f"{filename}: {len(data)} bytes, sha256 {digest}"


def fields() -> list[tuple[str, str]]:
    """Return the fields of the form as text, those of uploaded files described.

    Raises:
        Wrong: the body is too large, incomplete, or of a type that no form has.
    """
    kind = os.environ.get("CONTENT_TYPE", "")
    body = read_body()
    if kind.lower().startswith("application/x-www-form-urlencoded"):
        return parse_qsl(body.decode("ascii", "replace"), keep_blank_values=True)
    if not kind.lower().startswith("multipart/form-data"):
        raise Wrong("415 Unsupported Media Type", "A form was expected.")
    head = b"Content-Type: " + os.fsencode(kind) + b"\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    return [show_part(part) for part in message.iter_parts()]


def main() -> None:
    status, shown = "200 OK", FORM
    if os.environ.get("REQUEST_METHOD") == "POST":
        try:
            rows = "\n".join(
                f"<tr><th>{html.escape(name)}<td>{html.escape(value)}" for name, value in fields()
            )
            shown = f"<table>\n{rows}\n</table>\n<p><a href='form.py'>Again</a>"
        except Wrong as wrong:
            status, shown = wrong.status, f"<p>{html.escape(str(wrong))}"
    page = f"""<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>A form</title><link rel="stylesheet" href="/style.css">
<main class="page">
<h1>A form</h1>
{shown}
<p><a href="/">Back to all examples</a>
</main>
"""
    head = f"Status: {status}\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    sys.stdout.buffer.write(head.encode() + page.encode("utf-8", "backslashreplace"))


main()
