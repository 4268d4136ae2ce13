"""Feed broken SCGI to its parser: it never raises, never loses count, and holds a bounded head.

Run `PYTHONPATH=. python tests/fuzz/fuzz_scgi.py --seconds 60 --seed 7`. A failing input is printed
together with the seed and the round that made it, so that the same call finds it again.
"""

import argparse
import random
import resource
import sys
import time

from gateway.wire import PeerError
from gateway.wire.scgi import MAX_COUNT, MAX_TOTAL, Begin, RequestParser, Stdin, StdinEnd

MOST_HELD = MAX_TOTAL + len(b"262144:,")
MOST_GROWN = 64 << 10
"""KiB that the whole process may grow after its first rounds: inputs here are below 1 MiB."""
WARM = 100
"""Rounds until the process has its size, and the fewest there are."""
SIZES = (0, 1, 2, 9, 100, 65535, 65536)
WORDS = (
    b"\0", b":", b",", b"0", b"1", b"-", b"00", b"=", b"SCGI\x001\0", b"CONTENT_LENGTH\x005\0",
    b"CONTENT_LENGTH", b"\0\0", b"A\0\0" * 1001, b"262144:", b"262145:", b"9999999:",
    b"999999999999999999", b"1000000000000000000", b"\xb2", b"\r\n",
)  # fmt: skip


def request(chance: random.Random) -> bytes:
    """A request, mostly as it must be."""
    body = bytes(chance.choice(SIZES))
    pairs = [(b"CONTENT_LENGTH", b"%d" % len(body)), (b"SCGI", b"1")]
    for number in range(chance.choice((0, 1, 20, 999))):
        value = bytes(chance.choices(range(1, 256), k=chance.choice((0, 3, 40))))
        pairs.append((b"N%d" % number, value))
    if chance.random() < 0.2:
        chance.shuffle(pairs)
    head = b"".join(name + b"\0" + value + b"\0" for name, value in pairs)
    if chance.random() < 0.4:
        head = mutate(chance, head)  # here the netstring stays whole
    return b"%d:%b," % (len(head), head) + body + b"x" * chance.choice((0, 0, 7))


def mutate(chance: random.Random, data: bytes) -> bytes:
    """Flip, cut, repeat and insert here and there, mostly near the beginning."""
    broken = bytearray(data)
    for _ in range(chance.choice((0, 1, 3))):
        place = chance.randrange(min(len(broken), chance.choice((60, 1 << 20))) + 1)
        way = chance.randrange(4)
        if way == 0 and place < len(broken):
            broken[place] ^= 1 << chance.randrange(8)
        elif way == 1:
            del broken[place : place + chance.randrange(1, 20)]
        elif way == 2:
            broken[place:place] = chance.choice(WORDS)
        else:
            broken[place:place] = broken[chance.randrange(len(broken) + 1) :][:50]
    return bytes(broken)


def pieces(chance: random.Random, data: bytes) -> list[bytes]:
    """The same bytes: in a few pieces, or one by one where they are few."""
    if len(data) < 300 and chance.random() < 0.2:
        return [data[place : place + 1] for place in range(len(data))]
    cuts = sorted(chance.choices(range(len(data) + 1), k=chance.choice((0, 1, 5))))
    return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def parse(fed: list[bytes]) -> object:
    """What came of it, without regard to the pieces; checks the order of events."""
    parser = RequestParser()
    begun: Begin | None = None
    body, over = 0, False
    error = (0, "")
    for piece in fed:
        for event in parser.feed(piece):
            assert not over, "nothing follows the end or an error"
            match event:
                case Begin(params, length):
                    assert begun is None
                    assert len(params) <= MAX_COUNT
                    assert length == int(params[b"CONTENT_LENGTH"])
                    begun = event
                case Stdin(data):
                    assert data
                    body += len(data)
                case StdinEnd():
                    assert begun is not None
                    assert body == begun.length
                    over = True
                case PeerError(status=status, say=say):
                    assert begun is None, "an error is one of the parameters"
                    error, over = (status, say), True
        assert begun is None or body <= begun.length
        assert parser.held <= (0 if begun or over else MOST_HELD)
        assert parser.in_head == bool(parser.held)
    return begun, body, over, error


def size() -> int:
    """Return the largest size this process had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run(seconds: float, seed: int) -> int:
    """Return how many inputs were tried. Raises whatever the parser raised that it must not."""
    stop = time.monotonic() + seconds
    tried = warm = 0
    while tried < WARM or time.monotonic() < stop:
        chance = random.Random(f"{seed} {tried}")
        for whole in (
            mutate(chance, request(chance)),
            chance.choice(WORDS) + chance.randbytes(chance.randrange(100)),
            b"%d:" % chance.randrange(1 << 20) + bytes(chance.choice((9, 300_000))),
        ):
            try:
                expected = parse([whole])
                assert parse(pieces(chance, whole)) == expected, "the cut made a difference"
            except BaseException:
                print(f"seed {seed}, round {tried}: {whole!r}", file=sys.stderr)
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
