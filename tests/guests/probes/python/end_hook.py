import sys
import traceback


def hook(kind, error, trace):
    print((sys.exc_info(), sys.last_type is kind, sys.last_value is error))
    print("".join(traceback.format_exception(kind, error, trace)))
    traceback.print_stack(file=sys.stdout)


sys.excepthook = hook
1 / 0
