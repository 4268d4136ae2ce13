"""Accounts: who a process is to be, and which of them may be a tenant.

Decides from the system's own lists whether the owner of a directory may have programs run: the
rules, each with its name. Must not know which directory it was, nor what is run. For the master,
which asks as root: shadow(5) is read here because `spwd` is gone since Python 3.13 (PEP 594).
"""

import os
import pwd
import re
import time
from dataclasses import dataclass
from pathlib import Path

from gateway.process.identity import Rule

SHELLS = Path("/etc/shells")
SHADOW = Path("/etc/shadow")

NOBODY = 65534
"""Also what the kernel says where it cannot tell who owns a file: on some file servers, and of
users who are not in a user namespace (/proc/sys/kernel/overflowuid)."""

SHELLS_MAX = 64 << 10
"""Bytes of /etc/shells that are read."""
SHADOW_LINE_MAX = 4 << 10
"""Bytes of a line of /etc/shadow that are looked at."""
SHADOW_LINES_MAX = 1_000_000

_DAYS = re.compile(rb"[0-9]{1,9}")
_DAY = 86400


@dataclass(frozen=True, slots=True)
class Account:
    """Who a process is to be."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a rule may look at."""

    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    """Supplementary ones; with or without `gid`."""
    shell: str = "/bin/sh"
    shells: frozenset[str] = frozenset({"/bin/sh"})
    """Those that somebody may log in with."""
    expires: int | None = None
    """Days from 1970 to the day on which the account ends; None: it does not."""
    today: int = 0
    """Days from 1970."""
    min_uid: int = 1
    min_gid: int = 1
    login: bool = False
    """Whether shell and end count."""


class NotATenant(Exception):
    """Nothing may run as this account. `rule` is the name of the rule, `why` says what is wrong and
    the way out."""

    def __init__(self, rule: str, why: str) -> None:
        super().__init__(f'rule "{rule}": {why}')
        self.rule = rule
        self.why = why


UNKNOWN = "unknown-uid"
"""The rule of a number that no account has: it has no group either."""

ACCOUNT_RULES: tuple[Rule[Candidate], ...] = (
    Rule(
        "root",
        lambda who: who.uid == 0 or who.gid == 0 or 0 in who.groups,
        "root, and who is in its group, is never a tenant; give the directory to an account of its "
        "own (chown)",
    ),
    Rule(
        "nobody",
        lambda who: NOBODY in (who.uid, who.gid),
        f"{NOBODY} is what the system says of an owner that it cannot tell; give the directory to "
        "an account of its own (chown)",
    ),
    Rule(
        "min-uid",
        lambda who: who.uid < who.min_uid,
        "its number is below min_uid, so that it is an account of the system; give the directory "
        "to another one (chown)",
    ),
    Rule(
        "min-gid",
        lambda who: who.gid < who.min_gid,
        "the number of its group is below min_gid, so that it is a group of the system; give the "
        "account another one (usermod -g)",
    ),
    Rule(
        "no-shell",
        lambda who: who.login and who.shell not in who.shells,
        "it may not log in, because /etc/shells does not list its shell; give it another one "
        "(usermod -s), or set login = false",
    ),
    Rule(
        "expired",
        lambda who: who.login and who.expires is not None and who.today >= who.expires,
        "it has expired; give it another date (chage -E), or set login = false",
    ),
)
"""Tried in order; the first that is broken is told."""


def account(name: str) -> Account:
    """Look an account up. Raises KeyError if there is none."""
    return _account(pwd.getpwnam(name))


def our_account() -> Account:
    """The account that this process runs under, which may have no name (containers)."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Account(name, uid, os.getegid(), tuple(os.getgroups()))


def judge(who: Candidate) -> None:
    """Raise NotATenant for an account that breaks a rule."""
    for rule in ACCOUNT_RULES:
        if rule.broken(who):
            raise NotATenant(rule.name, rule.why)


def tenant_account(owner_uid: int, *, min_uid: int, min_gid: int, login: bool) -> Account:
    """Return the account of the owner of a tenant's directory.

    `login` is whether one that may not log in, or has expired, is refused. Asks the system's lists,
    which may be a directory server. Raises NotATenant.
    """
    try:
        entry = pwd.getpwuid(owner_uid)
    except KeyError:
        why = f"no account has the number {owner_uid}; give the directory to one that is (chown)"
        raise NotATenant(UNKNOWN, why) from None
    found = _account(entry)
    bounds = Candidate(
        uid=found.uid,
        gid=found.gid,
        groups=frozenset(found.groups),
        min_uid=min_uid,
        min_gid=min_gid,
    )
    judge(bounds)
    if login:
        judge(
            Candidate(
                uid=found.uid,
                gid=found.gid,
                shell=entry.pw_shell or "/bin/sh",  # passwd(5)
                shells=login_shells(),
                expires=_expiry(found.name),
                today=int(time.time()) // _DAY,
                login=True,
            )
        )
    return found


def login_shells(path: Path = SHELLS) -> frozenset[str]:
    """Return the shells that somebody may log in with (shells(5)); none if that cannot be read."""
    try:
        with open(path, "rb") as file:
            lines = os.fsdecode(file.read(SHELLS_MAX)).splitlines()
    except FileNotFoundError:
        return frozenset({"/bin/sh", "/bin/csh"})  # getusershell(3)
    except OSError:
        return frozenset()
    return frozenset(line.partition("#")[0].strip(" \t") for line in lines) - {""}


def expiry(name: str, path: Path = SHADOW) -> int | None:
    """Return the days from 1970 to the end of an account; None if none stands in shadow(5).

    0 is a day as well: it is what "chage -E 0" writes to end an account. Raises OSError if the file
    is there and cannot be read, ValueError if what stands there is no number of days.
    """
    start = os.fsencode(name) + b":"
    begins = True  # a line, and not the rest of one that is too long
    line = b""
    try:
        with open(path, "rb") as file:
            for _ in range(SHADOW_LINES_MAX):
                line = file.readline(SHADOW_LINE_MAX)
                if not line or (begins and line.startswith(start)):
                    break
                begins = line.endswith(b"\n")
            else:
                raise ValueError(f"{path} has more than {SHADOW_LINES_MAX} lines")
    except FileNotFoundError:
        return None
    if not line:
        return None
    fields = line.rstrip(b"\n").split(b":")
    if len(fields) != 9 or len(line) == SHADOW_LINE_MAX:
        raise ValueError(f"the line of {name} in {path} has not nine fields")
    if fields[7] in (b"", b"-1"):
        return None
    if _DAYS.fullmatch(fields[7]) is None:
        raise ValueError(f"the eighth field of {name} in {path} is no number of days")
    return int(fields[7])


def _expiry(name: str) -> int | None:
    try:
        return expiry(name)
    except (OSError, ValueError) as error:
        raise NotATenant("expired", f"whether it has expired cannot be told: {error}") from error


def _account(entry: pwd.struct_passwd) -> Account:
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups)
