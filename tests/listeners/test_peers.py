"""Who is listed, by address and by account, with real sockets."""

import asyncio
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from gateway.listeners.peers import REMEMBERED, Peers, peer_uid

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
OTHER = 54321


@contextmanager
def connected(family: int, place: object) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give (the end that accepted, the end that connected)."""
    with socket.socket(family) as listener, socket.socket(family) as client:
        listener.bind(place)  # type: ignore[arg-type]
        listener.listen()
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            yield accepted, client


CONNECT = """
import os, socket, sys
client = socket.socket(socket.AF_UNIX)
uid = int(sys.argv[1])
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
client.connect(sys.argv[2])
"""


def accepted_from(uid: int, path: Path) -> socket.socket:
    """Return a connection that an account has made, whose process is gone again."""
    os.chmod(path.parent, 0o711)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.chmod(path, 0o666)
        listener.listen()
        # Started inside: the directories above are pytest's, for one account alone.
        words = [sys.executable, "-c", CONNECT, str(uid), path.name]
        subprocess.run(words, cwd=path.parent, check=True, timeout=30)
        return listener.accept()[0]


@pytest.mark.parametrize(
    ("item", "inside", "outside"),
    [
        ("127.0.0.1", ["127.0.0.1", "::ffff:127.0.0.1"], ["127.0.0.2", "::1", "127.0.0.1:80"]),
        ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], ["9.9.9.9", "11.0.0.0"]),
        ("::1", ["::1", "0:0:0:0:0:0:0:1", "::1%lo"], ["::2", "127.0.0.1", "[::1]"]),
        ("2001:db8::/32", ["2001:db8::1", "2001:DB8:ffff::"], ["2001:db9::", "::1"]),
        ("fe80::/10", ["fe80::1%eth0", "fe80::1"], ["ff80::1%eth0"]),
        ("::ffff:192.0.2.7", ["192.0.2.7", "::ffff:192.0.2.7"], ["192.0.2.8"]),
        ("::ffff:10.0.0.0/104", ["10.1.1.1", "::ffff:a01:101"], ["11.1.1.1"]),
        ("0.0.0.0/0", ["1.2.3.4", "::ffff:1.2.3.4"], ["::1", ""]),
        ("::/0", ["::1", "2001:db8::1"], ["1.2.3.4", "::ffff:1.2.3.4", ""]),
    ],
)
def test_address_is_listed_by_itself_and_by_its_network(
    item: str, inside: list[str], outside: list[str]
) -> None:
    peers = Peers.parse([item])
    for _ in "first", "remembered":
        assert [text for text in inside if not peers.allows_address(text)] == []
        assert [text for text in outside if peers.allows_address(text)] == []


@pytest.mark.parametrize(
    "text", ["", "unknown", "10.0.0.1 ", "10.0.0.01", "10.1", "1" * 100, "\u0661.2.3.4", "%", "\0"]
)
def test_what_is_no_address_is_not_listed(text: str) -> None:
    assert not Peers.parse(["0.0.0.0/0", "::/0"]).allows_address(text)


def test_empty_list_lists_nobody() -> None:
    nobody = Peers.parse([])
    assert not nobody.allows_address("127.0.0.1")
    assert not nobody.allows_uid(0)


@pytest.mark.parametrize(
    ("item", "right"),
    [
        ("10.0.0.1/8", '"10.0.0.0/8" for the network, or "10.0.0.1"'),
        ("2001:db8::1/32", '"2001:db8::/32" for the network, or "2001:db8::1"'),
        ("::ffff:10.0.0.1/104", "::ffff:"),
    ],
)
def test_host_in_a_network_is_refused_with_the_right_form(item: str, right: str) -> None:
    with pytest.raises(ValueError, match="names one host") as caught:
        Peers.parse(["127.0.0.1", item])
    assert item in str(caught.value)
    assert right in str(caught.value)


@pytest.mark.parametrize(
    "item",
    [
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/08",
        "10.0.0.0/255.0.0.0",
        "10.0.0",
        "1.2.3.4.5",
        "256.1.1.1",
        "::1/129",
        "[::1]",
        "::1%lo",
        "127.0.0.1:80",
        "a/b",
        "10",
        ":",
        "/8",
    ],
)
def test_what_is_nearly_an_address_is_refused(item: str) -> None:
    with pytest.raises(ValueError, match="is no address") as caught:
        Peers.parse([item])
    assert f'"{item}"' in str(caught.value)


@pytest.mark.parametrize("item", ["nosuchaccount", "local host", "", "a\0b"])
def test_unknown_account_is_refused_by_its_name(item: str) -> None:
    with pytest.raises(ValueError, match="no such account") as caught:
        Peers.parse([item])
    assert f'"{item}"' in str(caught.value)


@pytest.mark.parametrize("item", ["uid:", "uid:-1", "uid:\u0663", "uid:01", "uid:4294967295"])
def test_wrong_number_of_an_account_is_refused(item: str) -> None:
    with pytest.raises(ValueError, match='written "uid:1000"'):
        Peers.parse([item])


def test_account_is_listed_by_name_and_by_number() -> None:
    name = pwd.getpwuid(0).pw_name
    assert Peers.parse([name]).uids == {0}
    peers = Peers.parse(["uid:1000", "uid:4294967294", "10.0.0.0/8"])
    assert peers.allows_uid(1000)
    assert peers.allows_uid(4294967294)
    assert not peers.allows_uid(0)


def test_lists_are_equal_whatever_they_were_asked() -> None:
    one, other = Peers.parse(["10.0.0.0/8", "uid:7"]), Peers.parse(["10.0.0.0/8", "uid:7"])
    assert one.allows_address("10.1.1.1")
    assert (one, hash(one)) == (other, hash(other))


def test_only_so_many_addresses_are_remembered() -> None:
    peers = Peers.parse(["10.0.0.0/8"])
    for number in range(3 * REMEMBERED):
        text = f"10.0.{number >> 8}.{number & 255}"
        assert peers.allows_address(text)
        assert len(peers._known) <= REMEMBERED
    assert not peers.allows_address("9" * 1_000_000)
    assert all(len(text) < 100 for text in peers._known)


def test_tcp_peer_is_judged_by_its_address_alone() -> None:
    with connected(socket.AF_INET, ("127.0.0.1", 0)) as (accepted, _):
        assert Peers.parse(["127.0.0.0/8"]).allows(accepted)
        assert not Peers.parse(["10.0.0.0/8", f"uid:{os.geteuid()}"]).allows(accepted)


def test_peer_of_a_socket_for_both_families_is_its_ipv4_address() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getpeername()[0] == "::ffff:127.0.0.1"
                assert Peers.parse(["127.0.0.1"]).allows(accepted)


def test_unix_peer_is_judged_by_its_account_alone(tmp_path: Path) -> None:
    with connected(socket.AF_UNIX, str(tmp_path / "s")) as (accepted, _):
        assert peer_uid(accepted) == os.geteuid()
        assert Peers.parse([f"uid:{os.geteuid()}"]).allows(accepted)
        assert not Peers.parse(["0.0.0.0/0", "::/0", "uid:54321"]).allows(accepted)


@AS_ROOT
def test_unix_peer_of_another_account_is_let_in_by_its_own_number_only(tmp_path: Path) -> None:
    with accepted_from(OTHER, tmp_path / "s") as accepted:
        assert peer_uid(accepted) == OTHER
        assert Peers.parse([f"uid:{OTHER}"]).allows(accepted)
        assert not Peers.parse(["uid:0"]).allows(accepted)


def test_peer_that_is_gone_is_not_let_in() -> None:
    with connected(socket.AF_INET, ("127.0.0.1", 0)) as (accepted, client):
        everybody = Peers.parse(["0.0.0.0/0"])
        assert everybody.allows(accepted)
        accepted.shutdown(socket.SHUT_RDWR)
        client.close()
        accepted.close()
        assert not everybody.allows(accepted)


def test_socket_of_an_uvloop_transport_tells_its_peer(tmp_path: Path) -> None:
    async def main() -> bool:
        loop = asyncio.get_running_loop()
        seen: asyncio.Future[bool] = loop.create_future()
        peers = Peers.parse([f"uid:{os.geteuid()}"])

        class Entrance(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                seen.set_result(peers.allows(transport.get_extra_info("socket")))
                transport.close()

        server = await loop.create_unix_server(Entrance, str(tmp_path / "s"))
        transport, _ = await loop.create_unix_connection(asyncio.Protocol, str(tmp_path / "s"))
        answer = await seen
        transport.close()
        server.close()
        return answer

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main())
