"""The handler with real workers: ours, and flup's WSGIServer unchanged."""

import asyncio
import hashlib
import os
import signal
import socket
import subprocess
import sys

import pytest

from gateway.exchange import Refused, Truncated

APPLICATION = """
import hashlib, os, sys, time
from wsgiref.validate import validator


def plain(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if path == "/raise":
        raise RuntimeError("on purpose")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/pid":
        return [str(os.getpid()).encode()]
    if path == "/wait":
        open(query).read()
        return [str(os.getpid()).encode()]
    if path == "/size":
        return [b"x" * int(query)]
    if path == "/die":
        os.kill(os.getpid(), 9)
    if path == "/stderr":
        environ["wsgi.errors"].write("caf\\xe9 \\x1b[1m\\nforged\\r\\n")
        environ["wsgi.errors"].flush()
    data = environ["wsgi.input"].read(length)
    return [("%d %s" % (len(data), hashlib.sha256(data).hexdigest())).encode()]


checked = validator(plain)


def dying():
    yield b"some"
    os.kill(os.getpid(), 9)


def application(environ, start_response):
    if environ["PATH_INFO"] == "/dying":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return dying()
    return checked(environ, start_response)
"""

ENGINES = pytest.mark.parametrize("engine", ["gateway", "flup"])


@ENGINES
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 99000, 5 << 20])
def test_bodies_both_ways(setup, run, start, new_request, pieces, engine, size):
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]

    async def main():
        start(APPLICATION, engine=engine)
        backend = setup.backend()
        cut = [data[at : at + 50000] for at in range(0, size, 50000)]
        request = new_request("POST", body=pieces(*cut), path=b"/hash")
        _, answer = await setup.ask(backend, request)
        assert answer == f"{size} {hashlib.sha256(data).hexdigest()}".encode()
        request = new_request(path=b"/size", query=b"%d" % size)
        _, answer = await setup.ask(backend, request)
        assert answer == b"x" * size
        backend.supply.close()

    run(main())


@ENGINES
def test_many_at_once(setup, run, start, new_request, pieces, engine):
    async def main():
        for _ in range(2):
            start(APPLICATION, engine=engine)
        backend = setup.backend(capacity=4)

        async def ask(number):
            body = pieces(b"y" * number)
            _, answer = await setup.ask(
                backend, new_request("POST", body=body, length=number, path=b"/")
            )
            assert answer.startswith(b"%d " % number)

        await asyncio.gather(*(ask(number) for number in range(0, 20000, 100)))
        assert backend.supply.pool.open <= 4
        backend.supply.close()

    run(main())


@ENGINES
def test_stderr_of_the_application_is_in_the_log(setup, run, start, new_request, engine):
    async def main():
        start(APPLICATION, engine=engine)
        backend = setup.backend()
        response, _ = await setup.ask(backend, new_request(path=b"/stderr"))
        assert response.status == 200
        backend.supply.close()

    run(main())
    assert "[r1] app: caf\xe9 \\x1b[1m\n" in setup.logged()
    assert "[r1] app: forged\n" in setup.logged()


def test_exception_is_a_500_with_the_traceback_in_the_log(setup, run, start, new_request):
    async def main():
        start(APPLICATION)
        backend = setup.backend()
        response, answer = await setup.ask(backend, new_request(path=b"/raise"))
        assert response.status == 500
        assert b"on purpose" not in answer
        backend.supply.close()

    run(main())
    assert "[r1] app: RuntimeError: on purpose" in setup.logged()


@ENGINES
def test_worker_killed_in_the_answer_shows(setup, run, start, new_request, engine):
    async def main():
        start(APPLICATION, engine=engine)
        backend = setup.backend()
        async with backend(new_request(path=b"/dying")) as response:
            assert await response.body.read() == b"some"
            with pytest.raises(Truncated):
                await response.body.read()
        assert backend.supply.pool.open == 0

    run(main())


@ENGINES
def test_worker_killed_before_the_head_is_a_502(setup, run, start, new_request, engine):
    async def main():
        start(APPLICATION, engine=engine)
        backend = setup.backend()
        with pytest.raises(Refused) as caught:
            await setup.ask(backend, new_request("POST", path=b"/die"))
        assert caught.value.status == 502

    run(main())


def test_worker_replaced_between_requests_is_not_noticed(setup, run, start, new_request):
    async def main():
        first = start(APPLICATION)
        backend = setup.backend()
        _, answer = await setup.ask(backend, new_request(path=b"/pid"))
        assert int(answer) == first.pid
        second = start(APPLICATION)
        first.send_signal(signal.SIGTERM)
        assert first.wait(15) == 0
        _, answer = await setup.ask(backend, new_request(path=b"/pid"))
        assert int(answer) == second.pid
        backend.supply.close()

    run(main())


def test_requests_go_on_while_workers_reach_their_max_requests(
    setup, run, start, new_request, pieces
):
    async def main():
        processes = [start(APPLICATION, "--max-requests", "10") for _ in range(2)]
        backend = setup.backend(capacity=2)
        for number in range(60):
            body = pieces(b"z" * 10)
            response, _ = await setup.ask(backend, new_request("POST", body=body))
            assert response.status == 200
            if any(process.poll() is not None for process in processes[-2:]) or number % 5 == 0:
                processes.append(start(APPLICATION, "--max-requests", "10"))
        backend.supply.close()

    run(main())


def test_slow_request_does_not_hold_others_up(setup, run, start, new_request):
    async def main():
        gate = setup.directory / "gate"
        os.mkfifo(gate)
        for _ in range(2):
            start(APPLICATION)
        backend = setup.backend(capacity=4)
        await asyncio.gather(*(setup.ask(backend, new_request(path=b"/pid")) for _ in range(8)))
        slow = asyncio.create_task(
            setup.ask(backend, new_request(path=b"/wait", query=bytes(gate)))
        )
        held = await asyncio.to_thread(open, gate, "w")
        for _ in range(
            4
        ):  # on any of the kept connections, of which the slow one's worker has some
            asked = [setup.ask(backend, new_request(path=b"/pid")) for _ in range(3)]
            answers = {answer for _, answer in await asyncio.gather(*asked)}
            assert len(answers) == 1
        held.close()
        _, answer = await slow
        assert answer not in answers
        backend.supply.close()

    run(main())


FORKING = """
from flup.server.fcgi_fork import WSGIServer
from app import application
WSGIServer(application, minSpare=1, maxSpare=2, maxChildren=2).run()
"""
THREADED = """
from flup.server.fcgi import WSGIServer
from app import application
WSGIServer(application).run()
"""


@pytest.mark.parametrize("program", [THREADED, FORKING], ids=["threaded", "forking"])
def test_flup_as_shared_hosting_has_it(setup, run, new_request, pieces, program):
    """A dispatch.fcgi that knows nothing of us, its listening socket on descriptor 0."""
    (setup.directory / "app.py").write_text(APPLICATION)
    (setup.directory / "dispatch.fcgi").write_text(program)

    async def main():
        backend = setup.backend(keep=False)
        for number in range(5):
            body = pieces(b"q" * 70000)
            _, answer = await setup.ask(backend, new_request("POST", body=body, path=b"/"))
            assert answer.startswith(b"70000 "), number

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(setup.path)
        listener.listen(8)
        process = subprocess.Popen(
            [sys.executable, str(setup.directory / "dispatch.fcgi")],
            stdin=listener,
            start_new_session=True,
        )
        try:
            run(main())
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # flup's forking server does not mind a TERM
            process.wait(15)
