"""`make test`: all tests on the Python of .venv, the unit tests on every other that is found.

Run by .venv/bin/python. Four runs of pytest side by side, since most tests wait for something. How
far each is stands there every half minute, and what failed at its end. The last line says how many
tests were skipped.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
OURS = f"{sys.version_info.major}.{sys.version_info.minor}"
PERCENT = re.compile(r"\[ *([0-9]{1,3}%)\]")
DOTS = re.compile(r"[.sxX]+ *\[ *[0-9]{1,3}%\]")
VERSIONS = ("3.11", "3.12", "3.13")
APART = (
    "tests/peers",
    "tests/bench",
    "tests/fuzz",
    "tests/guests/test_zygote_perl.py",
    "tests/guests/test_zygote_python.py",
    "tests/process/test_exactly_once.py",
    "tests/process/test_identity_attack.py",
    "tests/process/test_persistent.py",
    "tests/process/test_persistent_perl.py",
    "tests/test_example_site.py",
)
"""What drives real servers, programs and interpreters, or runs for long: once is enough."""
SIDE_BY_SIDE = 4
ON_EACH = ("test_cgi.py", "test_master.py")
"""What of tests/daemon is run on every Python; the rest, which mostly waits, on ours alone."""
REPORT = 30.0
"""Seconds between two lines that say how far the runs are."""
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


@dataclass
class Run:
    """One run of pytest, with what it says in a file."""

    name: str
    version: str
    arguments: tuple[str, ...]
    directory: Path
    passed: bool | None = None
    """None until it is over, or where there is no such Python."""

    @property
    def said(self) -> Path:
        return self.directory / f"{self.name.replace(' ', '-')}.txt"

    @property
    def report(self) -> Path:
        return self.said.with_suffix(".xml")

    def go(self) -> None:
        """Find the Python, and run its tests to their end."""
        ours = self.version == OURS
        python = sys.executable if ours else find(self.version)
        if python is None:
            return
        inside = python if ours else prepare(self.version, python)
        if inside is None:
            self.said.write_text("its virtual environment could not be made\n")
            self.passed = False
            return
        command = [inside, "-m", "pytest", "-q", f"--junit-xml={self.report}", *self.arguments]
        with self.said.open("wb") as file:
            done = subprocess.run(
                command, cwd=HERE, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
            )
        self.passed = done.returncode == 0

    def far(self) -> str:
        """Return how far it is: "Python 3.12: 40%"."""
        text = self.said.read_text(errors="replace") if self.said.exists() else ""
        percents = PERCENT.findall(text)
        return f"{self.name}: {percents[-1] if percents else '0%'}"

    def counted(self) -> Counter[str]:
        """Return how many tests ended how."""
        counts: Counter[str] = Counter()
        if self.report.exists():
            for suite in ElementTree.parse(self.report).getroot().iter("testsuite"):
                for key in ("tests", "skipped", "failures", "errors"):
                    counts[key] += int(suite.get(key, "0"))
        return counts

    def tell(self) -> None:
        """Print its end; all that it said if it failed."""
        text = self.said.read_text(errors="replace")
        lines = text.splitlines()
        shown = lines[-1:] if self.passed else [line for line in lines if not DOTS.fullmatch(line)]
        skipped = [line for line in lines if line.startswith(("SKIPPED", "XFAIL"))]
        print(f"== {self.name}", *(skipped if self.passed else ()), *shown, sep="\n", flush=True)


def runs(directory: Path) -> list[Run]:
    """Return all runs, the longest first."""
    unit = tuple(f"--ignore={path}" for path in APART)
    daemon = HERE.glob("tests/daemon/test_*.py")
    less = tuple(f"--ignore={path}" for path in sorted(daemon) if path.name not in ON_EACH)
    others = [
        Run(f"Python {version}", version, (*unit, *less), directory)
        for version in VERSIONS
        if version != OURS
    ]
    peers = Run(f"Python {OURS}, programs and servers", OURS, APART, directory)
    return [peers, Run(f"Python {OURS}", OURS, unit, directory), *others]


def main() -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        every = runs(Path(name))
        left = {pool.submit(each.go): each for each in every}
        while left:
            over, _ = wait(left, timeout=REPORT, return_when=FIRST_COMPLETED)
            for future in over:
                future.result()
                if (done := left.pop(future)).passed is not None:
                    done.tell()
            if not over:
                print("   " + ", ".join(each.far() for each in left.values()), flush=True)
        total = sum((each.counted() for each in every), Counter[str]())
    failed = [each.name for each in every if each.passed is False]
    missing = [each.version for each in every if each.passed is None]
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(f"== {minutes} min {seconds} s; not found: Python {', '.join(missing) or '-'}")
    print(
        f"== {'FAILED on ' + '; '.join(failed) if failed else 'passed'}: "
        f"{total['tests']} tests, {total['skipped']} skipped"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
