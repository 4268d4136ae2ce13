"""Dates, preconditions, ranges, codings."""

import random
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.fields import (
    Unsatisfiable,
    accepts_coding,
    conditional,
    http_date,
    parse_http_date,
    ranges,
)

THEN = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
LATER = b"Sun, 06 Nov 1994 08:49:38 GMT"
EARLIER = b"Sun, 06 Nov 1994 08:49:36 GMT"
TAG = b'"abc"'


def lines(*fields: tuple[str, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.encode(), value) for name, value in fields)


# -- dates


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (THEN, DATE),
        (THEN + 0.999, DATE),
        (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (-1, b"Wed, 31 Dec 1969 23:59:59 GMT"),
        (-0.5, b"Wed, 31 Dec 1969 23:59:59 GMT"),
        (951782400, b"Tue, 29 Feb 2000 00:00:00 GMT"),
        (10**18, b"Fri, 31 Dec 9999 23:59:59 GMT"),
        (-(10**18), b"Mon, 01 Jan 0001 00:00:00 GMT"),
    ],
)
def test_http_date(seconds: float, text: bytes) -> None:
    assert http_date(seconds) == text


@given(st.integers(min_value=-2_000_000_000, max_value=250_000_000_000))
@settings(deadline=None)
def test_date_is_read_back_and_agrees_with_the_library(seconds: int) -> None:
    assert parse_http_date(http_date(seconds)) == seconds
    if 0 <= seconds < 2**33:
        assert http_date(seconds).decode() == formatdate(seconds, usegmt=True)


@pytest.mark.parametrize(
    "text",
    [
        DATE,
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"Sun Nov 06 08:49:37 1994",
    ],
)
def test_all_three_formats(text: bytes) -> None:
    assert parse_http_date(text) == THEN


def test_two_digit_years_fall_around_now() -> None:
    assert parse_http_date(b"Thursday, 01-Jan-70 00:00:00 GMT") == 0
    assert parse_http_date(b"Tuesday, 01-Jan-30 00:00:00 GMT") == 1893456000


def test_leap_second_is_read() -> None:
    assert parse_http_date(b"Sat, 31 Dec 2016 23:59:60 GMT") == 1483228800


@pytest.mark.parametrize(
    "text",
    [
        b"", b"0", b"784111777", DATE.lower(), DATE + b" ", b" " + DATE, DATE + b"\n",
        DATE.replace(b"GMT", b"UTC"), DATE.replace(b"GMT", b"+0000"), DATE.replace(b"Sun", b"Mon"),
        DATE.replace(b" 06", b" 6"), DATE.replace(b"06", b"31"), DATE.replace(b"08:", b"24:"),
        DATE.replace(b":49", b":60"), DATE.replace(b":37", b":61"), DATE.replace(b"Nov", b"Xxx"),
        b"Wed, 29 Feb 2023 00:00:00 GMT", b"Sat, 01 Jan 0000 00:00:00 GMT",
        b"Sun, \xd9\xa0\xd9\xa6 Nov 1994 08:49:37 GMT", b"Sun Nov 6 08:49:37 1994",
        b"Sun, 06-Nov-94 08:49:37 GMT", b"Sunday, 06-Nov-1994 08:49:37 GMT", DATE + b", " + DATE,
    ],
)  # fmt: skip
def test_other_dates_are_not_read(text: bytes) -> None:
    assert parse_http_date(text) is None


# -- preconditions


@pytest.mark.parametrize(
    ("method", "fields", "status"),
    [
        ("GET", [], 200),
        ("GET", [("if-match", TAG)], 200),
        ("GET", [("if-match", b"*")], 200),
        ("PUT", [("if-match", b'"x"')], 412),
        ("GET", [("if-match", b'"x", "abc"')], 200),
        ("GET", [("if-match", b'"x"'), ("if-match", TAG)], 200),
        ("GET", [("if-match", b'W/"abc"')], 412),
        ("GET", [("if-match", b"abc")], 412),
        ("GET", [("if-match", b'"abc')], 412),
        ("GET", [("if-match", b"")], 412),
        ("GET", [("if-unmodified-since", DATE)], 200),
        ("GET", [("if-unmodified-since", EARLIER)], 412),
        ("GET", [("if-unmodified-since", b"yesterday")], 200),
        ("GET", [("if-unmodified-since", EARLIER), ("if-unmodified-since", EARLIER)], 200),
        ("GET", [("if-match", TAG), ("if-unmodified-since", EARLIER)], 200),
        ("GET", [("if-none-match", TAG)], 304),
        ("HEAD", [("if-none-match", TAG)], 304),
        ("POST", [("if-none-match", TAG)], 412),
        ("GET", [("if-none-match", b"*")], 304),
        ("PUT", [("if-none-match", b"*")], 412),
        ("GET", [("if-none-match", b'W/"abc"')], 304),
        ("GET", [("if-none-match", b'"a", W/"abc" ,, "c"')], 304),
        ("GET", [("if-none-match", b'"a,b", "abc"')], 304),
        ("GET", [("if-none-match", b'"x"')], 200),
        ("GET", [("if-none-match", b'x "abc"')], 200),
        ("GET", [("if-none-match", b'"abc" "x"')], 200),
        ("GET", [("if-none-match", b'w/"abc"')], 200),
        ("GET", [("if-none-match", b'*, "x"')], 200),
        ("GET", [("if-modified-since", DATE)], 304),
        ("GET", [("if-modified-since", LATER)], 304),
        ("GET", [("if-modified-since", EARLIER)], 200),
        ("POST", [("if-modified-since", DATE)], 200),
        ("GET", [("if-modified-since", b"0")], 200),
        ("GET", [("if-none-match", b'"x"'), ("if-modified-since", DATE)], 200),
        ("GET", [("if-none-match", TAG), ("if-modified-since", EARLIER)], 304),
        ("GET", [("if-match", b'"x"'), ("if-none-match", TAG)], 412),
        ("GET", [("if-match", TAG), ("if-none-match", TAG)], 304),
        ("GET", [("if-unmodified-since", EARLIER), ("if-modified-since", DATE)], 412),
        ("GET", [("if-unmodified-since", DATE), ("if-modified-since", DATE)], 304),
    ],
)
def test_conditional(method: str, fields: list[tuple[str, bytes]], status: int) -> None:
    assert conditional(method, lines(*fields), TAG, THEN) == status


@pytest.mark.parametrize(("name", "status"), [("if-match", 412), ("if-none-match", 304)])
def test_weak_tag_matches_only_weakly(name: str, status: int) -> None:
    assert conditional("GET", lines((name, b'W/"abc"')), b'W/"abc"', THEN) == status


def test_representation_without_a_tag() -> None:
    assert conditional("GET", lines(("if-none-match", b'""')), b"", THEN) == 200
    assert conditional("GET", lines(("if-match", b"*")), b"", THEN) == 200


def test_long_bad_tag_list_costs_little() -> None:
    value = b'"a"' + b" ,\t" * 5000 + b"x"
    assert conditional("GET", lines(("if-none-match", value)), TAG, THEN) == 200


# -- ranges


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"bytes=0-0", ((0, 1),)),
        (b"bytes=0-99", ((0, 100),)),
        (b"bytes=0-100", ((0, 100),)),
        (b"bytes=10-", ((10, 100),)),
        (b"bytes=-10", ((90, 100),)),
        (b"bytes=-1000", ((0, 100),)),
        (b"bytes=99-", ((99, 100),)),
        (b"BYTES=1-2", ((1, 3),)),
        (b"bytes=0-0,5-6", ((0, 1), (5, 7))),
        (b"bytes=5-6 ,\t0-0", ((5, 7), (0, 1))),
        (b"bytes=,0-0,,5-6,", ((0, 1), (5, 7))),
        (b"bytes=0-0,100-", ((0, 1),)),
        (b"bytes=-0,1-1", ((1, 2),)),
        (b"bytes=0-" + b"9" * 5000, ((0, 100),)),
        (b"bytes=" + b"0" * 5000 + b"-1", ((0, 2),)),
        (b"bytes=-" + b"9" * 5000, ((0, 100),)),
    ],
)
def test_ranges(value: bytes, found: tuple[tuple[int, int], ...]) -> None:
    assert ranges(lines(("range", value)), 100, TAG, THEN) == found


@pytest.mark.parametrize(
    "value",
    [
        b"bytes=", b"bytes=,", b"bytes=-", b"bytes=a-b", b"bytes=2-1", b"bytes=0-0,2-1",
        b"bytes 0-1", b"bytes= ", b"bytes=0", b"bytes=0-1-2",
        b"bytes=0x1-2", b"bytes=+1-2", b"bytes=1 -2",
        b"bytes=--1", b"lines=0-1", b"bytes=\xd9\xa1-2", b"bytes=0-1;x", b"bytes = 0-1", b"0-1",
        b"bytes=0-,0-", b"bytes=0-99,0-0",
        b"bytes=" + b",".join(b"%d-%d" % (i, i) for i in range(33)),
        b"bytes=" + b"0-0," * 100_000,
    ],
)  # fmt: skip
def test_range_that_is_ignored(value: bytes) -> None:
    assert ranges(lines(("range", value)), 100, TAG, THEN) is None


def test_thirty_two_ranges_are_taken() -> None:
    value = b"bytes=" + b",".join(b"%d-%d" % (2 * i, 2 * i) for i in range(32))
    found = ranges(lines(("range", value)), 100, TAG, THEN)
    assert found is not None
    assert len(found) == 32


@pytest.mark.parametrize(
    "value", [b"bytes=100-", b"bytes=100-200,300-", b"bytes=-0", b"bytes=9999-"]
)
def test_unsatisfiable(value: bytes) -> None:
    with pytest.raises(Unsatisfiable):
        ranges(lines(("range", value)), 100, TAG, THEN)


def test_ranges_of_an_empty_file() -> None:
    with pytest.raises(Unsatisfiable):
        ranges(lines(("range", b"bytes=0-")), 0, TAG, THEN)
    assert ranges(lines(("range", b"bytes=-5")), 0, TAG, THEN) is None


def test_no_range_and_two_ranges_send_all() -> None:
    assert ranges((), 100, TAG, THEN) is None
    twice = lines(("range", b"bytes=0-1"), ("range", b"bytes=0-1"))
    assert ranges(twice, 100, TAG, THEN) is None


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (TAG, True),
        (b'"x"', False),
        (b'W/"abc"', False),
        (DATE, True),
        (LATER, False),
        (EARLIER, False),
        (b"Sun Nov  6 08:49:37 1994", True),
        (b"*", False),
        (b"", False),
        (b'"abc", "x"', False),
    ],
)
def test_if_range(value: bytes, holds: bool) -> None:
    fields = lines(("range", b"bytes=0-0"), ("if-range", value))
    assert ranges(fields, 100, TAG, THEN) == (((0, 1),) if holds else None)


def test_if_range_that_fails_hides_an_unsatisfiable_range() -> None:
    fields = lines(("range", b"bytes=200-"), ("if-range", b'"x"'))
    assert ranges(fields, 100, TAG, THEN) is None


def test_if_range_never_holds_for_a_weak_tag() -> None:
    fields = lines(("range", b"bytes=0-0"), ("if-range", b'W/"abc"'))
    assert ranges(fields, 100, b'W/"abc"', THEN) is None


def test_random_ranges_stay_inside() -> None:
    dice = random.Random(3)
    for _ in range(3000):
        value = b"bytes=" + bytes(dice.choices(b"0123456789-, ", k=dice.randint(1, 20)))
        size = dice.choice((0, 1, 10, 1000))
        try:
            found = ranges(lines(("range", value)), size, TAG, THEN)
        except Unsatisfiable:
            continue
        assert found is None or all(0 <= start < stop <= size for start, stop in found)


# -- codings


@pytest.mark.parametrize(
    ("value", "gzip", "identity"),
    [
        (None, False, True),
        (b"", False, True),
        (b"gzip", True, True),
        (b"GZIP", True, True),
        (b"x-gzip", True, True),
        (b"gzip;q=0", False, True),
        (b"gzip;q=0.000", False, True),
        (b"gzip;q=0.001", True, True),
        (b"gzip; q=1.000", True, True),
        (b"gzip ; Q=0.5", True, True),
        (b"br, gzip, deflate", True, True),
        (b"*", True, True),
        (b"*;q=0", False, False),
        (b"*;q=0, gzip", True, False),
        (b"gzip;q=0, *", False, True),
        (b"*, gzip;q=0", False, True),
        (b"identity;q=0", False, False),
        (b"identity;q=0, *", True, False),
        (b"*;q=0, identity", False, True),
        (b"gzip;q=2", False, True),
        (b"gzip;q=0.0001", False, True),
        (b"gzip;q=-1", False, True),
        (b"gzip;q=", False, True),
        (b"gzip;level=1", False, True),
        (b"gzip;q=1;q=0", False, True),
        (b"notgzip", False, True),
        (b"gzipp, xgzip", False, True),
        (b"gzip\xa0", False, True),
    ],
)
def test_accepts_coding(value: bytes | None, gzip: bool, identity: bool) -> None:
    fields = () if value is None else lines(("accept-encoding", value))
    assert accepts_coding(fields, b"gzip") is gzip
    assert accepts_coding(fields, b"identity") is identity


def test_codings_on_several_lines() -> None:
    fields = lines(("accept-encoding", b"deflate"), ("accept-encoding", b"br"))
    assert accepts_coding(fields, b"br")
    assert not accepts_coding(fields, b"gzip")
