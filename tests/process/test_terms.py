"""The terms that a keeper tells a front: what is believed, and what never is."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.process.own import parse
from gateway.process.terms import TERMS_MAX, Terms, decode, encode, names_of

GOOD: dict[str, Any] = {
    "index": ["a.html"],
    "redirects": [["/a", "/b", 302]],
    "expires": [["*.css", 10]],
    "error_pages": [[404, "/x"]],
    "auth": [["/p/", "Realm"]],
}


def test_terms_arrive_as_they_were() -> None:
    text = 'index = ["ü.html"]\nredirects = { "/ä/*" = "/b/*" }\nexpires = { "*" = "1 h" }\n'
    terms = parse(
        f'{text}error_pages = {{ 404 = "/é" }}\nauth = {{ path = "/ß" }}'.encode()
    ).terms()
    assert decode(encode(terms)) == terms
    assert decode(encode(Terms())) == Terms()


def test_largest_settings_fit_into_a_message() -> None:
    path, to = "q" * 110, "~" * 110
    lines = [f'"/{n}{path}/*" = {{ to = "/x{to}/*", status = 301 }}' for n in range(200)]
    text = "[redirects]\n" + "\n".join(lines)
    data = encode(parse(text.encode()).terms())
    assert len(text) > 50_000
    assert len(data) <= TERMS_MAX
    assert len(decode(data).redirects) == 200


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("index", ["../x"]), ("index", ["a/b"]), ("index", [".htpasswd"]), ("index", "a"),
        ("index", [1]), ("index", ["a"] * 21), ("index", ["\ud800"]), ("index", [["a"]]),
        ("redirects", [["/a", "/b\r\nX: y", 302]]), ("redirects", [["/a", "/b", 200]]),
        ("redirects", [["/a", "/b", True]]), ("redirects", [["/a", "//x", 302]]),
        ("redirects", [["/a", "/b"]]), ("redirects", [["/a", "/b", 302, 1]]),
        ("redirects", [["/a", "/b", 302]] * 201), ("redirects", {"/a": "/b"}),
        ("expires", [["*.css", -1]]), ("expires", [["*.css", 1e9]]),
        ("expires", [["*.css", 10**12]]),
        ("expires", [["*a*", 1]]), ("expires", [["x" * 200, 1]]), ("expires", None),
        ("error_pages", [[200, "/x"]]), ("error_pages", [[404, "/../x"]]),
        ("error_pages", [["404", "/x"]]), ("error_pages", [[404, "x"]]),
        ("auth", [["/p/", 'a" b']]), ("auth", [["/p/", "a\r\nX: y"]]), ("auth", [["p", "R"]]),
        ("auth", [["/p/", "R"]] * 51), ("auth", [["/p/", "\udfff"]]),
        ("more", 1),
    ],
)  # fmt: skip
def test_terms_that_cannot_be_are_not_taken(key: str, value: object) -> None:
    with pytest.raises(ValueError):
        decode(json.dumps(GOOD | {key: value}).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"null", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"index":' * 10_000,
        b'{"index":null}', b" " * (TERMS_MAX + 1), b"1" * 5000, b"NaN",
    ],
)  # fmt: skip
def test_what_is_no_terms_is_not_taken(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


@given(st.fixed_dictionaries(dict.fromkeys(GOOD, JSON)))
@settings(max_examples=300, deadline=None)
def test_anything_else_is_an_error_and_nothing_worse(table: dict[str, object]) -> None:
    try:
        decode(json.dumps(table).encode())
    except ValueError:
        pass


@pytest.mark.parametrize(
    "path", [b"/Private", b"private/", b"//PRIVATE//", b"/private.", b"/private ", b"/private. ."]
)
def test_names_that_a_file_system_may_take_for_the_same_are_the_same(path: bytes) -> None:
    assert names_of(path) == (b"private",)


def test_name_that_no_file_can_have_is_left_alone() -> None:
    """To bring 30,000 combining letters into their order would take seconds."""
    name = "\u0345\u0300".encode() * 15_000
    assert names_of(name) == (name,)


def test_composed_and_decomposed_letters_are_the_same() -> None:
    assert names_of("/Ä".encode()) == names_of("/a\u0308".encode())
    assert names_of(b"/\xff\xfe") == (b"\xff\xfe",)
