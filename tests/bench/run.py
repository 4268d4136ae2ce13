"""Measure us beside the servers that people use now: `python tests/bench/run.py`.

All servers of a case are up at once and idle while one is measured, in interleaved rounds
(A B C A B C ...), so that what else the machine does falls on all alike. Medians are compared.
"""

import argparse
import contextlib
import http.client
import json
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cases import CASES, Case, build
from peers import PEERS, Broken, Missing, Stand
from plot import bars

UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}


@dataclass
class Row:
    """What one server did in one case."""

    name: str
    variant: str
    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Microseconds of processor time a request, of the server and its workers."""
    errors: int = 0

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def fetch(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def ready(stand: Stand, case: Case, expected: bytes | None) -> bytes:
    """Wait until the server answers correctly, and return its answer. Raises Broken."""
    deadline = time.monotonic() + 10
    seen = "nothing"
    while time.monotonic() < deadline and any(each.poll() is None for each in stand.running):
        try:
            status, body = fetch(stand.port, case.path)
        except (OSError, http.client.HTTPException) as error:
            seen = repr(error)
        else:
            if status == 200 and body and expected in (None, body):
                return body
            seen = f"{status} {body[:80]!r}"
        time.sleep(0.05)
    raise Broken(f"answered {seen}\n{stand.said()}")


def wrk(stand: Stand, case: Case, seconds: int, row: Row) -> None:
    """Run one round and add its figures to `row`."""
    command = ["wrk", "--latency", "-t1", f"-c{case.connections}", f"-d{seconds}s"]
    command.append(f"http://127.0.0.1:{stand.port}{case.path}")
    before = stand.cpu()
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 20, check=True)
    text = done.stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    count = re.search(r"(\d+) requests in", text)
    row.rates.append(float(rate[1]) if rate else 0.0)
    row.cpu.append((stand.cpu() - before) * 1e6 / max(1, int(count[1]) if count else 0))
    for share, into in (("50", row.p50), ("99", row.p99)):
        found = re.search(rf"^\s+{share}%\s+([\d.]+)(us|ms|s|m)", text, re.MULTILINE)
        into.append(float(found[1]) * UNITS[found[2]] if found else 0.0)
    for found in re.finditer(r"(?:Non-2xx or 3xx responses:|read|write|timeout) (\d+)", text):
        row.errors += int(found[1])


def start(
    case: Case, work: Path, processes: int, stack: contextlib.ExitStack
) -> Iterator[tuple[Stand, Row]]:
    """Start each server of the case the way that is fastest here; name those that cannot run."""
    expected = case.body
    for name in case.servers:
        best: tuple[Stand, Row] | None = None
        for number, (variant, launch) in enumerate(PEERS[name].items()):
            run = work / f"{case.name}-{name}-{number}".replace(" ", "").replace(",", "-")
            stand = Stand(run, work / "site", processes, case.application)
            stack.callback(stand.stop)
            row = Row(name, variant)
            try:
                launch(stand)
                expected = ready(stand, case, expected)
                wrk(stand, case, 1, row)
            except (Missing, Broken, subprocess.SubprocessError) as error:
                print(f"{case.name}: {name} {variant} left out: {error}", file=sys.stderr)
                stand.stop()
                continue
            if best is None or row.rate > best[1].rate:
                if best:
                    best[0].stop()
                best = stand, row
            else:
                stand.stop()
        if best:
            yield best[0], Row(name, best[1].variant)


def measure(case: Case, work: Path, options: argparse.Namespace) -> list[Row]:
    with contextlib.ExitStack() as stack:
        servers = list(start(case, work, options.processes, stack))
        for _ in range(options.rounds):
            for stand, row in servers:
                wrk(stand, case, options.seconds, row)
    return [row for _, row in servers]


def verdicts(case: Case, rows: list[Row]) -> list[str]:
    """Say for each target what was reached."""
    by_name = {row.name: row for row in rows}
    said = []
    for target in case.targets:
        subject = by_name.get(target.subject)
        others = [row for row in rows if row.name == target.peer]
        if not target.peer:
            others = [row for row in rows if not row.name.startswith("gateway")]
        if subject and others:
            peer = max(others, key=lambda row: row.rate)
            ratio = subject.rate / max(peer.rate, 1e-9)
            verdict = "reached" if ratio >= target.ratio else "MISSED"
            said.append(
                f"{target.subject}: {ratio:.2f} x {peer.name}, target {target.ratio:.1f}: {verdict}"
            )
    return said


def table(case: Case, rows: list[Row]) -> list[list[str]]:
    """Return the rows of the table as text; the first row names the columns."""
    ours = next((row.rate for row in rows if row.name == "gateway"), None)
    lines = [["server", "req/s", "min", "max", "p50 ms", "p99 ms", "cpu us", "we : it", "errors"]]
    for row in rows:
        ratio = f"{ours / row.rate:.2f}" if ours and row.rate and row.name != "gateway" else ""
        lines.append([
            f"{row.name} ({row.variant})" if row.variant else row.name,
            f"{row.rate:.0f}", f"{min(row.rates):.0f}", f"{max(row.rates):.0f}",
            f"{statistics.median(row.p50):.2f}", f"{statistics.median(row.p99):.2f}",
            # Some let the kernel reap their scripts, whose time is then lost: no figure for CGI.
            "" if case.path.startswith("/cgi-bin/") else f"{statistics.median(row.cpu):.0f}",
            ratio, str(row.errors or ""),
        ])  # fmt: skip
    return lines


def as_text(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def as_markdown(lines: list[list[str]]) -> str:
    ruler = ["---"] + ["---:"] * (len(lines[0]) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], ruler, *lines[1:]])


def write(out: Path, results: list[tuple[Case, list[Row]]], options: argparse.Namespace) -> None:
    """Write results.json, results.md and results.svg."""
    out.mkdir(parents=True, exist_ok=True)
    about = (
        f"{options.rounds} interleaved rounds of {options.seconds} s, medians; "
        f"{options.processes} front process each; CPython {platform.python_version()} "
        "(uWSGI: the system's)"
    )
    data = {case.name: [vars(row) for row in rows] for case, rows in results}
    (out / "results.json").write_text(json.dumps({"about": about, "cases": data}, indent=1) + "\n")
    parts = [about + "."]
    for case, rows in results:
        said = "\n".join(f"- {line}" for line in verdicts(case, rows))
        parts.append(f"### {case.title}\n\n{as_markdown(table(case, rows))}\n\n{said}".rstrip())
    (out / "results.md").write_text("\n\n".join(parts) + "\n")
    groups = [(case.title, [(row.name, row.rate) for row in rows]) for case, rows in results]
    (out / "results.svg").write_text(bars("Requests per second", about, groups))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the gateway beside its peers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="length of one round")
    parser.add_argument("--processes", type=int, default=1, help="front processes of each server")
    parser.add_argument("--only", default="", help="cases, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    options = parser.parse_args()
    names = {case.name for case in CASES}
    options.only = set(filter(None, options.only.split(","))) or names
    if unknown := options.only - names:
        parser.error(f"no such case: {', '.join(sorted(unknown))} (known: {', '.join(names)})")
    return options


def main() -> int:
    options = arguments()
    if shutil.which("wrk") is None:
        print("wrk is not installed", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop the servers then as well
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        work = Path(directory)
        work.chmod(0o755)  # Apache's workers are another user when this is root
        build(work / "site")
        for case in CASES:
            if case.name in options.only:
                rows = measure(case, work, options)
                results.append((case, rows))
                print(f"\n{case.title} [{case.name}]\n{as_text(table(case, rows))}")
                print("\n".join(verdicts(case, rows)), flush=True)
    write(options.out, results, options)
    return 0 if all(any(row.name == "gateway" for row in rows) for _, rows in results) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
