"""Media types and the names of programs' texts: decided from a file's name alone."""

import pytest

from gateway.backends import mime
from gateway.backends.mime import content_type, parse
from gateway.backends.sources import Glob

CGI = Glob(b"*.cgi")


@pytest.mark.parametrize("name", [b"x.cgi", b"x y.cgi", b"\xff.cgi", b"a.b.cgi", b"\n.cgi"])
def test_a_pattern_fits(name: bytes) -> None:
    assert CGI.fits(name)


@pytest.mark.parametrize(
    "name",
    [
        b"x.CGI",
        b"x.cgi ",
        b"x.cgi.",
        b"x.cgi\n",
        b"x.cgi.txt",
        b"xcgi",
        "x．ｃｇｉ".encode(),
        "x.cgİ".encode(),
        "x.ⓒⓖⓘ".encode(),
        b"x.cgi\xcc\x87",
    ],
)
def test_a_pattern_is_exact(name: bytes) -> None:
    assert not CGI.fits(name)


@pytest.mark.parametrize(
    "name",
    [
        b"x.cgi", b"x.CGI", b"x.cgi~", b"x.cgi.~1~", b"x.cgi.bak", b"x.cgi.BAK", b"x.cgi.orig",
        b"x.cgi.old", b"x.cgi.save", b"x.cgi.swp", b".x.cgi.swp", b"#x.cgi#", b".#x.cgi",
        b"x.cgi.gz", b"x.cgi.br", b"x.cgi.1", b"x.cgi,v", b"x.cgi.dpkg-old", b"x.cgi.rpmsave",
        b"x.cgi.", b"x.cgi ", b"x.cgi...", b"x.cgi.bak.gz", b"x.cgi.sav", b"x.Cgi.Orig~",
        b"x.cgi.backup", b"x.cgi.rej",
    ],
)  # fmt: skip
def test_leftovers_of_a_script_resemble_it(name: bytes) -> None:
    assert CGI.resembles(name)


@pytest.mark.parametrize("name", [b"x.cgi.txt", b"x.cgi.html", b"cgi", b"x.cgis", b"x.html~"])
def test_other_names_do_not_resemble_a_script(name: bytes) -> None:
    assert not CGI.resembles(name)


def test_a_whole_name_as_pattern() -> None:
    glob = Glob(b"index.cgi")
    assert glob.resembles(b".index.cgi.swp")
    assert glob.resembles(b"#index.cgi#")
    assert not glob.fits(b"my-index.cgi")


def test_a_long_name_is_judged_in_no_time() -> None:
    # Names that cannot exist are not looked at; those that can would show as a test without end.
    assert not CGI.resembles(b"x.cgi" + b".bak" * 100_000)
    for left in (b".~1~", b"~11~", b".bak", b".1", b"~", b". ", b".cgi", b".rpmx", b",v"):
        assert not CGI.resembles((b"x.cgi" + left * 200)[:254] + b"!")
        assert not Glob(b"*a*b*c*.cgi").resembles((b"abc" * 20 + b".cgi" + left * 200)[:254] + b"!")


@pytest.mark.parametrize("pattern", [b"", b"a/*.cgi"])
def test_a_pattern_is_for_one_name(pattern: bytes) -> None:
    with pytest.raises(ValueError, match="file name"):
        Glob(pattern)


def test_bytes_of_a_pattern_are_bytes() -> None:
    glob = Glob("*.é".encode())
    assert glob.fits("x.é".encode())
    assert not glob.fits(b"x.\xe9")
    assert Glob(b"?.x").fits(b"\xe9.x")
    assert not Glob(b"?.x").fits("é.x".encode())


def test_a_system_table_is_read() -> None:
    types = parse("# comment\ntext/x-a\taa  AB # more\nbroken aa\nimage/x b\n\nno/ext\n")
    assert types == {
        b"aa": b"text/x-a; charset=utf-8",
        b"ab": b"text/x-a; charset=utf-8",
        b"b": b"image/x",
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"a.html", b"text/html"),
        (b"A.HTML", b"text/html"),
        (b"a.tar.gz", b"application/gzip"),
        (b"a.png", b"image/png"),
        (b"a.svg", b"image/svg+xml; charset=utf-8"),
        (b"a.json", b"application/json"),
        (b"a.wasm", b"application/wasm"),
        (b"a", mime.DEFAULT),
        (b"html", mime.DEFAULT),
        (b".html", mime.DEFAULT),
        (b"a.", mime.DEFAULT),
        (b"a.no-such", mime.DEFAULT),
        (b"a.\xff", mime.DEFAULT),
    ],
)
def test_a_type_by_extension(name: bytes, kind: bytes) -> None:
    assert content_type(parse(mime._BUILT_IN), name) == kind
    assert content_type(mime.table(), name) == kind


def test_a_machine_without_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mime, "SYSTEM_TABLE", "/nonexistent")
    mime.table.cache_clear()
    try:
        types = mime.table()
    finally:
        mime.table.cache_clear()
    assert types[b"css"] == b"text/css; charset=utf-8"
    assert len(set(types.values())) >= 60
