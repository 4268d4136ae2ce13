"""A Flask application: a notebook of one's own, kept in the session, and a place for an upload."""

import hashlib
import os
import secrets

from flask import Flask, redirect, render_template_string, request, session, url_for
from werkzeug.wrappers import Response

app = Flask(__name__)
# Made anew at each start, so notes are forgotten then, and with more than one worker process each
# would have its own: a real application reads its key from a file that only it may read.
app.secret_key = os.environ.get("NOTES_KEY") or secrets.token_bytes(32)
app.config["MAX_CONTENT_LENGTH"] = 32 << 20
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"

KEPT = 10

PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Flask</title><link rel="stylesheet" href="/style.css">
<main class="page">
<h1>Flask</h1>
<p>Process {{ pid }} runs this application. Your notes are in your session.
{% if notes %}<table>
{% for note in notes %}<tr><th>Note {{ loop.index }}<td>{{ note }}
{% endfor %}</table>{% endif %}
<form method="post" action="{{ url_for('add') }}">
<label>A note <input name="note" maxlength="200" required></label>
<button>Keep it</button>
</form>
<h2>An upload</h2>
<form method="post" action="{{ url_for('upload') }}" enctype="multipart/form-data">
<label>A file <input type="file" name="file" required></label>
<button>Measure it</button>
</form>
{% if measured %}<pre>{{ measured }}</pre>{% endif %}
<p><a href="/">Back to all examples</a>
</main>
"""


def page(measured: str = "") -> str:
    return render_template_string(
        PAGE, pid=os.getpid(), notes=session.get("notes", []), measured=measured
    )


@app.get("/")
def index() -> str:
    return page()


@app.post("/add")
def add() -> Response:
    note = request.form.get("note", "").strip()[:200]
    if note:
        session["notes"] = [*session.get("notes", []), note][-KEPT:]
    return redirect(url_for("index"))


@app.post("/upload")
def upload() -> str:
    file = request.files["file"]
    size, digest = 0, hashlib.sha256()
    while piece := file.stream.read(65536):
        size += len(piece)
        digest.update(piece)
    return page(f"{file.filename}\n{size} bytes\nsha256 {digest.hexdigest()}")
