"""Which URL of the settings leads to which file, as a front decides it."""

import os
from pathlib import Path

import pytest

from gateway.config.finding import Url, given_of, place_of, urls_of
from gateway.config.keepers import our_account
from gateway.config.load import load
from gateway.config.settings import Settings
from gateway.exchange import Refused

TEXT = """
[[site]]
hosts = ["a.test"]
root = "a"
  [[site.route]]
  path = "/cgi-bin/"
  cgi = "scripts"
  [[site.route]]
  match = "*.cgi"
  cgi = true
  [[site.route]]
  match = "*.php"
  pool = "php"
  [[site.route]]
  path = "/app/"
  pool = "php"
[[site]]
hosts = ["*.b.test"]
root = "b"
  [[site.route]]
  path = "/dyn/"
  match = "*.fcgi"
  fastcgi = true
[pool.php]
command = ["php-cgi"]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("a/x.cgi", "a/x.php", "a/page.html", "scripts/sub/y z.py", "b/z.fcgi"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "g.toml").write_text(TEXT)
    return load(str(tmp_path / "g.toml"))


@pytest.mark.parametrize(
    ("file", "urls"),
    [
        ("a/x.cgi", [("a.test", "/x.cgi")]),
        ("a/x.php", [("a.test", "/x.php")]),
        ("a/page.html", []),
        ("scripts/sub/y z.py", [("a.test", "/cgi-bin/sub/y%20z.py")]),
        ("scripts/%.cgi", [("a.test", "/cgi-bin/%25.cgi")]),
        ("scripts", []),
        ("scripts-2/x", []),
        ("b/z.fcgi", [("www.b.test", "/dyn/z.fcgi")]),
    ],
)
def test_urls_of_a_file(
    file: str, urls: list[tuple[str, str]], settings: Settings, tmp_path: Path
) -> None:
    assert list(urls_of(settings, str(tmp_path / file))) == [Url(*url) for url in urls]


@pytest.mark.parametrize(
    ("host", "path", "kind", "key", "file", "info"),
    [
        ("a.test", "/x.cgi", "cgi", "0/1", "a/x.cgi", ""),
        ("a.test", "/x.cgi/more", "cgi", "0/1", "a/x.cgi", "/more"),
        ("a.test", "/cgi-bin/sub/y%20z.py", "cgi", "0/0", "scripts/sub/y z.py", ""),
        ("a.test", "/x.php", "pool", "0/2", "a/x.php", ""),
        ("a.test", "/app/x", "pool", "0/3", None, "/x"),
        ("a.test", "/page.html", "static", "", "a/page.html", ""),
        ("www.b.test", "/dyn/z.fcgi", "fastcgi", "1/0", "b/z.fcgi", ""),
        ("unknown", "/x.cgi", "cgi", "0/1", "a/x.cgi", ""),
    ],
)
def test_place_of_a_url(
    host: str, path: str, kind: str, key: str, file: str | None, info: str,
    settings: Settings, tmp_path: Path,
) -> None:  # fmt: skip
    place = place_of(settings, Url(host, path))
    assert (place.kind, place.key, place.path_info) == (kind, key, info)
    assert place.file == (str(tmp_path / file) if file else "")
    assert place.user == ("" if kind == "static" else our_account().name)
    assert place.document_root == ("" if kind == "static" else str(tmp_path / key_root(key)))


def key_root(key: str) -> str:
    return "ab"[int(key.partition("/")[0])]


@pytest.mark.parametrize("path", ["/absent.cgi", "/cgi-bin/absent", "/.hidden", "/%zz"])
def test_url_that_leads_nowhere_is_refused_as_a_front_does(path: str, settings: Settings) -> None:
    with pytest.raises(Refused) as refused:
        place_of(settings, Url("a.test", path))
    assert refused.value.status == (400 if path == "/%zz" else 404)


def test_file_that_a_front_server_may_name(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "one.cgi").write_text("")
    (tmp_path / "g.toml").write_text(
        '[listen]\nfastcgi = [{ address = "unix:s", script = "param", '
        'roots = ["given", "one.cgi"] }]\n'
    )
    settings = load(str(tmp_path / "g.toml"))
    below = given_of(settings, os.path.join(tmp_path, "given/x.cgi"))
    alone = given_of(settings, os.path.join(tmp_path, "one.cgi"))
    assert below is not None
    assert alone is not None
    assert (below.key, alone.key) == ("fastcgi/0/0", "fastcgi/0/1")
    assert given_of(settings, os.path.join(tmp_path, "two.cgi")) is None
    with pytest.raises(Refused):
        place_of(settings, Url("a.test", "/x"))
