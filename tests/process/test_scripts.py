"""Orders that a real keeper carries out: what runs, how it starts, and how it ends."""

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.process.channel import (
    Exited,
    Failed,
    Queued,
    Release,
    Started,
)
from gateway.process.spec import KeeperSpec

Keep = Callable[..., Any]
Until = Callable[[Callable[[], object], str], None]
Content = Callable[[int], bytes]
Lives = Callable[[int], bool]

SHOW = f"""#!{sys.executable} -SE
import json, os, signal, sys
print(json.dumps({{
    "argv": sys.argv,
    "cwd": os.getcwd(),
    "env": dict(os.environ),
    "stdin": sys.stdin.read(),
    "fds": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "leads": os.getpgrp() == os.getpid(),
    "umask": os.umask(0),
    "ignored": [line.split()[1] for line in open("/proc/self/status")
                if line.startswith(("SigBlk", "SigIgn"))],
    "blocking": [os.get_blocking(fd) for fd in (0, 1, 2)],
}}))
"""

NAMES = [
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "DYLD_INSERT_LIBRARIES",
    "BASH_ENV",
    "ENV",
    "IFS",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PERL5OPT",
    "PERL5LIB",
    "PERLLIB",
    "RUBYOPT",
    "NODE_OPTIONS",
    "HTTP_PROXY",
    "http_proxy",
    "Http_Proxy",
    "BASH_FUNC_ls%%",
]


def show(channel: Any, content: Content, script: str, *rest: Any, **more: Any) -> dict[str, Any]:
    out, _ = channel.order(1, script, *rest, **more)
    shown: dict[str, Any] = json.loads(content(out))
    ended = channel.reply()
    assert isinstance(ended, Exited)
    assert ended.status == 0
    assert ended.cpu > 0
    assert ended.memory >= 0
    return shown


def failure(channel: Any, script: str) -> Failed:
    channel.order(7, script)
    reply = channel.reply()
    assert isinstance(reply, Failed), reply
    assert reply.id == 7
    return reply


def test_argv_is_the_script_alone_in_its_own_directory(
    kept: Any, channel: Any, content: Content
) -> None:
    path = kept.script("sub/show.cgi", SHOW)
    shown = show(channel, content, "sub/show.cgi", {b"QUERY_STRING": b"-s"})
    assert shown["argv"] == [str(path)]
    assert shown["cwd"] == str(path.parent)


def test_script_starts_with_a_clean_process(kept: Any, channel: Any, content: Content) -> None:
    kept.script("show.cgi", SHOW)
    shown = show(channel, content, "show.cgi")
    assert shown["leads"]
    assert shown["umask"] == 0o022
    assert shown["blocking"] == [True, True, True]
    assert [fd for fd in shown["fds"] if fd > 2] == []
    blocked, ignored = (int(mask, 16) for mask in shown["ignored"])
    # Python itself ignores SIGPIPE and SIGXFSZ once it runs; 32 and 33 are glibc's own.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, 32, 33):
        ignored &= ~(1 << number - 1)
    assert (blocked, ignored) == (0, 0)
    assert shown["stdin"] == ""


def test_environment_is_the_order_and_the_settings_and_nothing_else(
    spec: KeeperSpec, keep: Keep, open_channel: Any, content: Content
) -> None:
    root = replace(spec.scripts["r"], environment={b"TZ": b"UTC", b"LD_X": b"set", b"A": b"site"})
    kept = keep(scripts={"r": root})
    kept.script("show.cgi", SHOW)
    shown = show(open_channel(kept), content, "show.cgi", {b"A": b"order", b"EMPTY": b""})
    shown["env"].pop("LC_CTYPE", None)  # Python's own doing (PEP 538)
    assert shown["env"] == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "TZ": "UTC",
        "LD_X": "set",  # settings are trusted
        "A": "order",
        "EMPTY": "",
    }


@pytest.mark.parametrize("name", NAMES)
def test_name_that_changes_how_programs_start_is_dropped(
    kept: Any, channel: Any, content: Content, name: str
) -> None:
    kept.script("show.cgi", SHOW)
    shown = show(channel, content, "show.cgi", {name.encode(): b"x", b"KEPT": b"yes"})
    assert name not in shown["env"]
    assert shown["env"]["KEPT"] == "yes"


def test_settings_value_stands_when_a_request_tries_the_same_refused_name(
    spec: KeeperSpec, keep: Keep, open_channel: Any, content: Content
) -> None:
    root = replace(spec.scripts["r"], environment={b"PERL5LIB": b"/site"})
    kept = keep(scripts={"r": root})
    kept.script("show.cgi", SHOW)
    tried = {b"PERL5LIB": b"/evil", b"PATH": b"/evil"}
    shown = show(open_channel(kept), content, "show.cgi", tried)
    assert shown["env"]["PERL5LIB"] == "/site"
    assert shown["env"]["PATH"] == "/usr/local/bin:/usr/bin:/bin"


def test_stdin_is_the_file_that_came_with_the_order(
    kept: Any, channel: Any, content: Content, tmp_path: Path
) -> None:
    kept.script("show.cgi", SHOW)
    (tmp_path / "body").write_text("the body")
    fd = os.open(tmp_path / "body", os.O_RDONLY)
    shown = show(channel, content, "show.cgi", stdin=fd)
    os.close(fd)
    assert shown["stdin"] == "the body"


def test_interpreter_reads_a_script_without_an_executable_bit(
    spec: KeeperSpec, keep: Keep, open_channel: Any, content: Content
) -> None:
    root = replace(spec.scripts["r"], interpreters={b".sh": b"/bin/sh"})
    kept = keep(scripts={"r": root})
    path = kept.script("plain.sh", 'echo "$0 $#"\n', 0o644)
    channel = open_channel(kept)
    out, _ = channel.order(1, "plain.sh")
    assert content(out).decode() == f"{path} 0\n"


def test_exit_status_and_signal_are_told(kept: Any, channel: Any) -> None:
    kept.script("three.cgi", "#!/bin/sh\nexit 3\n")
    kept.script("shot.cgi", "#!/bin/sh\nkill -SEGV $$\n")
    channel.order(1, "three.cgi")
    assert channel.reply().status == 3
    channel.order(2, "shot.cgi")
    assert channel.reply().status == -signal.SIGSEGV


@pytest.mark.parametrize(
    ("text", "mode", "status", "words"),
    [
        ("#!/bin/sh\r\necho\r\n", 0o755, 500, "CRLF"),
        ("#!/no/such/perl\n", 0o755, 500, '"/no/such/perl"'),
        ("#!/bin/sh\n", 0o644, 403, "chmod +x"),
        ("echo hello\n", 0o755, 500, "no #! line"),
        ("", 0o755, 500, "empty file"),
        ("\ufeff#!/bin/sh\n", 0o755, 500, "byte order mark"),
        ("\n#!/bin/sh\n", 0o755, 500, "not at the very start"),
        ("#!/bin/sh\n", 0o4755, 403, "set-user-id"),
        ("#!/bin/sh\n", 0o2755, 403, "set-group-id"),
    ],
)
def test_script_that_cannot_start_is_explained(
    kept: Any, channel: Any, text: str, mode: int, status: int, words: str
) -> None:
    kept.script("broken.cgi", text, mode)
    failed = failure(channel, "broken.cgi")
    assert failed.status == status
    assert words in failed.why
    assert "broken.cgi" in failed.why


def test_missing_directory_fifo_and_unknown_route(kept: Any, channel: Any) -> None:
    (kept.root / "dir").mkdir()
    os.mkfifo(kept.root / "fifo", 0o755)
    assert failure(channel, "none.cgi").status == 404
    assert failure(channel, "none.cgi").errno == errno.ENOENT
    assert failure(channel, "dir").status == 404
    assert failure(channel, "fifo").status == 403


def test_script_that_is_being_written_is_503(kept: Any, channel: Any) -> None:
    # A script is read by its interpreter; only a binary's text can be busy.
    path = kept.root / "busy"
    path.write_bytes(Path("/bin/true").read_bytes())
    path.chmod(0o755)
    with open(path, "r+b"):
        failed = failure(channel, "busy")
    assert (failed.errno, failed.status) == (errno.ETXTBSY, 503)


def test_environment_that_is_too_large_is_explained(kept: Any, channel: Any) -> None:
    kept.script("ok.cgi", "#!/bin/sh\n")
    channel.order(1, "ok.cgi", {b"HTTP_COOKIE": b"x" * 140_000})
    failed = channel.reply()
    assert isinstance(failed, Failed)
    assert failed.errno == errno.E2BIG
    assert "headers" in failed.why


@pytest.mark.parametrize(
    "path", ["../outside.cgi", "link.cgi", "/bin/true", "sub/../../outside.cgi"]
)
def test_nothing_outside_the_root_starts(
    kept: Any, channel: Any, path: str, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.cgi"
    outside.write_text("#!/bin/sh\ntouch ran\n")
    outside.chmod(0o755)
    (kept.root / "link.cgi").symlink_to(outside)
    (kept.root / "sub").mkdir()
    assert failure(channel, path).status == 403
    assert not (tmp_path / "ran").exists()


def test_link_inside_the_root_starts_if_its_owner_matches(
    kept: Any, channel: Any, content: Content
) -> None:
    kept.script("real.cgi", '#!/bin/sh\necho "$0"\n')
    (kept.root / "link.cgi").symlink_to("real.cgi")
    out, _ = channel.order(1, "link.cgi")
    assert content(out).decode() == f"{kept.root}/link.cgi\n"


def test_root_that_is_replaced_by_a_deployment_is_seen(
    kept: Any, channel: Any, until: Until
) -> None:
    kept.script("old.cgi", "#!/bin/sh\n")
    channel.order(1, "old.cgi")
    channel.reply()
    kept.root.rename(kept.root.with_name("before"))
    kept.root.mkdir()
    kept.script("new.cgi", "#!/bin/sh\n")

    def runs() -> bool:
        channel.order(2, "new.cgi")
        return isinstance(channel.reply(), Exited)

    until(runs, "the new tree is not seen")


def test_script_that_changes_is_started_as_it_is_now(
    kept: Any, channel: Any, content: Content
) -> None:
    def output(id: int) -> bytes:
        out, _ = channel.order(id, "ok.cgi")
        assert channel.reply().id == id
        return content(out)

    kept.script("ok.cgi", "#!/bin/sh\necho one\n")
    assert output(1) == b"one\n"
    kept.script("ok.cgi", "#!/bin/sh\necho two\n")
    assert output(2) == b"two\n"
    path = kept.script("ok.cgi", "#!/bin/sh\necho two\n", 0o644)
    assert failure(channel, "ok.cgi").status == 403
    path.unlink()
    failed = failure(channel, "ok.cgi")
    assert (failed.step, failed.errno, failed.status) == ("open", errno.ENOENT, 404)
    kept.script("ok.cgi", "#!/bin/sh\necho three\n")
    assert output(3) == b"three\n"


def test_directory_that_cannot_be_entered_is_said(kept: Any, channel: Any) -> None:
    path = kept.script("sub/ok.cgi", "#!/bin/sh\n")
    channel.order(1, "sub/ok.cgi")
    assert channel.reply().id == 1
    path.unlink()
    path.parent.rmdir()
    assert failure(channel, "sub/ok.cgi").status == 404


def test_release_ends_the_group_even_if_it_ignores_term(
    kept: Any, channel: Any, content: Content, until: Until, lives: Lives
) -> None:
    kept.script("deaf.cgi", "#!/bin/sh\ntrap '' TERM\nsleep 300 & echo $! $$\nwait; sleep 300\n")
    out, _ = channel.order(1, "deaf.cgi")
    child, own = (int(word) for word in os.read(out, 100).split())
    channel.send(Release(1))
    ended = channel.reply()
    assert ended.status == -signal.SIGKILL
    until(lambda: not lives(child) and not lives(own), "the group lives")
    until(lambda: not kept.children(), "the keeper has a child")


def test_release_gives_a_polite_script_time_to_tidy_up(
    keep: Keep, open_channel: Any, content: Content
) -> None:
    kept = keep(grace=20.0)
    channel = open_channel(kept)
    kept.script(
        "polite.cgi",
        "#!/bin/sh\ntrap 'echo bye; exit 5' TERM\necho up\nwhile :; do sleep 0.01; done",
    )
    out, _ = channel.order(1, "polite.cgi")
    assert os.read(out, 100) == b"up\n"
    channel.send(Release(1))
    assert channel.reply().status == 5
    assert content(out) == b"bye\n"


def test_background_child_outlives_its_script_but_not_its_release(
    kept: Any, channel: Any, until: Until, lives: Lives
) -> None:
    kept.script("leaves.cgi", "#!/bin/sh\nsleep 300 &\necho $!\n")
    out, _ = channel.order(1, "leaves.cgi")
    child = int(os.read(out, 100))
    ended = channel.reply()
    assert (type(ended), ended.status) == (Exited, 0)
    assert lives(child)
    channel.send(Release(1))
    until(lambda: not lives(child), "the child outlives its release")


def test_closed_channel_releases_all_it_ordered(
    kept: Any, open_channel: Any, until: Until, lives: Lives
) -> None:
    kept.script("sleep.cgi", "#!/bin/sh\necho $$\nexec sleep 300\n")
    one, other = open_channel(kept), open_channel(kept)
    pids = []
    for channel in (one, other):
        out, _ = channel.order(1, "sleep.cgi")
        pids.append(int(os.read(out, 100)))
    one.close()
    until(lambda: not lives(pids[0]), "the script outlives its front")
    assert lives(pids[1])


def test_orders_over_the_concurrency_wait_in_turn_and_over_the_queue_are_503(
    keep: Keep, open_channel: Any
) -> None:
    kept = keep(concurrency=1, queue=3)
    kept.script("wait.cgi", "#!/bin/sh\nread line\n")
    kept.script("quick.cgi", "#!/bin/sh\n")
    greedy, modest = open_channel(kept), open_channel(kept)
    body, feed = os.pipe()
    greedy.order(1, "wait.cgi", stdin=body)
    os.close(body)
    greedy.sync()
    before = kept.descriptors()
    greedy.order(2, "quick.cgi")
    greedy.order(3, "quick.cgi")
    assert [greedy.reply(), greedy.reply()] == [Queued(2), Queued(3)]
    assert kept.descriptors() == before + 4
    modest.order(1, "quick.cgi")
    assert modest.reply() == Queued(1)
    modest.order(2, "quick.cgi")
    refused = modest.reply()
    assert (refused.id, refused.status, refused.step) == (2, 503, "queue")
    os.close(feed)  # the first one ends, and the others have their turn
    replies = [greedy.reply() for _ in range(5)]
    assert [(type(reply), reply.id) for reply in replies] == [
        (Exited, 1),
        (Started, 2),
        (Exited, 2),
        (Started, 3),
        (Exited, 3),
    ]
    assert isinstance(modest.reply(), Started)


def test_released_order_leaves_the_queue(keep: Keep, open_channel: Any, until: Until) -> None:
    kept = keep(concurrency=1)
    kept.script("wait.cgi", "#!/bin/sh\nread line\n")
    kept.script("mark.cgi", "#!/bin/sh\ntouch ran\n")
    kept.script("quick.cgi", "#!/bin/sh\n")
    channel = open_channel(kept)
    body, feed = os.pipe()
    channel.order(1, "wait.cgi", stdin=body)
    os.close(body)
    channel.sync()
    before = kept.descriptors()
    channel.order(2, "mark.cgi")
    channel.order(3, "quick.cgi")
    assert [channel.reply(), channel.reply()] == [Queued(2), Queued(3)]
    assert kept.descriptors() == before + 4
    channel.send(Release(2))
    until(lambda: kept.descriptors() == before + 2, "the released order is forgotten")
    os.close(feed)
    assert [channel.reply().id for _ in range(3)] == [1, 3, 3]
    assert not (kept.root / "ran").exists()


def test_two_hundred_runs_leave_no_descriptor(kept: Any, channel: Any, until: Until) -> None:
    kept.script("ok.cgi", "#!/bin/sh\necho hello\n")
    channel.order(1, "ok.cgi")
    channel.reply()
    before = kept.descriptors()
    for id in range(2, 202):
        channel.order(id, "ok.cgi" if id % 4 else "none.cgi")
        assert channel.reply().id == id
    until(lambda: kept.descriptors() == before, "descriptors are left")
    assert not kept.children()
