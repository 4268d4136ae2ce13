"""Says all that a script can easily see of itself, one fact in a line: "name: value"."""
import gc
import inspect
import locale
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings


def say(name, value):
    sys.stdout.write("%s: %s\n" % (name, value))


first = list(globals())[:9] if sys.version_info[0] > 2 else sorted(globals())[:5]
say("main names", [name for name in first if name.startswith("__")])
for name in ("__name__", "__file__", "__doc__", "__package__", "__spec__", "__cached__"):
    say(name, repr(globals().get(name, "none")))
say("annotations", repr(globals().get("__annotations__", "none")))
loader = globals().get("__loader__")
say("loader", (type(loader).__name__, getattr(loader, "name", ""), getattr(loader, "path", "")))
say("builtins", type(__builtins__).__name__)
main = sys.modules["__main__"]
say("main is this", vars(main) is globals())
say("main repr", repr(main).replace(repr(loader), "loader"))
for name in ("argv", "orig_argv", "path", "flags", "executable", "prefix", "warnoptions"):
    say(name, getattr(sys, name, "none"))
for name in ("dont_write_bytecode", "version", "hexversion", "api_version", "byteorder"):
    say(name, getattr(sys, name))
say("meta_path", sys.meta_path)
say("path_hooks", len(sys.path_hooks))
say("looked for an archive", sys.path_importer_cache.get(__file__, "none"))
say("recursion limit", sys.getrecursionlimit())
say("file system encoding", sys.getfilesystemencoding())
say("default encoding", sys.getdefaultencoding())
say("exception", sys.exc_info())
say("last", [name for name in dir(sys) if name.startswith("last_")])
say("hooks", [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__])
depth, frame = 0, sys._getframe()
while frame is not None:
    depth, frame = depth + 1, frame.f_back
say("frames", depth)
say("trace", (sys.gettrace(), sys.getprofile()))
say("collector", (gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.garbage))
say("filters", warnings.filters)
say("source", inspect.getsource(say))
say("source file", inspect.getsourcefile(say))
say("thread", (threading.current_thread().name, threading.active_count()))

for name in ("stdin", "stdout", "stderr"):
    stream = getattr(sys, name)
    say(name + " is", (type(stream).__name__, stream is getattr(sys, "__%s__" % name)))
    for what in ("name", "mode", "encoding", "errors", "newlines", "closed", "line_buffering"):
        say(name + " " + what, repr(getattr(stream, what, "none")))
    say(name + " write_through", getattr(stream, "write_through", "none"))
    if hasattr(stream, "buffer"):
        say(name + " buffer", repr(stream.buffer))
        say(name + " raw", repr(getattr(stream.buffer, "raw", "none")))
        say(name + " can", (stream.seekable(), stream.readable(), stream.writable()))
    say(name + " repr", repr(stream).split(" at 0x")[0])
    say(name + " kind", stat.S_IFMT(os.fstat(stream.fileno()).st_mode))
    say(name + " terminal", stream.isatty())

names = sorted(os.listdir("/proc/self/fd"), key=int)
say("descriptors", [name for name in names if os.path.exists("/proc/self/fd/" + name)])
say("cwd", os.getcwd())
mask = os.umask(0)
os.umask(mask)
say("umask", oct(mask))
say("environ", list(os.environ.items()))
listed = subprocess.Popen(["env"], stdout=subprocess.PIPE).communicate()[0].splitlines()
say("environment of a child", listed)
say("locale", [locale.setlocale(getattr(locale, name)) for name in ("LC_ALL", "LC_CTYPE")])
say("preferred encoding", locale.getpreferredencoding())
say("zone", (time.tzname, time.timezone, time.localtime(0)[:6]))

numbers = range(1, signal.NSIG)
given = [n for n in numbers if n not in (32, 33)]
say("signals", [(n, str(signal.getsignal(n))) for n in given if signal.getsignal(n)])
with open("/proc/self/status") as file:
    for line in file:
        name, _, value = line.partition(":")
        if name in ("Name", "SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd", "Threads", "Umask"):
            say("status " + name, value.strip())
        if name in ("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "CapEff", "CapInh"):
            say("status " + name, value.strip())
say("group", os.getpgrp() == os.getpid())
say("session", os.getsid(0) == os.getsid(os.getppid()))
say("limits", [(n, resource.getrlimit(getattr(resource, n))) for n in dir(resource) if "LIMIT_" in n])
say("nice", os.nice(0))
say("pid", os.getpid())
say("parent", os.getppid())
for name in ("cmdline", "environ", "maps"):
    with open("/proc/self/" + name, "rb") as file:
        say("proc " + name, repr(file.read()))
say("modules", sorted(sys.modules))
say("frozen", getattr(gc, "get_freeze_count", lambda: 0)())
