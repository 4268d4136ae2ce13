import atexit
import sys


def say(what):
    sys.stdout.write("%s %s\n" % (what, "atexit" in sys.modules))


class Last(object):
    def __del__(self):
        sys.stdout.write("finalizer\n")


atexit.register(say, "first")
atexit.register(say, "second")
last = Last()
sys.stderr.write("main\n")
