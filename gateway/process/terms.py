"""What of a tenant's own settings concerns a front: the terms on which its pages are served.

Decides their form, and what can be one. The keeper reads the tenant's file and sends `encode`; the
front takes nothing of it that `decode` does not find right, since a keeper belongs to its user.
That a front is never held up, it is read by hand, and the first thing that is wrong ends it. All
paths are decoded ones, below the tenant's root.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, cast, get_args

TERMS_MAX = 128 << 10
"""Bytes of encoded terms: what 64 KiB of settings can become."""
INDEX_MAX = 20
REDIRECTS_MAX = 200
EXPIRES_MAX = 100
ERRORS_MAX = 60
AUTH_MAX = 50
NAME_MAX = 255
"""Longest name of a file on Linux."""
PATH_MAX = 1000
"""Bytes of a path, a target or a realm."""
AGE_MAX = 10 * 366 * 86400
"""Seconds after which anything has expired: ten years."""

RedirectStatus: TypeAlias = Literal[301, 302, 303, 307, 308]
_STATUSES = get_args(RedirectStatus)

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_VISIBLE = re.compile(rb"[!#-;=?-\[\]_a-z~]+")
"""What may stand in a Location: RFC 3986 and no quote, bracket or backslash beside it."""
_URL = re.compile(rb"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?#].*)?")
_PATTERN = re.compile(rb"\*|\*?[^*/\x00-\x1f]{1,100}")
_REALM = re.compile(rb'[^\x00-\x1f\x7f"\\]{1,100}')


def names_of(path: bytes) -> tuple[bytes, ...]:
    """Return the components of a path as they are compared where nothing may slip past.

    A file system may ignore case, or dots and blanks at the end of a name (FIELD section 3, row 5);
    so these count as the same. To protect more than was named does less harm than less.
    """
    return tuple([_folded(name) for name in path.split(b"/") if name])


def _folded(name: bytes) -> bytes:
    if len(name) > NAME_MAX:
        return name  # no file can be called so, and to normalize much costs the square of it
    text = name.decode("utf-8", "surrogateescape").casefold().rstrip(". ")
    return unicodedata.normalize("NFD", text).encode("utf-8", "surrogateescape")


class Redirection(NamedTuple):
    """A path that has gone somewhere."""

    path: bytes
    """b"/old", or b"/old/*" for everything below /old/."""
    to: bytes
    """A path below the tenant's root, or a URL; ending in b"/*" it is given what followed."""
    status: int


class Area(NamedTuple):
    """A path that needs a password, with everything below it."""

    path: bytes
    realm: bytes

    @property
    def names(self) -> tuple[bytes, ...]:
        return names_of(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """See the module."""

    index: tuple[bytes, ...] | None = None
    """None: as `[tenants]` has it."""
    redirects: tuple[Redirection, ...] = ()
    expires: tuple[tuple[bytes, int], ...] = ()
    """Name of a file, or b"*.css", or b"*" -> seconds; the first that fits counts."""
    error_pages: Mapping[int, bytes] = field(default_factory=dict)
    """Status -> path of the page."""
    auth: tuple[Area, ...] = ()


def wrong_index(name: bytes) -> str:
    """Return why this cannot be the name of an index file; "" if it can."""
    if (
        not name
        or len(name) > NAME_MAX
        or b"/" in name
        or name.startswith(b".")
        or _CONTROL.search(name)
    ):
        return "must be the name of a file that is not hidden"
    return ""


def _wrong_path(path: bytes) -> str:
    if not path.startswith(b"/") or len(path) > PATH_MAX or _CONTROL.search(path):
        return 'must be a path that starts with "/"'
    if any(name in (b".", b"..") for name in path.split(b"/")):
        return 'must not hold "." or ".."'
    return ""


def wrong_redirect(rule: Redirection) -> str:
    """Return why a redirect cannot be; "" if it can."""
    if why := _wrong_path(rule.path):
        return f"the path {why}"
    if b"*" in rule.path.removesuffix(b"/*"):
        return 'a "*" stands for everything below a path, as in "/old/*"'
    if rule.status not in _STATUSES:
        return "the status must be 301, 302, 303, 307 or 308"
    to = rule.to
    if len(to) > PATH_MAX or not _VISIBLE.fullmatch(to):
        return "the target must be written as in a link: no blanks, other characters as %C3%A4"
    if not (_URL.fullmatch(to) or (to.startswith(b"/") and not to.startswith(b"//"))):
        return 'the target must be a path ("/new") or a URL ("https://example.org/new")'
    if to.endswith(b"/*") and not rule.path.endswith(b"/*"):
        return 'the target ends in "/*", so the path must as well'
    below = rule.path.removesuffix(b"*")
    if to == rule.path or (rule.path.endswith(b"/*") and to.startswith(below)):
        return "it leads to itself"
    return ""


def wrong_pattern(pattern: bytes) -> str:
    """Return why this cannot be a pattern for file names; "" if it can."""
    return "" if _PATTERN.fullmatch(pattern) else 'must be like "*.css", "logo.png" or "*"'


def wrong_page(status: int, page: bytes) -> str:
    """Return why this cannot be the page of an error; "" if it can."""
    if not 400 <= status <= 599:
        return "must be the status of an error, from 400 to 599"
    why = _wrong_path(page)
    return f"the page {why}" if why else ""


def wrong_area(area: Area) -> tuple[str, str]:
    """Return what is wrong with a protected path, its key first; ("", "") if nothing is."""
    if why := _wrong_path(area.path):
        return "path", why
    if not _REALM.fullmatch(area.realm):
        return "realm", "must be 1 to 100 characters without quotes and backslashes"
    return "", ""


def encode(terms: Terms) -> bytes:
    """Return `terms` as JSON."""
    table = {
        "index": None if terms.index is None else [_text(name) for name in terms.index],
        "redirects": [[_text(r.path), _text(r.to), r.status] for r in terms.redirects],
        "expires": [[_text(pattern), seconds] for pattern, seconds in terms.expires],
        "error_pages": [[status, _text(page)] for status, page in terms.error_pages.items()],
        "auth": [[_text(area.path), _text(area.realm)] for area in terms.auth],
    }
    return json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()


def decode(data: bytes) -> Terms:
    """Return the terms in `data`. Raises ValueError for whatever is not exactly right."""
    if len(data) > TERMS_MAX:
        raise ValueError("terms that are too long")
    try:
        table = json.loads(data)
    except RecursionError:
        raise ValueError("terms that are nested") from None
    if not isinstance(table, dict) or set(table) != {
        "index", "redirects", "expires", "error_pages", "auth"
    }:  # fmt: skip
        raise ValueError("terms with other parts than there are")
    index = None if table["index"] is None else tuple(map(_bytes, _list(table["index"], INDEX_MAX)))
    redirects = tuple(
        Redirection(_bytes(path), _bytes(to), _number(status))
        for path, to, status in _rows(table["redirects"], REDIRECTS_MAX, 3)
    )
    expires = tuple(
        (_bytes(pattern), _number(seconds))
        for pattern, seconds in _rows(table["expires"], EXPIRES_MAX, 2)
    )
    pages = {
        _number(status): _bytes(page) for status, page in _rows(table["error_pages"], ERRORS_MAX, 2)
    }
    auth = tuple(
        Area(_bytes(path), _bytes(realm)) for path, realm in _rows(table["auth"], AUTH_MAX, 2)
    )
    wrong = (
        *map(wrong_index, index or ()),
        *map(wrong_redirect, redirects),
        *(wrong_pattern(pattern) for pattern, _ in expires),
        *(wrong_page(status, page) for status, page in pages.items()),
        *(wrong_area(area)[1] for area in auth),
    )
    if any(wrong) or any(not 0 <= seconds <= AGE_MAX for _, seconds in expires):
        raise ValueError(f"terms that cannot be: {next(filter(None, wrong), 'an age')}")
    return Terms(index=index, redirects=redirects, expires=expires, error_pages=pages, auth=auth)


def _text(data: bytes) -> str:
    return data.decode("utf-8")


def _bytes(value: object) -> bytes:
    """Return a text as bytes. Raises ValueError, also for half a character."""
    if not isinstance(value, str):
        raise ValueError("terms with something else than a text")
    return value.encode("utf-8")


def _number(value: object) -> int:
    if type(value) is not int:
        raise ValueError("terms with something else than a number")
    return value


def _list(value: object, most: int) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError("terms with more than there may be")
    return cast("list[object]", value)


def _rows(value: object, most: int, width: int) -> list[list[object]]:
    rows = [_list(row, width) for row in _list(value, most)]
    if any(len(row) != width for row in rows):
        raise ValueError("terms with a row that is too short")
    return rows
