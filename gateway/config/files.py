"""Floor 6: the files that settings stand in, read once as long as they stay as they are.

Decides which files `include` names, that a file is not parsed again whose identity (device, inode,
size, time of change) is that of the last reading, and that a site is not made again whose table is
the same: a reload of 10,000 sites costs what has changed. Must not know what a table means.
"""

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.exchange import Limits
from gateway.reading import BadConfig, Problems, Table, parse
from gateway.site.site import SiteSettings
from gateway.where import Where

Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """One table with the file that it came from."""

    table: Table
    where: Where
    base: str
    """The directory of that file, absolute."""


@dataclass(frozen=True, slots=True)
class Known:
    """A site that was read and found good, and what it depends on."""

    table: Table
    """As it stood in the file."""
    limits: Limits
    """Those around it."""
    pools: frozenset[str]
    """The names that its routes could choose from."""
    site: SiteSettings


@dataclass(slots=True)
class Memory:
    """What one reading leaves for the next. Holds nothing that the last one did not use."""

    files: Mapping[str, tuple[Identity, Part]] = field(default_factory=dict)
    sites: Mapping[tuple[str, str], Known] = field(default_factory=dict)
    """By the directory of the file, and the site's first host."""


class Files:
    """The files of one reading."""

    def __init__(self, memory: Memory) -> None:
        self._before = memory.files
        self._used: dict[str, tuple[Identity, Part]] = {}
        memory.files = self._used

    def open(self, name: str) -> Part:
        """Return what is in a file. Raises BadConfig."""
        try:
            with open(name, "rb") as stream:
                found = os.fstat(stream.fileno())
                identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
                kept = self._before.get(name)
                if kept is None or kept[0] != identity:
                    # newlines as Python's text files have them, for the lines of messages
                    text = stream.read().decode("utf-8").replace("\r\n", "\n")
                    base = os.path.dirname(os.path.abspath(name))
                    kept = identity, Part(parse(text, name), Where(name, text), base)
        except OSError as error:
            raise BadConfig(name, "", f"cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise BadConfig(name, "", f"not UTF-8 text: byte {error.start}") from None
        self._used[name] = kept
        return kept[1]

    def included(self, main: Part, file: str) -> list[Part]:
        """Return the files that `include` names: those of each pattern sorted, each file once.

        Raises BadConfig.
        """
        patterns = main.table.get("include", [])

        def refused(why: str) -> BadConfig:
            return BadConfig(main.where.named("include"), "include", why)

        if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
            raise refused('must be a list such as ["sites.d/*.toml"]')
        problems = Problems()
        parts: list[Part] = []
        itself = os.path.realpath(file)
        seen = {itself}
        for pattern in patterns:
            found = sorted(glob.glob(os.path.join(os.path.dirname(file), pattern)))
            with problems.caught():
                if not found and not glob.has_magic(pattern):
                    raise refused(f'no such file: "{pattern}"')
            for name in found:
                real = os.path.realpath(name)
                with problems.caught():
                    if real == itself:
                        raise refused(f'"{pattern}" includes this file itself')
                    if real not in seen:
                        seen.add(real)
                        parts.append(self.open(name))
        problems.raise_any()
        return parts
