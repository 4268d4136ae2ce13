"""The control socket, at the master: a command in a line, the exit code and the answer in lines.

Decides who may ask (root, and the account that the daemon runs as), how long a request may be, and
that nobody who is slow, or says nothing, keeps the master from its work: nothing here waits, and
whoever does not read or write in time is dropped. Must not know what a command does.

`daemon/asking.py` is the other side. One request for each connection: words with blanks between and
a newline; then "CODE\\n", then text to the end.
"""

import errno
import math
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable, Sequence

from gateway.journal import Journal
from gateway.listeners.sockets import remove_stale

NAME = "control.sock"
REQUEST_MAX = 256
"""Bytes of a request."""
PEERS_MAX = 16
"""Connections at once; who comes then is let go of at once."""
PATIENCE = 5.0
"""Seconds in which a peer must have sent its request, and take each part of an answer."""

Answer = Callable[[int, Sequence[str]], None]
Command = Callable[[Sequence[str], Answer], bool]

_CREDENTIALS = struct.Struct("=3i")


class _Peer:
    """One connection."""

    __slots__ = ("deadline", "held", "request", "rest", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.request = b""
        self.rest = b""
        """Of the answer, what was not taken yet."""
        self.held = False
        """It stays open until the daemon has gone."""
        self.deadline = time.monotonic() + PATIENCE


class Control:
    """The socket and its connections."""

    def __init__(
        self, selector: selectors.BaseSelector, journal: Journal, command: Command
    ) -> None:
        """`command` gets the words of a request and what takes the answer, now or later. It returns
        True instead where the answer is the end of the daemon, and raises ValueError for words that
        mean nothing."""
        self._selector = selector
        self._journal = journal
        self._command = command
        self._path = ""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._peers: set[_Peer] = set()

    def open(self, runtime: str) -> None:
        """Listen in the runtime directory. The daemon runs on without it, and says so."""
        path = os.path.join(runtime, NAME)
        try:
            remove_stale(path)
            mask = os.umask(0o177)
            try:
                self._listener.bind(path)
            finally:
                os.umask(mask)
            self._listener.listen(PEERS_MAX)
        except OSError as error:
            text = f"no control socket {path}: {error.strerror or error}; signals work all the same"
            self._journal.write("warn", text)
            return
        self._path = path
        self._selector.register(self._listener, selectors.EVENT_READ, self)

    def close(self) -> None:
        """Let go of everybody, and of the socket."""
        for peer in list(self._peers):
            self._drop(peer)
        if self._path:
            try:
                os.unlink(self._path)
            except FileNotFoundError:
                pass
        self._listener.close()

    def forget(self) -> None:
        """In a new child: close what is the master's."""
        for peer in self._peers:
            peer.sock.close()
        self._listener.close()

    def due(self) -> float:
        """Return when somebody must be dropped; infinity for never."""
        return min((peer.deadline for peer in self._peers), default=math.inf)

    def sweep(self) -> None:
        """Drop those who were too slow."""
        now = time.monotonic()
        for peer in [peer for peer in self._peers if peer.deadline <= now]:
            self._drop(peer)

    def handle(self, key: selectors.SelectorKey) -> None:
        """Go on with what the selector has found."""
        peer = key.data
        if not isinstance(peer, _Peer):
            self._accept()
        elif peer not in self._peers:
            return  # dropped since
        elif peer.rest:
            self._write(peer)
        else:
            self._read(peer)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # gone again, or no descriptor is free: there may be one soon
        form = _CREDENTIALS
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size)
        _, uid, _ = form.unpack(raw)
        if uid not in (0, os.geteuid()):
            self._journal.write("warn", f"account {uid} may not use the control socket")
            sock.close()
            return
        if len(self._peers) >= PEERS_MAX:
            sock.close()
            return
        sock.setblocking(False)
        peer = _Peer(sock)
        self._peers.add(peer)
        self._selector.register(sock, selectors.EVENT_READ, peer)

    def _read(self, peer: _Peer) -> None:
        try:
            data = peer.sock.recv(REQUEST_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        peer.request += data
        line, end, _ = peer.request.partition(b"\n")
        if not data or len(line) >= REQUEST_MAX:
            self._drop(peer)
        elif end:
            self._selector.unregister(peer.sock)
            peer.deadline = math.inf  # now it is we who take time
            self._run(peer, line)

    def _run(self, peer: _Peer, line: bytes) -> None:
        def answer(code: int, lines: Sequence[str]) -> None:
            if peer in self._peers:
                text = "".join(f"{line}\n" for line in (str(code), *lines))
                self._send(peer, text.encode("utf-8", "backslashreplace"))

        try:
            words = line.decode("ascii").split(" ")
            peer.held = self._command(words, answer)
            if peer.held:
                answer(0, [])
        except ValueError:
            answer(2, ["the daemon does not know this command; is it another version?"])

    def _send(self, peer: _Peer, data: bytes) -> None:
        peer.rest = data
        self._selector.register(peer.sock, selectors.EVENT_WRITE, peer)
        self._write(peer)

    def _write(self, peer: _Peer) -> None:
        try:
            sent = peer.sock.send(peer.rest)
        except BlockingIOError:
            peer.deadline = time.monotonic() + PATIENCE
            return
        except OSError:
            self._drop(peer)
            return
        peer.rest = peer.rest[sent:]
        peer.deadline = time.monotonic() + PATIENCE
        if not peer.rest and peer.held:
            self._selector.unregister(peer.sock)
            peer.deadline = math.inf
        elif not peer.rest:
            self._drop(peer)

    def _drop(self, peer: _Peer) -> None:
        self._peers.discard(peer)
        if peer.sock in self._selector.get_map():
            self._selector.unregister(peer.sock)
        peer.sock.close()


def refusal(error: OSError) -> str:
    """Return why nobody answers at a control socket, and the way out."""
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return "no gateway runs with this runtime directory"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "permission denied; ask as root, or as the account that the daemon runs as"
    return error.strerror or str(error)
