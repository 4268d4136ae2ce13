"""Messages: what is encoded comes back, and what is malformed is a ValueError."""

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.process import channel
from gateway.process.channel import (
    Check,
    Checked,
    Exited,
    Failed,
    Faulted,
    Leaving,
    Message,
    Open,
    Opened,
    Order,
    PoolAt,
    PoolDown,
    PoolUp,
    Queued,
    Release,
    Started,
    TermsAre,
    WantPool,
    WantTerms,
    environment_block,
    environment_pairs,
)
from gateway.process.decoding import decode, decode_exits
from gateway.process.mastering import (
    Attach,
    Born,
    Figures,
    FrontLogs,
    Idle,
    KeeperAt,
    Logs,
    LogsAt,
    NoKeeper,
    Ready,
    Retire,
    Stop,
    Unborn,
    WantFigures,
    WantKeeper,
    WantLogs,
)
from gateway.process.post import Inbox, send

MESSAGES: list[tuple[Message, int]] = [
    (Order(7, "site/1", b"a/b.cgi", b"A=1\0B=", False), 2),
    (Order(2**32 - 1, "", b"x", b"", True), 3),
    (WantPool(7, "site/1", b"x.fcgi"), 0),
    (Open("site/1/file0", b"a/b.pdf"), 1),
    (Open("", b"x"), 1),
    (Opened(), 1),
    (WantTerms("~alice"), 1),
    (TermsAre(b"{}"), 0),
    (Check("~alice", b"/private/", b"192.0.2.1", b"bob", b"se:cret"), 1),
    (Checked(True), 0),
    (Checked(False), 0),
    (Release(7), 0),
    (Queued(7), 0),
    (Started(7), 0),
    (Failed(7, 2, "open", 404, "there is no such file: ä"), 0),
    (Exited(7, -9, 1.25, 1 << 40), 0),
    (Faulted(7, "killed by its memory limit (512 MiB)"), 0),
    (PoolAt(7, b"/run/x.sock"), 0),
    (PoolDown("app", "why"), 0),
    (PoolUp("app"), 0),
    (Leaving(), 0),
    (Attach(), 1),
    (Stop(2.5), 0),
    (Logs(), 1),
    (Idle(3), 0),
    (Retire(2.5), 0),
    (WantFigures(), 0),
    (Ready(), 0),
    (Figures(), 1),
    (FrontLogs(), 2),
    (WantKeeper("~alice"), 0),
    (KeeperAt("~alice"), 1),
    (NoKeeper("~alice", 403, "why: ä"), 0),
    (WantLogs("@example.org"), 0),
    (LogsAt("@example.org"), 2),
    (Born(), 0),
    (Unborn("sandbox: why"), 0),
]


@pytest.mark.parametrize(("message", "fds"), MESSAGES)
def test_message_comes_back(message: Message, fds: int) -> None:
    assert decode(message.encode(), fds) == message


@pytest.mark.parametrize(("message", "fds"), MESSAGES)
def test_message_with_the_wrong_descriptors_is_refused(message: Message, fds: int) -> None:
    for wrong in {0, 1, 2, 3} - {fds}:
        with pytest.raises(ValueError):
            decode(message.encode(), wrong)


@pytest.mark.parametrize(("message", "fds"), MESSAGES)
def test_message_that_is_cut_is_refused_or_another_message(message: Message, fds: int) -> None:
    """Variable ends (an environment, a path, a reason) may be shorter; nothing else may."""
    data = message.encode()
    for length in range(len(data)):
        try:
            other = decode(data[:length], fds)
        except ValueError:
            continue
        assert type(other) is type(message)
        assert other != message


@given(st.binary(max_size=200), st.integers(0, 3))
def test_random_bytes_are_a_message_or_a_value_error(data: bytes, fds: int) -> None:
    try:
        decode(data, fds)
    except ValueError:
        pass


@given(
    st.dictionaries(
        st.binary(min_size=1).filter(lambda name: not {0, 61} & set(name)),
        st.binary().filter(lambda value: 0 not in value),
    )
)
def test_environment_comes_back(environment: dict[bytes, bytes]) -> None:
    assert environment_pairs(environment_block(environment)) == environment


@pytest.mark.parametrize("environment", [{b"A": b"x\0LD_PRELOAD=y"}, {b"A\0B": b""}])
def test_nul_cannot_smuggle_a_variable(environment: dict[bytes, bytes]) -> None:
    with pytest.raises(ValueError):
        environment_block(environment)


@pytest.mark.parametrize("block", [b"A", b"=x", b"A=1\0", b"\0A=1", b"A=1\0\0B=2"])
def test_broken_environment_block_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError):
        environment_pairs(block)


def test_ends_of_several_scripts_are_one_message() -> None:
    data = Exited(7, -9, 1.25, 1 << 40).encode() + Exited(8, 3, 0.0, 0).encode()
    assert decode_exits(data) == [(7, -9, 1.25, 1 << 40), (8, 3, 0.0, 0)]


@pytest.mark.parametrize(
    "data",
    [
        Exited(7, 0, 0.0, 0).encode()[:-1],
        Exited(7, 0, 0.0, 0).encode() + b"\x12",
        Exited(7, 0, 0.0, 0).encode() + Exited(8, 300, 0.0, 0).encode(),
        Exited(7, 0, 0.0, 0).encode() + b"\x10" + Exited(8, 0, 0.0, 0).encode()[1:],
        Exited(7, 0, -1.0, 0).encode(),
    ],
)
def test_ends_that_cannot_be_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_exits(data)


def test_long_reason_is_cut_and_stays_text() -> None:
    failed = decode(Failed(1, 0, "exec", 500, "ä" * 5000).encode())
    assert isinstance(failed, Failed)
    assert failed.why.startswith("ä" * 2000)
    assert len(failed.encode()) <= channel.REPLY_MAX


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield one, other
    one.close()
    other.close()


def test_descriptors_arrive_and_are_not_inherited(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    reader, writer = os.pipe()
    send(pair[0], Attach().encode(), (writer,))
    os.close(writer)
    received = Inbox().receive(pair[1])
    assert received is not None
    assert received[0] == Attach()
    (writer,) = received[1]
    assert not os.get_inheritable(writer)
    os.write(writer, b"hello")
    assert os.read(reader, 10) == b"hello"
    os.close(reader)
    os.close(writer)


def test_largest_message_passes_and_a_larger_one_is_refused(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    empty = len(WantPool(1, "r", b"").encode())
    largest = WantPool(1, "r", b"x" * (channel.MESSAGE_MAX - empty))
    send(pair[0], largest.encode())
    assert Inbox().receive(pair[1]) == (largest, ())
    send(pair[0], largest.encode() + b"x")
    with pytest.raises(ValueError):
        Inbox().receive(pair[1])


def test_end_of_a_channel_is_none(pair: tuple[socket.socket, socket.socket]) -> None:
    send(pair[0], Leaving().encode())
    pair[0].close()
    inbox = Inbox()
    assert inbox.receive(pair[1]) == (Leaving(), ())
    assert inbox.receive(pair[1]) is None


def test_refused_message_leaves_no_descriptor(pair: tuple[socket.socket, socket.socket]) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    before = sorted(os.listdir("/proc/self/fd"))
    for count in (1, 2, 3, 4):
        send(pair[0], b"\xff", (null,) * count)
        with pytest.raises(ValueError):
            Inbox().receive(pair[1])
    assert sorted(os.listdir("/proc/self/fd")) == before
    os.close(null)
