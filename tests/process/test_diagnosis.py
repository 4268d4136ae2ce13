"""The sentence for each way in which a program fails: the cause by name."""

import errno
import signal
import stat

import pytest

from gateway.process import diagnosis
from gateway.process.diagnosis import exec_failure, exit_cause, file_kind, lookup_failure

FILE = stat.S_IFREG | 0o755


@pytest.mark.parametrize(
    ("error", "head", "status", "words"),
    [
        (errno.ENOENT, b"#!/usr/bin/perl\r\nprint", 500, "CRLF"),
        (errno.ENOENT, b"#!/usr/bin/perl -w\r\n", 500, "CRLF"),
        (errno.ENOENT, b"#! /opt/perl -w\n", 500, '"/opt/perl"'),
        (errno.ENOENT, b"#!/opt/\xffperl\n", 500, "\\xff"),
        (errno.ENOENT, b"\x7fELF\x02", 500, "dynamic loader"),
        (errno.ENOENT, b"", 404, "gone"),
        (errno.ENOTDIR, b"#!/etc/passwd/perl\n", 500, "/etc/passwd/perl"),
        (errno.ENOEXEC, b"", 500, "empty file"),
        (errno.ENOEXEC, b"\xef\xbb\xbf#!/bin/sh\n", 500, "byte order mark"),
        (errno.ENOEXEC, b"\xff\xfe#\0!\0", 500, "UTF-16"),
        (errno.ENOEXEC, b"\x7fELF\x02\x01", 500, "another processor"),
        (errno.ENOEXEC, b"#!\n", 500, "names no interpreter"),
        (errno.ENOEXEC, b"#!   ", 500, "names no interpreter"),
        (errno.ENOEXEC, b" #!/bin/sh\n", 500, "very start"),
        (errno.ENOEXEC, b"print 1\n", 500, "no #! line"),
        (errno.EACCES, b"#!/root/perl\n", 403, '"/root/perl"'),
        (errno.EACCES, b"\x7fELF", 403, "may not be executed"),
        (errno.ELOOP, b"#!/a\n", 500, "interpreter is a script"),
        (errno.E2BIG, b"#!/bin/sh\n", 500, "headers"),
        (errno.ETXTBSY, b"\x7fELF", 503, "being written"),
        (errno.EAGAIN, b"#!/bin/sh\n", 503, "may not have more processes"),
        (errno.ENOMEM, b"#!/bin/sh\n", 503, "memory"),
        (errno.EMFILE, b"", 503, "open files"),
        (errno.EPERM, b"", 403, "permit"),
        (errno.EDOM, b"", 500, "Numerical argument"),
    ],
)
def test_exec_failure(error: int, head: bytes, status: int, words: str) -> None:
    said = exec_failure(error, FILE, head)
    assert said.status == status
    assert words in said.why
    assert said.why.isprintable()


def test_noexec_mount_and_lost_executable_bit() -> None:
    assert "noexec" in exec_failure(errno.EACCES, FILE, b"#!/bin/sh", noexec=True).why
    said = exec_failure(errno.EACCES, stat.S_IFREG | 0o644, b"#!/bin/sh")
    assert "chmod +x" in said.why


def test_interpreter_of_the_table_is_blamed_not_the_script() -> None:
    said = exec_failure(errno.ENOENT, FILE, b"print 1", interpreter=True)
    assert "interpreter set for its extension" in said.why
    assert exec_failure(errno.EAGAIN, FILE, b"", interpreter=True).status == 503


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errno.ENOENT, 404),
        (errno.ENOTDIR, 404),
        (errno.ENAMETOOLONG, 404),
        (errno.EINVAL, 404),
        (errno.EACCES, 403),
        (errno.ELOOP, 403),
        (errno.EXDEV, 403),
        (errno.EMFILE, 503),
    ],
)
def test_lookup_failure(error: int, status: int) -> None:
    assert lookup_failure(error).status == status


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (stat.S_IFDIR | 0o755, "directory"),
        (stat.S_IFIFO | 0o755, "regular"),
        (stat.S_IFREG | stat.S_ISUID | 0o755, "set-user-id"),
        (stat.S_IFREG | stat.S_ISGID | 0o755, "set-group-id"),
    ],
)
def test_kind_of_file(mode: int, words: str) -> None:
    said = file_kind(mode)
    assert said is not None
    assert words in said.why
    assert file_kind(FILE) is None


@pytest.mark.parametrize(
    ("status", "stderr", "words"),
    [
        (1, b"Traceback (most recent call last):\n  x\nModuleNotFoundError: No module named 'cgi'",
         "legacy-cgi"),
        (1, b"ImportError: No module named cgitb\n", "legacy-cgi"),
        (1, b"ModuleNotFoundError: No module named 'telnetlib'", "removed the module telnetlib"),
        (1, b"ModuleNotFoundError: No module named 'flask.app'", "flask.app is not installed"),
        (127, b"/usr/bin/env: 'python3\\r': No such file or directory\n", "CRLF"),
        (127, "/usr/bin/env: ‘python3\\r’: No such file or directory\n".encode(), "CRLF"),
        (127, b"/usr/bin/env: 'python': No such file or directory\n", '"python"'),
        (127, "env: ‘python’: No such file or directory\n".encode(), '"python"'),
        (127, b"env: can't execute 'python': No such file or directory\n", "127"),
        (2, b"Can't locate CGI/Session.pm in @INC (you may need to", "CGI::Session is not"),
        (1, b"SyntaxError: Missing parentheses in call to 'print'. Did you", "Python 2"),
        (1, b"Traceback (most recent call last):\n  File\nValueError: bad thing\n",
         "ValueError: bad thing"),
        (1, b'  File "x.py", line 1\n    (\nSyntaxError: \'(\' was never closed\n', "compiled: S"),
        (1, b'  File "x.py", line 2\nIndentationError: unexpected indent\n', "compiled: Indent"),
        (1, b"Traceback (most recent call last):\nSyntaxError: in a module\n", "failed with Synt"),
        (255, b'syntax error at x.pl line 3, near "+;"\nExecution of x.pl aborted', "line 3, near"),
        (2, b"/x.sh: 3: Syntax error: end of file unexpected\n", "compiled: /x.sh: 3: Syn"),
        (2, b"x.sh: line 2: syntax error near unexpected token `('\n", "unexpected token"),
        (2, b"Unknown option: -Z\nusage: python3 [option] ...\n", "flag of the #! line: Unknown"),
        (29, b"Unrecognized switch: -Z  (-h will show valid options).\n", "flag of the #! line"),
        (2, b"/bin/sh: 0: Illegal option -Z\n", "flag of the #! line: /bin/sh: 0: Illegal"),
        (2, b"/bin/bash: -Z: invalid option\n", "flag of the #! line"),
        (1, b"MemoryError\n", "memory"),
        (1, b"RuntimeError: can't start new thread\n", "limit of processes"),
        (1, b"tee: x: No space left on device\n", "disk is full"),
        (1, b"OSError: [Errno 27] File too large\n", "limit of file size"),
        (1, b"OSError: [Errno 24] Too many open files: 'x'\n", "limit of open files"),
        (127, b"foo: not found\n", "127"),
        (126, b"", "126"),
        (-signal.SIGKILL, b"", "memory limit"),
        (-signal.SIGXCPU, b"", "processor time"),
        (-signal.SIGSEGV, b"", "segmentation"),
        (-40, b"", "signal 40"),
    ],
)  # fmt: skip
def test_cause_of_an_exit(status: int, stderr: bytes, words: str) -> None:
    assert words in exit_cause(status, stderr)


def test_ordinary_exit_has_no_cause() -> None:
    assert exit_cause(0, b"") == ""
    assert exit_cause(1, b"warning: something\n") == ""


def test_last_line_is_the_last_that_is_not_empty() -> None:
    assert diagnosis.last_line(b"one\n two \n\n") == b"two"
    assert diagnosis.last_line(b"") == b""
