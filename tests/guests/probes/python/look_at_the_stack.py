import inspect
import logging
import sys
import traceback
import warnings


def function():
    traceback.print_stack()
    print([entry[1:4] for entry in inspect.stack()])
    print(len(list(inspect.getouterframes(inspect.currentframe()))))
    for level in range(1, 6):
        warnings.warn("level %d" % level, stacklevel=level)
        warnings.warn("old %d" % level, DeprecationWarning, stacklevel=level)


function()
try:
    sys._getframe(1)
except ValueError as error:
    print(error)
if sys.version_info[0] > 2:
    logging.warning("with the stack", stack_info=True)
eval("traceback.print_stack()")
sys.stderr.flush()
try:
    import faulthandler

    faulthandler.dump_traceback(all_threads=False)
except ImportError:
    pass
