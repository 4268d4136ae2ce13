"""Files answered whole, in parts, compressed, or not at all."""

import asyncio
import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.backends import copies
from gateway.backends.static import WHOLE, Static, StaticSettings
from gateway.exchange import (
    NO_BODY,
    FileSpan,
    Handler,
    Limits,
    Notes,
    Place,
    Refused,
    Request,
    Response,
)

TEXT = b"0123456789" * 10


def ask(
    root: Path, name: bytes, *headers: tuple[bytes, bytes], method: str = "GET", query: bytes = b""
) -> Request:
    notes = Notes(Limits())
    base = os.fsencode(root)
    notes.place = Place(root=base, file=base + b"/" + name, script_name=b"/" + name, path_info=b"")
    return Request(
        id="1", method=method, target=b"/" + name, path=b"/" + name, query=query,
        protocol=b"HTTP/1.1", headers=headers, host=b"", scheme=b"http", remote=("", 0),
        local=("", 0), body=NO_BODY, length=0, notes=notes,
    )  # fmt: skip


def answer(handler: Handler, request: Request) -> tuple[Response, bytes]:
    """Return the head, and the body as a client would get it."""

    async def run() -> tuple[Response, bytes]:
        async with handler(request) as response:
            body = response.body
            if isinstance(body, bytes):
                return response, body
            if isinstance(body, FileSpan):
                return response, os.pread(body.fd, body.length, body.offset)
            pieces = b""
            while piece := await body.read():
                pieces += piece
            return response, pieces

    return asyncio.run(run())


def refusal(handler: Handler, request: Request) -> Refused:
    with pytest.raises(Refused) as caught:
        answer(handler, request)
    return caught.value


def field(response: Response, name: bytes) -> bytes | None:
    found = [value for key, value in response.headers if key == name]
    assert len(found) < 2
    return found[0] if found else None


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of these tests are new; treat them as if they had not changed for long."""
    monkeypatch.setattr(copies, "SETTLED", -3600.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_bytes(TEXT)
    (tmp_path / "sub").mkdir()
    return tmp_path


@pytest.fixture
def static(root: Path) -> Static:
    return Static(StaticSettings(root=os.fsencode(root)))


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    # Fewer, where what another test left was collected meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_a_small_file_is_one_piece_of_memory(static: Static, root: Path) -> None:
    for _ in range(2):
        response, body = answer(static, ask(root, b"page.html"))
        assert (response.status, body) == (200, TEXT)
        assert isinstance(response.body, bytes)
        assert field(response, b"Content-Type") == b"text/html"
        assert field(response, b"Accept-Ranges") == b"bytes"
        assert field(response, b"X-Content-Type-Options") == b"nosniff"
        assert field(response, b"Vary") is None


def test_the_encoded_fields_are_the_fields(static: Static, root: Path) -> None:
    response, _ = answer(static, ask(root, b"page.html"))
    lines = b"".join(b"%b: %b\r\n" % item for item in response.headers)
    assert response.encoded == lines


def test_an_empty_file(static: Static, root: Path) -> None:
    (root / "empty.txt").touch()
    response, body = answer(static, ask(root, b"empty.txt", (b"range", b"bytes=-5")))
    assert (response.status, body) == (200, b"")


@pytest.mark.parametrize("size", [WHOLE - 1, WHOLE, WHOLE + 1])
def test_only_a_large_file_is_a_span(static: Static, root: Path, size: int) -> None:
    content = os.urandom(size)
    (root / "large.bin").write_bytes(content)
    response, body = answer(static, ask(root, b"large.bin"))
    assert isinstance(response.body, FileSpan) == (size > WHOLE)
    assert body == content


def test_the_descriptor_of_a_span_is_closed_on_leaving(static: Static, root: Path) -> None:
    (root / "large.bin").write_bytes(bytes(WHOLE * 2))

    async def run() -> int:
        async with static(ask(root, b"large.bin")) as response:
            assert isinstance(response.body, FileSpan)
            os.fstat(response.body.fd)
            return response.body.fd

    fd = asyncio.run(run())
    with pytest.raises(OSError):
        os.fstat(fd)


def test_a_request_that_is_never_entered_opens_nothing(static: Static, root: Path) -> None:
    (root / "large.bin").write_bytes(bytes(WHOLE * 2))
    static(ask(root, b"large.bin"))  # the fixture counts the descriptors


def test_head_has_the_head_of_get(static: Static, root: Path) -> None:
    for _ in range(2):
        got, _ = answer(static, ask(root, b"page.html"))
        head, _ = answer(static, ask(root, b"page.html", method="HEAD"))
        assert head.headers == got.headers
        assert isinstance(head.body, bytes | FileSpan)
        length = len(head.body) if isinstance(head.body, bytes) else head.body.length
        assert length == len(TEXT)


def test_head_ignores_ranges(static: Static, root: Path) -> None:
    request = ask(root, b"page.html", (b"range", b"bytes=0-4"), method="HEAD")
    assert answer(static, request)[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "PROPFIND", "get"])
def test_other_methods_are_refused_with_allow(static: Static, root: Path, method: str) -> None:
    refused = refusal(static, ask(root, b"page.html", method=method))
    assert refused.status == 405
    assert refused.headers == ((b"Allow", b"GET, HEAD, OPTIONS"),)


def test_options_says_what_is_allowed(static: Static, root: Path) -> None:
    response, body = answer(static, ask(root, b"page.html", method="OPTIONS"))
    assert (response.status, body) == (204, b"")
    assert field(response, b"Allow") == b"GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "name",
    [b"nothing", b"page.html/", b"page.html/x", b"sub/nothing", b"n" * 256, b"a/" * 3000, b"\xff"],
)
def test_what_is_not_there_is_404(static: Static, root: Path, name: bytes) -> None:
    assert refusal(static, ask(root, name)).status == 404


def test_a_directory_without_its_slash_is_redirected(static: Static, root: Path) -> None:
    response, _ = answer(static, ask(root, b"sub", query=b"a=b&c"))
    assert response.status == 301
    assert field(response, b"Location") == b"/sub/?a=b&c"


def test_a_redirect_encodes_the_path(static: Static, root: Path) -> None:
    (root / "a b\\?#%\n\xe9").mkdir()
    response, _ = answer(static, ask(root, b"a b\\?#%\n\xc3\xa9"))
    assert field(response, b"Location") == b"/a%20b%5C%3F%23%25%0A%C3%A9/"


def test_a_directory_is_not_listed_unless_it_may_be(static: Static, root: Path) -> None:
    assert refusal(static, ask(root, b"sub/")).status == 403
    assert refusal(static, ask(root, b"")).status == 403
    assert refusal(static, ask(root, b"gone/")).status == 404


def test_a_root_that_is_missing_is_told_to_the_operator(tmp_path: Path) -> None:
    static = Static(StaticSettings(root=os.fsencode(tmp_path / "gone")))
    refused = refusal(static, ask(tmp_path / "gone", b"x"))
    assert refused.status == 404
    assert "root" in refused.log


# -- conditional requests


def test_a_file_that_is_known_is_not_sent_again(static: Static, root: Path) -> None:
    first, _ = answer(static, ask(root, b"page.html"))
    etag, changed = field(first, b"ETag"), field(first, b"Last-Modified")
    assert etag is not None
    assert changed is not None
    assert etag.startswith(b'"')
    for header in ((b"if-none-match", etag), (b"if-modified-since", changed)):
        response, body = answer(static, ask(root, b"page.html", header))
        assert (response.status, body) == (304, b"")
        assert field(response, b"ETag") == etag
        assert field(response, b"Last-Modified") == changed
        assert field(response, b"Content-Type") is None


def test_another_entity_tag_gets_the_file(static: Static, root: Path) -> None:
    response, body = answer(static, ask(root, b"page.html", (b"if-none-match", b'"x"')))
    assert (response.status, body) == (200, TEXT)


def test_a_failed_precondition_is_412(static: Static, root: Path) -> None:
    for header in (
        (b"if-match", b'"other"'),
        (b"if-unmodified-since", b"Thu, 01 Jan 1970 00:00:01 GMT"),
    ):
        assert refusal(static, ask(root, b"page.html", header)).status == 412


def test_a_file_that_has_just_changed_has_a_weak_tag(
    static: Static, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "SETTLED", 3600.0)
    response, _ = answer(static, ask(root, b"page.html"))
    etag = field(response, b"ETag")
    assert etag is not None
    assert etag.startswith(b'W/"')
    assert answer(static, ask(root, b"page.html", (b"if-none-match", etag)))[0].status == 304
    ranged = ask(root, b"page.html", (b"range", b"bytes=0-1"), (b"if-range", etag))
    assert answer(static, ranged)[0].status == 200


def test_a_time_in_the_future_is_not_sent(static: Static, root: Path) -> None:
    os.utime(root / "page.html", (1 << 40, 1 << 40))
    response, _ = answer(static, ask(root, b"page.html"))
    changed = field(response, b"Last-Modified")
    assert changed is not None
    assert int(changed.split()[3]) < 3000


# -- ranges


@pytest.mark.parametrize("size", [100, WHOLE * 4])
@pytest.mark.parametrize("warm", [False, True])
def test_one_range(static: Static, root: Path, size: int, warm: bool) -> None:
    content = (TEXT * (size // len(TEXT) + 1))[:size]
    (root / "file").write_bytes(content)
    if warm:
        answer(static, ask(root, b"file"))
    for spec, start, stop in (
        (b"0-0", 0, 1), (b"10-19", 10, 20), (b"90-", 90, size), (b"-5", size - 5, size),
    ):  # fmt: skip
        response, body = answer(static, ask(root, b"file", (b"range", b"bytes=" + spec)))
        assert response.status == 206
        assert field(response, b"Content-Range") == b"bytes %d-%d/%d" % (start, stop - 1, size)
        assert body == content[start:stop]


@pytest.mark.parametrize("size", [100, WHOLE * 2])
def test_several_ranges_are_a_multipart_of_known_length(
    static: Static, root: Path, size: int
) -> None:
    content = (TEXT * (size // len(TEXT) + 1))[:size]
    (root / "file.txt").write_bytes(content)
    spec = b"bytes=0-4,%d-%d,-3" % (size // 2, size - 10)
    response, body = answer(static, ask(root, b"file.txt", (b"range", spec)))
    assert response.status == 206
    assert response.length == len(body)
    kind = field(response, b"Content-Type")
    assert kind is not None
    match = re.fullmatch(rb"multipart/byteranges; boundary=([0-9a-f]+)", kind)
    assert match is not None
    first, *parts, last = body.split(b"\r\n--" + match[1])
    assert (first, last) == (b"", b"--\r\n")
    expected = ((0, 5), (size // 2, size - 9), (size - 3, size))
    for part, (start, stop) in zip(parts, expected, strict=True):
        head, _, piece = part.partition(b"\r\n\r\n")
        assert b"Content-Range: bytes %d-%d/%d" % (start, stop - 1, size) in head
        assert b"Content-Type: text/plain" in head
        assert piece == content[start:stop]


def test_a_range_beyond_the_end_is_416_with_the_size(static: Static, root: Path) -> None:
    for _ in range(2):
        refused = refusal(static, ask(root, b"page.html", (b"range", b"bytes=100-")))
        assert refused.status == 416
        assert refused.headers == ((b"Content-Range", b"bytes */100"),)
        answer(static, ask(root, b"page.html"))


def test_a_range_of_another_version_is_the_whole_file(static: Static, root: Path) -> None:
    request = ask(root, b"page.html", (b"range", b"bytes=0-4"), (b"if-range", b'"old"'))
    assert answer(static, request)[0].status == 200


def test_a_file_cut_short_while_its_ranges_are_sent_shows(static: Static, root: Path) -> None:
    (root / "file").write_bytes(bytes(WHOLE))
    request = ask(root, b"file", (b"range", b"bytes=0-9,100-%d" % (WHOLE - 1)))

    async def run() -> None:
        async with static(request) as response:
            assert not isinstance(response.body, bytes | FileSpan)
            os.truncate(root / "file", 50)
            while await response.body.read():
                pass

    with pytest.raises(Exception, match="shorter"):
        asyncio.run(run())


# -- compressed neighbours

BROTLI = b"as if it were brotli"
ACCEPT = b"accept-encoding"


@pytest.fixture
def neighbours(root: Path) -> None:
    (root / "page.html.gz").write_bytes(gzip.compress(TEXT, mtime=0))
    (root / "page.html.br").write_bytes(BROTLI)
    later = os.stat(root / "page.html").st_mtime_ns + 1_000_000_000
    for suffix in ("gz", "br"):
        os.utime(root / f"page.html.{suffix}", ns=(later, later))


@pytest.mark.usefixtures("neighbours")
@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (b"gzip, br", b"br"),
        (b"gzip", b"gzip"),
        (b"br;q=0, gzip;q=0.5", b"gzip"),
        (b"identity", None),
        (b"", None),
        (b"*", b"br"),
    ],
)
def test_a_neighbour_is_sent_to_who_accepts_it(
    static: Static, root: Path, accept: bytes, coding: bytes | None
) -> None:
    for _ in range(3):
        response, body = answer(static, ask(root, b"page.html", (ACCEPT, accept)))
        assert field(response, b"Content-Encoding") == coding
        assert field(response, b"Vary") == b"Accept-Encoding"
        assert field(response, b"Content-Type") == b"text/html"
        decoded = {None: TEXT, b"br": BROTLI, b"gzip": gzip.compress(TEXT, mtime=0)}
        assert body == decoded[coding]


@pytest.mark.usefixtures("neighbours")
def test_each_form_has_its_own_tag(static: Static, root: Path) -> None:
    tags = set()
    for accept in (b"br", b"gzip", b"identity"):
        response, _ = answer(static, ask(root, b"page.html", (ACCEPT, accept)))
        tag = field(response, b"ETag")
        assert tag is not None
        tags.add(tag)
        again = ask(root, b"page.html", (ACCEPT, accept), (b"if-none-match", tag))
        assert answer(static, again)[0].status == 304
        assert field(answer(static, again)[0], b"Vary") == b"Accept-Encoding"
    assert len(tags) == 3


@pytest.mark.usefixtures("neighbours")
def test_a_range_counts_in_the_encoded_form(static: Static, root: Path) -> None:
    request = ask(root, b"page.html", (ACCEPT, b"br"), (b"range", b"bytes=3-4"))
    response, body = answer(static, request)
    assert (response.status, body) == (206, BROTLI[3:5])
    assert field(response, b"Content-Encoding") == b"br"


@pytest.mark.usefixtures("neighbours")
def test_a_neighbour_older_than_its_file_is_out_of_date(static: Static, root: Path) -> None:
    answer(static, ask(root, b"page.html", (ACCEPT, b"br")))
    (root / "page.html").write_bytes(b"new")
    later = os.stat(root / "page.html.br").st_mtime_ns + 1
    os.utime(root / "page.html", ns=(later, later))
    response, body = answer(static, ask(root, b"page.html", (ACCEPT, b"br")))
    assert body == b"new"
    assert field(response, b"Content-Encoding") is None


@pytest.mark.usefixtures("neighbours")
def test_a_neighbour_that_changes_or_goes_shows_at_once(static: Static, root: Path) -> None:
    for _ in range(2):
        answer(static, ask(root, b"page.html", (ACCEPT, b"br")))
    (root / "page.html.br").write_bytes(b"newer")
    assert answer(static, ask(root, b"page.html", (ACCEPT, b"br")))[1] == b"newer"
    (root / "page.html.br").unlink()
    (root / "page.html.gz").unlink()
    assert answer(static, ask(root, b"page.html", (ACCEPT, b"br")))[1] == TEXT


@pytest.mark.usefixtures("neighbours")
def test_a_compressed_file_asked_for_by_name_is_what_it_is(static: Static, root: Path) -> None:
    response, body = answer(static, ask(root, b"page.html.gz", (ACCEPT, b"gzip, br")))
    assert gzip.decompress(body) == TEXT
    assert field(response, b"Content-Encoding") is None
    assert field(response, b"Content-Type") == b"application/gzip"
