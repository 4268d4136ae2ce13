import os
import sys

with open("beside_%s.py" % sys.version_info[1], "w") as file:
    file.write("import sys, os\nprint((__name__, os.path.basename(__file__), sys._getframe().f_back is None))\n")
sys.dont_write_bytecode = True
__import__("beside_%s" % sys.version_info[1])
os.unlink("beside_%s.py" % sys.version_info[1])
import __main__

print(__main__.os is os)
