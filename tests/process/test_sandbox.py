"""What a tenant's programs see and may change, through real keepers of real accounts.

Everything here is readable and writable for everybody by its mode, so that nothing but the sandbox
keeps one tenant from another; where it says "none", the same probe gets through.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.process import birth, kernel, landlock, sandbox
from gateway.process.spec import KeeperSpec, ScriptRoot

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or bool(subprocess.run(["unshare", "-mi", "true"], check=False).returncode),
    reason="only root with CAP_SYS_ADMIN makes sandboxes",
)

PRESETS = ("home", "strict")
TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")

Keep = Callable[..., Any]
OpenChannel = Callable[..., Any]


@dataclass(frozen=True)
class Tenant:
    """An account and its places."""

    name: str
    uid: int
    gid: int
    home: Path
    root: Path
    sockets: Path

    def own(self, place: Path) -> None:
        os.chown(place, self.uid, self.gid)
        place.chmod(0o777)


@dataclass(frozen=True)
class Machine:
    """A directory that stands for a machine with two tenants."""

    top: Path
    alice: Tenant
    bob: Tenant

    def spec(self, tenant: Tenant, **changes: Any) -> dict[str, Any]:
        """What is changed in the plain spec for a keeper of `tenant`."""
        made: dict[str, Any] = {
            "user": tenant.name,
            "uid": tenant.uid,
            "gid": tenant.gid,
            "groups": (tenant.gid,),
            "switch": True,
            "scripts": {"r": ScriptRoot(root=os.fsencode(tenant.root), start="exec")},
            "sockets": os.fsencode(tenant.sockets),
            "home": os.fsencode(tenant.home),
            "hidden": tuple(os.fsencode(self.top / name) for name in ("home", "www", "run", "log")),
        }
        return {**made, **changes}


def _account(*command: str) -> None:
    """Run useradd or userdel, which give up at once while another one runs."""
    deadline = time.monotonic() + 30
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.returncode or "lock" not in done.stderr or time.monotonic() > deadline:
            break
    assert done.returncode == 0, done.stderr


def _tenant(top: Path, letter: str) -> Tenant:
    name = f"gws{os.getpid()}{letter}"
    home, root = top / "home" / name, top / "www" / f"{letter}.example" / "htdocs"
    _account("useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/sh", name)
    identity = subprocess.run(["id", "-u", name], capture_output=True, check=True).stdout
    group = subprocess.run(["id", "-g", name], capture_output=True, check=True).stdout
    tenant = Tenant(name, int(identity), int(group), home, root, top / "run" / name)
    for place in (home, root, tenant.sockets):
        place.mkdir(parents=True)
        (place / "secret").write_text(f"of {letter}")
        (place / "secret").chmod(0o666)
        tenant.own(place)
    return tenant


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    top = Path(tempfile.mkdtemp(prefix="gateway-sandbox-", dir="/var/lib")).resolve()
    top.chmod(0o755)
    names = [f"gws{os.getpid()}{letter}" for letter in "ab"]
    try:
        made = Machine(top, _tenant(top, "a"), _tenant(top, "b"))
        (top / "log").mkdir()
        (top / "log/error.log").write_text("everybody's log")
        (top / "everybody").mkdir()
        (top / "everybody").chmod(0o777)
        yield made
    finally:
        for name in names:
            subprocess.run(["userdel", name], capture_output=True, check=False)
        shutil.rmtree(top)


class Inside:
    """One keeper in which Python code is run as a script."""

    def __init__(self, tenant: Tenant, kept: Any, channel: Any, content: Any) -> None:
        self.kept = kept
        self._tenant = tenant
        self._channel = channel
        self._content = content
        self._count = 0

    def script(self, text: str) -> tuple[str, str]:
        """Run a script; return what it wrote to stdout and stderr."""
        self._count += 1
        name = f"probe{self._count}.cgi"
        fresh = self._tenant.root / (name + ".new")
        fresh.write_text(text)
        fresh.chmod(0o755)
        fresh.rename(self._tenant.root / name)
        out, err = self._channel.order(self._count, name)
        said = self._content(out).decode(), self._content(err).decode()
        self._channel.reply()
        return said

    def see(self, expression: str) -> Any:
        """Return the value of a Python expression there; `try_(f)` gives an error's name."""
        out, err = self.script(
            "#!/usr/bin/python3\n"
            "import ctypes, json, os, signal, socket, subprocess, sys\n"
            "def try_(deed):\n"
            "    try:\n        deed()\n"
            "    except OSError as error:\n"
            "        return __import__('errno').errorcode[error.errno]\n"
            "    return 'done'\n"
            f"print(json.dumps(({expression})))\n"
        )
        assert out, err
        return json.loads(out)


Enter = Callable[..., Inside]


@pytest.fixture
def enter(machine: Machine, keep: Keep, open_channel: OpenChannel, content: Any) -> Enter:
    def start(tenant: Tenant, sandbox: str, **changes: Any) -> Inside:
        kept = keep(**machine.spec(tenant, sandbox=sandbox, **changes))
        return Inside(tenant, kept, open_channel(kept), content)

    return start


def paths(*each: Path) -> list[str]:
    return [str(path) for path in each]


# What is seen.


@pytest.mark.parametrize("preset", ["none", *PRESETS])
def test_nothing_of_another_tenant_or_the_daemon_is_there(
    enter: Enter, machine: Machine, preset: str
) -> None:
    bob = machine.bob
    others = paths(
        bob.home, bob.home / "secret", bob.root, bob.root / "secret", bob.root.parent,
        bob.sockets, bob.sockets / "secret", machine.top / "log/error.log",
    )  # fmt: skip
    seen = enter(machine.alice, preset).see(f"[os.path.lexists(path) for path in {others}]")
    assert seen == [preset == "none"] * len(others)


@pytest.mark.parametrize("preset", PRESETS)
def test_ones_own_places_are_there_and_may_be_written(
    enter: Enter, machine: Machine, preset: str
) -> None:
    alice = machine.alice
    own = paths(alice.home, alice.root, alice.sockets)
    inside = enter(alice, preset)
    assert inside.see(f"[open(path + '/secret').read() for path in {own}]") == ["of a"] * 3
    assert inside.see(f"[open(path + '/{preset}', 'w').write('x') for path in {own}]") == [1] * 3
    assert all((Path(path) / preset).read_text() == "x" for path in own)
    assert inside.see(f"try_(lambda: os.link('{own[0]}/secret', '{own[0]}/{preset}-l'))") == "done"
    assert inside.see(f"os.listdir('{machine.top}/home')") == [alice.name]


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_hidden_cannot_be_written(enter: Enter, machine: Machine, preset: str) -> None:
    places = paths(*(machine.top / name for name in ("home", "www", "www/a.example", "run", "log")))
    seen = enter(machine.alice, preset).see(
        f"[try_(lambda: os.mkdir(path + '/x')) for path in {places}]"
    )
    assert seen == ["EROFS"] * len(places)


@pytest.mark.parametrize("preset", PRESETS)
def test_service_managers_and_message_queues_are_always_hidden(
    enter: Enter, machine: Machine, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {b"/dev/mqueue", b"/run/user"} == set(sandbox.ALWAYS)
    stands_for = machine.top / "everybody/manager"
    stands_for.mkdir(exist_ok=True)
    (stands_for / "bus").touch()
    monkeypatch.setattr(sandbox, "ALWAYS", (os.fsencode(stands_for),))
    assert enter(machine.alice, preset).see(f"os.listdir('{stands_for}')") == []


def test_directories_of_files_to_be_sent_are_there_to_be_read(
    enter: Enter, machine: Machine
) -> None:
    files = machine.top / "home/files"
    files.mkdir()
    files.chmod(0o777)
    (files / "film").write_text("film")
    inside = enter(machine.alice, "strict", files={"f": os.fsencode(files)})
    assert inside.see(f"open('{files}/film').read()") == "film"
    assert inside.see(f"try_(lambda: os.unlink('{files}/film'))") == "EROFS"


# Temporary files.


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("place", TEMPORARY)
def test_temporary_files_are_private_and_gone_with_the_keeper(
    enter: Enter, machine: Machine, preset: str, place: str
) -> None:
    name = f"{place}/gateway-sandbox-{os.getpid()}"
    with tempfile.NamedTemporaryFile(dir=place) as outside:
        inside = enter(machine.alice, preset)
        assert not inside.see(f"os.path.exists('{outside.name}')")
    guests = [] if place != "/tmp" else [Path(kernel.__file__).parts[2]]
    assert set(inside.see(f"os.listdir('{place}')")) <= set(guests)
    assert inside.see(f"open('{name}', 'w').write('x')") == 1
    assert inside.see(f"oct(os.stat('{place}').st_mode)") == "0o41777"
    assert not os.path.exists(name)
    assert not enter(machine.bob, preset).see(f"os.path.exists('{name}')")
    assert inside.see(f"os.path.exists('{name}')")
    inside.kept.stop()
    assert inside.kept.wait() == 0
    assert not enter(machine.alice, preset).see(f"os.path.exists('{name}')")


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_shown_may_lie_below_a_temporary_directory(
    enter: Enter, machine: Machine, preset: str
) -> None:
    with tempfile.TemporaryDirectory() as runtime:
        sockets, bobs = Path(runtime) / "pools/a", Path(runtime) / "pools/b"
        for place in (sockets, bobs):
            place.mkdir(parents=True)
            place.chmod(0o777)
        Path(runtime).chmod(0o711)
        inside = enter(machine.alice, preset, sockets=os.fsencode(sockets))
        assert inside.see(f"os.listdir('{runtime}/pools')") == ["a"]
        assert inside.see(f"try_(lambda: os.mkdir('{sockets}/x'))") == "done"
        assert os.listdir(sockets) == ["x"]


def test_temporary_directory_is_bounded(enter: Enter, machine: Machine) -> None:
    inside = enter(machine.alice, "home")
    size = inside.see("(lambda s: s.f_blocks * s.f_frsize)(os.statvfs('/tmp'))")
    assert size == 256 << 20
    assert inside.see("try_(lambda: os.posix_fallocate(os.open('/tmp/x', 66), 0, 257 << 20))") == (
        "ENOSPC"
    )


# What may be changed.


@pytest.mark.parametrize("preset", ["none", *PRESETS])
def test_strict_makes_everything_else_read_only_whatever_its_mode(
    enter: Enter, machine: Machine, preset: str
) -> None:
    everybody = machine.top / "everybody" / preset
    inside = enter(machine.alice, preset)
    assert inside.see(f"try_(lambda: os.mkdir('{everybody}'))") == (
        "EROFS" if preset == "strict" else "done"
    )
    if preset == "strict":
        places = ["/", "/etc", "/usr", "/var/lib", "/run", "/dev", "/sys/fs/cgroup"]
        seen = inside.see(f"[try_(lambda: os.mkdir(path + '/gateway-x')) for path in {places}]")
        assert set(seen) <= {"EROFS", "EACCES"}
        lines = inside.see("open('/proc/self/mountinfo').read()").splitlines()
        tops = {line.split()[4]: line.split()[5].split(",") for line in lines}
        alice = machine.alice
        own = {*TEMPORARY, *paths(alice.home, alice.root, alice.sockets), "/proc"}
        assert {path for path, options in tops.items() if "rw" in options} == own
        assert all("nosuid" in options for options in tops.values())


def test_strict_gives_no_rights_by_execution_and_shows_own_processes_only(
    enter: Enter, machine: Machine
) -> None:
    copy = machine.top / "id"
    shutil.copy("/usr/bin/id", copy)
    copy.chmod(0o4755)
    strict, home = enter(machine.alice, "strict"), enter(machine.alice, "home")
    who = f"int(subprocess.check_output(['{copy}', '-u']))"
    assert home.see(who) == 0
    assert strict.see(who) == machine.alice.uid
    processes = "[int(each) for each in os.listdir('/proc') if each.isdigit()]"
    assert {1, os.getpid()} <= set(home.see(processes))
    seen = strict.see(processes)
    assert {1, os.getpid(), home.kept.pid}.isdisjoint(seen)
    assert seen


# What goes on working.


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("network", [True, False])
def test_interpreters_work(enter: Enter, machine: Machine, preset: str, network: bool) -> None:
    inside = enter(machine.alice, preset, network=network)
    assert inside.script("#!/bin/sh\necho sh $((1 + 1))\n")[0] == "sh 2\n"
    assert inside.script("#!/usr/bin/perl\nuse POSIX; print 'perl ', floor(2.5)\n")[0] == "perl 2"
    out, err = inside.script("#!/usr/bin/env python3\nimport json, ssl, sqlite3; print('py')\n")
    assert (out, err) == ("py\n", "")
    out, err = inside.script("#!/bin/sh\necho x >/dev/null; echo oops >&2\n")
    assert (out, err) == ("", "oops\n")


@pytest.mark.parametrize("preset", PRESETS)
def test_scripts_are_warm(enter: Enter, machine: Machine, preset: str) -> None:
    root = ScriptRoot(root=os.fsencode(machine.alice.root), start="warm")
    inside = enter(machine.alice, preset, scripts={"r": root}, network=False)
    assert "zygote" in inside.see("open('/proc/self/cmdline').read()")
    assert inside.see("open('/proc/self/comm').read()").startswith("probe2")
    out, err = inside.script("#!/usr/bin/perl\nuse POSIX;\nprint getppid();\n")
    assert out, err
    assert int(out) not in (0, inside.kept.pid)  # the zygote's child, not the keeper's


def test_nothing_is_mounted_outside(enter: Enter, machine: Machine) -> None:
    def mounts() -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        ours = (str(machine.top), *TEMPORARY, "/proc")
        return [line for line in lines if line.split()[4].startswith(ours)]

    before = mounts()
    inside = enter(machine.alice, "strict")
    assert len(inside.see("open('/proc/self/mountinfo').read().splitlines()")) > len(before)
    assert mounts() == before
    inside.kept.stop()
    assert inside.kept.wait() == 0
    assert mounts() == before


@pytest.mark.parametrize(("preset", "heard"), [("home", True), ("strict", False)])
def test_what_is_mounted_later(
    spec: KeeperSpec, machine: Machine, preset: str, heard: bool
) -> None:
    """`home` sees it, as a home that is mounted on demand; to `strict` it does not appear."""
    place = machine.top / "later"
    place.mkdir(exist_ok=True)

    def outside() -> Any:
        kernel.unshare(kernel.NEW_MOUNTS)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
        subprocess.run(["mount", "--make-shared", place], check=True)
        for name in ("x", machine.bob.name):
            (place / name).mkdir()
        born, mounted = os.pipe(), os.pipe()

        def look() -> Any:
            os.write(born[1], b"x")
            os.read(mounted[0], 1)
            return [os.path.exists(place / "x/file"), os.listdir(machine.top / "home")]

        def mount() -> None:
            os.read(born[0], 1)
            subprocess.run(["mount", "-t", "tmpfs", "none", place / "x"], check=True)
            (place / "x/file").touch()
            os.write(mounted[1], b"x")

        changed = replace(spec, **machine.spec(machine.alice, sandbox=preset))
        return _born(changed, look, keep=(born[1], mounted[0]), meanwhile=mount)

    assert _forked(outside) == [heard, [machine.alice.name]]


# What cannot be.


def _forked(work: Callable[[], Any], keep: tuple[int, ...] = ()) -> Any:
    return _born(None, work, keep)


def _born(
    spec: KeeperSpec | None,
    look: Callable[[], Any],
    keep: tuple[int, ...] = (),
    meanwhile: Callable[[], None] = lambda: None,
) -> Any:
    """Return what `look` sees in a fork that becomes the keeper of `spec`, or why it cannot."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            if spec is not None:
                birth.become(spec, (writer, *keep))
            os.write(writer, json.dumps(look()).encode())
        except birth.BirthFailed as failed:
            os.write(writer, json.dumps(str(failed)).encode())
        except BaseException as error:
            os.write(writer, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    meanwhile()
    with os.fdopen(reader, "rb") as file:
        answer = json.loads(file.read())
    os.waitpid(pid, 0)
    return answer


@pytest.mark.parametrize("preset", PRESETS)
def test_without_root_there_is_no_keeper(spec: KeeperSpec, machine: Machine, preset: str) -> None:
    alice = machine.alice
    changed = replace(spec, **machine.spec(alice, sandbox=preset, switch=False))

    def as_alice() -> Any:
        os.setgroups([])
        os.setresgid(alice.gid, alice.gid, alice.gid)
        os.setresuid(alice.uid, alice.uid, alice.uid)
        return _born(changed, lambda: "born")

    said = _forked(as_alice)
    assert said.startswith(f'sandbox: sandbox = "{preset}" is not possible: unshare: ')
    assert said.endswith('takes root with CAP_SYS_ADMIN, which a container may lack, and Linux '
                         '5.12 or newer; else set sandbox = "none"')  # fmt: skip


def test_kernel_that_is_too_old_gives_no_keeper(
    spec: KeeperSpec, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_MOUNT_SETATTR", 9999)  # a call that no kernel has
    changed = replace(spec, **machine.spec(machine.alice, sandbox="home"))
    said = _born(changed, lambda: "born")
    assert "mount_setattr: Function not implemented" in said
    assert "Linux 5.12 or newer" in said


def test_keeper_that_cannot_be_enclosed_says_why_in_the_log(machine: Machine, keep: Keep) -> None:
    kept = keep(**machine.spec(machine.alice, sandbox="home", hidden=()))
    assert kept.wait() == 1
    assert "cannot start: sandbox: the home" in kept.log()
    assert "is in no directory that is hidden" in kept.log()
    kept.code = 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"uid": 0, "gid": 0, "groups": ()}, "cannot hold root"),
        ({"shown": (b"/var",)}, "/var is the user's, and "),
        ({"shown": (b"/",)}, "is the user's, and "),
        ({"home": b"/"}, "is the user's, and "),
        ({"hidden": (b"/",)}, '"/" cannot be hidden'),
        ({"shown": (b"relative",)}, "not an absolute path"),
    ],
)
def test_contradictions_give_no_keeper(
    spec: KeeperSpec, machine: Machine, change: dict[str, Any], why: str
) -> None:
    changed = replace(spec, **machine.spec(machine.alice, sandbox="strict", **change))
    said = _born(changed, lambda: "born")
    assert said.startswith("sandbox: ")
    assert why in said


@pytest.mark.parametrize("where", ["root", "home"])
def test_tenant_cannot_have_somebody_elses_directory_shown(
    spec: KeeperSpec, machine: Machine, where: str
) -> None:
    alice = machine.alice
    lure = alice.home / "lure"
    lure.symlink_to(machine.bob.home)
    os.chown(lure, alice.uid, alice.gid, follow_symlinks=False)
    key = {"root": {"scripts": {"r": ScriptRoot(root=os.fsencode(lure))}}, "home": {"home": lure}}
    change = {name: os.fsencode(value) if name == "home" else value  # type: ignore[call-overload]
              for name, value in key[where].items()}  # type: ignore[attr-defined]  # fmt: skip
    try:
        said = _born(replace(spec, **machine.spec(alice, sandbox="home", **change)), lambda: "born")
    finally:
        lure.unlink()
    assert "a link in it belongs to somebody else" in said


@pytest.mark.parametrize("preset", PRESETS)
def test_root_may_be_a_link_to_a_directory_of_ones_own(
    enter: Enter, machine: Machine, preset: str
) -> None:
    alice = machine.alice
    link = alice.home / "public_html"
    link.symlink_to(alice.root)
    os.chown(link, alice.uid, alice.gid, follow_symlinks=False)
    root = ScriptRoot(root=os.fsencode(link), start="exec")
    try:
        inside = enter(alice, preset, scripts={"r": root})
        assert inside.see(f"try_(lambda: os.mkdir('{link}/made-{preset}'))") == "done"
    finally:
        link.unlink()


def test_places_that_are_not_there_are_no_failure(enter: Enter, machine: Machine) -> None:
    inside = enter(
        machine.alice,
        "strict",
        home=os.fsencode(machine.top / "home/nothing"),
        hidden=(b"/nothing", *machine.spec(machine.alice)["hidden"]),
        shown=(b"/nothing/either",),
    )
    assert inside.see("1") == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_hidden_directory_may_hold_a_temporary_one_and_shown_ones_each_other(
    enter: Enter, machine: Machine, preset: str
) -> None:
    alice = machine.alice
    inner = alice.home / "inner"
    inner.mkdir(exist_ok=True)
    alice.own(inner)
    inside = enter(
        alice, preset, hidden=(b"/var",), shown=(os.fsencode(inner),), files={"f": b"/usr/share"}
    )
    assert inside.see("os.path.exists('/var/lib/dpkg') or os.path.exists('/var/log')") is False
    assert inside.see("try_(lambda: os.mkdir('/var/tmp/x'))") == "done"
    assert inside.see(f"try_(lambda: os.mkdir('{inner}/{preset}'))") == "done"
    # Nothing was mounted in between: what is in one directory can be moved about in it.
    moved = f"'{inner}/{preset}', '{alice.home}/{preset}-moved'"
    assert inside.see(f"try_(lambda: os.rename({moved}))") == "done"


# Attacks.


@pytest.fixture
def victim(machine: Machine) -> Iterator[int]:
    """A process of bob's, which stands for his keeper."""
    identity: dict[str, Any] = {
        "user": machine.bob.uid,
        "group": machine.bob.gid,
        "extra_groups": (),
    }
    with subprocess.Popen(["/bin/sleep", "600"], **identity) as process:
        yield process.pid
        process.kill()


@pytest.mark.parametrize("preset", PRESETS)
def test_no_way_through_processes(enter: Enter, machine: Machine, victim: int, preset: str) -> None:
    inside = enter(machine.alice, preset)
    keeper, ours = inside.kept.pid, os.getpid()
    for pid in (victim, keeper, ours, 1):
        seen = inside.see(
            f"[try_(lambda: os.listdir('/proc/{pid}/' + way)) for way in "
            "('root/', 'cwd/', 'fd', 'map_files')]"
        )
        assert set(seen) <= {"EACCES", "EPERM", "ENOENT"}, (pid, seen)
        seen = inside.see(
            f"[try_(lambda: open('/proc/{pid}/' + way, 'rb').read(1)) for way in "
            "('environ', 'mem', 'maps')]"
        )
        assert set(seen) <= {"EACCES", "EPERM", "ENOENT"}, (pid, seen)
        assert inside.see(f"ctypes.CDLL(None).ptrace(16, {pid}, 0, 0)") == -1
        if pid != keeper:
            assert inside.see(f"try_(lambda: os.kill({pid}, 0))") == "EPERM"
    for kind in ("mnt", "ipc"):
        seen = inside.see(
            f"try_(lambda: os.open('/proc/{ours}/ns/{kind}', 0)), "
            f"try_(lambda: os.open('/proc/1/ns/{kind}', 0))"
        )
        assert set(seen) <= {"EACCES", "EPERM", "ENOENT"}


@pytest.mark.skipif(
    kernel.landlock_version() < landlock.ENOUGH, reason="this kernel has no Landlock to keep it"
)
def test_own_process_outside_is_no_way_out_of_strict(enter: Enter, machine: Machine) -> None:
    alice = machine.alice
    identity: dict[str, Any] = {"user": alice.uid, "group": alice.gid, "extra_groups": ()}
    with subprocess.Popen(["/bin/sleep", "600"], **identity) as login:
        try:
            way = f"/proc/{login.pid}/root{machine.bob.home}/secret"
            assert enter(alice, "home").see(f"open('{way}').read()") == "of b"
            strict = enter(alice, "strict")
            assert strict.see(f"try_(lambda: open('{way}'))") in ("EACCES", "ENOENT")
            assert strict.see(f"ctypes.CDLL(None).ptrace(16, {login.pid}, 0, 0)") == -1
        finally:
            login.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("preset", PRESETS)
def test_no_way_through_mounts(enter: Enter, machine: Machine, preset: str) -> None:
    home, secret = machine.top / "home", machine.bob.home / "secret"
    inside = enter(machine.alice, preset)
    mount = "ctypes.CDLL(None, use_errno=True)"
    assert inside.see(f"{mount}.umount2(b'{home}', 2)") == -1
    assert inside.see(f"{mount}.mount(b'none', b'/mnt', b'tmpfs', 0, None)") == -1
    assert inside.see(f"{mount}.mount(None, b'/', None, 32 | 4096, None)") == -1
    ways = (
        f"umount {home}", f"umount -l {home}", "umount -l /tmp", "mount --bind / /tmp",
        "mount --rbind / /tmp; umount /tmp/" + str(home), "mount -o remount,bind,rw /",
        f"mount --move {home} /tmp", "mount -t proc proc /proc",
    )  # fmt: skip
    for way in ways:
        # In a user namespace of its own, where the kernel lets it have one, it may mount.
        out, _ = inside.script(
            f"#!/bin/sh\nexec unshare -Urm sh -c '{way}; cat {secret} /tmp{secret}; "
            f"mkdir {machine.top}/everybody/u-{preset} && echo made' 2>&1\n"
        )
        assert "of b" not in out, way
        assert "made" not in out or preset == "home", way
    assert secret.read_text() == "of b"


@pytest.mark.parametrize("preset", PRESETS)
def test_no_way_through_descriptors_links_and_sockets(
    enter: Enter, machine: Machine, preset: str
) -> None:
    alice, bob = machine.alice, machine.bob
    inside = enter(alice, preset)
    found = inside.see("[os.readlink('/proc/self/fd/' + n) for n in '012']")
    assert found[0] == "/dev/null"
    assert all(each.startswith("pipe:") for each in found[1:])
    assert inside.see("[n for n in range(3, 1000) if try_(lambda: os.fstat(n)) == 'done']") == []
    held = [os.readlink(f"/proc/{inside.kept.pid}/fd/{n}")
            for n in os.listdir(f"/proc/{inside.kept.pid}/fd")]  # fmt: skip
    directories = {each for each in held if each.startswith("/") and os.path.isdir(each)}
    assert directories <= {str(alice.root)}
    assert set(inside.see(
        f"[try_(lambda: os.link('{bob.home}/secret', '{alice.home}/l')),"
        f" try_(lambda: os.symlink('{bob.home}/secret', '{alice.home}/s-{preset}')),"
        f" try_(lambda: open('{alice.home}/s-{preset}')),"
        f" try_(lambda: socket.socket(socket.AF_UNIX).bind('{bob.sockets}/s')),"
        f" try_(lambda: socket.socket(socket.AF_UNIX).connect('{bob.sockets}/s'))]"
    )) == {"ENOENT", "done"}  # fmt: skip
    assert inside.see(f"try_(lambda: os.link('/etc/passwd', '{alice.home}/l'))") in (
        "EXDEV", "EPERM",
    )  # fmt: skip
    assert inside.see(f"os.path.exists('{alice.home}/../{bob.name}')") is False
    assert inside.see("os.listdir('/../../..') == os.listdir('/')")


@pytest.mark.parametrize("preset", PRESETS)
def test_memory_is_shared_with_nobody(enter: Enter, machine: Machine, preset: str) -> None:
    """System V memory with a key and mode 0666, which a user's id does not protect."""
    key = os.getpid()
    get = f"ctypes.CDLL(None).shmget({key}, 4096, 0o1666)"  # IPC_CREAT
    attach = f"ctypes.CDLL(None).shmget({key}, 4096, 0o666)"
    inside = enter(machine.alice, preset)
    assert inside.see(get) >= 0
    assert inside.see(attach) >= 0
    assert enter(machine.bob, preset).see(attach) == -1
    assert enter(machine.bob, "none").see(attach) == -1


def test_database_on_this_machine_is_reached_by_its_socket(enter: Enter, machine: Machine) -> None:
    place = machine.top / "everybody/database.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fsencode(place))
        place.chmod(0o777)
        listening.listen()
        inside = enter(machine.alice, "strict", network=False)
        connect = f"try_(lambda: socket.socket(socket.AF_UNIX).connect('{place}'))"
        assert inside.see(connect) == "done"
