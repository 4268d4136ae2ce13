"""The answer to `Open`: a descriptor of a file, or why there is none; the keeper's side.

Decides which file may be handed to a front: a regular one below a directory of the settings that
this user may read. The kernel decides the last, because this process is that user. Must not know
why a file is wanted, nor what was said of it (`opening.py` is the front's side).
"""

import errno
import os
import socket
import stat
from collections.abc import Mapping

from gateway.process.beneath import open_beneath
from gateway.process.channel import (
    Failed,
    Open,
    Opened,
)
from gateway.process.post import send
from gateway.process.spec import SpawnFailed, SymlinkPolicy

SYMLINKS: SymlinkPolicy = "owner-match"

# A FIFO or a device must not hold us up, nor a terminal become ours.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_STATUS = {
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.ELOOP: 403,
    errno.EXDEV: 403,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
    errno.ENOMEM: 503,
    errno.EAGAIN: 503,
}
"""Of what the system says; 404 for all else, which is what is not there."""
_WORDS = {
    errno.EACCES: "the user {user} may not read it",
    errno.EPERM: "the user {user} may not read it",
    errno.ELOOP: "a link in it belongs to somebody else than what it points to",
    errno.EXDEV: "it leads out of {root}",
    errno.EISDIR: "it is a directory",
    errno.ENXIO: "it is not a regular file",
}


class Handing:
    """The directories whose files one keeper hands over."""

    def __init__(self, user: str, files: Mapping[str, bytes]) -> None:
        self._user = user
        self._files = files

    def answer(self, order: Open, reply_fd: int) -> None:
        """Open a file and send it over the socket `reply_fd`, which is ours to close."""
        try:
            sock = socket.socket(fileno=reply_fd)
        except OSError:
            os.close(reply_fd)  # it is no socket: nobody can be answered
            return
        with sock:
            sock.setblocking(False)
            try:
                try:
                    fd = self._open(order)
                except SpawnFailed as failed:
                    said = Failed(0, failed.errno, failed.step, failed.status, failed.why)
                    send(sock, said.encode())
                    return
                try:
                    send(sock, Opened().encode(), (fd,))
                finally:
                    os.close(fd)
            except OSError:
                pass  # whoever asked has gone

    def _open(self, order: Open) -> int:
        """Return a descriptor of the file. Raises SpawnFailed."""
        root = self._files.get(order.key)
        if root is None:
            why = f'the keeper knows no directory of files "{order.key}"'
            raise SpawnFailed(0, "route", why, 500)
        try:
            root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            shown = os.fsdecode(root)
            why = f"the directory {shown} of the settings cannot be opened: {error.strerror}"
            raise SpawnFailed(error.errno or 0, "root", why, 500) from error
        path = root.rstrip(b"/") + b"/" + order.path
        try:
            fd = open_beneath(root_fd, order.path, _READ, SYMLINKS)
            try:
                mode = os.fstat(fd).st_mode
                if not stat.S_ISREG(mode):
                    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.ENXIO
                    raise OSError(number, os.strerror(number))
            except OSError:
                os.close(fd)
                raise
            return fd
        except OSError as error:
            raise self._refusal(path, root, error) from error
        finally:
            os.close(root_fd)

    def _refusal(self, path: bytes, root: bytes, error: OSError) -> SpawnFailed:
        number = error.errno or 0
        words = _WORDS.get(number) or os.strerror(number)
        shown = path.decode("utf-8", "backslashreplace")
        why = words.format(user=self._user, root=root.decode("utf-8", "backslashreplace"))
        return SpawnFailed(number, "open", f"{shown}: {why}", _STATUS.get(number, 404))
