"""Scripts that a front server names: which file is meant, and below which root it must be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.exchange import (
    NO_BODY,
    Limits,
    LocalRedirect,
    Notes,
    Place,
    Refused,
    Request,
    Response,
)
from gateway.site.given import Given, GivenRoot
from gateway.units import Size

LIMITS = Limits(request_body=Size(7))


class Program:
    """A backend that remembers what it was asked and that it was left."""

    def __init__(self, label: str, redirect: bytes = b"") -> None:
        self.label = label
        self.redirect = redirect
        self.places: list[Place] = []
        self.left = 0

    @asynccontextmanager
    async def __call__(self, request: Request) -> AsyncIterator[Response]:
        self.places.append(request.notes.place)
        try:
            if self.redirect:
                raise LocalRedirect(self.redirect)
            yield Response(status=200, body=self.label.encode())
        finally:
            self.left += 1


def request(**params: bytes | Path) -> Request:
    sent = {
        name.encode(): bytes(value) if isinstance(value, Path) else value
        for name, value in params.items()
    }
    return Request(
        id="1", method="GET", target=b"/", path=b"/", query=b"", protocol=b"HTTP/1.1", headers=(),
        host=b"", scheme=b"http", remote=("", 0), local=("", 0), body=NO_BODY, length=0,
        notes=Notes(Limits()), params=sent, via="fastcgi",
    )  # fmt: skip


class House:
    """Two roots, one inside the other, one script alone, and what lies around."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "cgi"
        self.inner = self.root / "inner"
        self.alone = base / "alone" / "one.cgi"
        for path in (
            self.root / "a.cgi",
            self.root / "dir" / "b.cgi",
            self.root / ".hidden" / "c.cgi",
            self.inner / "d.cgi",
            self.alone,
            base / "alone" / "two.cgi",
            base / "cgi-other" / "e.cgi",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("#!/bin/sh\n")
        self.outer, self.within, self.single = Program("outer"), Program("inner"), Program("alone")
        roots = [
            GivenRoot(root=bytes(self.root), handler=self.outer),
            GivenRoot(root=bytes(self.inner), handler=self.within),
            GivenRoot(root=bytes(self.alone.parent), only=bytes(self.alone), handler=self.single),
        ]
        self.given = Given(roots, LIMITS)

    def ask(self, **params: bytes | Path) -> str:
        """Return who answered."""

        async def one() -> str:
            async with self.given(request(**params)) as response:
                assert isinstance(response.body, bytes)
                return response.body.decode()

        return asyncio.run(one())

    def refused(self, **params: bytes | Path) -> Refused:
        with pytest.raises(Refused) as caught:
            self.ask(**params)
        assert not any(one.places for one in (self.outer, self.within, self.single))
        return caught.value

    @property
    def place(self) -> Place:
        ((place,),) = (one.places for one in (self.outer, self.within, self.single) if one.places)
        return place


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_file_below_a_root_is_handed_to_it(house: House) -> None:
    asked = request(
        SCRIPT_FILENAME=house.root / "a.cgi", SCRIPT_NAME=b"/x/a.cgi", PATH_INFO=b"/more",
        DOCUMENT_ROOT=b"/srv/www",
    )  # fmt: skip
    house.given(asked)
    assert asked.notes.limits is LIMITS
    assert asked.notes.route == "script = param"
    assert asked.notes.place == Place(
        root=b"/srv/www",
        file=bytes(house.root / "a.cgi"),
        script_name=b"/x/a.cgi",
        path_info=b"/more",
    )


def test_without_a_name_and_a_document_root_the_listed_root_is_it(house: House) -> None:
    assert house.ask(SCRIPT_FILENAME=house.root / "dir/b.cgi") == "outer"
    assert house.place.root == bytes(house.root)
    assert house.place.script_name == b"/dir/b.cgi"
    assert house.outer.left == 1


def test_innermost_root_answers(house: House) -> None:
    assert house.ask(SCRIPT_FILENAME=house.inner / "d.cgi") == "inner"


def test_root_of_everything(tmp_path: Path) -> None:
    program = Program("all")
    given = Given([GivenRoot(root=b"", handler=program)], LIMITS)
    given(request(SCRIPT_FILENAME=b"/bin/sh"))
    for file in (b"/", b""):
        with pytest.raises(Refused):
            given(request(SCRIPT_FILENAME=file))
    asked = request(DOCUMENT_ROOT=b"/", SCRIPT_NAME=bytes(tmp_path) + b"/no.cgi")
    given(asked)
    assert asked.notes.place.file == bytes(tmp_path) + b"/no.cgi"


@pytest.mark.parametrize(
    ("file", "rule"),
    [
        (b"a.cgi", "relative"),
        (b"./a.cgi", "relative"),
        (b" {root}/a.cgi", "relative"),
        (b"{root}/../alone/two.cgi", "dots"),
        (b"{root}/./a.cgi", "dots"),
        (b"{root}/dir/..", "dots"),
        (b"{root}/..", "dots"),
        (b"{root}", "outside"),
        (b"{root}/", "outside"),
        (b"{root}-other/e.cgi", "outside"),
        (b"/{root}/a.cgi", "outside"),
        (b"/bin/sh", "outside"),
        (b"{base}/alone/two.cgi", "outside"),
        (b"{base}/alone/one.cgi/more", "outside"),
        (b"{base}/alone/one.cgi2", "outside"),
        (b"{base}/alone", "outside"),
        (b"/bin/proxy:fcgi://x{root}/a.cgi", "outside"),
        (b"proxy:fcgi://x/../etc/passwd", "dots"),
        (b"proxy:fcgi://x/bin/sh", "outside"),
        (b"proxy:fcgi://x", "relative"),
        (b"proxy:fcgi://x/proxy:fcgi://x{root}/a.cgi", "outside"),
        (b"\xff\x1b[2J", "relative"),
    ],
)  # fmt: skip
def test_row_13_refused_file_is_logged_with_its_rule(house: House, file: bytes, rule: str) -> None:
    named = file.replace(b"{root}", bytes(house.root)).replace(b"{base}", bytes(house.base))
    refused = house.refused(SCRIPT_FILENAME=named, DOCUMENT_ROOT=house.root, SCRIPT_NAME=b"/a.cgi")
    assert refused.status == 403
    assert refused.log.startswith(f'rule "{rule}": ')
    assert "\x1b" not in refused.log
    assert str(house.root) not in refused.say


def test_one_script_alone(house: House) -> None:
    assert house.ask(SCRIPT_FILENAME=house.alone, PATH_INFO=b"/x") == "alone"
    assert house.place.path_info == b"/x"


@pytest.mark.parametrize(
    "prefix",
    [
        b"proxy:fcgi://127.0.0.1:9000",
        b"proxy:fcgi://localhost",
        b"proxy:unix:/run/g.sock|fcgi://localhost",
        b"proxy:scgi://[::1]:4000",
        b"proxy:balancer://name",
    ],
)
def test_prefix_of_apache_is_taken_off(house: House, prefix: bytes) -> None:
    assert house.ask(SCRIPT_FILENAME=prefix + bytes(house.root / "a.cgi")) == "outer"
    assert house.place.file == bytes(house.root / "a.cgi")


@pytest.mark.parametrize(
    ("name", "file", "script_name", "info"),
    [
        (b"/a.cgi", b"/a.cgi", b"/a.cgi", b""),
        (b"a.cgi", b"/a.cgi", b"a.cgi", b""),
        (b"/a.cgi/", b"/a.cgi", b"/a.cgi", b"/"),
        (b"/a.cgi/x/y", b"/a.cgi", b"/a.cgi", b"/x/y"),
        (b"/a.cgi//x//y/", b"/a.cgi", b"/a.cgi", b"//x//y/"),
        (b"/a.cgi/.hidden", b"/a.cgi", b"/a.cgi", b"/.hidden"),
        (b"/dir/b.cgi/a.cgi", b"/dir/b.cgi", b"/dir/b.cgi", b"/a.cgi"),
        (b"//dir//b.cgi", b"/dir/b.cgi", b"//dir//b.cgi", b""),
    ],
)
def test_document_root_and_name_are_walked_to_the_first_file(
    house: House, name: bytes, file: bytes, script_name: bytes, info: bytes
) -> None:
    assert house.ask(DOCUMENT_ROOT=house.root, SCRIPT_NAME=name) == "outer"
    assert house.place == Place(
        root=bytes(house.root),
        file=bytes(house.root) + file,
        script_name=script_name,
        path_info=info,
    )


def test_document_root_above_or_below_the_listed_one(house: House) -> None:
    assert house.ask(DOCUMENT_ROOT=house.base, SCRIPT_NAME=b"/cgi/inner/d.cgi/x") == "inner"
    assert (house.place.script_name, house.place.path_info) == (b"/cgi/inner/d.cgi", b"/x")
    assert house.ask(DOCUMENT_ROOT=house.root / "dir", SCRIPT_NAME=b"/b.cgi") == "outer"
    assert house.outer.places[0].file == bytes(house.root / "dir/b.cgi")


def test_one_script_alone_is_walked_to_as_well(house: House) -> None:
    assert house.ask(DOCUMENT_ROOT=house.base, SCRIPT_NAME=b"/alone/one.cgi/x/y") == "alone"
    assert house.place.file == bytes(house.alone)
    assert house.place.path_info == b"/x/y"


@pytest.mark.parametrize(
    ("root", "name", "status"),
    [
        ("{base}", b"/alone/two.cgi", 403),
        ("{base}", b"/alone/one.cgi2/x", 403),
        ("{root}", b"/../alone/two.cgi", 403),
        ("{root}/..", b"/cgi/a.cgi", 403),
        ("cgi", b"/a.cgi", 403),
        ("/", b"/bin/sh", 403),
        ("{root}", b"", 400),
        ("", b"/a.cgi", 400),
        ("{root}", b"/", 403),
        ("{root}", b"/.hidden/c.cgi", 404),
    ],
)
def test_row_13_walked_path_that_is_refused(
    house: House, root: str, name: bytes, status: int
) -> None:
    named = root.format(root=house.root, base=house.base).encode()
    refused = house.refused(DOCUMENT_ROOT=named, SCRIPT_NAME=name)
    assert refused.status == status
    assert refused.log


@pytest.mark.parametrize("name", [b"/missing.cgi", b"/dir", b"/out.cgi", b"/out/e.cgi"])
def test_walked_path_without_a_file_is_handed_on_whole(house: House, name: bytes) -> None:
    """Who opens it knows whether it is missing, no file, or a link that leads out."""
    (house.root / "out.cgi").symlink_to(house.base / "cgi-other" / "e.cgi")
    (house.root / "out").symlink_to(house.base / "cgi-other")
    house.ask(DOCUMENT_ROOT=house.root, SCRIPT_NAME=name)
    assert house.place.file == bytes(house.root) + name
    assert house.place.path_info == b""


def test_untrusted_front_names_nothing(house: House) -> None:
    assert house.refused().status == 400


def test_local_redirect_is_one_that_the_client_follows(house: House) -> None:
    house.outer.redirect = b"/elsewhere?x=1"

    async def one() -> Response:
        async with house.given(request(SCRIPT_FILENAME=house.root / "a.cgi")) as response:
            return response

    response = asyncio.run(one())
    assert (response.status, response.headers) == (302, ((b"Location", b"/elsewhere?x=1"),))
    assert house.outer.left == 1


def test_failure_of_the_program_is_its_own(house: House) -> None:
    async def one() -> None:
        async with house.given(request(SCRIPT_FILENAME=house.root / "a.cgi")):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        asyncio.run(one())
    assert house.outer.left == 1


@pytest.mark.parametrize("file", [b"/srv/.git/hooks/post-commit", b"/srv/a/.x.cgi"])
def test_named_file_that_is_hidden_is_refused(file: bytes) -> None:
    given = Given([GivenRoot(root=b"/srv", handler=Program("never"))], LIMITS)
    with pytest.raises(Refused) as caught:
        given(request(SCRIPT_FILENAME=file, SCRIPT_NAME=b"/x"))
    assert caught.value.status == 403
    assert 'rule "hidden"' in caught.value.log


def test_hidden_directory_may_be_above_the_listed_root() -> None:
    program = Program("yes")
    given = Given([GivenRoot(root=b"/home/a/.cgi", handler=program)], LIMITS)
    given(request(SCRIPT_FILENAME=b"/home/a/.cgi/x.cgi", SCRIPT_NAME=b"/x"))
