import sys
import warnings

warnings.simplefilter("ignore")
try:
    import cgitb
except ImportError:
    sys.exit("no cgitb")
cgitb.enable(format="text")


def fails(argument):
    return argument + undefined


fails(1)
