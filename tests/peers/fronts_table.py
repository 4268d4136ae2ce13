"""Print the table of the README: what works through which web server, from a run of test_fronts.py.

.venv/bin/python tests/peers/fronts_table.py            runs the tests
.venv/bin/python tests/peers/fronts_table.py REPORT     reads a report of --junit-xml
"""

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).parent

COLUMNS = {
    "nginx-fastcgi": "nginx",
    "apache-fastcgi": "Apache",
    "lighttpd-fastcgi": "lighttpd",
    "caddy-fastcgi": "Caddy",
    "haproxy-fastcgi": "HAProxy",
    "nginx-scgi": "nginx, SCGI",
    "apache-scgi": "Apache, SCGI",
    "lighttpd-scgi": "lighttpd, SCGI",
}
ROWS = {
    "GET, HEAD": ("test_get", "test_head"),
    "POST of 0, 1, 65,535, 65,536, 99,000 bytes, 50 MB": ("test_post",),
    "answer begun before the body is read": ("test_answer_that_begins_before_the_body_is_read",),
    "answer of a script that reads nothing of 50 MB": ("test_answer_instead_of_reading_the_body",),
    "PATH_INFO with blank, UTF-8, %, ?, ;": ("test_path_info",),
    "%2F in PATH_INFO arrives as": ("test_encoded_slash",),
    "304 for a file, of a script": ("test_304_for_a_file_through_us", "test_304_of_a_script"),
    "local redirect, external one": ("test_local_redirect", "test_external_redirect"),
    "8 KB of cookies, both ways": ("test_8_kb_of_cookies_both_ways",),
    "a stream seen piece by piece": ("test_stream_is_seen_piece_by_piece",),
    "client leaves: a script that writes is gone within 1 s": ("test_client_that_leaves*writing",),
    "client leaves: a script that is silent, too": ("test_client_that_leaves*silent",),
    "text of programs, dot files: never sent": ("test_text_of_programs_is_not_sent",),
    "Authorization where the route wants it": ("test_authorization_where_the_route_wants_it",),
    "script that fails: 502, and why in the log": ("test_script_that_fails",),
    "git clone, git push": ("test_git_clone_and_push",),
    "git push of unknown length": ("test_git_push_of_unknown_length",),
}
"""What a row sums up; "*" stands before a parameter."""

Results = dict[tuple[str, str], list[tuple[str, str]]]


def results(report: Path) -> Results:
    """Return (test, server) -> (parameters, what to say) of each case."""
    found: Results = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        match = re.fullmatch(r"(\w+)\[([a-z]+-[a-z]+)(.*)\]", case.get("name", ""))
        if match is None:
            continue
        said = [item.get("value", "") for item in case.iter("property")]
        text = said[-1] if said else "yes"
        if case.find("skipped") is not None:
            text = "no" if "xfail" in str(case.find("skipped").attrib) else "-"  # type: ignore[union-attr]
        if case.find("failure") is not None or case.find("error") is not None:
            text = "**fails**"
        found.setdefault((match[1], match[2]), []).append((match[3], text))
    return found


def said(found: Results, server: str, tests: tuple[str, ...]) -> str:
    """Return one cell: what all its cases say, or whatever of them is not "yes"."""
    texts = []
    for test in tests:
        name, _, parameter = test.partition("*")
        cases = found.get((name, server), [])
        texts += [text for given, text in cases if given.endswith(parameter)] or ["-"]
    others = [text for text in texts if text != "yes"]
    return ", ".join(dict.fromkeys(others)) if others else "yes"


def table(found: Results) -> str:
    """Return it as Markdown."""
    lines = [["", *COLUMNS.values()], ["---"] * (len(COLUMNS) + 1)]
    lines += [
        [row, *(said(found, server, tests) for server in COLUMNS)] for row, tests in ROWS.items()
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(words: list[str]) -> int:
    if words:
        print(table(results(Path(words[0]))))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}"]
        done = subprocess.run(
            [*command, str(HERE / "test_fronts.py")],
            cwd=HERE.parents[1], stdout=sys.stderr, check=False,
        )  # fmt: skip
        print(table(results(report)))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
