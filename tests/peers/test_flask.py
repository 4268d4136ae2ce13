"""A Flask application with sessions and an upload, on both engines, with requests as the client."""

import hashlib
import os
import sys

import pytest
import requests

pytestmark = pytest.mark.peer("python:flask")

APPLICATION = """
import hashlib
import os

from flask import Flask, Response, redirect, request, session, url_for

app = Flask(__name__)
app.secret_key = "not a secret"


@app.get("/")
def index():
    session["visits"] = session.get("visits", 0) + 1
    return {"visits": session["visits"], "self": url_for("index", _external=True)}


@app.post("/login")
def login():
    session["name"] = request.form["name"]
    return redirect(url_for("who"))


@app.get("/who")
def who():
    return session.get("name", "nobody")


@app.post("/upload")
def upload():
    file = request.files["file"]
    data = file.read()
    return f"{file.filename} {len(data)} {hashlib.sha256(data).hexdigest()}"


@app.get("/stream")
def stream():
    return Response((f"piece {n}\\n" for n in range(1000)), mimetype="text/plain")


@app.get("/header")
def header():
    return {"names": sorted(name.lower() for name in request.headers.keys()),
            "proxy": os.environ.get("HTTP_PROXY")}


@app.get("/broken")
def broken():
    raise RuntimeError("broken on purpose")
"""


@pytest.fixture(params=["gateway", "flup"])
def base(request, gateway, root, tmp_path):
    (tmp_path / "shop.py").write_text(APPLICATION)
    daemon = gateway(
        f'[[site]]\nhosts = ["localhost"]\nroot = "{root}"\n'
        '[[site.route]]\npath = "/shop/"\npool = "shop"\n'
        f'[pool.shop]\nwsgi = "shop:app"\nengine = "{request.param}"\n'
        f'directory = "{tmp_path}"\npython = "{sys.executable}"\nprocesses = 2\nthreads = 2\n'
    )
    return f"{daemon.url}/shop"


@pytest.fixture
def client():
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_session_goes_on_over_requests(base, client):
    answers = [client.get(f"{base}/", timeout=30).json() for _ in range(4)]
    assert [answer["visits"] for answer in answers] == [1, 2, 3, 4]
    assert answers[0]["self"] == f"{base}/"


def test_login_redirects_within_the_application(base, client):
    answer = client.post(f"{base}/login", data={"name": "Ärmin"}, timeout=30)
    assert (answer.text, answer.url) == ("Ärmin", f"{base}/who")
    assert [step.status_code for step in answer.history] == [302]


def test_upload(base, client):
    data = os.urandom(5 << 20)
    answer = client.post(f"{base}/upload", files={"file": ("a b.bin", data)}, timeout=30)
    assert answer.text == f"a b.bin {len(data)} {hashlib.sha256(data).hexdigest()}"


def test_streamed_answer(base, client):
    answer = client.get(f"{base}/stream", timeout=30)
    assert answer.text == "".join(f"piece {n}\n" for n in range(1000))


def test_proxy_header_does_not_arrive(base, client):
    answer = client.get(f"{base}/header", headers={"Proxy": "http://evil/"}, timeout=30).json()
    assert "proxy" not in answer["names"]
    assert answer["proxy"] is None


def test_head_and_options(base, client):
    head = client.head(f"{base}/who", timeout=30)
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", "6")
    assert "GET" in client.options(f"{base}/who", timeout=30).headers["Allow"]


def test_errors_of_the_application(base, client):
    assert client.get(f"{base}/none", timeout=30).status_code == 404
    assert client.get(f"{base}/broken", timeout=30).status_code == 500
    assert client.get(f"{base}/who", timeout=30).text == "nobody"
