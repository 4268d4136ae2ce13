"""flup's WSGIServer: unchanged, as shared hosting has it, and as an engine of ours."""

import hashlib
import os
import sys

import pytest

pytestmark = pytest.mark.peer("python:flup")

APPLICATION = """
import hashlib
import os


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/boom":
        raise RuntimeError("boom on purpose")
    if path == "/large":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (bytes([n]) * 70_000 for n in range(10))
    if path == "/complain":
        environ["wsgi.errors"].write("a word from the application\\n")
        environ["wsgi.errors"].flush()
    length = int(environ.get("CONTENT_LENGTH") or 0)
    data = environ["wsgi.input"].read(length)
    lines = [
        environ["REQUEST_METHOD"], environ["SCRIPT_NAME"], path, environ["QUERY_STRING"],
        str(len(data)), hashlib.sha256(data).hexdigest(), str(os.getpid()),
    ]
    body = "\\n".join(lines).encode()
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]
"""

DISPATCH = (
    f"#!{sys.executable}\n{APPLICATION}\n"
    "if __name__ == '__main__':\n"
    "    from flup.server.fcgi import WSGIServer\n"
    "    WSGIServer(application).run()\n"
)


@pytest.fixture(params=["file", "engine"])
def served(request, gateway, script, root, tmp_path):
    """The application behind /app: as a dispatch.fcgi that flup knows, and as a pool."""
    if request.param == "file":
        script("app.fcgi", DISPATCH)
        daemon = gateway(
            f'[[site]]\nhosts = ["localhost"]\nroot = "{root}"\n'
            '[[site.route]]\nmatch = "*.fcgi"\nfastcgi = true\n'
        )
        return daemon, "/app.fcgi"
    (tmp_path / "hello.py").write_text(APPLICATION)
    daemon = gateway(
        f'[[site]]\nhosts = ["localhost"]\nroot = "{root}"\n'
        '[[site.route]]\npath = "/app/"\npool = "app"\n'
        '[pool.app]\nwsgi = "hello:application"\nengine = "flup"\n'
        f'directory = "{tmp_path}"\npython = "{sys.executable}"\nprocesses = 1\n'
    )
    return daemon, "/app"


def test_names_and_query(served):
    daemon, base = served
    answer = daemon.get(f"{base}/a%20path?q=1&r=%2F")
    assert answer.status_code == 200, daemon.log
    assert answer.text.split("\n")[:4] == ["GET", base, "/a path", "q=1&r=%2F"]


def test_one_process_answers_many_requests(served):
    daemon, base = served
    pids = {daemon.get(f"{base}/").text.split("\n")[-1] for _ in range(10)}
    assert len(pids) == 1


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1_000_003])
def test_request_body(served, size):
    daemon, base = served
    data = os.urandom(size)
    answer = daemon.request("POST", f"{base}/", data=data)
    assert answer.text.split("\n")[4:6] == [str(size), hashlib.sha256(data).hexdigest()]


def test_chunked_request_body(served):
    daemon, base = served
    answer = daemon.request("POST", f"{base}/", data=iter([b"one", b"two", b"x" * 100_000]))
    data = b"onetwo" + b"x" * 100_000
    assert answer.status_code == 200, daemon.log
    assert answer.text.split("\n")[4:6] == [str(len(data)), hashlib.sha256(data).hexdigest()]


def test_large_answer_of_unknown_length(served):
    daemon, base = served
    assert daemon.get(f"{base}/large").content == b"".join(bytes([n]) * 70_000 for n in range(10))


def test_exception_is_answered_and_the_worker_goes_on(served):
    daemon, base = served
    assert daemon.get(f"{base}/boom").status_code in (200, 500)  # flup shows its own page
    assert daemon.get(f"{base}/").status_code == 200


def test_errors_stream_is_in_the_log(served):
    daemon, base = served
    assert daemon.get(f"{base}/complain").status_code == 200
    assert "a word from the application" in daemon.log
