"""`make test`: all tests on the Python of .venv, the unit tests on every other that is found.

Run by .venv/bin/python. The last line says how many tests were skipped.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
APART = ("tests/peers", "tests/bench", "tests/fuzz", "tests/test_example_site.py")
"""What drives real servers and programs, or runs for long: once is enough."""
ASK = "import ensurepip, platform, sys; print(platform.python_implementation(), *sys.version_info)"


def candidates(version: str) -> list[str]:
    """Return where a Python of that version may be."""
    places = [shutil.which(f"python{version}")]
    for root in (os.environ.get("PYENV_ROOT"), Path.home() / ".pyenv"):
        if root is not None:
            found = Path(root, "versions").glob(f"{version}.*/bin/python{version}")
            places += map(str, sorted(found))
    return [place for place in places if place is not None]


def find(version: str) -> str | None:
    """Return a CPython of that version that can make a virtual environment, or None."""
    for place in candidates(version):
        # A name on PATH may be a shim for a version that is not chosen: ask it.
        asked = subprocess.run([place, "-c", ASK], capture_output=True, text=True, check=False)
        if asked.stdout.startswith(f"CPython {version.replace('.', ' ')} "):
            return place
    return None


def prepare(version: str, python: str) -> str | None:
    """Return the Python of a virtual environment with what the tests need, or None."""
    home = HERE / ".venv" / version
    inside = str(home / "bin" / "python")
    stamp = home / "with-test"
    if stamp.exists() and stamp.stat().st_mtime > (HERE / "setup.cfg").stat().st_mtime:
        return inside
    pip = [inside, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    for command in (
        [python, "-m", "venv", str(home)],
        [*pip, "--use-pep517", "--editable", ".[test]"],
    ):
        if subprocess.run(command, cwd=HERE, check=False).returncode:
            return None
    stamp.touch()
    return inside


def run(python: str, report: Path, *arguments: str, quiet: bool = False) -> tuple[bool, str]:
    """Run pytest; return whether all passed, and what it said if that was not shown (`quiet`)."""
    command = [python, "-m", "pytest", "-q", f"--junit-xml={report}", *arguments]
    done = subprocess.run(
        command,
        cwd=HERE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        check=False,
    )
    return done.returncode == 0, done.stdout or ""


def counted(report: Path) -> Counter[str]:
    """Return how many tests ended how."""
    counts: Counter[str] = Counter()
    if report.exists():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            for key in ("tests", "skipped", "failures", "errors"):
                counts[key] += int(suite.get(key, "0"))
    return counts


def run_other(version: str, report: Path) -> tuple[bool, str] | None:
    """Run the unit tests on another version; None where there is no such Python."""
    python = find(version)
    if python is None:
        return None
    inside = prepare(version, python)
    if inside is None:
        return False, "its virtual environment could not be made"
    return run(inside, report, *(f"--ignore={path}" for path in APART), quiet=True)


def main() -> int:
    started = time.monotonic()
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    others = [version for version in VERSIONS if version != ours]
    failed, missing = [], []
    with tempfile.TemporaryDirectory() as directory:
        reports = {version: Path(directory, f"{version}.xml") for version in (ours, *others)}
        print(f"== Python {ours}: all tests", flush=True)
        if not run(sys.executable, reports[ours])[0]:
            failed.append(ours)
        print(f"== Python {', '.join(others)}: unit tests, side by side", flush=True)
        with ThreadPoolExecutor(len(others)) as pool:
            running = {each: pool.submit(run_other, each, reports[each]) for each in others}
        for version, run_there in running.items():
            done = run_there.result()
            if done is None:
                missing.append(version)
                continue
            good, said = done
            print(f"== Python {version}\n{said if not good else said[-100:].lstrip()}", flush=True)
            if not good:
                failed.append(version)
        total = sum(map(counted, reports.values()), Counter[str]())
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(f"== {minutes} min {seconds} s; not found: Python {', '.join(missing) or '-'}")
    print(
        f"== {'FAILED on Python ' + ', '.join(failed) if failed else 'passed'}: "
        f"{total['tests']} tests, {total['skipped']} skipped"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
