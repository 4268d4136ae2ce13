"""Field lines: look-up, tokens and values."""

import pytest

from gateway.wire.headers import every, first, is_field_value, is_token

HEADERS = ((b"host", b"a"), (b"cookie", b"x"), (b"cookie", b"y"))


def test_first_and_every_keep_order() -> None:
    assert first(HEADERS, b"cookie") == b"x"
    assert every(HEADERS, b"cookie") == [b"x", b"y"]


def test_missing_field_is_none_and_empty() -> None:
    assert first(HEADERS, b"accept") is None
    assert every(HEADERS, b"accept") == []


def test_every_byte_is_or_is_not_a_token_byte() -> None:
    good = b"!#$%&'*+-.^_`|~0123456789" + bytes(range(65, 91)) + bytes(range(97, 123))
    for code in range(256):
        assert is_token(bytes((code,))) == (code in good)
        assert is_token(b"a" + bytes((code,)) + b"a") == (code in good)


@pytest.mark.parametrize("value", [b"", b"a ", b" a", b"a\n", b"a:"])
def test_not_a_token(value: bytes) -> None:
    assert not is_token(value)


def test_every_byte_is_or_is_not_a_value_byte() -> None:
    for code in range(256):
        good = code == 9 or (code >= 32 and code != 127)
        assert is_field_value(b"a" + bytes((code,))) == good


def test_empty_value_is_good() -> None:
    assert is_field_value(b"")
