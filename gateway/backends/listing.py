"""The page that lists a directory.

Decides what is listed and how it looks. A name is any bytes: it is escaped for HTML, its control
characters are written out, and its link is percent-encoded and starts with "./", so that no name
is a script, a scheme or another host. Dotfiles and what a request could not open are left out.
"""

import html
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from urllib.parse import quote_from_bytes

from gateway.journal import visible
from gateway.process.beneath import open_beneath
from gateway.process.spec import SymlinkPolicy

ENTRIES_MAX = 5000
"""Entries of one page; a directory may hold millions, and every one costs a stat."""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; }}
body {{ max-width: 56rem; margin: 2.5rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.3rem; font-weight: 600; overflow-wrap: anywhere; }}
table {{ width: 100%; border-collapse: collapse; }}
th {{ text-align: left; font-weight: 500; opacity: .65; font-size: .85rem; }}
td, th {{ padding: .35rem .6rem; border-bottom: 1px solid #8883; }}
td:first-child {{ overflow-wrap: anywhere; }}
.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; opacity: .75; }}
tr:hover td {{ background: #8881; }}
a {{ text-decoration: none; }}
a:hover {{ text-decoration: underline; }}
p {{ opacity: .65; }}
</style>
<h1>{title}</h1>
<table>
<tr><th>Name</th><th class="n">Size</th><th class="n">Changed (UTC)</th></tr>
{rows}</table>
{note}</html>
"""
_UNITS = ("KiB", "MiB", "GiB", "TiB")
_UP = '<tr><td><a href="../">../</a></td><td class="n"></td><td class="n"></td></tr>\n'
_ROW = (
    '<tr><td><a href="./{link}">{name}</a></td><td class="n">{size}</td>'
    '<td class="n">{changed}</td></tr>\n'
)


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One line of a listing; directories sort before files."""

    file: bool
    name: bytes
    size: int
    changed: float
    """Seconds since 1970."""


def entries(root_fd: int, path: bytes, symlinks: SymlinkPolicy) -> tuple[list[Entry], bool]:
    """Return what the directory `path` below the root holds, sorted, and whether that is all.

    A link is listed as what it leads to, if a request may go through it; else it is left out.
    Raises OSError where the directory cannot be opened or read.
    """
    fd = open_beneath(root_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, symlinks)
    try:
        with os.scandir(fd) as items:
            shown = (item for item in items if item.name[0] != ".")
            found = list(islice(shown, ENTRIES_MAX + 1))
            complete = len(found) <= ENTRIES_MAX
            del found[ENTRIES_MAX:]
            return sorted(_described(root_fd, path, found, symlinks)), complete
    finally:
        os.close(fd)


def _described(
    root_fd: int, path: bytes, items: list[os.DirEntry[str]], symlinks: SymlinkPolicy
) -> Iterator[Entry]:
    for item in items:
        name = os.fsencode(item.name)
        try:
            # Of what a link leads to, only what a request could reach: else sizes and dates of
            # files outside the root would be told.
            if item.is_symlink():
                full = os.path.join(path, name)
                target = open_beneath(root_fd, full, os.O_PATH | os.O_CLOEXEC, symlinks)
                try:
                    info = os.fstat(target)
                finally:
                    os.close(target)
            else:
                info = item.stat(follow_symlinks=False)
        except OSError:
            continue  # gone meanwhile, or not for us
        if stat.S_ISDIR(info.st_mode):
            yield Entry(False, name, 0, info.st_mtime)
        elif stat.S_ISREG(info.st_mode):
            yield Entry(True, name, info.st_size, info.st_mtime)


def page(path: bytes, found: list[Entry], complete: bool) -> bytes:
    """Return the HTML page for the decoded URL path `path`."""
    rows = "" if path == b"/" else _UP
    rows += "".join(map(_row, found))
    note = "" if complete else f"<p>Only {ENTRIES_MAX:,} of the entries are shown.</p>\n"
    title = html.escape(f"Index of {visible(path)}")
    return _PAGE.format(title=title, rows=rows, note=note).encode()


def _row(entry: Entry) -> str:
    slash = "" if entry.file else "/"
    try:
        changed = time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry.changed))
    except (OverflowError, ValueError, OSError):
        changed = ""  # a file system may hold any number there
    return _ROW.format(
        link=quote_from_bytes(entry.name, safe="") + slash,
        name=html.escape(visible(entry.name)) + slash,
        size=size(entry.size) if entry.file else "",
        changed=changed,
    )


def size(count: int) -> str:
    """Return a number of bytes for people: "0 B", "14.2 KiB"."""
    if count < 1024:
        return f"{count} B"
    amount, unit = count / 1024, 0
    while amount >= 999.95 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}"
