"""One spelling for each IP address."""

import pytest

from gateway.wire.ip import ip_packed, ip_text


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        (b"192.0.2.1", "192.0.2.1"),
        (b"255.255.255.255", "255.255.255.255"),
        (b"2001:DB8:0:0::1", "2001:db8::1"),
        (b"::", "::"),
        (b"::1", "::1"),
        (b"::ffff:192.0.2.1", "192.0.2.1"),
        (b"::FFFF:c000:0201", "192.0.2.1"),
        (b"::192.0.2.1", "::c000:201"),
        (b"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "ffff:" * 7 + "ffff"),
    ],
)
def test_address_has_one_spelling(text: bytes, spelled: str) -> None:
    assert ip_text(text) == spelled


@pytest.mark.parametrize(
    "text",
    [
        b"", b"1", b"1.2.3", b"1.2.3.4.5", b"1.2.3.256", b"01.2.3.4", b"1.2.3.04", b"0x1.2.3.4",
        b" 1.2.3.4", b"1.2.3.4 ", b"1.2.3.4\n", b"1.2.3.4/32", b"+1.2.3.4", b"1.2.3.-4",
        b":", b":::", b"1::2::3", b"g::", b"[::1]", b"fe80::1%eth0", b"fe80::1%1", b"::1/128",
        "١.2.3.4".encode(), "1.2.3.４".encode(), b"\xb2.1.1.1", b"localhost", b"1" * 4000,
        b"0:" * 4000,
    ],
)  # fmt: skip
def test_no_address_is_nothing(text: bytes) -> None:
    assert ip_text(text) == ""


def test_packed_addresses() -> None:
    assert ip_packed(bytes((192, 0, 2, 1))) == "192.0.2.1"
    assert ip_packed(bytes(15) + b"\1") == "::1"
    assert ip_packed(bytes(10) + b"\xff\xff" + bytes((192, 0, 2, 1))) == "192.0.2.1"


@pytest.mark.parametrize("size", [0, 3, 5, 15, 17])
def test_packed_address_of_another_size_is_our_mistake(size: int) -> None:
    with pytest.raises(ValueError):
        ip_packed(bytes(size))
