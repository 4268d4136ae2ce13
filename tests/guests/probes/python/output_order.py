import os
import sys

sys.stdout.write("1 buffered\n")
os.write(1, b"2 direct\n")
sys.stderr.write("3 no newline")
os.write(2, b"4 direct\n")
sys.stdout.flush()
os.system("echo 5 shell")
sys.stdout.write("x" * 10000)
os.write(1, b"6 direct\n")
