"""Listening sockets: their rights from the first moment, and those that were passed to us."""

import errno
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.address import Address, parse_address
from gateway.listeners import sockets
from gateway.listeners.sockets import (
    Inherited,
    check_mode,
    open_listener,
    open_listeners,
    parse_mode,
    remove_paths,
    weak_place,
)

HERE = Path(__file__).resolve().parents[2]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket away")
NOBODY = pwd.getpwnam("nobody")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def no_mask() -> Iterator[None]:
    """Run with a umask that takes nothing away, so that a missing one shows."""
    mask = os.umask(0)
    yield
    os.umask(mask)


@pytest.fixture
def passing(tmp_path: Path) -> Callable[..., int]:
    """Make a listening socket as a parent would; return its descriptor, which the test gives on."""
    count = 0

    def make(family: int = socket.AF_UNIX, mode: int = 0o660, host: str = "127.0.0.1") -> int:
        nonlocal count
        count += 1
        listener = socket.socket(family)
        if family == socket.AF_UNIX:
            listener.bind(str(tmp_path / f"passed{count}"))
            os.chmod(tmp_path / f"passed{count}", mode)
        else:
            listener.bind((host, 0))
        listener.listen()
        return listener.detach()

    return make


# Modes


@pytest.mark.parametrize(
    ("text", "mode"), [("0660", 0o660), ("600", 0o600), ("0000", 0), ("777", 0o777)]
)
def test_mode_is_read(text: str, mode: int) -> None:
    assert parse_mode(text) == mode


@pytest.mark.parametrize(
    "text", ["", "66", "0o660", "0888", "1660", "06600", "-660", "\u0666\u0666\u0660", "660\n"]
)
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='such as "0660"'):
        parse_mode(text)


@pytest.mark.parametrize("mode", [0o666, 0o662, 0o661, 0o664, 0o777, 0o006])
def test_every_right_of_others_needs_unsafe(mode: int, tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s"))
    with pytest.raises(ValueError, match="unsafe = true") as caught:
        open_listener(address, mode=mode)
    assert f'mode "{mode:04o}"' in str(caught.value)
    assert not (tmp_path / "s").exists()
    with open_listener(address, mode=mode, unsafe=True):
        assert mode_of(tmp_path / "s") == mode


def test_set_id_bits_are_refused_even_if_unsafe(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nine rights"):
        check_mode(Address(path=str(tmp_path / "s")), 0o4660, unsafe=True)


# Unix sockets that we make


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o220, 0o000])
def test_socket_has_its_mode_whatever_the_mask_is(mode: int, tmp_path: Path) -> None:
    for number, mask in enumerate((0, 0o022, 0o077, 0o777)):
        path = tmp_path / f"s{number}"
        before = os.umask(mask)
        try:
            listener = open_listener(Address(path=str(path)), mode=mode)
            assert os.umask(mask) == mask, "the process's own mask must come back"
        finally:
            os.umask(before)
        assert mode_of(path) == mode
        listener.close()


def test_socket_has_its_mode_and_owner_before_anybody_can_connect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_mask: None
) -> None:
    path = tmp_path / "s"
    root = os.geteuid() == 0
    owner = (NOBODY.pw_uid, NOBODY.pw_gid) if root else (os.getuid(), os.getgid())
    seen: list[tuple[str, int]] = []
    owned: list[tuple[int, int]] = []

    class Watched(socket.socket):
        def bind(self, address: Any, /) -> None:
            super().bind(address)
            seen.append(("bind", mode_of(path)))
            with socket.socket(socket.AF_UNIX) as early, pytest.raises(ConnectionRefusedError):
                early.connect(str(path))

        def listen(self, backlog: int = 0, /) -> None:
            seen.append(("listen", mode_of(path)))
            owned.append((path.lstat().st_uid, path.lstat().st_gid))
            super().listen(backlog)

    monkeypatch.setattr(sockets.socket, "socket", Watched)
    open_listener(Address(path=str(path)), owner=owner[0], group=owner[1]).close()
    assert seen == [("bind", 0o660), ("listen", 0o660)]
    assert owned == [owner]


def test_no_moment_with_more_rights_is_ever_seen(tmp_path: Path, no_mask: None) -> None:
    path = tmp_path / "s"
    seen: set[int] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            try:
                seen.add(mode_of(path))
            except FileNotFoundError:
                pass

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(500):
            open_listener(Address(path=str(path)), mode=0o600).close()
            path.unlink()
    finally:
        over.set()
        watcher.join()
    assert seen <= {0o600}


@AS_ROOT
def test_socket_belongs_to_whom_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with open_listener(Address(path=str(path)), owner=NOBODY.pw_uid):
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY.pw_uid, os.getegid())
    with open_listener(Address(path=str(path)), group=NOBODY.pw_gid):
        assert (path.stat().st_uid, path.stat().st_gid) == (0, NOBODY.pw_gid)


def test_socket_that_cannot_be_given_away_is_not_left_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chown(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(sockets.os, "chown", chown)
    with pytest.raises(PermissionError, match="only root may give a socket") as caught:
        open_listener(Address(path=str(tmp_path / "s")), owner=NOBODY.pw_uid)
    assert f"cannot listen on unix:{tmp_path}/s" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_directory_that_adds_rights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_mask: None
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sockets.os, "umask", lambda mask: 0)  # as under a default ACL
        with pytest.raises(OSError, match="default ACL"):
            open_listener(Address(path=str(tmp_path / "s")))
    assert list(tmp_path.iterdir()) == []


def test_socket_of_the_dead_is_replaced_and_one_that_answers_is_not(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s"))
    open_listener(address).close()
    with open_listener(address):
        with pytest.raises(OSError, match="stop the program that listens there"):
            open_listener(address)
        assert (tmp_path / "s").exists()


def test_file_in_the_place_of_a_socket_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(OSError, match="not a socket"):
        open_listener(Address(path=str(tmp_path / "s")))
    assert (tmp_path / "s").read_text() == "precious"


def test_directory_that_everybody_may_write_to_is_told_of(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s"))
    assert weak_place(address) == ""
    tmp_path.chmod(0o777)
    assert f"chmod o-w {tmp_path}" in weak_place(address)
    tmp_path.chmod(0o1777)
    assert weak_place(address) == ""
    assert weak_place(parse_address("127.0.0.1:80")) == ""
    assert weak_place(parse_address("systemd:app")) == ""


def test_only_sockets_that_we_made_are_removed(tmp_path: Path, passing: Callable[..., int]) -> None:
    ours = Address(path=str(tmp_path / "s"))
    named = Address(name="app")
    inherited = Inherited([("app", passing())])
    listeners = [open_listener(ours), *open_listeners(named, inherited)]
    remove_paths([ours, named, ours, Address(descriptor=3), Address(host="::1", port=80)])
    assert [path.name for path in tmp_path.iterdir()] == ["passed1"]
    for listener in listeners:
        listener.close()


# TCP


def test_tcp_socket_listens_and_does_not_block() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open_listener(Address(host="127.0.0.1", port=port)) as listener:
        assert not listener.getblocking()
        assert not listener.get_inheritable()
        with socket.create_connection(("127.0.0.1", port)):
            pass


def test_address_that_only_we_may_reach_is_held_to_it(passing: Callable[..., int]) -> None:
    loop, anywhere = passing(socket.AF_INET), passing(socket.AF_INET, host="0.0.0.0")
    inherited = Inherited([("loop", loop), ("any", anywhere)])
    for listener in open_listeners(Address(name="loop"), inherited, outside=False):
        listener.close()
    with pytest.raises(OSError, match=r"systemd:any: 0\.0\.0\.0:[0-9]+ can be reached"):
        open_listeners(Address(name="any"), inherited, outside=False)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(anywhere)


# Sockets that were passed to us


def test_all_sockets_of_a_name_are_used(passing: Callable[..., int]) -> None:
    one, other, two = passing(), passing(), passing(socket.AF_INET)
    inherited = Inherited([("app", one), ("other", other), ("app", two)])
    listeners = open_listeners(Address(name="app"), inherited)
    assert [listener.fileno() for listener in listeners] == [one, two]
    assert [listener.family for listener in listeners] == [socket.AF_UNIX, socket.AF_INET]
    assert not any(listener.getblocking() for listener in listeners)
    assert not any(listener.get_inheritable() for listener in listeners)
    for listener in listeners:
        listener.close()
    assert inherited.unused() == ["other"]
    inherited.close()
    assert inherited.unused() == []
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(other)


def test_name_that_was_not_passed_is_refused_with_those_that_were(
    passing: Callable[..., int],
) -> None:
    inherited = Inherited([("one", passing()), ("two", passing())])
    with pytest.raises(OSError, match=r'on systemd:three: systemd passed only "one", "two"'):
        open_listeners(Address(name="three"), inherited)
    inherited.close()
    with pytest.raises(OSError, match="systemd has passed no sockets"):
        open_listeners(Address(name="three"), Inherited())


def test_descriptor_is_used_once(passing: Callable[..., int]) -> None:
    number = passing()
    inherited = Inherited([("app", number)])
    (listener,) = open_listeners(Address(name="app"), inherited)
    with pytest.raises(OSError, match="another listener's already"):
        open_listeners(Address(descriptor=number), inherited)
    with pytest.raises(OSError, match="another listener's already"):
        open_listeners(Address(name="app"), inherited)
    listener.close()


def test_descriptor_that_came_later_is_not_taken(passing: Callable[..., int]) -> None:
    number = passing()
    with pytest.raises(OSError, match=f"fd:{number}: descriptor {number} was not open"):
        open_listeners(Address(descriptor=number), Inherited(present=[0, 1, 2]))
    os.close(number)


def wrong_kinds() -> dict[str, Callable[[], int]]:
    def connection() -> int:
        one, other = socket.socketpair()
        other.close()
        return one.detach()

    def idle() -> int:
        one = socket.socket()
        one.bind(("127.0.0.1", 0))
        return one.detach()

    return {
        "not a socket": lambda: os.open(os.devnull, os.O_RDONLY),
        "does not listen": connection,
        "descriptor [0-9]+ does not listen": idle,
        "not a stream socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(),
        "no Unix or IP socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).detach(),
    }


@pytest.mark.parametrize("why", list(wrong_kinds()))
def test_wrong_kind_of_descriptor_is_refused_in_words(why: str) -> None:
    number = wrong_kinds()[why]()
    inherited = Inherited([("app", number)])
    for address in Address(name="app"), Address(descriptor=number):
        with pytest.raises(OSError, match=why) as caught:
            open_listeners(address, inherited)
        assert str(address) in str(caught.value)
    os.close(number)


@pytest.mark.parametrize("mode", [0o666, 0o662, 0o777])
def test_passed_socket_that_is_open_to_all_is_refused(
    mode: int, passing: Callable[..., int]
) -> None:
    inherited = Inherited([("app", passing(mode=mode))])
    with pytest.raises(OSError, match=rf"mode {mode:04o}.*SocketMode=0660.*unsafe = true"):
        open_listeners(Address(name="app"), inherited)
    for listener in open_listeners(Address(name="app"), inherited, unsafe=True):
        listener.close()


def test_passed_socket_whose_rights_cannot_be_seen_is_refused(
    tmp_path: Path, passing: Callable[..., int]
) -> None:
    inherited = Inherited([("gone", passing())])
    (tmp_path / "passed1").unlink()
    with pytest.raises(OSError, match="cannot be seen: No such file"):
        open_listeners(Address(name="gone"), inherited)
    inherited.close()


def test_passed_abstract_socket_is_open_to_all() -> None:
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0gateway-test-{os.getpid()}")
        abstract.listen()
        inherited = Inherited([("app", abstract.fileno())])
        with pytest.raises(OSError, match="without a path is open to every account"):
            open_listeners(Address(name="app"), inherited)


# The environment


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"LISTEN_PID": "1"}, "LISTEN_PID is 1, this is process 77"),
        ({"LISTEN_FDS": "x"}, "LISTEN_FDS is 'x'"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS is '-1'"),
        ({"LISTEN_FDS": "\u0661"}, "no number"),
        ({"LISTEN_FDS": "99999"}, "LISTEN_FDS is 99999"),
        ({"LISTEN_FDS": "999999999"}, "LISTEN_FDS is 999999999"),
        ({"LISTEN_FDS": "0", "LISTEN_FDNAMES": "app"}, "LISTEN_FDS is 0"),
        ({"LISTEN_FDS": "900", "LISTEN_FDNAMES": ":" * 899}, "LISTEN_FDS is 900"),
        ({"LISTEN_FDS": None}, "systemd has passed no sockets"),
        ({"LISTEN_PID": None}, "systemd has passed no sockets"),
    ],
)
def test_variables_are_removed_and_what_is_wrong_with_them_is_said(
    changes: dict[str, str | None], why: str
) -> None:
    given = {"LISTEN_PID": "77", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "app", **changes}
    environ = {name: value for name, value in given.items() if value is not None}
    environ |= {"LISTEN_PIDFDID": "5", "PATH": "/bin"}
    inherited = Inherited.from_environment(environ, 77)
    assert environ == {"PATH": "/bin"}
    with pytest.raises(OSError, match="cannot listen on systemd:app: ") as caught:
        open_listeners(Address(name="app"), inherited)
    assert why in str(caught.value)
    assert inherited.unused() == []


CHILD = """
import os, socket, subprocess, sys
from gateway.address import parse_address
from gateway.listeners.sockets import Inherited, open_listeners
place, *places = map(int, sys.argv[1].split(","))
for target, source in enumerate(places, place):
    os.dup2(source, target)
if place == 3:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(places)))
    if sys.argv[2]:
        os.environ["LISTEN_FDNAMES"] = sys.argv[2]
inherited = Inherited.from_environment(os.environ, os.getpid())
for text in sys.argv[3:]:
    for listener in open_listeners(parse_address(text), inherited):
        listener.setblocking(True)
        connection, _ = listener.accept()
        connection.sendall(text.encode())
        connection.close()
rest = "import os; print([n for n in range(20) if os.path.exists(f'/proc/self/fd/{n}')"
rest += " and 'socket' in os.readlink(f'/proc/self/fd/{n}')],"
rest += " [n for n in os.environ if n.startswith('LISTEN')], end=' ')"
subprocess.run([sys.executable, "-c", rest], stdout=2, check=True, close_fds=False)
print(inherited.unused(), file=sys.stderr)
"""


def serve_and_ask(tmp_path: Path, place: int, names: str, *texts: str) -> tuple[list[bytes], str]:
    """Pass sockets to a process at descriptors from `place`; return what each says, and stderr."""
    listeners = []
    for number in range(max(1, names.count(":") + 1)):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / f"l{number}"))
        os.chmod(tmp_path / f"l{number}", 0o600)
        listener.listen()
        # Above what the child overwrites.
        listeners.append(os.dup2(listener.fileno(), 60 + number))
        listener.close()
    words = ",".join(map(str, (place, *listeners)))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, words, names, *texts],
        cwd=HERE,
        pass_fds=listeners,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for number in listeners:
        os.close(number)
    answers = []
    for number in range(len(texts)):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(tmp_path / f"l{number}"))
            answers.append(client.recv(100))
    _, complaints = child.communicate(timeout=20)
    assert child.returncode == 0, complaints
    return answers, complaints


def test_sockets_of_systemd_are_found_by_name_and_hidden_from_children(tmp_path: Path) -> None:
    answers, said = serve_and_ask(tmp_path, 3, "one:two:three", "systemd:one", "systemd:two")
    assert answers == [b"systemd:one", b"systemd:two"]
    assert said == "[] [] ['three']\n"


def test_sockets_of_systemd_without_names_are_unknown(tmp_path: Path) -> None:
    answers, _ = serve_and_ask(tmp_path, 3, "", "systemd:unknown")
    assert answers == [b"systemd:unknown"]


def test_listening_socket_on_standard_input_is_taken_and_does_not_stay_there(
    tmp_path: Path,
) -> None:
    answers, said = serve_and_ask(tmp_path, 0, "", "fd:0")
    assert answers == [b"fd:0"]
    assert said == "[] [] []\n"


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="no systemd-socket-activate here"
)
def test_what_systemd_itself_passes_is_understood(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = CHILD.replace("if place == 3:", "if False:")
    child = subprocess.Popen(
        [
            "systemd-socket-activate",
            "-l",
            f"127.0.0.1:{port}",
            "--fdname=web",
            "-E",
            "PYTHONPATH",
            sys.executable,
            "-c",
            script,
            "3",
            "",
            "systemd:web",
        ],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert child.stderr is not None
    try:
        assert b"Listening on" in child.stderr.readline()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            assert client.recv(100) == b"systemd:web"
        assert child.stderr.read().splitlines()[-1] == b"[] [] []"
        assert child.wait(timeout=20) == 0
    finally:
        child.kill()
        child.wait()
        child.stderr.close()
