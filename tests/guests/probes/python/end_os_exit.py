import os
import sys
sys.stdout.write("lost")
os._exit(4)
