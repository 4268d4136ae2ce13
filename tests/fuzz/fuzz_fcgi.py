"""Feed broken FastCGI to the parsers: only `PeerError` may come out, and memory stays bounded.

Run `PYTHONPATH=. python tests/fuzz/fuzz_fcgi.py --seconds 60 --seed 7`. A failing input is printed
together with the seed and the round that made it, so that the same call finds it again.
"""

import argparse
import random
import resource
import sys
import time
from collections.abc import Callable

from gateway.wire import PeerError
from gateway.wire import fcgi_record as fcgi
from gateway.wire.fcgi_params import MAX_COUNT, MAX_TOTAL, ParamsDecoder, encode_params
from gateway.wire.fcgi_record import RecordParser, encode_record
from gateway.wire.fcgi_requester import Ended, Requester, Stderr, Stdout
from gateway.wire.fcgi_responder import (
    Abort,
    Begin,
    Event,
    Hangup,
    Reply,
    Responder,
    Stdin,
    StdinEnd,
)

MOST_HELD = fcgi.HEADER_SIZE + fcgi.MAX_CONTENT + 255
MOST_GROWN = 64 << 10
"""KiB that the whole process may grow after its first rounds: inputs here are below 1 MiB."""
WARM = 100
"""Rounds until the process has its size, and the fewest there are."""
SIZES = (0, 1, 7, 8, 127, 128, 255, 65534, 65535, 65536, 65537)
LENGTHS = (b"\0", b"\x7f", b"\x80", b"\x80\0\0\0", b"\x80\0\0\x80", b"\xff\xff\xff\xff", b"\xff")


def record(chance: random.Random) -> bytes:
    """A record, mostly of a kind that exists, sometimes of any size and any id."""
    kind = chance.choice((1, 2, 3, 4, 5, 6, 6, 6, 7, 8, 9, 10, 11, chance.randrange(256)))
    id = chance.choice((1, 1, 1, 1, 0, 2, 65535))
    if kind in (fcgi.BEGIN_REQUEST, fcgi.END_REQUEST):
        content = chance.randbytes(chance.choice((8, 8, 8, 0, 7, 9)))
    elif chance.random() < 0.05 and kind in (fcgi.STDOUT, fcgi.PARAMS):
        content = bytes(chance.choice(SIZES))
    else:
        content = pairs(chance) if kind == fcgi.PARAMS else chance.randbytes(chance.randrange(40))
    return encode_record(kind, id, content)


def pairs(chance: random.Random) -> bytes:
    """Parameters, sometimes with lengths that lie."""
    made = [
        (
            chance.randbytes(chance.choice((0, 1, 5, 130))),
            chance.randbytes(chance.choice((0, 9, 300))),
        )
        for _ in range(chance.randrange(5))
    ]
    encoded = bytearray(encode_params(made))
    while chance.random() < 0.3:
        place = chance.randrange(len(encoded) + 1)
        encoded[place : place + chance.randrange(3)] = chance.choice(LENGTHS)
    return bytes(encoded)


def conversation(chance: random.Random) -> bytes:
    """What a front sends on one connection: requests one after the other, mostly as they must be,
    with records of any kind in between."""
    parts: list[bytes] = []
    for use in range(1, chance.choice((2, 2, 3, 5))):
        requester = Requester()
        params = {b"A": chance.randbytes(chance.choice((0, 9, 300))), b"B" * 130: b"2"}
        role = chance.choice((1, 1, 1, 2, 3, 77))
        parts.append(requester.begin(params, keep=chance.random() < 0.8, role=role, use=use))
        if chance.random() < 0.7:
            parts.append(requester.stdin(bytes(chance.choice((*range(9), *SIZES)))))
        if chance.random() < 0.9:
            parts.append(requester.stdin_end())
        if chance.random() < 0.2:
            parts.append(encode_record(fcgi.ABORT_REQUEST, use, b""))
        if chance.random() < 0.2:
            asked = encode_params({b"FCGI_MPXS_CONNS": b"", b"FCGI_MAX_CONNS": b""})
            parts.append(encode_record(fcgi.GET_VALUES, 0, asked))
    for _ in range(chance.choice((0, 0, 1, 3))):
        parts.insert(chance.randrange(len(parts) + 1), record(chance))
    return b"".join(parts)


def mutate(chance: random.Random, data: bytes) -> bytes:
    """Flip, cut, repeat and insert here and there; one time in three change nothing."""
    broken = bytearray(data)
    for _ in range(chance.choice((0, 1, 3))):
        place = chance.randrange(len(broken) + 1)
        way = chance.randrange(4)
        if way == 0 and place < len(broken):
            broken[place] ^= 1 << chance.randrange(8)
        elif way == 1:
            del broken[place : place + chance.randrange(1, 20)]
        elif way == 2:
            broken[place:place] = chance.choice(LENGTHS) * chance.randrange(1, 4)
        else:
            broken[place:place] = broken[chance.randrange(len(broken) + 1) :][:50]
    return bytes(broken)


def pieces(chance: random.Random, data: bytes) -> list[bytes]:
    """The same bytes: whole, in a few pieces, or one by one where they are few."""
    if len(data) < 300 and chance.random() < 0.2:
        return [data[place : place + 1] for place in range(len(data))]
    cuts = sorted(chance.choices(range(len(data) + 1), k=chance.choice((0, 1, 5))))
    return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def outcome(run: Callable[[list[bytes]], object], fed: list[bytes]) -> object:
    """What came of it: a value, or the status of the one error there may be."""
    try:
        return run(fed)
    except PeerError as error:
        return error.status


def parse_records(fed: list[bytes]) -> object:
    parser, records = RecordParser(), []
    for piece in fed:
        records += parser.feed(piece)
        assert parser.held < MOST_HELD
    return records


def decode_params(fed: list[bytes]) -> object:
    decoder = ParamsDecoder()
    for piece in fed:
        decoder.feed(piece)
    decoded = decoder.finish()
    assert len(decoded) <= MAX_COUNT
    assert sum(map(len, decoded)) + sum(map(len, decoded.values())) <= MAX_TOTAL
    back = ParamsDecoder()
    back.feed(encode_params(decoded))
    assert back.finish() == decoded
    return decoded


def ask(fed: list[bytes]) -> object:
    requester = Requester()
    requester.begin({b"A": b"1"}, keep=True)
    requester.stdin_end()
    output, errors, ends = b"", b"", 0
    for piece in fed:
        for event in requester.feed(piece):
            assert not ends, "nothing follows the end"
            match event:
                case Stdout(data):
                    output += data
                case Stderr(data):
                    errors += data
                case Ended():
                    ends += 1
        assert requester._parser.held < MOST_HELD
        assert requester.ended == bool(ends)
    return output, errors, ends


def answer(fed: list[bytes]) -> object:
    """What one connection's bytes mean when no request of it is ever ended."""
    responder = Responder()
    told: list[object] = []
    for piece in fed:
        for event in responder.feed(piece):
            last = told[-1] if told else None
            if isinstance(event, PeerError):
                told.append((event.status, event.say))
            elif isinstance(event, Stdin) and isinstance(last, Stdin):
                told[-1] = Stdin(last.data + event.data)
            elif isinstance(event, Reply) and isinstance(last, Reply):
                told[-1] = Reply(last.data + event.data)
            else:
                told.append(event)
        assert responder.held < MOST_HELD + MAX_TOTAL
    return told, responder.live, responder.keep, responder.idle, responder.in_head


class Listener:
    """A connection whose requests are ended early, late or never; checks what it is told."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.responder = Responder()
        self.written = RecordParser()
        self.begun = self.in_body = self.over = False

    def feed(self, data: bytes) -> None:
        responder = self.responder
        for event in responder.feed(data):
            assert not self.over, "nothing follows the end of a connection"
            self.told(event)
        assert responder.held < MOST_HELD + MAX_TOTAL
        while responder.live and self.chance.random() < 0.4:
            self.write(
                self.chance.choice(
                    (
                        lambda: responder.stdout(bytes(self.chance.choice(SIZES))),
                        lambda: responder.stderr(b"x"),
                        lambda: responder.end(self.chance.randrange(1 << 32)),
                        responder.refuse,
                    )
                )()
            )
            self.answered()
        waiting = (responder.live, responder.idle, responder.in_head)
        assert waiting[:2] != (True, True)
        assert waiting != (False, True, False) or not responder.held

    def answered(self) -> None:
        if not self.responder.live:
            self.begun = self.in_body = False

    def told(self, event: Event) -> None:
        match event:
            case Begin():
                assert self.responder.live
                assert not self.begun, "one request at a time"
                self.begun = self.in_body = True
            case Stdin(data):
                assert data
                assert self.in_body
            case StdinEnd():
                assert self.in_body
                self.in_body = False
            case Abort():
                assert self.responder.live
                self.in_body = False
            case Reply(data):
                self.write(data)
            case Hangup():
                self.over = True
            case PeerError():
                self.over = not self.responder.keep and not self.responder.live
                self.in_body = False

    def write(self, data: bytes) -> None:
        for kind, _, content in self.written.feed(data):
            assert kind in (3, 6, 7, 10, 11)
            assert kind != fcgi.END_REQUEST or len(content) == fcgi.END_BODY.size
        assert not self.written.held


def size() -> int:
    """Return the largest size this process had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run(seconds: float, seed: int) -> int:
    """Return how many inputs were tried. Raises whatever a parser raised that it must not."""
    stop = time.monotonic() + seconds
    tried = warm = 0
    while tried < WARM or time.monotonic() < stop:
        chance = random.Random(f"{seed} {tried}")
        records = b"".join(record(chance) for _ in range(chance.randrange(1, 8)))
        asked = mutate(chance, conversation(chance))
        for target, whole in (
            (parse_records, mutate(chance, records)),
            (ask, mutate(chance, records)),
            (answer, mutate(chance, records)),
            (answer, asked),
            (answer, chance.randbytes(chance.randrange(200))),
            (decode_params, mutate(chance, pairs(chance) * chance.choice((1, 1, 1, 400)))),
        ):
            try:
                expected = outcome(target, [whole])
                assert outcome(target, pieces(chance, whole)) == expected, (
                    "the cut made a difference"
                )
            except BaseException:
                print(f"seed {seed}, round {tried}, {target.__name__}: {whole!r}", file=sys.stderr)
                raise
        listener = Listener(chance)
        try:
            for piece in pieces(chance, asked):
                listener.feed(piece)
        except BaseException:
            print(f"seed {seed}, round {tried}, Listener: {asked!r}", file=sys.stderr)
            raise
        tried += 1
        if tried == WARM:
            warm = size()
    assert size() < warm + MOST_GROWN, f"memory grew from {warm} to {size()} KiB"
    return tried


def main() -> int:
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--seconds", type=float, default=60.0)
    reader.add_argument("--seed", type=int, default=1)
    asked = reader.parse_args()
    print(f"{run(asked.seconds, asked.seed)} rounds, nothing but PeerError came out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
