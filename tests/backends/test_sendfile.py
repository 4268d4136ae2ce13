"""X-Sendfile and its relatives: which file is sent, what of the program's answer stays, and that
the program is let go of before the file is sent."""

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from gateway.backends import sendfile
from gateway.backends.sendfile import Sendfile, SendfileSettings
from gateway.exchange import (
    FileSpan,
    Headers,
    Limits,
    LocalRedirect,
    Refused,
    Request,
    Response,
    Stream,
    Truncated,
)
from gateway.journal import Journal
from gateway.process.beneath import open_beneath
from gateway.process.remote import RemoteKeeper
from gateway.process.spec import SpawnFailed
from gateway.units import Duration

NewRequest = Callable[..., Request]
RunLoop = Callable[[Coroutine[Any, Any, None]], None]

CONTENT = b"0123456789" * 10
HTML = (b"Content-Type", b"text/html")


class Output:
    """A program's own body: these pieces, then its end; None among them stays silent for ever."""

    def __init__(self, *pieces: bytes | Exception | None) -> None:
        self.pieces = list(pieces)
        self.taken = 0

    async def read(self) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if piece is None:
            await asyncio.Event().wait()
        if isinstance(piece, Exception):
            raise piece
        assert piece is not None
        self.taken += len(piece)
        return piece


@dataclass
class Program:
    """A program that answers so, and remembers how it was left."""

    headers: Headers = ()
    status: int = 200
    body: bytes | Stream = b""
    raises: Exception | None = None
    left: list[str] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, request: Request) -> "Program":
        return self

    async def __aenter__(self) -> Response:
        if self.raises is not None:
            raise self.raises
        return Response(status=self.status, headers=self.headers, body=self.body)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.left.append("whole" if error is None else type(error).__name__)
        self.gone.set()


class Keeper(RemoteKeeper):
    """A keeper whose user may read what this process may, but nothing called secret."""

    def __init__(self, directories: dict[str, Path]) -> None:
        self.directories = directories
        self.asked: list[tuple[str, bytes]] = []
        self.given: list[int] = []

    async def open(self, key: str, path: bytes, *, patience: float = 1.0) -> int:
        self.asked.append((key, path))
        await asyncio.sleep(0)
        if b"secret" in path:
            raise SpawnFailed(errno.EACCES, "open", "the user may not read it", 403)
        root_fd = os.open(self.directories[key], os.O_PATH)
        try:
            fd = open_beneath(root_fd, path, os.O_RDONLY, "owner-match")
        except OSError as error:
            raise SpawnFailed(
                error.errno or 0, "open", os.strerror(error.errno or 0), 404
            ) from None
        finally:
            os.close(root_fd)
        self.given.append(fd)
        return fd


class Case:
    """One route whose programs may name files below two directories."""

    def __init__(self, directory: Path, new_request: NewRequest, log: int) -> None:
        self.files = directory / "files"
        self.deep = self.files / "deep"
        self.deep.mkdir(parents=True)
        self.file = self.files / "report.pdf"
        self.file.write_bytes(CONTENT)
        (self.deep / "x y.txt").write_bytes(b"deep")
        self.keeper = Keeper({"0/0/file0": self.files, "0/0/file1": self.deep})
        self.settings = SendfileSettings(
            roots={os.fsencode(self.files): "0/0/file0"},
            accel={b"/private/": "0/0/file0", b"/private/deep": "0/0/file1"},
        )
        self.journal = Journal(log, "test")
        self.new_request = new_request

    def naming(self, value: bytes | None = None, name: bytes = b"X-Sendfile") -> Headers:
        return (HTML, (name, os.fsencode(self.file) if value is None else value))

    async def ask(self, program: Program, request: Request | None = None) -> tuple[Response, bytes]:
        """Return the answer and the bytes of its body."""
        handler = Sendfile(program, self.settings, self.keeper, self.journal)
        async with asyncio.timeout(20):
            async with handler(request or self.request()) as response:
                return response, await content(response)

    async def refused(self, program: Program, request: Request | None = None) -> Refused:
        with pytest.raises(Refused) as caught:
            await self.ask(program, request)
        self.nothing_open()
        return caught.value

    def request(self, *headers: tuple[bytes, bytes], method: str = "GET") -> Request:
        return self.new_request(method, headers=headers)

    def nothing_open(self) -> None:
        for fd in self.keeper.given:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)


async def content(response: Response) -> bytes:
    body = response.body
    if isinstance(body, bytes):
        return body
    if isinstance(body, FileSpan):
        return os.pread(body.fd, body.length, body.offset)
    data = b""
    while piece := await body.read():
        data += piece
    return data


def names(response: Response) -> set[bytes]:
    return {name.lower() for name, _ in response.headers}


def value(response: Response, name: bytes) -> bytes:
    (found,) = [value for key, value in response.headers if key.lower() == name]
    return found


@pytest.fixture
def case(
    setup: Any, new_request: NewRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Case:
    # Files of these tests are new; treat them as if they had not changed for long.
    monkeypatch.setattr(sendfile, "SETTLED", -3600.0)
    return Case(tmp_path, new_request, setup.log)


@pytest.mark.parametrize("name", [b"X-Sendfile", b"x-sendfile", b"X-LIGHTTPD-send-file"])
def test_file_that_is_named_is_sent_instead_of_the_body(
    case: Case, run: RunLoop, name: bytes
) -> None:
    async def main() -> None:
        program = Program(case.naming(name=name), body=Output(b"not this"))
        response, body = await case.ask(program)
        assert (response.status, body) == (200, CONTENT)
        assert isinstance(response.body, FileSpan)
        assert value(response, b"content-type") == b"text/html"
        assert name.lower() not in names(response)
        assert program.left == ["whole"]
        case.nothing_open()

    run(main())


@pytest.mark.parametrize(
    ("uri", "asked"),
    [
        (b"/private/report.pdf", ("0/0/file0", b"report.pdf")),
        (b"/private/report.pdf?x=1", ("0/0/file0", b"report.pdf")),
        (b"/private/%72eport.pdf", ("0/0/file0", b"report.pdf")),
        (b"/private/deep/x%20y.txt", ("0/0/file1", b"x y.txt")),
        (b"/private/deep/x y.txt", ("0/0/file1", b"x y.txt")),
        (b"/private//report.pdf", ("0/0/file0", b"report.pdf")),
        (b"/private/./deep/x%20y.txt", ("0/0/file0", b"./deep/x y.txt")),
    ],
)
def test_accel_redirect_is_decoded_and_the_longest_prefix_counts(
    case: Case, run: RunLoop, uri: bytes, asked: tuple[str, bytes]
) -> None:
    async def main() -> None:
        response, _ = await case.ask(Program(case.naming(uri, b"X-Accel-Redirect")))
        assert response.status == 200
        assert case.keeper.asked == [asked]
        assert b"x-accel-redirect" not in names(response)

    run(main())


def test_accel_redirect_is_decoded_once(case: Case, run: RunLoop) -> None:
    async def main() -> None:
        refused = await case.refused(Program(case.naming(b"/private/%2572", b"X-Accel-Redirect")))
        assert refused.status == 404
        assert case.keeper.asked == [("0/0/file0", b"%72")]

    run(main())


def test_sendfile_path_is_not_decoded(case: Case, run: RunLoop) -> None:
    async def main() -> None:
        (case.files / "100%25.txt").write_bytes(b"percent")
        path = os.fsencode(case.files / "100%25.txt")
        _, body = await case.ask(Program(case.naming(path)))
        assert body == b"percent"

    run(main())


@pytest.mark.parametrize(
    ("name", "value", "status", "words"),
    [
        (b"X-Sendfile", b"/etc/passwd", 403, "below nothing that sendfile"),
        (b"X-Sendfile", b"{root}fix/report.pdf", 403, "below nothing that sendfile"),
        (b"X-Sendfile", b"{root}", 403, "below nothing that sendfile"),
        (b"X-Sendfile", b"report.pdf", 502, "not an absolute path"),
        (b"X-Sendfile", b"{root}/missing", 404, "No such file"),
        (b"X-Sendfile", b"{root}/secret", 403, "may not read it"),
        (b"X-Sendfile", b"{root}/../log", 404, "cross-device"),
        (b"X-LIGHTTPD-send-file", b"/etc/passwd", 403, "X-LIGHTTPD-send-file: "),
        (b"X-Accel-Redirect", b"/other/report.pdf", 403, "below nothing that accel"),
        (b"X-Accel-Redirect", b"/privateer", 403, "below nothing that accel"),
        (b"X-Accel-Redirect", b"@fallback", 502, "not an absolute path"),
        (b"X-Accel-Redirect", b"/private/%zz", 502, "bad percent escape"),
        (b"X-Accel-Redirect", b"/private/%", 502, "bad percent escape"),
        (b"X-Accel-Redirect", b"/private/%2e%2e/log", 404, "cross-device"),
    ],
)
def test_what_is_not_sent_and_the_log_says_why(
    case: Case, run: RunLoop, name: bytes, value: bytes, status: int, words: str
) -> None:
    async def main() -> None:
        given = value.replace(b"{root}", os.fsencode(case.files))
        program = Program(case.naming(given, name), body=Output(b"x"))
        refused = await case.refused(program)
        assert refused.status == status
        assert words in refused.log
        assert refused.log.startswith(name.decode())
        assert "report" not in refused.say
        assert program.left == ["whole"]

    run(main())


@pytest.mark.parametrize("name", [b"X-Sendfile", b"X-LIGHTTPD-send-file", b"X-Accel-Redirect"])
def test_route_that_allows_no_file_refuses_and_names_the_setting(
    case: Case, run: RunLoop, name: bytes
) -> None:
    async def main() -> None:
        case.settings = SendfileSettings()
        refused = await case.refused(Program(case.naming(name=name)))
        assert refused.status == 403
        assert "of this route lists" in refused.log
        assert case.keeper.asked == []

    run(main())


def test_first_of_the_names_counts_and_an_empty_one_does_not(case: Case, run: RunLoop) -> None:
    async def main() -> None:
        path = os.fsencode(case.file)
        both = (HTML, (b"X-Accel-Redirect", b"/nowhere/x"), (b"X-Sendfile", path))
        assert (await case.ask(Program(both)))[1] == CONTENT
        twice = (HTML, (b"X-Sendfile", path), (b"X-Sendfile", b"/etc/passwd"))
        assert (await case.ask(Program(twice)))[1] == CONTENT
        empty = (HTML, (b"X-Sendfile", b""), (b"X-Accel-Redirect", b"/private/report.pdf"))
        assert (await case.ask(Program(empty)))[1] == CONTENT

    run(main())


@pytest.mark.parametrize("status", [200, 204, 304])
def test_name_without_a_file_is_taken_off_and_the_body_stays(
    case: Case, run: RunLoop, status: int
) -> None:
    async def main() -> None:
        header = b"" if status == 200 else os.fsencode(case.file)
        body = b"own" if status == 200 else b""
        program = Program(case.naming(header), status=status, body=body)
        response, sent = await case.ask(program)
        assert (response.status, sent) == (status, body)
        assert response.headers == (HTML,)
        assert program.left == ["whole"]

    run(main())


def test_answer_that_names_nothing_is_passed_as_it_is(case: Case, run: RunLoop) -> None:
    async def main() -> None:
        program = Program((HTML, (b"X-Sendfile-Type", b"x")), body=b"own")
        response, body = await case.ask(program)
        assert (response.headers, body) == (program.headers, b"own")
        assert program.left == ["whole"]

    run(main())


@pytest.mark.parametrize("via", ["fastcgi", "scgi"])
def test_front_server_gets_the_answer_unchanged(case: Case, run: RunLoop, via: str) -> None:
    async def main() -> None:
        program = Program(case.naming(b"/elsewhere"), body=b"own")
        request = case.request()._replace(via=via)  # type: ignore[arg-type]
        response, body = await case.ask(program, request)
        assert (response.headers, body) == (program.headers, b"own")
        assert case.keeper.asked == []

    run(main())


def test_request_fields_never_choose_a_file(case: Case, run: RunLoop) -> None:
    """FIELD section 3, row 8: Plack CVE-2026-7381, Rack CVE-2025-61780."""

    async def main() -> None:
        path = os.fsencode(case.file)
        fields = (
            (b"x-sendfile-type", b"X-Accel-Redirect"),
            (b"x-accel-mapping", os.fsencode(case.files) + b"=/etc"),
            (b"x-sendfile", path),
            (b"x-accel-redirect", b"/private/report.pdf"),
        )
        response, body = await case.ask(Program((HTML,), body=b"own"), case.request(*fields))
        assert (response.status, body) == (200, b"own")
        assert case.keeper.asked == []
        _, body = await case.ask(Program(case.naming()), case.request(*fields))
        assert body == CONTENT
        assert case.keeper.asked == [("0/0/file0", b"report.pdf")]

    run(main())


def test_programs_fields_stay_but_those_of_its_body(case: Case, run: RunLoop) -> None:
    async def main() -> None:
        stays: Headers = (
            (b"Content-Type", b"application/pdf"),
            (b"Content-Disposition", b'attachment; filename="r.pdf"'),
            (b"Cache-Control", b"private"),
            (b"Expires", b"0"),
            (b"Set-Cookie", b"a=1"),
            (b"Set-Cookie", b"b=2"),
            (b"Content-Security-Policy", b"default-src 'none'"),
        )
        goes = ((b"Content-Length", b"7"), (b"ETag", b'"own"'), (b"Last-Modified", b"never"))
        header = (b"X-Sendfile", os.fsencode(case.file))
        response, _ = await case.ask(Program((*stays, *goes, header)))
        assert response.headers[: len(stays)] == stays
        assert names(response) - {name.lower() for name, _ in stays} == {
            b"last-modified",
            b"etag",
            b"accept-ranges",
        }
        assert value(response, b"etag") != b'"own"'

    run(main())


def test_file_without_a_type_has_that_of_its_name(case: Case, run: RunLoop) -> None:
    async def main() -> None:
        response, _ = await case.ask(Program((case.naming()[1],)))
        assert value(response, b"content-type") == b"application/pdf"
        assert value(response, b"x-content-type-options") == b"nosniff"

    run(main())


def test_head_has_the_length_of_the_file(case: Case, run: RunLoop) -> None:
    async def main() -> None:
        response, _ = await case.ask(Program(case.naming()), case.request(method="HEAD"))
        assert isinstance(response.body, FileSpan)
        assert response.body.length == len(CONTENT)

    run(main())


def test_conditions_and_ranges_are_those_of_the_file(case: Case, run: RunLoop) -> None:
    async def ask(*headers: tuple[bytes, bytes]) -> tuple[Response, bytes]:
        naming = (*case.naming(), (b"Content-Disposition", b"inline"), (b"Set-Cookie", b"a=1"))
        answer = await case.ask(Program(naming), case.request(*headers))
        case.nothing_open()
        return answer

    async def main() -> None:
        etag = value((await ask())[0], b"etag")
        modified = value((await ask())[0], b"last-modified")
        for field_line in ((b"if-none-match", etag), (b"if-modified-since", modified)):
            response, body = await ask(field_line)
            assert (response.status, body) == (304, b"")
            assert names(response) == {b"etag", b"last-modified", b"set-cookie"}
        response, body = await ask((b"range", b"bytes=10-19"))
        assert (response.status, body) == (206, CONTENT[10:20])
        assert value(response, b"content-range") == b"bytes 10-19/100"
        response, body = await ask((b"range", b"bytes=0-1,98-"), (b"if-range", etag))
        assert response.status == 206
        assert value(response, b"content-type").startswith(b"multipart/byteranges; boundary=")
        assert body.count(b"Content-Type: text/html") == 2
        assert response.length == len(body)
        response, body = await ask((b"range", b"bytes=0-1"), (b"if-range", b'"other"'))
        assert (response.status, body) == (200, CONTENT)

    run(main())


@pytest.mark.parametrize(
    ("field_line", "status"), [((b"range", b"bytes=100-"), 416), ((b"if-match", b'"x"'), 412)]
)
def test_condition_that_fails_closes_the_file_and_leaves_the_program(
    case: Case, run: RunLoop, field_line: tuple[bytes, bytes], status: int
) -> None:
    async def main() -> None:
        program = Program(case.naming(), body=Output())
        refused = await case.refused(program, case.request(field_line))
        assert refused.status == status
        assert program.left == ["whole"]

    run(main())


@pytest.mark.parametrize(("method", "status"), [("POST", 200), ("GET", 404)])
def test_conditions_are_not_looked_at_where_they_do_not_belong(
    case: Case, run: RunLoop, method: str, status: int
) -> None:
    async def main() -> None:
        fields = ((b"if-none-match", b"*"), (b"if-match", b'"x"'), (b"range", b"bytes=0-1"))
        request = case.request(*fields, method=method)
        response, body = await case.ask(Program(case.naming(), status=status), request)
        assert (response.status, body) == (status, CONTENT)
        assert b"accept-ranges" not in names(response)

    run(main())


# Letting go of the program


def test_program_is_left_while_the_file_is_still_being_sent(case: Case, run: RunLoop) -> None:
    async def main() -> None:
        program = Program(case.naming(), body=Output(b"a", b"b"))
        handler = Sendfile(program, case.settings, case.keeper, case.journal)
        async with asyncio.timeout(20), handler(case.request()) as response:
            await program.gone.wait()
            assert program.left == ["whole"]
            assert await content(response) == CONTENT
        assert program.left == ["whole"]

    run(main())


def test_program_that_writes_much_beside_the_file_is_stopped(
    case: Case, run: RunLoop, setup: Any
) -> None:
    async def main() -> None:
        output = Output(*[b"x" * 16384] * 1000)
        program = Program(case.naming(), body=output)
        assert (await case.ask(program))[1] == CONTENT
        assert program.left == ["Truncated"]
        assert output.taken <= sendfile.DROP_MAX + 16384
        assert "which nobody gets" in setup.logged()

    run(main())


def test_program_that_does_not_end_is_stopped_after_the_grace(case: Case, run: RunLoop) -> None:
    async def main() -> None:
        program = Program(case.naming(), body=Output(b"x", None))
        request = case.new_request(limits=Limits(grace=Duration(0.05)))
        assert (await case.ask(program, request))[1] == CONTENT
        assert program.left == ["Truncated"]

    run(main())


def test_program_that_breaks_after_it_named_a_file_spoils_nothing(
    case: Case, run: RunLoop, setup: Any
) -> None:
    async def main() -> None:
        program = Program(case.naming(), body=Output(b"x", Truncated("it was killed")))
        assert (await case.ask(program))[1] == CONTENT
        assert program.left == ["Truncated"]
        assert "after it had named a file: it was killed" in setup.logged()

    run(main())


def test_client_that_leaves_takes_file_and_program_with_it(case: Case, run: RunLoop) -> None:
    async def main() -> None:
        program = Program(case.naming(), body=Output(None))
        handler = Sendfile(program, case.settings, case.keeper, case.journal)
        with pytest.raises(ConnectionResetError):
            async with handler(case.request()):
                raise ConnectionResetError  # before the loop has turned once
        assert program.left == ["Truncated"]
        case.nothing_open()

    run(main())


def test_exchange_that_is_cut_while_it_waits_for_the_end_waits_no_more(
    case: Case, run: RunLoop
) -> None:
    async def main() -> None:
        program = Program(case.naming(), body=Output(None))
        exchange = asyncio.create_task(case.ask(program))
        while not case.keeper.given:  # noqa: ASYNC110 - turns of the loop, not time
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        exchange.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange
        assert program.left == ["Truncated"]
        case.nothing_open()

    run(main())


def test_refusal_does_not_wait_for_a_program_that_goes_on(case: Case, run: RunLoop) -> None:
    async def main() -> None:
        program = Program(case.naming(b"/etc/passwd"), body=Output(None))
        refused = await case.refused(program)
        assert refused.status == 403
        assert program.left == ["Truncated"]

    run(main())


@pytest.mark.parametrize("error", [Refused(504), LocalRedirect(b"/x")])
def test_program_that_has_no_answer_is_not_left_twice(
    case: Case, run: RunLoop, error: Exception
) -> None:
    async def main() -> None:
        program = Program(raises=error)
        with pytest.raises(type(error)):
            await case.ask(program)
        assert program.left == []

    run(main())
