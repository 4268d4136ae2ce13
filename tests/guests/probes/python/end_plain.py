import sys
sys.stdout.write("no newline, no flush")
