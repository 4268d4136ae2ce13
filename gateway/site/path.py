"""What the path of a URL means: its bytes, its components, and which of them is a script.

Decides how a path is decoded and where a script's name ends and PATH_INFO begins. Must not know
sites or handlers. Standards: RFC 3986 sections 2.1 and 5.2.4, RFC 3875 sections 4.1.5 and 4.1.13.

- A path is decoded exactly once and stays bytes: nothing is turned into text, so no full-width or
  dotless letter can fold into ".cgi" (CVE-2026-27590, GHSA-g966-83w7-6w38), and nothing is trimmed.
- "." and ".." are resolved after decoding and before the disk is touched, so "%2e%2e" is "..";
  what would climb above "/" stays at "/" (RFC 3986 section 5.2.4).
- Repeated slashes are one when a file is looked for; PATH_INFO keeps them.
- A backslash, a semicolon and a plus sign are ordinary characters.
- An encoded slash decodes to a slash like any other. Only an application is given such a path
  (`site/router.py`): for files and scripts it is refused, as by Apache, because it names something
  else than the servers and caches before us believed.
- A script is found by walking the file system component by component, never by searching the
  string (CVE-2019-11043 and its relatives): the first component that is a file ends the name.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.exchange import Refused
from gateway.process.beneath import open_beneath
from gateway.process.spec import SymlinkPolicy

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_BYTES = {b"%02x" % n: bytes([n]) for n in range(256)}

_MISSING = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EXDEV,
    errno.ENAMETOOLONG,
    errno.EINVAL,
)


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1] is None:
        raise Refused(400, "The path has a percent sign without two hexadecimal digits.")
    return _BYTES[match[1].lower()]


def decode(path: bytes) -> bytes:
    """Return `path` with its escapes decoded once and its dot segments resolved.

    Raises Refused (400) for a bad escape, a NUL, and a path that does not start with a slash.
    """
    if b"%" in path:
        path = _ESCAPE.sub(_unescape, path)
    if b"\0" in path:
        raise Refused(400, "The path holds a NUL character.")
    if not path.startswith(b"/"):
        raise Refused(400, "The path does not start with a slash.")
    return _without_dots(path) if b"/." in path else path


def _without_dots(path: bytes) -> bytes:
    segments = path.split(b"/")[1:]
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")  # both name a directory: "/a/.." is "/"
    return b"/" + b"/".join(kept)


def encoded_slash(path: bytes) -> int:
    """Return where the first %2F of a path that is still encoded stands, or -1."""
    return path.lower().find(b"%2f") if b"%2" in path else -1


@dataclass(frozen=True, slots=True)
class UrlPath:
    """A decoded path and its components."""

    path: bytes
    """As `decode` gave it."""
    names: tuple[bytes, ...]
    """The components; none is empty."""
    ends: tuple[int, ...]
    """Where each of them ends in `path`."""

    @property
    def directory(self) -> bool:
        """Whether the path ends with a slash."""
        return self.path.endswith(b"/")

    @property
    def clean(self) -> bytes:
        """The path without repeated slashes."""
        joined = b"/" + b"/".join(self.names)
        return joined + b"/" if self.names and self.directory else joined

    def name(self, count: int) -> bytes:
        """Return the first `count` components as a path: SCRIPT_NAME. b"" for none of them."""
        return joined(self.names[:count])

    def rest(self, count: int) -> bytes:
        """Return what follows the first `count` components, as it was sent: PATH_INFO."""
        return self.path[self.ends[count - 1] :] if count else self.path

    def hidden(self, start: int, stop: int | None = None) -> bool:
        """Whether one of these components starts with a dot."""
        return any(name.startswith(b".") for name in self.names[start:stop])


def split(path: bytes) -> UrlPath:
    """Return the components of a path that `decode` gave."""
    names = []
    ends = []
    end = -1
    for name in path.split(b"/"):
        end += 1 + len(name)
        if name:
            names.append(name)
            ends.append(end)
    return UrlPath(path, tuple(names), tuple(ends))


def joined(names: Sequence[bytes]) -> bytes:
    """Return components as a path: b"/a/b". b"" for none."""
    return b"".join([b"/" + name for name in names])


def components(path: bytes) -> tuple[bytes, ...]:
    """Return the components of a path from the settings: b"/cgi-bin/" is (b"cgi-bin",)."""
    return tuple(name for name in path.split(b"/") if name)


def kind_of(root: bytes, names: Sequence[bytes], symlinks: SymlinkPolicy) -> int:
    """Return the file type (stat.S_IFMT) of what `names` lead to below `root`; 0 for nothing.

    Raises Refused: 403 where we may not look, 503 where the system has no descriptor left.
    """
    try:
        root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(error, root) from None
    try:
        return _kind(root_fd, names, symlinks)
    finally:
        os.close(root_fd)


def find_script(
    root: bytes,
    names: Sequence[bytes],
    wanted: Callable[[bytes], bool] | None,
    symlinks: SymlinkPolicy,
    below: tuple[bytes, ...] = (),
) -> int:
    """Return which component below `root`, and there below `below`, is the script, or -1.

    It is the first that is a regular file and, with `wanted`, whose name is wanted. Nothing at or
    below a component that starts with a dot is a script. Raises as `kind_of` does.
    """
    try:
        root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(error, root) from None
    try:
        for index, name in enumerate(names):
            if name.startswith(b"."):
                return -1
            if wanted is not None and not wanted(name):
                continue  # should it be a file, then the next look ends in ENOTDIR
            kind = _kind(root_fd, (*below, *names[: index + 1]), symlinks)
            if kind == stat.S_IFREG:
                return index
            if kind != stat.S_IFDIR:
                return -1
        return -1
    finally:
        os.close(root_fd)


def _kind(root_fd: int, names: Sequence[bytes], symlinks: SymlinkPolicy) -> int:
    path = b"/".join(names) or b"."
    try:
        # O_PATH needs no permission on the file, so the scripts of others can be found; it opens
        # nothing, so a FIFO or a device cannot hold us up.
        fd = open_beneath(root_fd, path, os.O_PATH | os.O_CLOEXEC, symlinks)
    except OSError as error:
        if error.errno in _MISSING:
            return 0
        raise _refused(error, path) from None
    try:
        return stat.S_IFMT(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _refused(error: OSError, path: bytes) -> Refused:
    log = f"cannot look for {os.fsdecode(path)}: {os.strerror(error.errno or 0)}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refused(403, log=f"{log}; the gateway's account may not search its directory")
    if error.errno in _MISSING:
        return Refused(404, log=log)
    return Refused(503 if error.errno in (errno.EMFILE, errno.ENFILE) else 500, log=log)
