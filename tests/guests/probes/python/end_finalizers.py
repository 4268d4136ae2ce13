import os
import sys
import tempfile
import weakref


class Noisy(object):
    def __init__(self, name):
        self.name = name

    def __del__(self, write=os.write):
        write(1, ("gone %s\n" % self.name).encode())


class Cycle(Noisy):
    pass


def generator():
    try:
        yield 1
    finally:
        os.write(1, b"generator\n")


def called(reference):
    os.write(1, b"reference\n")


plain = Noisy("plain")
_private = Noisy("private")
__special__ = Noisy("special")
held = [Noisy("held")]
Noisy.attribute = Noisy("of a class")


def function(default=Noisy("default")):
    return default


steps = generator()
next(steps)
left = open(os.path.join(tempfile.gettempdir(), "left-%d" % os.getpid()), "w+")
os.unlink(left.name)
copy = os.fdopen(os.dup(1), "w")
copy.write("buffered in a second file\n")
watched = Cycle("watched")
reference = weakref.ref(watched, called)
if sys.version_info[0] > 2:
    weakref.finalize(watched, os.write, 1, b"finalize\n")
    cycle = Cycle("cycle")
    cycle.itself = cycle
print("main")
