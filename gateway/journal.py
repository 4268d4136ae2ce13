"""Floor 1: the error log. One line an event, whatever the bytes in it.

Decides the line's form and that nothing from outside can forge a line or move a terminal's cursor
(CVE-2009-4487, CVE-2024-9026). Must not know who writes or where the descriptor leads.
"""

import os
import time
from typing import Literal

Level = Literal["debug", "info", "warn", "error"]

LINE_MAX = 8192
"""Longest line in bytes; what is over is cut and marked. Longer than any file name."""

_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


def visible(text: str | bytes) -> str:
    """Return `text` with each control character written out, so that it is safe on a terminal."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    # Lone surrogates (file names decoded with surrogateescape) cannot be encoded; write them out.
    return text.translate(_VISIBLE).encode("utf-8", "backslashreplace").decode("utf-8")


class Journal:
    """Writes lines to a descriptor that somebody else opened. Never raises for a full disk."""

    def __init__(self, fd: int, who: str) -> None:
        self.fd = fd
        self.who = who
        """The process that writes: "master", "front 1", "keeper alice"."""

    def write(
        self, level: Level, text: str | bytes, *, subject: str = "", request: str = ""
    ) -> None:
        """Write one line: time, level, process, request id, subject (script or pool), text."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        parts = [f"{stamp}.{int(now % 1 * 1000):03d}Z {level} {self.who}"]
        if request:
            parts.append(f"[{request}]")
        if subject:
            parts.append(f"{visible(subject)}:")
        parts.append(visible(text))
        line = " ".join(parts).encode()
        if len(line) > LINE_MAX:
            line = line[: LINE_MAX - 6] + b" [cut]"
        self.put(line + b"\n")

    def put(self, line: bytes) -> None:
        """Write a whole line."""
        try:
            os.write(self.fd, line)
        except OSError:
            pass  # a full disk or a closed pipe must not stop the daemon


class Copied(Journal):
    """Writes each line to a second descriptor as well."""

    def __init__(self, journal: Journal, copy: int) -> None:
        super().__init__(journal.fd, journal.who)
        self.copy = copy

    def put(self, line: bytes) -> None:
        super().put(line)
        try:
            os.write(self.copy, line)
        except OSError:
            pass
