"""Be a Python that has started already: fork a child for each request, which becomes the script.

    INTERPRETER FLAGS zygote.py CONTROL_FD

Decides nothing: all is in warm.py. This file is small because the interpreter keeps the syntax tree
of the file that it runs until that has ended, and every child would let go of it: with all in one
file that took 1.1 ms of a child's 3.9.
"""

# mypy: ignore-errors
# (Python 2.7 reads this.)

GIVEN = list(globals())  # what an interpreter puts into __main__

import sys

LOADED = list(sys.modules)  # what an interpreter has loaded before it reads a script
import os

SAFE = getattr(sys.flags, "safe_path", False) or getattr(sys.flags, "isolated", False)
HERE = os.path.dirname(os.path.abspath(__file__))
if SAFE:
    sys.path.insert(0, HERE)  # otherwise it is there
WRITES, sys.dont_write_bytecode = sys.dont_write_bytecode, True
import warm

sys.dont_write_bytecode = WRITES
CHILD = warm.begin(sys.modules["__main__"], GIVEN, LOADED, int(sys.argv[1]))
if warm.FRAMELESS:
    raise CHILD  # `warm`, "The script", says what happens
if CHILD.stays:
    sys.exit(CHILD.stay())
try:
    eval(*CHILD.prepare())
    ERROR = None
except SystemExit:
    CHILD.learn()
    raise
except BaseException:
    ERROR = sys.exc_info()
if ERROR is None:
    CHILD.learn()
else:
    CODE, ERROR = CHILD.framed(*ERROR), None
    sys.exit(CODE)
