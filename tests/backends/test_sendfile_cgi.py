"""X-Sendfile out of real scripts, which a real keeper starts and whose files it opens."""

import asyncio
import gc
import os
import socket
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.cgi import Cgi, CgiSettings
from gateway.backends.sendfile import Sendfile, SendfileSettings
from gateway.exchange import FileSpan, Limits, Place, Request
from gateway.journal import Journal
from gateway.process import keeper
from gateway.process.mastering import (
    Attach,
)
from gateway.process.post import send
from gateway.process.remote import RemoteKeeper
from gateway.process.spec import KeeperSpec, ScriptRoot
from gateway.units import Duration

NewRequest = Callable[..., Request]
RunLoop = Callable[[Coroutine[Any, Any, None]], None]


class Site:
    """A directory of scripts, one of files, and the keeper of both."""

    def __init__(self, directory: Path, log: int, new_request: NewRequest) -> None:
        self.scripts = directory / "scripts"
        self.files = directory / "files"
        self.scripts.mkdir()
        self.files.mkdir()
        self.new_request = new_request
        self.journal = Journal(log, "test")
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if not self.pid:
            self._keep(directory, theirs)
        theirs.close()

    def _keep(self, directory: Path, control: socket.socket) -> None:
        try:
            self.control.close()
            spec = KeeperSpec(
                user="tests",
                uid=os.getuid(),
                gid=os.getgid(),
                groups=(),
                switch=False,
                scripts={"0/0": ScriptRoot(root=os.fsencode(self.scripts))},
                pools=(),
                sockets=os.fsencode(directory / "sockets"),
                concurrency=1,
                queue=4,
                grace=0.3,
                files={"0/0/file0": os.fsencode(self.files)},
            )
            os._exit(keeper.run(spec, control, self.journal))
        except BaseException:
            traceback.print_exc()
            os._exit(70)

    async def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            send(self.control, Attach().encode(), (theirs.fileno(),))
        return ours

    def close(self) -> int:
        self.control.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def script(self, text: str) -> None:
        fresh = self.scripts / "new"
        fresh.write_text(f"#!{sys.executable} -SE\nimport os, sys, time\n{text}")
        fresh.chmod(0o755)
        fresh.rename(self.scripts / "give.cgi")

    def request(self) -> Request:
        request = self.new_request(limits=Limits(grace=Duration(0.2)))
        request.notes.place = Place(
            root=b"", file=os.fsencode(self.scripts / "give.cgi"), script_name=b"/g", path_info=b""
        )
        return request

    def handler(self, remote: RemoteKeeper) -> Sendfile:
        root = os.fsencode(self.scripts)
        cgi = Cgi(CgiSettings(route="0/0", root=root, software=b"x"), remote, self.journal)
        settings = SendfileSettings(roots={os.fsencode(self.files): "0/0/file0"})
        return Sendfile(cgi, settings, remote, self.journal)


@pytest.fixture
def site(tmp_path: Path, setup: Any, new_request: NewRequest) -> Iterator[Site]:
    made = Site(tmp_path, setup.log, new_request)
    yield made
    assert made.close() == 0
    gc.collect()  # a closed event loop has its last descriptors until then; other tests count them


NAME = "print('Content-Type: text/plain\\nX-Sendfile: %s/file\\n', flush=True)\n"


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        ("", 0),
        ("sys.exit(3)\n", 3),
        ("print('x' * 5000)\n", 0),
        ("os.close(1); open('DONE', 'w').close(); time.sleep(0.05)\n", 0),
        ("print('x' * 1000000)\n", None),  # it is stopped, and the file comes all the same
        ("time.sleep(300)\n", None),
    ],
    ids=["ends", "fails", "writes", "works on", "writes much", "stays"],
)
def test_script_names_a_file(site: Site, run: RunLoop, rest: str, status: int | None) -> None:
    async def main() -> None:
        remote = RemoteKeeper(site.connect)
        request = site.request()
        async with asyncio.timeout(20), site.handler(remote)(request) as response:
            assert isinstance(response.body, FileSpan)
            assert os.read(response.body.fd, 100) == b"content"
            assert (b"Content-Type", b"text/plain") in response.headers
        assert request.notes.exit_status == status
        # There is one place for a script: another one starts when the first has gone.
        async with asyncio.timeout(20), site.handler(remote)(site.request()) as response:
            assert response.status == 200
        remote.close()

    (site.files / "file").write_bytes(b"content")
    site.script(NAME % site.files + rest)
    run(main())


def test_scripts_place_is_free_while_its_file_is_sent(site: Site, run: RunLoop) -> None:
    async def main() -> None:
        remote = RemoteKeeper(site.connect)
        async with asyncio.timeout(20), site.handler(remote)(site.request()) as first:
            async with site.handler(remote)(site.request()) as second:
                assert isinstance(first.body, FileSpan)
                assert isinstance(second.body, FileSpan)
                assert os.read(first.body.fd, 100) == os.read(second.body.fd, 100) == b"content"
        remote.close()

    (site.files / "file").write_bytes(b"content")
    site.script(NAME % site.files)
    run(main())
