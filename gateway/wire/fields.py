"""Field values with a grammar of their own: dates, preconditions, ranges, accepted codings.

Decides what a request asks about a representation with a known entity tag, time and size. Must
not know files or clocks. RFC 9110 sections 5.6.7, 8.8, 12.5.3, 13 and 14.

What is malformed is ignored where the RFC says so, which is nearly everywhere, and never guessed.
"""

import re
from datetime import date
from functools import lru_cache
from typing import Final, Literal

from gateway.wire.headers import Headers, every, is_token

_DAYS: Final = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_LONG_DAYS: Final = (
    b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday", b"Sunday",
)  # fmt: skip
_MONTHS: Final = (
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun",
    b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
)  # fmt: skip

_EPOCH: Final = date(1970, 1, 1).toordinal()
_LAST_SECOND: Final = (date(9999, 12, 31).toordinal() - _EPOCH) * 86400 + 86399

_day = b"(%b)" % b"|".join(_DAYS)
_long_day = b"(%b)" % b"|".join(_LONG_DAYS)
_month = b"(%b)" % b"|".join(_MONTHS)
_clock = rb"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)"
_imf = re.compile(
    _day + rb", ([0-9]{2}) " + _month + rb" ([0-9]{4}) " + _clock + rb" GMT"
).fullmatch
_rfc850 = re.compile(
    _long_day + rb", ([0-9]{2})-" + _month + rb"-([0-9]{2}) " + _clock + rb" GMT"
).fullmatch
_asctime = re.compile(
    _day + rb" " + _month + rb" ([0-9]{2}| [0-9]) " + _clock + rb" ([0-9]{4})"
).fullmatch


def http_date(seconds: float | int) -> bytes:
    """Return seconds since the epoch as an HTTP date; kept within the years 1 to 9999 of a date."""
    return _formatted(int(seconds // 1))


@lru_cache(maxsize=256)  # the present second, and the times of the files in use
def _formatted(seconds: int) -> bytes:
    seconds = min(max(seconds, -(_EPOCH - 1) * 86400), _LAST_SECOND)
    days, left = divmod(seconds, 86400)
    day = date.fromordinal(_EPOCH + days)
    return b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (
        _DAYS[day.weekday()],
        day.day,
        _MONTHS[day.month - 1],
        day.year,
        left // 3600,
        left // 60 % 60,
        left % 60,
    )


@lru_cache(maxsize=256)
def parse_http_date(value: bytes) -> int | None:
    """Return the seconds since the epoch of an HTTP date in one of its three formats, else None.

    Strict: case, spaces, the days of the month, and the day of the week where the year is whole.
    """
    if match := _imf(value):
        name, day, month, year, hour, minute, second = match.groups()
        return _seconds(_DAYS.index(name), int(year), month, day, (hour, minute, second))
    if match := _asctime(value):
        name, month, day, hour, minute, second, year = match.groups()
        return _seconds(_DAYS.index(name), int(year), month, day.strip(), (hour, minute, second))
    if match := _rfc850(value):
        _, day, month, short, hour, minute, second = match.groups()
        # Two digits: more than 50 years ahead means the past (RFC 9110 section 5.6.7). There is no
        # clock here, so POSIX's pivot stands in for it; it agrees from 2019 on.
        whole = int(short) + (1900 if int(short) >= 70 else 2000)
        return _seconds(None, whole, month, day, (hour, minute, second))
    return None


def _seconds(
    weekday: int | None, year: int, month: bytes, day: bytes, clock: tuple[bytes, bytes, bytes]
) -> int | None:
    try:
        found = date(year, _MONTHS.index(month) + 1, int(day))
    except ValueError:
        return None
    if weekday is not None and found.weekday() != weekday:
        return None
    hour, minute, second = map(int, clock)
    return (found.toordinal() - _EPOCH) * 86400 + hour * 3600 + minute * 60 + second


# -- conditional requests

_tags = re.compile(
    rb"[ \t,]*(?:(?:W/)?\"[!#-~\x80-\xff]*\"(?:[ \t]*,[ \t,]*(?=W/\"|\"|\Z)|[ \t]*\Z))+"
).fullmatch
_tag = re.compile(rb"(?:W/)?\"[!#-~\x80-\xff]*\"").findall


_CONDITIONS: Final = frozenset(
    (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since")
)


def _opaque(tag: bytes) -> bytes:
    return tag[2:] if tag.startswith(b"W/") else tag


def _listed(values: list[bytes], etag: bytes, *, strong: bool) -> bool:
    """Tell whether an If-Match or If-None-Match list names `etag` (RFC 9110 section 8.8.3.2)."""
    value = b", ".join(values)
    if value == b"*":
        return True
    if not etag or not _tags(value):
        return False
    if strong:
        return not etag.startswith(b"W/") and etag in _tag(value)
    return _opaque(etag) in map(_opaque, _tag(value))


def _single_date(headers: Headers, name: bytes) -> int | None:
    values = every(headers, name)
    return parse_http_date(values[0]) if len(values) == 1 else None


def conditional(method: str, headers: Headers, etag: bytes, mtime: int) -> Literal[200, 304, 412]:
    """Evaluate the preconditions for an existing representation, in the order of RFC 9110 13.2.2.

    Args:
        etag: with its quotes, and with W/ if it is weak; b"" for none.
        mtime: when it was last modified, in whole seconds.

    Returns 200 to go on (with `ranges`, for a GET), else the status that answers.
    """
    names = dict(headers)
    if _CONDITIONS.isdisjoint(names):
        return 200
    reads = method == "GET" or method == "HEAD"
    if b"if-match" in names:
        if not _listed(every(headers, b"if-match"), etag, strong=True):
            return 412
    elif b"if-unmodified-since" in names:
        since = _single_date(headers, b"if-unmodified-since")
        if since is not None and mtime > since:
            return 412
    if b"if-none-match" in names:
        if _listed(every(headers, b"if-none-match"), etag, strong=False):
            return 304 if reads else 412
    elif reads and b"if-modified-since" in names:
        since = _single_date(headers, b"if-modified-since")
        if since is not None and mtime <= since:
            return 304
    return 200


# -- ranges

RANGES: Final = 32
"""Ranges of one request; with more the whole is sent (Apache 200, nginx unbounded by default)."""

_range_set = re.compile(rb"bytes=([0-9 \t,-]+)", re.IGNORECASE).fullmatch
_range = re.compile(rb"([0-9]*)-([0-9]*)").fullmatch


class Unsatisfiable(Exception):
    """A well-formed Range of which no part exists: 416 with `Content-Range: bytes */SIZE`."""


def ranges(
    headers: Headers, size: int, etag: bytes, mtime: int
) -> tuple[tuple[int, int], ...] | None:
    """Return the (start, stop) that a GET asks for, in its order, or None to send it all.

    None: no Range, another unit, malformed, If-Range does not hold, more than `RANGES`, or they
    overlap so that more would be sent than there is (CVE-2011-3192). Only for GET, after
    `conditional` said 200.

    Raises:
        Unsatisfiable: none of the ranges exists.
    """
    values = every(headers, b"range")
    if len(values) != 1 or not _if_range(every(headers, b"if-range"), etag, mtime):
        return None
    match = _range_set(values[0])
    if match is None or match[1].count(b",") > 2 * RANGES:
        return None
    found: list[tuple[int, int]] = []
    asked = 0
    for part in match[1].split(b","):
        spec = part.strip(b" \t")
        if not spec:
            continue  # an empty list element (RFC 9110 section 5.6.1.2)
        asked += 1
        span = _span(spec, size)
        if span is None:
            return None
        if span[0] < size and span[0] < span[1]:
            found.append(span)
    if not asked or asked > RANGES:
        return None
    if not found:
        # "-5" of nothing is satisfiable by the book, but no Content-Range can say so.
        if not size and any(part.strip(b" \t").startswith(b"-") for part in match[1].split(b",")):
            return None
        raise Unsatisfiable
    return None if _abusive(found, size) else tuple(found)


def _span(spec: bytes, size: int) -> tuple[int, int] | None:
    """Return start and stop of a range, cut to `size`; empty if it does not exist, None if bad."""
    match = _range(spec)
    if match is None or spec == b"-":
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - _number(last)), size
    start = _number(first)
    if not last:
        return start, size
    stop = _number(last) + 1
    return None if stop <= start else (start, min(stop, size))


def _number(digits: bytes) -> int:
    """Return the value, or 2^63 for anything beyond: int() of long digits costs their square."""
    digits = digits.lstrip(b"0")
    return min(int(digits or b"0"), 2**63) if len(digits) < 20 else 2**63


def _abusive(found: list[tuple[int, int]], size: int) -> bool:
    """Tell whether several ranges add up to more than the whole (RFC 9110 section 14.2)."""
    return len(found) > 1 and sum(stop - start for start, stop in found) > size


def _if_range(values: list[bytes], etag: bytes, mtime: int) -> bool:
    """Tell whether Range may be looked at (RFC 9110 section 13.1.5): strong tag, or exact date."""
    if not values:
        return True
    if len(values) > 1:
        return False
    value = values[0]
    if value.startswith(b'"'):
        return value == etag
    return parse_http_date(value) == mtime


# -- codings

_weight = re.compile(rb"[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)").fullmatch


def accepts_coding(headers: Headers, coding: bytes) -> bool:
    """Tell whether Accept-Encoding takes `coding` (lower case; RFC 9110 section 12.5.3).

    Its own entry counts before "*"; q=0 refuses. `identity` is taken unless it is refused; any
    other coding only when it is asked for, so not when there is no Accept-Encoding at all.
    """
    values = every(headers, b"accept-encoding")
    if not values:
        return coding == b"identity"
    return _accepts(b",".join(values), coding)


@lru_cache(maxsize=256)  # browsers send one of a few dozen values
def _accepts(value: bytes, coding: bytes) -> bool:
    star: bool | None = None
    for element in value.split(b","):
        name, *parameters = (part.strip(b" \t") for part in element.split(b";"))
        name = name.lower()
        if name == b"x-gzip":
            name = b"gzip"  # RFC 9110 section 8.4.1.3
        if (name != coding and name != b"*") or not is_token(name) or len(parameters) > 1:
            continue
        taken = True
        if parameters:
            match = _weight(parameters[0])
            if match is None:
                continue  # malformed: as if it were not there
            taken = float(match[1]) > 0
        if name == coding:
            return taken
        star = taken if star is None else star
    if coding == b"identity":
        return star is not False
    return star is True
