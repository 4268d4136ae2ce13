"""Perl scripts that are run again in one process: what makes Perl different."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.process.channel import Exited
from gateway.process.spec import ScriptRoot

pytestmark = pytest.mark.skipif(not shutil.which("perl"), reason="perl is not installed")

Ask = Callable[..., list[str]]

STRICT = (
    "#!/usr/bin/perl\nuse strict; use warnings;\nour $began; print $began++ || 0, qq{ $$\\n};\n"
)
OLD = "#!/usr/bin/perl\nprint $began++ || 0, qq{ $$\\n};\n"


@pytest.fixture
def ask(
    keep: Callable[..., Any],
    open_channel: Any,
    content: Callable[[int], bytes],
    until: Callable[..., None],
    tmp_path: Path,
) -> Ask:
    """Write a script and ask it with each query in turn, in one process; return what it says. Each
    begins with a variable of main that is to be new for each request, and its process."""
    root = ScriptRoot(root=os.fsencode(tmp_path / "root"), start="persistent")
    kept = keep(scripts={"r": root})
    channel = open_channel(kept)
    numbers = iter(range(1, 10000))

    def one(query: str) -> tuple[str, str]:
        number = next(numbers)
        env = {b"REQUEST_METHOD": b"GET", b"QUERY_STRING": query.encode()}
        out, err = channel.order(number, "x.pl", env)
        said = content(out).decode() + content(err).decode()
        reply = channel.reply()
        assert isinstance(reply, Exited)
        assert (reply.id, reply.status) == (number, 0), said
        first, _, rest = said.partition("\n")
        began, _, pid = first.partition(" ")
        assert began == "0", said
        return pid, rest

    def ask(text: str, *queries: str, stays: bool = True, **files: str) -> list[str]:
        for name, module in files.items():
            kept.script(f"{name}.pm", module)
        kept.script("x.pl", text)
        seen: list[str] = []

        def again() -> bool:
            seen.append(one(queries[0])[0])
            return seen[-2:-1] == seen[-1:]

        if stays:
            until(again, "the process stays")
        answers = [one(query) for query in queries]
        assert (len({pid for pid, _ in answers}) == 1) is stays
        return [said for _, said in answers]

    return ask


@pytest.mark.parametrize("head", [STRICT, OLD, OLD.replace("perl", "perl -w", 1)])
def test_named_sub_has_the_file_variables_of_its_own_request(ask: Ask, head: str) -> None:
    text = head + "my $q = $ENV{QUERY_STRING};\nsub show { print qq{$q\\n} }\nshow();\n"
    assert ask(text, "a", "b", "c") == ["a\n", "b\n", "c\n"]


def test_script_without_such_a_sub_is_compiled_once(ask: Ask) -> None:
    text = STRICT + "use constant THEN => rand;\nsub show { print THEN, qq{\\n} }\nshow();\n"
    assert len(set(ask(text, "a", "b", "c"))) == 1


def test_script_with_a_begin_block_is_compiled_each_time(ask: Ask) -> None:
    text = STRICT + "my %h; BEGIN { %h = (x => $ENV{QUERY_STRING}) }\nprint $h{x}, qq{\\n};\n"
    assert ask(text, "a", "b", "c") == ["a\n", "b\n", "c\n"]


def test_values_that_a_package_had_when_it_was_compiled_are_there_again(ask: Ask) -> None:
    text = (
        STRICT + "package Base { sub hello { 'hello' } }\npackage Mine; use parent -norequire, "
        "'Base'; our @seen; push @seen, $ENV{QUERY_STRING}; our $VERSION = '1';\n"
        "package main; print Mine->hello, qq{ @Mine::seen\\n}; push @Mine::ISA, 'None';\n"
    )
    assert ask(text, "a", "b") == ["hello a\n", "hello b\n"]


def test_variables_by_use_vars_are_new_and_those_of_a_module_are_the_modules(ask: Ask) -> None:
    text = (
        "#!/usr/bin/perl\nuse strict; use warnings; use vars qw($began @mine);\nuse FindBin; "
        "use lib $FindBin::Bin; use Theirs;\nprint $began++ || 0, qq{ $$\\n};\n"
        "push @mine, 1; push @theirs, 1;\nprint scalar(@mine), ' ', scalar(@theirs), qq{\\n};\n"
    )
    module = "package Theirs; use Exporter 'import'; our @EXPORT = '@theirs'; our @theirs; 1;\n"
    first, second = ask(text, "a", "b", Theirs=module)
    assert first.split()[0] == second.split()[0] == "1"
    assert int(second.split()[1]) == int(first.split()[1]) + 1


@pytest.mark.parametrize("mark", ["__END__", "__DATA__"])
def test_data_is_read_from_its_beginning_each_time(ask: Ask, mark: str) -> None:
    text = STRICT + f"print scalar <DATA>, scalar <DATA>;\n{mark}\none\ntwo\nthree\n"
    assert ask(text, "a", "b") == ["one\ntwo\n", "one\ntwo\n"]


def test_pod_at_the_end_is_no_harm(ask: Ask) -> None:
    text = STRICT + "print qq{x\\n};\n\n=head1 NAME\n\nx - y }\n\n=cut\n\n=pod\n\nno end\n"
    assert ask(text, "a", "b") == ["x\n", "x\n"]


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("END { print qq{end\\n} }\n", id="END block"),
        pytest.param("print qq{end\\n} if $ENV{QUERY_STRING}; fork or exit;\n", id="child"),
    ],
)
def test_what_cannot_stay_runs_as_ever(ask: Ask, end: str) -> None:
    assert ask(STRICT + end, "a", "b", stays=False) == ["end\n", "end\n"]


def test_script_that_does_not_compile_as_a_sub_is_executed(ask: Ask) -> None:
    text = STRICT + "print <<'EOF';\n__END__\nEOF\nprint qq{x\\n};\n"
    assert ask(text, "a", "b", stays=False) == ["__END__\nx\n"] * 2


def test_exit_from_where_perl_itself_called_ends_the_process(ask: Ask) -> None:
    text = STRICT + "my @x = sort { exit } 1, 2;\n"
    assert ask(text, "a", "b", stays=False) == ["", ""]


def test_handler_of_a_module_stays_and_one_of_the_script_does_not(ask: Ask) -> None:
    text = (
        STRICT + "use FindBin; use lib $FindBin::Bin; use Handler;\n"
        "warn qq{w\\n}; $SIG{__DIE__} = sub { };\n"
        "print $SIG{__DIE__} ? 'set' : 'none', ' ', ref $SIG{__WARN__}, qq{\\n};\n"
    )
    module = "package Handler; $SIG{__WARN__} = sub { print 'handled ', @_ }; 1;\n"
    assert ask(text, "a", "b", Handler=module) == ["handled w\nset CODE\n"] * 2


def test_request_is_not_kept_by_cgi_pm(ask: Ask, tmp_path: Path) -> None:
    if os.system("perl -MCGI -e 1 2>/dev/null"):
        pytest.skip("CGI.pm is not installed")
    text = STRICT + "use CGI qw(:standard);\nprint scalar(param('x')) // 'none', qq{\\n};\n"
    assert ask(text, "x=1", "y=2", "x=3") == ["1\n", "none\n", "3\n"]
    text = STRICT + "use CGI;\nprint scalar(CGI->new->param('x')) // 'none', qq{\\n};\n"
    assert ask(text, "x=1", "y=2", "x=3") == ["1\n", "none\n", "3\n"]


def test_modules_that_a_script_loaded_are_told_and_its_messages_are_perls(ask: Ask) -> None:
    text = STRICT + "use Text::Wrap; warn 'here';\nprint $INC{'Text/Wrap.pm'} ? 1 : 0;\n"
    said = ask(text, "a", "b")
    assert said[0] == said[1]
    assert said[0].startswith("1here at ")
    assert "x.pl line 4.\n" in said[0]
