"""A tenant's own settings, as bytes: what they become, what is refused, what it costs."""

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.exchange import Limits
from gateway.process.own import Own, age, parse, told
from gateway.process.spec import Allowance
from gateway.process.terms import Area, Redirection
from gateway.reading import BadConfig

WHOLE = b"""
index = ["start.html", "index.cgi"]
start = "exec"
[environment]
TZ = "Europe/Berlin"
[interpreters]
".pl" = "/usr/bin/perl"
[redirects]
"/old" = "/new"
"/blog/*" = { to = "https://blog.example.org/*", status = 301 }
[expires]
"*.css" = "7 days"
"*" = "10 min"
[error_pages]
404 = "/errors/404.html"
[[auth]]
path = "/private/"
realm = "Members"
users = ["bob"]
[[auth]]
path = "/more/"
file = "secret/.users"
"""


def wrong(text: str | bytes) -> str:
    """Return what is said of a file that is refused."""
    with pytest.raises(BadConfig) as caught:
        parse(text if isinstance(text, bytes) else text.encode())
    return told(caught.value)


def test_whole_file_is_read() -> None:
    own = parse(WHOLE)
    assert own.start == "exec"
    assert own.environment == {"TZ": "Europe/Berlin"}
    assert own.interpreters == {".pl": "/usr/bin/perl"}
    assert [area.file for area in own.areas] == [".htpasswd", "secret/.users"]
    terms = own.terms()
    assert terms.index == (b"start.html", b"index.cgi")
    assert terms.redirects == (
        Redirection(b"/old", b"/new", 302),
        Redirection(b"/blog/*", b"https://blog.example.org/*", 301),
    )
    assert terms.expires == ((b"*.css", 604800), (b"*", 600))
    assert terms.error_pages == {404: b"/errors/404.html"}
    assert terms.auth == (Area(b"/private/", b"Members"), Area(b"/more/", b"Private"))


def test_example_of_the_readme_is_right() -> None:
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    section = text.partition("### A tenant's own settings\n")[2]
    own = parse(section.partition("```toml\n")[2].partition("```")[0].encode())
    for item in fields(Own):
        assert getattr(own, item.name), item.name


def test_empty_file_decides_nothing() -> None:
    assert parse(b"") == Own() == parse(b"# only a comment\n")


def test_one_protected_path_may_be_a_table() -> None:
    assert [area.path for area in parse(b'auth = { path = "/x/" }').areas] == ["/x/"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('indx = ["a"]', '.gateway.toml:1: indx: unknown key; did you mean "index"?'),
        ("\n\nindex = 1", ".gateway.toml:3: index: must be a list in square brackets"),
        ('index = ["../x"]', "must be the name of a file that is not hidden"),
        ('index = [".htpasswd"]', "must be the name of a file that is not hidden"),
        ('start = "fast"', 'start: must be "auto" or "warm" or "exec" or "persistent", not "fast"'),
        ('[environment]\n"A=B" = "x"', "A=B: this cannot be the name of a variable"),
        ('[environment]\nA = 1', "A: must be a string in quotes, not 1"),
        ('[environment]\nA = "\\u0000"', "must not hold a NUL character"),
        ('[interpreters]\npl = "/usr/bin/perl"', "must be an extension and an absolute path"),
        ('[interpreters]\n".pl" = "perl"', "must be an extension and an absolute path"),
        ('[redirects]\nold = "/new"', 'old: the path must be a path that starts with "/"'),
        ('[redirects]\n"/a" = "//evil.example"', "the target must be a path"),
        ('[redirects]\n"/a" = "javascript:x"', "the target must be a path"),
        ('[redirects]\n"/a" = "https://evil.example\\\\@x/"', "written as in a link"),
        ('[redirects]\n"/a" = "/b\\r\\nSet-Cookie:x"', "written as in a link"),
        ('[redirects]\n"/a*" = "/b"', 'a "*" stands for everything below a path'),
        ('[redirects]\n"/a" = "/b/*"', "so the path must as well"),
        ('[redirects]\n"/a" = "/a"', "it leads to itself"),
        ('[redirects]\n"/a/*" = "/a/b/*"', "it leads to itself"),
        ('[redirects]\n"/a" = "https://x.example*"', "the target must be a path"),
        ('[redirects]\n"/a" = { to = "/b", status = 200 }', "must be 301 or 302"),
        ('[expires]\n"*.css" = "1 year"', "the units are s, min, h, day, days"),
        ('[expires]\n"*.css" = "9999 days"', "more than ten years"),
        ('[expires]\n"a*b*c" = "1 h"', 'must be like "*.css"'),
        ('[error_pages]\n200 = "/x"', "200: must be the status of an error"),
        ('[error_pages]\n404 = "x"', "the page must be a path"),
        ('[error_pages]\n404 = "/../../etc/passwd"', 'must not hold "." or ".."'),
        ("auth = { realm = 'x' }", "path: missing"),
        ("auth = { path = 'x' }", 'path: must be a path that starts with "/"'),
        ("auth = { path = '/x/../y' }", 'must not hold "." or ".."'),
        ("auth = { path = '/x', realm = 'a\"b' }", "without quotes"),
        ("auth = { path = '/x', file = '/etc/shadow' }", "must be a path below this directory"),
        ("auth = { path = '/x', file = '../.htpasswd' }", "must be a path below this directory"),
        ("auth = { path = '/x', file = 'users' }", "its name must start with a dot"),
        ("auth = { path = '/x', file = '.well-known' }", "its name must start with a dot"),
        ("auth = { path = '/x', users = ['a:b'] }", "cannot be the name of a user"),
        ("auth = [{ path = '/x' }, { path = '/X/' }]", "[[auth]] #2: path: \"/X/\" is protected"),
        ("auth = { path = '/x', files = 'y' }", 'unknown key; did you mean "file"?'),
        ("a = [", "not TOML"),
        ("index = []\nindex = []", "not TOML"),
        ("a = 2000-13-45", "not TOML"),
        (b"\xff", "not UTF-8 text: byte 0"),
        (b"a = '\0'", "not TOML"),
        (b"#" * 65537, "has more than 64 KiB"),
        ("\n" * 2001, "has more than 2000 lines"),
        ("x\n" + "#" * 1001, ".gateway.toml:2: the line has more than 1000 characters"),
        ("a." * 20_000 + "a = 1", "the line has more than 1000 characters"),
        ("a = \"\"\"\n" + "[" * 900 + '"""\nb = ' + "[" * 900, "nested too deeply"),
        ("a = [\n" + "[\n" * 1900, "nested too deeply"),
        ("a = " + "\n".join(["{a="] * 900), "not TOML"),
        ("a = " + "1" * 990, "a: unknown key"),
        ('[redirects]\n' + "\n".join(f'"/{n}" = "/x"' for n in range(201)), "more than 200 redir"),
        ('[expires]\n' + "\n".join(f'"{n}" = "1 h"' for n in range(101)), "more than 100 patt"),
        ('[environment]\n' + "\n".join(f'V{n} = "1"' for n in range(65)), "more than 64 variab"),
        ("\n".join(f'[[auth]]\npath = "/{n}"' for n in range(51)), "more than 50 protected"),
    ],
)  # fmt: skip
def test_mistake_is_explained(text: str | bytes, said: str) -> None:
    assert said in wrong(text)


def test_all_mistakes_of_a_file_are_told_and_not_without_end() -> None:
    said = wrong("[expires]\n" + "\n".join(f'"{n}" = 1' for n in range(20)))
    assert said.count("; also") == 4
    assert said.endswith("; and 15 more")


@pytest.mark.parametrize("kind", [Limits, Allowance])
def test_no_limit_can_be_written(kind: type) -> None:
    for item in fields(kind):
        assert "a tenant cannot set this" in wrong(f"{item.name} = 1")
        for table in ("redirects", "expires", "error_pages", "interpreters"):
            wrong(f"{table} = {{ {item.name} = 1 }}")


@pytest.mark.parametrize(
    ("text", "seconds"), [("0 s", 0), ("5 min", 300), ("1h", 3600), ("1 day", 86400)]
)
def test_ages_have_units(text: str, seconds: int) -> None:
    assert age(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "-1 s", "1.5 h", "٣ s", "1 days ", "1000000 s"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        age(text)


PIECES = st.sampled_from(
    ["index", "auth", "[redirects]", "[[auth]]", "=", '"/a"', "'", '"""', "[", "]", "{", "}", "\n",
     ".", ",", "1", "true", "\\", "#", "path", "to", "é", "\r", "2000-01-01T00:00:00Z", "0x", "_"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_settings_or_a_reason(text: str) -> None:
    found: Own | str
    try:
        found = parse(text.encode("utf-8", "surrogatepass"))
    except BadConfig as bad:
        found = bad.why
    assert found
