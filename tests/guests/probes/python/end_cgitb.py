import sys
import time
import warnings

warnings.simplefilter("ignore")
try:
    import cgitb
except ImportError:
    sys.exit("no cgitb")
time.ctime = lambda *given: "now"
cgitb.enable(format="text")


def fails(argument):
    return argument + undefined


fails(1)
