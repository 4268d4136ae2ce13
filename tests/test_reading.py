"""Tables into dataclasses, and what is refused on the way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import Limits
from gateway.reading import BadConfig, Form, Reader, duration, parse, size
from gateway.units import Duration, Size
from gateway.where import Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    spokes: int = 32
    colour: Literal["black", "silver"] = "black"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bicycle:
    name: str = ""
    gears: int | Literal["fixed"] = 7
    lamp: str | bool = False
    load: Size = Size(0)
    ride: Duration = Duration(0.0)
    ratio: float = 1.0
    tags: tuple[str, ...] = ()
    spare: Mapping[str, str] = field(default_factory=dict)
    front: Wheel = field(default_factory=Wheel)
    wheel: tuple[Wheel, ...] = ()
    style: int | Wheel = 0
    owner: str | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.gears == "fixed" and self.ratio != 1.0:
            raise ValueError("a fixed gear has the ratio 1")


def read(text: str) -> Bicycle:
    return Reader().read(Bicycle, parse(text, "b.toml"), Where("b.toml", text), Limits())


def refusals(text: str) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        read(text)
    return [str(problem) for problem in caught.value.every()]


def test_every_kind_of_value_is_read() -> None:
    bicycle = read(
        """
        name = "Anna's"
        gears = 3
        lamp = true
        load = "20 kB"
        ride = "90 min"
        ratio = 2
        tags = ["red", "old"]
        spare = { tube = "28" }
        owner = "anna"
        front = { spokes = 36 }
        style = 5
        [[wheel]]
        colour = "silver"
        [[wheel]]
        """
    )
    assert bicycle == Bicycle(
        name="Anna's",
        gears=3,
        lamp=True,
        load=Size(20_000),
        ride=Duration(5400.0),
        ratio=2.0,
        tags=("red", "old"),
        spare={"tube": "28"},
        owner="anna",
        front=Wheel(spokes=36),
        style=5,
        wheel=(Wheel(colour="silver"), Wheel()),
    )
    assert type(bicycle.ratio) is float


def test_defaults_stand_where_nothing_is_written() -> None:
    assert read("") == Bicycle()


def test_union_takes_each_of_its_kinds() -> None:
    assert read('gears = "fixed"').gears == "fixed"
    assert read('lamp = "dynamo"').lamp == "dynamo"
    assert read("style = { spokes = 1 }").style == Wheel(spokes=1)


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("0 B", 0),
        ("512 B", 512),
        ("512B", 512),
        ("10 KB", 10_000),
        ("10 kB", 10_000),
        ("64 MiB", 64 << 20),
        ("1.5 GiB", 3 << 29),
        ("2 TB", 2 * 10**12),
    ],
)
def test_size_has_a_unit(text: str, bytes_: int) -> None:
    assert size(text) == bytes_


@pytest.mark.parametrize(
    ("text", "seconds"), [("500 ms", 0.5), ("30 s", 30.0), ("1.5 min", 90.0), ("1h", 3600.0)]
)
def test_duration_has_a_unit(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "5", "5 m", "5 mb", "64M", "-5 MB", "5  MB", " 5 MB", "5 MB ", "1e3 B", "٣ MB", "0x5 B",
     "5 s", "0.3 B", "1.0000001 MB", "1234567890 B"],
)  # fmt: skip
def test_size_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        size(text)


@pytest.mark.parametrize("text", ["", "5", "5 sec", "5 m", "5 S", "-1 s", "٣ s", "5 MB", "nan s"])
def test_duration_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        duration(text)


@given(st.text())
def test_quantity_of_any_text_is_read_or_a_value_error(text: str) -> None:
    for read_one in (size, duration):
        try:
            assert read_one(text) >= 0
        except ValueError:
            pass


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("naem = 1", 'b.toml:1: naem: unknown key; did you mean "name"?'),
        ("zzzz = 1", "unknown key; known here: "),
        ("name = 5", "b.toml:1: name: must be a string in quotes, not 5"),
        ("name = true", "must be a string in quotes, not true"),
        ("gears = -1", 'must be a whole number, 0 or more or "fixed", not -1'),
        ("gears = true", 'must be a whole number, 0 or more or "fixed", not true'),
        ("gears = 1.5", 'must be a whole number, 0 or more or "fixed", not 1.5'),
        ('gears = "many"', 'must be a whole number, 0 or more or "fixed", not "many"'),
        ("lamp = 1", "must be a string in quotes or true or false, not 1"),
        ("load = 5", 'must be a size with its unit, such as "64 MiB" or "512 KB", not 5'),
        ('load = "5 s"', 'not "5 s": the units are B, kB, KB,'),
        ('load = "0.5 B"', "that is not a whole number of bytes"),
        ("ride = 30", 'must be a time with its unit, such as "30 s", "500 ms" or "5 min", not 30'),
        ('ride = "30"', "the units are ms, s, min, h"),
        ('ratio = "2"', 'must be a number, 0 or more, not "2"'),
        ("ratio = nan", "must be a number, 0 or more, not nan"),
        ("ratio = inf", "must be a number, 0 or more, not inf"),
        ('tags = "red"', 'must be a list in square brackets, each item a string in quotes, not "'),
        ("tags = [1]", "tags: must be a string in quotes, not 1"),
        ("spare = { tube = 28 }", "b.toml:1: [spare]: tube: must be a string in quotes, not 28"),
        ("spare = []", "must be a table, not a list"),
        ("front = 1", "must be a table, not 1"),
        ("wheel = { spokes = 1 }", "must be a list in square brackets"),
        ("style = { spoke = 1 }", '[style]: spoke: unknown key; did you mean "spokes"?'),
        ("style = []", "must be a whole number, 0 or more or a table, not a list"),
        ("owner = 1", "must be a string in quotes, not 1"),
        ("name = 2025-01-01", "must be a string in quotes, not 2025-01-01"),
        ('name = "a\\u0000b"', "must not hold a NUL character"),
        ('[front]\ncolour = "red"', 'b.toml:2: [front]: colour: must be "black" or "silver", not'),
        ("[[wheel]]\n\n[[wheel]]\nspoke = 1", "b.toml:4: [[wheel]] #2: spoke: unknown key"),
        ('gears = "fixed"\nratio = 2', "b.toml: a fixed gear has the ratio 1"),
        ("limits = {}", "limits: unknown key"),
    ],
)
def test_refusal_names_place_and_right_form(text: str, refusal: str) -> None:
    (found,) = refusals(text)
    assert refusal in found


def test_all_problems_are_found_at_once() -> None:
    found = refusals('nme = 1\nload = 5\n[[wheel]]\nspokes = "x"\n[[wheel]]\ncolor = 1\n')
    assert [line.partition(":")[2].partition(":")[0] for line in found] == ["1", "2", "4", "6"]


def test_missing_key_is_named() -> None:
    @dataclass(frozen=True)
    class Needy:
        must: str

    with pytest.raises(BadConfig, match=r"n\.toml: must: missing"):
        Reader().read(Needy, {}, Where("n.toml"))


def test_limits_stand_among_the_other_keys_and_change_only_themselves() -> None:
    around = Limits(queue=5, concurrency=7)
    table = parse('name = "x"\nqueue = 9\nhead = "3 s"', "b.toml")
    bicycle = Reader().read(Bicycle, table, Where("b.toml"), around)
    assert bicycle.limits == Limits(queue=9, concurrency=7, head=Duration(3.0))


def test_limits_pass_down_through_a_list_of_tables() -> None:
    @dataclass(frozen=True)
    class Shop:
        bicycle: tuple[Bicycle, ...] = ()
        limits: Limits = field(default_factory=Limits)

    table = parse("queue = 1\n[[bicycle]]\n[[bicycle]]\nconcurrency = 2", "s.toml")
    shop = Reader().read(Shop, table, Where("s.toml"), Limits(idle=Duration(4.0)))
    assert [b.limits for b in shop.bicycle] == [
        Limits(queue=1, idle=Duration(4.0)),
        Limits(queue=1, idle=Duration(4.0), concurrency=2),
    ]


def test_wrong_limit_among_the_other_keys_is_refused() -> None:
    assert refusals('queue = "many"') == [
        'b.toml:1: queue: must be a whole number, 0 or more, not "many"'
    ]


def test_near_limit_is_suggested() -> None:
    assert refusals("concurency = 1") == [
        'b.toml:1: concurency: unknown key; did you mean "concurrency"?'
    ]


def test_form_of_a_further_type_is_read() -> None:
    class Colour(str):
        __slots__ = ()

    @dataclass(frozen=True)
    class Paint:
        colour: Colour

    def hexadecimal(text: str) -> Colour:
        if not text.startswith("#"):
            raise ValueError("no # at its beginning")
        return Colour(text)

    reader = Reader(forms={Colour: Form(hexadecimal, 'a colour such as "#ff0000"')})
    assert reader.read(Paint, {"colour": "#fff"}, Where("p")).colour == "#fff"
    with pytest.raises(BadConfig, match='p: colour: must be a colour such as "#ff0000", not "red"'):
        reader.read(Paint, {"colour": "red"}, Where("p"))


def test_text_that_is_not_toml_is_refused_with_its_line() -> None:
    with pytest.raises(BadConfig, match=r"^b\.toml: not TOML: .*line 2"):
        parse("a = 1\nb = ]", "b.toml")


def test_line_is_found_in_nested_lists() -> None:
    text = """
[[site]]
root = "a"
  [[site.route]]
  path = "/1"
  [[site.route]]
  path = "/2"
[[site]]
  [[site.route]]  # first of the second
  path = "/3"
  environment = { A = "1" }
[pool.x]
path = "/4"
"""
    top = Where("g.toml", text)
    route = top.table("site", 1).table("route", 2)
    assert route.named("path") == "g.toml:7: [[site]] #1 [[site.route]] #2"
    third = top.table("site", 2).table("route", 1)
    assert third.named("path") == "g.toml:10: [[site]] #2 [[site.route]] #1"
    assert third.named("absent") == "g.toml:9: [[site]] #2 [[site.route]] #1"
    assert third.table("environment").named("A").startswith("g.toml:11: ")
    assert top.table("pool").table("x").named("path") == "g.toml:13: [pool.x]"
    assert Where("g.toml").named() == "g.toml"
