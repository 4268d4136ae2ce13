"""Mutate the valid request cases for ever; the parser must never raise, hoard or lose count.

    PYTHONPATH=. python tests/fuzz/fuzz_http_request.py --seconds 60 --seed 1

Each mutant is fed in two different random cuts and must give the same outcome both times, however
it was cut: the same heads and bodies, then the same status if there is an error.
"""

import argparse
import random
import sys
import time
from itertools import pairwise
from pathlib import Path

from gateway.wire import PeerError
from gateway.wire.http_request import END, Head, HeadLimits, RequestParser

CASES = Path(__file__).parents[1] / "wire" / "requests"
LIMITS = HeadLimits(line=256, field=512, fields=20, total=2048)
LARGEST_FEED = 8192
HELD = LIMITS.total + LARGEST_FEED
"""Most bytes that the parser may hold: a head just under its limit, and one piece."""

WORDS = (
    b"\r\n", b"\r", b"\n", b"\r\n\r\n", b" ", b"\t", b":", b"\x00", b"\x0b", b"\xa0", b"0", b"-1",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: x\r\n", b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Connection: close\r\n", b"Upgrade: x\r\n",
    b"Connection: upgrade\r\n", b"Expect: 100-continue\r\n", b"Host: b\r\n", b"HTTP/1.0",
    b"HTTP/2.0", b"CONNECT", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"ffffffffffffffff\r\n", b";a=b",
)  # fmt: skip


def mutant(seeds: list[bytes], dice: random.Random) -> bytes:
    """One case, or several behind each other, with a few changes."""
    data = bytearray(b"".join(dice.choices(seeds, k=dice.randint(1, 3))))
    for _ in range(dice.randint(0, 6)):
        place = dice.randrange(len(data) + 1)
        kind = dice.randrange(6)
        if kind == 0:
            data[place:place] = dice.choice(WORDS)
        elif kind == 1:
            del data[place : place + dice.randint(1, 8)]
        elif kind == 2:
            data[place : place + 1] = bytes((dice.randrange(256),))
        elif kind == 3:
            data[place:place] = data[place : place + dice.randint(1, 64)]
        elif kind == 4:
            data[place:place] = bytes((dice.randrange(256),)) * dice.randint(1, 600)
        else:
            del data[place:]
    return bytes(data)


def outcome(data: bytes, dice: random.Random) -> list[object]:
    """Feed `data` in random pieces; return its events with bodies joined and errors as statuses."""
    size = len(data)
    if dice.random() < 0.2:
        places = list(range(size))
    else:
        places = sorted(dice.choices(range(size + 1), k=dice.randint(0, 8)))
    parser = RequestParser(LIMITS)
    found: list[object] = []
    for start, stop in pairwise([0, *places, size]):
        for step in range(start, stop, LARGEST_FEED):
            piece = data[step : min(stop, step + LARGEST_FEED)]
            for event in parser.feed(piece):
                assert not found or not isinstance(found[-1], int), "an event after an error"
                if isinstance(event, PeerError):
                    assert event.status in (400, 414, 417, 431, 501, 505), event
                    found.append(event.status)
                elif isinstance(event, bytes) and found and isinstance(found[-1], bytes):
                    found[-1] += event
                else:
                    found.append(event)
            held = len(parser._held) + len(parser._chunks._line)
            assert held <= HELD, f"{held} bytes are held"
    return found


def check(data: bytes, dice: random.Random) -> None:
    """Raise AssertionError, or whatever the parser raised, if something is wrong with `data`."""
    once, again = outcome(data, dice), outcome(data, dice)
    if once and again and isinstance(once[-1], int) and isinstance(again[-1], int):
        # Which of two faults of one head is named may depend on the cut; that there is one may not.
        once[-1] = again[-1]
    assert once == again, "the outcome depends on how the bytes were cut"
    heads = sum(isinstance(event, Head) for event in once)
    ends = once.count(END)
    assert heads - ends in (0, 1), "heads and ends do not pair"


def run(seconds: float, seed: int) -> int:
    """Fuzz for so long; return the number of mutants tried."""
    dice = random.Random(seed)
    seeds = [path.read_bytes() for path in sorted((CASES / "valid").glob("*.http"))]
    seeds = [data for data in seeds if len(data) < 2048]
    until = time.monotonic() + seconds
    tried = 0
    while time.monotonic() < until:
        data = mutant(seeds, dice)
        good = False
        try:
            check(data, dice)
            good = True
        finally:
            if not good:
                print(f"seed {seed}, mutant {tried}: {data!r}", file=sys.stderr)
        tried += 1
    return tried


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=10.0)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    tried = run(options.seconds, options.seed)
    print(f"{tried} mutants, nothing found")


if __name__ == "__main__":
    main()
