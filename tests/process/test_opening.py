"""Files that a front has its keeper open: what comes, what is refused, what a keeper cannot do."""

import asyncio
import errno
import gc
import os
import resource
import shutil
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from gateway.process.channel import (
    Failed,
    Leaving,
    Message,
    Open,
    Opened,
    Order,
    Release,
)
from gateway.process.mastering import (
    Idle,
)
from gateway.process.post import Inbox, send
from gateway.process.remote import RemoteKeeper
from gateway.process.spec import SpawnFailed

Keep = Callable[..., Any]
T = TypeVar("T")
RunLoop = Callable[[Coroutine[Any, Any, T]], T]

only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")

NOBODY = 65534


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> RunLoop[Any]:
    runner: RunLoop[Any] = request.param
    runner(asyncio.sleep(0))  # libuv opens a pipe of its own at its first use, for good
    return runner


@pytest.fixture
def files() -> Iterator[Path]:
    """A directory that every account of the machine can reach."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    (directory / "sub").mkdir()
    (directory / "sub" / "report.pdf").write_bytes(b"content")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def kept(keep: Keep, files: Path) -> Any:
    return keep(files={"0/1/file0": os.fsencode(files)})


def own_descriptors() -> int:
    gc.collect()  # a closed event loop has its last descriptors until it is collected
    return len(os.listdir("/proc/self/fd"))


async def reason(opening: Awaitable[object]) -> SpawnFailed:
    with pytest.raises(SpawnFailed) as caught:
        await opening
    return caught.value


def test_file_comes_open_for_reading_alone(kept: Any, run: RunLoop[Any]) -> None:
    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        fd = await remote.open("0/1/file0", b"sub/report.pdf")
        try:
            assert os.read(fd, 100) == b"content"
            assert not os.get_inheritable(fd)
            assert not os.get_blocking(fd)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(fd, b"x")
        finally:
            os.close(fd)
        remote.close()

    before = own_descriptors()
    run(main())
    assert own_descriptors() == before


def test_many_at_once_each_get_their_own_and_nothing_stays_open(
    kept: Any, files: Path, run: RunLoop[Any]
) -> None:
    for number in range(50):
        (files / str(number)).write_text(str(number))

    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        await reason(remote.pool("no such route", b"x"))  # all that was before has been done
        held = kept.descriptors()
        opening = (remote.open("0/1/file0", b"%d" % number) for number in range(50))
        for number, fd in enumerate(await asyncio.gather(*opening)):
            assert os.read(fd, 10) == b"%d" % number
            os.close(fd)
        assert (await reason(remote.open("0/1/file0", b"missing"))).status == 404
        assert (await reason(remote.open("0/1/file0", b"sub"))).status == 404
        await reason(remote.pool("no such route", b"x"))
        assert kept.descriptors() == held
        remote.close()

    run(main())


@pytest.mark.parametrize(
    ("path", "number", "status", "words"),
    [
        (b"missing", errno.ENOENT, 404, "No such file"),
        (b"sub", errno.EISDIR, 404, "it is a directory"),
        (b".", errno.EISDIR, 404, "it is a directory"),
        (b"sub/report.pdf/", errno.ENOTDIR, 404, "Not a directory"),
        (b"sub/report.pdf/x", errno.ENOTDIR, 404, "Not a directory"),
        (b"pipe", errno.ENXIO, 404, "not a regular file"),
        (b"socket", errno.ENXIO, 404, "not a regular file"),
        (b"../x", errno.EXDEV, 403, "leads out of"),
        (b"sub/../../x", errno.EXDEV, 403, "leads out of"),
        (b"/etc/passwd", errno.EXDEV, 403, "leads out of"),
        (b"out", errno.EXDEV, 403, "leads out of"),
        (b"round", errno.ELOOP, 403, "link"),
        (b"x" * 300, errno.ENAMETOOLONG, 404, "too long"),
        (b"", errno.EINVAL, 404, "cannot be the path"),
        (b"a\0b", errno.EINVAL, 404, "cannot be the path"),
        (b"x/" * 3000, errno.EINVAL, 404, "cannot be the path"),
    ],
)
def test_refusal_says_what_is_wrong(
    kept: Any, files: Path, path: bytes, number: int, status: int, words: str
) -> None:
    os.mkfifo(files / "pipe")
    (files / "out").symlink_to("/etc/passwd")
    (files / "round").symlink_to("round")

    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        failed = await reason(remote.open("0/1/file0", path))
        assert (failed.errno, failed.status) == (number, status)
        assert words in failed.why
        os.close(await remote.open("0/1/file0", b"sub/report.pdf"))  # the channel has not suffered
        remote.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fsencode(files / "socket"))
        asyncio.run(main())


def test_unknown_key_and_a_directory_that_is_gone(kept: Any, files: Path, tmp_path: Path) -> None:
    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        failed = await reason(remote.open("0/1/file1", b"x"))
        assert (failed.status, failed.step) == (500, "route")
        os.rename(files, tmp_path / "moved")
        failed = await reason(remote.open("0/1/file0", b"sub/report.pdf"))
        assert (failed.status, failed.errno) == (500, errno.ENOENT)
        assert f"the directory {files} of the settings" in failed.why
        os.rename(tmp_path / "moved", files)
        remote.close()

    asyncio.run(main())


@only_root
def test_file_that_the_user_may_not_read_is_not_opened(keep: Keep, files: Path) -> None:
    """FIELD section 3, row 8: the front could read it; the script's user cannot."""
    (files / "private").write_bytes(b"secret")
    (files / "private").chmod(0o600)
    (files / "shut").mkdir(0o700)
    (files / "shut" / "inner").write_bytes(b"secret")
    kept = keep(files={"f": os.fsencode(files)}, user="nobody", uid=NOBODY, gid=NOBODY, switch=True)

    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        os.close(await remote.open("f", b"sub/report.pdf"))
        for path in (b"private", b"shut/inner"):
            failed = await reason(remote.open("f", path))
            assert (failed.status, failed.errno) == (403, errno.EACCES)
            assert "the user nobody may not read it" in failed.why
        remote.close()

    asyncio.run(main())


@only_root
def test_link_follows_its_owner(kept: Any, files: Path) -> None:
    (files / "own").symlink_to("sub/report.pdf")
    (files / "alien").symlink_to("sub/report.pdf")
    os.chown(files / "alien", NOBODY, NOBODY, follow_symlinks=False)

    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        os.close(await remote.open("0/1/file0", b"own"))
        failed = await reason(remote.open("0/1/file0", b"alien"))
        assert (failed.status, failed.errno) == (403, errno.ELOOP)
        remote.close()

    asyncio.run(main())


def test_keeper_that_leaves_still_opens(kept: Any, open_channel: Any) -> None:
    """The script that names the file was of this keeper, and may be running still."""
    kept.script("wait.cgi", "#!/bin/sh\nread line\n")
    channel = open_channel(kept)
    body, feed = os.pipe()
    channel.order(1, "wait.cgi", stdin=body)
    os.close(body)
    channel.sync()
    kept.stop(60.0)
    assert channel.reply() == Leaving()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.send(Open("0/1/file0", b"sub/report.pdf"), (theirs.fileno(),))
    theirs.close()
    ours.settimeout(20)
    received = Inbox().receive(ours)
    assert received is not None
    message, (fd,) = received
    assert message == Opened()
    assert os.read(fd, 100) == b"content"
    os.close(fd)
    assert Inbox().receive(ours) is None
    ours.close()
    os.close(feed)


def test_answer_that_nobody_waits_for_any_more_does_no_harm(kept: Any, open_channel: Any) -> None:
    channel = open_channel(kept)
    channel.sync()
    held = kept.descriptors()
    for path in (b"sub/report.pdf", b"missing"):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.close()
        channel.send(Open("0/1/file0", path), (theirs.fileno(),))
        theirs.close()
    with open("/dev/null") as null:
        channel.send(Open("0/1/file0", b"missing"), (null.fileno(),))
    channel.sync()
    assert kept.descriptors() == held


def test_keeper_with_too_many_open_files_refuses_and_keeps_its_front(kept: Any) -> None:
    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        await reason(remote.pool("no such route", b"x"))
        soft, hard = resource.prlimit(kept.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(kept.pid, resource.RLIMIT_NOFILE, (3, hard))
        assert (await reason(remote.open("0/1/file0", b"sub/report.pdf"))).status == 503
        resource.prlimit(kept.pid, resource.RLIMIT_NOFILE, (soft, hard))
        os.close(await remote.open("0/1/file0", b"sub/report.pdf"))
        remote.close()

    asyncio.run(main())
    assert "is dropped" not in kept.log()


# A keeper that is not one: it belongs to a user whom the front does not trust.


class Strange:
    """A keeper's end of one channel that a test holds."""

    def __init__(self) -> None:
        self.connections = 0
        self.sock: socket.socket | None = None
        self.answers: list[tuple[Message | None, str, int]] = []
        """What to say to the next `Open`s, and which file to send along, opened so; None: close
        the end."""

    async def connect(self) -> socket.socket:
        self.connections += 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.close()
        self.sock = theirs
        return ours

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()

    def answer(self) -> None:
        assert self.sock is not None
        received = Inbox().receive(self.sock)
        assert received is not None
        message, fds = received
        assert isinstance(message, Open)
        said, path, flags = self.answers.pop(0)
        with socket.socket(fileno=fds[0]) as reply:
            if said is None:
                return
            if not path:
                send(reply, said.encode())
                return
            fd = os.open(path, flags)
            try:
                send(reply, said.encode(), (fd,))
            finally:
                os.close(fd)


@pytest.fixture
def strange() -> Iterator[Strange]:
    made = Strange()
    yield made
    made.close()


async def told(strange: Strange, path: bytes = b"x") -> SpawnFailed:
    remote = RemoteKeeper(strange.connect)
    opening = asyncio.create_task(reason(remote.open("f", path, patience=10.0)))
    loop = asyncio.get_running_loop()
    while strange.answers:
        while strange.sock is None or strange.sock.fileno() < 0:  # noqa: ASYNC110 - turns
            await asyncio.sleep(0)
        asked = asyncio.Event()
        loop.add_reader(strange.sock.fileno(), asked.set)
        await asked.wait()
        loop.remove_reader(strange.sock.fileno())
        strange.answer()
    try:
        return await opening
    finally:
        remote.close()


@pytest.mark.parametrize(
    ("message", "path", "flags", "words"),
    [
        (Opened(), "/dev/null", os.O_RDONLY, "something else than a file"),
        (Opened(), "/", os.O_RDONLY, "something else than a file"),
        (Opened(), __file__, os.O_PATH, "something else than a file"),
        (Opened(), __file__, os.O_WRONLY, "something else than a file"),
        (Opened(), __file__, os.O_RDWR, "something else than a file"),
        (Release(7), "", 0, "something else than a file"),
        (Opened(), "", 0, "cannot be taken"),
        (Idle(1), "/dev/null", os.O_RDONLY, "cannot be taken"),
        (Order(1, "r", b"x", b"", True), "", 0, "cannot be taken"),
        (Failed(0, 13, "open", 403, "no"), "", 0, "no"),
    ],
)
def test_what_is_no_file_is_not_taken_and_not_kept(
    strange: Strange, message: Message, path: str, flags: int, words: str
) -> None:
    async def main() -> None:
        strange.answers.append((message, path, flags))
        failed = await told(strange)
        assert words in failed.why
        assert strange.connections == 1

    before = own_descriptors()
    asyncio.run(main())
    strange.close()
    assert own_descriptors() == before


def test_end_without_an_answer_is_tried_once_more(strange: Strange) -> None:
    async def main() -> None:
        strange.answers += [(None, "", 0), (None, "", 0)]
        failed = await told(strange)
        assert failed.status == 503

    asyncio.run(main())


def test_silence_has_an_end(strange: Strange) -> None:
    async def main() -> None:
        remote = RemoteKeeper(strange.connect)
        failed = await reason(remote.open("f", b"x", patience=0.02))
        assert failed.status == 503
        assert "says nothing for 0.02 s" in failed.why
        remote.close()

    asyncio.run(main())


def test_exchange_that_is_cut_while_it_waits_closes_its_end(strange: Strange) -> None:
    async def main() -> None:
        remote = RemoteKeeper(strange.connect)
        opening = asyncio.create_task(remote.open("f", b"x"))
        while strange.sock is None:  # noqa: ASYNC110 - turns of the loop
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        received = Inbox().receive(strange.sock)
        assert received is not None
        with socket.socket(fileno=received[1][0]) as reply:
            assert stat.S_ISSOCK(os.fstat(reply.fileno()).st_mode)
            with pytest.raises(BrokenPipeError):
                send(reply, Opened().encode())
        remote.close()

    asyncio.run(main())
