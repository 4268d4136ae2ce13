"""A child of a Python zygote that stays for one script and runs it again: `start = "persistent"`.

Decides what a request finds as if nobody had been there before, what may stay, and when this
process has to end. warm.py reads this file when an order first comes with a socket of its own
(`staying`), and puts itself into it as `warm`; everything said at its head holds here as well.

What is said on that socket is in process/persistent.py. A request that leaves nothing behind which
could harm the next one is answered by D; otherwise this process ends as a warm script does, by the
interpreter's own doing, and whoever waits for it is told.

Fresh for each request: `__main__`, the environment, argv, working directory, standard streams,
umask, signals and their mask, timers, the attributes of `sys` and `builtins`, the locale, the
context of `contextvars`; `sys.path` has again what it began with in front. `atexit` functions that
the script registers run at its end.

What stays: `sys.stdout` and `sys.stderr` as objects, while they can, since modules may have them
(what they hold is written at the end; `sys.stdin` is closed); modules with all that is in them,
whoever changed it (their logging handlers, caches, connections, `os.register_at_fork`); directories
that were added to `sys.path`, at its end; filters of warnings. `atexit` functions that a module
registers when it is imported run when the process ends. A frame of ours is below the script's.
Finalizers of what the script leaves run at its end.

What ends the process once the answer is out: an uncaught exception, an exit status other than 0,
a thread or a child process that is left, SIGCHLD ignored, more than HELD_MAX descriptors that are
left open (those of a module's connections may be), one that we need and that was closed, output
that cannot be written, a limit, user, group or niceness that was changed, a module or script that
changed or is too young to tell, half of the limit of processor time.
"""

# mypy: ignore-errors
# ruff: noqa
# (Python 2.7 reads this: no annotations, no f-strings.)

import errno
import fcntl
import gc
import os
import resource
import stat
import struct
import sys
import time

try:
    import builtins
except ImportError:
    import __builtin__ as builtins
import _locale

try:
    from _contextvars import Context
except ImportError:
    Context = None

signal = warm.signal
OLD = warm.OLD

CONTROL_AT = 100
"""Our socket is moved to this number or above, where a script's own descriptors do not come."""
HELD_MAX = 16
"""Descriptors that may stay open. Whatever the script itself had is closed with its variables, so
that these are a module's; or lost, and then this process must end before it has no more."""
LC_ALL = 6
LIMITS = sorted(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
TIMERS = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")
MISSING = object()


def settled(found, read):
    """Whether what was read of this file from the time `read` on is what is in it, unless its times
    say otherwise."""
    return read - found.st_ctime > (warm.FINE if found.st_ctime % 1 else warm.SETTLED)


def identity_of(path):
    """Return what changes when a file does, None if it is not there."""
    try:
        return warm.identity(os.stat(path))
    except (IOError, OSError):
        return None


def is_open(stream):
    """Whether a stream can be written to, as far as it says."""
    try:
        return not getattr(stream, "closed", False)
    except ValueError:  # what it wrote to is another one's now
        return False


class Attributes(object):
    """What a module has, to be put back."""

    def __init__(self, module):
        self.space = vars(module)
        self.first = dict(self.space)

    def restore(self):
        space, first = self.space, self.first
        for name in list(space):
            if name not in first:
                del space[name]
        for name in first:
            if space.get(name, MISSING) is not first[name]:
                space[name] = first[name]


class Endings(object):
    """`atexit` for a script that comes to its end again and again."""

    def __init__(self, modules):
        import atexit

        self.modules = modules
        self.module = atexit
        self.calls = []
        self.space = {}
        """The globals of the script that runs."""
        self.register_at_exit = atexit.register
        atexit.register = self.register
        if not OLD:
            self.unregister_at_exit = atexit.unregister
            atexit.unregister = self.unregister

    def register(self, func, *args, **named):
        if self.is_lasting(sys._getframe(1)):
            return self.register_at_exit(func, *args, **named)
        if not callable(func):
            raise TypeError("the first argument must be callable")
        self.calls.append((func, args, named))
        return func

    def unregister(self, func):
        self.calls[:] = [call for call in self.calls if call[0] != func]
        self.unregister_at_exit(func)

    def is_lasting(self, frame):
        """Whether what is registered from `frame` belongs to a module and not to a request: a
        module of the system does it, or one that is being imported."""
        path = frame.f_code.co_filename
        if frame.f_globals is not self.space and self.modules.shared(os.path.abspath(path)):
            return True
        while frame is not None and frame.f_globals is not self.space:
            if frame.f_code.co_name == "<module>":
                return True
            frame = frame.f_back
        return False

    def run(self):
        """Call what the script registered, the last first; errors are told as ever."""
        while self.calls:
            func, args, named = self.calls.pop()
            try:
                func(*args, **named)
            except SystemExit:
                pass  # as in Python 3: it has no effect there
            except BaseException:
                kind, error, trace = sys.exc_info()
                sys.stderr.write("Error in atexit._run_exitfuncs:\n")
                sys.__excepthook__(kind, error, trace.tb_next)
                del kind, error, trace

    def give_back(self):
        """Leave it to the interpreter, which ends now."""
        calls, self.calls = self.calls, []
        for func, args, named in calls:
            self.register_at_exit(func, *args, **named)


class Condition(object):
    """What a process has besides memory, as it was before the first request."""

    NUMBERS = [number for number in range(1, 65) if number not in (32, 33)]

    def __init__(self):
        self.umask = os.umask(0)
        os.umask(self.umask)
        self.handlers = self.signals()
        self.mask = None if OLD else signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.locale = _locale.setlocale(LC_ALL, None)
        self.recursion = sys.getrecursionlimit()
        self.collector = gc.get_threshold(), gc.get_debug()
        self.lasting = self.look()

    def signals(self):
        return [signal.getsignal(number) for number in self.NUMBERS]

    def look(self):
        """Return what no request may change."""
        limits = [resource.getrlimit(limit) for limit in LIMITS]
        ids = os.getresuid(), os.getresgid(), os.getpgrp(), os.getsid(0), os.nice(0)
        return limits, ids

    def restore(self):
        """Put everything back; return whether that was possible."""
        for name in TIMERS:
            signal.setitimer(getattr(signal, name), 0)
        now = self.signals()
        if now != self.handlers:
            for number, was, found in zip(self.NUMBERS, self.handlers, now):
                if found is not was and found != was:
                    if was is None:
                        return False
                    signal.signal(number, was)
        signal.set_wakeup_fd(-1)
        if self.mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        os.umask(self.umask)
        sys.settrace(None)
        sys.setprofile(None)
        sys.setrecursionlimit(self.recursion)
        gc.set_threshold(*self.collector[0])
        gc.set_debug(self.collector[1])
        gc.enable()
        if _locale.setlocale(LC_ALL, None) != self.locale:
            _locale.setlocale(LC_ALL, self.locale)
        if "_socket" in sys.modules and not OLD:
            sys.modules["_socket"].setdefaulttimeout(None)
        return self.look() == self.lasting


class Stay(object):
    """The process."""

    stays = True

    def __init__(self, child, order, modules, control):
        self.child = child
        self.order = order
        """Number of the order at hand."""
        self.modules = modules
        self.pid = os.getpid()
        self.control = self.moved(control)
        self.socket = os.fstat(self.control).st_ino
        self.nothing = os.open(os.devnull, os.O_RDWR)
        self.nothing = self.moved(self.nothing, close=True)
        self.own = {}
        """Files of modules that are not the system's: looked at for each request."""
        self.status = None
        self.told = False
        """The modules that the script needed have been told."""
        self.families = 0

    def moved(self, fd, close=False):
        """Return a copy of a descriptor with a high number, which no other program inherits."""
        try:
            copy = fcntl.fcntl(fd, 1030, CONTROL_AT)  # F_DUPFD_CLOEXEC
        except (IOError, OSError):  # not so many are allowed
            copy = fcntl.fcntl(fd, 1030, 3)
        if close:
            os.close(fd)
        return copy

    def run(self):
        """Run the script for as long as that goes well; `finish` tells the end."""
        self.status = self.stay()

    def finish(self, error):
        """Return what the interpreter exits with."""
        return self.status if error is None else self.child.finish(error)

    def stay(self):
        """Run the script for as long as that goes well; return what the interpreter exits with."""
        self.begin()
        code, space = self.child.prepare()
        self.streams()
        while True:
            stays, status = self.request(code, space)
            space = None
            if stays:
                stays, status = self.clean()
            if not stays:
                self.endings.give_back()
                return status
            self.done()
            order = self.wait()
            if order is None:
                return None
            space = self.prepare(order)

    def begin(self):
        self.since = time.time()
        self.like = [getattr(sys, name) for name in warm.NAMES]
        self.output = {}
        self.endings = Endings(self.modules)
        self.attributes = [Attributes(sys), Attributes(builtins)]
        self.environ = os.environ
        first = list(sys.path)
        if not warm.SAFE_PATH:
            del first[0]  # the script's directory
        self.path = sys.path, first
        self.argv = sys.argv
        self.condition = Condition()
        self.fds = set(os.listdir("/proc/self/fd"))

    # One request.

    def prepare(self, entries):
        """Make everything fresh; return the globals of the script."""
        self.since = time.time()
        warm.ENTRIES = None  # the script may have changed any of its variables
        warm.set_environment(entries)
        time.tzset()
        self.streams()
        sys.argv[:] = [self.child.script]
        if not warm.SAFE_PATH:
            sys.path.insert(0, os.path.dirname(os.path.realpath(self.child.script)))
        warm.MAIN.make(self.child.script)
        return warm.MAIN.take()

    def streams(self):
        """Give `sys` streams for the descriptors that are there now.

        A module may have those for output (a logging handler): they stay if they still can. That
        for input is another one each time, since it may hold what a request has not read.
        """
        if OLD:
            self.input = os.fdopen(os.dup(0), "r")
        else:
            self.input = warm.opened(0, self.like[0])
        sys.stdin = sys.__stdin__ = self.input
        for fd in (1, 2):
            name = warm.NAMES[fd]
            if fd not in self.output or not self.is_usable(self.output[fd]):
                if not OLD:
                    self.output[fd] = warm.opened(fd, self.like[fd])
                elif self.like[fd].closed:
                    self.output[fd] = os.fdopen(os.dup(fd), "w", -1 if fd == 1 else 0)
                else:
                    self.output[fd] = self.like[fd]
            setattr(sys, name, self.output[fd])
            setattr(sys, "__%s__" % name, self.output[fd])

    def is_usable(self, stream):
        """Whether a stream can be used again; it is set up as it was."""
        try:
            if not is_open(stream):
                return False
            if hasattr(stream, "reconfigure"):
                like = self.like[stream.fileno()]
                lines, through = like.line_buffering, like.write_through
                stream.reconfigure(
                    encoding=like.encoding,
                    errors=like.errors,
                    newline="\n",
                    line_buffering=lines,
                    write_through=through,
                )
            return True
        except BaseException:  # it was taken apart
            return False

    def request(self, code, space):
        """Run the script; return whether that left nothing that ends us, and else the status."""
        self.endings.space = space
        failed = None
        try:
            if Context is None:
                eval(code, space)
            else:
                Context().run(eval, code, space)
        except SystemExit as asked:
            if asked.code is not None and (not isinstance(asked.code, int) or asked.code):
                failed = asked.code, None
        except BaseException:
            failed = None, sys.exc_info()
        if OLD:
            sys.exc_clear()
        if failed is not None:
            self.tell()
            status, error = failed
            if error is not None:
                failed = asked = None
                kind, error, trace = error
                status = self.child.framed(kind, error, trace)
                if kind is KeyboardInterrupt and sys.version_info >= (3, 8):
                    warm.interrupted()
            return False, status
        if os.getpid() != self.pid or len(os.listdir("/proc/self/task")) > 1:
            return False, None  # a child that the script made, or threads: they are waited for
        try:
            if self.endings.calls:
                self.flush()
                self.endings.run()
            self.flush()
        except BaseException:  # the interpreter comes upon it again, and says so
            return False, None
        return True, None

    def flush(self):
        for stream in [sys.stdout, sys.stderr] + list(self.output.values()):
            if stream is not None and is_open(stream):
                stream.flush()

    def clean(self):
        """Take down what the request left; return whether we may stay, and else the status."""
        self.endings.space = {}
        sys.modules["__main__"] = warm.MAIN.module
        streams = sys.stdin, sys.stdout, sys.stderr
        for attributes in self.attributes:
            attributes.restore()
        gc.collect()
        try:
            self.flush()  # what finalizers wrote
        except BaseException:
            sys.stdin, sys.stdout, sys.stderr = streams
            return False, None
        if self.has_children() or not self.has_ours():
            sys.stdin, sys.stdout, sys.stderr = streams
            return False, None
        streams = None
        self.input.close()
        for fd in range(3):
            os.dup2(self.nothing, fd)
        fit = self.condition.restore()
        self.restore_paths()
        os.environ = self.environ
        if gc.garbage:  # Python 2 cannot let go of it
            fit = False
        warm.close_random()
        return fit and self.is_as_before() and self.note(), None

    def restore_paths(self):
        """Put back `sys.path`, with what was added behind it: a module that did so is not imported
        again, and may still look for others there."""
        now, (path, first) = sys.path, self.path
        added = []
        if isinstance(now, list):
            here = os.path.dirname(os.path.realpath(self.child.script))
            for place in now:
                if place not in first and place not in added and place != here:
                    added.append(place)
        first = (first + added)[:100]
        path[:] = first
        self.path = path, first
        sys.path = path
        sys.argv = self.argv

    def has_children(self):
        """Whether a process is there that the script has made, or could be."""
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
            return True  # then the kernel tells us of none
        try:
            os.waitpid(-1, os.WNOHANG)
            return True
        except OSError as error:
            if error.errno != errno.ECHILD:
                return True
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        families = used.ru_minflt + used.ru_majflt
        if families == self.families:
            return False
        self.families = families
        for name in os.listdir("/proc"):  # there were some: look whether they had any themselves
            try:
                if name.isdigit() and os.getpgid(int(name)) == self.pid and name != str(self.pid):
                    return True
            except OSError:
                pass  # it has ended
        return False

    def has_ours(self):
        """Whether our descriptors are there: a script may close all that it sees."""
        try:
            ours = os.fstat(self.control).st_ino == self.socket
            return ours and stat.S_ISCHR(os.fstat(self.nothing).st_mode)
        except OSError:
            return False

    def is_as_before(self):
        """Whether our descriptors are there and few others, and not half of the processor time is
        used up."""
        now = os.listdir("/proc/self/fd")
        if not self.fds.issubset(now) or len(now) > len(self.fds) + HELD_MAX:
            return False
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = resource.getrlimit(resource.RLIMIT_CPU)[0]
        return limit < 0 or 2 * (used.ru_utime + used.ru_stime) < limit

    def note(self):
        """Remember the files of modules that are new; return whether their changes will show."""
        if len(sys.modules) != self.modules.count:
            self.tell()
            for name in list(sys.modules):
                if name not in self.modules.known:
                    path = warm.file_of(sys.modules[name])
                    if path and not self.modules.shared(os.path.abspath(path)):
                        if path not in self.own:
                            try:
                                found = os.stat(path)
                            except OSError:
                                continue  # it is in no file of its own
                            if not settled(found, self.since):
                                return False
                            self.own[path] = warm.identity(found)
            self.modules.note()
            for path in self.own:
                self.modules.files.pop(path, None)
            warm.freeze()
        try:
            found = os.stat(self.child.script)
        except OSError:
            return False
        program = self.child.program
        return warm.identity(found) == program.identity and settled(found, program.read)

    def is_current(self, script):
        return identity_of(script) == self.child.program.identity

    # What is said.

    def say(self, kind, *parts):
        try:
            os.write(self.control, kind + b"".join(parts))
        except EnvironmentError:  # there is no keeper any more, or the script closed it
            os._exit(0)

    def tell(self):
        """Say which modules of the system should be loaded beforehand."""
        names = self.modules.new()
        if names and not self.told and os.getpid() == self.pid:
            try:
                os.write(self.control, b"L" + b"\0".join(map(warm.fsencode, names))[:32768])
            except EnvironmentError:
                pass
        self.told = True

    def done(self):
        mine = resource.getrusage(resource.RUSAGE_SELF)
        theirs = resource.getrusage(resource.RUSAGE_CHILDREN)
        times = mine.ru_utime + theirs.ru_utime, mine.ru_stime + theirs.ru_stime
        numbers = [int(seconds * 1e6) for seconds in times]
        peak = max(mine.ru_maxrss, theirs.ru_maxrss)
        self.say(b"D", struct.pack("<IQQQ", self.order, numbers[0], numbers[1], peak))

    def wait(self):
        """Take the next order and begin it; return the environment, None when no order comes."""
        receive = (warm.old_receiver if OLD else warm.modern_receiver)(self.control)
        try:
            message, fds = receive()
        except EnvironmentError:
            message, fds = b"", ()
        finally:
            receive.detach()
        if not message:
            return None
        self.order, script_size, cwd_size = struct.unpack_from("<IHH", message, 1)
        cwd_at = 9 + script_size
        script, end = message[9:cwd_at], cwd_at + cwd_size
        entries = message[end:].split(b"\0")
        why = self.unfit(script, entries, message, fds)
        if not why:
            try:
                os.chdir(message[cwd_at:end])
            except OSError as error:
                why = str(error)
        if why:
            self.say(b"F", struct.pack("<I", self.order), why.encode("utf-8", "replace"))
        else:
            for fd in range(3):
                os.dup2(fds[fd], fd)
        for fd in fds:
            os.close(fd)
        if why:
            return None
        self.say(b"S", struct.pack("<II", self.order, self.pid))
        return entries

    def unfit(self, script, entries, message, fds):
        """Return why an order cannot run here; "" if it can."""
        if len(message) > warm.MESSAGE_MAX or len(fds) != 3:
            return "the order is not whole"
        if warm.fsdecode(script) != self.child.script or not self.is_current(script):
            return "the script has changed"
        if sorted(entry for entry in entries if entry.startswith(warm.START)) != warm.STARTED:
            return "its environment has other settings of the interpreter"
        for path in self.own:
            if identity_of(path) != self.own[path]:
                return "%s has changed" % path
        shadows = self.modules.shadows
        path = self.modules.changed(time.time()) or shadows.before()
        if path:
            return "%s has changed" % path
        if not warm.SAFE_PATH:
            path = shadows.beside(os.path.dirname(os.path.realpath(self.child.script)))
        return "it would import %s, and another one is loaded already" % path if path else ""
