import os
import sys

print("before")
sys.stdout.flush()
pid = os.fork()
if not pid:
    print("child")
    sys.exit(3)
print(os.waitpid(pid, 0)[1] >> 8)
pid = os.fork()
if not pid:
    print("child 2")
    os._exit(0)
os.waitpid(pid, 0)
print(os.getppid() != os.getpid())
