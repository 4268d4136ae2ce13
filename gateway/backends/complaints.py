"""What a program writes to its stderr during one exchange: to the error log, line by line.

Decides where a line ends and how much is remembered to explain a failure with. A listener whose
peer takes stderr too (`Request.stderr`) gets each piece first, as it comes, and says whether it is
also logged. That no line can forge another one is the journal's business.
"""

from gateway.exchange import Request
from gateway.journal import Journal

LINE_MAX = 8000
"""Bytes beyond which a line is logged in parts; just below the journal's own bound."""
TOLD_MAX = 4096
"""Bytes that are remembered."""
LINES_MAX = 1000
"""Lines of one exchange that are logged; more are counted. Each is a write to the log, and neither
it nor the other exchanges are to suffer from a program that complains without end."""


class Complaints:
    """Bytes in any pieces to log lines."""

    __slots__ = ("_journal", "_line", "_lines", "_pass", "_request", "_subject", "_told")

    def __init__(self, journal: Journal, subject: str, request: Request) -> None:
        self._journal = journal
        self._subject = subject
        self._request = request.id
        self._pass = request.stderr
        self._line = b""
        self._lines = 0
        self._told = b""

    @property
    def told(self) -> str:
        """The last that was said."""
        return self._told.decode("utf-8", "backslashreplace")

    def feed(self, data: bytes) -> None:
        self._told = (self._told + data)[-TOLD_MAX:]
        if self._pass is not None and not self._pass(data):
            return
        *lines, rest = (self._line + data).split(b"\n")
        for line in lines:
            self._log(line)
        while len(rest) > LINE_MAX:
            self._log(rest[:LINE_MAX])
            rest = rest[LINE_MAX:]
        self._line = rest

    def finish(self) -> None:
        """Log a last line that has no end."""
        line, self._line = self._line, b""
        self._log(line)
        if self._lines > LINES_MAX:
            self._write(b"(%d more lines were not logged)" % (self._lines - LINES_MAX))
            self._lines = 0

    def _log(self, line: bytes) -> None:
        line = line.rstrip(b"\r")
        if line:
            self._lines += 1
            if self._lines <= LINES_MAX:
                self._write(line)

    def _write(self, line: bytes) -> None:
        self._journal.write("warn", line, subject=self._subject, request=self._request)
