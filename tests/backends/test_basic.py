"""Names and passwords in requests, and by what their senders are counted."""

import base64

import pytest

from gateway.backends.basic import Basic, credentials, origin
from gateway.process.terms import Area


def said(text: bytes, scheme: bytes = b"Basic ") -> tuple[bytes, bytes]:
    return b"authorization", scheme + base64.b64encode(text)


@pytest.mark.parametrize("scheme", [b"Basic ", b"basic ", b"BASIC   "])
def test_name_ends_at_the_first_colon(scheme: bytes) -> None:
    assert credentials((said(b"bob:a:b", scheme),)) == (b"bob", b"a:b")
    assert credentials((said("bob:é".encode(), scheme),)) == (b"bob", "é".encode())


@pytest.mark.parametrize(
    "headers",
    [
        (), (said(b"bob:x"), said(b"bob:x")), (said(b"bob"),), (said(b":x"),), (said(b"b\0b:x"),),
        (said(b"bob:\n"),), (said(b"() { :;}:x"),), (said(b"bob:x", b"Bearer "),),
        (said(b"bob:x", b"Basic"),), ((b"authorization", b"Basic Ym9i\xc3\xa4"),),
        ((b"authorization", b"Basic Ym9iOng"),), (said(b"bob:" + b"x" * 1000),),
        ((b"proxy-authorization", said(b"bob:x")[1]),),
    ],
)  # fmt: skip
def test_what_is_no_name_and_password_is_none(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    assert credentials(headers) is None


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", b"192.0.2.1"),
        ("::ffff:192.0.2.1", b"192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", b"2001:db8:1:2::/64"),
        ("", b""),
    ],
)
def test_failures_are_counted_by_who_can_have_no_other_address(
    address: str, counted: bytes
) -> None:
    assert origin(address) == counted


def test_innermost_path_counts() -> None:
    async def check(area: Area, origin: bytes, user: bytes, password: bytes) -> bool:
        return False

    outer, inner = Area(b"/a/", b"outer"), Area(b"/a/b/", b"inner")
    basic = Basic((outer, inner), check)
    assert basic.area((b"a", b"b", b"c")) is inner
    assert basic.area((b"a", b"bc")) is outer
    assert basic.area((b"b",)) is None
    assert Basic((Area(b"/", b"all"),), check).area(()) is not None
