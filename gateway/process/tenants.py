"""What a tenant is called, and where it lives: names <-> directories, for all processes alike.

Decides the syntax of names and how a pattern becomes a path. Pure but for `open_home`. Must not
know which account a tenant is (the master looks), nor URLs.

A tenant has a name: "~alice" was found as a user's directory, "@example.org" as a host's. Names
come from requests, so only what can be neither a path nor an option is one: no slash, no dot or
dash in front, ASCII (FIELD section 3, row 6: `/~../`, `/~root/`).

The part of a pattern before the name belongs to the system, and is opened as it stands. What
follows may belong to the tenant, who can put a link there at any moment; so it is always walked
from the system's part, under the rules of `beneath.py`.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.process.beneath import open_beneath
from gateway.process.spec import ScriptRoot, SymlinkPolicy, TenantRoots

_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]*)(?:\.[a-z0-9_][a-z0-9_-]*)*")


@dataclass(frozen=True, slots=True)
class Home:
    """Where a tenant's pages are."""

    base: bytes
    """The part of the path that is the system's, absolute: b"/home"."""
    below: tuple[bytes, ...]
    """The names that lead from there to the pages: (b"alice", b"public_html")."""

    @property
    def path(self) -> bytes:
        return self.base.rstrip(b"/") + b"".join([b"/" + name for name in self.below])


def userdir_name(account: bytes) -> str | None:
    """Return the name of the tenant of `/~account/`; None if no account can be called so."""
    text = account.decode("latin-1")
    return f"~{text}" if _ACCOUNT.fullmatch(text) else None


def host_name(host: bytes) -> str | None:
    """Return the name of the tenant of a host (lower case, no port); None if none can be."""
    text = host.decode("latin-1")
    return f"@{text}" if _HOST.fullmatch(text) else None


def home_of(name: str, userdir: str, hosts: str) -> Home | None:
    """Return where the pages of a tenant are by the patterns "/home/*/public_html" and
    "/srv/www/{host}/htdocs" ("" = there is none); None for what is no tenant's name."""
    kind, called = name[:1], name[1:]
    if kind == "~" and userdir and _ACCOUNT.fullmatch(called):
        return _home(userdir, "*", called)
    if kind == "@" and hosts and _HOST.fullmatch(called):
        return _home(hosts, "{host}", called)
    return None


def _home(pattern: str, mark: str, called: str) -> Home:
    names = [part for part in pattern.split("/") if part]
    first = next(number for number, part in enumerate(names) if mark in part)
    base = "/" + "/".join(names[:first])
    below = [part.replace(mark, called) for part in names[first:]]
    return Home(os.fsencode(base), tuple(os.fsencode(part) for part in below))


def open_home(home: Home, symlinks: SymlinkPolicy) -> int:
    """Return a descriptor (O_PATH) of a tenant's directory; the caller's. Raises OSError."""
    base = os.open(home.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_beneath(base, b"/".join(home.below), os.O_PATH | os.O_DIRECTORY, symlinks)
    finally:
        os.close(base)


def route_key(name: str, number: int) -> str:
    """Return what a front calls the `number`th rule of a tenant when it asks the keeper."""
    return f"{name}/{number}"


def script_root(roots: TenantRoots, user: str, key: str) -> ScriptRoot | None:
    """Return the directory that a front means by `key`; None if `user` has none of that name.

    Of hosts any directory is given whose name is valid: that it belongs to the user is seen when it
    is opened.
    """
    name, _, number = key.rpartition("/")
    if number not in roots.numbers or (name.startswith("~") and name[1:] != user):
        return None
    home = home_of(name, roots.userdir, roots.hosts)
    if home is None:
        return None
    return ScriptRoot(
        root=home.path,
        tenant=True,
        symlinks=roots.symlinks,
        start=roots.start,
        interpreters=roots.interpreters,
        environment=roots.environment,
    )


def numbers(patterns: Sequence[str]) -> frozenset[str]:
    """Return the numbers of as many rules, as they stand in keys."""
    return frozenset(str(number) for number in range(len(patterns)))
