"""The top level holds what it should, and the papers say what is so."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import gateway
from gateway.daemon import cli

HERE = Path(__file__).resolve().parents[1]
ALLOWED = {
    "setup.py", "setup.cfg", "README.md", "gateway", "cgi-bin", "tests", "conf", "Makefile",
    "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", ".ruff.toml", ".gitignore", ".gitattributes",
    ".ci",
}  # fmt: skip


def test_top_level_holds_nothing_else() -> None:
    if shutil.which("git") is None or not (HERE / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={HERE}", "ls-files", "-z"],
        cwd=HERE,
        capture_output=True,
        check=True,
    ).stdout
    assert {name.split("/")[0] for name in listed.decode().split("\0") if name} <= ALLOWED


def test_setup_py_has_two_lines() -> None:
    assert len((HERE / "setup.py").read_text(encoding="utf-8").split("\n\n")) == 2


def test_newest_change_is_this_version() -> None:
    text = (HERE / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(r"^## (\S+)", text, re.MULTILINE)
    assert found is not None
    assert found[1] == gateway.__version__


def test_settings_of_setuptools_name_the_version_and_the_command() -> None:
    parser = configparser.ConfigParser()
    parser.read(HERE / "setup.cfg", encoding="utf-8")
    assert parser["metadata"]["version"] == "attr: gateway.__version__"
    assert parser["options.entry_points"]["console_scripts"].strip() == (
        "gateway = gateway.daemon.cli:main"
    )


@pytest.mark.parametrize("paper", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_commands_in_the_papers_exist(paper: str) -> None:
    text = (HERE / paper).read_text(encoding="utf-8")
    make = (HERE / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", make, re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)) <= targets
    commands = set(re.findall(r"(?:^|`|\$ )gateway ([a-z]+)", text, re.MULTILINE))
    assert commands <= cli.COMMANDS.keys()


@pytest.mark.parametrize("paper", ["README.md", "CONTRIBUTING.md"])
def test_files_that_the_papers_name_exist(paper: str) -> None:
    text = (HERE / paper).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:gateway|conf|tests|cgi-bin)/[A-Za-z0-9_./-]+)`", text))
    missing = {name for name in named if not (HERE / name).exists()}
    assert missing == set()
