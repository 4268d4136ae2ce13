#!/usr/bin/python3
"""A POST is read slowly and counted; a GET is answered with as many bytes as the query says."""

import os
import sys
import time

PIECE = 1 << 20


def main() -> None:
    write = sys.stdout.buffer.write
    write(b"Content-Type: application/octet-stream\r\n\r\n")
    if os.environ["REQUEST_METHOD"] == "POST":
        time.sleep(2)  # meanwhile the sender can fill whatever buffers there are
        count = 0
        while data := sys.stdin.buffer.read(PIECE):
            count += len(data)
            time.sleep(0.002)
        write(b"%d" % count)
    else:
        for _ in range(int(os.environ["QUERY_STRING"]) // PIECE):
            write(bytes(PIECE))


main()
