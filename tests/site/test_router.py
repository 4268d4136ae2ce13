"""From a URL to a site, a route and a place; and what is never reached."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gateway.backends import copies
from gateway.backends.static import Static, StaticSettings
from gateway.exchange import (
    NO_BODY,
    FileSpan,
    Limits,
    LocalRedirect,
    Notes,
    Place,
    Refused,
    Request,
    Response,
)
from gateway.process.spec import SymlinkPolicy
from gateway.site import map as site_map
from gateway.site.router import REDIRECTS, Later, Route, Router, Site, sources
from gateway.units import Size

SOURCE = b"#!/bin/sh\npassword=hunter2\n"


def routed(sites: Sequence[Site]) -> Router:
    return Router([Later(site.hosts, partial(_itself, site)) for site in sites])


def _itself(site: Site) -> Site:
    return site


class Program:
    """A backend that remembers what it was asked, and answers what it is told to."""

    def __init__(self, label: bytes) -> None:
        self.label = label
        self.asked: list[Request] = []
        self.left = 0
        self.act: Callable[[Request], None] = lambda request: None

    @property
    def place(self) -> Place:
        return self.asked[-1].notes.place

    @asynccontextmanager
    async def __call__(self, request: Request) -> AsyncIterator[Response]:
        self.asked.append(request)
        try:
            self.act(request)
            yield Response(status=200, body=self.label)
        finally:
            self.left += 1


class House:
    """A site with everything, on the disk of one test."""

    def __init__(self, base: Path, symlinks: SymlinkPolicy = "owner-match") -> None:
        self.root = base / "htdocs"
        self.bin = base / "cgi-bin"
        self.files = base / "files"
        for directory in (self.root, self.bin, self.files):
            directory.mkdir()
        self.directory, self.cgi, self.fcgi, self.app = map(
            Program, (b"directory", b"cgi", b"fcgi", b"app")
        )
        limits = Limits()
        routes: list[Route] = [
            Route(
                key="main/0", name="/cgi-bin/", prefix=b"/cgi-bin/", kind="script",
                root=os.fsencode(self.bin), handler=self.directory,
                limits=replace(limits, request_body=Size(1)),
            ),
            Route(
                key="main/1", name="*.cgi", match=b"*.cgi", kind="script",
                root=os.fsencode(self.root), handler=self.cgi, limits=limits,
            ),
            Route(
                key="main/2", name="*.fcgi", match=b"*.fcgi", kind="script",
                root=os.fsencode(self.root), handler=self.fcgi, limits=limits,
            ),
            Route(
                key="main/3", name="/app/", prefix=b"/app/", kind="app", handler=self.app,
                limits=limits,
            ),
        ]  # fmt: skip
        hidden = sources(routes)
        aliased = Static(StaticSettings(root=os.fsencode(self.files), sources=hidden))
        routes.append(
            Route(
                key="main/4", name="/files/", prefix=b"/files/", kind="static",
                root=os.fsencode(self.files), handler=aliased, limits=limits,
            )
        )  # fmt: skip
        base_root = os.fsencode(self.root)
        self.site = Site(
            name="main",
            root=base_root,
            index=(b"index.html", b"index.cgi"),
            routes=tuple(routes),
            static=Static(
                StaticSettings(root=base_root, sources=hidden, symlinks=symlinks, listing=True)
            ),
            limits=limits,
            symlinks=symlinks,
        )
        self.router = routed([self.site])


def ask(path: bytes, method: str = "GET", *, host: bytes = b"", query: bytes = b"") -> Request:
    return Request(
        id="1", method=method, target=path, path=path, query=query, protocol=b"HTTP/1.1",
        headers=((b"host", b"x"), (b"content-type", b"a/b"), (b"content-length", b"3")),
        host=host, scheme=b"http", remote=("", 0), local=("", 0), body=NO_BODY, length=3,
        notes=Notes(Limits()),
    )  # fmt: skip


def send(router: Router, request: Request) -> tuple[int, bytes, dict[bytes, bytes]]:
    async def run() -> tuple[int, bytes, dict[bytes, bytes]]:
        try:
            async with router(request) as response:
                body = response.body
                if isinstance(body, FileSpan):
                    body = os.pread(body.fd, body.length, body.offset)
                assert isinstance(body, bytes)
                return response.status, body, dict(response.headers)
        except Refused as refused:
            return refused.status, refused.log.encode(), dict(refused.headers)

    return asyncio.run(run())


def get(router: Router, path: bytes, method: str = "GET") -> bytes | int:
    """Return the body of a 200, else the status; twice, so that what is remembered is tried."""
    first = send(router, ask(path, method))
    again = send(router, ask(path, method))
    assert first == again
    return first[1] if first[0] == 200 else first[0]


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "SETTLED", -3600.0)


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path)
    (house.root / "page.html").write_bytes(b"page")
    (house.root / "a.jpg").write_bytes(b"picture")
    (house.root / "sub").mkdir()
    for name in ("x.cgi", "sub/index.cgi", "x.fcgi"):
        (house.root / name).write_bytes(SOURCE)
    (house.bin / "run").write_bytes(SOURCE)
    (house.bin / "deep").mkdir()
    (house.bin / "deep" / "run").write_bytes(SOURCE)
    (house.files / "file.txt").write_bytes(b"file")
    return house


# -- sites


def test_a_site_is_chosen_by_host() -> None:
    programs = {}
    made = []
    for made_name, hosts in (
        ("first", ()),
        ("exact", (b"a.example.org",)),
        ("wide", (b"*.example.org",)),
        ("narrow", (b"*.b.example.org", b"b.example.org")),
    ):
        programs[made_name] = Program(made_name.encode())
        route = Route(
            key=f"{made_name}/0", name=made_name, prefix=b"/", kind="app",
            handler=programs[made_name], limits=Limits(),
        )  # fmt: skip
        made.append(Site(name=made_name, hosts=hosts, routes=(route,), limits=Limits()))
    router = routed(made)
    for host, name in (
        (b"a.example.org", b"exact"),
        (b"a.example.org.", b"exact"),
        (b"z.example.org", b"wide"),
        (b"y.z.example.org", b"wide"),
        (b"x.b.example.org", b"narrow"),
        (b"b.example.org", b"narrow"),
        (b"example.org", b"first"),
        (b".example.org", b"first"),
        (b"evilexample.org", b"first"),
        (b"127.0.0.1", b"first"),
        (b"[::1]", b"first"),
        (b"", b"first"),
    ):
        request = ask(b"/", host=host)
        assert send(router, request)[1] == name
        assert request.notes.site == name.decode()


def test_without_a_site_nothing_is_there() -> None:
    router = Router([])
    assert get(router, b"/") == 404
    assert get(router, b"*", "OPTIONS") == b""


def test_a_site_is_composed_once_and_only_when_it_is_asked_for() -> None:
    made = []

    def compose(name: bytes) -> Site:
        made.append(name)
        return Site(name=name.decode(), limits=Limits())

    names = (b"a.example", b"b.example", b"*.c.example")
    router = Router([Later((name, b"www." + name), partial(compose, name)) for name in names[:2]]
                    + [Later((names[2],), partial(compose, names[2]))])  # fmt: skip
    assert made == []
    for host in (b"b.example", b"www.b.example", b"b.example.", b"b.example"):
        request = ask(b"/", host=host)
        assert send(router, request)[0] == 404
        assert request.notes.site == "b.example"
    assert made == [b"b.example"]
    send(router, ask(b"/", host=b"x.c.example"))
    send(router, ask(b"/", host=b"y.c.example"))
    send(router, ask(b"/", host=b"unknown"))
    assert made == [b"b.example", b"*.c.example", b"a.example"]


def test_the_site_is_noted_also_when_the_path_is_refused(house: House) -> None:
    request = ask(b"/%zz")
    assert send(house.router, request)[0] == 400
    assert request.notes.site == "main"


def test_options_of_the_server(house: House) -> None:
    status, _, headers = send(house.router, ask(b"*", "OPTIONS"))
    assert status == 200
    assert b"GET" in headers[b"Allow"]
    assert send(house.router, ask(b"*"))[0] == 400


# -- scripts, applications and files


def test_a_script_below_a_prefix(house: House) -> None:
    request = ask(b"/cgi-bin/deep/run/more//info")
    assert send(house.router, request)[1] == b"directory"
    assert house.directory.place == Place(
        root=os.fsencode(house.root),
        file=os.fsencode(house.bin / "deep" / "run"),
        script_name=b"/cgi-bin/deep/run",
        path_info=b"/more//info",
    )
    assert request.notes.route == "/cgi-bin/"
    assert request.notes.limits.request_body == 1
    assert house.directory.left == 1


def test_a_script_by_its_name(house: House) -> None:
    assert get(house.router, b"/x.cgi") == b"cgi"
    assert house.cgi.place.path_info == b""
    assert get(house.router, b"//x.cgi//a%20b/", "POST") == b"cgi"
    assert house.cgi.place == Place(
        root=os.fsencode(house.root),
        file=os.fsencode(house.root / "x.cgi"),
        script_name=b"/x.cgi",
        path_info=b"//a b/",
    )


def test_routes_are_tried_in_their_order(house: House) -> None:
    assert get(house.router, b"/x.fcgi/x.cgi") == b"fcgi"
    (house.bin / "x.cgi").write_bytes(SOURCE)
    assert get(house.router, b"/cgi-bin/x.cgi") == b"directory"


def test_a_script_that_appears_or_goes_is_seen_at_once(house: House) -> None:
    assert get(house.router, b"/new.cgi") == 404
    (house.root / "new.cgi").write_bytes(SOURCE)
    assert get(house.router, b"/new.cgi") == b"cgi"
    (house.root / "new.cgi").unlink()
    assert get(house.router, b"/new.cgi") == 404


@pytest.mark.parametrize(
    ("path", "name", "info"),
    [
        (b"/app/", b"/app", b"/"),
        (b"/app", b"/app", b""),
        (b"/app/a%2Fb", b"/app", b"/a/b"),
        (b"//app//a//b", b"/app", b"//a//b"),
        (b"/app/.hidden/..", b"/app", b"/"),
        (b"/app/.git/config", b"/app", b"/.git/config"),
        (b"/app/x.cgi", b"/app", b"/x.cgi"),
        (b"/app/%F0%9F%98%80\xff", b"/app", "/😀".encode() + b"\xff"),
    ],
)
def test_an_application_gets_the_rest(house: House, path: bytes, name: bytes, info: bytes) -> None:
    assert get(house.router, path) == b"app"
    assert house.app.place == Place(
        root=os.fsencode(house.root), file=b"", script_name=name, path_info=info
    )


@pytest.mark.parametrize("path", [b"/apple", b"/APP/", b"/app%2Fx", b"/x/../app%2f", b"/a%2f/app/"])
def test_an_application_gets_nothing_else(house: House, path: bytes) -> None:
    assert get(house.router, path) == 404
    assert not house.app.asked


def test_an_application_at_the_root() -> None:
    app = Program(b"app")
    route = Route(key="a/0", name="/", prefix=b"/", kind="app", handler=app, limits=Limits())
    router = routed([Site(name="a", routes=(route,), limits=Limits())])
    for path, info in ((b"/", b"/"), (b"/a/b", b"/a/b"), (b"/a%2Fb", b"/a/b"), (b"//a", b"//a")):
        assert get(router, path) == b"app"
        assert (app.place.script_name, app.place.path_info) == (b"", info)


def test_files(house: House) -> None:
    request = ask(b"/page.html")
    assert send(house.router, request)[1] == b"page"
    assert (request.notes.route, request.notes.place.script_name) == ("", b"/page.html")
    assert get(house.router, b"//./page.html") == b"page"
    assert get(house.router, b"/p%61ge.html") == b"page"
    assert get(house.router, b"/nothing") == 404
    assert get(house.router, b"/page.html/") == 404


def test_files_of_a_route(house: House) -> None:
    request = ask(b"/files/file.txt")
    assert send(house.router, request)[1] == b"file"
    assert request.notes.route == "/files/"
    assert get(house.router, b"/files/page.html") == 404
    assert get(house.router, b"/filesfile.txt") == 404
    status, _, headers = send(house.router, ask(b"/files", query=b"q"))
    assert (status, headers[b"Location"]) == (301, b"/files/?q")


def test_a_site_without_files() -> None:
    router = routed([Site(name="a", limits=Limits())])
    for path in (b"/", b"/x", b"/x/"):
        assert get(router, path) == 404


# -- directories


def test_a_directory_is_answered_by_its_index_in_order(house: House) -> None:
    assert get(house.router, b"/sub/") == b"cgi"
    assert house.cgi.place.script_name == b"/sub/index.cgi"
    assert house.cgi.place.path_info == b""
    (house.root / "sub" / "index.html").write_bytes(b"index")
    assert get(house.router, b"/sub/") == b"index"
    (house.root / "sub" / "index.html").unlink()
    assert get(house.router, b"/sub/") == b"cgi"
    (house.root / "sub" / "index.html").mkdir()
    assert get(house.router, b"/sub/") == b"cgi"


def test_an_index_that_goes_is_missed_at_once(house: House) -> None:
    (house.root / "sub" / "index.html").write_bytes(b"index")
    (house.root / "sub" / "index.cgi").unlink()
    assert get(house.router, b"/sub/") == b"index"
    (house.root / "sub" / "index.html").unlink()
    listing = get(house.router, b"/sub/")
    assert isinstance(listing, bytes)
    assert b"Index of" in listing


def test_a_better_index_is_found_after_a_while(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    (house.root / "sub" / "index.cgi").unlink()
    (house.root / "sub" / "index.html").write_bytes(b"index")
    router = routed([replace(house.site, index=(b"first.html", b"index.html"))])
    assert get(router, b"/sub/") == b"index"
    (house.root / "sub" / "first.html").write_bytes(b"first")
    monkeypatch.setattr("gateway.site.map.monotonic", lambda: float("inf"))
    assert get(router, b"/sub/") == b"first"


def test_a_directory_without_index_is_listed(house: House) -> None:
    (house.root / "sub" / "index.cgi").unlink()
    listing = get(house.router, b"/sub/")
    assert isinstance(listing, bytes)
    assert b"Index of /sub/" in listing


def test_the_index_of_a_script_directory_is_a_script(house: House) -> None:
    assert get(house.router, b"/cgi-bin/") == 404
    assert get(house.router, b"/cgi-bin/deep/") == 404
    assert get(house.router, b"/cgi-bin/deep") == 404
    (house.bin / "deep" / "index.cgi").write_bytes(SOURCE)
    assert get(house.router, b"/cgi-bin/deep/") == b"directory"
    assert house.directory.place.script_name == b"/cgi-bin/deep/index.cgi"


@pytest.mark.parametrize(
    "path", [b"/sub", b"//sub", b"///sub", b"/./sub", b"/x/..//sub", b"/%73ub"]
)
def test_a_directory_redirect_stays_on_this_host(house: House, path: bytes) -> None:
    status, _, headers = send(house.router, ask(path, query=b"a=/b"))
    assert (status, headers[b"Location"]) == (301, b"/sub/?a=/b")


@pytest.mark.parametrize("name", ["evil.example", "\\evil.example", "evil.example\\@x", "\tevil"])
def test_a_redirect_never_names_another_host(house: House, name: str) -> None:
    (house.root / name).mkdir()
    for path in (b"//" + name.encode(), b"/%2e//" + name.encode(), b"/.//" + name.encode()):
        status, _, headers = send(house.router, ask(path))
        assert status == 301
        location = headers[b"Location"]
        assert location.startswith(b"/")
        assert not location.startswith((b"//", b"/\\", b"/\t"))


# -- what is never reached (FIELD section 3, rows 5, 6 and 7)


@pytest.mark.parametrize(
    "path",
    [
        b"/a.jpg/x.cgi",
        b"/a.jpg/.cgi",
        b"/a.jpg%00.cgi",
        b"/a.jpg%0a.cgi",
        b"/a.jpg%0a/x.cgi",
        b"/page.html/x.fcgi/y",
        "/a.jpg/x．ｃｇｉ".encode(),
    ],
)
def test_a_picture_is_never_run(house: House, path: bytes) -> None:
    assert get(house.router, path) in (400, 404)
    assert not house.cgi.asked
    assert not house.fcgi.asked


@pytest.mark.parametrize(
    "name",
    [
        "X.CGI", "x.Cgi", "x.cgi ", "x.cgi.", "x．ｃｇｉ", "x.cgİ", "x.ⓒⓖⓘ", "x.cgi\n", "x.cgi%",
        "x.cgi.jpg", "x.cgi::$DATA",
    ],
)  # fmt: skip
def test_a_look_alike_of_a_script_is_never_run(house: House, name: str) -> None:
    (house.root / name).write_bytes(SOURCE)
    get(house.router, b"/" + "".join(f"%{byte:02x}" for byte in name.encode()).encode())
    assert not house.cgi.asked


TRAVERSALS = [
    b"/../secret",
    b"/../../../../../../etc/passwd",
    b"/%2e%2e/secret",
    b"/.%2e/secret",
    b"/%2e%2e%2fsecret",
    b"/..%2fsecret",
    b"/%252e%252e/secret",
    b"/%%32%65%%32%65/secret",
    b"/..\\secret",
    b"/..%5csecret",
    b"/..;/secret",
    b"/.../secret",
    b"/sub/../../secret",
    b"/files../secret",
    b"/files/../secret",
    b"/files/..%2fsecret",
    b"/files%2f..%2fsecret",
    b"/cgi-bin/../secret",
    b"/cgi-bin/.%2e/%2e%2e/%2e%2e/%2e%2e/bin/sh",
    b"/cgi-bin/%%32%65%%32%65/%%32%65%%32%65/bin/sh",
    b"/cgi-bin/..%2f..%2fbin/sh",
    b"/cgi-bin//../../secret",
    b"/cgi-bin/deep/../../secret",
    b"/\xc0\xae\xc0\xae/secret",
    b"/%c0%ae%c0%ae/secret",
    b"/~root/",
    b"/~../secret",
    b"/~./secret",
    b"//etc/passwd",
    b"/.%00./secret",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_leads_out_of_the_root(house: House, path: bytes) -> None:
    (house.root.parent / "secret").write_bytes(SOURCE)
    assert get(house.router, path) in (400, 404)
    assert not house.directory.asked


@pytest.mark.parametrize(
    "path",
    [
        b"/.htpasswd", b"/%2ehtpasswd", b"/.git/config", b"/sub/.env", b"//.htpasswd",
        b"/.git/", b"/.git", b"/.git/x.cgi", b"/cgi-bin/.env", b"/cgi-bin/.d/run",
        b"/files/.env", b"/.well-known/.env", b"/sub/.well-known/x", b"/.well-known/x.cgi",
    ],
)  # fmt: skip
def test_dotfiles_are_not_there(house: House, path: bytes) -> None:
    for directory in (house.root, house.root / "sub", house.bin, house.files):
        (directory / ".env").write_bytes(SOURCE)
    (house.root / ".htpasswd").write_bytes(SOURCE)
    for name in (".git", ".well-known", "sub/.well-known"):
        (house.root / name).mkdir()
        for file in ("config", "x", "x.cgi", ".env"):
            (house.root / name / file).write_bytes(SOURCE)
    (house.bin / ".d").mkdir()
    (house.bin / ".d" / "run").write_bytes(SOURCE)
    assert get(house.router, path) == 404
    assert not house.cgi.asked
    assert not house.directory.asked


def test_well_known_files_are_there(house: House) -> None:
    (house.root / ".well-known").mkdir()
    (house.root / ".well-known" / "security.txt").write_bytes(b"Contact:")
    assert get(house.router, b"/.well-known/security.txt") == b"Contact:"


LEFTOVERS = [
    "x.cgi~", "x.cgi.bak", "x.cgi.orig", "x.cgi.old", "x.cgi.swp", "#x.cgi#", "x.cgi.gz",
    "x.cgi.br", "x.cgi.save", "X.CGI", "x.cgi.", "x.cgi ", "x.fcgi~", "sub/x.cgi.bak",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", LEFTOVERS)
def test_what_lies_beside_a_script_is_never_sent(house: House, name: str, method: str) -> None:
    (house.root / name).write_bytes(SOURCE)
    path = b"/" + name.encode().replace(b" ", b"%20").replace(b"#", b"%23")
    assert get(house.router, path, method) == 404
    assert not house.cgi.asked


def test_the_text_of_a_script_is_never_sent(house: House) -> None:
    (house.root / "alias.txt").symlink_to("x.cgi")
    (house.root / "page.html.gz").symlink_to("x.cgi")
    (house.files / "y.cgi").write_bytes(SOURCE)
    (house.root / "d.cgi").mkdir()
    (house.root / "d.cgi" / "z.cgi~").write_bytes(SOURCE)
    os.mkfifo(house.root / "f.cgi")
    for path in (
        b"/x.cgi", b"/x.cgi/", b"/x%2ecgi", b"//x.cgi", b"/x.cgi/../x.cgi", b"/alias.txt",
        b"/x.fcgi", b"/files/y.cgi", b"/d.cgi/z.cgi~", b"/f.cgi", b"/cgi-bin/run", b"/sub/",
        b"//cgi-bin//run", b"/./cgi-bin/run", b"/%63gi-bin/run", b"/sub/index.cgi", b"/d.cgi",
        b"/x/../cgi-bin/run", b"/CGI-BIN/run", b"/cgi-bin/deep/run/x",
    ):  # fmt: skip
        for method in ("GET", "HEAD", "POST", "OPTIONS", "PUT"):
            status, body, _ = send(house.router, ask(path, method))
            assert b"hunter2" not in body, (path, method)
            assert status in (200, 204, 404, 405), (path, method)


def test_a_script_directory_inside_the_root_is_hidden_by_every_name(tmp_path: Path) -> None:
    root = tmp_path / "htdocs"
    (root / "programs").mkdir(parents=True)
    (root / "programs" / "run").write_bytes(SOURCE)
    (root / "alias").symlink_to("programs")
    program = Program(b"ran")
    route = Route(
        key="m/0", name="cgi", prefix=b"/cgi-bin/", kind="script",
        root=os.fsencode(root / "programs"), handler=program, limits=Limits(),
    )  # fmt: skip
    static = Static(
        StaticSettings(root=os.fsencode(root), sources=sources([route]), symlinks="any")
    )
    site = Site(name="m", root=os.fsencode(root), routes=(route,), static=static, limits=Limits())
    router = routed([site])
    assert get(router, b"/cgi-bin/run") == b"ran"
    for path in (b"/programs/run", b"/alias/run", b"//programs/run", b"/programs//run"):
        assert get(router, path) == 404


def test_a_pattern_below_a_prefix_concerns_only_that(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "a.py").write_bytes(SOURCE)
    (tmp_path / "b.py").write_bytes(b"an example to download")
    (tmp_path / "link.txt").symlink_to("tools/a.py")
    program = Program(b"ran")
    route = Route(
        key="m/0", name="tools", prefix=b"/tools/", match=b"*.py", kind="script",
        root=os.fsencode(tmp_path / "tools"), handler=program, limits=Limits(),
    )  # fmt: skip
    static = Static(StaticSettings(root=os.fsencode(tmp_path), sources=sources([route])))
    router = routed(
        [
            Site(
                name="m", root=os.fsencode(tmp_path), routes=(route,), static=static,
                limits=Limits(),
            )
        ]
    )  # fmt: skip
    assert get(router, b"/tools/a.py/info") == b"ran"
    assert program.place.script_name == b"/tools/a.py"
    assert get(router, b"/tools/a.py.bak") == 404
    assert get(router, b"/b.py") == b"an example to download"
    assert get(router, b"/link.txt") == 404


@pytest.mark.parametrize("symlinks", ["none", "owner-match", "any"])
def test_a_script_behind_a_link_obeys_the_policy(tmp_path: Path, symlinks: SymlinkPolicy) -> None:
    house = House(tmp_path, symlinks)
    (tmp_path / "outside.cgi").write_bytes(SOURCE)
    (house.root / "real.cgi").write_bytes(SOURCE)
    (house.root / "link.cgi").symlink_to("real.cgi")
    (house.root / "out.cgi").symlink_to("../outside.cgi")
    (house.root / "shell.cgi").symlink_to("/bin/sh")
    assert get(house.router, b"/link.cgi") == (404 if symlinks == "none" else b"cgi")
    assert get(house.router, b"/out.cgi") == 404
    assert get(house.router, b"/shell.cgi") == 404


def test_an_encoded_slash_is_for_applications_only(house: House) -> None:
    for path in (b"/sub%2findex.cgi", b"/x.cgi%2finfo", b"/cgi-bin/run%2Fx", b"/files%2ffile.txt",
                 b"/x.cgi/a%2fb", b"/files/sub%2f"):  # fmt: skip
        assert get(house.router, path) == 404
    assert not house.cgi.asked


def test_what_clients_make_us_remember_is_bounded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_map, "REMEMBERED", 10)
    for n in range(100):
        send(house.router, ask(b"/nothing-%d" % n))
        send(house.router, ask(b"/app/%d" % n))
        send(house.router, ask(b"/" + b"." * n + b"./page.html"))
    send(house.router, ask(b"/" + b"long" * 1000))
    remembered = house.router._composed_site(0).remembered
    assert len(remembered) <= 10
    assert max(map(len, remembered)) <= site_map.REMEMBERED_LENGTH


# -- local redirects


def redirecting(location: bytes) -> Callable[[Request], None]:
    def act(request: Request) -> None:
        raise LocalRedirect(location)

    return act


def test_a_local_redirect_is_answered_as_a_get_without_body(house: House) -> None:
    house.cgi.act = redirecting(b"/app/next?a=b?c")
    first = ask(b"/x.cgi", "POST")
    assert send(house.router, first)[1] == b"app"
    request = house.app.asked[0]
    assert (request.method, request.path, request.query) == ("GET", b"/app/next", b"a=b?c")
    assert request.target == b"/app/next?a=b?c"
    assert request.length == 0
    assert request.body is NO_BODY
    assert request.headers == ((b"host", b"x"),)
    assert (request.id, request.notes) == (first.id, first.notes)
    assert first.notes.place.path_info == b"/next"
    assert house.app.left == 1


def test_a_local_redirect_to_a_file(house: House) -> None:
    house.cgi.act = redirecting(b"/page.html#part")
    request = ask(b"/x.cgi")
    assert send(house.router, request)[1] == b"page"
    assert request.notes.route == ""


def test_a_local_redirect_reaches_nothing_that_a_client_could_not(house: House) -> None:
    (house.root / ".env").write_bytes(SOURCE)
    (house.root / "x.cgi~").write_bytes(SOURCE)
    for location in (b"/.env", b"/x.cgi~", b"/../secret", b"//etc/passwd", b"/nothing"):
        house.cgi.act = redirecting(location)
        assert send(house.router, ask(b"/x.cgi"))[0] == 404


@pytest.mark.parametrize("location", [b"", b"x", b"/%zz", b"/a%00", b"*", b"?a=b"])
def test_a_local_redirect_to_nowhere_is_the_scripts_fault(house: House, location: bytes) -> None:
    house.cgi.act = redirecting(location)
    status, log, _ = send(house.router, ask(b"/x.cgi"))
    assert status == 502
    assert b"local redirect" in log


def test_a_local_redirect_stays_in_its_site(house: House) -> None:
    other = Program(b"other")
    route = Route(key="b/0", name="/", prefix=b"/", kind="app", handler=other, limits=Limits())
    second = Site(name="b", hosts=(b"b.example",), routes=(route,), limits=Limits())
    router = routed([house.site, second])
    house.cgi.act = redirecting(b"//b.example/page.html")
    assert send(router, ask(b"/x.cgi"))[0] == 404
    assert not other.asked


def test_local_redirects_without_end_end(house: House) -> None:
    house.cgi.act = redirecting(b"/x.cgi")
    status, log, _ = send(house.router, ask(b"/x.cgi"))
    assert status == 502
    assert b"redirects" in log
    assert len(house.cgi.asked) == REDIRECTS + 1


def test_a_chain_of_local_redirects(house: House) -> None:
    def act(request: Request) -> None:
        left = int(request.query or b"0")
        if left:
            raise LocalRedirect(b"/x.cgi?%d" % (left - 1))

    house.cgi.act = act
    assert send(house.router, ask(b"/x.cgi", query=b"%d" % REDIRECTS))[1] == b"cgi"
    assert house.cgi.left == len(house.cgi.asked) == REDIRECTS + 1


def test_files_are_answered_without_a_wrapper(house: House) -> None:
    """What is remembered of a file comes back as it is: the path that must be fast."""
    send(house.router, ask(b"/page.html"))
    assert house.router(ask(b"/page.html")) is house.router(ask(b"/page.html"))
