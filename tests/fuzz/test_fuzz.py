"""A minute of fuzzing, with another seed each time; by hand it can be any time and any seed.

What fails is printed with its seed and round, which find it again.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = {"fuzz_fcgi.py": 60, "fuzz_scgi.py": 20}
"""Side by side, so that all of it takes a minute."""


@pytest.mark.timeout(240)
def test_a_minute_of_broken_fastcgi_and_scgi_breaks_nothing(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4))
    running = {}
    for name, seconds in SECONDS.items():
        command = [sys.executable, str(ROOT / "tests/fuzz" / name)]
        command += ["--seconds", str(seconds), "--seed", str(seed)]
        with Path(tmp_path, name).open("wb") as output:
            running[name] = subprocess.Popen(
                command,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
    try:
        codes = {name: process.wait(200) for name, process in running.items()}
    finally:
        for process in running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
    said = {name: Path(tmp_path, name).read_text(errors="replace") for name in running}
    assert codes == dict.fromkeys(SECONDS, 0), said
    for name, text in said.items():
        assert "nothing but PeerError" in text, name
