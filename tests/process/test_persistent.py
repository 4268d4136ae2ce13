"""Scripts that are run again and again in one process, through a real keeper."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.process.channel import Exited, Failed, Queued, Started
from gateway.process.spec import ScriptRoot

Keep = Callable[..., Any]
Until = Callable[[Callable[[], object], str], None]
Content = Callable[[int], bytes]


class Site:
    """A keeper whose scripts are persistent."""

    def __init__(self, kept: Any, channel: Any, content: Content) -> None:
        self.kept, self.channel, self.content = kept, channel, content
        self.last = 0

    def ask(self, script: str, query: str = "", **env: str) -> tuple[str, str, int]:
        self.last += 1
        block = {k.encode(): v.encode() for k, v in env.items()} | {b"QUERY_STRING": query.encode()}
        out, err = self.channel.order(self.last, script, block)
        said, complaint = self.content(out).decode(), self.content(err).decode()
        while not isinstance(reply := self.channel.reply(), Exited):
            assert isinstance(reply, Queued | Started), reply
        assert reply.id == self.last
        return said, complaint, reply.status


def test_try(keep: Keep, open_channel: Any, content: Content, tmp_path: Path) -> None:
    kept = keep(scripts={"r": ScriptRoot(root=os.fsencode(tmp_path / "root"), start="persistent")})
    python = os.environ.get("TRY", sys.executable)
    kept.script("x.py", f"#!{python}\nimport os,sys\nsys.stdout.write('%d %s\\n' % (os.getpid(), os.environ['QUERY_STRING']))\n")
    site = Site(kept, open_channel(kept), content)
    import time
    time.sleep(0.3)
    for i in range(5):
        print(site.ask("x.py", str(i)))
    t = time.monotonic()
    for i in range(300):
        site.ask("x.py", str(i))
    print((time.monotonic() - t) / 300)
    kept.script("x.py", f"#!{python}\nimport os,sys\nsys.stdout.write('%d\\n' % (os.getpid()))\nraise ValueError(1)\n")
    for i in range(3):
        print(site.ask("x.py", str(i)))
    print(kept.log())
