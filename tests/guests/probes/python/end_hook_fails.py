import sys


def hook(kind, error, trace):
    raise ValueError("the hook fails")


sys.excepthook = hook
1 / 0
