r"""Floor 5: the access log. One line for each exchange, whatever bytes the client sent.

Decides the form of a record and that nothing from outside can forge a line or move a terminal's
cursor (CVE-2009-4487). Must not know who opens the descriptor, nor when a turn of the loop ends.

combined: the combined log format of Apache and nginx, so that log analysers read it, then a space
and `name=value` pairs, split by spaces, that have only what is known:

    192.0.2.1 - - [10/Oct/2025:13:55:36 +0200] "GET /a HTTP/1.1" 200 512 "-" "curl/8.5"
    id=66f1a3-12 time=0.004123 site=example.org route=2 script=/cgi-bin/a.py exit=0 cpu=0.003
    mem=9437184

(one line). The time stamp is when the request came, in local time; `time` is seconds to the end of
the answer, `cpu` seconds of processor time of the script's process, `mem` its largest size in
bytes, `exit` its status, negative for a signal. Quotes, backslashes, control characters and bytes
that are not ASCII are written \xNN. A connection cut before any status has status 000.

json: one object a line, the same facts under the names in `_json`; strings are UTF-8, and a byte
that is not is written \xNN.
"""

import json
import os
import re
import select
import stat
import time
from collections.abc import Callable
from typing import Literal

from gateway.exchange import Request

Format = Literal["combined", "json"]

FLUSH_AT = 64 * 1024
"""Bytes that are held back at most."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")
_UNSAFE_IN_WORD = re.compile(rb"[^!#-\[\]-~]")
_WORDS_KEPT = 1024


class AccessLog:
    """Writes records to a descriptor that somebody else opened with O_APPEND. Never raises for a
    full disk.
    """

    def __init__(
        self,
        fd: int,
        form: Format = "combined",
        soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """`soon` gets `flush` when a first line is held back; pass `loop.call_soon`."""
        self.fd = fd
        self._line = _json if form == "json" else self._combined
        self._soon = soon
        self._lines: list[str] = []
        self._held = 0
        self._second = -1
        self._stamp = ""
        self._words: dict[tuple[str, str], str] = {}

    def record(self, request: Request, status: int, sent: int, duration: float) -> None:
        """Take one record: `sent` in bytes of body, `duration` in seconds."""
        line = self._line(request, status, sent, duration)
        if not self._lines and self._soon is not None:
            self._soon(self.flush)
        self._lines.append(line)
        self._held += len(line)
        if self._held >= FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write out all that is held back, in whole lines."""
        if not self._lines:
            return
        data = "".join(self._lines).encode("ascii")
        self._lines.clear()
        self._held = 0
        self.put(data)

    def put(self, data: bytes) -> None:
        """Write whole lines."""
        try:
            _write(self.fd, data)
        except OSError:
            pass  # a full disk or a closed pipe must not stop the daemon

    def _combined(self, request: Request, status: int, sent: int, duration: float) -> str:
        raw_referer, raw_agent = b"-", b"-"
        for name, value in request.headers:
            if name == b"user-agent":
                raw_agent = value
            elif name == b"referer":
                raw_referer = value
        method, target = request.method, request.target.decode("latin-1")
        referer = raw_referer.decode("latin-1")
        agent = raw_agent.decode("latin-1")
        # This question costs a third of a regular expression's search.
        outside = f"{request.method}{target}{referer}{agent}"
        if not (outside.isascii() and outside.isprintable()) or '"' in outside or "\\" in outside:
            method, target, referer, agent = map(_escaped, (method, target, referer, agent))
        start = int(time.time() - duration)
        if start != self._second:
            self._second, self._stamp = start, _stamp(start)
        notes = request.notes
        words = self._words.get((notes.site, notes.route))
        if words is None:
            words = self._name(notes.site, notes.route)
        if notes.script or notes.exit_status is not None:
            words += _process(request)
        user = _user(request) if request.params or request.notes.user else "-"
        protocol = request.protocol
        version = "HTTP/1.1" if protocol == b"HTTP/1.1" else _escaped(protocol.decode("latin-1"))
        return (
            f"{request.remote[0] or '-'} - {user} [{self._stamp}] "
            f'"{method} {target} {version}" '
            f'{status or "000"} {sent or "-"} "{referer}" "{agent}" '
            f"id={request.id} time={duration:.6f}{words}\n"
        )

    def _name(self, site: str, route: str) -> str:
        """Return and keep " site=... route=...": few, and the same for many records."""
        words = f"{_pair('site', site)}{_pair('route', route)}"
        if len(self._words) >= _WORDS_KEPT:
            self._words.clear()
        self._words[site, route] = words
        return words


def _write(fd: int, data: bytes) -> None:
    """Write whole lines.

    Several fronts write to one descriptor. Their lines do not mix: the kernel appends one write to
    a file at once, and one of up to PIPE_BUF bytes to a pipe (pipe(7)), so a pipe gets pieces of
    that size; only a single longer line may be torn.
    """
    piece = len(data)
    if piece > select.PIPE_BUF and stat.S_ISFIFO(os.fstat(fd).st_mode):
        piece = select.PIPE_BUF
    start = 0
    while start < len(data):
        stop = len(data)
        if stop - start > piece:
            stop = data.rfind(b"\n", start, start + piece) + 1 or data.index(b"\n", start) + 1
        while start < stop:
            start += os.write(fd, data[start:stop])


def _stamp(second: int) -> str:
    """Return 10/Oct/2025:13:55:36 +0200, with English months whatever the locale."""
    now = time.localtime(second)
    minutes = now.tm_gmtoff // 60
    sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
    return (
        f"{now.tm_mday:02d}/{_MONTHS[now.tm_mon - 1]}/{now.tm_year}:"
        f"{now.tm_hour:02d}:{now.tm_min:02d}:{now.tm_sec:02d} "
        f"{sign}{minutes // 60:02d}{minutes % 60:02d}"
    )


def _hex(match: re.Match[bytes]) -> bytes:
    return b"\\x%02x" % match[0][0]


def _escaped(latin: str) -> str:
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", latin)


def _pair(name: str, value: str) -> str:
    """Return " name=value", or "" for no value."""
    if not value:
        return ""
    word = _UNSAFE_IN_WORD.sub(_hex, value.encode("utf-8", "backslashreplace"))
    return f" {name}={word.decode('ascii')}"


def _user(request: Request) -> str:
    """Return the user that was authenticated here or by a trusted front server, as one word."""
    user = request.notes.user or request.params.get(b"REMOTE_USER", b"-")
    return _UNSAFE_IN_WORD.sub(_hex, user).decode("ascii") or "-"


def _process(request: Request) -> str:
    """Return what is known of the script and its process."""
    notes = request.notes
    ended = ""
    if notes.exit_status is not None:
        ended = f" exit={notes.exit_status}"
        if notes.cpu:
            ended += f" cpu={notes.cpu:.3f}"
        if notes.memory:
            ended += f" mem={notes.memory}"
    return f"{_pair('script', notes.script)}{ended}"


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _json(request: Request, status: int, sent: int, duration: float) -> str:
    start = time.time() - duration
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(start))
    headers = dict(request.headers)
    notes = request.notes
    record: dict[str, str | int | float] = {
        "time": f"{stamp}.{int(start % 1 * 1000):03d}Z",
        "id": request.id,
        "remote": request.remote[0],
        "method": request.method,
        "host": _text(request.host),
        "target": _text(request.target),
        "protocol": _text(request.protocol),
        "status": status,
        "sent": sent,
        "duration": round(duration, 6),
        "referer": _text(headers.get(b"referer", b"")),
        "agent": _text(headers.get(b"user-agent", b"")),
        "site": notes.site,
        "route": notes.route,
    }
    if notes.user or b"REMOTE_USER" in request.params:
        record["user"] = _text(notes.user or request.params[b"REMOTE_USER"])
    if notes.script:
        record["script"] = notes.script
    if notes.exit_status is not None:
        record |= {"exit": notes.exit_status, "cpu": round(notes.cpu, 3), "memory": notes.memory}
    # DEL is the one control character that JSON leaves as it is.
    return json.dumps(record, separators=(",", ":")).replace("\x7f", "\\u007f") + "\n"
