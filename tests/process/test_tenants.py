"""What a tenant is called, and where it lives."""

import os
from pathlib import Path

import pytest

from gateway.process import tenants
from gateway.process.spec import TenantRoots

USERDIR = "/home/*/public_html"
HOSTS = "/srv/www/{host}/htdocs"


@pytest.mark.parametrize("account", [b"alice", b"a", b"_x", b"web-1", b"a.b", b"Alice", b"x" * 32])
def test_a_name_of_an_account(account: bytes) -> None:
    name = tenants.userdir_name(account)
    assert name == f"~{account.decode()}"
    home = tenants.home_of(name, USERDIR, HOSTS)
    assert home is not None
    assert home.path == b"/home/" + account + b"/public_html"
    assert (home.base, home.below) == (b"/home", (account, b"public_html"))


@pytest.mark.parametrize(
    "account",
    [
        b"", b".", b"..", b"-rf", b"1a", b".ssh", b"a/b", b"a\0", b"a\n", b"a b", b"*", b"x" * 33,
        "ａlice".encode(), "alicé".encode(), b"a;b", b"~", b"{host}",
    ],
)  # fmt: skip
def test_no_name_of_an_account(account: bytes) -> None:
    assert tenants.userdir_name(account) is None
    assert tenants.home_of(f"~{account.decode('latin-1')}", USERDIR, HOSTS) is None


@pytest.mark.parametrize("host", [b"example.org", b"a", b"xn--bcher-kva.example", b"1.2.3.4"])
def test_a_host(host: bytes) -> None:
    name = tenants.host_name(host)
    assert name is not None
    home = tenants.home_of(name, USERDIR, HOSTS)
    assert home is not None
    assert (home.base, home.below) == (b"/srv/www", (host, b"htdocs"))


@pytest.mark.parametrize(
    "host",
    [
        b"", b".", b"..", b".example", b"a..b", b"a.", b"-a", b"a.-b", b"a/b", b"[::1]", b"A",
        b"a\n", b"a" * 254, "bücher".encode(), b"*.a", b"a:80", b"..%2f",
    ],
)  # fmt: skip
def test_no_host(host: bytes) -> None:
    assert tenants.host_name(host) is None
    assert tenants.home_of(f"@{host.decode('latin-1')}", USERDIR, HOSTS) is None


def test_a_mark_may_be_part_of_a_component() -> None:
    home = tenants.home_of("@a.b", "", "/srv/site-{host}/x")
    assert home is not None
    assert home.path == b"/srv/site-a.b/x"


@pytest.mark.parametrize("name", ["~a", "@a", "a", "", "~", "@"])
def test_without_a_pattern_there_is_no_tenant(name: str) -> None:
    assert tenants.home_of(name, "", "") is None


ROOTS = TenantRoots(userdir=USERDIR, hosts=HOSTS, numbers=tenants.numbers(("/cgi-bin/", "*.cgi")))


def test_a_keeper_has_its_own_directory_and_those_of_hosts() -> None:
    own = tenants.script_root(ROOTS, "alice", tenants.route_key("~alice", 0))
    assert own is not None
    assert own.root == b"/home/alice/public_html"
    assert own.tenant
    host = tenants.script_root(ROOTS, "alice", tenants.route_key("@a.example", 1))
    assert host is not None
    assert host.root == b"/srv/www/a.example/htdocs"
    assert host.tenant  # so that only what belongs to the user is started


@pytest.mark.parametrize(
    "key",
    [
        "~bob/0", "~alice/2", "~alice/-1", "~alice/00", "~alice/", "~alice", "alice/0", "",
        "~../0", "@../0", "~alice/../0", "0/0", "@a/b/0", "~alice/٠",
    ],
)  # fmt: skip
def test_a_keeper_has_nothing_else(key: str) -> None:
    assert tenants.script_root(ROOTS, "alice", key) is None


def test_a_directory_is_opened_through_no_link_to_what_is_somebody_elses(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    (tmp_path / "alice").mkdir()
    (tmp_path / "bob" / "public_html").mkdir(parents=True)
    os.chown(tmp_path / "bob" / "public_html", 4321, 4321)
    link = tmp_path / "alice" / "public_html"
    link.symlink_to("../bob/public_html")
    home = tenants.home_of("~alice", f"{tmp_path}/*/public_html", "")
    assert home is not None
    with pytest.raises(OSError, match="owner"):
        tenants.open_home(home, "owner-match")
    os.chown(link, 4321, 4321, follow_symlinks=False)
    os.close(tenants.open_home(home, "owner-match"))
    with pytest.raises(OSError, match="symbolic"):
        tenants.open_home(home, "none")
    link.unlink()
    link.symlink_to("/etc")
    with pytest.raises(OSError, match="cross-device"):
        tenants.open_home(home, "owner-match")
