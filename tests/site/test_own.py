"""A front against the keeper of a tenant with own settings, above all one that lies."""

import asyncio
import base64
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.expiry import Expiring
from gateway.backends.static import Static, StaticSettings
from gateway.exchange import (
    NO_BODY,
    Limits,
    LocalRedirect,
    Notes,
    Ready,
    Refused,
    Request,
    Response,
)
from gateway.journal import Journal
from gateway.process.channel import (
    Check,
    Checked,
    Failed,
    Message,
    Opened,
    TermsAre,
    WantTerms,
)
from gateway.process.descriptors import Descriptors
from gateway.process.mastering import (
    Idle,
)
from gateway.process.own import parse
from gateway.process.post import Inbox, send
from gateway.process.remote import RemoteKeeper
from gateway.process.terms import Terms, encode
from gateway.site import discovery as site_discovery
from gateway.site import own as site_own
from gateway.site.discovery import Discovery
from gateway.site.map import Route, Site
from gateway.site.own import OwnSite, Seen

Answer = Message | bytes | None
Says = Callable[[Message], Answer]
SAID = (b"authorization", b"Basic " + base64.b64encode(b"bob:secret"))


class Liar:
    """A keeper that answers what the test wants: a message, bytes, or (None) nothing at all."""

    def __init__(self, says: Says) -> None:
        self.says = says
        self.asked: list[Message] = []
        self._inbox = Inbox()
        self._held: list[socket.socket] = []

    async def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        self._held.append(theirs)
        loop = asyncio.get_running_loop()
        Descriptors.of(loop).add_reader(theirs.fileno(), lambda: self._answer(theirs))
        return ours

    def _answer(self, sock: socket.socket) -> None:
        received = self._inbox.receive(sock)
        if received is None:
            Descriptors.of(asyncio.get_running_loop()).remove_reader(sock.fileno())
            return
        message, fds = received
        self.asked.append(message)
        reply = socket.socket(fileno=fds[0])
        answer = self.says(message)
        if answer is None:
            self._held.append(reply)
            return
        with reply:
            if isinstance(answer, bytes):
                reply.send(answer)
            else:
                fd = os.open(os.devnull, os.O_RDONLY)
                send(reply, answer.encode(), (fd,) if isinstance(answer, Opened) else ())
                os.close(fd)

    def close(self) -> None:
        for sock in self._held:
            sock.close()


class Lodging:
    """A tenant's pages on the disk of one test, and a program that redirects locally."""

    def __init__(self, root: Path, log: Path) -> None:
        self.root = root
        self.composed: list[Terms] = []
        self.jump = b""
        self.log = log
        self._fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.journal = Journal(self._fd, "tests")

    def compose(self, terms: Terms) -> Site:
        self.composed.append(terms)
        static = Static(StaticSettings(root=os.fsencode(self.root)))
        shared = {"prefix": b"/~al", "root": os.fsencode(self.root), "limits": Limits()}
        routes = (
            Route(key="0", name="*.cgi", match=b"*.cgi", kind="script", handler=self.run, **shared),  # type: ignore[arg-type]
            Route(
                key="1", name="/~al", kind="static",
                handler=Expiring(static, terms.expires), **shared,  # type: ignore[arg-type]
            ),
        )  # fmt: skip
        index = terms.index or (b"index.html",)
        return Site(name="~al", root=b"/", index=index, routes=routes, limits=Limits())

    def run(self, request: Request) -> Any:
        lodging = self

        class Program:
            async def __aenter__(self) -> Response:
                if lodging.jump and request.notes.place.script_name.endswith(b"jump.cgi"):
                    raise LocalRedirect(lodging.jump)
                names = b" ".join(request.params.values())
                return Response(status=200, body=names + b"|" + repr(request.headers).encode())

            async def __aexit__(self, *how: object) -> None:
                return None

        return Program()

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def lodging(tmp_path: Path) -> Iterator[Lodging]:
    root = tmp_path / "pages"
    (root / "p").mkdir(parents=True)
    (root / "index.html").write_text("index")
    (root / "p" / "x.txt").write_text("protected")
    for name in ("jump.cgi", "p/run.cgi"):
        (root / name).write_text("#!")
    made = Lodging(root, tmp_path / "log")
    yield made
    made.close()


def request(
    path: bytes, *headers: tuple[bytes, bytes], method: str = "GET", query: bytes = b""
) -> Request:
    return Request(
        id="1", method=method, target=path, path=path, query=query, protocol=b"HTTP/1.1",
        headers=headers, host=b"h", scheme=b"http", remote=("192.0.2.1", 1), local=("", 0),
        body=NO_BODY, length=0, notes=Notes(Limits()),
    )  # fmt: skip


def visit(lodging: Lodging, says: Says, work: Callable[[OwnSite, Liar], Awaitable[None]]) -> None:
    """Run `work` with a site whose keeper is a liar."""

    async def main() -> None:
        liar = Liar(says)
        remote = RemoteKeeper(liar.connect)
        site = OwnSite("~al", (b"~al",), lodging.compose, remote, lodging.journal)
        site.saw(Seen((1, 1, 1, 1, 1), 0.0))
        try:
            await work(site, liar)
        finally:
            remote.close()
            liar.close()

    asyncio.run(main())


async def answer(site: OwnSite, asked: Request) -> tuple[int, bytes]:
    try:
        async with site(asked) as response:
            body = response.body
            return response.status, body if isinstance(body, bytes) else b"?"
    except Refused as refused:
        return refused.status, refused.log.encode()


def terms(text: str) -> TermsAre:
    return TermsAre(encode(parse(text.encode()).terms()))


def asked_of(text: str, right: bool = True) -> Says:
    """Return an honest keeper of this file, who finds each password right or wrong."""

    def says(message: Message) -> Answer:
        return terms(text) if isinstance(message, WantTerms) else Checked(right)

    return says


@pytest.mark.parametrize(
    "lie",
    [
        b"", b"\0", b"x" * 1000, TermsAre(b"{}"), TermsAre(b"null"), TermsAre(b"[" * 100_000),
        TermsAre(b'{"index":["../x"],"redirects":[],"expires":[],"error_pages":[],"auth":[]}'),
        TermsAre(
            b'{"index":null,"redirects":[["/","/x\\r\\nX:y",302]],'
            b'"expires":[],"error_pages":[],"auth":[]}'
        ),
        Checked(True), Opened(), Idle(1), WantTerms("~al"),
    ],
)  # fmt: skip
def test_keeper_that_lies_gets_nothing_served(lodging: Lodging, lie: Answer) -> None:
    async def work(site: OwnSite, liar: Liar) -> None:
        for _ in range(3):
            status, log = await answer(site, request(b"/~al/"))
            assert status in (502, 503)
            assert b"keeper" in log

    visit(lodging, lambda message: lie, work)
    assert lodging.composed == [Terms()]


def test_keeper_that_says_nothing_is_waited_for_so_long_only(
    lodging: Lodging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_own, "PATIENCE", 0.2)

    async def work(site: OwnSite, liar: Liar) -> None:
        found = await asyncio.gather(*[answer(site, request(b"/~al/")) for _ in range(20)])
        assert {status for status, _ in found} == {503}
        assert len(liar.asked) == 1  # all wait for one answer

    visit(lodging, lambda message: None, work)


def test_what_is_wrong_is_told_and_asked_again_when_the_file_is_another(lodging: Lodging) -> None:
    told: list[Answer] = [Failed(0, 0, "own", 500, "file:1: x"), terms('index = ["p/".txt"]'[:0])]

    async def work(site: OwnSite, liar: Liar) -> None:
        notes = request(b"/~al/")
        assert await answer(site, notes) == (500, b"file:1: x")
        assert notes.notes.route == "~al"  # what the log calls it
        assert await answer(site, request(b"/~al/")) == (500, b"file:1: x")
        assert len(liar.asked) == 1
        site.saw(Seen((1, 1, 2, 2, 1), 0.0))
        assert await answer(site, request(b"/~al/")) == (200, b"index")
        assert await answer(site, request(b"/~al/")) == (200, b"index")
        assert len(liar.asked) == 2

    visit(lodging, lambda message: told.pop(0), work)


def test_file_that_was_just_changed_is_asked_about_again(
    lodging: Lodging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_own, "ASK_AGAIN", 0.0)

    async def work(site: OwnSite, liar: Liar) -> None:
        site.saw(Seen((1, 1, 3, 3, 1), float("inf")))
        for count in (1, 2, 3):
            assert await answer(site, request(b"/~al/")) == (200, b"index")
            assert len(liar.asked) == count

    visit(lodging, asked_of(""), work)


AUTH = 'auth = { path = "/p/" }\n'


@pytest.mark.parametrize(
    "path",
    [
        b"/~al/p", b"/~al/p/", b"/~al/p/x.txt", b"/%7Eal/p/x.txt", b"/~al//p//x.txt",
        b"/~al/%70/x.txt", b"/~al/./p/x.txt", b"/~al/q/../p/x.txt", b"/~al/%2e/p/x.txt",
        b"/~al/q/%2E%2e/p/x.txt", b"/~al/P/x.txt", b"/~al/p./x.txt", b"/~al/p%20/x.txt",
        b"/~al/p%2Fx.txt", b"/~al/p/none", b"/~al/p/run.cgi", b"/~al/p/run.cgi/info",
        b"/q/../~al/p/x.txt", b"/~al/../~al/p/x.txt",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PROPFIND"])
def test_protected_path_is_protected_however_it_is_spelt(
    lodging: Lodging, path: bytes, method: str
) -> None:
    async def work(site: OwnSite, liar: Liar) -> None:
        assert (await answer(site, request(path, method=method)))[0] == 401
        assert [type(each) for each in liar.asked] == [WantTerms]
        wrong = request(path, (b"authorization", b"Basic !"), SAID, method=method)
        assert (await answer(site, wrong))[0] == 401

    visit(lodging, asked_of(AUTH), work)


@pytest.mark.parametrize("path", [b"/~al/../p/x.txt", b"/~bob/p/x.txt", b"/p/x.txt", b"/"])
def test_what_is_not_this_tenants_is_not_there(lodging: Lodging, path: bytes) -> None:
    async def work(site: OwnSite, liar: Liar) -> None:
        assert (await answer(site, request(path, SAID)))[0] == 404

    visit(lodging, asked_of(AUTH), work)


@pytest.mark.parametrize("path", [b"/~al/", b"/~al/px/x.txt", b"/~al/jump.cgi/p/x.txt"])
def test_what_lies_beside_a_protected_path_is_open(lodging: Lodging, path: bytes) -> None:
    async def work(site: OwnSite, liar: Liar) -> None:
        assert (await answer(site, request(path)))[0] != 401

    visit(lodging, asked_of(AUTH), work)


def test_right_password_names_the_user_and_stays_behind(lodging: Lodging) -> None:
    async def work(site: OwnSite, liar: Liar) -> None:
        asked = request(b"/~al/p/run.cgi", SAID, (b"x-other", b"kept"))
        assert await answer(site, asked) == (200, b"bob Basic|((b'x-other', b'kept'),)")
        assert asked.notes.user == b"bob"
        assert liar.asked[-1] == Check("~al", b"/p/", b"192.0.2.1", b"bob", b"secret")

    visit(lodging, asked_of(AUTH), work)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Checked(False), 401), (Failed(0, 0, "check", 429, "slow down"), 429),
        (Failed(0, 0, "check", 500, "no file"), 500), (TermsAre(b"{}"), 502), (b"\1", 503),
        (b"", 503), (b"\x1d\2", 503),
    ],
)  # fmt: skip
def test_keeper_that_does_not_say_yes_lets_nobody_in(
    lodging: Lodging, reply: Answer, status: int
) -> None:
    def says(message: Message) -> Answer:
        return terms(AUTH) if isinstance(message, WantTerms) else reply

    async def work(site: OwnSite, liar: Liar) -> None:
        assert (await answer(site, request(b"/~al/p/x.txt", SAID)))[0] == status

    visit(lodging, says, work)


def test_local_redirect_meets_passwords_and_redirects_again(lodging: Lodging) -> None:
    text = AUTH + 'redirects = { "/gone" = "https://example.org/" }\n'

    async def work(site: OwnSite, liar: Liar) -> None:
        lodging.jump = b"/~al/p/x.txt"
        assert (await answer(site, request(b"/~al/jump.cgi")))[0] == 401
        assert await answer(site, request(b"/~al/jump.cgi", SAID)) == (200, b"protected")
        lodging.jump = b"/~al/gone"
        assert (await answer(site, request(b"/~al/jump.cgi")))[0] == 302
        lodging.jump = b"/~al/jump.cgi"
        assert (await answer(site, request(b"/~al/jump.cgi")))[0] == 502

    visit(lodging, asked_of(text), work)


PAGES = 'error_pages = { 404 = "/e 1%.html", 401 = "/p/x.txt", 502 = "/jump.cgi" }\n'


def test_error_page_has_the_status_and_the_log_the_reason(lodging: Lodging) -> None:
    (lodging.root / "e 1%.html").write_text("gone astray")
    (lodging.root / "link").symlink_to("/etc/passwd")

    async def work(site: OwnSite, liar: Liar) -> None:
        asked = request(b"/~al/link", (b"range", b"bytes=0-3"), (b"if-none-match", b"*"))
        assert await answer(site, asked) == (404, b"gone astray")
        assert "leads through a link" in lodging.log.read_text()
        assert (await answer(site, request(b"/~al/p/")))[0] == 401
        lodging.jump = b"/~al/jump.cgi"
        assert (await answer(site, request(b"/~al/jump.cgi")))[0] == 502
        async with site(request(b"/~al/none", method="HEAD")) as response:
            fields = dict(response.headers)
            assert response.status == 404
            assert b"ETag" not in fields
            assert fields[b"Cache-Control"] == b"no-store"

    visit(lodging, asked_of(AUTH + PAGES), work)


def test_ages_count_for_files_and_privately_behind_a_password(lodging: Lodging) -> None:
    async def work(site: OwnSite, liar: Liar) -> None:
        for path, control in ((b"/~al/p/x.txt", b"private, max-age=60"), (b"/~al/", None)):
            for _ in range(2):
                async with site(request(path, SAID)) as response:
                    assert dict(response.headers).get(b"Cache-Control") == control

    visit(lodging, asked_of(AUTH + 'expires = { "*.txt" = "1 min" }\n'), work)


def test_settings_are_looked_for_once_more_before_they_are_taken_to_be_gone(
    lodging: Lodging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_discovery, "LOOK_OWN", 0.0)  # each time it is asked
    pages = tmp_path / "al" / "pages"
    pages.mkdir(parents=True)

    async def nobody() -> socket.socket:
        raise ConnectionError

    discovery = Discovery(
        userdir=f"{tmp_path}/*/pages",
        hosts="",
        symlinks="none",
        least=(0, 0),
        compose=lambda name, home: lodging.compose(Terms()),
        own=lambda name, home: OwnSite(
            name, (b"~al",), lodging.compose, RemoteKeeper(nobody), lodging.journal
        ),
    )

    def found() -> object:
        site = discovery.userdir(b"/~al/")
        assert site is not None
        return site.own

    assert found() is None
    (pages / ".gateway.toml").symlink_to("nowhere")  # it counts as one: the keeper says what it is
    own = found()
    assert own is not None
    assert found() is own
    (pages / ".gateway.toml").unlink()
    assert found() is own
    assert found() is None
    os.mkfifo(pages / ".gateway.toml")
    assert found() not in (None, own)


def test_ready_answers_get_their_age_too() -> None:
    ready = Ready(Response(status=200, headers=((b"Expires", b"old"),), encoded=b"Expires: old"))
    asked = request(b"/")
    asked.notes.place = type(asked.notes.place)(
        root=b"/", file=b"/x.css", script_name=b"/x.css", path_info=b""
    )
    entry = Expiring(lambda request: ready, ((b"x.js", 1), (b"*.css", 2), (b"*", 3)))(asked)
    assert isinstance(entry, Ready)
    fields = dict(entry.response.headers)
    assert fields[b"Cache-Control"] == b"max-age=2"
    assert fields[b"Expires"] != b"old"
    assert entry.response.encoded == b""
