import os
import sys
print("a")
sys.stdout.flush()
os.close(1)
print("b")
