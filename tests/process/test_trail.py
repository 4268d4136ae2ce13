"""Looking up a directory as root: no link leads to what is not its owner's."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.process.trail import look_up, make_way

NOBODY = 65534

only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root has links of two owners")


def real(path: Path | str) -> bytes:
    fd, found = look_up(os.fsencode(path))
    try:
        assert os.fstat(fd).st_ino == os.stat(found).st_ino
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
    return found


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("path", ["/", "//", "/.", "/..", "/usr/..", "/usr/bin/../.."])
def test_root_is_found_in_many_ways(path: str) -> None:
    assert real(path) == b"/"


@only_root
def test_roots_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "data/a").mkdir(parents=True)
    (tmp_path / "absolute").symlink_to(tmp_path / "data")
    (tmp_path / "relative").symlink_to("data/../data/./a")
    expected = os.fsencode((tmp_path / "data/a").resolve())
    assert real(tmp_path / "absolute/a") == expected
    assert real(tmp_path / "relative") == expected
    assert real(str(tmp_path / "relative") + "/../a//") == expected


@only_root
@pytest.mark.parametrize("where", ["last", "between"])
def test_links_of_others_lead_to_what_is_theirs_alone(tmp_path: Path, where: str) -> None:
    (tmp_path / "data/a").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "data")
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    path = link if where == "last" else link / "a"
    with pytest.raises(OSError, match="a link in it belongs to somebody else"):
        look_up(os.fsencode(path))
    os.chown(tmp_path / "data/a", NOBODY, NOBODY)
    with pytest.raises(OSError, match="a link in it belongs to somebody else"):
        look_up(os.fsencode(path))
    os.chown(tmp_path / "data", NOBODY, NOBODY)
    assert real(path) == os.fsencode(os.path.realpath(path))
    # Through a second link, of root's, to what is root's again.
    (tmp_path / "data/out").symlink_to("/usr")
    assert real(link / "out") == b"/usr"
    link.unlink()
    link.symlink_to("data/out")
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(OSError, match="a link in it belongs to somebody else"):
        look_up(os.fsencode(link))


@only_root
def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        look_up(os.fsencode(tmp_path / "one"))


def test_what_is_no_directory_or_not_there_or_relative_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        look_up(os.fsencode(tmp_path / "file"))
    with pytest.raises(NotADirectoryError):
        look_up(os.fsencode(tmp_path / "file/x"))
    with pytest.raises(FileNotFoundError):
        look_up(os.fsencode(tmp_path / "nothing/x"))
    with pytest.raises(OSError, match="not an absolute path"):
        look_up(b"usr")


def test_way_is_made_where_it_is_missing_and_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("there")
    start = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        fd = make_way(start, b"there/a/b")
        assert os.fstat(fd).st_ino == (tmp_path / "there/a/b").stat().st_ino
        os.close(fd)
        with pytest.raises(NotADirectoryError):
            make_way(start, b"link/a")
    finally:
        os.close(start)
