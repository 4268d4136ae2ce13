"""Look a script over, from its directories to its first bytes, without running it.

Decides the checks, their order, and which of them fail. A check names the cause in the words of
`diagnosis.py` and the way out. Must be asked by a process that already is the user the script runs
as: what may be searched, read and executed is asked of the kernel, not computed. Must not know
settings, URLs, how a script is run (`trial.py`, `verdict.py`), or how a check is printed.
"""

import errno
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from typing import Literal, NamedTuple

from gateway.process import diagnosis
from gateway.process.beneath import LINKS_MAX
from gateway.process.examine import Found, Root, head
from gateway.process.spec import SpawnFailed

Level = Literal["ok", "warn", "FAIL"]

_CRLF = "its lines end in CRLF: save it with Unix line ends (dos2unix)"
_ELF = b"\x7fELF"
_MACHINE = slice(18, 20)
"""Where an ELF file says for which processor it is (elf(5), e_machine)."""


class Check(NamedTuple):
    """One line of a report."""

    level: Level
    name: str
    """What was looked at, in one or two words."""
    text: str
    more: tuple[bytes, ...] = ()
    """Lines to be shown below: what the script itself said."""


def look(root: Root, script: bytes, user: str) -> tuple[list[Check], Found | None]:
    """Check `script`, a path below `root`, for `user`, who we are.

    Returns the checks in order, and what to start; None: it cannot be started.
    """
    path = root.spec.root.rstrip(b"/") + b"/" + script
    checks = list(_directories(path, user))
    if not _failed(checks):
        checks += _file(path)
    if _failed(checks):
        return checks, None
    state = os.stat(path)
    checks += _mode(path, state, root, user)
    checks += _contents(path, state, root)
    try:
        found = root.examine(script)
    except SpawnFailed as failed:
        why = without_path(without_path(failed.why, script), path)
        if all(check.text != why for check in checks):
            checks.append(Check("FAIL", "rules", why))
        return checks, None
    return checks, found


def without_path(why: str, path: bytes) -> str:
    """Return why something failed without the path that it is about at its start."""
    return why.removeprefix(f"{_text(path)}: ")


def _failed(checks: list[Check]) -> bool:
    return any(check.level == "FAIL" for check in checks)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _rights(state: os.stat_result) -> str:
    return f"{stat.S_IMODE(state.st_mode):04o}, owner {_account(state.st_uid)}"


# Its file


def _above(path: bytes) -> list[bytes]:
    """Return the directories above a path, from "/" down, as it is written and as it really is."""
    found: list[bytes] = []
    for way in (path, os.path.realpath(path)):
        names = way.split(b"/")[1:-1]
        chain = [b"/", *(b"/" + b"/".join(names[: n + 1]) for n in range(len(names)))]
        found += [directory for directory in chain if directory not in found]
    return found


def _directories(path: bytes, user: str) -> Iterator[Check]:
    above = _above(path)
    for directory in above:
        try:
            state = os.stat(directory)
        except OSError as error:
            why = diagnosis.lookup_failure(error.errno or 0).why
            if error.errno == errno.ENOENT:
                why = "there is no such directory"
            yield Check("FAIL", "directories", f"{_text(directory)}: {why}")
            return
        if not stat.S_ISDIR(state.st_mode):
            yield Check("FAIL", "directories", f"{_text(directory)} is not a directory")
            return
        if not os.access(directory, os.X_OK):
            why = f"{_text(directory)} may not be searched by {user} ({_rights(state)})"
            way = "let others search it (chmod o+x), or move the script"
            yield Check("FAIL", "directories", f"{why}: {way}")
            return
        if _open_to_all(state):
            why = "everybody may write it, and so replace what is in it: chmod o-w"
            yield Check("warn", "directories", f"{_text(directory)}: {why}")
    yield Check("ok", "directories", f"the {len(above)} above it may be searched by {user}")


def _open_to_all(state: os.stat_result) -> bool:
    """Whether everybody may replace what is in a directory, or write a file."""
    sticky = stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX
    return bool(state.st_mode & stat.S_IWOTH) and not sticky


def _file(path: bytes) -> Iterator[Check]:
    try:
        state = os.stat(path)
    except OSError as error:
        why = diagnosis.lookup_failure(error.errno or 0).why
        if os.path.islink(path):
            why = f"it is a symbolic link to {_text(os.readlink(path))}, where nothing is"
        yield Check("FAIL", "file", why)
        return
    wrong = diagnosis.file_kind(state.st_mode)
    if wrong is not None:
        yield Check("FAIL", "file", wrong.why)
        return
    link = f", by a link to {_text(os.path.realpath(path))}" if os.path.islink(path) else ""
    yield Check("ok", "file", f"{state.st_size} bytes{link}")


def _mode(path: bytes, state: os.stat_result, root: Root, user: str) -> Iterator[Check]:
    if _open_to_all(state):
        yield Check("warn", "mode", "everybody may write it, and so choose what it runs: chmod o-w")
    elif state.st_mode & stat.S_IWGRP:
        yield Check("warn", "mode", f"its group ({state.st_gid}) may write it: chmod g-w")
    interpreter = root.spec.interpreters.get(os.path.splitext(path)[1])
    executable = bool(state.st_mode & 0o111)
    rights = _rights(state)
    if not executable and interpreter is None:
        said = diagnosis.not_executable(head(path) or b"?" * bool(state.st_size))
        yield Check("FAIL", "mode", said.why)
    elif executable and os.statvfs(path).f_flag & os.ST_NOEXEC:
        said = diagnosis.exec_failure(errno.EACCES, state.st_mode, b"", noexec=True)
        yield Check("FAIL", "mode", said.why)
    elif executable and not os.access(path, os.X_OK):
        yield Check("FAIL", "mode", f"{rights}: may not be executed by {user}: chmod a+rx it")
    elif not os.access(path, os.R_OK) and head(path)[:4] != _ELF:
        why = "its interpreter reads it with the rights of that user: chmod a+r it"
        yield Check("FAIL", "mode", f"{rights}: may not be read by {user}; {why}")
    else:
        yield Check("ok", "mode", rights)


# What is in it


def _contents(path: bytes, state: os.stat_result, root: Root) -> Iterator[Check]:
    first = head(path)
    if not state.st_mode & 0o111:
        interpreter = root.spec.interpreters.get(os.path.splitext(path)[1])
        if interpreter is not None:
            yield _set_interpreter(interpreter)
            return
    if not first and state.st_size:
        return  # it may not be read: that was told
    if first[:4] == _ELF:
        with open("/proc/self/exe", "rb") as ours:
            same = ours.read(20)[_MACHINE] == first[_MACHINE]
        other = diagnosis.exec_failure(errno.ENOEXEC, state.st_mode, first).why
        yield (
            Check("ok", "contents", "a program (ELF)") if same else Check("warn", "contents", other)
        )
        return
    found = diagnosis.shebang(first)
    if found is None or not found[0]:
        why = diagnosis.exec_failure(errno.ENOEXEC, state.st_mode, first).why
        yield Check("FAIL", "first line", why)
        return
    yield from _interpreter(*found, first, state, os.path.dirname(path), root)


def _set_interpreter(interpreter: bytes) -> Check:
    text = f"{_text(interpreter)}, which the settings name for its extension"
    if os.access(interpreter, os.X_OK):
        return Check("ok", "interpreter", text)
    return Check("FAIL", "interpreter", f"{text}, cannot be executed: install it, or correct them")


def _interpreter(
    name: bytes, argument: bytes, first: bytes, state: os.stat_result, directory: bytes, root: Root
) -> Iterator[Check]:
    """Check what a #! line names, as the kernel and env(1) will look for it."""
    if b"\n" not in first and len(first) == diagnosis.HEAD:
        why = f"it is longer than {diagnosis.HEAD} bytes, which is all that the system reads of it"
        yield Check("warn", "first line", why)
    number = 0
    try:
        os.stat(os.path.join(directory, name))
        if not os.access(os.path.join(directory, name), os.X_OK):
            number = errno.EACCES
    except OSError as error:
        number = error.errno or 0
    line = first.split(b"\n", 1)[0]
    shown = _text(line.rstrip(b"\r"))
    if number:
        why = diagnosis.exec_failure(number, state.st_mode, first).why
        yield Check("FAIL", "first line", why)
    elif not name.startswith(b"/"):
        why = f"{shown}: its interpreter is looked for in the script's directory: write the path"
        yield Check("warn", "first line", why)
    elif os.path.basename(name) == b"env":
        yield _env(argument, shown, root)
    elif line.endswith(b"\r"):
        yield Check("warn", "first line", _CRLF)
    else:
        yield Check("ok", "first line", shown)


def _env(argument: bytes, shown: str, root: Root) -> Check:
    """Check "#!/usr/bin/env PROGRAM"."""
    split, words = _words(argument)
    if argument.endswith(b"\r"):
        return Check("FAIL", "first line", f"{shown}: {_CRLF}")
    if not words:
        return Check("FAIL", "first line", f"{shown} names no program: write {shown} python3")
    program = words[0]
    if len(words) > 1 and not split and not program.startswith(b"-"):
        whole = _text(argument)
        return Check(
            "FAIL",
            "first line",
            f'env looks for one program named "{whole}": write #!/usr/bin/env -S {whole}',
        )
    if program.startswith(b"-"):
        return Check("ok", "first line", shown)  # what its options do, running it tells
    path = os.fsdecode(root.path)
    there = shutil.which(os.fsdecode(program), path=path)
    if there is None:
        return Check(
            "FAIL",
            "first line",
            f'the program "{_text(program)}" that it asks env for is not in PATH ({path}): '
            "correct the line, or install it",
        )
    return Check("ok", "first line", f"{shown}, which is {there}")


def _words(argument: bytes) -> tuple[bool, list[bytes]]:
    """Return whether env(1) is to split its argument, and the program with its own arguments."""
    split = argument.startswith(b"-S")
    words = (argument[2:] if split else argument).split(b" ")
    return split, [word for word in words if word and not (split and b"=" in word)]


def other_path(first: bytes, here: bytes, there: bytes) -> Check | None:
    """Say what changes for "#!/usr/bin/env PROGRAM" with PATH `there` instead of `here`."""
    named = diagnosis.shebang(first)
    if named is None or os.path.basename(named[0]) != b"env" or not _words(named[1])[1]:
        return None
    program = os.fsdecode(_words(named[1])[1][0])
    ours, other = (shutil.which(program, path=os.fsdecode(path)) for path in (here, there))
    if ours is None or ours == other:
        return None
    found = f"finds {other}" if other else f"finds no {program}"
    text = f"with the PATH of a daemon ({_text(there)}) env {found}: set PATH in the environment of"
    return Check("warn", "first line", f"{text} its site, or write #!{ours}")


def interpreter_of(found: Found, root: Root) -> bytes:
    """Return the program that reads a script, as far as it is known before it runs; else b""."""
    if found.recipe is not None:
        return os.fsencode(found.recipe.interpreter)
    if len(found.argv) > 1:
        return found.argv[0]
    named = diagnosis.shebang(head(found.path))
    if named is None:
        return b""
    words = _words(named[1])[1]
    if os.path.basename(named[0]) == b"env" and words:
        there = shutil.which(os.fsdecode(words[0]), path=os.fsdecode(root.path))
        return os.fsencode(there or "")
    return os.path.join(found.directory, named[0])


def warmth(found: Found, root: Root) -> Check:
    """Say whether a script can be warm, and if not, why."""
    if found.recipe is not None:
        language = found.recipe.language.capitalize()
        return Check("ok", "warm", f"yes: a new process of a {language} that is ready")
    level: Level = "warn" if root.spec.start == "warm" else "ok"
    return Check(level, "warm", f"no, a new program for each request: {found.cold}")


def not_for_root(found: Found, root: Root) -> str:
    """Return why root must not run a script: somebody else decides what is run; "" if nobody."""
    for path in filter(None, (found.path, interpreter_of(found, root))):
        for each in _way(path):
            try:
                state = os.lstat(each)
            except OSError:
                continue  # what is not there is not run
            if state.st_uid != 0:
                return f"{_text(each)} belongs to {_account(state.st_uid)}"
            if _open_to_all(state) and not stat.S_ISLNK(state.st_mode):
                return f"everybody may write {_text(each)}"
    return ""


def _way(path: bytes) -> list[bytes]:
    """Return each directory, link and file that the system comes by on an absolute path."""
    found = [b"/"]
    at, links = b"", 0
    todo = path.split(b"/")[::-1]
    while todo:
        name = todo.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            at = at[: max(0, at.rfind(b"/"))]
            continue
        at = at + b"/" + name
        found.append(at)
        if links < LINKS_MAX and os.path.islink(at):
            links += 1
            target = os.readlink(at)
            at = b"" if target.startswith(b"/") else at[: at.rfind(b"/")]
            todo += target.split(b"/")[::-1]
    return found
