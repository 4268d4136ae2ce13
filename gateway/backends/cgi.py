"""CGI (RFC 3875): a new process for each request, started by the user's keeper.

Decides what a script is given, how its answer is understood, and what is said when it has none.
Must not know how a process is started (`process/`), nor how an answer is laid on the wire.
Both directions run at once: the body is pumped into the script while its answer is read, so a
script may write before it reads, or never read at all.
"""

import asyncio
from dataclasses import dataclass
from types import TracebackType

from gateway.backends.complaints import Complaints
from gateway.backends.described import described
from gateway.backends.spawned import refused
from gateway.backends.spool import Spooled, spool
from gateway.exchange import LocalRedirect, Notes, Refused, Request, Response, Truncated
from gateway.journal import Journal, visible
from gateway.process.remote import AGAIN, RemoteKeeper, Run
from gateway.process.spec import SpawnFailed
from gateway.wire import PeerError
from gateway.wire.cgi_reply import BadReply, Reply, ReplyParser
from gateway.wire.chunked import ChunkedDecoder

SETTLE = 0.1
"""Seconds that the end of an answer waits for the script's exit, which says whether it was whole.
A script that closes its output and works on in the background delays its client by so much."""

ATTEMPTS = 3
"""Keepers that may hand an order back because they leave, one after the other; then it is a 503."""

KEPT = 65536
"""Bytes of a body that are kept in case its script is ordered again: a script that has been given
more must have been started, because a pipe does not hold more."""

LISTENERS = (b"date", b"server")
"""Fields that every listener sets itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CgiSettings:
    """One route to scripts."""

    route: str
    """The key under which the keeper knows the directory."""
    root: bytes
    """That directory, absolute."""
    software: bytes
    authorization: bool = False
    """Whether the script may see the Authorization header."""
    stream: bool = False
    """Whether a body of unknown length goes to the script as it comes, without CONTENT_LENGTH."""
    broken: int = 502
    """The status of an answer that cannot be understood."""


class Cgi:
    """The handler of a route to scripts."""

    def __init__(self, settings: CgiSettings, keeper: RemoteKeeper, journal: Journal) -> None:
        self.settings = settings
        self.keeper = keeper
        self.journal = journal

    def __call__(self, request: Request) -> "CgiExchange":
        return CgiExchange(self, request)


class CgiExchange:
    """One script, from its start until it is let go of."""

    __slots__ = ("_cgi", "_complaints", "_fed", "_pump", "_request", "_run", "_spooled")

    def __init__(self, cgi: Cgi, request: Request) -> None:
        self._cgi = cgi
        self._request = request
        self._run: Run | None = None
        self._pump: asyncio.Task[None] | None = None
        self._spooled: Spooled | None = None
        self._fed: list[bytes] | None = []
        """All of the body that was taken so far; None once the script must have been started."""
        self._complaints: Complaints | None = None
        """Made when there is one."""
        notes = request.notes
        notes.script = visible(notes.place.script_name)

    async def __aenter__(self) -> Response:
        entered = False
        try:
            response = await self._enter()
            entered = True
            return response
        finally:
            if not entered:
                self._leave(whole=False)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        whole = False
        try:
            if error is None and self._run is not None:
                await self._run.settled(self._request.notes.limits.grace)
                whole = True
        finally:
            self._leave(whole)

    async def _enter(self) -> Response:
        run, reply = await self._answered()
        if reply.kind == "local-redirect":
            while await run.stdout.read():
                pass  # the script may finish its work before another one answers for it
            await run.settled(self._request.notes.limits.grace)
            raise LocalRedirect(reply.location)
        headers = reply.headers
        if reply.kind == "nph":
            headers = tuple(field for field in headers if field[0].lower() not in LISTENERS)
        return Response(
            status=reply.status,
            reason=reply.reason,
            headers=headers,
            length=reply.length,
            body=CgiBody(run, reply, self._request.notes),
        )

    async def _answered(self) -> tuple[Run, Reply]:
        """Order the script, again where a keeper hands the order back, and return its head."""
        attempts = 0
        while True:
            run = self._run = await self._start()
            try:
                return run, await self._reply(run)
            except SpawnFailed as failed:
                attempts += 1
                if failed.step != AGAIN or self._fed is None or attempts == ATTEMPTS:
                    raise refused(failed) from None
                run.release()

    async def _start(self) -> Run:
        request, settings = self._request, self._cgi.settings
        place = request.notes.place
        length = request.length
        if length is None and not settings.stream:
            spooled = self._spooled = self._spooled or await spool(request)
            length = spooled.length
        environment = described(
            request,
            length,
            software=settings.software,
            authorization=settings.authorization,
        )
        piped = length != 0 and self._spooled is None
        try:
            run = await self._cgi.keeper.start(
                settings.route,
                place.file[len(settings.root) :].lstrip(b"/"),
                environment,
                body=piped,
                stdin=None if self._spooled is None else self._spooled.fd,
                patience=request.notes.limits.wait,
                linger=request.notes.limits.grace,
            )
        except SpawnFailed as failed:
            raise refused(failed) from None
        run.stderr.tap(self._complain)
        if piped:
            if self._pump is not None:
                self._pump.cancel()
            self._pump = asyncio.get_running_loop().create_task(self._feed(run))
        return run

    async def _feed(self, run: Run) -> None:
        """Give the script its body. That it does not read all of it is its right."""
        assert run.stdin is not None
        try:
            for piece in self._fed or ():
                await run.stdin.write(piece)
            while piece := await self._request.body.read():
                if self._fed is not None:
                    self._fed.append(piece)
                await run.stdin.write(piece)
                if self._fed is not None and sum(map(len, self._fed)) > KEPT:
                    self._fed = None
        except BrokenPipeError:
            return
        except (Refused, ConnectionError) as error:
            # The body is broken: the script must not take what it got for the whole.
            run.stdout.fail(error)
            return
        run.stdin.close()

    def _complain(self, data: bytes) -> None:
        if self._complaints is None:
            request = self._request
            script = request.notes.script
            self._complaints = Complaints(self._cgi.journal, script, request)
        self._complaints.feed(data)

    async def _reply(self, run: Run) -> Reply:
        parser = ReplyParser()
        try:
            while data := await run.stdout.read():
                if (reply := parser.feed(data)) is not None:
                    return reply
            return parser.finish()
        except BadReply as bad:
            raise await self._explained(run, bad) from None

    async def _explained(self, run: Run, bad: BadReply) -> Refused:
        """Say why there is no answer: the script's exit and its own last words, where it left."""
        log = bad.why
        ended = await run.settled(SETTLE)
        run.stderr.close()
        told = ""
        if self._complaints is not None:
            self._complaints.finish()
            told = self._complaints.told
        if ended is not None and (cause := run.cause(told.encode())):
            log = f"{log}: {cause}"
        if ended is not None and ended.status >= 0:
            log = f"{log} (exit status {ended.status})"
        say = "The script did not give a valid answer."
        return Refused(self._cgi.settings.broken, say, log=log, detail=told)

    def _leave(self, whole: bool) -> None:
        """Let go of everything; never waits. A script whose answer is `whole` may work on."""
        if self._pump is not None:
            self._pump.cancel()
        if self._run is not None:
            if (ended := self._run.exit) is not None:
                notes = self._request.notes
                notes.exit_status, notes.cpu, notes.memory = ended.status, ended.cpu, ended.memory
            if whole:
                self._run.abandon()
            else:
                self._run.release()
        if self._complaints is not None:
            self._complaints.finish()
        if self._spooled is not None:
            self._spooled.close()


class CgiBody:
    """What a script writes after its head, as a `Stream`."""

    def __init__(self, run: Run, reply: Reply, notes: Notes) -> None:
        self._run = run
        self._notes = notes
        self._rest = reply.rest
        self._decoder = ChunkedDecoder() if reply.chunked else None
        self._left = reply.length
        """Bytes that are still to come, where the script has said how many."""
        self._ended = False

    async def read(self) -> bytes:
        """Return the next piece. Raises `Truncated` when the script was killed before its end.

        An answer that has its announced length is complete, whatever the script still does.
        """
        while not self._ended and self._left != 0:
            data, self._rest = self._rest or await self._run.stdout.read(), b""
            if not data:
                await self._end()
            elif self._decoder is not None:
                try:
                    data = self._decoder.feed(data)
                except PeerError as error:
                    raise Truncated(error.say) from None
            if data:
                if self._left is not None:
                    data = data[: self._left]
                    self._left -= len(data)
                return data
        return b""

    async def _end(self) -> None:
        self._ended = True
        ended = await self._run.settled(SETTLE)
        if ended is not None:
            self._notes.exit_status = ended.status  # FastCGI tells it with the end of the answer
            if ended.status < 0:
                raise Truncated(self._run.cause())
        if self._decoder is not None and not self._decoder.ended:
            raise Truncated("the chunks that the script makes itself have no end")
