import codecs
import io
import os
import sys

if sys.version_info[0] > 2:
    sys.stdout = io.TextIOWrapper(sys.stdout.detach(), "latin-1")
    print("\xe9")
else:
    sys.stdout = codecs.getwriter("latin-1")(sys.stdout)
    sys.stdout.write(u"\xe9")
