"""Serve a WSGI application over FastCGI on the listening socket that is descriptor 0.

    worker.py [--threads N] [--max-requests N] [--directory D] [--socket PATH] MODULE:APP

Decides how one worker process takes requests and gives answers (FastCGI 1.0, responder role; PEP
3333). Runs inside the application's interpreter (CPython 3.8 or newer): imports nothing of ours and
knows nothing of pools, of other workers, or of who restarts it.

How requests are spread. All workers of a pool wait on one listening socket, and the fronts keep
their connections open, so a connection stays with the worker that accepted it. That alone would
let a request wait behind a slow one while another worker is idle. So a worker that is busy hands
such a connection back: it connects to the listening socket and passes the descriptor (`hand_off`),
and whichever worker is free accepts it. Nothing has been read from it by then, so nothing is lost,
and the front does not notice. The same is done with all idle connections before leaving.

Exit codes: 0 asked to leave or --max-requests reached; 2 wrong arguments, no socket; 3 the
application cannot be loaded.
"""

from __future__ import annotations

import argparse
import array
import importlib
import io
import os
import random
import re
import signal
import socket
import stat
import struct
import sys
import traceback

# By name, because an application may patch these modules when it is loaded (gevent does).
from _thread import allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from select import EPOLLEXCLUSIVE, EPOLLIN, EPOLLONESHOT, POLLHUP, POLLIN, epoll, poll
from socket import MSG_DONTWAIT
from socket import socket as Socket
from time import monotonic, sleep
from typing import Any

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR = 1, 2, 3, 4, 5, 6, 7
GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE = 9, 10, 11
HANDED = 200
"""Record type of our own, only between the workers of one pool: "serve the descriptor with it"."""
RESPONDER, KEEP_CONN = 1, 1
COMPLETE, CANT_MPX_CONN, UNKNOWN_ROLE = 0, 1, 3

PIECE = 65535
"""Most content bytes of a record (section 3.3)."""
PARAMS_MAX = 1 << 20
"""Most bytes of parameters; libfcgi and php-fpm stop at what fits their memory, nginx at 64 KiB."""
SKIP_MAX = 16 << 20
"""Most bytes of request body that nobody read and that are skipped to keep a connection."""
PATIENCE = 0.01
"""Seconds that one request may run before waiting connections are handed to other workers."""

HEADER = struct.Struct(">BBHHBx")
pack_header, unpack_header = HEADER.pack, HEADER.unpack_from
HANDED_RECORD = pack_header(1, HANDED, 0, 0, 0)


class Malformed(Exception):
    """The peer does not speak FastCGI; its connection is closed."""


class Gone(ConnectionError):
    """The peer left, or aborted the request, while it was being served."""


def end_record(request: int, protocol: int = COMPLETE, status: int = 0) -> bytes:
    return pack_header(1, END, request, 8, 0) + struct.pack(">IB3x", status, protocol)


LAST_1 = pack_header(1, STDOUT, 1, 0, 0) + end_record(1)
"""What ends an answer with request id 1, as nearly all have."""


def records(kind: int, request: int, data: bytes) -> bytes:
    """Encode content of any size; an empty content would end the stream, so it gives nothing."""
    if len(data) <= PIECE:
        return pack_header(1, kind, request, len(data), 0) + data if data else b""
    parts: list[bytes] = []
    for at in range(0, len(data), PIECE):
        piece = data[at : at + PIECE]
        parts += (pack_header(1, kind, request, len(piece), 0), piece)
    return b"".join(parts)


def length_at(data: bytes, at: int) -> tuple[int, int]:
    """Decode a length of one or four bytes (section 3.4); return it and where it ends."""
    if data[at] < 128:
        return data[at], at + 1
    return int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF, at + 4


PAIRS: dict[bytes, tuple[str, str]] = {}
"""Encoded pair -> decoded pair: most of what a front sends is the same in every request."""


def decode_params(data: bytes) -> dict[str, Any]:
    environ: dict[str, Any] = {}
    at, size, known = 0, len(data), PAIRS
    try:
        while at < size:
            start = at
            name_size = data[at]
            value_size = data[at + 1]
            if name_size | value_size < 128:
                name_at = at + 2
            else:
                name_size, name_at = length_at(data, at)
                value_size, name_at = length_at(data, name_at)
            at = name_at + name_size + value_size
            key = data[start:at]
            if key in known:
                name, value = known[key]
            else:
                if at > size:
                    raise Malformed("a parameter is longer than its record")
                split = name_at + name_size
                name = data[name_at:split].decode("latin-1")
                value = data[split:at].decode("latin-1")
                if len(known) > 4096:
                    known.clear()
                if len(key) < 512:
                    known[key] = name, value
            environ[name] = value
    except IndexError:
        raise Malformed("a parameter's length is cut off") from None
    return environ


class Connection:
    """One connection from a front, and what was received on it and not used yet."""

    __slots__ = ("flags", "fresh", "params", "params_size", "pending", "request", "skipped", "sock")

    def __init__(self, sock: Socket) -> None:
        self.sock = sock
        self.fresh = False
        """Whether nothing was received yet, so that a connection may come by it."""
        self.pending = b""
        self.request = 0
        """The request id whose parameters are being received, or that is being served; 0 = none."""
        self.flags = 0
        self.params: list[bytes] = []
        self.params_size = 0
        self.skipped = 0

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from None

    def head(self) -> bytes | None:
        """Take records up to the end of the parameters; return those, or None if more must come.

        What follows them stays in `pending`.
        """
        data, at, size = self.pending, 0, len(self.pending)
        while size - at >= 8:
            version, kind, request, length, padding = unpack_header(data, at)
            if version != 1:
                raise Malformed("not a FastCGI 1 record")
            start = at + 8
            stop = start + length
            if stop + padding > size:
                break
            at = stop + padding
            if kind == PARAMS and request == self.request != 0:
                if not length:
                    self.pending = data[at:]
                    params, self.params, self.params_size = self.params, [], 0
                    return params[0] if len(params) == 1 else b"".join(params)
                self.params_size += length
                if self.params_size > PARAMS_MAX:
                    raise Malformed("too many parameters")
                self.params.append(data[start:stop])
            elif kind == BEGIN and not self.request:
                self.begin(request, data[start:stop])
            else:
                self.odd(kind, request, data[start:stop])
        self.pending = data[at:]
        return None

    def begin(self, request: int, content: bytes) -> None:
        if len(content) != 8 or not request:
            raise Malformed("BEGIN_REQUEST of a wrong form")
        self.skipped = 0
        if content[0] << 8 | content[1] != RESPONDER:
            self.send(end_record(request, UNKNOWN_ROLE))
        else:
            self.request, self.flags = request, content[2]

    def odd(self, kind: int, request: int, content: bytes) -> None:
        """Deal with a record that is not the next part of a request."""
        if not request:
            self.management(kind, content)
        elif kind == BEGIN:
            if request == self.request:
                raise Malformed("BEGIN_REQUEST twice")
            self.send(end_record(request, CANT_MPX_CONN))
        elif kind == ABORT and request == self.request:
            self.request, self.params, self.params_size = 0, [], 0
            self.send(end_record(request))
        elif kind not in (ABORT, PARAMS, STDIN, 8):
            raise Malformed("a record that only an application sends")
        else:  # left over from a request that is over, or was refused
            self.skipped += len(content) + 8
            if self.skipped > SKIP_MAX:
                raise Malformed("too much for nobody")

    def management(self, kind: int, content: bytes) -> None:
        """Answer a management record (section 4)."""
        if kind != GET_VALUES:
            self.send(pack_header(1, UNKNOWN_TYPE, 0, 8, 0) + bytes((kind, 0, 0, 0, 0, 0, 0, 0)))
            return
        threads = str(LIMITS["threads"])
        known = {"FCGI_MAX_CONNS": "1024", "FCGI_MAX_REQS": threads, "FCGI_MPXS_CONNS": "0"}
        reply = b""
        for name in decode_params(content):
            if name in known:
                value = known[name].encode()
                reply += bytes((len(name), len(value))) + name.encode() + value
        self.send(pack_header(1, GET_VALUES_RESULT, 0, len(reply), 0) + reply)

    def whole_body(self) -> bytes | None:
        """Take the request's body if all of it has arrived, else None and nothing is taken."""
        data, at = self.pending, 0
        parts: list[bytes] = []
        while len(data) - at >= 8:
            version, kind, request, length, padding = unpack_header(data, at)
            stop = at + 8 + length
            if version != 1 or kind != STDIN or request != self.request or stop > len(data):
                return None
            if not length:
                self.pending = data[stop + padding :]
                return parts[0] if len(parts) == 1 else b"".join(parts)
            parts.append(data[at + 8 : stop])
            at = stop + padding
        return None

    def body_piece(self) -> bytes:
        """Receive the next piece of the request's body; b"" at its end. Raises Gone."""
        while True:
            data = self.pending
            if len(data) >= 8:
                version, kind, request, length, padding = unpack_header(data)
                stop = 8 + length
                if version != 1:
                    raise Gone("the peer sent what is not FastCGI")
                if len(data) >= stop + padding:
                    self.pending = data[stop + padding :]
                    if request == self.request:
                        if kind == STDIN:
                            return data[8:stop]
                        if kind == ABORT:
                            raise Gone("the request was aborted")
                    try:
                        self.odd(kind, request, data[8:stop])
                    except Malformed as error:
                        raise Gone(str(error)) from None
                    continue
            try:
                more = self.sock.recv(131072)
            except OSError as error:
                raise Gone(str(error)) from None
            if not more:
                raise Gone("the peer left before the request's body was complete")
            self.pending = data + more if data else more


LIMITS = {"threads": 1}
STATUS = re.compile(r"[1-9][0-9]{2}(?: [^\x00-\x1f\x7f]*)?", re.ASCII).fullmatch
REQUIRED = (
    ("REQUEST_METHOD", "GET"),
    ("SCRIPT_NAME", ""),
    ("PATH_INFO", ""),
    ("QUERY_STRING", ""),
    ("SERVER_NAME", "localhost"),
    ("SERVER_PORT", "80"),
    ("SERVER_PROTOCOL", "HTTP/1.0"),
)
"""What PEP 3333 wants in every environ, for fronts that leave it out."""


class RawInput(io.RawIOBase):
    """A request's body as it comes: never more than was announced, an error if it is less."""

    def __init__(self, connection: Connection, announced: int) -> None:
        self.connection = connection
        self.left = announced
        """Bytes that may still come; -1 = until its end."""
        self.piece = memoryview(b"")
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        if self.left == 0:
            return 0
        if not self.piece and not self.ended:
            piece = self.connection.body_piece()
            self.ended = not piece
            self.piece = memoryview(piece)
            if self.ended and self.left > 0:
                raise Gone("the request's body is shorter than announced")
        size = min(len(target), len(self.piece))
        if self.left > 0:
            size = min(size, self.left)
            self.left -= size
        target[:size] = self.piece[:size]
        self.piece = self.piece[size:]
        return size

    def readall(self) -> bytes:
        block = bytearray(65536)
        parts: list[bytes] = []
        while size := self.readinto(block):
            parts.append(bytes(block[:size]))
        return b"".join(parts)


class Input(io.BufferedReader):
    """`wsgi.input` for a body that is still coming."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(-1 if size is None else size) or b""


class Errors:
    """`wsgi.errors`: FCGI_STDERR records while the request lasts, then the process's stderr."""

    encoding = "utf-8"

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection | None = connection
        self.request = connection.request
        self.held = ""

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError("wsgi.errors takes str")
        self.held += text
        if "\n" in text or len(self.held) > 8192:
            self.flush()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        text, self.held = self.held, ""
        if not text:
            return
        if self.connection is not None:
            try:
                self.connection.send(records(STDERR, self.request, text.encode("utf-8", "replace")))
                return
            except Gone:
                self.connection = None
        sys.stderr.write(text)
        sys.stderr.flush()


class FileWrapper:
    """`wsgi.file_wrapper`: a file in blocks."""

    def __init__(self, file: Any, size: int = 65536) -> None:
        self.file = file
        self.size = size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.file.read(self.size), b"")


class Answer:
    """What the application says, on its way to the front."""

    __slots__ = ("begun", "bodiless", "connection", "headers", "request", "status")

    def __init__(self, connection: Connection, bodiless: bool) -> None:
        self.connection = connection
        self.request = connection.request
        self.bodiless = bodiless
        """HEAD: what the application gives as body is not sent."""
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.begun = False

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info:
            try:
                if self.begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no cycle through the frame
        elif self.status:
            raise AssertionError("start_response was called twice without exc_info")
        if not STATUS(status):
            raise ValueError(f"not a status: {status!r}")
        self.status, self.headers = status, headers
        return self.write

    def head(self, size: int) -> bytes:
        """Return the head; `size` is that of the whole body where it is known, else -1."""
        if not self.status:
            raise AssertionError("the application gave its body before it called start_response")
        lines = [f"{name}: {value}\r\n" for name, value in self.headers]
        text = "".join(lines)
        # A name or value with a line break would begin a line of its own (response splitting).
        if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
            raise ValueError("a line break or NUL in a header of the answer")
        bodied = size >= 0 and self.status[:1] != "1" and self.status[:3] not in ("204", "304")
        if bodied and "content-length" not in text.lower():
            text += f"Content-Length: {size}\r\n"
        return f"Status: {self.status}\r\n{text}\r\n".encode("latin-1")

    def write(self, data: bytes) -> None:
        """Send a piece of body, and before the first one the head, without delay."""
        if self.begun:
            if data and not self.bodiless:
                self.connection.send(records(STDOUT, self.request, data))
        else:
            content = self.head(-1) if self.bodiless else self.head(-1) + data
            self.begun = True
            self.connection.send(records(STDOUT, self.request, content))

    def finish(self, data: bytes = b"") -> None:
        """Send all that is left, and the end; `data` is the whole body if nothing was sent yet."""
        request = self.request
        content = b"" if self.begun else self.head(len(data))
        if not self.bodiless:
            content += data
        self.begun = True
        last = LAST_1
        if request != 1:
            last = pack_header(1, STDOUT, request, 0, 0) + end_record(request)
        if 0 < len(content) <= PIECE:
            head = pack_header(1, STDOUT, request, len(content), 0)
            self.connection.send(b"%b%b%b" % (head, content, last))
        else:
            self.connection.send(records(STDOUT, request, content) + last)


class Worker:
    """One process: its listening socket, its connections, its application."""

    def __init__(
        self,
        listener: Socket,
        application: Callable[..., Any],
        threads: int = 1,
        max_requests: int = 0,
    ) -> None:
        self.listener = listener
        self.application = application
        self.threads = threads
        # Workers that were started together must not leave together.
        self.left = max_requests and max_requests + random.randint(0, max_requests // 10)
        """Requests until it leaves; 0 = never."""
        self.leaving = False
        self.asked = False
        """Whether a signal asked it to leave."""
        self.epoll = epoll()
        self.oneshot = EPOLLONESHOT if threads > 1 else 0
        self.connections: dict[int, Connection] = {}
        self.address = listener.getsockname() if listener.family == socket.AF_UNIX else ""
        self.wake, self.waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.lock = allocate_lock()
        """Held to end a request, and to take a connection away from the main thread."""
        self.running = 0
        """Odd while the only thread serves a request; never the same number twice."""
        self.watcher = Watcher(self)
        self.relieved = 0.0
        """When a connection was handed off last because two were ready at once."""
        self.busy = 0
        """With several threads: connections that are served or wait for a thread."""
        self.listening = False
        self.waiting: deque[tuple[float, Connection]] = deque()
        self.tokens: SimpleQueue[None] = SimpleQueue()
        LIMITS["threads"] = threads
        self.base: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": threads > 1,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
        }

    # One request

    def environ(self, connection: Connection, params: bytes) -> dict[str, Any]:
        environ = decode_params(params)
        environ.update(self.base)
        get = environ.get
        if get("HTTPS") in ("on", "1") or get("REQUEST_SCHEME") == "https":
            environ["wsgi.url_scheme"] = "https"
        for name, value in REQUIRED:
            if name not in environ:
                environ[name] = value
        environ["wsgi.errors"] = Errors(connection)
        announced = get("CONTENT_LENGTH", "")
        known = announced.isascii() and announced.isdigit()
        body = connection.whole_body()
        if body is None:
            raw = RawInput(connection, int(announced) if known else -1)
            environ["wsgi.input"] = Input(raw, 65536)
        elif known and len(body) < int(announced):
            raise Malformed("the request's body is shorter than announced")
        else:
            environ["wsgi.input"] = io.BytesIO(body[: int(announced)] if known else body)
        return environ

    def serve(self, connection: Connection, params: bytes) -> bool:
        """Answer one request. Return whether the connection may be used again."""
        environ = self.environ(connection, params)
        answer = Answer(connection, environ["REQUEST_METHOD"] == "HEAD")
        errors: Errors = environ["wsgi.errors"]
        complete = False
        result: Any = None
        try:
            result = self.application(environ, answer.start_response)
            if type(result) is list or type(result) is tuple:
                body = result[0] if len(result) == 1 else b"".join(result)
                if errors.held:
                    errors.flush()
                answer.finish(body)
            else:
                for piece in result:
                    if piece:
                        answer.write(piece)
                errors.flush()
                answer.finish()
            complete = True
        except Gone:
            pass  # nobody is left to tell
        except BaseException:  # an application may raise anything, also SystemExit; we go on
            complete = self.failed(answer, errors)
        self.let_go(result, errors)
        connection.request = 0
        if self.left:
            with self.lock:
                self.left -= 1
                if not self.left:
                    self.leaving = True
                    os.write(self.waker, b"x")
        return complete and bool(connection.flags & KEEP_CONN)

    def failed(self, answer: Answer, errors: Errors) -> bool:
        """Report the exception being handled; answer 500 while that is possible."""
        errors.write(traceback.format_exc())
        errors.flush()
        if answer.begun:
            return False  # cut the connection, so that the truncation shows
        answer.status = "500 Internal Server Error"
        answer.headers = [("Content-Type", "text/plain")]
        try:
            answer.finish(b"The application failed.\n")
        except Gone:
            return False
        return True

    def let_go(self, result: Any, errors: Errors) -> None:
        """Call the result's close(), as PEP 3333 asks for in every case."""
        close = getattr(result, "close", None)
        if close is not None:
            try:
                close()
            except BaseException:  # the answer is out; this can only be reported
                errors.write(traceback.format_exc())
        errors.connection = None
        if errors.held:
            errors.flush()

    # Connections

    def step(self, connection: Connection) -> bool:
        """Receive on a readable connection and serve. Return whether it stays open."""
        try:
            # An event may be left from an older connection that had this number.
            if connection.fresh:
                data = self.first(connection)
            else:
                data = connection.sock.recv(65536, MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        connection.pending = connection.pending + data if connection.pending else data
        return self.proceed(connection)

    def proceed(self, connection: Connection) -> bool:
        """Serve each request that has arrived. Return whether the connection stays open."""
        try:
            while connection.pending:
                params = connection.head()
                if params is None:
                    return True
                if self.oneshot:
                    kept = self.serve(connection, params)
                else:
                    kept = self.serve_watched(connection, params)
                if not kept:
                    return False
            return True
        except (Malformed, OSError):
            return False

    def serve_watched(self, connection: Connection, params: bytes) -> bool:
        """Serve in the only thread, where nothing else can look at the other connections."""
        self.running += 1
        if len(self.connections) > 1:
            self.watcher.watch()
        try:
            return self.serve(connection, params)
        finally:
            with self.lock:
                self.running += 1

    def watch(self, connection: Connection) -> None:
        number = connection.sock.fileno()
        self.connections[number] = connection
        self.epoll.register(number, EPOLLIN | self.oneshot)

    def drop(self, connection: Connection) -> None:
        """Close a connection. Closing alone would not end its events while anybody else has it:
        a worker that it was handed to, a process that the application forked."""
        number = connection.sock.fileno()
        if self.connections.pop(number, None) is not None:
            self.epoll.unregister(number)
        connection.sock.close()

    def accept(self) -> None:
        """Take one connection from the listening socket, if another worker has not."""
        try:
            number, _ = self.listener._accept()  # type: ignore[attr-defined]  # as accept() does
        except OSError:
            return  # taken already, or given up by the peer
        sock = Socket(self.listener.family, self.listener.type, 0, number)
        connection = Connection(sock)
        if self.address:
            connection.fresh = True
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.watch(connection)
        # Most peers write as soon as they are connected; with threads, one of them looks.
        if not self.oneshot and not self.step(connection):
            self.drop(connection)

    def first(self, connection: Connection) -> bytes:
        """Receive the first bytes: they may carry a connection that another worker handed off.

        Returns b"", as for a peer that left, once that is taken over.
        """
        space = socket.CMSG_SPACE(4)
        data, control, _, _ = connection.sock.recvmsg(65536, space, MSG_DONTWAIT)
        connection.fresh = False
        numbers = array.array("i")
        for level, kind, content in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
        for number in numbers:
            if data[:8] == HANDED_RECORD and stat.S_ISSOCK(os.fstat(number).st_mode):
                handed = Connection(Socket(fileno=number))
                handed.fresh = True  # it may be one that nobody has looked at yet
                self.watch(handed)
            else:
                os.close(number)
        return b"" if numbers else data

    def hand_off(self, connection: Connection) -> bool:
        """Pass an idle connection to whichever worker accepts next. Return whether that worked."""
        if not self.address or connection.pending or connection.request:
            return False
        number = connection.sock.fileno()
        self.epoll.unregister(number)  # before another worker can have it
        try:
            with Socket(socket.AF_UNIX, socket.SOCK_STREAM) as way:
                way.setblocking(False)  # a full backlog must not stop us
                way.connect(self.address)
                rights = array.array("i", [number])
                way.sendmsg([HANDED_RECORD], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError:
            self.epoll.register(number, EPOLLIN | self.oneshot)
            return False
        del self.connections[number]
        connection.sock.close()
        return True

    # The loop, with one thread

    def listen(self) -> None:
        self.epoll.register(self.listener, EPOLLIN | EPOLLEXCLUSIVE)
        self.listening = True

    def run(self) -> None:
        """Serve until asked to leave."""
        self.listener.setblocking(False)
        self.listen()
        self.epoll.register(self.wake, EPOLLIN)
        if self.oneshot:
            self.run_threads()
        else:
            self.run_alone()
        self.leave()

    def run_alone(self) -> None:
        wait, connections = self.epoll.poll, self.connections
        listener = self.listener.fileno()
        while not self.leaving:
            ready = wait(-1, 16)
            if len(ready) > 1:
                self.relieve(ready)
            for number, _ in ready:
                connection = connections.get(number)
                if connection is not None:
                    if not self.step(connection):
                        self.drop(connection)
                elif number == listener and not self.leaving:
                    self.accept()

    def relieve(self, ready: list[tuple[int, int]]) -> None:
        """Hand off one of several connections that want to be served at once, now and then.

        So the connections spread over the workers until none has two while another has none.
        """
        now = monotonic()
        if now - self.relieved < 0.05:
            return
        held = [number for number, _ in ready if number in self.connections]
        if len(held) > 1:
            self.relieved = now
            self.hand_off(self.connections[held[-1]])

    # The loop, with several threads: the main thread only looks

    def run_threads(self) -> None:
        for _ in range(self.threads):
            start_new_thread(self.run_thread, ())
        listener = self.listener.fileno()
        while not self.leaving or self.busy:
            for number, _ in self.epoll.poll(PATIENCE if self.busy >= self.threads else 1.0, 64):
                connection = self.connections.get(number)
                if connection is not None:
                    self.enqueue(connection)
                elif number == listener and not self.leaving:
                    self.accept()
                elif number == self.wake:
                    os.read(self.wake, 64)
            while self.waiting and self.waiting[0][0] + PATIENCE < monotonic():
                if not self.pass_on():
                    break

    def enqueue(self, connection: Connection) -> None:
        with self.lock:
            self.busy += 1
            if self.busy >= self.threads and self.listening:
                self.epoll.unregister(self.listener)  # another worker may be free
                self.listening = False
        self.waiting.append((monotonic(), connection))
        self.tokens.put(None)

    def pass_on(self) -> bool:
        """Hand off a connection that no thread has had time for."""
        try:
            since, connection = self.waiting.popleft()
        except IndexError:
            return False
        if not self.hand_off(connection):
            self.waiting.appendleft((since, connection))
            return False
        self.done()
        return True

    def done(self) -> None:
        with self.lock:
            self.busy -= 1
            if self.leaving:
                os.write(self.waker, b"x")  # the main thread waits for the last one
            elif self.busy < self.threads and not self.listening:
                self.listen()

    def run_thread(self) -> None:
        while True:
            self.tokens.get()
            try:
                _, connection = self.waiting.popleft()
            except IndexError:
                continue  # handed off meanwhile
            if not self.step(connection):
                self.drop(connection)
            else:
                self.epoll.modify(connection.sock, EPOLLIN | EPOLLONESHOT)
            self.done()

    # Leaving

    def ask_to_leave(self, number: int, frame: Any) -> None:
        """The signal handler; the wake-up descriptor ends the wait."""
        self.asked = self.leaving = True

    def leave(self) -> None:
        """Part with the connections so that no request that was already sent to us is lost."""
        if not self.asked:  # others go on serving: let them have the connections
            for connection in list(self.connections.values()):
                self.hand_off(connection)
        self.oneshot = 0
        for number, _ in self.epoll.poll(0):
            left = self.connections.get(number)
            if left is not None:
                self.step(left)
        for connection in list(self.connections.values()):
            self.drop(connection)


class Watcher:
    """A thread that hands off connections while the only serving thread is in a long request.

    It is started with the second connection, looks every `PATIENCE` seconds while requests come,
    and sleeps for good when they do not. The serving thread pays two comparisons for it.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.gate = allocate_lock()
        self.gate.acquire()
        self.parked = True
        self.started = False

    def watch(self) -> None:
        """See that it is awake; called when a request begins."""
        if self.parked:
            with self.worker.lock:
                if not self.started:
                    self.started = True
                    start_new_thread(self.run, ())
                if self.parked:
                    self.parked = False
                    self.gate.release()

    def run(self) -> None:
        worker, quiet = self.worker, 0
        self.gate.acquire()
        while True:
            before = worker.running
            sleep(PATIENCE)
            if worker.running != before:
                quiet = 0
            elif before & 1:
                self.relieve(before)
            else:
                quiet += 1
                if quiet > 100:
                    quiet = 0
                    self.park(before)

    def park(self, before: int) -> None:
        with self.worker.lock:
            self.parked = True
        if self.worker.running != before:  # a request began just now and saw us awake
            self.watch()
        self.gate.acquire()

    def relieve(self, running: int) -> None:
        """While that request runs, hand off each other connection that becomes readable."""
        worker, idle = self.worker, poll()
        for number, connection in list(worker.connections.items()):
            if not connection.request and not connection.pending:
                idle.register(number, POLLIN)
        while worker.running == running:
            for number, event in idle.poll(PATIENCE * 2000):
                idle.unregister(number)
                with worker.lock:
                    if worker.running != running:
                        return
                    handed = worker.connections.get(number)
                    if handed is not None and not event & POLLHUP:
                        worker.hand_off(handed)


# Starting


def load(target: str) -> Callable[..., Any]:
    """Import MODULE and return APP of it: a dotted path, called once if it ends in "()"."""
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    path = path or "application"
    for name in path[:-2].split(".") if path.endswith("()") else path.split("."):
        found = getattr(found, name)
    if path.endswith("()"):
        found = found()
    if not callable(found):
        raise TypeError(f"{target} is not callable, so it is no WSGI application")
    return found  # type: ignore[no-any-return]


def inherited() -> Socket:
    """Take the listening socket from descriptor 0, and leave /dev/null there."""
    try:
        listening = Socket(fileno=os.dup(0))
        if not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OSError("it is a socket, but does not listen")
    except OSError as error:
        raise SystemExit(
            f"worker: descriptor 0 is not a listening socket ({error}); start it from a pool, "
            "or give it --socket PATH"
        ) from None
    os.set_inheritable(listening.fileno(), False)  # nor may the application's children have it
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return listening


def bound(path: str) -> Socket:
    """Bind a Unix socket of our own, for its owner and group only."""
    path = os.path.abspath(path)
    listening = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            try:
                with Socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                    probe.connect(path)
                raise SystemExit(f"worker: somebody listens on {path} already")
            except ConnectionRefusedError:
                os.unlink(path)  # left by one that was killed
    except FileNotFoundError:
        pass
    mask = os.umask(0o117)
    try:
        listening.bind(path)
    except OSError as error:
        raise SystemExit(f"worker: cannot bind {path}: {error}") from None
    finally:
        os.umask(mask)
    listening.listen(1024)
    return listening


def count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"not a number: {text!r}")
    return int(text)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="worker", description="Serve a WSGI application.")
    parser.add_argument("--threads", type=count, default=1, help="requests at once")
    parser.add_argument("--max-requests", type=count, default=0, help="leave after (+10 %%)")
    parser.add_argument("--directory", default="", help="where the application is")
    parser.add_argument("--socket", default="", help="a Unix socket to bind")
    parser.add_argument("application", metavar="MODULE:APP", help="APP: application")
    options = parser.parse_args(arguments)
    try:
        listener = bound(options.socket) if options.socket else inherited()
        path = listener.getsockname() if options.socket else ""
        if options.directory:
            os.chdir(options.directory)
    except SystemExit as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"worker: {options.directory}: {error.strerror}", file=sys.stderr)
        return 2
    sys.path[0] = os.getcwd()  # instead of the directory of this file
    sys.argv = [options.application]
    try:
        application = load(options.application)
    except BaseException:  # whatever an import may raise: it is the boot that failed
        traceback.print_exc()
        print(f"worker: cannot load {options.application}", file=sys.stderr)
        return 3
    worker = Worker(listener, application, max(1, options.threads), options.max_requests)
    signal.set_wakeup_fd(worker.waker, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.ask_to_leave)
    worker.run()
    if path:
        os.unlink(path)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)
