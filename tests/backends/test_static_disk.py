"""Files, links, permissions and changes on the disk, and what is remembered of them."""

import asyncio
import contextlib
import os
import resource
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.backends import copies
from gateway.backends.copies import Copy, Shelf
from gateway.backends.sources import Glob, Sources
from gateway.backends.static import WHOLE, Static, StaticSettings
from gateway.exchange import NO_BODY, FileSpan, Limits, Notes, Place, Refused, Request
from gateway.process.spec import SymlinkPolicy
from gateway.units import Size


async def got(static: Static, name: bytes, *headers: tuple[bytes, bytes]) -> bytes | int:
    """Return the body of a 200, else the status."""
    base = static.settings.root
    notes = Notes(Limits())
    notes.place = Place(root=base, file=base + b"/" + name, script_name=name, path_info=b"")
    request = Request(
        id="1", method="GET", target=b"/", path=b"/", query=b"", protocol=b"HTTP/1.1",
        headers=headers, host=b"", scheme=b"http", remote=("", 0), local=("", 0), body=NO_BODY,
        length=0, notes=notes,
    )  # fmt: skip
    try:
        async with static(request) as response:
            if response.status != 200:
                return response.status
            if isinstance(response.body, FileSpan):
                return os.pread(response.body.fd, response.body.length, 0)
            assert isinstance(response.body, bytes)
            return response.body
    except Refused as refused:
        return refused.status


def get(static: Static, name: bytes, *headers: tuple[bytes, bytes]) -> bytes | int:
    return asyncio.run(got(static, name, *headers))


def make(root: Path, symlinks: SymlinkPolicy = "owner-match", cache: int = 1 << 20) -> Static:
    return Static(StaticSettings(root=os.fsencode(root), symlinks=symlinks, cache=Size(cache)))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "SETTLED", -3600.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    return root


# -- what is not a file


def test_a_fifo_is_not_there_and_does_not_hang(root: Path) -> None:
    os.mkfifo(root / "fifo")
    assert get(make(root), b"fifo") == 404


def test_a_socket_is_not_there(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(root, os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/socket")  # short: its path has 108 bytes at most
        os.close(here)
        assert get(make(root), b"socket") == 404


@pytest.mark.usefixtures("settled")
def test_a_fifo_in_the_place_of_a_remembered_file(root: Path) -> None:
    static = make(root)
    assert get(static, b"file") == b"inside"
    (root / "file").unlink()
    os.mkfifo(root / "file")
    assert get(static, b"file") == 404


# -- links


@pytest.mark.parametrize("symlinks", ["none", "owner-match", "any"])
@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "../root/../secret", "dir/up"])
def test_no_link_leads_out(root: Path, symlinks: SymlinkPolicy, target: str) -> None:
    (root / "dir").mkdir()
    (root / "dir" / "up").symlink_to("../../secret")
    (root / "link").symlink_to(target)
    assert get(make(root, symlinks), b"link") == 404


@pytest.mark.parametrize("symlinks", ["none", "owner-match", "any"])
def test_dots_that_reach_the_handler_do_not_lead_out(root: Path, symlinks: SymlinkPolicy) -> None:
    (root / "dir").mkdir()
    for name in (b"../secret", b"dir/../../secret", b"../root/file"):
        assert get(make(root, symlinks), name) == 404


@pytest.mark.parametrize(
    ("symlinks", "answer"), [("none", 404), ("owner-match", b"inside"), ("any", b"inside")]
)
def test_a_link_of_the_same_owner(root: Path, symlinks: SymlinkPolicy, answer: bytes | int) -> None:
    (root / "dir").mkdir()
    (root / "link").symlink_to("file")
    (root / "dir" / "back").symlink_to("../file")
    (root / "alias").symlink_to("dir")
    static = make(root, symlinks)
    for _ in range(2):
        assert get(static, b"link") == answer
        assert get(static, b"dir/back") == answer
        assert get(static, b"alias/back") == answer


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link of somebody else")
def test_a_link_of_another_owner(root: Path) -> None:
    (root / "link").symlink_to("file")
    os.lchown(root / "link", 65534, 65534)
    assert get(make(root, "owner-match"), b"link") == 404
    assert get(make(root, "any"), b"link") == b"inside"


def test_a_loop_of_links_ends(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    assert get(make(root, "any"), b"a") == 404


def test_a_root_that_is_a_link_can_be_moved(root: Path, tmp_path: Path) -> None:
    """A deployment swaps the link `current`; what was remembered must not outlive it."""
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "file").write_bytes(b"next")
    (tmp_path / "current").symlink_to("root")
    static = make(tmp_path / "current")
    assert get(static, b"file") == b"inside"
    (tmp_path / "new").symlink_to("next")
    (tmp_path / "new").rename(tmp_path / "current")
    assert get(static, b"file") == b"next"


def swapping(change: Callable[[], None]) -> tuple[threading.Thread, threading.Event]:
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            change()

    thread = threading.Thread(target=loop)
    thread.start()
    return thread, stop


@pytest.mark.parametrize("symlinks", ["none", "owner-match", "any"])
@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_link_swapped_in_a_race_never_leads_out(
    root: Path, tmp_path: Path, symlinks: SymlinkPolicy, what: str
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "page").write_bytes(b"outside")
    (root / "real").mkdir()
    (root / "real" / "page").write_bytes(b"inside")
    place = root / "place"
    spare = root / "spare"
    kept = root / "kept"

    def change() -> None:
        if what == "file":
            place.with_name("new").write_bytes(b"inside")
            place.with_name("new").rename(place)
            spare.symlink_to("../secret")
            spare.rename(place)
        else:
            spare.symlink_to("../outside")
            kept.symlink_to("real")
            kept.rename(place)
            spare.rename(place)

    static = make(root, symlinks)
    thread, stop = swapping(change)
    name = b"place" if what == "file" else b"place/page"
    try:
        seen = {get(static, name) for _ in range(1500)}
    finally:
        stop.set()
        thread.join()
    assert b"outside" not in seen
    assert seen <= {b"inside", 404, 503}


# -- permissions


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A root of which we own nothing, while we are nobody (or are not root anyway)."""
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)
    (base / "file").write_bytes(b"inside")
    (base / "closed").mkdir()
    (base / "closed" / "file").write_bytes(b"inside")
    (base / "entered").mkdir()
    root_runs = os.geteuid() == 0
    if root_runs:
        os.seteuid(65534)
    try:
        yield base
    finally:
        if root_runs:
            os.seteuid(0)
        (base / "closed").chmod(0o755)
        shutil.rmtree(base)


def as_owner(change: Callable[[], None]) -> None:
    """Do something that the owner of the files may do."""
    me = os.geteuid()
    os.seteuid(os.getuid())
    change()
    os.seteuid(me)


@pytest.mark.usefixtures("settled")
def test_a_file_that_may_no_longer_be_read_is_403(unprivileged: Path) -> None:
    static = make(unprivileged)
    assert get(static, b"file") == b"inside"
    as_owner(lambda: (unprivileged / "file").chmod(0o200))
    assert get(static, b"file") == 403
    assert get(static, b"file", (b"if-modified-since", b"Fri, 01 Jan 2100 00:00:00 GMT")) == 403


@pytest.mark.usefixtures("settled")
def test_a_directory_that_may_no_longer_be_entered_is_403(unprivileged: Path) -> None:
    static = make(unprivileged)
    assert get(static, b"closed/file") == b"inside"
    as_owner(lambda: (unprivileged / "closed").chmod(0o600))
    assert get(static, b"closed/file") == 403


def test_a_directory_that_can_only_be_entered_still_redirects(unprivileged: Path) -> None:
    as_owner(lambda: (unprivileged / "entered").chmod(0o311))
    assert get(make(unprivileged), b"entered") == 301


@pytest.mark.usefixtures("settled")
def test_no_descriptor_left_is_503_and_nothing_that_is_remembered(root: Path) -> None:
    static = make(root)
    (root / "other").write_bytes(b"other")
    assert get(static, b"file") == b"inside"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    taken = [os.open(root, os.O_PATH) for _ in range(highest + 16)]
    try:
        # asyncio needs a few for itself; the handler must find none, so its own are used up last.
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 5, hard))
        with asyncio.Runner() as runner:
            runner.get_loop()
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open(root, os.O_PATH))
            assert runner.run(got(static, b"other")) == 503
            assert runner.run(got(static, b"file")) == b"inside"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)


# -- what is remembered


@pytest.mark.usefixtures("settled")
def test_an_edit_shows_at_once(root: Path) -> None:
    static = make(root)
    assert get(static, b"file") == b"inside"
    info = os.stat(root / "file")
    (root / "file").write_bytes(b"INSIDE")  # the same inode and size
    os.utime(root / "file", ns=(info.st_atime_ns, info.st_mtime_ns))  # and the same mtime
    assert get(static, b"file") == b"INSIDE"
    (root / "other").write_bytes(b"replaced")
    (root / "other").rename(root / "file")
    assert get(static, b"file") == b"replaced"
    (root / "file").unlink()
    assert get(static, b"file") == 404
    (root / "file").mkdir()
    assert get(static, b"file") == 301


def test_a_file_that_changes_twice_within_a_clock_tick(root: Path) -> None:
    """The second change may leave every field of stat as it was, so nothing new is kept."""
    static = make(root)
    for n in range(200):
        (root / "file").write_bytes(b"%06d" % n)
        assert get(static, b"file") == b"%06d" % n


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("size", [10, 100_000, WHOLE + 1])
def test_a_file_of_any_size_is_current(root: Path, size: int) -> None:
    static = make(root)
    for fill in (b"a", b"b"):
        (root / "file").write_bytes(fill * size)
        for _ in range(2):
            assert get(static, b"file") == fill * size


@pytest.mark.usefixtures("settled")
def test_memory_is_bounded_and_the_least_used_goes_first(root: Path) -> None:
    for n in range(50):
        (root / f"{n}").write_bytes(bytes([n]) * 10_000)
    static = make(root, cache=100_000)
    for _ in range(2):
        for n in range(50):
            assert get(static, b"%d" % n) == bytes([n]) * 10_000
    assert 50_000 < static._shelf.held <= 100_000
    held = [n for n in range(50) if static._get(b"%b/%d" % (os.fsencode(root), n))]
    assert held == list(range(held[0], 50))


@pytest.mark.usefixtures("settled")
def test_what_is_thrown_out_is_counted_off(root: Path) -> None:
    info = os.stat(root / "file")
    shelf = Shelf(1 << 20)
    main = Copy(b"/file", b"file", info)
    other = Copy(b"/file.gz", b"file.gz", info, b"gzip")
    main.finish(b"text/plain", (other,))
    shelf.put(main)
    shelf.hold(main, main, b"inside")
    shelf.hold(main, other, b"packed")
    assert shelf.held == 2 * copies.WEIGHT + 12
    shelf.drop(b"/file")
    assert shelf.held == 0
    shelf.hold(main, Copy(b"/file", b"file", info), b"late")
    assert shelf.held == 0


@pytest.mark.usefixtures("settled")
def test_after_a_while_the_rules_are_applied_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "dir").mkdir()
    (root / "dir" / "page").write_bytes(b"page")
    static = make(root)
    assert get(static, b"dir/page") == b"page"
    # The very same file, now by a way that leads out and back in.
    (root / "dir").rename(root.parent / "moved")
    (root / "dir").symlink_to("../moved")
    monkeypatch.setattr("gateway.backends.static.monotonic", lambda: float("inf"))
    assert get(static, b"dir/page") == 404


# -- the text of programs


def hiding(root: Path, *rules: tuple[bytes, Glob | None]) -> Static:
    return Static(StaticSettings(root=os.fsencode(root), symlinks="any", sources=Sources(rules)))


def test_a_script_directory_is_hidden_by_every_way_to_it(root: Path) -> None:
    (root / "cgi-bin").mkdir()
    (root / "cgi-bin" / "run").write_bytes(b"password")
    (root / "alias").symlink_to("cgi-bin")
    (root / "copy.txt").symlink_to("cgi-bin/run")
    static = hiding(root, (os.fsencode(root / "cgi-bin"), None))
    for name in (b"cgi-bin/run", b"alias/run", b"copy.txt"):
        assert get(static, name) == 404
    assert get(static, b"file") == b"inside"


def test_a_script_directory_given_by_a_link_is_hidden(root: Path) -> None:
    (root / "programs").mkdir()
    (root / "programs" / "run").write_bytes(b"password")
    (root / "cgi-bin").symlink_to("programs")
    static = hiding(root, (os.fsencode(root / "cgi-bin"), None))
    assert get(static, b"programs/run") == 404


def test_a_link_with_a_harmless_name_to_a_script_is_hidden(root: Path) -> None:
    (root / "x.cgi").write_bytes(b"password")
    (root / "x.txt").symlink_to("x.cgi")
    static = hiding(root, (b"", Glob(b"*.cgi")))
    assert get(static, b"x.txt") == 404


@pytest.mark.usefixtures("settled")
def test_a_compressed_neighbour_that_is_a_script_is_not_sent(root: Path) -> None:
    (root / "x.cgi").write_bytes(b"password")
    (root / "file.gz").symlink_to("x.cgi")
    static = hiding(root, (b"", Glob(b"*.cgi")))
    assert get(static, b"file", (b"accept-encoding", b"gzip")) == b"inside"
