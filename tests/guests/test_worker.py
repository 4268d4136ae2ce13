"""Our WSGI worker, as a process of its own: what it makes of requests, good and bad."""

import hashlib
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys

import pytest

from gateway.guests import WORKER

SIZES = [0, 1, 65535, 65536, 65537, 99000, 5 << 20]
BEGIN_1 = struct.pack(">HB5x", 1, 1)


def expected(size):
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    return data, b"%d %s" % (size, hashlib.sha256(data).hexdigest().encode())


# Requests and answers


def test_hello_on_every_python(make_pool, any_python):
    pool = make_pool(python=any_python)
    pool.start()
    client = pool.connect()
    for _ in range(2):
        reply = client.ask("/")
        assert reply.head[0] == b"Status: 200 OK"
        assert b"Content-Length: 12" in reply.head
        assert reply.body == b"hello world\n"
        assert (reply.app_status, reply.protocol_status) == (0, 0)


def test_environ_is_what_pep_3333_says(client):
    reply = client.ask("/environ", "a=%20", HTTP_X="\xe4\xff", HTTPS="on", CONTENT_LENGTH="")
    environ = json.loads(reply.body)
    assert environ["HTTP_X"] == "\xe4\xff"
    assert environ["QUERY_STRING"] == "a=%20"
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["wsgi.version"] == [1, 0]
    assert environ["wsgi.multithread"] is False
    assert environ["wsgi.multiprocess"] is True
    assert environ["wsgi.run_once"] is False


def test_scheme_from_request_scheme(client):
    assert json.loads(client.ask("/environ").body)["wsgi.url_scheme"] == "http"
    reply = client.ask("/environ", REQUEST_SCHEME="https")
    assert json.loads(reply.body)["wsgi.url_scheme"] == "https"


def test_what_a_front_leaves_out_is_filled_in(client, wire):
    client.send(wire.record(1, BEGIN_1) + wire.record(4, wire.pair(b"PATH_INFO", b"/environ")))
    client.send(wire.record(4) + wire.record(5))
    environ = json.loads(client.reply().body)
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SERVER_PORT"] == "80"
    assert environ["QUERY_STRING"] == environ["SCRIPT_NAME"] == ""


def test_a_parameter_cannot_replace_the_workers_own_keys(client):
    reply = client.ask("/environ", **{"wsgi.multithread": "yes", "wsgi.url_scheme": "gopher"})
    environ = json.loads(reply.body)
    assert environ["wsgi.multithread"] is False
    assert environ["wsgi.url_scheme"] == "http"


def test_variables_of_one_request_are_not_in_the_next(client):
    client.ask("/environ", HTTP_COOKIE="secret", CONTENT_TYPE="a/b")
    environ = json.loads(client.ask("/environ").body)
    assert "HTTP_COOKIE" not in environ
    assert "CONTENT_TYPE" not in environ


def test_validator_has_no_complaint(make_pool):
    pool = make_pool(
        "from wsgiref.validate import validator\n"
        "def plain(environ, start_response):\n"
        "    data = environ['wsgi.input'].read(10) + environ['wsgi.input'].readline()\n"
        "    print('noted', file=environ['wsgi.errors'])\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [data]\n"
        "application = validator(plain)\n"
    )
    pool.start()
    client = pool.connect()
    reply = client.ask("/x", data=b"0123456789line\nmore")
    assert reply.body == b"0123456789line\n"
    assert reply.stderr == b"noted\n"
    assert client.ask("/x").body == b""


@pytest.mark.parametrize("size", SIZES)
def test_body_of_any_size_arrives(client, size):
    data, answer = expected(size)
    assert client.ask("/hash", data=data).body == answer
    assert client.ask("/").body == b"hello world\n"


def test_body_in_many_small_records(client):
    data, answer = expected(5000)
    client.begin("/hash", REQUEST_METHOD="POST", CONTENT_LENGTH="5000")
    client.body(data, piece=7)
    assert client.reply().body == answer


@pytest.mark.parametrize("size", SIZES)
def test_answer_of_any_size_comes_whole(client, size):
    assert client.ask("/size", str(size)).body == b"x" * size
    pieces = client.ask("/pieces", f"1,{size},0,2").body
    assert pieces == b"x" * (size + 3)


def test_answer_starts_before_the_body_is_complete(client):
    client.begin("/echo", REQUEST_METHOD="POST", CONTENT_LENGTH="3000")
    for letter in (b"a", b"b", b"c"):
        client.send(struct.pack(">BBHHBx", 1, 5, 1, 1000, 0) + letter * 1000)
        kind, _, content = client.record()
        assert kind == 6
        assert content.endswith(letter * 1000)
    client.send(struct.pack(">BBHHBx", 1, 5, 1, 0, 0))
    assert client.reply().app_status == 0


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("body.read()", b"one\ntwo\nthree"),
        ("body.read(5), body.read(100), body.read(1)", (b"one\nt", b"wo\nthree", b"")),
        ("body.readline(), body.readline(2), body.readline()", (b"one\n", b"tw", b"o\n")),
        ("body.readlines()", [b"one\n", b"two\n", b"three"]),
        ("list(body)", [b"one\n", b"two\n", b"three"]),
        ("body.read(0)", b""),
    ],
)
def test_ways_to_read_the_body(client, expression, value, late):
    data = b"one\ntwo\nthree"
    client.begin("/read", expression, REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(data)))
    if late:  # so that it is not there yet when the application is called
        client.body(data[:6] + data[6:], piece=4)
    else:
        client.send(b"")
        client.body(data)
    assert client.reply().body == repr(value).encode()


def test_no_more_than_the_announced_length_is_read(client):
    client.begin("/read", "body.read()", REQUEST_METHOD="POST", CONTENT_LENGTH="3")
    client.body(b"abcdef")
    assert client.reply().body == b"b'abc'"
    assert client.ask("/").body == b"hello world\n"


def test_body_without_length_is_read_to_its_end(client):
    client.begin("/read", "body.read()", REQUEST_METHOD="POST")
    client.body(b"abcdef")
    assert client.reply().body == b"b'abcdef'"


def test_body_shorter_than_announced_is_no_body(client):
    client.begin("/read", "body.read()", REQUEST_METHOD="POST", CONTENT_LENGTH="9000")
    client.body(b"abcdef")
    assert b"200" not in client.reply().stdout


def test_body_that_nobody_reads_is_skipped(client):
    data = b"x" * 300_000
    client.begin("/", REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(data)))
    client.body(data)
    assert client.reply().body == b"hello world\n"
    assert client.ask("/").body == b"hello world\n"


def test_pieces_are_sent_without_delay(client, gate, opened):
    client.begin("/gated", gate)
    client.body(b"")
    kind, _, content = client.record()
    assert (kind, content.endswith(b"\r\n\r\nfirst")) == (6, True)
    opened(gate)
    assert client.reply().stdout == b"second"


def test_head_is_answered_without_a_body(client):
    reply = client.ask("/", REQUEST_METHOD="HEAD")
    assert b"Content-Length: 12" in reply.head
    assert reply.body == b""
    assert client.ask("/pieces", "5,6", REQUEST_METHOD="HEAD").body == b""


def test_the_write_callable(client):
    assert client.ask("/write").body == b"written returned"


def test_file_wrapper(client, tmp_path):
    (tmp_path / "large").write_bytes(b"abc" * 100_000)
    assert client.ask("/file", str(tmp_path / "large")).body == b"abc" * 100_000


def test_close_is_called_at_the_end(client, tmp_path, eventually):
    assert client.ask("/closing", str(tmp_path / "log")).body == b"ab"
    eventually(lambda: (tmp_path / "log").exists())


def test_close_is_called_when_the_peer_leaves(pool, tmp_path, eventually):
    pool.start()
    for _ in range(3):
        client = pool.connect()
        client.begin("/closing", str(tmp_path / "log"))
        client.close()
    other = pool.connect()
    assert other.ask("/").body == b"hello world\n"
    eventually(lambda: (tmp_path / "log").read_text().count("closed") == 3)


# What an application does wrong


def test_an_exception_is_a_500_with_its_traceback(client):
    reply = client.ask("/raise")
    assert reply.head[0] == b"Status: 500 Internal Server Error"
    assert b"RuntimeError: on purpose" in reply.stderr
    assert b"on purpose" not in reply.stdout
    assert client.ask("/").body == b"hello world\n"


def test_an_exception_after_the_head_cuts_the_connection(client):
    reply = client.ask("/failing")
    assert reply.body == b"some"
    assert reply.app_status == -1
    assert b"in the middle" in reply.stderr


@pytest.mark.parametrize(
    "path", ["/exit", "/twice", "/split", "/str", "/none", "/status?abc", "/status?200\nX: y"]
)
def test_misuse_is_a_500_and_the_worker_goes_on(client, path):
    reply = client.ask(*path.split("?"))
    assert reply.head[0] == b"Status: 500 Internal Server Error"
    assert b"X-Forged" not in reply.stdout
    assert b"Traceback" in reply.stderr
    assert client.ask("/").body == b"hello world\n"


def test_exc_info_replaces_the_head(client):
    reply = client.ask("/again")
    assert reply.head[0] == b"Status: 503 Busy"
    assert b"X-New: 1" in reply.head
    assert b"X-Old: 1" not in reply.head


def test_no_length_is_made_up_where_there_is_no_body(client):
    for status in ("204 No Content", "304 Not Modified"):
        assert b"Content-Length" not in client.ask("/status", status).stdout


def test_wsgi_errors_are_stderr_records(client):
    reply = client.ask("/errors")
    assert reply.stderr == b"one\ntwothree\n"
    assert reply.body == b"done"


# The protocol


def test_everything_byte_by_byte(client):
    request = (
        struct.pack(">BBHHBx", 1, 1, 1, 8, 0)
        + BEGIN_1
        + struct.pack(">BBHHBx", 1, 4, 1, len(client.params("/")), 0)
        + client.params("/")
        + struct.pack(">BBHHBx", 1, 4, 1, 0, 0)
        + struct.pack(">BBHHBx", 1, 5, 1, 0, 0)
    )
    for at in range(len(request)):
        client.send(request[at : at + 1])
    assert client.reply().body == b"hello world\n"


def test_params_split_at_every_byte(client, wire):
    params = client.params("/environ", HTTP_LONG="v" * 200)
    for at in range(1, len(params)):
        client.send(
            wire.record(1, BEGIN_1)
            + wire.record(4, params[:at], padding=at % 8)
            + wire.record(4, params[at:])
            + wire.record(4)
            + wire.record(5)
        )
        assert json.loads(client.reply().body)["HTTP_LONG"] == "v" * 200


def test_params_over_many_records(client, wire):
    params = client.params("/environ", HTTP_LONG="v" * 200_000)
    client.send(wire.record(1, BEGIN_1))
    for at in range(0, len(params), 65535):
        client.send(wire.record(4, params[at : at + 65535]))
    client.send(wire.record(4) + wire.record(5))
    assert json.loads(client.reply().body)["HTTP_LONG"] == "v" * 200_000


def test_without_keep_conn_the_connection_ends(client):
    client.begin("/", keep=False)
    client.body(b"")
    assert client.reply().body == b"hello world\n"
    assert client.ended()


def test_two_requests_sent_at_once_are_answered_in_order(client):
    for number, path in ((3, "/size"), (4, "/pieces")):
        client.begin(path, str(number), request=number)
        client.body(b"", request=number)
    assert client.reply(3).body == b"xxx"
    assert client.reply(4).body == b"xxxx"


def test_a_second_request_while_the_first_sends_its_body_is_refused(client):
    client.begin("/hash", request=1, REQUEST_METHOD="POST", CONTENT_LENGTH="3")
    client.begin("/", request=2)
    client.body(b"", request=2)
    client.body(b"abc", request=1)
    kind, request, content = client.record()
    assert (kind, request, content[4]) == (3, 2, 1)
    assert client.reply(1).body.startswith(b"3 ")


def test_get_values(client, wire):
    client.send(
        wire.record(
            9,
            wire.pair(b"FCGI_MPXS_CONNS", b"")
            + wire.pair(b"FCGI_MAX_REQS", b"")
            + wire.pair(b"OTHER", b""),
            request=0,
        )
    )
    kind, request, content = client.record()
    assert (kind, request) == (10, 0)
    assert content == wire.pair(b"FCGI_MPXS_CONNS", b"0") + wire.pair(b"FCGI_MAX_REQS", b"1")


def test_unknown_management_record(client, wire):
    client.send(wire.record(77, b"abc", request=0))
    assert client.record() == (11, 0, bytes((77, 0, 0, 0, 0, 0, 0, 0)))
    assert client.ask("/").body == b"hello world\n"


@pytest.mark.parametrize("role", [0, 2, 3, 999])
def test_unknown_role_is_refused(client, wire, role):
    client.send(wire.record(1, struct.pack(">HB5x", role, 1)))
    client.send(wire.record(4, client.params("/")) + wire.record(4) + wire.record(5))
    assert client.reply().protocol_status == 3
    assert client.ask("/").body == b"hello world\n"


def test_abort_before_the_request_is_complete(client, wire):
    client.send(wire.record(1, BEGIN_1) + wire.record(4, client.params("/")) + wire.record(2))
    assert client.reply().app_status == 0
    assert client.ask("/").body == b"hello world\n"


def test_abort_while_the_body_is_read(client, wire, pool):
    client.begin("/hash", REQUEST_METHOD="POST", CONTENT_LENGTH="9")
    client.send(wire.record(5, b"abc") + wire.record(2))
    assert b"200 OK" not in client.reply().stdout
    assert pool.connect().ask("/").body == b"hello world\n"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        struct.pack(">BBHHBx", 2, 1, 1, 8, 0) + BEGIN_1,
        struct.pack(">BBHHBx", 1, 1, 0, 8, 0) + BEGIN_1,
        struct.pack(">BBHHBx", 1, 1, 1, 4, 0) + b"\0\1\0\0",
        struct.pack(">BBHHBx", 1, 1, 1, 8, 0)
        + BEGIN_1
        + struct.pack(">BBHHBx", 1, 1, 1, 8, 0)
        + BEGIN_1,
        struct.pack(">BBHHBx", 1, 1, 1, 8, 0) + BEGIN_1 + struct.pack(">BBHHBx", 1, 6, 1, 0, 0),
        *(
            struct.pack(">BBHHBx", 1, 1, 1, 8, 0)
            + BEGIN_1
            + struct.pack(">BBHHBx", 1, 4, 1, len(params), 0)
            + params
            + struct.pack(">BBHHBx", 1, 4, 1, 0, 0)
            for params in (
                b"\x01",
                b"\xff\xff",
                b"\xff\xff\xff\xff\xff\xff\xff\xffab",
                b"\x05\x05ab",
            )
        ),
    ],
)
def test_what_is_not_fastcgi_closes_that_connection_only(client, pool, data):
    client.send(data)
    assert client.ended()
    assert pool.connect().ask("/").body == b"hello world\n"


def test_params_without_end_are_bounded(client, wire, pool):
    client.send(wire.record(1, BEGIN_1))

    def send_for_ever():
        while True:
            client.send(wire.record(4, b"\0" * 65535))

    with pytest.raises(ConnectionError):
        send_for_ever()
    assert pool.connect().ask("/").body == b"hello world\n"


def test_half_a_request_does_not_occupy_the_worker(pool, wire):
    pool.start()
    half = pool.connect()
    half.send(wire.record(1, BEGIN_1) + wire.record(4, half.params("/"))[:20])
    silent = pool.connect()
    assert pool.connect().ask("/").body == b"hello world\n"
    half.send(wire.record(4, half.params("/"))[20:] + wire.record(4) + wire.record(5))
    assert half.reply().body == b"hello world\n"
    assert silent.ask("/").body == b"hello world\n"


# Several workers, several threads


def test_a_kept_connection_does_not_wait_behind_a_slow_request(pool, gate):
    first = pool.start()
    slow, other = pool.connect(), pool.connect()
    for client in (slow, other):
        assert int(client.ask("/pid").body) == first.pid
    second = pool.start()
    fresh = pool.connect()
    slow.begin("/wait", gate)
    slow.body(b"")
    with open(gate, "w"):  # the first worker is there, and stays until this is closed
        for client in (other, fresh, pool.connect()):
            assert int(client.ask("/pid").body) == second.pid
    assert int(slow.reply().body) == first.pid


def test_with_all_workers_busy_a_request_waits_for_the_first_free_one(pool, gate):
    pool.start()
    slow, other = pool.connect(), pool.connect()
    assert slow.ask("/").body == other.ask("/").body
    slow.begin("/wait", gate)
    slow.body(b"")
    with open(gate, "w"):
        other.begin("/")
        other.body(b"")
    assert other.reply().body == b"hello world\n"
    assert slow.reply().app_status == 0


def test_threads_serve_at_once_in_one_process(pool, gate):
    process = pool.start("--threads", "2")
    slow, other = pool.connect(), pool.connect()
    slow.begin("/wait", gate)
    slow.body(b"")
    with open(gate, "w"):
        for _ in range(3):
            assert int(other.ask("/pid").body) == process.pid
        assert json.loads(other.ask("/environ").body)["wsgi.multithread"] is True
    assert int(slow.reply().body) == process.pid


def test_with_all_threads_busy_a_kept_connection_goes_to_another_worker(pool, tmp_path):
    gates = [str(tmp_path / f"gate{number}") for number in range(2)]
    for gate in gates:
        os.mkfifo(gate)
    first = pool.start("--threads", "2")
    clients = [pool.connect() for _ in range(3)]
    for client in clients:
        assert int(client.ask("/pid").body) == first.pid
    for client, gate in zip(clients, gates, strict=False):
        client.begin("/wait", gate)
        client.body(b"")
    second = pool.start("--threads", "2")
    with open(gates[0], "w"), open(gates[1], "w"):
        assert int(clients[2].ask("/pid").body) == second.pid
    assert int(clients[0].reply().body) == int(clients[1].reply().body) == first.pid


@pytest.mark.parametrize("size", [0, 65537, 1 << 20])
def test_threads_take_bodies_of_any_size(threaded, pool, size):
    data, answer = expected(size)
    clients = [threaded, *(pool.connect() for _ in range(5))]
    for _ in range(3):
        for client in clients:
            client.begin("/hash", REQUEST_METHOD="POST", CONTENT_LENGTH=str(size))
            client.body(data)
        for client in clients:
            assert client.reply().body == answer


def test_many_connections_over_several_workers(pool):
    for _ in range(3):
        pool.start()
    clients = [pool.connect() for _ in range(20)]
    for _ in range(20):
        for client in clients:
            client.begin("/hash", REQUEST_METHOD="POST", CONTENT_LENGTH="1000")
            client.body(b"y" * 1000)
        for client in clients:
            assert client.reply().body.startswith(b"1000 ")


# Leaving


@pytest.mark.parametrize("threads", ["1", "2"])
def test_max_requests_ends_the_worker_and_no_request_is_lost(pool, threads):
    options = ("--threads", threads, "--max-requests", "5")
    first = pool.start(*options)
    clients = [pool.connect() for _ in range(2)]
    pids = [int(clients[n % 2].ask("/pid").body) for n in range(4)]
    assert set(pids) == {first.pid}
    pool.start(*options)
    for number in range(6):  # one more by the first worker, five by the second
        assert clients[number % 2].ask("/").body == b"hello world\n"
    pool.start(*options)
    assert clients[0].ask("/").body == b"hello world\n"
    code, errors = pool.outcome(first)
    assert (code, errors) == (0, "")


@pytest.mark.parametrize("threads", ["1", "2"])
def test_term_ends_an_idle_worker(pool, threads):
    process = pool.start("--threads", threads)
    client = pool.connect()
    client.ask("/")
    process.send_signal(signal.SIGTERM)
    assert pool.outcome(process) == (0, "")
    assert client.ended()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_term_lets_a_request_finish(pool, gate, threads):
    process = pool.start("--threads", threads)
    client = pool.connect()
    client.begin("/wait", gate)
    client.body(b"")
    with open(gate, "w") as file:  # the application is there now
        process.send_signal(signal.SIGTERM)
        file.write("go")
    assert int(client.reply().body) == process.pid
    assert pool.outcome(process) == (0, "")


# Starting


@pytest.mark.parametrize(
    "target", ["app", "app:application", "app:inner.application", "app:make()"]
)
def test_ways_to_name_an_application(pool, target):
    pool.start(application=target)
    assert pool.connect().ask("/").body == b"hello world\n"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("missing", "No module named 'missing'"),
        ("app:absent", "has no attribute 'absent'"),
        ("app:number", "is not callable"),
        ("broken", "ZeroDivisionError"),
        ("quits", "SystemExit"),
    ],
)
def test_an_application_that_cannot_be_loaded_is_a_boot_failure(pool, target, why):
    (pool.directory / "broken.py").write_text("1 / 0\n")
    (pool.directory / "quits.py").write_text("raise SystemExit(0)\n")
    code, errors = pool.outcome(pool.start(application=target))
    assert code == 3
    assert "Traceback" in errors
    assert why in errors


@pytest.mark.parametrize("kind", ["null", "pipe", "connected"])
def test_without_a_listening_socket_it_says_so(kind, tmp_path):
    (tmp_path / "app.py").write_text("application = print\n")
    one, other = socket.socketpair()
    stdin = {"null": subprocess.DEVNULL, "pipe": subprocess.PIPE, "connected": one}[kind]
    done = subprocess.Popen(
        [sys.executable, WORKER, "--directory", str(tmp_path), "app"],
        stdin=stdin,
        stderr=subprocess.PIPE,
    )
    _, errors = done.communicate(timeout=15)
    one.close()
    other.close()
    assert done.returncode == 2
    assert b"descriptor 0 is not a listening socket" in errors
    assert b"Traceback" not in errors


@pytest.mark.parametrize("options", [["--threads", "x"], ["--max-requests", "-1"], []])
def test_wrong_arguments(options):
    done = subprocess.run(
        [sys.executable, WORKER, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"usage:" in done.stderr


def test_directory_that_is_not_there(pool):
    code, errors = pool.outcome(pool.start("--directory", "/nonexistent"))
    assert code == 2
    assert "/nonexistent" in errors


def test_a_socket_of_its_own(pool, tmp_path, eventually):
    path = str(tmp_path / "own.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)  # by a worker that was killed
    process = pool.start("--socket", path)

    def listens():
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(path) == 0

    eventually(listens)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    code, errors = pool.outcome(pool.start("--socket", path))
    assert code == 2
    assert "somebody listens" in errors
    pool.path = path
    assert pool.connect().ask("/").body == b"hello world\n"
    process.send_signal(signal.SIGTERM)
    assert pool.outcome(process) == (0, "")
    assert not os.path.exists(path)


def test_the_application_does_not_get_the_listening_socket(client):
    assert client.ask("/stdin").body == b"/dev/null"


def test_over_tcp(tmp_path):
    (tmp_path / "app.py").write_text(
        "def application(e, s):\n    s('200 OK', [])\n    return [b'tcp']\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [sys.executable, WORKER, "--directory", str(tmp_path), "app"], stdin=listener
        )
        try:
            with socket.create_connection(listener.getsockname()) as sock:
                sock.settimeout(15)
                begin = struct.pack(">BBHHBx", 1, 1, 1, 8, 0) + struct.pack(">HB5x", 1, 0)
                ends = struct.pack(">BBHHBx", 1, 4, 1, 0, 0) + struct.pack(">BBHHBx", 1, 5, 1, 0, 0)
                sock.sendall(begin + ends)
                data = b""
                while more := sock.recv(1000):
                    data += more
            assert b"\r\n\r\ntcp" in data
        finally:
            process.terminate()
            assert process.wait(15) == 0


# flup as an engine


def test_flup_serves_on_descriptor_0(flup_pool):
    flup_pool.start("--threads", "2")
    client = flup_pool.connect()
    for _ in range(3):
        assert client.ask("/").body == b"hello world\n"
    data, answer = expected(99000)
    assert client.ask("/hash", data=data).body == answer


def test_flup_connections_do_not_wait_for_each_other(flup_pool, gate):
    flup_pool.start("--threads", "8")
    slow, other = flup_pool.connect(), flup_pool.connect()
    slow.begin("/wait", gate)
    slow.body(b"")
    with open(gate, "w"):
        assert other.ask("/").body == b"hello world\n"
    assert slow.reply().app_status == 0


def test_flup_serves_every_kept_connection_of_a_crowd(flup_pool):
    """flup's own pool of threads leaves some of them waiting for ever."""
    for _ in range(2):
        flup_pool.start()
    clients = [flup_pool.connect() for _ in range(16)]
    pids = set()
    for _ in range(2):
        for client in clients:
            client.begin("/pid")
            client.body(b"")
        pids = {client.reply().body for client in clients}
    assert pids  # of one worker or both: who connects first is whoever has started first


def test_flup_leaves_with_idle_connections(flup_pool, gate):
    process = flup_pool.start()
    idle, busy = flup_pool.connect(), flup_pool.connect()
    assert idle.ask("/").body == b"hello world\n"
    busy.begin("/wait", gate)
    busy.body(b"")
    with open(gate, "w") as file:
        process.send_signal(signal.SIGTERM)
        file.write("go")
    assert int(busy.reply().body) == process.pid
    assert flup_pool.outcome(process)[0] == 0


def test_flup_boot_failure(flup_pool):
    code, errors = flup_pool.outcome(flup_pool.start(application="missing"))
    assert code == 3
    assert "No module named 'missing'" in errors
