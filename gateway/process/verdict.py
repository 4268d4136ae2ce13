"""Judge what one run of a script gave: how it ended, its answer, what it wrote to stderr.

Decides which of it is a fault. The answer is read by `wire/cgi_reply.py` and the cause is named by
`diagnosis.py`, as for a request. Pure. Must not know how the script was run or what it is.
"""

import re
from collections.abc import Iterator
from signal import Signals

from gateway.process import diagnosis
from gateway.process.checkup import Check, Level
from gateway.process.trial import OUTPUT_MAX, Outcome
from gateway.wire.cgi_reply import BadReply, Reply, ReplyParser

STDERR_LINES = 10
HEAD_LINES = 20

_TYPE = re.compile(rb"^content-type[ \t]*:[ \t]*[^ \t\r\n]", re.IGNORECASE | re.MULTILINE)


def judge(outcome: Outcome, seconds: float, method: str = "GET") -> Iterator[Check]:
    """Check what a script gave that was run for at most `seconds` and asked with `method`."""
    parser = ReplyParser()
    reply: Reply | None = None
    bad = ""
    try:
        reply = parser.feed(outcome.output) or parser.finish()
    except BadReply as error:
        bad = error.why
    yield _run(outcome, seconds, answered=reply is not None)
    if outcome.left:
        why = "it left a process behind, which was stopped here; the daemon lets it work on"
        yield Check("warn", "background", why)
    if reply is not None:
        yield _answer(reply, outcome, bodyless=method == "HEAD" or reply.status == 304)
    elif outcome.output or not outcome.late:
        yield Check("FAIL", "answer", bad)
    lines = [line for line in outcome.stderr.splitlines() if line.strip()]
    if lines:
        cut = f", the last {STDERR_LINES}" if len(lines) > STDERR_LINES else ""
        text = f"{len(lines)} line{'s' * (len(lines) != 1)}{cut}, for the error log"
        yield Check("warn", "stderr", text, tuple(lines[-STDERR_LINES:]))


def _run(outcome: Outcome, seconds: float, *, answered: bool) -> Check:
    status = outcome.exit.status
    if outcome.late:
        if answered:
            why = f"its answer had begun, but it still ran after {seconds:g} s and was stopped"
            return Check("warn", "run", f"{why}: right for a stream only")
        why = f"no answer in {seconds:g} s, then it was stopped"
        return Check("FAIL", "run", f"{why}: does it wait for input, a lock or the network?")
    cost = f"{outcome.seconds:.3f} s, {outcome.exit.cpu:.3f} s of processor time"
    if outcome.exit.memory:
        cost += f", {outcome.exit.memory / (1 << 20):.0f} MiB"
    how = f"exit status {status}" if status >= 0 else _killed(-status)
    cause = ""
    if not answered or status:
        cause = diagnosis.exit_cause(status, outcome.stderr)
    why = f": {cause}" if cause else ""
    level: Level = "ok" if not status else "warn" if answered and status > 0 else "FAIL"
    return Check("FAIL" if cause and not answered else level, "run", f"{how} after {cost}{why}")


def _killed(number: int) -> str:
    try:
        return f"killed by {Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"


def _answer(reply: Reply, outcome: Outcome, *, bodyless: bool) -> Check:
    raw = outcome.output[: len(outcome.output) - len(reply.rest)]
    lines = tuple(raw.rstrip().splitlines())[:HEAD_LINES]
    body = outcome.written - len(raw)
    if reply.kind == "local-redirect":
        return Check(
            "ok",
            "answer",
            f"a local redirect to {reply.location.decode('utf-8', 'backslashreplace')}",
            lines,
        )
    kind = {"nph": ", as an NPH script", "client-redirect": ", a redirect"}.get(reply.kind, "")
    text = f"{reply.status}{kind}, {body} bytes of body"
    whole = not outcome.late and len(outcome.output) < OUTPUT_MAX
    if bodyless and not body:
        whole = False  # the length is that of an answer to GET
    if whole and reply.length is not None and reply.length != body:
        why = f"it announces {reply.length} bytes and sends {body}: correct its Content-Length"
        return Check("FAIL" if reply.length > body else "warn", "answer", why, lines)
    if body and not _TYPE.search(raw):
        why = "no Content-Type, so it is sent as plain text: print Content-Type: text/html"
        return Check("warn", "answer", f"{text}, but {why}", lines)
    return Check("warn" if reply.status >= 400 else "ok", "answer", text, lines)
