"""`gateway fcgiwrap` does what fcgiwrap's flags, sockets and exit codes say, and better."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gateway.address import Address
from gateway.daemon.fcgiwrap import CONCURRENCY, BadUsage, settings_of
from gateway.wire.fcgi_requester import Ended, Requester, Stderr, Stdout

SELF = (sys.executable, "-m", "gateway", "fcgiwrap")
HELLO = """#!/bin/sh
echo "Content-Type: text/plain"
echo
echo "$REQUEST_METHOD $SCRIPT_NAME $PATH_INFO"
echo "a complaint" >&2
exit 3
"""


def listener(words: Sequence[str]) -> Address:
    settings = settings_of(words, {})
    assert settings is not None
    (found,) = settings.listen.fastcgi
    assert settings.listen.http == ()
    return found.address


@pytest.mark.parametrize(
    ("words", "address"),
    [
        (["-s", "unix:/run/f.sock"], Address(path="/run/f.sock")),
        (["-sunix:/run/f.sock"], Address(path="/run/f.sock")),
        (["-s", "tcp:127.0.0.1:9000"], Address(host="127.0.0.1", port=9000)),
        (["-s", "tcp6:[::1]:9000"], Address(host="::1", port=9000)),
        ([], Address(descriptor=0)),
    ],
)
def test_socket_forms(words: list[str], address: Address) -> None:
    assert listener(words) == address


def test_sockets_of_systemd_are_taken_and_those_meant_for_another_process_are_not() -> None:
    ours = settings_of([], {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"})
    assert ours is not None
    assert [each.address.descriptor for each in ours.listen.fastcgi] == [3, 4]
    other = settings_of([], {"LISTEN_PID": "1", "LISTEN_FDS": "2"})
    assert other is not None
    assert [each.address.descriptor for each in other.listen.fastcgi] == [0]


def test_flags_become_settings() -> None:
    settings = settings_of(["-f", "-c", "1000", "-p", "/a/x.cgi", "-p", "/b/y"], {})
    assert settings is not None
    (found,) = settings.listen.fastcgi
    assert (found.script, found.stderr, found.roots) == ("param", "peer", ("/a/x.cgi", "/b/y"))
    assert settings.limits.concurrency == 1000
    plain = settings_of(["-c", "2"], {})
    assert plain is not None
    assert plain.listen.fastcgi[0].stderr == "log"
    assert plain.listen.fastcgi[0].roots == ("/",)
    assert plain.limits.concurrency == CONCURRENCY


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-x"], "option -x not recognized"),
        (["-c"], "option -c requires argument"),
        (["-c", "many"], "not a number"),
        (["-c", "１"], "not a number"),
        (["-s", "help"], "tcp6:[ipv6_addr]:port"),
        (["-s", "foo:bar"], "Valid socket URLs"),
        (["-s", "unix:relative"], "Valid socket URLs"),
        (["-s", "tcp:0.0.0.0:9000"], "other machines can reach"),
        (["-p", "x.cgi"], "absolute path"),
        (["script"], "no meaning"),
    ],
)
def test_bad_usage_is_said(words: list[str], said: str) -> None:
    with pytest.raises(BadUsage, match=re.escape(said)):
        settings_of(words, {})


@pytest.mark.parametrize(
    "words",
    [["-h"], ["-x"], ["-c"], ["-s", "help"], ["-s", "foo:bar"], ["-s", "unix:/no/such/place"]],
)
def test_exit_codes_are_those_of_fcgiwrap(words: list[str]) -> None:
    theirs = shutil.which("fcgiwrap", path=f"{os.environ['PATH']}:/usr/sbin")
    if theirs is None:
        pytest.skip("fcgiwrap is not installed")
    codes = [
        subprocess.run(
            [*command, *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=30
        ).returncode
        for command in ([theirs], SELF)
    ]
    assert codes[0] == codes[1]


@pytest.fixture
def wrap(tmp_path: Path, wait: Callable[..., None]) -> Iterator[Callable[..., Path]]:
    """Return a function that starts `gateway fcgiwrap` and returns the path of its socket."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str, how: str = "option") -> Path:
        path = tmp_path / "fcgi.sock"
        log = (tmp_path / "said.log").open("wb")
        if how == "option":
            process = subprocess.Popen([*SELF, "-s", f"unix:{path}", *words], stderr=log)
        else:
            with socket.socket(socket.AF_UNIX) as ready:
                ready.bind(str(path))
                path.chmod(0o660)
                ready.listen(50)
                process = _inheriting(ready, how, words, log.fileno())
        log.close()
        running.append(process)
        wait(lambda: _answers(path) or process.poll() is not None, "it listens")
        assert process.poll() is None, (tmp_path / "said.log").read_text()
        return path

    yield start
    for process in running:
        process.terminate()
        assert process.wait(20) == 0


def _inheriting(
    ready: socket.socket, how: str, words: Sequence[str], log: int
) -> "subprocess.Popen[bytes]":
    """Start it as spawn-fcgi does (the socket is descriptor 0), or as systemd does (3)."""
    if how == "spawn-fcgi":
        return subprocess.Popen([*SELF, *words], stdin=ready.fileno(), stderr=log)
    script = 'exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
    return subprocess.Popen(
        ["sh", "-c", script, "sh", *SELF, *words], stdin=ready.fileno(), stderr=log
    )


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
    except OSError:
        return False
    return True


def ask(path: Path, body: bytes | None = None, **params: object) -> tuple[bytes, bytes, int]:
    """Send one request; return output, error output and application status."""
    requester = Requester()
    variables = {"REQUEST_METHOD": "GET", **params}
    if body is not None:
        variables |= {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": len(body)}
    encoded = {name.encode(): str(value).encode() for name, value in variables.items()}
    output, errors = b"", b""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        begin = requester.begin(encoded, keep=False)
        whole = begin + requester.stdin(body or b"") + requester.stdin_end()
        sender = threading.Thread(target=_send, args=(client, whole), daemon=True)
        sender.start()  # as front servers do: send and receive at the same time
        while data := client.recv(65536):
            for event in requester.feed(data):
                if isinstance(event, Stdout):
                    output += event.data
                elif isinstance(event, Stderr):
                    errors += event.data
                elif isinstance(event, Ended):
                    return output, errors, event.app_status
    raise AssertionError(f"cut off after {output!r}")


def _send(client: socket.socket, data: bytes) -> None:
    try:
        client.sendall(data)
    except OSError:
        pass  # the answer is there, and the rest was not wanted


def script(path: Path, text: str = HELLO) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("how", ["option", "spawn-fcgi", "systemd"])
def test_it_runs_a_script_on_each_kind_of_socket(
    wrap: Callable[..., Path], tmp_path: Path, how: str
) -> None:
    file = script(tmp_path / "hello.cgi")
    path = wrap("-f", "-c", "1", how=how)
    output, errors, status = ask(
        path, SCRIPT_FILENAME=file, SCRIPT_NAME="/hello.cgi", PATH_INFO="/x"
    )
    assert output.startswith(b"Status: 200")
    assert output.endswith(b"\r\n\r\nGET /hello.cgi /x\n")
    assert (errors, status) == (b"a complaint\n", 3)


def test_without_f_complaints_go_to_our_standard_error(
    wrap: Callable[..., Path], tmp_path: Path
) -> None:
    file = script(tmp_path / "hello.cgi")
    _, errors, _ = ask(wrap(), SCRIPT_FILENAME=file, SCRIPT_NAME="/hello.cgi")
    assert errors == b""
    assert "a complaint" in (tmp_path / "said.log").read_text()


def test_document_root_and_script_name_are_walked(
    wrap: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "cgi").mkdir()
    script(tmp_path / "cgi" / "hello.cgi")
    output, _, _ = ask(wrap(), DOCUMENT_ROOT=tmp_path, SCRIPT_NAME="/cgi/hello.cgi/more/of it")
    assert output.endswith(b"\r\n\r\nGET /cgi/hello.cgi /more/of it\n")


def test_script_filename_alone_is_enough(wrap: Callable[..., Path], tmp_path: Path) -> None:
    file = script(tmp_path / "hello.cgi")
    output, _, _ = ask(wrap(), SCRIPT_FILENAME=file)
    assert output.startswith(b"Status: 200")


def test_p_lets_only_those_scripts_run(wrap: Callable[..., Path], tmp_path: Path) -> None:
    allowed, other = script(tmp_path / "hello.cgi"), script(tmp_path / "other.cgi")
    path = wrap("-p", str(allowed), "-p", str(tmp_path / "later.cgi"))
    assert ask(path, SCRIPT_FILENAME=allowed, SCRIPT_NAME="/h")[0].startswith(b"Status: 200")
    assert ask(path, SCRIPT_FILENAME=other, SCRIPT_NAME="/h")[0].startswith(b"Status: 403")
    script(tmp_path / "later.cgi")
    later = ask(path, SCRIPT_FILENAME=tmp_path / "later.cgi", SCRIPT_NAME="/h")[0]
    assert later.startswith(b"Status: 200")
    assert 'rule "outside"' in (tmp_path / "said.log").read_text()


def test_links_of_the_system_are_followed_without_p(
    wrap: Callable[..., Path], tmp_path: Path
) -> None:
    script(tmp_path / "real.cgi")
    (tmp_path / "link.cgi").symlink_to(tmp_path / "real.cgi")  # an absolute one, as Debian's are
    output, _, _ = ask(wrap(), SCRIPT_FILENAME=tmp_path / "link.cgi", SCRIPT_NAME="/h")
    assert output.startswith(b"Status: 200")


def test_answer_that_comes_before_the_body_is_read_is_heard(
    wrap: Callable[..., Path], tmp_path: Path
) -> None:
    text = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nnot wanted\\n'\n"
    file = script(tmp_path / "early.cgi", text)
    output, _, status = ask(
        wrap(), b"x" * 3_000_000, SCRIPT_FILENAME=file, SCRIPT_NAME="/early.cgi"
    )
    assert output.endswith(b"not wanted\n")
    assert status == 0


def test_script_that_writes_before_it_reads_does_not_stand_still(
    wrap: Callable[..., Path], tmp_path: Path
) -> None:
    text = (
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n"
        "head -c 1000000 /dev/zero | tr '\\0' a\ncat | wc -c\n"
    )
    file = script(tmp_path / "both.cgi", text)
    output, _, _ = ask(wrap(), b"x" * 1_000_000, SCRIPT_FILENAME=file, SCRIPT_NAME="/both.cgi")
    assert output.endswith(b"a1000000\n")


def test_hanging_script_holds_nobody_and_ends_with_its_client(
    wrap: Callable[..., Path], tmp_path: Path, wait: Callable[..., None]
) -> None:
    hanging = script(tmp_path / "hang.cgi", f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 1000\n")
    fast = script(tmp_path / "hello.cgi")
    path = wrap("-c", "1")
    requester = Requester()
    params = {b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/hang"}
    params[b"SCRIPT_FILENAME"] = bytes(hanging)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(requester.begin(params, keep=False) + requester.stdin_end())
        wait((tmp_path / "pid").exists, "the script runs")
        wait((tmp_path / "pid").read_text, "it has written its number")
        output, _, _ = ask(path, SCRIPT_FILENAME=fast, SCRIPT_NAME="/hello.cgi")
        assert output.startswith(b"Status: 200")
    pid = int((tmp_path / "pid").read_text())
    wait(lambda: not Path(f"/proc/{pid}").exists(), "the script is gone with its client")


def test_variables_that_steer_programs_are_not_passed(
    wrap: Callable[..., Path], tmp_path: Path
) -> None:
    file = script(tmp_path / "env.cgi", "#!/bin/sh\necho 'Content-Type: text/plain'\necho\nenv\n")
    bad = {"LD_PRELOAD": "/x.so", "HTTP_PROXY": "http://evil", "PATH": "/evil", "IFS": "x"}
    output, _, _ = ask(wrap(), SCRIPT_FILENAME=file, SCRIPT_NAME="/env", GIT_ROOT="/srv/git", **bad)
    assert b"GIT_ROOT=/srv/git\n" in output
    assert b"evil" not in output
    assert b"LD_PRELOAD" not in output


def test_it_ends_by_term_and_takes_its_socket_along(
    tmp_path: Path, wait: Callable[..., None]
) -> None:
    path = tmp_path / "f.sock"
    process = subprocess.Popen([*SELF, "-s", f"unix:{path}"], stderr=subprocess.DEVNULL)
    wait(lambda: _answers(path), "it listens")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not path.exists()
