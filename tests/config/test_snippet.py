"""Blocks for a server in front: what they hand over to us, and that conf/ shows them as printed."""

import configparser
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.address import Address, parse_address
from gateway.config.load import load
from gateway.config.settings import ListenSettings, Settings
from gateway.config.share import shares
from gateway.config.snippet import SERVERS, WITHOUT_SCGI, snippet
from gateway.exchange import Limits
from gateway.listeners.listening import HttpListener, RelayListener
from gateway.site.site import RouteSettings, SiteSettings
from gateway.site.tenants import TenantsSettings
from gateway.units import Duration, Size

CONF = Path(__file__).resolve().parents[2] / "conf"
FILES = {
    "nginx": "nginx.conf",
    "apache": "apache.conf",
    "lighttpd": "lighttpd.conf",
    "caddy": "Caddyfile",
    "haproxy": "haproxy.cfg",
}
FASTCGI = RelayListener(address=Address(path="/run/g/fastcgi.sock"), group="www-data")
SCGI = RelayListener(address=Address(host="127.0.0.1", port=9001))
TENANTS = TenantsSettings(userdir="/home/*/public_html")
HTTP = HttpListener(address=Address(host="127.0.0.1", port=8080))


def settings(*sites: SiteSettings, **listeners: Any) -> Settings:
    listen = ListenSettings(**(listeners or {"http": (), "fastcgi": (FASTCGI,), "scgi": (SCGI,)}))
    return Settings(listen=listen, site=sites or (site(),))


def site(*routes: RouteSettings, **more: Any) -> SiteSettings:
    more = {"hosts": ("example.org",), "root": "/srv/htdocs"} | more
    return SiteSettings(route=routes, **more)


def ours(path: str, *routes: RouteSettings, **more: Any) -> bool:
    """Whether a path of such a site is handed over."""
    (share,) = shares(settings(site(*routes, **more)))
    return re.search(share.pattern, path, re.IGNORECASE) is not None


# What conf/ shows -----------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_conf_shows_the_block_as_it_is_printed(server: str) -> None:
    printed = snippet(server, load(str(CONF / "behind.toml"), look=False))
    assert (CONF / "fronts" / FILES[server]).read_text() == printed


def test_conf_shows_nothing_else() -> None:
    assert {file.name for file in (CONF / "fronts").iterdir()} == set(FILES.values())


@pytest.mark.parametrize("unit", sorted((CONF / "systemd").iterdir()), ids=lambda file: file.name)
def test_systemd_units_are_understood(unit: Path, tmp_path: Path) -> None:
    """Without systemd, that they can be read at all; with it, what it says of them."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    assert {"Unit", "Install"} < set(parser.sections())
    if shutil.which("systemd-analyze") is None:
        return
    for file in (CONF / "systemd").iterdir():  # where gateway was not installed, it stands for it
        text = file.read_text().replace("/usr/local/bin/gateway", "/bin/true")
        (tmp_path / file.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert said == []


# Which door -----------------------------------------------------------------------------------


def test_fastcgi_is_preferred_then_scgi_then_http() -> None:
    assert "fastcgi_pass" in snippet("nginx", settings())
    assert "scgi_pass" in snippet("nginx", settings(http=(HTTP,), scgi=(SCGI,)))
    assert "proxy_pass" in snippet("nginx", settings(http=(HTTP,)))
    assert "scgi_pass" in snippet("nginx", settings(), scgi=True)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("address", ["unix:/run/g.sock", "127.0.0.1:9000", "[::1]:9000"])
@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "http"])
def test_every_kind_of_address_stands_in_the_block(
    server: str, address: str, protocol: str
) -> None:
    if protocol == "scgi" and server in WITHOUT_SCGI:
        return
    kind = HttpListener if protocol == "http" else RelayListener
    listeners = {"http": (), protocol: (kind(address=parse_address(address)),)}
    printed = snippet(server, settings(**listeners))
    if server == "lighttpd" and not address.startswith("unix:"):
        host = address.removesuffix(":9000").strip("[]")
        assert f'"host" => "{host}"' in printed
        assert '"port" => 9000' in printed
    else:
        assert address.removeprefix("unix:") in printed


def test_an_address_of_every_interface_is_reached_on_loopback() -> None:
    listener = HttpListener(address=parse_address("*:8080"))
    assert "server 127.0.0.1:8080;" in snippet("nginx", settings(http=(listener,)))


@pytest.mark.parametrize("server", sorted(WITHOUT_SCGI))
def test_scgi_for_a_server_that_does_not_speak_it_is_refused(server: str) -> None:
    with pytest.raises(ValueError, match=f"{server} does not speak SCGI"):
        snippet(server, settings(), scgi=True)
    with pytest.raises(ValueError, match="no fastcgi nor http address"):
        snippet(server, settings(http=(), scgi=(SCGI,)))


def test_unknown_server_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="nginx, apache, lighttpd, caddy, haproxy"):
        snippet("iis", settings())


def test_a_listener_that_cannot_be_meant_is_passed_over() -> None:
    given = RelayListener(address=Address(path="/run/given"), script="param", roots=("/srv/cgi",))
    systemd = RelayListener(address=parse_address("systemd:gateway"))
    assert "/run/g/fastcgi.sock" in snippet(
        "nginx", settings(http=(HTTP,), fastcgi=(given, systemd, FASTCGI))
    )
    with pytest.raises(ValueError, match=r'script = "map"; .*systemd:gateway.* \.socket unit'):
        snippet("nginx", settings(http=(HTTP,), fastcgi=(given, systemd)))


@pytest.mark.parametrize("path", ["/run/a b", "/run/a;b", "/run/a|b", '/run/"', "/run/a\nb"])
def test_a_socket_that_cannot_be_written_down_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="choose another path"):
        snippet("nginx", settings(fastcgi=(RelayListener(address=Address(path=path)),)))


@pytest.mark.parametrize("root", ['/srv/"', "/srv/$x", "/srv/{x}", "/srv/a\nb", "/srv/\\"])
def test_a_root_that_cannot_be_written_down_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match="cannot be written in a block"):
        snippet("nginx", settings(site(root=root)))


# What is handed over --------------------------------------------------------------------------

BIN = RouteSettings(path="/cgi-bin/", cgi="/srv/cgi-bin")
CGI = RouteSettings(match="*.cgi", cgi=True)


@pytest.mark.parametrize("path", ["/cgi-bin", "/cgi-bin/", "/cgi-bin/x/y", "/CGI-BIN/x"])
def test_a_route_with_all_below_it_is(path: str) -> None:
    assert ours(path, BIN)


@pytest.mark.parametrize("path", ["/cgi-bin2/x", "/x/cgi-bin/y", "/x.txt", "/"])
def test_files_beside_a_route_are_not(path: str) -> None:
    assert not ours(path, BIN)


@pytest.mark.parametrize(
    "path",
    [
        "/a.cgi", "/x/a.cgi", "/a.cgi/info", "/a.cgi/info.txt", "/A.CGI", "/a.cgi~", "/a.cgi.bak",
        "/#a.cgi#", "/.a.cgi.swp", "/a.cgi.gz", "/a.cgi,v", "/a.cgi.~1~", "/a.cgi.txt",
    ],
)  # fmt: skip
def test_a_script_and_what_may_hold_its_text_are(path: str) -> None:
    assert ours(path, CGI)


@pytest.mark.parametrize(
    ("glob", "fits", "not_"),
    [
        ("*.p[lm]", "/x.pl", "/x.txt"),
        ("report-?", "/report-1", "/repor"),
        ("a+b.c", "/a+b.c", "/aab_c"),
        ("[!a]b", "/xb", "/xc"),
        ("é.cgi", "/é.cgi", "/x.txt"),
        ('q"s', '/q"s', "/q"),
        ("(a|b)", "/(a|b)", "/a"),
        ("$HOME", "/$HOME", "/x"),
    ],
)
def test_patterns_of_every_kind(glob: str, fits: str, not_: str) -> None:
    route = RouteSettings(match=glob, cgi=True)
    assert ours(fits, route)
    assert not ours(not_, route)


def test_a_pattern_below_a_path_is_for_that_path() -> None:
    route = RouteSettings(path="/x/", match="*.cgi", cgi=True)
    assert ours("/x/y/a.cgi", route)
    assert ours("/x/a.cgi/info", route)
    assert not ours("/y/a.cgi", route)


@pytest.mark.parametrize("path", ["/.htpasswd", "/.git/config", "/x/.env"])
def test_names_that_start_with_a_dot_are(path: str) -> None:
    assert ours(path)


def test_a_directory_of_scripts_is_by_whatever_path_it_has() -> None:
    route = RouteSettings(path="/run/", cgi="/srv/htdocs/scripts")
    assert ours("/scripts/secret.pl", route)
    assert not ours("/scripts.html", route)
    assert ours("/x", RouteSettings(path="/run/", cgi="/srv/htdocs"))


def test_a_directory_of_scripts_of_another_site_is() -> None:
    other = site(RouteSettings(path="/run/", cgi="/srv/htdocs/cgi"), root="/srv/other")
    first, _ = shares(settings(site(), other))
    assert re.search(first.pattern, "/cgi/x")


def test_directories_are_where_only_we_know_what_they_show() -> None:
    assert not ours("/x/", BIN)
    assert ours("/x/", BIN, listing=True)
    assert ours("/x/", CGI, index=("index.html", "index.cgi"))
    assert not ours("/x/", CGI, index=("index.html",))


@pytest.mark.parametrize("server", SERVERS)
def test_all_of_a_site_without_files_is(server: str) -> None:
    app = RouteSettings(path="/app/", pool="app")
    assert "/srv" not in snippet(server, settings(site(app, root="")))
    assert ours("/anything", app, root="")


@pytest.mark.parametrize("server", SERVERS)
def test_a_hostile_path_cannot_leave_its_place(server: str) -> None:
    """Whatever is in a route is a pattern of harmless characters, or a comment on one line."""
    evil = '/a"; } root /etc;\n{b}\\/'
    printed = snippet(server, settings(site(RouteSettings(path=evil, cgi="/srv/cgi"))))
    for line in printed.splitlines():
        if "root /etc" in line or '"; }' in line:
            assert line.strip().startswith("#")
    assert ours(evil, RouteSettings(path=evil, cgi="/srv/cgi"))


# How ------------------------------------------------------------------------------------------


def test_the_largest_body_and_the_longest_patience_of_any_route_hold() -> None:
    slow = Limits(first_byte=Duration(300.0), request_body=Size(1 << 30))
    printed = snippet("nginx", settings(site(replace(BIN, limits=slow))))
    assert f"client_max_body_size {1 << 30};" in printed
    assert "fastcgi_read_timeout 325s;" in printed


@pytest.mark.parametrize(
    ("server", "line"), [("nginx", "client_max_body_size 1;"), ("apache", "LimitRequestBody 1")]
)
def test_no_body_at_all_is_not_any_body(server: str, line: str) -> None:
    """There, 0 means that there is no limit."""
    assert line in snippet(server, settings(site(limits=Limits(request_body=Size(0)))))


def test_authorization_is_asked_for_where_a_route_wants_it() -> None:
    wanting = settings(site(replace(BIN, authorization=True)))
    for server, line in (("apache", "CGIPassAuth On"), ("haproxy", "HTTP_AUTHORIZATION")):
        assert line in snippet(server, wanting)
        assert line not in snippet(server, settings())


def test_the_client_never_says_who_it_is() -> None:
    assert "\n    fastcgi_param REMOTE_USER" not in snippet("nginx", settings())
    assert "http-request del-header authorization" in snippet("haproxy", settings())


@pytest.mark.parametrize("server", SERVERS)
def test_what_must_still_be_set_is_said(server: str) -> None:
    no_group = RelayListener(address=Address(path="/run/g/fastcgi.sock"))
    assert 'group = "..."' in snippet(server, settings(fastcgi=(no_group,)))
    assert 'group = "..."' not in snippet(server, settings())
    assert "trust = [...]" in snippet(server, settings(http=(HTTP,)))
    trusting = replace(HTTP, trust=("127.0.0.1",))
    assert "trust = [...]" not in snippet(server, settings(http=(trusting,)))


@pytest.mark.parametrize("server", SERVERS)
def test_several_sites_and_one_without_a_host(server: str) -> None:
    printed = snippet(
        server,
        settings(site(hosts=()), site(hosts=("a.example", "*.b.example"), root="/srv/second")),
    )
    if server == "haproxy":
        assert "default_backend" in printed
    else:
        assert "/srv/second" in printed
        assert "b.example" in printed.replace("[.]", ".")


# Tenants --------------------------------------------------------------------------------------


def test_users_pages_are_ours_on_every_site() -> None:
    made = replace(settings(site(), site(hosts=("b.example",))), tenants=TENANTS)
    for share in shares(made):
        for path in ("/~alice/", "/~alice/x.png"):
            assert re.search(share.pattern, path)
        assert not re.search(share.pattern, "/a~lice/x.png")


def test_hosts_that_no_site_names_are_ours() -> None:
    tenants = replace(TENANTS, hosts="/srv/www/{host}/htdocs")
    first, rest = shares(replace(settings(site(), site(hosts=())), tenants=tenants))
    assert first.hosts == ("example.org",)
    assert (rest.hosts, rest.root, rest.pattern) == ((), "", "^/")


def test_tenants_alone_are_a_block() -> None:
    alone = Settings(listen=settings().listen, site=(), tenants=TENANTS)
    (share,) = shares(alone)
    assert (share.hosts, share.root, share.pattern) == ((), "", "^/")
    for server in SERVERS:
        assert "gateway" in snippet(server, alone)
