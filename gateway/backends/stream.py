"""The engine for workers reached by a socket, whatever protocol they speak.

Decides the course of one exchange: a connection, the request out, the answer in, and what becomes
of the connection. Must not know a protocol: that is a `codec.Codec`. Connections come from `supply`
(`pool` decides which); how bytes move on them is `connection`.

An exchange whose block is left early closes its connection: for a worker, that is the abort, and
the only one that all of them understand. Nothing waits while it leaves.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType

from gateway.backends.codec import Codec, Complaint, End
from gateway.backends.complaints import Complaints
from gateway.backends.connection import Connection
from gateway.backends.described import described
from gateway.backends.pool import Refuse
from gateway.backends.spool import Spooled, spool
from gateway.backends.supply import Supply
from gateway.exchange import NO_BODY, LocalRedirect, Refused, Request, Response, Stream, Truncated
from gateway.journal import Journal
from gateway.wire import PeerError
from gateway.wire.cgi_reply import BadReply, Reply, ReplyParser
from gateway.wire.chunked import ChunkedDecoder

DROP_MAX = 65536
"""Bytes of unwanted output (the body of a HEAD, more than Content-Length) that are received and
dropped to keep a connection."""

USES_MAX = 200
"""Exchanges of one connection. A kept connection stays with the process that accepted it; new ones
go to processes that were not there yet, or had no time, when the others were made."""

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "REPORT"))
"""Methods of which a second attempt does no harm (RFC 9110 section 9.2.2)."""


def always_up() -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """What the engine needs to know about one route to a pool."""

    keep: bool
    """Whether connections are kept between requests."""
    software: bytes = b"gateway"
    """SERVER_SOFTWARE."""
    authorization: bool = False
    """Whether Authorization is passed on."""
    stream: bool = False
    """Whether a chunked request body is passed on as it comes, without a CONTENT_LENGTH."""
    environment: Mapping[bytes, bytes] = field(default_factory=dict)
    """More variables for each request; those computed from the request come before them."""


class StreamBackend:
    """The handler."""

    def __init__(
        self,
        settings: StreamSettings,
        codec: Callable[[], Codec],
        supply: Supply,
        journal: Journal,
        *,
        down: Callable[[], str] = always_up,
    ) -> None:
        """`down` tells why the pool's workers are down, or "" while they are up."""
        self.settings = settings
        self.codec = codec
        self.supply = supply
        self.journal = journal
        self.down = down

    def __call__(self, request: Request) -> AbstractAsyncContextManager[Response]:
        return Exchange(self, request)


class Exchange:
    """One exchange: the handler's context manager, and the Stream of its answer's body."""

    __slots__ = (
        "_answered",
        "_backend",
        "_codec",
        "_complaints",
        "_connection",
        "_decoder",
        "_dropped",
        "_end",
        "_left",
        "_parser",
        "_parts",
        "_pulled",
        "_pump",
        "_reply",
        "_request",
        "_spooled",
        "_supply",
        "_timer",
    )

    def __init__(self, backend: StreamBackend, request: Request) -> None:
        self._backend = backend
        self._request = request
        self._supply = backend.supply
        self._complaints = Complaints(backend.journal, backend.supply.name, request)
        self._codec = backend.codec()
        self._connection: Connection | None = None
        self._spooled: Spooled | None = None
        self._pump: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pulled = False
        """Whether the request's body was touched."""
        self._answered = False
        """Whether the worker sent anything."""
        self._parser = ReplyParser()
        self._reply: Reply | None = None
        self._parts: list[bytes] = []
        """Output that was received and not asked for yet."""
        self._left: int | None = None
        """Bytes that the body must still have, where its length was announced."""
        self._decoder: ChunkedDecoder | None = None
        self._end: End | None = None
        self._dropped = 0

    async def __aenter__(self) -> Response:
        entered = False
        try:
            response = await self._enter()
            entered = True
            return response
        finally:
            if not entered:
                self._leave()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    # The request

    async def _enter(self) -> Response:
        backend, request = self._backend, self._request
        request.notes.script = self._supply.name
        down = backend.down()
        if down:
            raise self._supply.refused(Refuse(down, 1))
        body, length = request.body, request.length
        if length is None and not backend.settings.stream:
            self._spooled = await spool(request)
            body, length = self._spooled, self._spooled.length
        env: Mapping[bytes, bytes] = described(
            request,
            length,
            software=backend.settings.software,
            authorization=backend.settings.authorization,
        )
        if backend.settings.environment:
            env = {**backend.settings.environment, **env}
        self._connection = await self._supply.take(request)
        while True:
            self._send(self._connection, env, body, length)
            reply = await self._head(self._connection)
            if reply is not None:
                return self._response(reply)
            # The worker had closed this kept connection before it could see the request.
            self._connection.close()
            self._connection = None
            self._connection = await self._supply.again(request)
            self._codec = backend.codec()

    def _send(
        self, connection: Connection, env: Mapping[bytes, bytes], body: Stream, length: int | None
    ) -> None:
        codec = self._codec
        connection.uses += 1
        keep = self._backend.settings.keep and connection.uses < USES_MAX
        message = codec.open(env, keep=keep, use=connection.uses)
        if length == 0:
            connection.write(message + codec.end())
            return
        connection.write(message)
        self._pump = asyncio.create_task(self._feed(connection, codec, body, length))
        self._pump.add_done_callback(self._fed)

    async def _feed(
        self, connection: Connection, codec: Codec, body: Stream, length: int | None
    ) -> None:
        """Pass the request's body on, as fast as the worker takes it."""
        if connection.uses > 1:
            await asyncio.sleep(0)  # let the loop see that the worker has closed it, if it has
            if connection.ended:
                return
        self._pulled = True
        sent = 0
        while not connection.broken:
            data = await body.read()
            sent += len(data)
            if not data or sent == length:
                connection.write(codec.piece(data) + codec.end() if data else codec.end())
                return
            connection.write(codec.piece(data))
            if not connection.drained:
                await connection.drain()

    def _fed(self, pump: "asyncio.Task[None]") -> None:
        error = None if pump.cancelled() else pump.exception()
        if error is not None and self._connection is not None:
            self._connection.fail(error)

    # The answer

    async def _head(self, connection: Connection) -> Reply | None:
        """Return the answer's head, or None if a kept connection was stale. Raises Refused."""
        while self._reply is None:
            if self._end is not None:
                raise self._failed_without_head()
            data = await connection.read()
            if data:
                self._answered = True
            elif connection.uses > 1 and not self._answered and self._may_repeat():
                return None
            if not self._receive(data) and not data:
                raise self._failed(f"{connection.why} before the answer's head was complete")
        return self._reply

    def _may_repeat(self) -> bool:
        """Whether the worker cannot have acted on the request, or may act on it twice."""
        if self._pump is None:
            return self._request.method in IDEMPOTENT
        return not self._pulled

    def _receive(self, data: bytes) -> bool:
        """Take in what the worker sent; return whether it has ended the request.

        Raises Refused before the head is complete, Truncated after it.
        """
        try:
            for event in self._codec.feed(data):
                if isinstance(event, bytes):
                    if self._reply is not None:
                        self._output(event)
                    else:
                        self._reply = self._parser.feed(event)
                        if self._reply is not None:
                            self._begin(self._reply)
                elif isinstance(event, Complaint):
                    self._complaints.feed(event.data)
                else:
                    self._end = event
                    self._request.notes.exit_status = event.status & 0xFF
        except BadReply as bad:
            raise self._failed(bad.why) from None
        except PeerError as error:
            if self._reply is not None:
                raise Truncated(error.say) from None
            raise self._failed(error.say) from None
        return self._end is not None

    def _begin(self, reply: Reply) -> None:
        self._left = reply.length
        if self._request.method == "HEAD" or reply.status in (204, 304):
            self._left = 0
        elif reply.chunked:
            self._decoder = ChunkedDecoder()
        if reply.rest:
            self._output(reply.rest)

    def _output(self, data: bytes) -> None:
        if self._decoder is not None:
            data = self._decoder.feed(data)
        if self._left is not None:
            if len(data) > self._left:
                self._dropped += len(data) - self._left
                data = data[: self._left]
            self._left -= len(data)
        if data:
            self._parts.append(data)

    def _response(self, reply: Reply) -> Response:
        if self._end is not None:
            self._settle()
        if reply.kind == "local-redirect":
            self._left = 0
            raise LocalRedirect(reply.location)
        body: bytes | Stream = self
        length = reply.length
        if self._request.method == "HEAD":
            body = NO_BODY
        elif self._left == 0 or (self._end is not None and self._whole()):
            body, length = b"".join(self._parts), None
        return Response(
            status=reply.status,
            headers=reply.headers,
            body=body,
            length=length,
            reason=reply.reason,
        )

    def _whole(self) -> bool:
        """Whether the body, at the worker's end of the request, is what was announced."""
        return not self._left and (self._decoder is None or self._decoder.ended)

    async def read(self) -> bytes:
        """The answer's body. Raises Truncated, or what made the request's body incomplete."""
        while not self._parts:
            if self._left == 0:
                return b""
            if self._end is not None:
                if self._whole():
                    return b""
                raise Truncated("the answer is shorter than its Content-Length")
            connection = self._connection
            if connection is None:
                raise Truncated("the answer was given up")
            data = await connection.read()
            if self._receive(data):
                self._settle()
            elif not data:
                raise Truncated(f"{connection.why} in the middle of the answer")
        data = b"".join(self._parts)
        self._parts.clear()
        return data

    # The end

    def _settle(self) -> None:
        """Part with the connection, once the worker has ended the request."""
        connection, self._connection = self._connection, None
        self._complaints.finish()
        if connection is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        if self._pump is not None:
            self._pump.cancel()
        self._supply.served(connection)
        if self._codec.reusable and not connection.ended and connection.drained:
            self._supply.give_back(connection)
        else:
            self._supply.give_up(connection)

    def _leave(self) -> None:
        """Let go of everything. Never waits."""
        if self._spooled is not None:
            self._spooled.close()
        connection = self._connection
        if connection is None:
            self._complaints.finish()
            return
        pumping = self._pump is not None and not self._pump.done()
        if self._end is not None or self._left != 0 or pumping:
            if self._pump is not None:
                self._pump.cancel()
            self._connection = None
            self._complaints.finish()
            self._supply.give_up(connection)
            return
        # The answer is complete and only the worker's word for it is missing: it may have work to
        # do after its answer, and is not free before. Stay until then, but keep nobody waiting.
        limit = self._request.notes.limits.idle
        self._timer = asyncio.get_running_loop().call_later(limit, self._give_up_waiting)
        connection.receiver = self._linger
        held = connection.taken()
        if held or connection.ended:
            self._linger(connection, held)

    def _linger(self, connection: Connection, data: bytes) -> None:
        try:
            self._receive(data)
        except (Truncated, Refused):
            data = b""
        self._parts.clear()
        if self._end is not None:
            connection.receiver = None
            self._settle()
        elif not data or self._dropped > DROP_MAX:
            self._give_up_waiting()

    def _give_up_waiting(self) -> None:
        connection, self._connection = self._connection, None
        if self._timer is not None:
            self._timer.cancel()
        if connection is not None:
            self._complaints.finish()
            self._supply.give_up(connection)

    # What went wrong

    def _failed(self, why: str) -> Refused:
        self._complaints.finish()
        return Refused(
            502,
            "The application did not answer as it should.",
            log=f"pool {self._supply.name}: {why}",
            detail=self._complaints.told,
        )

    def _failed_without_head(self) -> Refused:
        refusal = self._end.refusal if self._end is not None else ""
        if refusal:
            return self._supply.refused(Refuse(refusal, 1))
        try:
            self._parser.finish()
        except BadReply as bad:
            return self._failed(bad.why)
        return self._failed("it ended the request without an answer")
