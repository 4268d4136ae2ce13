"""One exchange with a worker that a test scripts: what each side sees, and what is left after."""

import asyncio
import gc
import os
import socket
import warnings

import pytest

from gateway.address import parse_remote
from gateway.backends.stream import USES_MAX
from gateway.exchange import Limits, LocalRedirect, Refused, Truncated
from gateway.process.descriptors import Descriptors

HEAD = b"Content-Type: text/plain\r\n\r\n"


def fields(response):
    return {name.lower(): value for name, value in response.headers}


# The way of one exchange


def test_answer_and_variables(setup, run, new_request, pieces):
    seen = []

    async def script(worker):
        params, body = await worker.request()
        seen.append((params, body))
        worker.answer(b"Status: 201 Made\r\nX-A: b\r\n" + HEAD + b"answer")
        assert await worker.left()

    async def main():
        backend = setup.backend(environment={b"EXTRA": b"1", b"REQUEST_METHOD": b"forged"})
        request = new_request(
            "POST", body=pieces(b"bo", b"dy"), path=b"/x", query=b"a=1", headers=((b"x-b", b"c"),)
        )
        async with setup.scripted(script):
            response, body = await setup.ask(backend, request)
            backend.supply.close()
        assert (response.status, response.reason) == (201, b"Made")
        assert fields(response)[b"x-a"] == b"b"
        assert body == b"answer"
        assert request.notes.script == "app"
        assert request.notes.exit_status == 0

    run(main())
    params, body = seen[0]
    assert body == b"body"
    assert params[b"CONTENT_LENGTH"] == b"4"
    assert params[b"REQUEST_METHOD"] == b"POST"
    assert params[b"QUERY_STRING"] == b"a=1"
    assert params[b"PATH_INFO"] == b"/x"
    assert params[b"HTTP_X_B"] == b"c"
    assert params[b"EXTRA"] == b"1"
    assert params[b"REQUEST_ID"] == b"r1"


def test_answer_comes_piece_by_piece(setup, run, new_request):
    async def main():
        step = asyncio.Event()

        async def script(worker):
            await worker.request()
            worker.out(HEAD)
            for number in range(3):
                await step.wait()
                step.clear()
                worker.out(b"%d" % number)
            worker.end()
            await worker.left()

        backend = setup.backend()
        async with setup.scripted(script):
            async with backend(new_request()) as response:
                for number in range(3):
                    step.set()
                    assert await response.body.read() == b"%d" % number
                assert await response.body.read() == b""
                assert await response.body.read() == b""
            backend.supply.close()

    run(main())


def test_answer_is_seen_while_the_body_is_still_sent(setup, run, new_request, pieces):
    async def main():
        step = asyncio.Event()

        async def script(worker):
            await worker.params()
            assert (await worker.record()).content == b"first"
            worker.out(HEAD + b"early")
            assert (await worker.record()).content == b"second"
            assert (await worker.record()).content == b""
            worker.answer(b" late")
            await worker.left()

        backend = setup.backend()
        body = pieces(b"first", step, b"second")
        async with setup.scripted(script):
            async with backend(new_request("POST", body=body)) as response:
                assert await response.body.read() == b"early"
                step.set()
                assert await response.body.read() == b" late"
                assert await response.body.read() == b""
            backend.supply.close()

    run(main())


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 99000, 5 << 20])
def test_bodies_of_any_size_both_ways(setup, run, new_request, pieces, size):
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]

    async def script(worker):
        _, body = await worker.request()
        assert body == data
        worker.answer(HEAD + body)
        await worker.left()

    async def main():
        backend = setup.backend()
        cut = [data[at : at + 70000] for at in range(0, size, 70000)]
        async with setup.scripted(script):
            _, body = await setup.ask(backend, new_request("POST", body=pieces(*cut)))
            assert body == data
            backend.supply.close()

    run(main())


def test_chunked_body_is_spooled_so_that_its_length_is_known(setup, run, new_request, pieces):
    async def script(worker):
        params, body = await worker.request()
        worker.answer(HEAD + params.get(b"CONTENT_LENGTH", b"none") + b" %d" % len(body))

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            body = pieces(b"x" * 100_000, b"y" * 30_000)
            _, answer = await setup.ask(backend, new_request("POST", body=body, length=None))
            assert answer == b"130000 130000"
            backend.supply.close()
            _, answer = await setup.ask(backend, new_request("POST", length=None))
            assert answer == b"none 0"

    run(main())


def test_chunked_body_is_streamed_where_the_route_says_so(setup, run, new_request, pieces):
    async def script(worker):
        params = await worker.params()
        assert b"CONTENT_LENGTH" not in params
        assert (await worker.record()).content == b"first"
        worker.out(HEAD + b"go on")
        assert await worker.body() == b"second"
        worker.end()
        await worker.left()

    async def main():
        backend = setup.backend(stream=True)
        body = pieces(b"first", b"second")
        async with setup.scripted(script):
            _, answer = await setup.ask(backend, new_request("POST", body=body, length=None))
            assert answer == b"go on"
            backend.supply.close()

    run(main())


@pytest.mark.parametrize("length", [None, 10])
def test_too_large_a_body_is_refused_and_the_worker_let_go(setup, run, new_request, pieces, length):
    async def script(worker):
        await worker.params()
        assert (await worker.record()).content == b"12345"
        assert await worker.left()

    async def main():
        backend = setup.backend()
        body = pieces(b"12345", Refused(413, "too large"))
        async with setup.scripted(script):
            refusal = await setup.refused(backend, new_request("POST", body=body, length=length))
            assert refusal.status == 413
        assert backend.supply.pool.open == 0

    run(main())


def test_body_that_breaks_off_after_the_head_shows(setup, run, new_request, pieces):
    async def script(worker):
        await worker.params()
        worker.out(HEAD + b"begun")
        assert (await worker.record()).content == b"12345"
        assert await worker.left()

    async def main():
        step = asyncio.Event()
        backend = setup.backend()
        body = pieces(b"12345", step, ConnectionResetError("client left"))
        async with setup.scripted(script):
            async with backend(new_request("POST", body=body, length=10)) as response:
                assert await response.body.read() == b"begun"
                step.set()
                with pytest.raises(ConnectionResetError):
                    await response.body.read()
            assert backend.supply.pool.open == 0

    run(main())


@pytest.mark.parametrize("close", [False, True])
def test_answer_to_an_unread_body_is_used(setup, run, new_request, pieces, close):
    """Also when our write fails because the worker has closed (EPIPE)."""

    async def script(worker):
        await worker.params()
        worker.answer(b"Status: 401\r\n" + HEAD + b"who are you?")
        if not close:
            assert (await worker.record()).content

    async def main():
        backend = setup.backend()
        for _ in range(5):
            setup.forget()
            body = pieces(*[b"x" * 65536] * 200)
            async with setup.scripted(script):
                response, answer = await setup.ask(backend, new_request("POST", body=body))
            assert (response.status, answer) == (401, b"who are you?")
            assert backend.supply.pool.open == 0  # out of step, so not kept

    run(main())


def test_head_request_has_the_length_and_no_body(setup, run, new_request):
    async def script(worker):
        await worker.request()
        worker.answer(b"Content-Length: 7\r\n" + HEAD + b"ignored")
        await worker.request()
        worker.answer(HEAD)
        await worker.left()

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            response, answer = await setup.ask(backend, new_request("HEAD"))
            assert (response.length, answer) == (7, b"")
            response, answer = await setup.ask(backend, new_request("HEAD"))
            assert (response.length, answer) == (None, b"")
            backend.supply.close()
        assert setup.connections == 1

    run(main())


def test_more_than_the_announced_length_is_cut(setup, run, new_request):
    async def script(worker):
        await worker.request()
        worker.answer(b"Content-Length: 3\r\n" + HEAD + b"abcdef")
        await worker.left()

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            _, answer = await setup.ask(backend, new_request())
            assert answer == b"abc"
            backend.supply.close()

    run(main())


def test_less_than_the_announced_length_is_truncation(setup, run, new_request):
    async def script(worker):
        await worker.request()
        worker.answer(b"Content-Length: 9\r\n" + HEAD + b"abc")
        await worker.left()

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            async with backend(new_request()) as response:
                assert response.length == 9
                assert await response.body.read() == b"abc"
                with pytest.raises(Truncated):
                    await response.body.read()
            backend.supply.close()

    run(main())


def test_chunked_nph_answer_is_decoded(setup, run, new_request):
    async def script(worker):
        await worker.request()
        worker.out(b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab")
        worker.answer(b"c\r\n0\r\n\r\n")
        await worker.left()

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            response, answer = await setup.ask(backend, new_request())
            assert (response.status, answer) == (200, b"abc")
            backend.supply.close()

    run(main())


def test_local_redirect_is_raised_with_the_worker_let_go(setup, run, new_request):
    async def script(worker):
        await worker.request()
        worker.answer(b"Location: /other?x=1\r\n\r\n")
        await worker.left()

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            with pytest.raises(LocalRedirect) as caught:
                await setup.ask(backend, new_request())
            assert caught.value.location == b"/other?x=1"
            assert len(backend.supply.pool.idle) == 1
            backend.supply.close()

    run(main())


# What the worker complains of


def test_stderr_is_logged_by_lines_that_cannot_forge_others(setup, run, new_request):
    async def script(worker):
        await worker.request()
        worker.err(b"one\ntw")
        worker.err(b"o\r\n\x1b[31mred\x07\n\nlast")
        worker.answer(HEAD)
        await worker.left()

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            await setup.ask(backend, new_request())
            backend.supply.close()

    run(main())
    lines = [line.partition(" warn ")[2] for line in setup.logged().splitlines()]
    assert lines == [
        "test [r1] app: one",
        "test [r1] app: two",
        r"test [r1] app: \x1b[31mred\x07",
        "test [r1] app: last",
    ]


def test_a_flood_of_stderr_without_a_line_end_is_cut_into_lines(setup, run, new_request):
    async def script(worker):
        await worker.request()
        for _ in range(20):
            worker.err(b"x" * 60000)
        worker.answer(HEAD)
        await worker.left()

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            await setup.ask(backend, new_request())
            backend.supply.close()

    run(main())
    assert setup.logged().count("x") == 20 * 60000
    assert all(len(line) <= 8192 for line in setup.logged().splitlines())


def test_stderr_explains_a_failure(setup, run, new_request):
    async def script(worker):
        await worker.request()
        worker.err(b"out of memory\n")
        worker.end(1)

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            request = new_request()
            refusal = await setup.refused(backend, request)
        assert refusal.status == 502
        assert "out of memory" in refusal.detail
        assert "out of memory" not in refusal.say
        assert request.notes.exit_status == 1

    run(main())


# What goes wrong


@pytest.mark.parametrize(
    ("sent", "cause"),
    [
        (b"", "closed the connection"),
        (b"\x01\x06\x00\x01\x00\x09\x00\x00Content-T", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "version"),
        (b"\x01\x06\x00\x02\x00\x01\x00\x00x", "not asked"),
    ],
)
def test_worker_that_dies_or_raves_before_the_head_is_a_502(setup, run, new_request, sent, cause):
    async def script(worker):
        await worker.request()
        worker.send(sent)
        worker.close()

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            refusal = await setup.refused(backend, new_request())
        assert refusal.status == 502
        assert cause in refusal.log
        assert "app" in refusal.log
        assert backend.supply.pool.open == 0

    run(main())


@pytest.mark.parametrize("output", [b"", b"no header at all\n\n", b"Content-Type: text/plain\n"])
def test_output_that_is_no_answer_is_a_502_with_the_cause(setup, run, new_request, output):
    async def script(worker):
        await worker.request()
        worker.out(output) if output else None
        worker.end()
        await worker.left()

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            refusal = await setup.refused(backend, new_request())
            backend.supply.close()
        assert refusal.status == 502
        assert len(refusal.log) > 10

    run(main())


@pytest.mark.parametrize(("status", "words"), [(1, "multiplex"), (2, "overloaded"), (3, "role")])
def test_worker_that_does_not_take_the_request(setup, run, new_request, status, words):
    async def script(worker):
        await worker.request()
        worker.end(0, status)

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            refusal = await setup.refused(backend, new_request())
            backend.supply.close()
        assert refusal.status == 503
        assert words in refusal.log

    run(main())


def test_worker_that_dies_in_the_answer_is_truncation(setup, run, new_request):
    async def script(worker):
        await worker.request()
        worker.out(HEAD + b"some")
        worker.close()

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            async with backend(new_request()) as response:
                assert await response.body.read() == b"some"
                with pytest.raises(Truncated):
                    await response.body.read()
        assert backend.supply.pool.open == 0

    run(main())


def test_nobody_listens(setup, run, new_request):
    async def main():
        backend = setup.backend()
        for _ in range(2):
            refusal = await setup.refused(backend, new_request())
            assert refusal.status == 503
            assert refusal.headers[0][0] == b"Retry-After"
        assert backend.supply.pool.open == 0
        assert "cannot connect to unix:" in setup.logged()

    run(main())


def test_workers_that_are_down_are_not_asked(setup, run, new_request):
    async def main():
        backend = setup.backend(down=lambda: "it cannot be loaded: ImportError")
        refusal = await setup.refused(backend, new_request())
        assert refusal.status == 503
        assert "ImportError" in refusal.log
        assert "ImportError" not in refusal.say
        assert refusal.headers[0][0] == b"Retry-After"

    run(main())


def test_another_address_is_tried(setup, run, new_request):
    async def script(worker):
        await worker.request()
        worker.answer(HEAD + b"from the second")
        await worker.left()

    async def main():
        backend = setup.backend(str(setup.directory / "none"), setup.path)
        async with setup.scripted(script):
            for _ in range(3):
                _, answer = await setup.ask(backend, new_request())
                assert answer == b"from the second"
                backend.supply.close()

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_worker_over_tcp(setup, run, new_request, host):
    async def script(worker):
        for _ in range(2):
            await worker.request()
            worker.answer(HEAD + b"tcp")
        await worker.left()

    async def main():
        async with setup.scripted(script, "127.0.0.1") as port:
            backend = setup.backend(parse_remote(f"{host}:{port}"))
            for _ in range(2):
                _, answer = await setup.ask(backend, new_request())
                assert answer == b"tcp"
            backend.supply.close()

    run(main())


def test_full_backlog_is_waited_for_and_then_a_503(setup, run, new_request):
    async def main():
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
            listener.bind(setup.path)
            listener.listen(0)
            first.connect(setup.path)  # now it is full
            backend = setup.backend()
            asked = setup.refused(backend, new_request(limits=Limits(wait=0.05)))
            refusal = await asked
            assert refusal.status == 503
            assert "no answer in time" in setup.logged()
            second = asyncio.create_task(setup.ask(backend, new_request(limits=Limits(wait=10))))
            await asyncio.sleep(0)
            accepted, _ = listener.accept()
            accepted.close()
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            assert backend.supply.pool.open == 0

    run(main())


# Kept connections


def test_connection_is_kept_and_used_again(setup, run, new_request):
    async def script(worker):
        for number in range(3):
            await worker.request()
            assert worker.keep
            worker.answer(HEAD + b"%d" % number)
        assert await worker.left()

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            for number in range(3):
                _, answer = await setup.ask(backend, new_request())
                assert answer == b"%d" % number
            backend.supply.close()
        assert setup.connections == 1

    run(main())


def test_kept_connection_is_replaced_after_many_exchanges(setup, run, new_request):
    async def script(worker):
        while True:
            await worker.request()
            worker.answer(HEAD)
            if not worker.keep:
                return

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            for _ in range(2 * USES_MAX + 1):
                await setup.ask(backend, new_request())
            backend.supply.close()
        assert setup.connections == 3

    run(main())


def test_connection_is_not_kept_where_the_pool_says_so(setup, run, new_request):
    async def script(worker):
        await worker.request()
        assert not worker.keep
        worker.answer(HEAD)
        assert await worker.left()

    async def main():
        backend = setup.backend(keep=False)
        async with setup.scripted(script):
            for _ in range(3):
                await setup.ask(backend, new_request())
        assert setup.connections == 3
        assert backend.supply.pool.open == 0

    run(main())


def test_idle_connection_that_ends_is_forgotten(setup, run, new_request):
    async def script(worker):
        await worker.request()
        worker.answer(HEAD)

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            for _ in range(3):
                await setup.ask(backend, new_request())
                await setup.until(lambda: backend.supply.pool.open == 0)

    run(main())


def test_idle_connection_that_speaks_is_closed(setup, run, new_request):
    async def main():
        step = asyncio.Event()

        async def script(worker):
            await worker.request()
            worker.answer(HEAD)
            await step.wait()
            worker.out(b"unasked")
            assert await worker.left()

        backend = setup.backend()
        async with setup.scripted(script):
            await setup.ask(backend, new_request())
            step.set()
            await setup.until(lambda: backend.supply.pool.open == 0)

    run(main())


def stale_once(setup, answer=True):
    """A script whose first connection is closed when its second request has been sent."""

    async def script(worker):
        await worker.request()
        worker.answer(HEAD + b"first")
        if setup.connections == 1:
            await worker.params()
        elif answer:
            await worker.request()
            worker.answer(HEAD + b"second")
            await worker.left()

    return script


def test_stale_connection_is_replaced_once(setup, run, new_request):
    async def main():
        backend = setup.backend(capacity=1)
        async with setup.scripted(stale_once(setup)):
            for _ in range(3):
                response, _ = await setup.ask(backend, new_request())
                assert response.status == 200
            assert setup.connections == 2
            backend.supply.close()

    run(main())


def test_new_connection_that_ends_is_not_tried_again(setup, run, new_request):
    async def script(worker):
        if setup.connections == 1:
            await worker.request()
            worker.answer(HEAD)
        await worker.params()

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            await setup.ask(backend, new_request())
            refusal = await setup.refused(backend, new_request())
            assert refusal.status == 502
        assert setup.connections == 2
        assert backend.supply.pool.open == 0

    run(main())


def test_stale_connection_is_seen_before_the_body_is_pulled(setup, run, new_request, pieces):
    """The worker's end is in the kernel already, but the loop has had no turn to see it."""

    async def main():
        writers = []

        async def script(worker):
            writers.append(worker.writer)
            _, body = await worker.request()
            worker.answer(HEAD + body)
            await worker.left()

        backend = setup.backend()
        async with setup.scripted(script):
            await setup.ask(backend, new_request())
            number = writers[0].get_extra_info("socket").fileno()
            with socket.socket(fileno=os.dup(number)) as end:
                end.shutdown(socket.SHUT_RDWR)
            _, answer = await setup.ask(backend, new_request("POST", body=pieces(b"whole")))
            assert answer == b"whole"
            backend.supply.close()
        assert setup.connections == 2

    run(main())


@pytest.mark.parametrize("method", ["POST", "PATCH", "BREW"])
def test_request_that_may_have_been_acted_on_is_not_repeated(setup, run, new_request, method):
    async def main():
        backend = setup.backend()
        async with setup.scripted(stale_once(setup)):
            await setup.ask(backend, new_request(method))
            refusal = await setup.refused(backend, new_request(method))
            assert refusal.status == 502
        assert setup.connections == 1

    run(main())


def test_request_whose_body_was_pulled_is_not_repeated(setup, run, new_request, pieces):
    async def script(worker):
        await worker.request()
        worker.answer(HEAD)
        await worker.params()
        await worker.record()

    async def main():
        backend = setup.backend()
        async with setup.scripted(script):
            await setup.ask(backend, new_request())
            body = pieces(b"x")
            refusal = await setup.refused(backend, new_request("PUT", body=body, length=2))
            assert refusal.status == 502
        assert setup.connections == 1

    run(main())


def test_answer_that_is_complete_before_the_worker_is(setup, run, new_request):
    """The client is not kept waiting, and the next exchange does not get the busy worker."""

    async def main():
        step = asyncio.Event()

        async def script(worker):
            await worker.request()
            worker.out(b"Content-Length: 2\r\n" + HEAD + b"ok")
            await step.wait()
            worker.err(b"afterwards\n")
            worker.end()
            await worker.request()
            worker.answer(HEAD + b"next")
            await worker.left()

        backend = setup.backend(capacity=1)
        async with setup.scripted(script):
            _, answer = await setup.ask(backend, new_request())
            assert answer == b"ok"
            assert backend.supply.pool.idle == []
            second = asyncio.create_task(setup.ask(backend, new_request()))
            await setup.until(lambda: len(backend.supply.pool.queue) == 1)
            step.set()
            assert (await second)[1] == b"next"
            backend.supply.close()
        assert setup.connections == 1
        assert "afterwards" in setup.logged()

    run(main())


def test_worker_that_never_ends_its_request_is_let_go(setup, run, new_request):
    async def script(worker):
        await worker.request()
        worker.out(b"Content-Length: 2\r\n" + HEAD + b"ok")
        assert await worker.left()

    async def main():
        backend = setup.backend(capacity=1)
        limits = Limits(idle=0.01)
        async with setup.scripted(script):
            await setup.ask(backend, new_request(limits=limits))
            await setup.until(lambda: backend.supply.pool.open == 0)

    run(main())


# Leaving early, waiting


@pytest.mark.parametrize("read", [0, 1])
def test_leaving_before_the_end_closes_the_connection(setup, run, new_request, pieces, read):
    async def main():
        left = asyncio.Event()

        async def script(worker):
            await worker.params()
            worker.out(HEAD + b"first")
            while not await worker.left():
                pass
            left.set()

        backend = setup.backend()
        async with setup.scripted(script):
            body = pieces(b"x" * 10)
            async with backend(new_request("POST", body=body, length=20)) as response:
                for _ in range(read):
                    await response.body.read()
            async with asyncio.timeout(10):
                await left.wait()
        assert backend.supply.pool.open == 0

    run(main())


def test_cancelled_before_the_head(setup, run, new_request):
    async def main():
        left = asyncio.Event()
        asked = asyncio.Event()

        async def script(worker):
            await worker.request()
            asked.set()
            assert await worker.left()
            left.set()

        backend = setup.backend()
        async with setup.scripted(script):
            task = asyncio.create_task(setup.ask(backend, new_request()))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(10):
                await left.wait()
        assert backend.supply.pool.open == 0

    run(main())


def test_queue_is_served_in_order_and_bounded(setup, run, new_request):
    async def main():
        step = asyncio.Semaphore(0)

        async def script(worker):
            while True:
                params, _ = await worker.request()
                await step.acquire()
                worker.answer(HEAD + params[b"QUERY_STRING"])

        backend = setup.backend(capacity=1)
        limits = Limits(queue=2)
        order = []

        async def ask(number):
            request = new_request(query=b"%d" % number, limits=limits)
            _, answer = await setup.ask(backend, request)
            order.append(int(answer))

        async with setup.scripted(script):
            tasks = []
            for number in range(3):
                tasks.append(asyncio.create_task(ask(number)))
                await asyncio.sleep(0)
            await setup.until(lambda: len(backend.supply.pool.queue) == 2)
            refusal = await setup.refused(backend, new_request(limits=limits))
            assert refusal.status == 503
            assert refusal.headers[0][0] == b"Retry-After"
            for _ in range(3):
                step.release()
            await asyncio.gather(*tasks)
            backend.supply.close()
        assert order == [0, 1, 2]
        assert setup.connections == 1

    run(main())


def test_waiting_too_long_is_a_503(setup, run, new_request):
    async def main():
        step = asyncio.Event()

        async def script(worker):
            await worker.request()
            await step.wait()
            worker.answer(HEAD)
            await worker.left()

        backend = setup.backend(capacity=1)
        async with setup.scripted(script):
            first = asyncio.create_task(setup.ask(backend, new_request()))
            await setup.until(lambda: setup.connections == 1)
            for wait in (0.02, 0.01):
                refusal = await setup.refused(backend, new_request(limits=Limits(wait=wait)))
                assert refusal.status == 503
            assert not backend.supply.pool.queue
            step.set()
            await first
            backend.supply.close()

    run(main())


def test_cancelled_waiters_lose_no_place(setup, run, new_request):
    async def main():
        step = asyncio.Event()

        async def script(worker):
            while True:
                await worker.request()
                await step.wait()
                worker.answer(HEAD)

        backend = setup.backend(capacity=1)
        async with setup.scripted(script):
            tasks = [asyncio.create_task(setup.ask(backend, new_request())) for _ in range(6)]
            await setup.until(lambda: len(backend.supply.pool.queue) == 5)
            for task in tasks[1:5]:
                task.cancel()
            step.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 4
            assert not backend.supply.pool.queue
            assert (backend.supply.pool.open, len(backend.supply.pool.idle)) == (1, 1)
            backend.supply.close()

    run(main())


def test_cancelled_at_every_step_leaves_the_pool_sound(setup, run, new_request):
    async def script(worker):
        while True:
            await worker.request()
            worker.answer(HEAD + b"x")

    async def main():
        backend = setup.backend(capacity=2)
        async with setup.scripted(script):
            for turns in range(40):
                tasks = [asyncio.create_task(setup.ask(backend, new_request())) for _ in range(5)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                pool = backend.supply.pool
                assert (pool.open, len(pool.queue)) == (len(pool.idle), 0)
            backend.supply.close()

    run(main())


# Memory and descriptors


def test_slow_reader_stops_the_worker(setup, run, new_request):
    async def main():
        sent = 0

        async def script(worker):
            nonlocal sent
            await worker.request()
            worker.out(HEAD)
            for _ in range(1000):
                worker.out(b"x" * 65536)
                sent += 65536
                await worker.writer.drain()
            worker.end()
            await worker.left()

        backend = setup.backend()
        async with setup.scripted(script):
            async with backend(new_request()) as response:
                total = 0
                last = -1
                while last != sent:  # until the worker can send no more
                    last = sent
                    for _ in range(50):
                        await asyncio.sleep(0)
                assert sent < 2 << 20
                while piece := await response.body.read():
                    total += len(piece)
                    assert len(piece) <= 256 << 10
                assert total == 1000 * 65536
            backend.supply.close()

    run(main())


def test_slow_worker_stops_the_upload(setup, run, new_request, pieces):
    async def main():
        step = asyncio.Event()

        async def script(worker):
            await worker.params()
            worker.out(HEAD)
            await step.wait()
            await worker.body()
            worker.end()
            await worker.left()

        backend = setup.backend()
        body = pieces(*[b"x" * 65536] * 200)
        async with setup.scripted(script):
            async with backend(new_request("POST", body=body)) as response:
                last = -1
                while last != body.pulled:
                    last = body.pulled
                    for _ in range(50):
                        await asyncio.sleep(0)
                assert body.pulled < 50
                step.set()
                while await response.body.read():
                    pass
                assert body.pulled == 200
            backend.supply.close()

    run(main())


def test_nothing_is_left_open(setup, run, new_request, pieces):
    async def script(worker):
        while True:
            await worker.request()
            worker.answer(HEAD + b"x")

    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    async def main():
        async with setup.scripted(script):
            gc.collect()  # what loops of other tests have left
            Descriptors.of(asyncio.get_running_loop())  # the loop's own, for as long as it runs
            before = descriptors()
            backend = setup.backend(capacity=3)
            for length in (-1, None):
                requests = [
                    new_request("POST", body=pieces(b"abc"), length=length) for _ in range(20)
                ]
                await asyncio.gather(*(setup.ask(backend, request) for request in requests))
            backend.supply.close()
            await setup.until(lambda: setup.open == 0)
            await setup.until(lambda: descriptors() == before)

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        run(main())
        gc.collect()
