"""Floor 0: bytes to values and back, every protocol once.

Nothing here opens a socket, reads a clock, logs, or knows an event loop. What a peer got wrong is
a `PeerError`; what a caller of ours got wrong is a `ValueError`.
"""


class PeerError(Exception):
    """The other side broke the protocol.

    `status` is the HTTP status that answers it; `say` is one plain sentence, without any byte that
    came from the peer, that may be shown to the peer and written to the log.
    """

    def __init__(self, status: int, say: str) -> None:
        super().__init__(f"{status}: {say}")
        self.status = status
        self.say = say
