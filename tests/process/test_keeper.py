"""The keeper's own life: its master, its fronts, idleness, and leaving with nothing behind."""

import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from gateway.process.channel import (
    AGAIN,
    Exited,
    Leaving,
    Order,
    Queued,
)
from gateway.process.figures import unsealed
from gateway.process.mastering import (
    Born,
    Figures,
    Idle,
    Logs,
    Stop,
    WantFigures,
)
from gateway.process.post import Inbox, send

Keep = Callable[..., Any]
Until = Callable[[Callable[[], object], str], None]
Lives = Callable[[int], bool]

SLEEP = "#!/bin/sh\necho $$\nexec sleep 300\n"


def start(channel: Any, script: str) -> int:
    """Order a script that prints its process id; return that."""
    out, _ = channel.order(1, script)
    return int(os.read(out, 100).split()[0])


def test_end_of_the_control_channel_stops_everything(kept: Any, channel: Any, lives: Lives) -> None:
    kept.script("deaf.cgi", "#!/bin/sh\ntrap '' TERM\necho $$\nsleep 300; sleep 300\n")
    pid = start(channel, "deaf.cgi")
    kept.control.close()
    assert kept.wait() == 0
    assert not lives(pid)


def test_keeper_tells_its_figures(kept: Any, channel: Any) -> None:
    kept.script("sleep.cgi", SLEEP)
    start(channel, "sleep.cgi")
    assert Inbox().receive(kept.control) == (Born(), ())
    send(kept.control, WantFigures().encode())
    received = Inbox().receive(kept.control)
    assert received is not None
    message, (fd,) = received
    assert message == Figures()
    try:
        figures = unsealed(fd)
    finally:
        os.close(fd)
    assert (figures["running"], figures["queued"]) == (1, 0)
    assert figures["pools"] == []


def test_nothing_survives_the_keeper_not_even_what_left_its_group(
    kept: Any, channel: Any, lives: Lives
) -> None:
    daemon = (
        "import os, signal, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(300)\n"
    )
    kept.script("daemon.cgi", f"#!{sys.executable} -SE\n{daemon}")
    pid = start(channel, "daemon.cgi")
    assert lives(pid)
    kept.stop()
    assert kept.wait() == 0
    assert not lives(pid)


def test_sigterm_is_a_stop(kept: Any, channel: Any, lives: Lives) -> None:
    kept.script("sleep.cgi", SLEEP)
    pid = start(channel, "sleep.cgi")
    os.kill(kept.pid, signal.SIGTERM)
    assert kept.wait() == 0
    assert not lives(pid)


def test_stop_lets_what_runs_finish_and_starts_nothing_new(
    kept: Any, channel: Any, until: Until
) -> None:
    kept.script("wait.cgi", "#!/bin/sh\nread line\nexit 4\n")
    kept.script("mark.cgi", "#!/bin/sh\ntouch ran\n")
    body, feed = os.pipe()
    channel.order(1, "wait.cgi", stdin=body)
    os.close(body)
    channel.sync()
    kept.stop(60.0)
    assert channel.reply() == Leaving()
    channel.order(2, "mark.cgi")
    handed_back = channel.reply()
    assert (handed_back.id, handed_back.step, handed_back.status) == (2, AGAIN, 503)
    os.close(feed)
    assert channel.reply().status == 4
    channel.close()
    assert kept.wait() == 0
    assert not (kept.root / "ran").exists()


def test_drain_that_is_over_ends_what_still_runs(kept: Any, channel: Any, lives: Lives) -> None:
    kept.script("sleep.cgi", SLEEP)
    pid = start(channel, "sleep.cgi")
    kept.stop(0.1)
    assert channel.reply() == Leaving()
    assert channel.reply().status == -signal.SIGTERM
    assert kept.wait() == 0
    assert not lives(pid)


def test_order_that_waits_is_handed_back_when_the_keeper_leaves(
    keep: Keep, open_channel: Any
) -> None:
    kept = keep(concurrency=1)
    channel = open_channel(kept)
    kept.script("sleep.cgi", SLEEP)
    kept.script("mark.cgi", "#!/bin/sh\ntouch ran\n")
    start(channel, "sleep.cgi")
    channel.order(2, "mark.cgi")
    assert channel.reply() == Queued(2)
    kept.stop()
    assert channel.reply() == Leaving()
    handed_back = channel.reply()
    assert (handed_back.id, handed_back.step, handed_back.status) == (2, AGAIN, 503)
    assert channel.reply().id == 1
    assert channel.reply() is None  # it does not wait for ever for a front that does not close
    assert not (kept.root / "ran").exists()


def test_idle_keeper_says_how_many_fronts_it_has_seen_and_says_so_again(keep: Keep) -> None:
    kept = keep(idle=0.05)
    one, other = kept.attach(), kept.attach()
    inbox = Inbox()
    assert inbox.receive(kept.control) == (Born(), ())
    received = inbox.receive(kept.control)
    while received is not None and received[0] != Idle(2):
        received = inbox.receive(kept.control)  # told before the second was attached
    assert received is not None
    assert inbox.receive(kept.control) == (Idle(2), ())
    kept.stop()
    assert kept.wait() == 0
    one.close()
    other.close()


def test_keeper_with_a_background_child_is_not_idle(
    keep: Keep, open_channel: Any, lives: Lives
) -> None:
    kept = keep(idle=0.05)
    kept.script("leaves.cgi", "#!/bin/sh\nsleep 300 >/dev/null 2>&1 &\necho $!\n")
    channel = open_channel(kept)
    # The keeper may well be idle before the order comes.
    child = start(channel, "leaves.cgi")
    channel.reply()
    inbox = Inbox()
    while select.select([kept.control], [], [], 0)[0]:
        inbox.receive(kept.control)
    kept.control.settimeout(0.3)  # six times as long as it would take to be idle
    with pytest.raises(TimeoutError):
        inbox.receive(kept.control)
    os.kill(child, signal.SIGKILL)
    kept.control.settimeout(20)
    assert inbox.receive(kept.control) == (Idle(1), ())


def test_new_log_is_used(kept: Any, tmp_path: Path, until: Until) -> None:
    fresh = os.open(tmp_path / "fresh", os.O_WRONLY | os.O_CREAT)
    send(kept.control, Logs().encode(), (fresh,))
    os.close(fresh)
    channel = kept.attach()
    channel.send(b"\xff")
    until(lambda: "dropped" in (tmp_path / "fresh").read_text(), "nothing is in the new log")
    channel.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"\x01",
        b"\x01" * 9,
        b"\x00" * 64,
        Order(1, "r", b"x", b"A=b", False).encode(),  # without its descriptors
        Stop(0.0).encode(),  # not a front's to say
        b"\x01" + os.urandom(2000),
        b"x" * 100_000,
    ],
)
def test_front_that_sends_nonsense_is_dropped_alone(
    kept: Any, channel: Any, until: Until, data: bytes
) -> None:
    other = kept.attach()
    other.send(data)
    assert not other.recv(100)
    other.close()
    kept.script("ok.cgi", "#!/bin/sh\n")
    channel.order(1, "ok.cgi")
    assert channel.reply() == Exited(1, 0, ANY, ANY)
    assert "front 2 is dropped" in kept.log()


def test_descriptors_of_a_malformed_message_are_closed(
    kept: Any, channel: Any, until: Until
) -> None:
    channel.order(1, "none.cgi")
    assert channel.reply().id == 1  # so it is up, and all that it opens is open
    before = kept.descriptors()
    null = os.open("/dev/null", os.O_RDWR)
    for data in (b"\xff", b"\x03\0\0\0\0", Order(1, "r", b"x", b"broken", False).encode()):
        other = kept.attach()
        send(other, data, (null, null, null))
        other.close()
    os.close(null)
    until(lambda: kept.log().count("is dropped") == 3, "they are not dropped")
    # Nine came in; one or two of the order may still have been counted before.
    until(lambda: kept.descriptors() <= before, "descriptors are left")


def test_order_with_a_broken_environment_fails_and_nothing_else(kept: Any, channel: Any) -> None:
    kept.script("ok.cgi", "#!/bin/sh\n")
    null = os.open("/dev/null", os.O_RDWR)
    channel.send(Order(5, "r", b"ok.cgi", b"A=b\0broken", False), (null, null))
    assert channel.reply().step == "environment"
    channel.send(Order(6, "no such route", b"ok.cgi", b"", False), (null, null))
    assert channel.reply().step == "route"
    os.close(null)
    channel.order(7, "ok.cgi")
    assert channel.reply().id == 7


def test_front_that_takes_no_replies_does_not_stop_the_others(kept: Any, open_channel: Any) -> None:
    kept.script("ok.cgi", "#!/bin/sh\n")
    deaf, other = open_channel(kept), open_channel(kept)
    for id in range(300):
        deaf.order(id, "none.cgi")
    other.order(1, "ok.cgi")
    assert other.reply() == Exited(1, 0, ANY, ANY)
    assert [deaf.reply().id for _ in range(300)] == list(range(300))


def test_master_that_speaks_nonsense_is_survived(kept: Any, channel: Any) -> None:
    kept.control.send(b"\xff\xff")
    kept.script("ok.cgi", "#!/bin/sh\n")
    channel.order(1, "ok.cgi")
    assert channel.reply() == Exited(1, 0, ANY, ANY)
    assert "from the master" in kept.log()


def test_channel_attached_to_a_leaving_keeper_is_handed_its_orders_back(
    kept: Any, channel: Any, open_channel: Any
) -> None:
    kept.script("wait.cgi", "#!/bin/sh\nread line\n")
    body, feed = os.pipe()
    channel.order(1, "wait.cgi", stdin=body)
    os.close(body)
    channel.sync()
    kept.stop(60.0)
    late = open_channel(kept)
    late.order(1, "wait.cgi")
    assert late.reply() == Leaving()
    assert late.reply().step == AGAIN
    os.close(feed)
