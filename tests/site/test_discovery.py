"""Tenants are found when they are asked for, and forgotten when they are not."""

import os
from pathlib import Path

import pytest

from gateway.exchange import Limits, Refused
from gateway.process.tenants import Home
from gateway.site import discovery
from gateway.site.discovery import Discovery
from gateway.site.map import Site


class House:
    """A directory of users and one of hosts, and what was composed of them."""

    def __init__(self, root: Path, least: tuple[int, int] = (0, 0)) -> None:
        self.root = root
        self.made: list[str] = []
        self.discovery = Discovery(
            userdir=f"{root}/home/*/public_html",
            hosts=f"{root}/www/{{host}}",
            symlinks="owner-match",
            least=least,
            compose=self._compose,
        )

    def user(self, name: str) -> Path:
        path = self.root / "home" / name / "public_html"
        path.mkdir(parents=True)
        return path

    def host(self, name: str) -> Path:
        path = self.root / "www" / name
        path.mkdir(parents=True)
        return path

    def _compose(self, name: str, home: Home) -> Site:
        self.made.append(name)
        return Site(name=name, root=home.path, limits=Limits())


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(discovery, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    "path", [b"/~alice/", b"/~alice", b"/~alice/a/b", b"/%7Ealice/", b"/%7ealice/", b"/~%61lice/"]
)
def test_a_user_is_found_by_path(house: House, path: bytes) -> None:
    home = house.user("alice")
    for _ in range(3):
        found = house.discovery.userdir(path)
        assert found is not None
        assert found.site.name == "~alice"
        assert found.site.root == os.fsencode(home)
    assert house.made == ["~alice"]


@pytest.mark.parametrize(
    "path", [b"/", b"/alice/", b"/a/~alice/", b"/%70", b"//~alice/", b"/~alice%2f.."]
)
def test_another_path_is_no_users(house: House, path: bytes) -> None:
    house.user("alice")
    assert house.discovery.userdir(path) is None


def test_an_escape_that_is_none_is_refused(house: House) -> None:
    with pytest.raises(Refused, match="400"):
        house.discovery.userdir(b"/%7")


@pytest.mark.parametrize(
    "path",
    [b"/~bob/", b"/~", b"/~/", b"/~../", b"/~./", b"/~root/", b"/~%2e%2e/",
     b"/~alice%00/", b"/~-x/", b"/~" + b"x" * 5000, "/~\uff41lice/".encode()],
)  # fmt: skip
def test_nobody_is_refused(house: House, path: bytes) -> None:
    house.user("alice")
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            house.discovery.userdir(path)
        assert caught.value.status in (400, 404)
    assert house.made == []


def test_a_host_is_found_by_its_directory(house: House) -> None:
    house.host("a.example")
    assert house.discovery.host(b"b.example") is None
    assert house.discovery.host(b"..") is None
    assert house.discovery.host(b"") is None
    for name in (b"a.example", b"a.example."):
        found = house.discovery.host(name)
        assert found is not None
        assert found.site.name == "@a.example"
    assert house.made == ["@a.example"]


def test_a_name_that_leads_nowhere_is_looked_for_again_after_a_while(
    house: House, clock: list[float]
) -> None:
    assert house.discovery.host(b"a.example") is None
    house.host("a.example")
    assert house.discovery.host(b"a.example") is None
    clock[0] += discovery.MISSED
    assert house.discovery.host(b"a.example") is not None


def test_a_directory_that_is_another_one_is_another_tenant(
    house: House, clock: list[float]
) -> None:
    path = house.host("a.example")
    first = house.discovery.host(b"a.example")
    clock[0] += discovery.LOOK
    assert house.discovery.host(b"a.example") is first
    path.rename(path.with_name("old"))
    house.host("a.example")
    assert house.discovery.host(b"a.example") is first
    clock[0] += discovery.LOOK
    assert house.discovery.host(b"a.example") is not first
    assert house.made == ["@a.example"] * 2


def test_what_nobody_asks_for_is_forgotten(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "KEPT", 3)
    for name in ("a", "b", "c", "d"):
        house.host(name)
    for name in (b"a", b"b", b"c", b"a", b"x", b"d", b"a", b"b"):
        house.discovery.host(name)
    assert house.made == ["@a", "@b", "@c", "@d", "@b"]


def test_a_directory_of_the_system_is_no_tenants(tmp_path: Path) -> None:
    house = House(tmp_path, least=(os.getuid() + 1, 0))
    house.user("alice")
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            house.discovery.userdir(b"/~alice/")
        assert caught.value.status == 403
        assert "is no tenant's" in caught.value.log


def test_a_link_out_is_not_followed(house: House) -> None:
    (house.root / "www").mkdir()
    (house.root / "www" / "a.example").symlink_to("/etc")
    with pytest.raises(Refused) as caught:
        house.discovery.host(b"a.example")
    assert caught.value.status == 403
    assert "cannot be entered" in caught.value.log
