"""The smallest WSGI application."""

from collections.abc import Callable, Iterable

BODY = b"Hello, world!\n"


def application(
    environ: dict[str, object], start_response: Callable[..., object]
) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    return [BODY]
