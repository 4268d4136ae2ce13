"""Which files are the text of programs, and so are never sent as they are.

Decides that from a file's name and from where it really is, after all links. Must not know URLs
or requests. A program's text holds passwords; CVE-2024-39884, CVE-2024-40725 and CVE-2008-1111 are
servers that sent it (FIELD section 3, row 7).

Two readings of one pattern: `Glob.fits` says what is run, exactly as written; `Glob.resembles`
says what is not sent, and is generous: other case (a file system may ignore it), what editors and
packagers leave beside a file (x.cgi~, x.cgi.bak, #x.cgi#, .x.cgi.swp), its compressed form.
"""

import fnmatch
import os
import re
from bisect import bisect_left
from collections.abc import Hashable, Iterable
from functools import cache

NAME_MAX = 255
"""Longest name of a file on Linux; a longer one cannot exist, so it needs no careful look."""

_LEFTOVERS = (
    rb"(?:\.?~[0-9]+~|\.(?:bak|bk|backup|br|bz2|copy|dist|dpkg-[a-z]+|gz|old|orig|rej|rpm[a-z]+|"
    rb"save|sav|sw[a-p]|te?mp|xz|zst|[0-9]+)|,v|[~. #])*+"
)
"""Repeated without going back ("*+"), else a name could be made that takes years to judge. So the
longer of two words that begin alike stands first."""


class Glob:
    """A shell pattern for the name of one file, over bytes."""

    __slots__ = ("_exact", "_loose", "pattern")

    def __init__(self, pattern: bytes) -> None:
        if b"/" in pattern or not pattern:
            raise ValueError(f"not a pattern for a file name: {pattern!r}")
        self.pattern = pattern
        # One latin-1 character stands for each byte; the last two characters are the end anchor.
        exact = fnmatch.translate(pattern.decode("latin-1"))[:-2]
        loose = fnmatch.translate(pattern.lower().decode("latin-1"))[:-2]
        self._exact = re.compile(exact.encode("latin-1")).fullmatch
        self._loose = re.compile(rb"[.#]{0,2}" + loose.encode("latin-1") + _LEFTOVERS).fullmatch

    def fits(self, name: bytes) -> bool:
        """Whether a file of this name is meant: byte for byte."""
        return self._exact(name) is not None

    def resembles(self, name: bytes) -> bool:
        """Whether a file of this name may hold the text of one that is meant."""
        return len(name) <= NAME_MAX and self._loose(name.lower()) is not None


Rule = tuple[bytes, Glob | None]
"""A directory, absolute, with what in it is a program: None for all of it."""


@cache
def glob(pattern: bytes) -> Glob:
    """Return the `Glob` of a pattern from the settings: many sites have the same."""
    return Glob(pattern)


class Elsewhere:
    """The programs of all sites, to find those that share directories with one of them.

    Looks where each directory really is when it is made; one that is moved later by a link is found
    under the name that it has in the settings.
    """

    def __init__(self, rules: Iterable[tuple[Hashable, Rule]]) -> None:
        """Take (owner, rule) pairs; an owner is whatever tells sites apart."""
        self._at: dict[bytes, list[tuple[Hashable, Rule]]] = {}
        known = {b"/": b"/"}
        for owner, rule in rules:
            for name in {_with_slash(rule[0]), _with_slash(_without_links(rule[0], known))}:
                self._at.setdefault(name, []).append((owner, rule))
        self._names = sorted(self._at)

    def near(self, directory: bytes, owner: Hashable) -> list[Rule]:
        """Return the rules of all but `owner` for what is inside of `directory` or around it."""
        found: dict[int, Rule] = {}
        for name in {_with_slash(directory), _with_slash(os.path.realpath(directory))}:
            start = bisect_left(self._names, name)
            stop = bisect_left(self._names, name[:-1] + b"0")  # "0" is what follows "/"
            around = [name[: at + 1] for at, byte in enumerate(name[:-1]) if byte == 0x2F]
            for key in (*self._names[start:stop], *around):
                for other, rule in self._at.get(key, ()):
                    if other != owner:
                        found[id(rule)] = rule
        return list(found.values())


def _without_links(directory: bytes, known: dict[bytes, bytes]) -> bytes:
    """Return os.path.realpath of an absolute path; `known` keeps what was found of others, which
    mostly have the beginning in common. 10,000 directories take 60 ms instead of 250."""
    found = known.get(directory)
    if found is None:
        above, _, name = directory.rstrip(b"/").rpartition(b"/")
        found = _without_links(above or b"/", known).rstrip(b"/") + b"/" + name
        if os.path.islink(found):
            found = os.path.realpath(found)
        known[directory] = found
    return found


def _with_slash(directory: bytes) -> bytes:
    return directory.rstrip(b"/") + b"/"


_DELETED = b" (deleted)"


class Sources:
    """The programs of one site."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        """Take (directory, pattern) pairs. A directory of b"" is any, a pattern of None all."""
        self._rules = tuple(rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def hide(self, fd: int) -> bool:
        """Whether the open file (O_PATH suffices) is a program's text, wherever it was opened.

        A hard link has no other place than its own, so that is where it is judged by.
        Raises OSError where /proc is missing.
        """
        if not self._rules:
            return False
        # Case is ignored, as for names: on some file systems CGI-BIN is cgi-bin.
        real = os.readlink(b"/proc/self/fd/%d" % fd).lower()
        if real.endswith(_DELETED) and not os.fstat(fd).st_nlink:
            real = real.removesuffix(_DELETED)  # it was replaced since it was opened
        name = real.rpartition(b"/")[2]
        for directory, glob in self._rules:
            if glob is not None and not glob.resembles(name):
                continue
            if not directory or real.startswith(_real(directory).lower()):
                return True
        return False


def _real(directory: bytes) -> bytes:
    """Return where a directory really is, now, with a slash; it may be a link that is moved."""
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return directory.rstrip(b"/") + b"/"  # nothing can be opened below it either
    try:
        return os.readlink(b"/proc/self/fd/%d" % fd).rstrip(b"/") + b"/"
    finally:
        os.close(fd)
