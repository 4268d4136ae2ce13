"""A real keeper with a tenant's own settings: its file, its programs, its passwords."""

import asyncio
import hashlib
import os
import time
from base64 import b64encode
from collections.abc import Callable, Coroutine
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

import pytest
import uvloop

from gateway.journal import Journal
from gateway.process import checks
from gateway.process.channel import (
    Check,
    Checked,
    TermsAre,
    WantTerms,
)
from gateway.process.checks import Allowed
from gateway.process.ownfile import OwnFiles
from gateway.process.remote import RemoteKeeper
from gateway.process.spec import SpawnFailed, TenantRoots
from gateway.process.terms import Terms, decode

T = TypeVar("T")
RunLoop = Callable[[Coroutine[Any, Any, T]], T]
NAME = "~tests"


def sha(password: str) -> str:
    return "{SHA}" + b64encode(hashlib.sha1(password.encode()).digest()).decode()


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> RunLoop[Any]:
    runner: RunLoop[Any] = request.param
    runner(asyncio.sleep(0))  # libuv opens a pipe of its own at its first use, for good
    return runner


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """The directory of the tenant "~tests"."""
    made = tmp_path / "tests" / "pages"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def roots(tmp_path: Path, pages: Path) -> TenantRoots:
    return TenantRoots(
        userdir=f"{tmp_path}/*/pages", hosts="", numbers=frozenset("01"), own_settings=True
    )


@pytest.fixture
def files(roots: TenantRoots) -> OwnFiles:
    return OwnFiles(roots, "tests")


@pytest.fixture
def kept(keep: Callable[..., Any], roots: TenantRoots) -> Any:
    return keep(tenant=roots)


def put(file: Path, text: str, mode: int = 0o644) -> None:
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.rename(file)


async def terms(remote: RemoteKeeper, name: str = NAME) -> Terms:
    answer = await remote.ask(WantTerms(name))
    assert isinstance(answer, TermsAre)
    return decode(answer.data)


async def right(remote: RemoteKeeper, user: str, password: str, origin: bytes = b"x") -> bool:
    said = Check(NAME, b"/p/", origin, user.encode(), password.encode())
    answer = await remote.ask(said)
    assert isinstance(answer, Checked)
    return answer.right


async def reason(asking: Coroutine[Any, Any, object]) -> SpawnFailed:
    with pytest.raises(SpawnFailed) as caught:
        await asking
    return caught.value


def test_keeper_tells_the_terms_as_they_are_now(kept: Any, pages: Path, run: RunLoop[Any]) -> None:
    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        assert await terms(remote) == Terms()
        put(pages / ".gateway.toml", 'index = ["a"]\n')
        assert (await terms(remote)).index == (b"a",)
        failed = await reason(remote.ask(WantTerms("~root")))
        assert (failed.status, failed.why) == (404, "tests is not the tenant ~root")
        assert (await reason(remote.ask(WantTerms("../x")))).status == 404
        remote.close()

    run(main())


def test_keeper_of_no_tenant_has_no_terms(keep: Callable[..., Any], run: RunLoop[Any]) -> None:
    async def main() -> None:
        remote = RemoteKeeper(keep().connect)
        assert (await reason(remote.ask(WantTerms(NAME)))).status == 404
        remote.close()

    run(main())


def test_where_the_administrator_says_no_the_file_is_nothing(tmp_path: Path, pages: Path) -> None:
    roots = TenantRoots(userdir=f"{tmp_path}/*/pages", hosts="", numbers=frozenset("0"))
    put(pages / ".gateway.toml", "nonsense")
    assert OwnFiles(roots, "tests").of(NAME).environment == {}


def test_file_is_read_again_when_it_changed_and_not_before(files: OwnFiles, pages: Path) -> None:
    put(pages / ".gateway.toml", 'start = "exec"\n')
    first = files.of(NAME, now=True)
    assert first.start == "exec"
    assert files.of(NAME) is first
    put(pages / ".gateway.toml", 'start = "exec" # the same\n')
    until(lambda: files.of(NAME, now=True) is first)
    put(pages / ".gateway.toml", 'start = "warm"\n')
    until(lambda: files.of(NAME, now=True).start == "warm")


def test_file_that_is_replaced_by_way_of_none_counts_in_between(
    files: OwnFiles, pages: Path
) -> None:
    file = pages / ".gateway.toml"
    put(file, 'start = "exec"\n')
    assert files.of(NAME).start == "exec"
    file.unlink()
    for _ in range(3):
        assert files.of(NAME, now=True).start == "exec"
    until(lambda: files.of(NAME, now=True).start is None)
    put(file, 'start = "warm"\n')
    assert files.of(NAME, now=True).start == "warm"


def test_refusals_of_one_file_do_not_pile_up(files: OwnFiles, pages: Path) -> None:
    put(pages / ".gateway.toml", "nonsense")
    raised = []
    for _ in range(3):
        with pytest.raises(SpawnFailed) as caught:
            files.of(NAME)
        raised.append(caught.value)
    assert len(set(map(id, raised))) == 3


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)  # between two looks


def test_file_that_changes_while_it_is_read_is_never_half_of_each(
    files: OwnFiles, pages: Path
) -> None:
    """Its two halves say the same, whenever it is read; each version is written in place."""
    file = pages / ".gateway.toml"
    done = Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            filler = "#" * 900 + "\n"
            text = f'[environment]\nA = "{number}"\n{filler * 60}B = "{number}"\n'
            with open(file, "r+") as stream:
                stream.write(text)
                stream.truncate()

    put(file, 'environment = { A = "0", B = "0" }\n')
    files.of(NAME)  # what was read once stands while the file changes
    writer = Thread(target=write)
    writer.start()
    seen = set()
    try:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            own = files.of(NAME, now=True)
            seen.add((own.environment.get("A"), own.environment.get("B")))
    finally:
        done.set()
        writer.join()
    assert seen == {("0", "0")}
    until(lambda: files.of(NAME, now=True).environment["A"] != "0")
    assert len(set(files.of(NAME).environment.values())) == 1


def test_scripts_have_the_tenants_variables_and_none_start_while_the_file_is_wrong(
    kept: Any, pages: Path, run: RunLoop[Any]
) -> None:
    put(pages / "x.cgi", '#!/bin/sh\necho "$NAME $COLOUR"\n', 0o755)
    put(pages / ".gateway.toml", 'environment = { COLOUR = "red", NAME = "settings" }\n')

    async def answer(remote: RemoteKeeper) -> bytes:
        script = await remote.start(f"{NAME}/0", b"x.cgi", {b"NAME": b"request"})
        try:
            return await script.stdout.read()
        finally:
            script.release()

    async def becomes(remote: RemoteKeeper, wanted: bytes) -> None:
        end = time.monotonic() + 20
        while True:
            try:
                found = await answer(remote)
            except SpawnFailed as failed:
                found = b"%d %b" % (failed.status, failed.why.encode())
            if wanted in found:
                return
            assert time.monotonic() < end, found
            await asyncio.sleep(0.01)

    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        assert await answer(remote) == b"request red\n"
        put(pages / ".gateway.toml", 'environment = { COLOUR = "blue" }\n')
        await becomes(remote, b"request blue\n")
        put(pages / ".gateway.toml", "enviroment = {}\n")
        await becomes(remote, b'.gateway.toml:1: enviroment: unknown key; did you mean "environ')
        await becomes(remote, b"500 ")
        put(pages / ".gateway.toml", "")
        await becomes(remote, b"request \n")
        remote.close()

    run(main())


def test_worker_found_by_file_starts_again_with_other_variables(
    kept: Any, pages: Path, run: RunLoop[Any], until: Callable[..., None]
) -> None:
    said = pages / "said"
    put(pages / "x.fcgi", f"#!/bin/sh\necho $COLOUR >> {said}\nexec sleep 60\n", 0o755)
    put(pages / ".gateway.toml", 'environment = { COLOUR = "red" }\n')

    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        await remote.pool(f"{NAME}/1", b"x.fcgi")
        until(lambda: said.exists() and said.read_text() == "red\n", "it starts")
        put(pages / ".gateway.toml", 'environment = { COLOUR = "blue" }\n')
        end = time.monotonic() + 20
        while said.read_text() != "red\nblue\n":
            assert time.monotonic() < end, said.read_text()
            await remote.pool(f"{NAME}/1", b"x.fcgi")
            await asyncio.sleep(0.01)
        remote.close()

    run(main())


@pytest.fixture
def protected(pages: Path) -> Path:
    """Return the password file of /p/."""
    put(pages / ".gateway.toml", 'auth = { path = "/p/", users = ["bob", "eve"] }\n')
    file = pages / ".htpasswd"
    put(file, f"bob:{sha('secret')}\neve:plain\ncarol:{sha('secret')}\n")
    return file


def test_password_is_right_or_not(kept: Any, protected: Path, run: RunLoop[Any]) -> None:
    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        assert await right(remote, "bob", "secret")
        assert not await right(remote, "bob", "wrong")
        assert not await right(remote, "bob", "")
        assert not await right(remote, "mallory", "secret")
        assert not await right(remote, "carol", "secret")  # right, and not let in
        assert not await right(remote, "eve", "plain")
        other = Check(NAME, b"/q/", b"x", b"bob", b"secret")
        assert (await reason(remote.ask(other))).status == 503
        remote.close()

    run(main())
    assert "the password of eve is never right" in kept.log()
    assert "plain" not in kept.log()


def test_same_password_at_the_same_time_is_compared_once(
    kept: Any, protected: Path, run: RunLoop[Any]
) -> None:
    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        asked = [right(remote, "bob", "secret") for _ in range(checks.BURST * 3)]
        assert all(await asyncio.gather(*asked))
        remote.close()

    run(main())
    assert kept.children() == []


def test_guessing_ends_for_who_guesses_alone(kept: Any, protected: Path, run: RunLoop[Any]) -> None:
    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        for number in range(checks.BURST):
            assert not await right(remote, "bob", f"{number}", b"bad")
        failed = await reason(right(remote, "bob", "secret", b"bad"))
        assert (failed.status, failed.why) == (429, "too many wrong passwords from bad")
        assert await right(remote, "bob", "secret", b"good")
        remote.close()

    run(main())


def test_many_guesses_at_once_neither_stay_nor_leave_anything(
    kept: Any, protected: Path, run: RunLoop[Any]
) -> None:
    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        await reason(remote.pool("no such route", b"x"))
        held = kept.descriptors()
        asked = [right(remote, "bob", f"{number}", f"{number}".encode()) for number in range(200)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert True not in found
        refused = [each for each in found if isinstance(each, SpawnFailed)]
        assert {each.status for each in refused} == {503}
        assert found.count(False) + len(refused) == 200
        assert found.count(False) >= checks.WAITING
        await reason(remote.pool("no such route", b"x"))
        assert kept.descriptors() == held
        remote.close()

    run(main())
    assert kept.children() == []


def test_keeper_that_leaves_while_a_password_is_compared_leaves(
    kept: Any, protected: Path, run: RunLoop[Any], until: Callable[..., None]
) -> None:
    put(protected, "bob:$2y$31$" + "a" * 22 + "b" * 31 + "\n")

    async def main() -> None:
        remote = RemoteKeeper(kept.connect)
        asked = asyncio.ensure_future(right(remote, "bob", "secret"))
        for _ in range(2000):
            if kept.children():
                break
            await asyncio.sleep(0.01)
        kept.stop()
        failed = await reason(asyncio.wait_for(asked, 20))
        assert failed.status == 503
        remote.close()

    run(main())
    assert kept.wait() == 0


def test_allowance_fills_up_again_and_remembers_so_many_only() -> None:
    allowed = Allowed(2, 10.0, 3)
    assert [allowed.take(b"a", 0.0) for _ in range(3)] == [True, True, False]
    assert allowed.take(b"b", 0.0)
    assert not allowed.take(b"a", 9.0)
    assert allowed.take(b"a", 11.0)
    allowed.give_back(b"a")
    assert allowed.take(b"a", 11.0)
    for name in (b"c", b"d", b"e"):
        allowed.take(name, 11.0)
    allowed.give_back(b"nobody")
    assert allowed.take(b"a", 11.0)  # forgotten


def test_descriptor_that_is_no_socket_harms_nothing(files: OwnFiles) -> None:
    asking = checks.Checks(files, Journal(2, "tests"))
    fd = os.open(os.devnull, os.O_RDONLY)
    asking.answer(WantTerms(NAME), fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
