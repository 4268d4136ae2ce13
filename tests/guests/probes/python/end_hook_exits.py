import sys
sys.excepthook = lambda kind, error, trace: sys.exit(9)
1 / 0
