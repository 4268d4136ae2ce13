"""Paths of URLs: decoded once, walked on the disk, never searched as strings."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.sources import Glob
from gateway.exchange import Refused
from gateway.site.path import components, decode, encoded_slash, find_script, kind_of, split


@pytest.mark.parametrize(
    ("raw", "decoded"),
    [
        (b"/", b"/"),
        (b"/a%20b", b"/a b"),
        (b"/%41%5a%5A", b"/AZZ"),
        (b"/%2541", b"/%41"),
        (b"/%%32%65".replace(b"%%32", b"%2532"), b"/%32e"),
        (b"/a+b;c=d\\e", b"/a+b;c=d\\e"),
        (b"/%0a%1b%7f", b"/\n\x1b\x7f"),
        (b"/%ff\xfe", b"/\xff\xfe"),
        (b"/a//b", b"/a//b"),
        (b"/%2F%2f", b"///"),
    ],
)
def test_a_path_is_decoded_once(raw: bytes, decoded: bytes) -> None:
    assert decode(raw) == decoded


@pytest.mark.parametrize(
    "raw",
    [b"/%", b"/%4", b"/%g0", b"/%0g", b"/% 41", b"/%%32%65", b"/%u0041", b"/%\xd9\xa1\xd9\xa1"],
)
def test_a_bad_escape_is_400(raw: bytes) -> None:
    with pytest.raises(Refused) as caught:
        decode(raw)
    assert caught.value.status == 400


@pytest.mark.parametrize("raw", [b"/a%00", b"/x.cgi%00.jpg", b"/\0", b"", b"a", b"*", b"%2f"])
def test_nul_and_relative_paths_are_400(raw: bytes) -> None:
    if raw == b"%2f":
        assert decode(raw) == b"/"
        return
    with pytest.raises(Refused) as caught:
        decode(raw)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("raw", "decoded"),
    [
        (b"/a/./b", b"/a/b"),
        (b"/a/../b", b"/b"),
        (b"/a/b/..", b"/a/"),
        (b"/a/b/.", b"/a/b/"),
        (b"/..", b"/"),
        (b"/../../../etc/passwd", b"/etc/passwd"),
        (b"/a/%2e%2e/b", b"/b"),
        (b"/cgi-bin/.%2e/x", b"/x"),
        (b"/a/%2e/b", b"/a/b"),
        (b"/a/..%2f..%2fb", b"/b"),
        (b"/a/...", b"/a/..."),
        (b"/a/.b", b"/a/.b"),
        (b"/a//../b", b"/a/b"),
        (b"/a/..\\..\\b", b"/a/..\\..\\b"),
        (b"/a/%252e%252e/b", b"/a/%2e%2e/b"),
    ],
)
def test_dot_segments_are_resolved_after_decoding(raw: bytes, decoded: bytes) -> None:
    assert decode(raw) == decoded


@given(st.lists(st.sampled_from([b"/", b".", b"..", b"%2e", b"%2f", b"%", b"a", b"%61", b"\\"])))
def test_no_dot_segment_is_ever_left(pieces: list[bytes]) -> None:
    try:
        path = split(decode(b"/" + b"".join(pieces)))
    except Refused:
        return
    assert path.path.startswith(b"/")
    assert not {b".", b".."} & set(path.names)


@given(st.binary())
def test_components_and_rest_make_up_the_path(path: bytes) -> None:
    found = split(b"/" + path)
    for count in range(len(found.names) + 1):
        rest = found.rest(count)
        assert not rest or rest.startswith(b"/")
        assert split(found.name(count) + rest).names == found.names


def test_path_info_keeps_its_slashes() -> None:
    path = split(b"//cgi-bin//x.cgi//a///b/")
    assert path.name(2) == b"/cgi-bin/x.cgi"
    assert path.rest(2) == b"//a///b/"
    assert path.clean == b"/cgi-bin/x.cgi/a/b/"
    assert path.directory


@pytest.mark.parametrize(
    ("path", "clean"), [(b"/", b"/"), (b"//", b"/"), (b"//evil/", b"/evil/"), (b"/a", b"/a")]
)
def test_a_clean_path_starts_with_one_slash(path: bytes, clean: bytes) -> None:
    assert split(path).clean == clean


def test_an_encoded_slash_is_found() -> None:
    assert encoded_slash(b"/a%2Fb") == 2
    assert encoded_slash(b"/a%2fb") == 2
    assert encoded_slash(b"/a%252fb") == -1
    assert encoded_slash(b"/a/b") == -1


def test_components_of_a_setting() -> None:
    assert components(b"/cgi-bin/") == components(b"/cgi-bin") == (b"cgi-bin",)
    assert components(b"/") == components(b"") == ()


@pytest.fixture
def root(tmp_path: Path) -> bytes:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "x.cgi").touch()
    (tmp_path / "v1.cgi").mkdir()
    (tmp_path / "v1.cgi" / "y.cgi").touch()
    (tmp_path / "a.jpg").touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.cgi").touch()
    os.mkfifo(tmp_path / "fifo.cgi")
    (tmp_path / "loop.cgi").symlink_to("loop.cgi")
    (tmp_path / "out.cgi").symlink_to("/bin/sh")
    (tmp_path / "link.cgi").symlink_to("dir/x.cgi")
    return os.fsencode(tmp_path)


@pytest.mark.parametrize(
    ("path", "index"),
    [
        (b"/dir/x.cgi", 1),
        (b"/dir/x.cgi/info/y.cgi", 1),
        (b"/v1.cgi/y.cgi", 1),
        (b"/v1.cgi", -1),
        (b"/a.jpg/x.cgi", -1),
        (b"/a.jpg", -1),
        (b"/dir/z.cgi", -1),
        (b"/z/x.cgi", -1),
        (b"/.git/x.cgi", -1),
        (b"/fifo.cgi", -1),
        (b"/fifo.cgi/x.cgi", -1),
        (b"/loop.cgi", -1),
        (b"/out.cgi", -1),
        (b"/link.cgi/x", 0),
        (b"/", -1),
        (b"/" + b"a" * 300 + b".cgi", -1),
    ],
)
def test_a_script_is_the_first_wanted_component_that_is_a_file(
    root: bytes, path: bytes, index: int
) -> None:
    wanted = Glob(b"*.cgi").fits
    assert find_script(root, split(path).names, wanted, "owner-match") == index


@pytest.mark.parametrize(
    ("path", "index"),
    [(b"/a.jpg", 0), (b"/a.jpg/x", 0), (b"/dir/x.cgi/y", 1), (b"/dir", -1), (b"/.git/x.cgi", -1)],
)
def test_in_a_script_directory_it_is_the_first_file(root: bytes, path: bytes, index: int) -> None:
    assert find_script(root, split(path).names, None, "owner-match") == index


def test_a_link_that_the_policy_forbids_is_no_script(root: bytes) -> None:
    assert find_script(root, (b"link.cgi",), None, "none") == -1


def test_a_missing_root_is_told_to_the_operator(root: bytes) -> None:
    with pytest.raises(Refused) as caught:
        kind_of(root + b"/gone", (b"x",), "any")
    assert (caught.value.status, bool(caught.value.log)) == (404, True)


def test_no_descriptor_is_left(root: bytes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for name in (b"a.jpg", b"dir", b"nothing", b"loop.cgi", b"fifo.cgi"):
        kind_of(root, (name,), "owner-match")
        find_script(root, (name, b"x"), None, "owner-match")
    assert len(os.listdir("/proc/self/fd")) == before
