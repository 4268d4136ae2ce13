"""As flow_cgi.py: a POST is read slowly and counted, a GET answered with bytes."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

PIECE = 1 << 20


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    if environ["REQUEST_METHOD"] != "POST":
        return pieces(int(environ["QUERY_STRING"] or 0) // PIECE)
    time.sleep(2)
    count = 0
    while data := environ["wsgi.input"].read(PIECE):
        count += len(data)
        time.sleep(0.002)
    return [b"%d" % count]


def pieces(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield bytes(PIECE)
