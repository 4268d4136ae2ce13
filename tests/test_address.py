"""Addresses as they are written in settings."""

import pytest

from gateway.address import Address, is_loopback, needs_allow, parse_address, parse_remote

BOTH = [
    ("127.0.0.1:8080", Address(host="127.0.0.1", port=8080)),
    ("[::1]:8080", Address(host="::1", port=8080)),
    ("[fe80::1%eth0]:80", Address(host="fe80::1%eth0", port=80)),
    ("php.example:65535", Address(host="php.example", port=65535)),
    ("unix:/run/a.sock", Address(path="/run/a.sock")),
    ("unix:/run/a:80", Address(path="/run/a:80")),
    ("unix:/" + "a" * 106, Address(path="/" + "a" * 106)),
]
LISTENING = [
    ("systemd:gateway.socket", Address(name="gateway.socket")),
    ("systemd:80", Address(name="80")),
    ("fd:0", Address(descriptor=0)),
    ("fd:1023", Address(descriptor=1023)),
]
NEITHER = [
    "",
    "unix:",
    "unix:\0name",
    "unix:/" + "a" * 107,
    "unix:/" + "\u00e4" * 54,
    "/run/a.sock",
    "host",
    "host:",
    "host:0",
    "host:65536",
    "host:123456",
    "host:\u0663",
    "host:80\n",
    "a b:80",
    "a*b:80",
    "[]:80",
    "[127.0.0.1]:80",
    "[::1:80",
    "[1::2::3]:80",
    "::1:80",
    "systemd:",
    "systemd:a:b",
    "systemd:a\n",
    "systemd:\u00e4",
    "systemd:" + "a" * 256,
    "fd:",
    "fd:1024",
    "fd:-1",
    "fd:+1",
    "fd:01",
    "fd:\u0663",
    "fd:1\n",
]


@pytest.mark.parametrize(("text", "address"), BOTH + LISTENING)
def test_address_to_listen_on_is_read_and_written_back(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text
    assert address.inherited == (text.startswith(("systemd:", "fd:")))


@pytest.mark.parametrize(("text", "address"), BOTH)
def test_address_to_connect_to_is_read_in_the_same_way(text: str, address: Address) -> None:
    assert parse_remote(text) == address


@pytest.mark.parametrize("text", [":8080", "*:8080", "0.0.0.0:8080"])
def test_no_host_is_every_address_of_the_machine(text: str) -> None:
    assert parse_address(text) == Address(host="0.0.0.0", port=8080)


@pytest.mark.parametrize("text", [":80", "*:80", "0.0.0.0:80", "[::]:80", "systemd:app", "fd:3"])
def test_what_is_for_listening_cannot_be_connected_to(text: str) -> None:
    with pytest.raises(ValueError, match="is for listening"):
        parse_remote(text)


@pytest.mark.parametrize("text", NEITHER)
def test_what_is_no_address_is_refused_in_words(text: str) -> None:
    for parse in (parse_address, parse_remote):
        with pytest.raises(ValueError, match=r"unix:/|path|name|descriptor|for listening"):
            parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:9000",
        "127.9.9.9:9000",
        "[::1]:9000",
        "localhost:9000",
        "LOCALHOST:9000",
        "unix:/run/a.sock",
        "systemd:app",
        "fd:0",
    ],
)
def test_what_only_this_machine_reaches_needs_no_list(text: str) -> None:
    assert not needs_allow(parse_address(text))


@pytest.mark.parametrize(
    "text",
    [
        ":9000",
        "*:9000",
        "0.0.0.0:9000",
        "[::]:9000",
        "192.0.2.1:9000",
        "[2001:db8::1]:9000",
        "example.org:9000",
        "127.example.org:9000",
        "localhost.example.org:9000",
    ],
)
def test_what_others_may_reach_needs_a_list(text: str) -> None:
    assert needs_allow(parse_address(text))


def test_a_name_that_begins_like_loopback_is_not_loopback() -> None:
    assert is_loopback("127.0.0.1")
    assert not is_loopback("127.0.0.1.example.org")
