"""Which scripts can be warm: run in a child of an interpreter that is ready, and not by exec.

Decides from the first bytes of a script's file, as the kernel would (execve(2): "#!", the path of
an interpreter, at most one argument, which is the whole rest of the line), with which interpreter
and flags a script is run, and whether a zygote (`guests/zygote.py`, `guests/zygote.pm`) can do the
same. What it cannot is said in words. Must not know processes.
"""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Language = Literal["python", "perl"]

_SHEBANG = re.compile(rb"#![ \t]*([^ \t\n]+)[ \t]*([^\n]*?)[ \t]*\n")
_PYTHON = re.compile(r"(?:python|pypy)(?:[23](?:\.[0-9]{1,2})?)?", re.ASCII)
_PERL = re.compile(r"perl(?:5(?:\.[0-9]{1,3}){0,2})?", re.ASCII)
_OPT_OUT = re.compile(rb"^[ \t]*#.*\bgateway:[ \t]*start[ \t]*=[ \t]*exec\b", re.MULTILINE)
_LOADS = re.compile(rb"^[ \t]*(?:use|require)[ \t]+([A-Za-z_][A-Za-z0-9_:]*)", re.MULTILINE)
_LIGHT = frozenset(
    b"strict warnings utf8 vars lib integer bytes constant feature open parent base subs v5".split()
)
"""What costs a Perl script next to nothing to load."""
_FLAGS: dict[Language, re.Pattern[str]] = {
    # Those that change nothing but how the interpreter is set up; never -c, -m, -i, -x, -e, -n.
    "python": re.compile(r"-(?:[BEIOPRSbdqsuv]+|W[ -~]{1,40}|X[ -~]{1,40})", re.ASCII),
    "perl": re.compile(r"-[wWXtTU]+(?:[ \t]+-[wWXtTU]+)*", re.ASCII),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a zygote is made of. Scripts with an equal one share it."""

    language: Language
    interpreter: str
    """Absolute path of the program."""
    flags: tuple[str, ...]
    """At most one, as the kernel passes it."""


class Cold(Exception):
    """This script is executed the old way; the text says why."""


def recipe(head: bytes, which: Callable[[str], str | None]) -> Recipe:
    """Return the recipe for a script whose file begins with `head`.

    `which` finds a program by its name in the script's PATH. Raises `Cold`.
    """
    match = _SHEBANG.match(head)
    if match is None:
        raise Cold("it has no #! line, so it is no script of Python or Perl")
    if _OPT_OUT.search(head):
        raise Cold('it asks for that: "gateway: start=exec" stands in its first lines')
    program, argument = os.fsdecode(match[1]), os.fsdecode(match[2])
    if os.path.basename(program) == "env":
        program, argument = _by_env(argument, which)
    language = _language(os.path.basename(program))
    if not os.path.isabs(program):
        raise Cold(f"its interpreter {program} is not an absolute path")
    if argument and _FLAGS[language].fullmatch(argument) is None:
        raise Cold(f"the flag {argument} of its interpreter is not known to be harmless")
    _check(program)
    return Recipe(language, program, (argument,) if argument else ())


def is_light(source: bytes) -> bool:
    """Whether a Perl script loads next to nothing, so that executing it is as quick as a fork.

    Perl itself starts in a millisecond, and a child of a zygote that has loaded modules takes them
    all down at its end: hello world took 2.4 ms warm and 1.3 ms executed.
    """
    return all(name in _LIGHT for name in _LOADS.findall(source))


def _by_env(argument: str, which: Callable[[str], str | None]) -> tuple[str, str]:
    """Return program and argument of "#!/usr/bin/env python3" or "env -S python3 -u"."""
    words = argument.split()
    if words[:1] == ["-S"]:
        words = words[1:]
    elif len(words) > 1:
        raise Cold(f'"env {argument}" looks for a program with a space in its name')
    if not 1 <= len(words) <= 2 or "=" in words[0] or words[0].startswith("-"):
        raise Cold(f'"env {argument}" does more than to find an interpreter')
    found = words[0] if "/" in words[0] else which(words[0])
    if found is None:
        raise Cold(f"{words[0]} is not in its PATH")
    return found, "".join(words[1:])


def _language(name: str) -> Language:
    if _PYTHON.fullmatch(name):
        return "python"
    if _PERL.fullmatch(name):
        return "perl"
    raise Cold(f"its interpreter {name} is neither Python nor Perl")


def _check(program: str) -> None:
    try:
        mode = os.stat(program).st_mode
    except OSError as error:
        raise Cold(f"its interpreter {program}: {error.strerror}") from None
    if mode & (stat.S_ISUID | stat.S_ISGID):
        raise Cold(f"its interpreter {program} is set-user-id")
