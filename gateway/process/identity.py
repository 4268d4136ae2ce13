"""Which file may be run, and for whom: the rules, each with its name.

Decides from what the kernel says of open descriptors. Must not know how a file was found or who
asked. There are two sets of rules, because there are two who could have a file run that nobody
meant to be a script.

`RULES` are for a file that a front server names. The process that asks already is the user that the
script would run as, so no rule keeps that user from anything: they keep a front server that was
talked into naming a file from having it run.

`NAME_RULES`, `TENANT_RULES`, `DIRECTORY_RULES`, `HOLDER_RULES` and `ABOVE_RULES` are for what is
below a tenant's root, and are those of Apache's suEXEC ("suEXEC Security Model"), with the way to
the root on top. The process that asks is the tenant, and cannot be anybody else any more, so these
keep no tenant from anything either: they protect it from *others*, who must have no hand in what
runs with its rights.

What is looked at is executed by its path, since a script must find its own name in argv. Nobody
gains by a swap between the two looks (FIELD section 3, row 16): to put another file, link or
directory in place, one must be able to write a directory on the way, and of each of them, from the
system's root to the file, the rules say that only root and the tenant can. If the tenant itself
swaps, then it has run what it could have run from any script of its own, as itself. A mode that
others may write through shows in the group's bits also where it stands in an access control list
(acl(5): they are its mask).

In each set the rules are tried in order and the first that is broken is told. That a file lies
below the root is not among them: the kernel sees to it when the file is opened, and only the name
under which that is told stands here.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from gateway.process.beneath import Way
from gateway.process.spec import SpawnFailed

T = TypeVar("T")


class Case(NamedTuple):
    """What a rule may look at."""

    file: os.stat_result
    """The file's, from the descriptor that was opened for it. With a rule for directories: that of
    one of them, or of a link on the way."""
    root: os.stat_result
    """The listed directory's, from the descriptor that the file was opened below."""
    uid: int
    """The user that the script would run as."""
    gid: int = 0
    """That user's own group."""


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """One rule, and what is said of a file that breaks it."""

    name: str
    broken: Callable[[T], bool]
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


def _group_writable(case: Case) -> bool:
    return bool(case.file.st_mode & stat.S_IWGRP)


def _not_the_users(case: Case) -> bool:
    return case.file.st_uid != case.uid


def _not_the_users_group(case: Case) -> bool:
    return case.file.st_gid != case.gid


def _directory_writable(case: Case) -> bool:
    # A link has all bits set; to change one is to write the directory that it is in.
    mode = case.file.st_mode
    return bool(mode & (stat.S_IWGRP | stat.S_IWOTH)) and not stat.S_ISLNK(mode)


def _above_of_somebody_else(case: Case) -> bool:
    return case.file.st_uid not in (0, case.uid)


def _above_writable(case: Case) -> bool:
    # From a sticky directory only its own owner and theirs can take things away (unlink(2)), and
    # who owns what is on the way is looked at as well.
    mode = case.file.st_mode
    if stat.S_ISLNK(mode) or mode & stat.S_ISVTX:
        return False
    return bool(mode & stat.S_IWOTH or (mode & stat.S_IWGRP and case.file.st_gid != 0))


_NOT_REGULAR: Rule[Case] = Rule(
    "not-regular",
    _not_regular,
    "it is a directory, a device or the like; name a file",
)
_SET_ID: Rule[Case] = Rule(
    "set-id",
    _set_id,
    "it is set-user-id or set-group-id, which is never started: chmod ug-s",
)
_WORLD_WRITABLE: Rule[Case] = Rule(
    "world-writable",
    _world_writable,
    "everybody may write it, and so choose what it runs: chmod o-w",
)

RULES: tuple[Rule[Case], ...] = (
    _NOT_REGULAR,
    _SET_ID,
    Rule(
        "someone-else's",
        _of_somebody_else,
        "its owner is neither root, nor the user that scripts run as, nor the owner of the root "
        "that the listener lists: chown it",
    ),
    _WORLD_WRITABLE,
)
"""For a file that a front server names."""

NAME_RULES: tuple[Rule[bytes], ...] = (
    Rule(
        "name",
        lambda name: not name or b"\0" in name,
        "this is no name of a file; name one below the root",
    ),
    Rule(
        "absolute",
        lambda name: name.startswith(b"/"),
        "it is named by an absolute path; name it below the root",
    ),
    Rule(
        "traversal",
        lambda name: b".." in name.split(b"/"),
        'there is a ".." in its name; name it by the way that leads down to it',
    ),
)
"""For the name of a tenant's script, before anything is looked at."""

ABOVE_RULES: tuple[Rule[Case], ...] = (
    Rule(
        "above-owner",
        _above_of_somebody_else,
        "it is on the way to the root, and belongs neither to root nor to the tenant, so that its "
        "owner could put something else in its place: chown it",
    ),
    Rule(
        "above-writable",
        _above_writable,
        "it is on the way to the root, and others may write it and so put something else in the "
        "place of what is below it: chmod go-w",
    ),
)
"""For each directory and link on the way to a tenant's root."""

DIRECTORY_RULES: tuple[Rule[Case], ...] = (
    Rule(
        "directory-owner",
        _not_the_users,
        "the owner of this directory, or link, on the way to the script is not the user that it "
        "would run as: chown it",
    ),
    Rule(
        "directory-writable",
        _directory_writable,
        "its group or everybody may write this directory, and so put something else in the "
        "script's place: chmod go-w",
    ),
)
"""For a tenant's root, and for each directory and link between it and a script."""

HOLDER_RULES: tuple[Rule[Case], ...] = (
    Rule(
        "directory-group",
        _not_the_users_group,
        "the group of this directory, which has the script in it, is not that of the user that it "
        "would run as: chgrp it",
    ),
)
"""For the directory that a tenant's script is in."""

TENANT_RULES: tuple[Rule[Case], ...] = (
    _NOT_REGULAR,
    _SET_ID,
    Rule(
        "owner",
        _not_the_users,
        "its owner is not the user that it would run as: chown it",
    ),
    Rule(
        "group",
        _not_the_users_group,
        "its group is not that of the user that it would run as: chgrp it",
    ),
    Rule(
        "group-writable",
        _group_writable,
        "its group may write it, and so choose what it runs: chmod g-w",
    ),
    _WORLD_WRITABLE,
)
"""For a tenant's script."""

_LOOKUPS = {
    errno.EXDEV: (
        "outside",
        "the path, or a link in it, leads out of the root that the settings name; name a file "
        "below it, or list its directory too",
    ),
    errno.ELOOP: (
        "link",
        "a link in it belongs to somebody else than what it points to, or leads in a circle, or no "
        "link is followed here (symlinks); give both one owner (chown -h)",
    ),
}
"""Rules that are kept by how the file is opened (`beneath.py`): the error that says so, and what
is told of it."""


def judge(path: bytes, case: Case) -> None:
    """Raise SpawnFailed (403), which names the rule, for a file that breaks one of `RULES`."""
    _hold(path, RULES, case)


def judge_name(path: bytes, name: bytes) -> None:
    """Raise SpawnFailed (403), which names the rule, for what cannot be a tenant's script.

    `name` is its path below the root, `path` what to call it.
    """
    _hold(path, NAME_RULES, name)


def judge_tenant(
    path: bytes, root: bytes, above: Way, below: Way, file: os.stat_result, uid: int, gid: int
) -> None:
    """Raise SpawnFailed (403), which names the rule, for a tenant's file that breaks one.

    `path` is what to call the file, and `file` is what it is; `above` leads to the root of the
    tenant `uid`, `gid`, and `below` from there to the file.
    """
    top = below.passed[0].info

    def case(info: os.stat_result) -> Case:
        return Case(info, top, uid, gid)

    for place, info in above.passed:
        if not os.path.samestat(info, top):
            _hold(os.path.normpath(b"/" + place), ABOVE_RULES, case(info))
    _hold(path, TENANT_RULES, case(file))
    for place, info in below.passed:
        if not stat.S_ISREG(info.st_mode):  # the file itself
            _hold(_below(root, place), DIRECTORY_RULES, case(info))
    place, info = below.holder
    _hold(_below(root, place), HOLDER_RULES, case(info))


def _below(root: bytes, place: bytes) -> bytes:
    return root if place == b"." else os.path.join(root, place)


def _hold(path: bytes, rules: Iterable[Rule[T]], case: T) -> None:
    for rule in rules:
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
