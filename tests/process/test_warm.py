"""Which scripts a zygote can run, told by the first bytes of their files."""

import sys
from pathlib import Path

import pytest

from gateway.process.warm import Cold, Recipe, is_light, recipe

PYTHON = sys.executable


def which(name: str) -> str | None:
    return {"python3": PYTHON, "perl": "/usr/bin/perl"}.get(name)


@pytest.fixture
def interpreters(tmp_path: Path) -> Path:
    """A directory with files that are called like interpreters."""
    for name in ("python", "python2.7", "python3", "python3.12", "perl", "perl5.36.0", "ruby"):
        (tmp_path / name).write_bytes(b"")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "suid").mkdir()
    (tmp_path / "suid" / "perl").write_bytes(b"")
    (tmp_path / "suid" / "perl").chmod(0o4755)
    return tmp_path


@pytest.mark.parametrize("name", ["python", "python2.7", "python3", "python3.12"])
@pytest.mark.parametrize("flag", ["", "-u", "-I", "-sB", "-W error", "-Xutf8"])
def test_python_is_warm_with_flags_that_only_set_it_up(
    interpreters: Path, name: str, flag: str
) -> None:
    program = f"{interpreters}/{name}"
    found = recipe(f"#!{program} {flag}\nprint()\n".encode(), which)
    assert found == Recipe("python", program, (flag,) if flag else ())


@pytest.mark.parametrize("name", ["perl", "perl5.36.0"])
@pytest.mark.parametrize("flag", ["", "-w", "-T", "-wT", "-w -T"])
def test_perl_is_warm_with_flags_that_only_set_it_up(
    interpreters: Path, name: str, flag: str
) -> None:
    program = f"{interpreters}/{name}"
    found = recipe(f"#! {program}\t{flag}\n".encode(), which)
    assert found == Recipe("perl", program, (flag,) if flag else ())


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("#!/usr/bin/env python3", ()),
        ("#!/bin/env -S python3 -u", ("-u",)),
        (f"#!/usr/bin/env {PYTHON}", ()),
    ],
)
def test_env_finds_the_interpreter_in_the_scripts_path(line: str, flags: tuple[str, ...]) -> None:
    assert recipe(line.encode() + b"\n", which) == Recipe("python", PYTHON, flags)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "no #! line"),
        ("\x7fELF", "no #! line"),
        (" #!/usr/bin/python3", "no #! line"),
        ("#!/bin/sh", "sh is neither Python nor Perl"),
        ("#!{dir}/ruby", "neither Python nor Perl"),
        ("#!{dir}/python3 -c pass", "is not known to be harmless"),
        ("#!{dir}/python3 -i", "is not known to be harmless"),
        ("#!{dir}/python3 -u -B", "is not known to be harmless"),
        ("#!{dir}/python3\r", "neither Python nor Perl"),
        ("#!{dir}/perl -n", "is not known to be harmless"),
        ("#!{dir}/perl -I/x", "is not known to be harmless"),
        ("#!{dir}/suid/perl", "set-user-id"),
        ("#!/no/such/perl", "No such file"),
        ("#!perl", "not an absolute path"),
        ("#!/usr/bin/env ruby", "not in its PATH"),
        ("#!/usr/bin/env python3 -u", "a space in its name"),
        ("#!/usr/bin/env -i python3", "a space in its name"),
        ("#!/usr/bin/env -S A=1 python3", "does more"),
        ("#!/usr/bin/env", "does more"),
        ("#!{dir}/python3\n# gateway: start=exec", "asks for that"),
        ("#!{dir}/perl\n\n  # -*- perl -*- gateway: start = exec please", "asks for that"),
    ],
)
def test_what_is_cold_says_why(interpreters: Path, line: str, why: str) -> None:
    with pytest.raises(Cold, match=why):
        recipe(line.format(dir=interpreters).encode() + b"\n", which)


def test_words_about_the_option_elsewhere_do_not_count(interpreters: Path) -> None:
    text = f"#!{interpreters}/perl\nprint 'gateway: start=exec';\n"
    assert recipe(text.encode(), which).language == "perl"


@pytest.mark.parametrize(
    ("source", "light"),
    [
        ("print 1;", True),
        ("use strict; # use CGI\nuse warnings;\n  use utf8;\nuse 5.010;\nuse v5.36;\n", True),
        ("use strict;\nuse CGI;\n", False),
        ("if (1) {\n  require POSIX;\n}", False),
        ("use lib '/x';\nuse My::Thing qw(a b);", False),
    ],
)
def test_perl_that_loads_nothing_is_light(source: str, light: bool) -> None:
    assert is_light(f"#!/usr/bin/perl\n{source}\n".encode()) is light
