import dis
import sys

code = sys._getframe().f_code
print((code.co_name, code.co_filename, code.co_flags, code.co_firstlineno))
print(getattr(code, "co_qualname", ""))
print(sys._getframe().f_globals is sys._getframe().f_locals is globals())


class Here(object):
    pass


print((Here.__module__, repr(Here), Here().__class__.__name__))
import pickle

print(pickle.loads(pickle.dumps(Here())).__class__ is Here)
