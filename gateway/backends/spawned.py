"""How it is answered that a program could not be started.

Decides what the client is told of it: little. The cause is for the log.
"""

from gateway.exchange import Refused
from gateway.process.spec import SpawnFailed


def refused(failed: SpawnFailed) -> Refused:
    """Return the refusal that says so."""
    headers = ((b"Retry-After", b"1"),) if failed.status == 503 else ()
    say = "" if failed.status in (403, 404) else "The program could not be started."
    return Refused(failed.status, say, log=failed.why, headers=headers)
