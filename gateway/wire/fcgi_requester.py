"""The asking side of FastCGI 1.0: one request on one connection to a worker.

Decides which records a worker may send when. Must not know sockets, pools, or what stands in the
parameters and in the output.

The request always has id 1: workers that can multiplex do not exist in practice, and a connection
carries one request at a time. For the next request on a kept connection make a new `Requester`,
if this one is `reusable`.

Standard: FastCGI 1.0, sections 4 (management records), 5 and 6.2 (Responder).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from gateway.wire import PeerError
from gateway.wire.fcgi_params import encode_params
from gateway.wire.fcgi_record import (
    BEGIN_BODY,
    BEGIN_REQUEST,
    END_BODY,
    END_REQUEST,
    GET_VALUES_RESULT,
    KEEP_CONN,
    MAX_CONTENT,
    NULL_REQUEST,
    PARAMS,
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


@dataclass(frozen=True, slots=True)
class Stdout:
    """Output of the worker; never empty."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stderr:
    """Text for the error log; never empty."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker is done with the request."""

    app_status: int
    """What a CGI program would give to exit(), as an unsigned 32-bit number."""
    protocol_status: int
    """REQUEST_COMPLETE, or why the request was not taken: CANT_MPX_CONN, OVERLOADED,
    UNKNOWN_ROLE."""


Event: TypeAlias = Stdout | Stderr | Ended


@lru_cache(1024)
def _begin(id: int, role: int, keep: bool) -> bytes:
    body = BEGIN_BODY.pack(role, KEEP_CONN if keep else 0)
    return encode_record(BEGIN_REQUEST, id, body)


@lru_cache(1024)
def _end_of(kind: int, id: int) -> bytes:
    return encode_record(kind, id, b"")


def _params_by_pairs(params: Mapping[bytes, bytes], id: int) -> bytes:
    """Return large parameters in records that end where a pair ends, as far as that is possible.

    The standard does not ask for it, but flup reads each record on its own: it loses what follows
    a pair that is cut, and answers as if it had not been sent.
    """
    records: list[bytes] = []
    content = b""
    for pair in params.items():
        encoded = encode_params((pair,))
        if content and len(content) + len(encoded) > MAX_CONTENT:
            records.append(encode_record(PARAMS, id, content))
            content = b""
        content += encoded
    records.append(encode_record(PARAMS, id, content))
    return b"".join(records)


class Requester:
    """One request: what to send for it, and what the answer's bytes mean."""

    __slots__ = ("_begun", "_ended", "_id", "_keep", "_parser", "_stdin_open", "_stdout_open")

    def __init__(self) -> None:
        self._id = 1
        self._parser = RecordParser(502)
        self._begun = False
        self._keep = False
        self._stdin_open = False
        self._stdout_open = True
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the worker ended the request. End of file before that is a truncated answer."""
        return self._ended

    @property
    def reusable(self) -> bool:
        """Whether the connection is in step, so that another request may follow on it."""
        return self._ended and self._keep and not self._stdin_open and not self._parser.held

    def begin(
        self,
        params: Mapping[bytes, bytes],
        *,
        keep: bool,
        role: int = RESPONDER,
        use: int = 1,
    ) -> bytes:
        """Return BEGIN_REQUEST and the whole PARAMS stream. `keep` asks for a kept connection.

        `use` counts the requests of a connection, 1 to 65535, and is the request's id: what a
        worker still sends for an earlier one is known by it, and dropped.

        Raises ValueError for a second request on the same object.
        """
        if self._begun:
            raise ValueError("a Requester is for one request")
        self._begun = True
        self._keep = keep
        self._stdin_open = True
        self._id = use
        begin, end = _begin(use, role, keep), _end_of(PARAMS, use)
        encoded = encode_params(params)
        if not encoded:
            return begin + end
        if len(encoded) > MAX_CONTENT:
            return begin + _params_by_pairs(params, use) + end
        return begin + encode_record(PARAMS, use, encoded) + end

    def stdin(self, data: bytes) -> bytes:
        """Return a piece of the request body as records; b"" for b"", which would end it.

        Raises ValueError before `begin` and after `stdin_end`.
        """
        if not self._stdin_open:
            raise ValueError("the stdin of this FastCGI request is not open")
        return encode_record(STDIN, self._id, data) if data else b""

    def stdin_end(self) -> bytes:
        """Return the record that ends the request body. Every request needs it, once."""
        if not self._stdin_open:
            raise ValueError("the stdin of this FastCGI request is not open")
        self._stdin_open = False
        return _end_of(STDIN, self._id)

    def feed(self, data: bytes) -> list[Event]:
        """Return what the worker's bytes mean. Neighbouring pieces of output come as one.

        Raises PeerError(502) for anything a worker must not send, also after `Ended`.
        """
        events: list[Event] = []
        output: list[bytes] = []
        for record in self._parser.feed(data):
            kind, id, content = record
            if id != self._id or self._ended:
                self._check_stray(record)
            elif kind == STDOUT:
                if not content:
                    self._stdout_open = False
                elif self._stdout_open:
                    output.append(content)
                else:
                    raise PeerError(502, "a FastCGI worker wrote output after the end of it")
            else:
                if output:
                    events.append(Stdout(b"".join(output)))
                    output = []
                if kind == STDERR:
                    # Text after the empty record is harmless, and still worth a log line.
                    if content:
                        events.append(Stderr(content))
                elif kind == END_REQUEST:
                    events.append(self._end(content))
                elif kind != UNKNOWN_TYPE:
                    raise PeerError(502, "a FastCGI worker sent a record of a type it must not")
        if output:
            events.append(Stdout(b"".join(output)))
        return events

    def _check_stray(self, record: Record) -> None:
        """Let management records pass unread; they answer questions that we do not ask."""
        if record.id == NULL_REQUEST and record.kind in (GET_VALUES_RESULT, UNKNOWN_TYPE):
            return
        if NULL_REQUEST < record.id < self._id:
            return  # what a worker sends late for a request that it had ended
        if record.id not in (NULL_REQUEST, self._id):
            raise PeerError(502, "a FastCGI worker answered a request that was not asked")
        if self._ended:
            raise PeerError(502, "a FastCGI worker went on after the end of the request")
        raise PeerError(502, "a FastCGI worker sent a management record it must not")

    def _end(self, content: bytes) -> Ended:
        if len(content) != END_BODY.size:
            raise PeerError(502, "a FastCGI worker ended the request with a record cut short")
        app_status, protocol_status = END_BODY.unpack(content)
        if protocol_status > UNKNOWN_ROLE:
            raise PeerError(502, "a FastCGI worker ended the request with an unknown status")
        self._ended = True
        return Ended(app_status, protocol_status)
