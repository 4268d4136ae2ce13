import os
import sys

if len(sys.argv) < 2:
    os.execv(sys.executable, [sys.executable, __file__, "again"])
print((sys.argv[1:], sorted(os.environ)))
print([name for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name)])
