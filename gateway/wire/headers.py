"""Field lines: what a name and a value may be, and how one is looked up.

Decides which bytes are a token and which are a field value. Must not know which fields exist or
what they mean. RFC 9110 sections 5.1, 5.5 and 5.6.2.
"""

import re
from typing import Final, TypeAlias

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Field lines in the order they came; `exchange.Headers` is the same type."""

TEXT: Final = bytes((9, *range(0x20, 0x7F), *range(0x80, 0x100)))
"""Every byte that may stand in a field value: HTAB, SP, VCHAR and obs-text (RFC 9110 5.5).

`data.translate(None, TEXT)` leaves what may not, at about a nanosecond a byte.
"""

_token = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch


def first(headers: Headers, name: bytes) -> bytes | None:
    """Return the value of the first field `name` (lower case, as request names are), or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def every(headers: Headers, name: bytes) -> list[bytes]:
    """Return the values of all fields `name` (lower case), in order."""
    return [value for key, value in headers if key == name]


def is_token(value: bytes) -> bool:
    """Tell whether `value` is a token: a method, a field name (RFC 9110 section 5.6.2)."""
    return _token(value) is not None


def is_field_value(value: bytes) -> bool:
    """Tell whether `value` has no CR, LF, NUL or other control byte but HTAB (section 5.5)."""
    return not value.translate(None, TEXT)
