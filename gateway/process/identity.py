"""Whether a file that a front server names may be run: the rules, each with its name.

Decides from what the kernel says of an open file and of the root that it was opened below. Must not
know how the file was found or who asked. The process that asks already is the user that the script
would run as, so no rule keeps that user from anything: they keep a front server that was talked
into naming a file from having it run what nobody meant to be a script.

The rules are tried in order and the first that is broken is told. That a file lies below the root
is not among `RULES`: the kernel sees to it when the file is opened, and only the name under which
that is told stands here.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from gateway.process.spec import SpawnFailed


class Case(NamedTuple):
    """What a rule may look at."""

    file: os.stat_result
    """The file's, from the descriptor that was opened for it."""
    root: os.stat_result
    """The listed directory's, from the descriptor that the file was opened below."""
    uid: int
    """The user that the script would run as."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, and what is said of a file that breaks it."""

    name: str
    broken: Callable[[Case], bool]
    why: str
    """What is wrong and the way out, to stand behind "PATH: "."""


def _not_regular(case: Case) -> bool:
    return not stat.S_ISREG(case.file.st_mode)


def _set_id(case: Case) -> bool:
    return bool(case.file.st_mode & (stat.S_ISUID | stat.S_ISGID))


def _of_somebody_else(case: Case) -> bool:
    return case.file.st_uid not in (0, case.uid, case.root.st_uid)


def _world_writable(case: Case) -> bool:
    return bool(case.file.st_mode & stat.S_IWOTH)


RULES: tuple[Rule, ...] = (
    Rule(
        "not-regular",
        _not_regular,
        "it is a directory, a device or the like; name a file",
    ),
    Rule(
        "set-id",
        _set_id,
        "it is set-user-id or set-group-id, which is never started: chmod ug-s",
    ),
    Rule(
        "someone-else's",
        _of_somebody_else,
        "its owner is neither root, nor the user that scripts run as, nor the owner of the root "
        "that the listener lists: chown it",
    ),
    Rule(
        "world-writable",
        _world_writable,
        "everybody may write it, and so choose what it runs: chmod o-w",
    ),
)

_LOOKUPS = {
    errno.EXDEV: (
        "outside",
        "the path, or a link in it, leads out of the root that the listener lists; name a file "
        "below it, or list its directory too",
    ),
    errno.ELOOP: (
        "link",
        "a link in it belongs to somebody else than what it points to, or leads in a circle; give "
        "both one owner (chown -h)",
    ),
}
"""Rules that are kept by how the file is opened (`beneath.py`): the error that says so, and what
is told of it."""


def judge(path: bytes, case: Case) -> None:
    """Raise SpawnFailed (403), which names the rule, for a file that breaks one."""
    for rule in RULES:
        if rule.broken(case):
            raise _refusal(path, rule.name, rule.why)


def not_below(path: bytes, error: OSError) -> SpawnFailed | None:
    """Return the refusal (403) that an error of `open_beneath` stands for; None: it is no rule."""
    found = _LOOKUPS.get(error.errno or 0)
    return None if found is None else _refusal(path, *found, error.errno or 0)


def not_listed(path: bytes) -> SpawnFailed:
    """Return the refusal (403) of a script that is not the one that the listener lists."""
    return _refusal(path, "outside", "the listener lists another script, and only that one")


def _refusal(path: bytes, rule: str, why: str, number: int = 0) -> SpawnFailed:
    shown = path.decode("utf-8", "backslashreplace")
    return SpawnFailed(number, "identity", f'{shown}: rule "{rule}": {why}', 403)
