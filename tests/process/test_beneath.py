"""Paths below a root: every way out is refused, every link follows the policy."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.process import beneath
from gateway.process.beneath import open_beneath
from gateway.process.spec import SymlinkPolicy

POLICIES: tuple[SymlinkPolicy, ...] = ("none", "owner-match", "any")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "dir" / "deep").mkdir(parents=True)
    (root / "file").write_bytes(b"inside")
    (root / "dir" / "deep" / "leaf").write_bytes(b"leaf")
    (tmp_path / "secret").write_bytes(b"outside")
    (root / "good").symlink_to("dir/deep/leaf")
    (root / "dir" / "up").symlink_to("../file")
    (root / "chain").symlink_to("good")
    (root / "dirlink").symlink_to("dir")
    (root / "out").symlink_to("../secret")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "round").symlink_to("round")
    return root


@pytest.fixture
def root_fd(tree: Path) -> Iterator[int]:
    fd = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def content(root_fd: int, path: bytes, policy: SymlinkPolicy) -> bytes:
    fd = open_beneath(root_fd, path, os.O_RDONLY, policy)
    try:
        assert not os.get_inheritable(fd)
        return os.read(fd, 100)
    finally:
        os.close(fd)


def refusal(root_fd: int, path: bytes, policy: SymlinkPolicy) -> int:
    with pytest.raises(OSError, match=r".") as caught:
        content(root_fd, path, policy)
    assert caught.value.errno is not None
    return caught.value.errno


@pytest.fixture(params=["kernel", "walk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every case runs through the kernel's call and through our own walk."""
    if request.param == "walk":
        monkeypatch.setattr(beneath, "_OPENAT2", 100_000)  # no such call: ENOSYS
    return str(request.param)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"file", b"inside"),
        (b"./file", b"inside"),
        (b"dir//deep/leaf", b"leaf"),
        (b"dir/../file", b"inside"),
        (b"dir/deep/../../file", b"inside"),
    ],
)
def test_plain_path_is_opened(
    root_fd: int, way: str, policy: SymlinkPolicy, path: bytes, expected: bytes
) -> None:
    assert content(root_fd, path, policy) == expected


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"../secret", errno.EXDEV),
        (b"dir/../../secret", errno.EXDEV),
        (b"/etc/passwd", errno.EXDEV),
        (b"nothing", errno.ENOENT),
        (b"", errno.ENOENT),
        (b"file/", errno.ENOTDIR),
        (b"file/below", errno.ENOTDIR),
        (b"file/../file", errno.ENOTDIR),
        (b"file\0.cgi", errno.EINVAL),
        (b"round", errno.ELOOP),
    ],
)
def test_bad_path_is_refused(
    root_fd: int, way: str, policy: SymlinkPolicy, path: bytes, expected: int
) -> None:
    assert refusal(root_fd, path, policy) == expected


@pytest.mark.parametrize("policy", ["owner-match", "any"])
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"good", b"leaf"),
        (b"chain", b"leaf"),
        (b"dir/up", b"inside"),
        (b"dirlink/deep/leaf", b"leaf"),
        (b"dirlink/../file", b"inside"),
    ],
)
def test_link_that_stays_inside_is_followed(
    root_fd: int, way: str, policy: SymlinkPolicy, path: bytes, expected: bytes
) -> None:
    assert content(root_fd, path, policy) == expected


@pytest.mark.parametrize("path", [b"good", b"dirlink/deep/leaf", b"dir/up", b"out"])
def test_policy_none_follows_no_link(root_fd: int, way: str, path: bytes) -> None:
    assert refusal(root_fd, path, "none") == errno.ELOOP


@pytest.mark.parametrize("policy", ["owner-match", "any"])
@pytest.mark.parametrize("path", [b"out", b"absolute"])
def test_link_out_of_the_root_is_refused(
    root_fd: int, way: str, policy: SymlinkPolicy, path: bytes
) -> None:
    assert refusal(root_fd, path, policy) == errno.EXDEV


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_link_of_another_owner_is_refused_by_owner_match(tree: Path, root_fd: int) -> None:
    os.chown(tree / "good", 12345, 12345, follow_symlinks=False)
    assert refusal(root_fd, b"good", "owner-match") == errno.ELOOP
    assert refusal(root_fd, b"chain", "owner-match") == errno.ELOOP
    assert content(root_fd, b"good", "any") == b"leaf"
    os.chown(tree / "dir" / "deep" / "leaf", 12345, 12345)
    assert content(root_fd, b"good", "owner-match") == b"leaf"
    # The chain's first link is still root's, its end is not.
    assert refusal(root_fd, b"chain", "owner-match") == errno.ELOOP


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_directory_link_of_another_owner_is_refused_by_owner_match(
    tree: Path, root_fd: int
) -> None:
    os.chown(tree / "dirlink", 12345, 12345, follow_symlinks=False)
    assert refusal(root_fd, b"dirlink/deep/leaf", "owner-match") == errno.ELOOP


def test_path_only_descriptor_and_directories(root_fd: int, way: str) -> None:
    for path in (b".", b"dir", b"dir/", b"dirlink/deep"):
        fd = open_beneath(root_fd, path, os.O_PATH | os.O_DIRECTORY, "owner-match")
        os.close(fd)


def test_walk_leaves_no_descriptor_behind(root_fd: int) -> None:
    before = os.listdir("/proc/self/fd")
    content(root_fd, b"chain", "owner-match")
    refusal(root_fd, b"out", "owner-match")
    refusal(root_fd, b"round", "owner-match")
    assert os.listdir("/proc/self/fd") == before


# What is on the way


def steps(way: beneath.Way) -> list[bytes]:
    os.close(way.fd)
    return [place for place, _ in way.passed]


@pytest.mark.parametrize("flags", [os.O_PATH, os.O_RDONLY])
@pytest.mark.parametrize(
    ("path", "passed", "holder"),
    [
        (b"file", [b".", b"file"], b"."),
        (b"dir/deep/leaf", [b".", b"dir", b"dir/deep", b"dir/deep/leaf"], b"dir/deep"),
        (b"good", [b".", b"good", b"dir", b"dir/deep", b"dir/deep/leaf"], b"dir/deep"),
        (b"dir/up", [b".", b"dir", b"dir/up", b"file"], b"."),
        (b"dirlink/up", [b".", b"dirlink", b"dir", b"dir/up", b"file"], b"."),
        (b"dir/../file", [b".", b"dir", b"file"], b"."),
    ],
)
def test_walk_tells_each_directory_and_link_on_the_way(
    tree: Path, root_fd: int, flags: int, path: bytes, passed: list[bytes], holder: bytes
) -> None:
    way = beneath.walk_beneath(root_fd, path, flags, "any")
    assert os.path.samestat(os.fstat(way.fd), os.stat(tree / os.fsdecode(path)))
    for place, info in way.passed:
        assert os.path.samestat(info, os.lstat(tree / os.fsdecode(place)))
    assert steps(way) == passed
    assert way.holder.path == holder
    assert os.path.samestat(way.holder.info, os.stat(tree / os.fsdecode(holder)))


def test_walk_from_the_top_follows_links_wherever_they_lead(tree: Path) -> None:
    (tree / "back").symlink_to(tree)
    (tree / "above").symlink_to("../" * 40 + str(tree)[1:])
    plain = [b"."]
    for name in os.fsencode(tree).split(b"/")[1:]:
        plain.append(name if plain == [b"."] else plain[-1] + b"/" + name)
    assert steps(beneath.walk_to(os.fsencode(tree))) == plain
    for link in (b"back", b"above"):
        way = beneath.walk_to(os.fsencode(tree) + b"/" + link)
        assert os.path.samestat(os.fstat(way.fd), os.stat(tree))
        assert steps(way) == [*plain, plain[-1] + b"/" + link, *plain[1:]]
    with pytest.raises(OSError, match="symbolic links"):
        beneath.walk_to(os.fsencode(tree) + b"/round")


def test_walk_that_fails_leaves_no_descriptor_behind(tree: Path, root_fd: int) -> None:
    before = os.listdir("/proc/self/fd")
    for path in (b"out", b"round", b"dir/nothing", b"file/x", b"../secret", b"", b"a\0b"):
        with pytest.raises(OSError, match=r"."):
            beneath.walk_beneath(root_fd, path, os.O_PATH, "owner-match")
    for path in (b"/nothing", b"/a\0b", os.fsencode(tree) + b"/round"):
        with pytest.raises(OSError, match=r"."):
            beneath.walk_to(path)
    assert os.listdir("/proc/self/fd") == before
