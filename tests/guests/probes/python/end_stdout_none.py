import sys
print("a")
sys.stdout.flush()
sys.stdout = None
