import os
import sys

stream = getattr(sys.stdin, "buffer", sys.stdin)
print(repr(stream.read(3)))
print(repr(os.read(0, 4)))
print(len(stream.read()))
with open("/dev/stdin", "rb") as file:
    print(repr(file.read()))
with open("/dev/stdout", "wb", 0) as file:
    file.write(b"directly\n")
with open("/dev/stderr", "wb", 0) as file:
    file.write(b"complaint\n")
