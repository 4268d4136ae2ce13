"""Say why a program did not start or did not do its work: the cause by name, and the way out.

Decides the one sentence (and the HTTP status) for what can be known from an error number, a file's
mode and first bytes, an exit status and the last lines of stderr. Pure: whoever asks has read
those. Must not know requests, pools or logs. The cases are those of the tables that hosting
providers keep for "Premature end of script headers".
"""

import errno
import os
import re
import signal
import stat
from dataclasses import dataclass

HEAD = 256
"""How many of a file's first bytes `exec_failure` wants. Linux reads as many (BINPRM_BUF_SIZE)."""

_NAME_MAX = 200


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`why` is one sentence for the log and the developer; `status` answers the request."""

    why: str
    status: int


_EXECUTABLE = "make it executable (chmod +x), or name an interpreter for its extension"

_EXHAUSTED = {
    errno.EAGAIN: "the user may not have more processes (RLIMIT_NPROC or the cgroup's pids.max)",
    errno.ENOMEM: "there is not enough memory to start a process",
    errno.EMFILE: "the keeper has too many open files (RLIMIT_NOFILE)",
    errno.ENFILE: "the system has too many open files",
}

_OTHER = {
    errno.E2BIG: Diagnosis(
        "its arguments and environment are larger than the system takes (E2BIG): "
        "the request's headers or the site's environment settings are too large",
        500,
    ),
    errno.ETXTBSY: Diagnosis(
        "it is being written at this moment (text file busy): "
        "write to a new file and rename it over the old one",
        503,
    ),
    errno.ELOOP: Diagnosis(
        "a symbolic link on its path is not followed: the site's symlink policy forbids it, "
        "or the links go round in a circle",
        403,
    ),
    errno.EXDEV: Diagnosis("its path leads out of the script directory", 403),
    errno.ENAMETOOLONG: Diagnosis("its path is too long for the system", 404),
    errno.ENOTDIR: Diagnosis("a part of its path is not a directory", 404),
    errno.EINVAL: Diagnosis("its path holds a NUL byte", 404),
    errno.EPERM: Diagnosis("the system does not permit to execute it", 403),
    errno.EIO: Diagnosis("reading it failed (input/output error): look at the disk", 500),
    errno.ELIBBAD: Diagnosis("its dynamic loader is broken", 500),
    errno.ENODEV: Diagnosis("the device it is on is gone", 500),
}


def lookup_failure(error: int) -> Diagnosis:
    """Say why a script's file could not be opened, from the number that open(2) gave."""
    if error == errno.ENOENT:
        return Diagnosis("there is no such file", 404)
    if error == errno.EACCES:
        return Diagnosis(
            "its directory may not be searched by the user that scripts run as: "
            "look at the modes of the directories above it",
            403,
        )
    return _general(error)


def file_kind(mode: int) -> Diagnosis | None:
    """Say what is wrong with a file as a script, from its mode; None if nothing is."""
    if stat.S_ISDIR(mode):
        return Diagnosis("it is a directory", 404)
    if not stat.S_ISREG(mode):
        return Diagnosis("it is not a regular file", 403)
    if mode & (stat.S_ISUID | stat.S_ISGID):
        return Diagnosis(
            "it is set-user-id or set-group-id, which is never started: chmod ug-s", 403
        )
    return None


def not_executable(head: bytes) -> Diagnosis:
    """Say what to do about a file without an executable bit."""
    if not head:
        return Diagnosis("it is an empty file, and not executable", 403)
    return Diagnosis(f"it is not executable: {_EXECUTABLE}", 403)


def exec_failure(
    error: int, mode: int, head: bytes, *, noexec: bool = False, interpreter: bool = False
) -> Diagnosis:
    """Say why exec of a file that exists failed.

    `head` is the first `HEAD` bytes of the file; `noexec` whether its file system is mounted so;
    `interpreter` whether a program from the interpreters table was to read it.
    """
    if interpreter:
        if error in _EXHAUSTED or error == errno.E2BIG:
            return _general(error)
        reason = os.strerror(error)
        return Diagnosis(f"the interpreter set for its extension does not start: {reason}", 500)
    if error == errno.ENOENT:
        return _missing_interpreter(head)
    if error == errno.ENOEXEC:
        return _no_format(head)
    if error == errno.EACCES:
        return _denied(mode, head, noexec)
    if error == errno.ENOTDIR and head.startswith(b"#!"):
        return _missing_interpreter(head)
    if error == errno.ELOOP and head.startswith(b"#!"):
        return Diagnosis("its interpreter is a script whose interpreter is a script, and on", 500)
    return _general(error)


def _general(error: int) -> Diagnosis:
    if error in _EXHAUSTED:
        return Diagnosis(f"{_EXHAUSTED[error]}: {os.strerror(error)}", 503)
    if error in _OTHER:
        return _OTHER[error]
    return Diagnosis(f"the system says: {os.strerror(error)}", 500)


def shebang(head: bytes) -> tuple[bytes, bytes] | None:
    """Return the interpreter that the first line names and its argument; None without #!.

    As the kernel reads it (execve(2)): split at blanks and tabs, so the CR of a CRLF stays.
    """
    if not head.startswith(b"#!"):
        return None
    line = head[2:].split(b"\n", 1)[0].strip(b" \t").replace(b"\t", b" ")
    name, _, argument = line.partition(b" ")
    return name, argument.strip(b" ")


def _interpreter(head: bytes) -> bytes | None:
    """Return the interpreter that the first line names, b"" if it names none, None without #!."""
    found = shebang(head)
    return found and found[0].rstrip(b"\r")


def _shown(name: bytes) -> str:
    return name[:_NAME_MAX].decode("utf-8", "backslashreplace")


def _missing_interpreter(head: bytes) -> Diagnosis:
    line = head.split(b"\n", 1)[0]
    name = _interpreter(head)
    if name is not None and line.endswith(b"\r"):
        return Diagnosis(
            "its lines end in CRLF, so the system looks for an interpreter named "
            f'"{_shown(name)}\\r": save it with Unix line ends (dos2unix)',
            500,
        )
    if name:
        return Diagnosis(
            f'the interpreter "{_shown(name)}" that its first line names does not exist: '
            "correct the #! line, or install it",
            500,
        )
    if head.startswith(b"\x7fELF"):
        return Diagnosis(
            "its dynamic loader does not exist: it was built for another system or C library",
            500,
        )
    return Diagnosis("it was there a moment ago and is gone", 404)


def _no_format(head: bytes) -> Diagnosis:
    if not head:
        return Diagnosis("it is an empty file: was its upload cut off?", 500)
    if head.startswith(b"\xef\xbb\xbf"):
        return Diagnosis(
            "it begins with a byte order mark, so the system does not see its #! line: "
            "save it as UTF-8 without BOM",
            500,
        )
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Diagnosis("it is saved as UTF-16: save it as plain text or UTF-8", 500)
    if head.startswith(b"\x7fELF"):
        return Diagnosis("it was built for another processor: build it on this machine", 500)
    if head.startswith(b"#!"):
        return Diagnosis("its #! line names no interpreter: write for example #!/bin/sh", 500)
    if head.lstrip().startswith(b"#!"):
        return Diagnosis("its #! is not at the very start of the file: remove what is before", 500)
    return Diagnosis(
        "it has no #! line, so the system does not know what runs it: "
        "begin it with for example #!/usr/bin/perl",
        500,
    )


def _denied(mode: int, head: bytes, noexec: bool) -> Diagnosis:
    if noexec:
        return Diagnosis("it is on a file system that is mounted noexec", 500)
    if not mode & 0o111:
        return not_executable(head)
    name = _interpreter(head)
    if name:
        return Diagnosis(
            f'it, or the interpreter "{_shown(name)}" that its first line names, '
            "may not be executed by the user that scripts run as",
            403,
        )
    return Diagnosis(f"it may not be executed by the user that scripts run as: {_EXECUTABLE}", 403)


_SIGNALS: dict[int, str] = {
    signal.SIGKILL: "killed (signal 9): by a memory limit, or by hand",
    signal.SIGXCPU: "killed by its limit of processor time",
    signal.SIGXFSZ: "killed by its limit of file size",
    signal.SIGSEGV: "crashed (segmentation fault)",
    signal.SIGBUS: "crashed (bus error): is a disk full, or a mapped file cut short?",
    signal.SIGILL: "crashed (illegal instruction): was it built for another processor?",
    signal.SIGFPE: "crashed (arithmetic error)",
    signal.SIGABRT: "gave up (abort)",
    signal.SIGSYS: "killed for a system call that is forbidden to it",
    signal.SIGPIPE: "ended by a broken pipe: something it wrote to was closed",
    signal.SIGTERM: "ended by SIGTERM",
}

_REMOVED = "cgi cgitb crypt imghdr mailcap msilib nis nntplib pipes sndhdr spwd telnetlib uu xdrlib"

_MODULE = re.compile(rb"No module named '?([\w.]+)'?")
_QUOTE = rb"(?:'|\xe2\x80[\x98\x99])?"  # env quotes with its locale's marks
_ENV_CRLF = re.compile(rb"env: " + _QUOTE + rb"([^\s'\\]+)(?:\\r|\r)")
_ENV = re.compile(
    rb"env: " + _QUOTE + rb"([^\s':\xe2]+)" + _QUOTE + rb": No such file or directory"
)
_SYNTAX = re.compile(
    rb"^(?:(?:Syntax|Indentation|Tab)Error: .*"  # Python
    rb"|syntax error at .* line [0-9]+, .*|Global symbol .* requires explicit .*"  # Perl
    rb"|.*: (?:line )?[0-9]+: (?:S|s)yntax error.*)$",  # dash, bash
    re.MULTILINE,
)
_FLAG = re.compile(
    rb"^(?:Unknown option: -.*|Unrecognized switch: -.*"  # Python, Perl
    rb"|.*: 0: Illegal option -.*|(?:/[^ ]*/)?bash: -.*: invalid option)$",  # dash, bash
    re.MULTILINE,
)
_PERL_MODULE = re.compile(rb"Can't locate (\S+) in @INC")


def exit_cause(status: int, stderr: bytes) -> str:
    """Say why a program ended as it did, or "" where there is nothing to say.

    `status` is 0-255 or minus a signal; `stderr` the last lines that it wrote. Ask only about a
    program that did not do its work: some of these words are harmless in one that did.
    """
    known = _from_stderr(stderr)
    if known:
        return known
    if status < 0:
        return _SIGNALS.get(-status) or f"killed by signal {-status}"
    last = last_line(stderr)
    if b"Traceback (most recent call last)" in stderr and last:
        return f"it failed with {_shown(last)}"
    if status == 127:
        return "a command that it, or its #! line, names was not found (exit status 127)"
    if status == 126:
        return "a command that it names could not be executed (exit status 126)"
    return ""


def worker_cause(status: int, stderr: bytes, blame: str = "") -> str:
    """Say in one sentence how a worker ended: the cause, its status and its last line.

    `blame` is the cause where it is known to be a limit.
    """
    how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    cause = blame or exit_cause(status, stderr)
    last = _shown(last_line(stderr))
    said = cause or (f"its last line was: {last}" if last else "it wrote nothing to stderr")
    return f"its worker ended ({how}): {said}"


def last_line(stderr: bytes) -> bytes:
    """Return the last line that is not empty."""
    stripped = stderr.rstrip()
    return stripped[stripped.rfind(b"\n") + 1 :].strip()


def _from_stderr(stderr: bytes) -> str:
    found = _MODULE.search(stderr)
    if found:
        name = _shown(found[1])
        if name in ("cgi", "cgitb"):
            return (
                f"Python 3.13 removed the module {name}: "
                "install legacy-cgi (pip install legacy-cgi) for the interpreter that runs it"
            )
        if name in _REMOVED.split():
            return f"Python 3.13 removed the module {name}: use an older Python, or port the script"
        return f"the Python module {name} is not installed for the interpreter that runs it"
    found = _ENV_CRLF.search(stderr)
    if found:
        return (
            "its lines end in CRLF, so env looks for a program named "
            f'"{_shown(found[1])}\\r": save it with Unix line ends (dos2unix)'
        )
    found = _ENV.search(stderr)
    if found:
        return (
            f'the program "{_shown(found[1])}" that its #! line asks env for is not in PATH: '
            "correct the line, or install it"
        )
    found = _PERL_MODULE.search(stderr)
    if found:
        module = _shown(found[1]).removesuffix(".pm").replace("/", "::")
        return f"the Perl module {module} is not installed"
    if b"Missing parentheses in call to 'print'" in stderr:
        return "it is written for Python 2, and Python 3 runs it"
    found = _SYNTAX.search(stderr)
    if found and b"Traceback" not in stderr:  # else it is a module's, or what eval was given
        return f"it cannot be compiled: {_shown(found[0])}"
    found = _FLAG.search(stderr)
    if found:
        return f"its interpreter does not know a flag of the #! line: {_shown(found[0])}"
    if b"MemoryError" in stderr or b"Out of memory!" in stderr:
        return "it ran out of memory: raise its memory limit, or let it use less"
    if b"can't start new thread" in stderr or b"fork: retry: " in stderr:
        return "it may not start more processes or threads: its limit of processes is reached"
    if b"File too large" in stderr:
        return "it wrote a file that is larger than its limit of file size (RLIMIT_FSIZE)"
    if b"Too many open files" in stderr:
        return "it has as many files open as it may: its limit of open files (RLIMIT_NOFILE)"
    if b"No space left on device" in stderr:
        return "the disk is full (No space left on device)"
    return ""
