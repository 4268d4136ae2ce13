"""Where a path has gone."""

import pytest

from gateway.backends.redirects import Redirects
from gateway.process.terms import Redirection

RULES = (
    Redirection(b"/old", b"/new", 302),
    Redirection(b"/query", b"/new?a=b", 302),
    Redirection(b"/part", b"/new#part", 302),
    Redirection(b"/dir/", b"/other/", 301),
    Redirection(b"/all/*", b"/here", 303),
    Redirection(b"/all/of/*", b"/it/*", 307),
    Redirection(b"/out/*", b"https://example.org/*", 308),
    Redirection(b"/top/*", b"/*", 302),
)


@pytest.mark.parametrize(
    ("path", "query", "status", "location"),
    [
        (b"/old", b"", 302, b"/~al/new"),
        (b"/old", b"x=1", 302, b"/~al/new?x=1"),
        (b"/old", b"x=\r\nA: b", 302, b"/~al/new"),
        (b"/query", b"x=1", 302, b"/~al/new?a=b"),
        (b"/part", b"x=1", 302, b"/~al/new#part"),
        (b"/dir/", b"", 301, b"/~al/other/"),
        (b"/all/", b"", 303, b"/~al/here"),
        (b"/all/x/y", b"", 303, b"/~al/here"),
        (b"/all/of/x y", b"", 307, b"/~al/it/x%20y"),
        (b"/out/a/\xc3\xa4", b"q", 308, b"https://example.org/a/%C3%A4?q"),
        (b"/out/a\r\nX: y", b"", 308, b"https://example.org/a%0D%0AX:%20y"),
        (b"/top/\\evil.example", b"", 302, b"/~al/%5Cevil.example"),
    ],
)
def test_path_has_gone(path: bytes, query: bytes, status: int, location: bytes) -> None:
    response = Redirects(RULES, b"/~al").find(path, query)
    assert response is not None
    assert (response.status, response.headers) == (status, ((b"Location", location),))


@pytest.mark.parametrize("path", [b"/", b"/old/", b"/older", b"/dir", b"/all", b"/OLD", b"/new"])
def test_path_is_where_it_was(path: bytes) -> None:
    assert Redirects(RULES, b"").find(path, b"") is None
