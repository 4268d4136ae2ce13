"""Python scripts with `cgi.FieldStorage`: of an old interpreter, and from `legacy-cgi` on a new."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = """#!{python}
import cgi
import hashlib
import sys

form = cgi.FieldStorage()
file = form["file"]
data = file.file.read()
print("Content-Type: text/plain; charset=utf-8")
print()
print(form.getfirst("name"), file.filename, len(data), hashlib.sha256(data).hexdigest())
print(sys.version_info[:2])
"""

PROBE = "import sys; print(sys.executable)"


@pytest.fixture(params=["exec", "warm"])
def start(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def find_python(minor: int) -> str:
    """Return an interpreter of that version, or skip. Those of pyenv count too: what it puts on the
    PATH is a switch between versions, and may lead to none."""
    name = f"python3.{minor}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for command in [name, *sorted(map(str, pyenv.glob(f"versions/3.{minor}.*/bin/{name}")))]:
        try:
            done = subprocess.run(
                [command, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
            )
        except (FileNotFoundError, subprocess.CalledProcessError):
            continue
        return done.stdout.strip()
    pytest.skip(f"peer missing: {name}")


def has_cgi(python: str) -> bool:
    command = [python, "-W", "ignore", "-c", "import cgi"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def check(python: str, minor: int, gateway, script, site: str) -> None:
    script("form.cgi", SCRIPT.format(python=python))
    daemon = gateway(site)
    data = os.urandom(3 << 20)
    answer = daemon.request(
        "POST", "/form.cgi", data={"name": "Grüße"}, files={"file": ("a.bin", data)}
    )
    assert answer.status_code == 200, daemon.log
    digest = hashlib.sha256(data).hexdigest()
    assert answer.text == f"Grüße a.bin {len(data)} {digest}\n(3, {minor})\n"


@pytest.mark.parametrize("minor", [11, 12])
def test_field_storage_of_the_standard_library(minor, gateway, script, site):
    python = find_python(minor)
    assert has_cgi(python)
    check(python, minor, gateway, script, site)


def test_field_storage_of_legacy_cgi(gateway, script, site, tmp_path):
    python = find_python(13)
    if not has_cgi(python):
        subprocess.run([python, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=120)
        python = str(tmp_path / "venv/bin/python")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "legacy-cgi"]
        if subprocess.run(pip, capture_output=True, check=False, timeout=120).returncode != 0:
            pytest.skip("peer missing: legacy-cgi")
    check(python, 13, gateway, script, site)


def test_import_cgi_without_the_module_is_explained(gateway, script, site):
    python = find_python(13)
    # -S leaves out what was installed, and -I what the environment adds.
    script("form.cgi", f"#!{python} -IS\nimport cgi\n")
    daemon = gateway(site)
    answer = daemon.get("/form.cgi")
    assert answer.status_code in (500, 502)
    assert "No module named 'cgi'" in daemon.log
