"""FIELD section 3, row 16: somebody swaps files, links and directories in a loop while scripts are
ordered. What runs is the tenant, whoever swaps; and nothing of somebody else's, if others swap."""

import contextlib
import mmap
import os
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.process.channel import (
    Exited,
    Failed,
)
from gateway.process.spec import KeeperSpec, ScriptRoot

ORDERS = 2000
"""Requests while somebody swaps."""
AT_ONCE = 6
PATIENCE = 100.0

SHELL = """\
#!/bin/sh
while read -r name rest; do
    case $name in Uid:|Gid:|Groups:) echo $name $rest;; esac
done < /proc/self/status
echo {mark}
"""
PYTHON = """\
#!{python}
for line in open("/proc/self/status"):
    if line.startswith(("Uid:", "Gid:", "Groups:")):
        print(*line.split())
print("{mark}")
"""

Swap = Callable[[], None]


@contextlib.contextmanager
def swapping(who: Any, swap: Swap) -> Iterator[Callable[[], int]]:
    """Have another process of `who` call `swap` all the time. Gives how often it has."""
    memory = mmap.mmap(-1, 8)
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([who.gid])
            os.setresgid(who.gid, who.gid, who.gid)
            os.setresuid(who.uid, who.uid, who.uid)
            for count in range(1, 1 << 62):
                swap()
                memory[:] = struct.pack("=Q", count)
                if count % 64 == 0:
                    os.sched_yield()
        finally:
            os._exit(1)

    def count() -> int:
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "whoever swaps has died"
        return int(struct.unpack("=Q", memory[:])[0])

    try:
        yield count
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        memory.close()


def tried(*steps: Callable[[], object]) -> Swap:
    """Return what takes each step, also if another one is forbidden."""

    def swap() -> None:
        for step in steps:
            with contextlib.suppress(OSError):
                step()

    return swap


def put(kind: Callable[[Path, Path], None], source: Path, place: Path) -> Callable[[], None]:
    """Return what puts a link to `source` into `place`, in one step."""
    fresh = place.with_name(place.name + "." + source.name + kind.__name__)

    def swap() -> None:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        kind(source, fresh)
        os.rename(fresh, place)

    return swap


class Asked:
    """A keeper of the tenant's that is asked again and again, and what came of it."""

    def __init__(self, channel: Any, content: Callable[[int], bytes]) -> None:
        self.channel = channel
        self._content = content
        self.answers: Counter[str] = Counter()
        """What scripts wrote, and the rules and statuses of refusals."""

    def ask(self, script: str, done: Callable[[Counter[str]], bool]) -> None:
        """Order `ORDERS` scripts, and more until `done`."""
        deadline = time.monotonic() + PATIENCE
        number = 0
        while number < ORDERS or not done(self.answers):
            assert time.monotonic() < deadline, self.answers
            self._together(script, number)
            number += AT_ONCE

    def _together(self, script: str, first: int) -> None:
        orders = {
            number: self.channel.order(number, script) for number in range(first, first + AT_ONCE)
        }
        waiting = set(orders)
        while waiting:
            reply = self.channel.reply()
            if isinstance(reply, Failed):
                rule = reply.why.split('"')[1] if reply.step == "identity" else reply.step
                self.answers[f"{reply.status} {rule}"] += 1
            else:
                assert isinstance(reply, Exited), reply
                said = self._content(orders[reply.id][0]).decode()
                self.answers[said or f"exit {reply.status}"] += 1
            waiting.remove(reply.id)
        self.channel.close_pipes()

    def ran(self) -> set[str]:
        """What the scripts wrote that ran."""
        return {answer for answer in self.answers if answer.startswith("Uid:")}


@pytest.fixture
def ask(
    spec: KeeperSpec, tenant: Any, keep: Any, open_channel: Any, content: Any
) -> Callable[..., Asked]:
    """Start a keeper that becomes the tenant, with this root."""

    def start(root: Path, **changes: Any) -> Asked:
        kept = keep(
            user=tenant.name,
            uid=tenant.uid,
            gid=tenant.gid,
            groups=(tenant.gid,),
            switch=True,
            sockets=os.fsencode(tenant.home / "sockets"),
            scripts={"r": ScriptRoot(root=os.fsencode(root), tenant=True, **changes)},
        )
        return Asked(open_channel(kept), content)

    return start


@dataclass(frozen=True)
class Way:
    """In what way scripts are started, and what they are."""

    start: str
    text: str

    def script(self, mark: str) -> str:
        return self.text.replace("{mark}", mark)


@pytest.fixture(params=["exec", "warm"])
def way(request: pytest.FixtureRequest) -> Way:
    if request.param == "exec":
        return Way("exec", SHELL)
    return Way("warm", PYTHON.replace("{python}", request.getfixturevalue("open_python")))


def said(who: Any, mark: str) -> str:
    uid, gid = (" ".join([str(number)] * 4) for number in (who.uid, who.gid))
    return f"Uid: {uid}\nGid: {gid}\nGroups: {who.gid}\n{mark}\n"


class Ground:
    """A directory of the attacker's choice, with the tenant's root and the attacker's own in it."""

    def __init__(self, tenant: Any, attacker: Any, place: Path, way: Way) -> None:
        self.place = place
        self.site, self.trap = place / "site", place / "trap"
        for who, root in ((tenant, self.site), (attacker, self.trap)):
            root.mkdir()
            (root / "x.cgi").write_text(way.script(f"of {who.name}"))
            (root / "x.cgi").chmod(0o755)
            who.own(root, root / "x.cgi")


@pytest.fixture
def ground(tenant: Any, attacker: Any, way: Way) -> Iterator[Ground]:
    place = tenant.home.parent / f"ground{os.getpid()}"
    place.mkdir()
    try:
        yield Ground(tenant, attacker, place, way)
    finally:
        for root, names, files in os.walk(place, topdown=False):
            for name in files:
                os.unlink(os.path.join(root, name))
            for name in names:
                path = os.path.join(root, name)
                os.unlink(path) if os.path.islink(path) else os.rmdir(path)
        place.rmdir()


def test_others_cannot_take_away_what_is_in_a_sticky_directory(
    ground: Ground, tenant: Any, attacker: Any, ask: Any, way: Way
) -> None:
    ground.place.chmod(0o1777)
    aside = ground.place / "aside"
    script, trap = ground.site / "x.cgi", ground.trap / "x.cgi"
    swap = tried(
        lambda: os.rename(ground.site, aside),
        lambda: os.rename(ground.trap, ground.site),
        put(os.symlink, ground.trap, ground.site),
        put(os.symlink, trap, script),
        put(os.link, trap, script),
    )
    asked = ask(ground.site, start=way.start)
    with swapping(attacker, swap) as count:
        asked.ask("x.cgi", lambda answers: count() > ORDERS)
    assert set(asked.answers) == {said(tenant, f"of {tenant.name}")}


def test_nothing_runs_below_a_directory_that_others_may_write(
    ground: Ground, attacker: Any, ask: Any, way: Way
) -> None:
    ground.place.chmod(0o777)
    aside = ground.place / "aside"
    swap = tried(
        lambda: os.rename(ground.site, aside),
        lambda: os.rename(ground.trap, ground.site),
        lambda: os.rename(ground.site, ground.trap),
        lambda: os.rename(aside, ground.site),
    )
    asked = ask(ground.site, start=way.start)
    with swapping(attacker, swap) as count:
        asked.ask("x.cgi", lambda answers: count() > ORDERS)
    assert set(asked.answers) <= {"403 above-writable", "404 open"}


def test_nothing_runs_behind_a_link_of_somebody_else(
    ground: Ground, attacker: Any, ask: Any, way: Way
) -> None:
    ground.place.chmod(0o1777)
    link = ground.place / "link"
    swap = tried(
        put(os.symlink, ground.site, link),
        put(os.symlink, ground.trap, link),
    )
    asked = ask(link, start=way.start)
    with swapping(attacker, swap) as count:
        asked.ask("x.cgi", lambda answers: count() > ORDERS)
    assert set(asked.answers) <= {"403 above-owner", "404 open"}
    assert asked.answers["403 above-owner"]


def test_nothing_runs_in_a_directory_of_the_root_that_others_may_write(
    ground: Ground, tenant: Any, attacker: Any, ask: Any, way: Way
) -> None:
    uploads = ground.site / "uploads"
    uploads.mkdir()
    tenant.own(uploads)
    uploads.chmod(0o777)
    place, aside = uploads / "x.cgi", uploads / "aside"
    os.rename(ground.site / "x.cgi", place)
    swap = tried(
        lambda: os.rename(place, aside),
        put(os.link, ground.trap / "x.cgi", place),
        lambda: os.rename(aside, place),
        lambda: os.rename(place, aside),
        put(os.symlink, Path("aside"), place),
        lambda: os.rename(aside, place),
        lambda: os.rename(place, aside),
        put(os.symlink, ground.trap / "x.cgi", place),
        lambda: os.rename(aside, place),
    )
    asked = ask(ground.site, start=way.start)
    with swapping(attacker, swap) as count:
        asked.ask(
            "uploads/x.cgi",
            lambda answers: bool(answers["403 directory-writable"] and count() > ORDERS),
        )
    assert asked.ran() == set()
    assert all(answer[:3] in ("403", "404", "503") for answer in asked.answers), asked.answers


def test_tenant_that_swaps_is_still_only_itself(
    ground: Ground, tenant: Any, other: Any, attacker: Any, ask: Any, way: Way
) -> None:
    """It may run what everybody may, as it could from a script of its own: but as itself. What is
    not its to read does not run."""
    secret = other.script("secret.cgi", way.script("secret"), 0o700)
    os.link(attacker.script("public.cgi", way.script("public")), ground.site / "hard.cgi")
    place, own = ground.site / "x.cgi", ground.site / "own.cgi"
    tenant.own(ground.site)
    own.write_bytes(place.read_bytes())
    own.chmod(0o755)
    tenant.own(own)
    swap = tried(
        put(os.link, own, place),
        put(os.symlink, secret, place),
        put(os.link, own, place),
        put(os.symlink, attacker.home / "public.cgi", place),
        put(os.symlink, Path("own.cgi"), place),
        put(os.symlink, Path("hard.cgi"), place),
        put(os.link, own, place),
        lambda: os.chmod(own, 0o777),
        lambda: os.chmod(own, 0o755),
    )
    asked = ask(ground.site, start=way.start)
    own_answer = said(tenant, f"of {tenant.name}")
    refusals = {"403 outside", "403 link", "403 group-writable"}
    with swapping(tenant, swap) as count:
        asked.ask(
            "x.cgi",
            lambda answers: bool(
                answers[own_answer] and refusals <= answers.keys() and count() > ORDERS
            ),
        )
    assert asked.ran() <= {own_answer, said(tenant, "public")}
