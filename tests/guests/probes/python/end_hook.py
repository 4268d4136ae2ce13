import sys
import traceback


def hook(kind, error, trace):
    print((sys.exc_info(), sys.last_type is kind, sys.last_value is error))
    print("".join(traceback.format_exception(kind, error, trace)))


sys.excepthook = hook
1 / 0
