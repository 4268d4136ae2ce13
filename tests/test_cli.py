"""The command line: its commands, its messages, its exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gateway
from gateway.address import Address
from gateway.daemon import cli
from gateway.listeners.listening import HttpListener
from gateway.process.kernel import landlock_version
from gateway.process.landlock import describe

HERE = Path(__file__).resolve().parents[1]


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own; it must not wait for anything."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        check=False,
    )


def test_alone_it_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in cli.COMMANDS)
    assert "exit codes:" in shown


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["serve", "--help"], ["run", "-h"]])
def test_questions_are_answered_with_success(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 0
    assert capsys.readouterr().out


def test_module_is_the_command() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"gateway {gateway.__version__}\n")


@pytest.mark.parametrize(
    "words",
    [
        ["sreve"],
        ["run"],
        ["check"],
        ["serve", "-p", "0"],
        ["serve", "-p", "65536"],
        ["serve", "-p", "٣"],
        ["serve", "--bind", "a b"],
        ["serve", "--bind", ""],
        ["serve", "a", "b"],
    ],
)
def test_wrong_command_line_is_code_two(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    assert "gateway" in capsys.readouterr().err


def test_serve_of_a_directory_has_files_and_scripts(tmp_path: Path) -> None:
    settings = cli.settings_for_directory(str(tmp_path), "127.0.0.1", 8080)
    assert settings.listen.http == (HttpListener(address=Address(host="127.0.0.1", port=8080)),)
    (site,) = settings.site
    assert (site.root, site.listing) == (str(tmp_path), True)
    assert site.index == ("index.html", "index.cgi")
    assert [(route.match, route.cgi, route.fastcgi) for route in site.route] == [
        ("*.cgi", True, False),
        ("*.fcgi", False, True),
    ]


def test_serve_takes_cgi_bin_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "cgi-bin").mkdir()
    settings = cli.settings_for_directory(str(tmp_path), "::1", 80)
    first = settings.site[0].route[0]
    assert (first.path, first.cgi) == ("/cgi-bin/", str(tmp_path / "cgi-bin"))


def test_serve_of_a_relative_directory_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.settings_for_directory(".", "127.0.0.1", 80).site[0].root == str(tmp_path)


def test_serve_of_what_is_no_directory_is_code_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "page.html"
    file.write_text("", encoding="utf-8")
    assert cli.main(["serve", str(file)]) == 1
    assert cli.main(["serve", str(tmp_path / "absent\x1b[2J")]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"gateway: {file}: not a directory; ")
    assert second.startswith(f"gateway: {tmp_path}/absent\\x1b[2J: no such directory; ")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (Address(host="127.0.0.1", port=8080), "http://127.0.0.1:8080/"),
        (Address(host="0.0.0.0", port=80), "http://127.0.0.1/"),
        (Address(host="::1", port=8080), "http://[::1]:8080/"),
        (Address(host="::", port=80), "http://[::1]/"),
        (Address(path="/run/http.sock"), "unix:/run/http.sock"),
    ],
)
def test_url_can_be_typed_into_a_browser(address: Address, shown: str) -> None:
    assert cli.url(address) == shown


def test_check_of_a_good_file_says_what_it_would_serve(tmp_path: Path) -> None:
    (tmp_path / "htdocs").mkdir()
    (tmp_path / "scripts").mkdir()
    (tmp_path / "g.toml").write_text(
        """
        [[site]]
        hosts = ["a.test"]
        root = "htdocs"
          [[site.route]]
          path = "/cgi-bin/"
          cgi = "scripts"
          [[site.route]]
          match = "*.fcgi"
          fastcgi = true
          [[site.route]]
          path = "/app/"
          pool = "app"
        [pool.app]
        wsgi = "hello:application"
        processes = 1
        [pool.php]
        connect = ["unix:php.sock"]
        """,
        encoding="utf-8",
    )
    done = run("check", "-c", "g.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "g.toml: good",
        "  listens on 127.0.0.1:8080 for http",
        "  site 1: a.test, every other host",
        f"    /cgi-bin/  CGI scripts in {tmp_path}/scripts",
        "    *.fcgi  FastCGI programs",
        "    /app/  pool app",
        f"    /  files in {tmp_path}/htdocs",
        f"  pool app: hello:application in {tmp_path}, engine gateway, 1 process",
        f"  pool php: workers of others at unix:{tmp_path}/php.sock",
    ]


def test_check_says_what_holds_a_strict_sandbox_on_this_kernel(tmp_path: Path) -> None:
    text = '[server]\nuser = "nobody"\n[tenants]\nuserdir = "/home/*/x"\nsandbox = "strict"\n'
    (tmp_path / "g.toml").write_text(text, encoding="utf-8")
    done = run("check", "-c", "g.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    how = describe(landlock_version())
    assert f'    sandbox = "strict", {how}' in done.stdout.splitlines()
    assert "Landlock" in how


@pytest.mark.parametrize("command", ["check", "run"])
def test_bad_file_is_code_two_with_every_problem_on_a_line(command: str, tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text(
        '[server]\nfronts = "many"\n[[site]]\nrot = "x"\n[tenants]\n', encoding="utf-8"
    )
    done = run(command, "-c", "g.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    first, second, third = done.stderr.splitlines()
    assert first.startswith("gateway: g.toml:2: [server]: fronts: must be a whole number")
    assert second == 'gateway: g.toml:5: [tenants]: [tenants] needs "userdir" or "hosts"'
    assert third == 'gateway: g.toml:4: [[site]] #1: rot: unknown key; did you mean "root"?'


def test_file_that_is_not_there_is_code_two(tmp_path: Path) -> None:
    done = run("check", "-c", "absent.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "gateway: absent.toml: cannot be read: No such file or directory\n"


def test_worker_has_options_of_its_own() -> None:
    done = run("worker", "--help")
    assert done.returncode == 0
    assert "--threads" in done.stdout


def test_serve_announces_its_url_and_what_it_serves(tmp_path: Path) -> None:
    (tmp_path / "cgi-bin").mkdir()
    said = cli.announcement(cli.settings_for_directory(str(tmp_path), "127.0.0.1", 8080))
    lines = said.splitlines()
    assert lines[0] == f"Serving {tmp_path} on http://127.0.0.1:8080/"
    assert [line.split()[0] for line in lines[1:5]] == ["files,", "/cgi-bin/", "*.cgi", "*.fcgi"]
    assert "Others can reach" not in said


def test_serve_for_others_warns(tmp_path: Path) -> None:
    said = cli.announcement(cli.settings_for_directory(str(tmp_path), "0.0.0.0", 8080))
    assert "Others can reach this address" in said
