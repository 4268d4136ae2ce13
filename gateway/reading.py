"""Floor 1: a TOML table becomes a frozen dataclass, by the annotations of the dataclass.

Decides how a size, a time or a list is written, and that whatever is not understood is refused:
an unknown key, a wrong type, a wrong unit. Each refusal names file, line, table and key, and shows
the right form. Must not know which settings there are; those stand in `settings.py` and beside the
code that they tune.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Protocol, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as hints_of

from gateway.exchange import Limits
from gateway.units import Duration, Share, Size
from gateway.where import Where

Table = Mapping[str, object]
LATER = "not built yet in this version"

_SIZES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
_TIMES = {"ms": (1, 1000), "s": (1, 1), "min": (60, 1), "h": (3600, 1)}
_QUANTITY = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,6}))? ?([A-Za-z]+)")
_PERCENT = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?%")


class BadConfig(Exception):
    """The settings are refused: `where` names file and table, `why` says what would be right.

    `key` is "" when the table as a whole is wrong. `others` are further problems that the same
    reading found; `every()` gives all of them.
    """

    def __init__(self, where: str, key: str, why: str, others: Sequence["BadConfig"] = ()) -> None:
        super().__init__(f"{where}: {key}: {why}" if key else f"{where}: {why}")
        self.where = where
        self.key = key
        self.why = why
        self.others = tuple(others)

    def every(self) -> tuple["BadConfig", ...]:
        """Return this problem and the others, each without others of its own."""
        return (BadConfig(self.where, self.key, self.why), *self.others)


class Problems:
    """Collects refusals, so that one run of `gateway check` shows all of them."""

    def __init__(self) -> None:
        self._found: list[BadConfig] = []

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Keep a BadConfig that the block raises, and go on after the block."""
        try:
            yield
        except BadConfig as problem:
            self._found.extend(problem.every())

    def raise_any(self) -> None:
        """Raise everything that was caught as one BadConfig; return if there was nothing."""
        if self._found:
            first, *others = self._found
            raise BadConfig(first.where, first.key, first.why, others)


@dataclass(frozen=True, slots=True)
class Form:
    """How a value that is written as a string is read."""

    read: Callable[[str], object]
    """Raises ValueError with one sentence."""
    what: str
    """"a size such as "64 MiB"": the end of "must be ..."."""


def _quantity(text: str, units: tuple[str, ...]) -> tuple[int, int, str]:
    """Return the number as a fraction, and the unit."""
    match = _QUANTITY.fullmatch(text)
    if match is None or match[3] not in units:
        raise ValueError(f"the units are {', '.join(units)}")
    decimals = match[2] or ""
    return int(match[1] + decimals), 10 ** len(decimals), match[3]


def size(text: str) -> Size:
    """Read "64 MiB" or "10 KB" as bytes. Raises ValueError."""
    over, under, unit = _quantity(text, tuple(_SIZES))
    whole, rest = divmod(over * _SIZES[unit], under)
    if rest:
        raise ValueError("that is not a whole number of bytes")
    return Size(whole)


def duration(text: str) -> Duration:
    """Read "30 s", "500 ms", "5 min" or "1 h" as seconds. Raises ValueError."""
    over, under, unit = _quantity(text, tuple(_TIMES))
    times, part = _TIMES[unit]
    return Duration(over * times / (under * part))


def share(text: str) -> Share:
    """Read "100 %" or "12.5 %" as a part of one. Raises ValueError."""
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise ValueError("it ends in %")
    return Share(float(match[1]) / 100)


_FORMS: Mapping[object, Form] = {
    Share: Form(share, 'a part of one processor core, such as "50 %" or "200 %"'),
    Size: Form(size, 'a size with its unit, such as "64 MiB" or "512 KB"'),
    Duration: Form(duration, 'a time with its unit, such as "30 s", "500 ms" or "5 min"'),
    Path: Form(Path, 'a path, such as "/srv/app"'),
}

_PLAIN = {
    str: "a string in quotes",
    int: "a whole number, 0 or more",
    float: "a number, 0 or more",
    bool: "true or false",
}


class DataclassType(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


T = TypeVar("T", bound=DataclassType)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is to be known of a class to fill it, looked up once: there may be 10,000 sites."""

    hints: Mapping[str, Any]
    known: frozenset[str]
    """The keys that its table may have."""
    required: tuple[str, ...]
    bounded: bool
    """Whether its table may hold limits too."""
    bounds: frozenset[str]
    """Which ones: those whose names it has no other use for."""


@cache
def _shape(kind: type[DataclassType]) -> _Shape:
    mine = [item for item in fields(kind) if item.init]
    known = frozenset(item.name for item in mine) - {"limits"}
    return _Shape(
        hints=hints_of(kind),
        known=known,
        required=tuple(
            item.name
            for item in mine
            if item.default is MISSING and item.default_factory is MISSING
        ),
        bounded="limits" in kind.__dataclass_fields__,
        bounds=frozenset(item.name for item in fields(Limits)) - known,
    )


@dataclass(frozen=True, slots=True)
class Reader:
    """Fills dataclasses from tables."""

    forms: Mapping[object, Form] = field(default_factory=dict)
    """Types beyond `Size` and `Duration` that are written as a string."""
    short: Mapping[type, str] = field(default_factory=dict)
    """Tables that may be written as the value of one of their keys alone, and which."""

    def read(self, kind: type[T], table: Table, where: Where, limits: Limits | None = None) -> T:
        """Return a `kind` filled from `table`; `limits` are those of the table around it.

        Any key of `Limits` may stand in the table of a class that has a field `limits`; it changes
        that one value of the limits around. Raises BadConfig with all that is wrong in the table.
        """
        problems = Problems()
        values: dict[str, object] = {}
        shape = _shape(kind)
        if limits is not None and shape.bounded:
            changed = {key: value for key, value in table.items() if key in shape.bounds}
            if changed:
                table = {key: value for key, value in table.items() if key not in changed}
                with problems.caught():
                    limits = replace(limits, **self._values(Limits, changed, where, None))
            values["limits"] = limits
        with problems.caught():
            values |= self._values(kind, table, where, limits)
        problems.raise_any()
        for name in shape.required:
            if name not in values:
                raise BadConfig(where.named(), name, "missing")
        try:
            return kind(**values)
        except ValueError as error:  # from a __post_init__: a contradiction
            raise BadConfig(where.named(), "", str(error)) from None

    def _values(
        self, kind: type[DataclassType], table: Table, where: Where, limits: Limits | None
    ) -> dict[str, Any]:
        """Return the values of the keys that stand in the table."""
        problems = Problems()
        shape = _shape(kind)
        known, hints = shape.known, shape.hints
        values = {}
        for key, value in table.items():
            with problems.caught():
                if key not in known:
                    extra = _shape(Limits).known if limits else frozenset()
                    raise BadConfig(where.named(key), key, unknown(key, {*known, *extra}))
                values[key] = self._value(hints[key], value, where, key, limits)
        problems.raise_any()
        return values

    def _value(
        self, kind: Any, value: object, where: Where, key: str, limits: Limits | None
    ) -> object:
        """Return `value` as `kind`. Raises BadConfig."""
        origin = get_origin(kind)
        if origin in (Union, UnionType):
            return self._union(kind, value, where, key, limits)
        if form := self.forms.get(kind) or _FORMS.get(kind):
            return self._formed(form, value, where, key)
        if kind in self.short and not isinstance(value, dict):
            return self._shortened(kind, value, where, key)
        if origin is Literal:
            if any(value == word and type(value) is type(word) for word in get_args(kind)):
                return value
        elif origin is tuple and isinstance(value, list):
            return self._list(get_args(kind)[0], value, where, key, limits)
        elif origin is not None and issubclass(origin, Mapping) and isinstance(value, dict):
            return self._mapping(get_args(kind)[1], value, where.table(key), limits)
        elif is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
            return self.read(kind, value, where.table(key), limits)
        elif kind is bool or kind is str:
            if type(value) is kind:
                return self._text(value, where, key) if isinstance(value, str) else value
        elif kind in (int, float) and _is_number(value, whole=kind is int):
            return kind(value)
        why = f"must be {self._what(kind)}, not {_shown(value)}"
        raise BadConfig(where.named(key), key, why)

    def _shortened(self, kind: Any, value: object, where: Where, key: str) -> object:
        """Return a table that is written as the value of one of its keys."""
        name = self.short[kind]
        found = self._value(_shape(kind).hints[name], value, where, key, None)
        try:
            return kind(**{name: found})
        except ValueError as error:  # from a __post_init__: it needs to be a whole table
            raise BadConfig(where.named(key), key, str(error)) from None

    def _text(self, value: str, where: Where, key: str) -> str:
        # A NUL would cut a path or an environment entry short in the system's hands.
        if "\0" in value:
            raise BadConfig(where.named(key), key, "must not hold a NUL character")
        return value

    def _formed(self, form: Form, value: object, where: Where, key: str) -> object:
        if isinstance(value, str):
            try:
                return form.read(self._text(value, where, key))
            except ValueError as error:
                why = f"must be {form.what}, not {_shown(value)}: {error}"
                raise BadConfig(where.named(key), key, why) from None
        raise BadConfig(where.named(key), key, f"must be {form.what}, not {_shown(value)}")

    def _union(
        self, kind: Any, value: object, where: Where, key: str, limits: Limits | None
    ) -> object:
        """Return the value as the first member that takes it."""
        members = [member for member in get_args(kind) if member is not NoneType]
        fitting = [member for member in members if _same_shape(member, value)]
        if len(members) == 1 or (len(fitting) == 1 and isinstance(value, dict | list)):
            return self._value((fitting or members)[0], value, where, key, limits)
        quiet = replace(where, text="")  # nobody reads these refusals: look no line up for them
        for member in fitting:
            with Problems().caught():
                return self._value(member, value, quiet, key, limits)
        raise BadConfig(where.named(key), key, f"must be {self._what(kind)}, not {_shown(value)}")

    def _list(
        self, kind: Any, values: list[object], where: Where, key: str, limits: Limits | None
    ) -> tuple[object, ...]:
        problems = Problems()
        found: list[object] = []
        for number, value in enumerate(values, 1):
            with problems.caught():
                if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
                    found.append(self.read(kind, value, where.table(key, number), limits))
                else:
                    found.append(self._value(kind, value, where, key, limits))
        problems.raise_any()
        return tuple(found)

    def _mapping(
        self, kind: Any, table: Table, where: Where, limits: Limits | None
    ) -> dict[str, object]:
        problems = Problems()
        found = {}
        for key, value in table.items():
            with problems.caught():
                found[self._text(key, where, key)] = self._value(kind, value, where, key, limits)
        problems.raise_any()
        return found

    def _what(self, kind: Any) -> str:
        """Return the end of the sentence "must be ..."."""
        if form := self.forms.get(kind) or _FORMS.get(kind):
            return form.what
        origin = get_origin(kind)
        if origin in (Union, UnionType):
            return " or ".join(self._what(m) for m in get_args(kind) if m is not NoneType)
        if origin is Literal:
            return " or ".join(_shown(word) for word in get_args(kind))
        if origin is tuple:
            return f"a list in square brackets, each item {self._what(get_args(kind)[0])}"
        return _PLAIN.get(kind, "a table")


def _same_shape(kind: Any, value: object) -> bool:
    """Whether a table, a list or a single value is what the type is written as."""
    origin = get_origin(kind)
    if is_dataclass(kind) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return isinstance(value, dict)
    return isinstance(value, list) == (origin is tuple) and not isinstance(value, dict)


def _is_number(value: object, *, whole: bool) -> bool:
    """Whether it is a number that no setting is too small for. True and false are none."""
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    return 0 <= value < 1 << 53  # false for nan


def unknown(key: str, known: set[str]) -> str:
    """Return why an unknown key is refused, with the nearest known one."""
    near = get_close_matches(key, sorted(known), 1, 0.6)
    if near:
        return f'unknown key; did you mean "{near[0]}"?'
    return f"unknown key; known here: {', '.join(sorted(known))}"


def _shown(value: object) -> str:
    """Return a value as the file would write it, short."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
            return quoted if len(quoted) <= 60 else quoted[:57] + '..."'
        case dict():
            return "a table"
        case list():
            return "a list"
        case _:
            return str(value)


def parse(text: str, file: str) -> Table:
    """Return the tables of a TOML text. Raises BadConfig."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(file, "", f"not TOML: {error}") from None
    except RecursionError:
        raise BadConfig(file, "", "not TOML that can be read: it is nested too deeply") from None
