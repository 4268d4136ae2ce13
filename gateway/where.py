"""Floor 1: where in a settings file something stands, for messages.

Decides how a place is written and how its line is found. tomllib tells no lines, so a line is
looked up in the text, and only for a message: that reads the whole file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

_HEADER = re.compile(r"\s*(\[\[?)([^\[\]]+)\]\]?\s*(?:#.*)?")


@dataclass(frozen=True, slots=True)
class Where:
    """A table of a settings file, for messages."""

    file: str
    text: str = ""
    """The whole file, in which the line of a key is looked up."""
    steps: tuple[tuple[str, int | None], ...] = ()
    """The way to the table: name, and its number from 1 when it is one of a list."""

    def table(self, name: str, number: int | None = None) -> "Where":
        """Return the place of a table inside this one."""
        return replace(self, steps=(*self.steps, (name, number)))

    def named(self, key: str = "") -> str:
        """Return "gateway.toml:12: [[site]] #1 [[site.route]] #2" for a key of this table."""
        line = self._line(key)
        shown = []
        for depth, (_, number) in enumerate(self.steps, 1):
            path = ".".join(name for name, _ in self.steps[:depth])
            if number is not None:
                shown.append(f"[[{path}]] #{number}")
            elif depth == len(self.steps):
                shown.append(f"[{path}]")
        return f"{self.file}{f':{line}' if line else ''}: {' '.join(shown)}".rstrip(": ")

    def _line(self, key: str) -> int | None:
        """Return the number of the line that holds the key, else of the table's header."""
        wanted = [name if number is None else f"{name}#{number}" for name, number in self.steps]
        found = _find_line(self.text, ".".join(wanted), key)
        if found is None and self.steps:  # the table is written inline, as a value of its parent
            found = _find_line(self.text, ".".join(wanted[:-1]), self.steps[-1][0])
        return found


def _find_line(text: str, section: str, key: str) -> int | None:
    """Find a key by its look. tomllib tells no lines; a wrong guess only misleads a message."""
    counts: dict[str, int] = {}
    current, header = "", None
    for number, line in enumerate(text.split("\n"), 1):
        if match := _HEADER.fullmatch(line):
            names = [part.strip().strip("\"'") for part in match[2].split(".")]
            path = ".".join(names)
            if match[1] == "[[":
                counts = {k: n for k, n in counts.items() if not k.startswith(f"{path}.")}
                counts[path] = counts.get(path, 0) + 1
            current = _numbered(names, counts)
            if key and names[-1] == key and _numbered(names[:-1], counts) == section:
                return number
            if current == section:
                header = number
        elif current == section and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return header


def _numbered(names: Sequence[str], counts: Mapping[str, int]) -> str:
    parts = []
    for depth, name in enumerate(names, 1):
        count = counts.get(".".join(names[:depth]))
        parts.append(name if count is None else f"{name}#{count}")
    return ".".join(parts)
