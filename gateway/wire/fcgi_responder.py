"""The answering side of FastCGI 1.0 on one connection, for the front servers that ask us.

Decides which records a front may send when, and answers what concerns the protocol alone. Must not
know sockets, sites, or what stands in the parameters.

One request at a time, as GET_VALUES says. What stands below is decided here, because the standard
leaves it open or because real fronts need it:

- Records of ids that have no live request are dropped, whatever they are. So is the STDIN that
  still comes for a request that was answered early, and nothing is remembered of either.
- An id may be used again once its request has ended, and never before.
- A request is told of when its PARAMS have ended, not when its STDIN has. One that is aborted
  before that is ended here.
- An authorizer has no STDIN (section 6.3): it ends at once, and what is sent of it is dropped.
- An empty DATA record, and a second end of STDIN, do no harm: flup's client sends the one always,
  and clients that encode an empty body as a record send the other.
- PARAMS that cannot be read spoil their request, which may still be answered; the connection stays
  in step. Any other fault breaks the connection: nothing after it is looked at.

Standard: FastCGI 1.0, sections 4 (management records), 5 and 6 (roles).
"""

from collections.abc import Set
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from gateway.wire import PeerError
from gateway.wire.fcgi_params import ParamsDecoder, encode_params
from gateway.wire.fcgi_record import (
    ABORT_REQUEST,
    AUTHORIZER,
    BEGIN_BODY,
    BEGIN_REQUEST,
    CANT_MPX_CONN,
    DATA,
    END_BODY,
    END_REQUEST,
    GET_VALUES,
    GET_VALUES_RESULT,
    KEEP_CONN,
    MAX_CONTENT,
    NULL_REQUEST,
    OVERLOADED,
    PARAMS,
    REQUEST_COMPLETE,
    RESPONDER,
    STDERR,
    STDIN,
    STDOUT,
    UNKNOWN_ROLE,
    UNKNOWN_TYPE,
    Record,
    RecordParser,
    encode_record,
)

ROLES: Final = frozenset((RESPONDER, AUTHORIZER))


class Begin(NamedTuple):
    """A request whose parameters are all there; its body may still come."""

    id: int
    role: int
    keep: bool
    """Whether the connection stays open after the request."""
    params: dict[bytes, bytes]


class Stdin(NamedTuple):
    """A piece of the live request's body; never empty."""

    data: bytes


class StdinEnd(NamedTuple):
    """The end of the live request's body; comes once after each `Begin`, unless `Abort` does."""


class Abort(NamedTuple):
    """The front wants no answer any more. The request stays live until `end`."""


class Reply(NamedTuple):
    """Bytes to write at once, which have nothing to do with the live request."""

    data: bytes


class Hangup(NamedTuple):
    """Close when what was written is out; always the last event of a connection."""


Event: TypeAlias = Begin | Stdin | StdinEnd | Abort | Reply | Hangup | PeerError


class _Step(Enum):
    """What the live request waits for."""

    PARAMS = "its parameters"
    STDIN = "its body"
    ANSWER = "nothing but its answer"
    SPOILED = "its answer; its parameters cannot be read, and what still comes of it is dropped"
    ABORTED = "its end"


class _Gathered:
    """Events in their order, with neighbouring pieces of the same sort made one.

    A front that sends a megabyte in records of one byte must not become a million events.
    """

    __slots__ = ("_make", "_pieces", "events")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._make: type[Stdin] | type[Reply] = Stdin
        self._pieces: list[bytes] = []

    def piece(self, make: type[Stdin] | type[Reply], data: bytes) -> None:
        if self._make is not make:
            self.done()
            self._make = make
        self._pieces.append(data)

    def add(self, event: Event) -> None:
        self.done()
        self.events.append(event)

    def done(self) -> list[Event]:
        if self._pieces:
            self.events.append(self._make(b"".join(self._pieces)))
            self._pieces = []
        return self.events


class Responder:
    """The requests of one connection, one after the other."""

    __slots__ = (
        "_deaf",
        "_id",
        "_keep",
        "_live",
        "_params",
        "_parser",
        "_role",
        "_roles",
        "_step",
        "_values",
        "_wrote_stderr",
    )

    def __init__(
        self, *, roles: Set[int] = ROLES, max_conns: int = 1000, max_reqs: int = 1000
    ) -> None:
        """`roles` are taken, others refused; the numbers are what GET_VALUES is told."""
        self._roles = roles
        self._values = {
            b"FCGI_MAX_CONNS": b"%d" % max_conns,
            b"FCGI_MAX_REQS": b"%d" % max_reqs,
            b"FCGI_MPXS_CONNS": b"0",
        }
        self._parser = RecordParser()
        self._params = ParamsDecoder()
        self._step = _Step.ANSWER
        self._live = False
        self._id = 0
        self._role = 0
        self._keep = False
        self._wrote_stderr = False
        self._deaf = False

    @property
    def live(self) -> bool:
        """Whether a request may be answered, also one that was spoiled by a `PeerError`."""
        return self._live

    @property
    def keep(self) -> bool:
        """Whether the connection stays open after the live, or the last, request."""
        return self._keep

    @property
    def idle(self) -> bool:
        """Whether nothing is lost when the connection is closed now."""
        return not self._live and not self._parser.held

    @property
    def in_head(self) -> bool:
        """Whether something of a request has come, and not all of its parameters."""
        if self._live:
            return self._step is _Step.PARAMS
        return self._parser.held > 0

    @property
    def held(self) -> int:
        """Bytes that are kept between two calls: at most a record and a set of parameters."""
        return self._parser.held + self._params.held

    def feed(self, data: bytes) -> list[Event]:
        """Return what the front's bytes mean. Never raises for what the peer sent.

        A `PeerError` is an event of its own. If a request is `live` after it, it may still be
        answered; `keep` says, as always, whether the connection may be used on. After `Hangup`,
        after the end of a request without `keep`, and after a broken protocol everything that
        comes is ignored.
        """
        if self._deaf:
            return []
        gathered = _Gathered()
        try:
            self._take(data, gathered)
        except PeerError as error:
            self._break()
            gathered.add(error)
        return gathered.done()

    def _take(self, data: bytes, gathered: _Gathered) -> None:
        records: list[Record] = []
        fault: PeerError | None = None
        try:
            self._parser.take(data, records)
        except PeerError as error:
            fault = error  # after the whole records before it have been looked at
        for record in records:
            self._record(record, gathered)
            if self._deaf:
                return
        if fault is not None:
            raise fault

    def _break(self) -> None:
        self._deaf = True
        self._keep = False
        self._forget()
        if self._live:
            self._step = _Step.SPOILED

    def _forget(self) -> None:
        self._parser = RecordParser()
        self._params = ParamsDecoder()

    def _record(self, record: Record, gathered: _Gathered) -> None:
        kind, id, content = record
        if id == NULL_REQUEST:
            gathered.piece(Reply, self._manage(kind, content))
        elif kind == BEGIN_REQUEST:
            self._begin(id, content, gathered)
        elif not self._live or id != self._id:
            return
        elif kind == ABORT_REQUEST:
            self._abort(gathered)
        elif kind not in (PARAMS, STDIN, DATA):
            raise PeerError(400, "a FastCGI client sent a record of a type it must not")
        elif self._step in (_Step.SPOILED, _Step.ABORTED):
            return
        elif kind == PARAMS:
            self._take_params(content, gathered)
        elif kind == STDIN:
            self._take_stdin(content, gathered)
        elif content:
            raise PeerError(400, "a FastCGI client sent DATA, which only a filter has")

    def _manage(self, kind: int, content: bytes) -> bytes:
        """Return the answer to a management record."""
        if kind == GET_VALUES:
            decoder = ParamsDecoder(total=MAX_CONTENT)
            decoder.feed(content)
            asked = decoder.finish()
            known = {name: value for name, value in self._values.items() if name in asked}
            return encode_record(GET_VALUES_RESULT, NULL_REQUEST, encode_params(known))
        if BEGIN_REQUEST <= kind <= DATA:
            raise PeerError(400, "a FastCGI client sent a request's record with the id 0")
        if kind in (GET_VALUES_RESULT, UNKNOWN_TYPE):
            # Answering an answer could go on for ever between two that do.
            raise PeerError(400, "a FastCGI client answered a question that was not asked")
        return encode_record(UNKNOWN_TYPE, NULL_REQUEST, bytes((kind,)) + bytes(7))

    def _begin(self, id: int, content: bytes, gathered: _Gathered) -> None:
        if len(content) != BEGIN_BODY.size:
            raise PeerError(400, "a FastCGI client began a request with a record of a wrong size")
        role, flags = BEGIN_BODY.unpack(content)
        if self._live:
            if id == self._id:
                raise PeerError(400, "a FastCGI client began a request that has not ended")
            # Its missing KEEP_CONN, if so, must not close the connection of the live request.
            gathered.piece(Reply, _end_request(id, 0, CANT_MPX_CONN))
            return
        keep = bool(flags & KEEP_CONN)
        if role not in self._roles:
            gathered.piece(Reply, _end_request(id, 0, UNKNOWN_ROLE))
            if not keep:
                self._deaf = True
                self._forget()
                gathered.add(Hangup())
            return
        self._live = True
        self._id, self._role, self._keep = id, role, keep
        self._wrote_stderr = False
        self._step = _Step.PARAMS

    def _abort(self, gathered: _Gathered) -> None:
        if self._step is _Step.PARAMS:
            gathered.piece(Reply, self.end())
            if not self._keep:
                gathered.add(Hangup())
        elif self._step is not _Step.ABORTED:
            self._step = _Step.ABORTED
            gathered.add(Abort())

    def _take_params(self, content: bytes, gathered: _Gathered) -> None:
        if self._step is not _Step.PARAMS:
            raise PeerError(400, "a FastCGI client sent PARAMS after the end of them")
        try:
            if content:
                self._params.feed(content)
                return
            params = self._params.finish()
        except PeerError as error:
            self._params = ParamsDecoder()
            self._step = _Step.SPOILED
            gathered.add(error)
            return
        gathered.add(Begin(self._id, self._role, self._keep, params))
        self._step = _Step.STDIN
        if self._role == AUTHORIZER:
            self._end_of_stdin(gathered)

    def _take_stdin(self, content: bytes, gathered: _Gathered) -> None:
        if self._step is _Step.PARAMS:
            raise PeerError(400, "a FastCGI client sent STDIN before the end of PARAMS")
        if self._step is _Step.STDIN:
            if content:
                gathered.piece(Stdin, content)
            else:
                self._end_of_stdin(gathered)
        elif content and self._role != AUTHORIZER:
            raise PeerError(400, "a FastCGI client sent STDIN after the end of it")

    def _end_of_stdin(self, gathered: _Gathered) -> None:
        self._step = _Step.ANSWER
        gathered.add(StdinEnd())

    def stdout(self, data: bytes) -> bytes:
        """Return a piece of the answer as records; b"" for b"", which would end it.

        Raises ValueError when no request is live, as all that answer do.
        """
        self._check_live()
        return encode_record(STDOUT, self._id, data) if data else b""

    def stderr(self, data: bytes) -> bytes:
        """Return text for the front's error log as records; b"" for b""."""
        self._check_live()
        if not data:
            return b""
        self._wrote_stderr = True
        return encode_record(STDERR, self._id, data)

    def end(self, app_status: int = 0) -> bytes:
        """Return the records that end the answer and the request, which is live no more.

        `app_status` is what a CGI program gives to exit(), as an unsigned 32-bit number. An end of
        STDERR is sent only after some of it, as section 5.3 allows.
        """
        self._check_live()
        parts = [encode_record(STDOUT, self._id, b"")]
        if self._wrote_stderr:
            parts.append(encode_record(STDERR, self._id, b""))
        parts.append(self._finish(app_status, REQUEST_COMPLETE))
        return b"".join(parts)

    def refuse(self, protocol_status: int = OVERLOADED) -> bytes:
        """Return the record that ends the request unanswered: OVERLOADED, or another reason.

        Raises ValueError for REQUEST_COMPLETE, for which there is `end`.
        """
        self._check_live()
        if not CANT_MPX_CONN <= protocol_status <= UNKNOWN_ROLE:
            raise ValueError(f"no request is refused with the status {protocol_status}")
        return self._finish(0, protocol_status)

    def _finish(self, app_status: int, protocol_status: int) -> bytes:
        if not 0 <= app_status <= 0xFFFFFFFF:
            raise ValueError(f"{app_status} is not an application status of 32 bits")
        self._live = False
        self._params = ParamsDecoder()
        if not self._keep:
            self._deaf = True
            self._forget()
        return _end_request(self._id, app_status, protocol_status)

    def _check_live(self) -> None:
        if not self._live:
            raise ValueError("no FastCGI request is live")


def _end_request(id: int, app_status: int, protocol_status: int) -> bytes:
    return encode_record(END_REQUEST, id, END_BODY.pack(app_status, protocol_status))
