"""A tenant's own settings: the bytes of its `.gateway.toml` -> values, or what is wrong in them.

Decides what a tenant may decide for itself, and the bounds of that. Pure: where the file is and
whether it may be read is `ownfile.py`'s. A limit cannot be written here at all, so none can be
raised; and no path leads out of the tenant's directory, because each is taken below it.

The bytes are hostile: a tenant may try what it costs to read them. tomllib takes 20 s for one key
of 32,000 parts, so lines are short.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import NewType

from gateway import reading
from gateway.exchange import Limits
from gateway.process.spec import Allowance, KeeperSpec, StartMode
from gateway.process.terms import (
    AGE_MAX,
    AUTH_MAX,
    ERRORS_MAX,
    EXPIRES_MAX,
    INDEX_MAX,
    REDIRECTS_MAX,
    Area,
    Redirection,
    RedirectStatus,
    Terms,
    wrong_area,
    wrong_index,
    wrong_page,
    wrong_pattern,
    wrong_redirect,
)
from gateway.reading import BadConfig, Form, Problems, Reader
from gateway.where import Where

NAME = ".gateway.toml"
SIZE_MAX = 64 << 10
"""Bytes of the file."""
LINES_MAX = 2000
LINE_MAX = 1000
"""Characters of a line."""
VARIABLES_MAX = 64
INTERPRETERS_MAX = 20
USERS_MAX = 200
"""Users that one protected path may name."""
PROBLEMS_SHOWN = 5

Age = NewType("Age", int)
"""A number of whole seconds."""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_AGE = re.compile(r"([0-9]{1,6}) ?(s|min|h|days?)")
_UNITS = {"s": 1, "min": 60, "h": 3600, "day": 86400, "days": 86400}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXTENSION = re.compile(r"\.[A-Za-z0-9_.+-]{1,20}")
_USER = re.compile(r"[^\x00-\x1f\x7f:]{1,100}")
_NOT_THEIRS = {item.name for kind in (Limits, Allowance, KeeperSpec) for item in fields(kind)}
"""What the administrator alone decides; named so that the refusal can say so."""


def age(text: str) -> Age:
    """Read "30 s", "5 min", "1 h" or "7 days" as seconds. Raises ValueError."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise ValueError("the units are s, min, h, day, days")
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > AGE_MAX:
        raise ValueError("that is more than ten years")
    return Age(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRedirect:
    """Where a path has gone."""

    to: str
    """A path ("/new.html") or a URL; with "/*" at the end, what was asked for below is added."""
    status: RedirectStatus = 302


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnArea:
    """A path that needs a password."""

    path: str
    """It and everything below it: "/private/"."""
    file: str = ".htpasswd"
    """The password file, below the tenant's directory; hidden, so that it is never sent."""
    realm: str = "Private"
    """What the browser shows."""
    users: tuple[str, ...] = ()
    """Who may enter; none named: everybody in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What a tenant decides for itself."""

    index: tuple[str, ...] | None = None
    start: StartMode | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    interpreters: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    redirects: Mapping[str, OwnRedirect] = field(default_factory=dict)
    expires: Mapping[str, Age] = field(default_factory=dict)
    error_pages: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    auth: OwnArea | tuple[OwnArea, ...] = ()

    @property
    def areas(self) -> tuple[OwnArea, ...]:
        return self.auth if isinstance(self.auth, tuple) else (self.auth,)

    def terms(self) -> Terms:
        """Return what concerns the front."""
        return Terms(
            index=None if self.index is None else tuple(map(str.encode, self.index)),
            redirects=tuple(
                Redirection(path.encode(), rule.to.encode(), rule.status)
                for path, rule in self.redirects.items()
            ),
            expires=tuple((pattern.encode(), age) for pattern, age in self.expires.items()),
            error_pages={int(status): page.encode() for status, page in self.error_pages.items()},
            auth=tuple(Area(area.path.encode(), area.realm.encode()) for area in self.areas),
        )


_READER = Reader(
    forms={Age: Form(age, 'a time with its unit, such as "30 s", "5 min", "1 h" or "7 days"')},
    short={OwnRedirect: "to"},
)


def parse(data: bytes, file: str = NAME) -> Own:
    """Return the settings in `data`. Raises BadConfig with all that is wrong."""
    if len(data) > SIZE_MAX:
        raise BadConfig(file, "", f"has more than {SIZE_MAX >> 10} KiB")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadConfig(file, "", f"not UTF-8 text: byte {error.start}") from None
    lines = text.split("\n")
    if len(lines) > LINES_MAX:
        raise BadConfig(file, "", f"has more than {LINES_MAX} lines")
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_MAX:
            raise BadConfig(f"{file}:{number}", "", f"the line has more than {LINE_MAX} characters")
    try:
        table = reading.parse(text, file)
    except RecursionError:
        raise BadConfig(file, "", "values are nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise BadConfig(file, "", f"not TOML: {error}") from None
    where = Where(file, text)
    _count(table, where)
    own = _READER.read(Own, table, where)
    _check(own, where)
    return own


def told(bad: BadConfig) -> str:
    """Return all that is wrong as one text: the first problems, and how many more there are."""
    every = bad.every()
    shown = "; also ".join(map(str, every[:PROBLEMS_SHOWN]))
    more = len(every) - PROBLEMS_SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown


_MOST: Mapping[str, tuple[int, str]] = {
    "index": (INDEX_MAX, "names"),
    "environment": (VARIABLES_MAX, "variables"),
    "interpreters": (INTERPRETERS_MAX, "interpreters"),
    "redirects": (REDIRECTS_MAX, "redirects"),
    "expires": (EXPIRES_MAX, "patterns"),
    "error_pages": (ERRORS_MAX, "pages"),
    "auth": (AUTH_MAX, "protected paths"),
}


def _count(table: reading.Table, where: Where) -> None:
    """Refuse what is too much, before anybody looks at it one by one. Raises BadConfig."""
    known = {item.name for item in fields(Own)}
    for key, value in table.items():
        if key not in known:
            why = reading.unknown(key, known)
            if key in _NOT_THEIRS:
                why = "a tenant cannot set this; the administrator does, in [tenants]"
            raise BadConfig(where.named(key), key, why)
        if key in _MOST and isinstance(value, dict | list):
            most, what = _MOST[key]
            if len(value) > most:
                raise BadConfig(where.named(key), key, f"has more than {most} {what}")


def _check(own: Own, where: Where) -> None:
    """Refuse values that are of the right kind and still cannot be. Raises BadConfig."""
    problems = Problems()

    def each(table: str, keys: Iterable[str], wrong: Callable[[str], str]) -> None:
        place = where.table(table)
        for key in keys:
            with problems.caught():
                if why := wrong(key):
                    raise BadConfig(place.named(key), key, why)

    with problems.caught():
        for name in own.index or ():
            if why := wrong_index(name.encode()):
                raise BadConfig(where.named("index"), "index", f'"{name}": {why}')
    each("environment", own.environment, _wrong_variable)
    each("interpreters", own.interpreters, lambda key: _wrong_program(key, own.interpreters[key]))
    each("redirects", own.redirects, lambda key: _wrong_redirect(key, own.redirects[key]))
    each("expires", own.expires, lambda key: wrong_pattern(key.encode()))
    each("error_pages", own.error_pages, lambda key: _wrong_page(key, own.error_pages[key]))
    seen: set[tuple[bytes, ...]] = set()
    for number, area in enumerate(own.areas, 1):
        place = where.table("auth", number if isinstance(own.auth, tuple) else None)
        with problems.caught():
            key, why = _wrong_area(area, seen)
            if why:
                raise BadConfig(place.named(key), key, why)
    problems.raise_any()


def _wrong_variable(name: str) -> str:
    return "" if _VARIABLE.fullmatch(name) else "this cannot be the name of a variable"


def _wrong_program(extension: str, program: str) -> str:
    if not _EXTENSION.fullmatch(extension) or not program.startswith("/"):
        return 'must be an extension and an absolute path, like ".pl" = "/usr/bin/perl"'
    return ""


def _wrong_redirect(path: str, redirect: OwnRedirect) -> str:
    return wrong_redirect(Redirection(path.encode(), redirect.to.encode(), redirect.status))


def _wrong_page(status: str, page: str) -> str:
    number = int(status) if re.fullmatch(r"[0-9]{3}", status) else 0
    return wrong_page(number, page.encode())


def _wrong_area(area: OwnArea, seen: set[tuple[bytes, ...]]) -> tuple[str, str]:
    """Return the key that is wrong, and why; ("", "") for neither. `seen` are those before."""
    made = Area(area.path.encode(), area.realm.encode())
    key, why = wrong_area(made)
    if why:
        return key, why
    if made.names in seen:
        return "path", f'"{area.path}" is protected twice'
    seen.add(made.names)
    names = area.file.split("/")
    if area.file.startswith("/") or ".." in names or "" in names or len(area.file) > LINE_MAX:
        return "file", f'"{area.file}" must be a path below this directory, such as ".htpasswd"'
    if not names[-1].startswith(".") or names[-1] in (".", ".well-known", NAME):
        why = "its name must start with a dot, because such files are never sent to anybody"
        return "file", f'"{area.file}": {why}'
    if len(area.users) > USERS_MAX:
        return "users", f"has more than {USERS_MAX} users"
    for user in area.users:
        if not _USER.fullmatch(user):
            return "users", f'"{user}" cannot be the name of a user'
    return "", ""
