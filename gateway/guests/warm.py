"""The inside of zygote.py: an interpreter that has started already becomes a script per request.

Decides how a script is started without starting an interpreter, such that it cannot tell. Runs
inside somebody else's interpreter (CPython 2.7, 3.6 and newer; standard library only): imports
nothing of ours, and knows nothing of users, routes, limits or of who restarts it. The keeper starts
zygote.py as the scripts' user with the environment, flags, umask, limits and session that the
scripts are to have, descriptor 0 being /dev/null, 1 and 2 pipes, and reaps what it leaves.

What is said. CONTROL_FD is an AF_UNIX SOCK_SEQPACKET socket, a message is a datagram of at most
200 KiB, numbers are little-endian.

  to us    R u32 id, u16 length of script, u16 length of cwd, script, cwd, environment
             run this, with the three descriptors that come along as 0, 1 and 2. The script is an
             absolute path; the environment is "NAME=value" joined by NUL. With a fourth, a socket,
             the process is to stay and take more orders there: see stay.py
           P names joined by NUL: import these modules now
           Q leave when no child is left; later orders are answered by F.
             At the socket's end we leave at once, and the children live on
  from us  H u32 pid: ready
           S u32 id, u32 pid: this order runs as this process, also its group
           F u32 id, text: this order cannot run here and nothing of it has; execute it
             It says so itself, before anything of the script runs; if it cannot, it runs nothing
           X u32 pid, i32 status of waitpid, u64 user us, u64 system us, u64 largest memory in KiB,
             u32 id: a child ended. If S was not said of its order, nothing of that has run
           L names joined by NUL: modules that a script needed and that were not here
           W text: a line for the log
           C text: a module or the interpreter changed; from now on every order is answered by F

Exit codes: 0 told to, or nobody there; 75 a module that cannot be here (said by W) was imported:
restart without it.

How a script is run. Its code is compiled once and kept until its file changes; what does not
compile is left to the interpreter itself (F). The child gives itself a fresh `__main__`,
environment and standard streams. From Python 3 on it then leaves all of our frames, so that none is
below the script's (`traceback.print_stack`, `warnings`, `sys._getframe` look there): see "The
script". From Python 3.7 on the end is ours, too, where that cannot be seen: see "The end".

What a script can still see:
- its parent (we, not the keeper), /proc/self/cmdline, /proc/self/environ and /proc/self/maps;
- `sys.modules` has what was preloaded, and that was imported before the request: in our directory,
  with our environment, at our time (`%(relativeCreated)d` of logging). What follows from it:
  `sys.path_importer_cache`, `gc.get_objects`, `gc.get_freeze_count`, a finder in `sys.meta_path` if
  a preloaded module gives a warning when it is imported;
- a directory that it puts in front of `sys.path` itself is not looked into for what is preloaded
  (in its own directory and those of PYTHONPATH we look for each request: see `Shadows`);
- all children of one zygote share the seed of `hash` for str and bytes;
- the recursion limit is reached some C calls earlier; limits of memory count what was preloaded;
- a `sys.excepthook` of its own is called from frames of ours; `atexit._ncallbacks` counts one more;
- an uncaught KeyboardInterrupt (3.8 and newer) ends it before the finalizers of globals run;
- an object in C without garbage collection that it hung on a preloaded module is not finalized;
- finalizers of cycles may run in another order: it depends on when the collector ran last;
- with Python 2.7, and versions that were not tried, one frame of ours is below the script's.
"""

# mypy: ignore-errors
# ruff: noqa
# (Python 2.7 reads this: no annotations, no f-strings.)

import gc
import io
import os
import resource  # noqa: F401  (of `wait4`)
import select
import stat
import struct
import sys
import time
import warnings

from _weakref import ref

try:  # in C alone; `functools` and `operator` are nine modules
    from _functools import partial
    from _operator import methodcaller
except ImportError:
    from functools import partial
    from operator import methodcaller
try:
    from _thread import _count as thread_count
except ImportError:
    from thread import _count as thread_count
try:
    import _signal as signal  # the module `signal` makes enumerations of it: six modules more
except ImportError:
    import signal

OLD = sys.version_info[0] == 2
BEFORE_37 = sys.version_info < (3, 7)
FRAMELESS = (3, 6) <= sys.version_info < (3, 14)
"""Whether "The script" below was tried with this version."""

MESSAGE_MAX = 200 << 10
TEXT_MAX = 4000
SOURCE_MAX = 4 << 20
KEPT_MAX = 500
SETTLED = 2.0
"""Seconds after its last change for which a file can change again without a new time of change."""
FINE = 0.1
"""The same on a file system that counts in fractions of a second."""
CUSTOM = ("sitecustomize", "usercustomize")
"""What an interpreter imports when it starts, if it is there."""
LOOK = 1.0
"""Seconds between two looks at the files of preloaded modules."""
CANNOT_BE_HERE = 75

START = (b"PYTHON", b"LC_", b"LANG", b"LD_", b"MALLOC_", b"GLIBC_")
"""Variables that an interpreter or the C library reads when it starts. An order with others than
ours cannot run here."""

FILE = os.path.abspath(__file__)
if FILE.endswith(".pyc"):
    FILE = FILE[:-1]


def fsencode(text):
    return text if OLD else os.fsencode(text)


def fsdecode(data):
    return data if OLD else os.fsdecode(data)


# Receiving


def modern_receiver(fd):
    """Return a function that receives one message and its descriptors.

    Of a message that is too long it gives one byte too many.
    """
    import _socket

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)
    buffer = bytearray(MESSAGE_MAX + 1)
    buffers, room, flags = [buffer], _socket.CMSG_SPACE(4 * 16), _socket.MSG_CMSG_CLOEXEC

    def receive():
        size, ancillary, _, _ = sock.recvmsg_into(buffers, room, flags)
        fds = ()
        for level, kind, data in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds += struct.unpack("%di" % (len(data) // 4), data)
        return bytes(buffer[:size]), fds

    receive.detach = sock.detach  # a socket that is let go of unclosed would complain
    return receive


def old_receiver(fd):
    """The same for Python 2, whose `_multiprocessing.recvfd` takes one descriptor and a byte."""
    import ctypes

    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]

    class Message(ctypes.Structure):
        _fields_ = [
            ("name", ctypes.c_void_p),
            ("name_size", ctypes.c_uint32),
            ("vectors", ctypes.POINTER(Vector)),
            ("vectors_size", ctypes.c_size_t),
            ("control", ctypes.c_void_p),
            ("control_size", ctypes.c_size_t),
            ("flags", ctypes.c_int),
        ]

    head = struct.Struct("@Lii")  # cmsghdr
    recvmsg = ctypes.CDLL(None, use_errno=True).recvmsg
    recvmsg.restype = ctypes.c_ssize_t
    recvmsg.argtypes = [ctypes.c_int, ctypes.POINTER(Message), ctypes.c_int]
    data, control = ctypes.create_string_buffer(MESSAGE_MAX + 1), ctypes.create_string_buffer(128)
    vector = Vector(ctypes.addressof(data), MESSAGE_MAX + 1)
    message = Message(None, 0, ctypes.pointer(vector), 1, ctypes.addressof(control), 128, 0)

    def receive():
        message.control_size = 128
        size = recvmsg(fd, ctypes.byref(message), 0x40000000)  # MSG_CMSG_CLOEXEC
        if size < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        fds, at, end = (), 0, message.control_size
        while end - at >= head.size:
            length, level, kind = head.unpack_from(control, at)
            if (level, kind) == (1, 1):  # SOL_SOCKET, SCM_RIGHTS
                count = (length - head.size) // 4
                fds += struct.unpack_from("%di" % count, control, at + head.size)
            at += max(length + 7 & ~7, head.size)
        return ctypes.string_at(ctypes.addressof(data), size), fds

    receive.detach = lambda: None
    return receive


# What was given to the interpreter, and what the script is to be given


def initial_environment():
    """Return the "NAME=value" entries that this process was started with."""
    try:
        with open("/proc/self/environ", "rb") as file:
            return [entry for entry in file.read().split(b"\0") if entry]
    except (IOError, OSError):
        return [fsencode(name) + b"=" + fsencode(os.environ[name]) for name in os.environ]


def environment_data():
    """Return the dictionary inside `os.environ`: bytes."""
    return os.environ.data if OLD else os.environ._data


ENTRIES = None
"""What the environment was made of, if each of these entries is one of its variables."""


def set_environment(entries):
    """Make `entries` the environment, in their order, for `os.environ` and for the C library."""
    global ZONE
    set_variables(entries)
    zone = [entry for entry in entries if entry.startswith(b"TZ=")]
    if zone != ZONE:
        ZONE = zone
        time.tzset()


def set_variables(entries):
    """Set the environment's variables.

    Requests have most of it in common: where the names are the same, only what differs is put.
    """
    global ENTRIES
    before, ENTRIES = ENTRIES, None
    data, put = environment_data(), os.putenv
    if before is not None and len(before) == len(entries):
        differ = [pair for pair in zip(before, entries) if pair[0] != pair[1]]
        pairs = [(old.partition(b"=")[:2], new.partition(b"=")) for old, new in differ]
        if all(head == new[:2] for head, new in pairs):
            for _, (name, _, value) in pairs:
                data[name] = value
                put(name, value)
            ENTRIES = entries
            return
    for name in data:
        os.unsetenv(name)
    data.clear()
    for entry in entries:
        name, equals, value = entry.partition(b"=")
        if equals and name and name not in data:
            data[name] = value
            put(name, value)
    if len(data) == len(entries):
        ENTRIES = entries
    for name, value in COERCED:  # in `START`, so it is never what differs
        data[name] = value
        put(name, value)


def kind_of(fd):
    """Return what decides how Python opens a standard stream; None for a file: it has a place."""
    found = os.fstat(fd)
    form = found.st_mode & 0o170000
    if form == stat.S_IFIFO:
        return form, found.st_blksize
    if form == stat.S_IFCHR and not os.isatty(fd):
        return form, found.st_rdev
    return None


def opened(fd, like):
    """Open a standard stream as the interpreter does when it starts; `like` is how it did.

    See `create_stdio` in Python/pylifecycle.c.
    """
    writes = fd > 0
    unbuffered = not hasattr(sys.__stdout__.buffer, "raw")  # -u: `sys.flags` does not say it
    size = 0 if unbuffered and writes else -1
    buffer = io.open(fd, "wb" if writes else "rb", size, closefd=False)
    raw = getattr(buffer, "raw", buffer)
    raw.name = ("<stdin>", "<stdout>", "<stderr>")[fd]
    lines = raw.isatty() or (fd == 2 and sys.version_info >= (3, 9))
    lines, through = lines and not unbuffered, unbuffered
    if sys.version_info < (3, 7):
        lines, through = lines or unbuffered, False
    stream = io.TextIOWrapper(buffer, like.encoding, like.errors, "\n", lines, through)
    stream.mode = "w" if writes else "r"
    return stream


NAMES = ("stdin", "stdout", "stderr")


class Streams(object):
    """Standard streams that were made before the request, by what they are for.

    Of those that are written to, `sys` has the only ones: at the end a stream writes what it holds
    only if nobody holds it.
    """

    def __init__(self):
        self.kinds = [None, None, None]
        self.inputs = {}
        if OLD:
            return  # they are the C library's, which looks when they are first used
        self.kinds = [kind_of(fd) for fd in range(3)]
        null = os.dup(0)  # a request with a body comes by a pipe, one without by /dev/null
        reader, writer = os.pipe()
        os.dup2(reader, 0)
        for kind, stream in ((self.kinds[0], sys.stdin), (kind_of(0), opened(0, sys.stdin))):
            if kind is not None:
                self.inputs.setdefault(kind, stream)
        os.dup2(null, 0)
        for fd in (null, reader, writer):
            os.close(fd)

    def fit(self, fds):
        """Return which of the streams are to be made anew for what will be 0, 1 and 2; see to the
        first, if there is one for it."""
        if OLD:
            return ()
        anew = [fd for fd in (1, 2) if kind_of(fds[fd]) != self.kinds[fd] or not self.kinds[fd]]
        stream = self.inputs.get(kind_of(fds[0]))
        if stream is None:
            anew.append(0)
        elif stream is not sys.stdin:
            sys.stdin = sys.__stdin__ = stream
        return anew

    def make(self, anew):
        """Give `sys` streams for the descriptors that are there now."""
        for fd in anew:
            name = NAMES[fd]
            stream = opened(fd, getattr(sys, name))
            setattr(sys, name, stream)
            setattr(sys, "__%s__" % name, stream)


class Main(object):
    """`__main__` as an interpreter makes it, from the one that it made for zygote.py."""

    def __init__(self, module, names):
        self.module = module  # kept: in Python 2, a module that is let go of loses its globals
        self.first = [(name, vars(module)[name]) for name in names]
        self.next = None
        """The one for the next child."""
        self.script = None
        """What that has been made for."""

    def make(self, script):
        """Make the one for `script`, in the zygote. It is not among what is frozen: its globals
        have to be collected at the end."""
        if self.next is not None and script == self.script:
            return
        self.script = script
        self.next = type(self.module)("__main__")
        space = vars(self.next)
        space.clear()
        space.update(self.first)
        space["__doc__"] = None
        space["__file__"] = script
        if space.get("__loader__") is not None:
            space["__loader__"] = type(space["__loader__"])("__main__", script)
        if "__annotations__" in space:
            space["__annotations__"] = {}

    def take(self):
        """In the child: put it into its place, and return its globals."""
        module, self.next = self.next, None
        sys.modules["__main__"] = module
        return vars(module)


def reseed():
    """Let nothing that is random be what it is in other children."""
    modules = sys.modules
    if BEFORE_37 and "random" in modules:  # from 3.7 on it does so itself
        modules["random"].seed()
        close_random()
    if "numpy.random" in modules:
        modules["numpy.random"].seed()
    if "multiprocessing.process" in modules:
        process = modules["multiprocessing.process"]
        process.current_process().authkey = os.urandom(32)


# Compiled scripts


class Unable(Exception):
    """An order that cannot run here, and why."""


def identity(found):
    """Return what changes when a file does."""
    when = (found.st_mtime, found.st_ctime) if OLD else (found.st_mtime_ns, found.st_ctime_ns)
    return (found.st_dev, found.st_ino, found.st_size) + when


class Program(object):
    """A script's code, or its source if the compiler has something to say about it each time."""

    def __init__(self, path, found, source, read):
        self.identity = identity(found)
        self.read = read
        """When `source` was begun to be read."""
        self.runs = 0
        self.source = None
        self.path = path
        try:
            if not readable(source):
                raise Unable("it does not compile: it is not in the encoding that it says")
            self.code, said = quietly(lambda: compile(source, path, "exec", 0, True), False)
            if said:
                self.source = source
        except Unable:
            raise
        except BaseException as error:  # the interpreter itself shall say it
            raise Unable("it does not compile: %s" % (error,))

    def compiled(self):
        """Return the code; in the child, whose standard error takes the warnings."""
        if self.source is None:
            return self.code
        return compile(self.source, self.path, "exec", 0, True)


ENCODING = b"-_.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def said_encoding(line):
    """Return the encoding that a line names (PEP 263), "" for none, None if code begins in it.

    By hand: `re` would be ten modules more in every zygote.
    """
    code, mark, comment = line.partition(b"#")
    if code.strip(b" \t\f\r\n"):
        return None
    while mark:
        _, mark, comment = comment.partition(b"coding")
        if comment[:1] in (b":", b"="):
            name = comment[1:].lstrip(b" \t")
            size = len(name) - len(name.lstrip(ENCODING))
            if size:
                return name[:size].decode("ascii")
    return ""


def readable(source):
    """Whether the interpreter would take `source` from a file: it can be decoded.

    `compile` is content with less: comments that are in no encoding.
    """
    encoding = "ascii" if OLD else "utf-8"
    if source.startswith(b"\xef\xbb\xbf"):
        encoding = "utf-8"
    for line in source.split(b"\n", 2)[:2]:
        said = said_encoding(line)
        if said or said is None:
            encoding = said or encoding
            break
    try:
        source.decode(encoding)
    except (LookupError, UnicodeError):
        return False
    return True


def quietly(action, all_of_them):
    """Call `action`; return its value and the warnings that it gave, or would have shown."""
    said = []
    old = warnings.showwarning
    before = list(warnings.filters)
    if all_of_them:
        warnings.simplefilter("always")
    added = warnings.filters[0] if warnings.filters[:1] != before[:1] else None
    # Not `catch_warnings`, which would also take back the filters that a module adds.
    warnings.showwarning = lambda *given, **named: said.append(given)
    try:
        value = action()
    finally:
        warnings.showwarning = old
        if added is not None and added in warnings.filters:
            warnings.filters.remove(added)
            getattr(warnings, "_filters_mutated", lambda: None)()
    return value, said


class Programs(object):
    """The scripts that were compiled, until they change."""

    def __init__(self):
        self.kept = {}

    def find(self, path):
        """Return the program at `path` as it is now. Raises Unable."""
        name = fsdecode(path)
        try:
            found = os.stat(path)
            program = self.kept.get(path)
            if program is not None and program.identity == identity(found):
                return program
            read = time.time()
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
            try:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode) or found.st_size > SOURCE_MAX:
                    raise Unable("it is not a file, or too long to be kept")
                with os.fdopen(os.dup(fd), "rb") as file:
                    source = file.read(SOURCE_MAX)
            finally:
                os.close(fd)
        except EnvironmentError as error:
            raise Unable("it cannot be read: %s" % (error.strerror,))
        program = Program(name, found, source, read)
        if abs(time.time() - max(found.st_mtime, found.st_ctime)) > SETTLED:
            if len(self.kept) >= KEPT_MAX:
                self.kept.clear()
            self.kept[path] = program
            freeze()
        return program


# Modules imported beforehand


def close_random():
    """Let Python 2 close what it reads random numbers from; it looks whether that is still open."""
    if not OLD:
        return
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink("/proc/self/fd/" + name) == "/dev/urandom":
                os.close(int(name))
        except OSError:
            pass  # the listing's own


LASTING = []
"""What every child would else take apart at its end, to the listings of directories, though it is
the zygote's."""
SIZES = []
"""How much was in the first two, where a script may put what has a finalizer."""


def freeze():
    """Keep the collector's hands off what is there: it would write on pages that are shared."""
    global COLLECTIONS, LASTING, SIZES
    if hasattr(gc, "freeze"):
        LASTING = [sys.path_hooks, sys.meta_path, sys.path, sys.path_importer_cache]
        SIZES = [len(each) for each in LASTING[:2]]
        MAIN.next = None
        gc.freeze()
        COLLECTIONS = collections()


def system_directories():
    """Return where modules that all scripts may share come from, each with a slash at its end."""
    standard = os.path.dirname(os.path.abspath(os.__file__))
    places = [standard]
    for place in sys.path:
        if os.path.basename(place.rstrip("/")) in ("site-packages", "dist-packages"):
            places.append(os.path.abspath(place))
    return tuple(place + "/" for place in places), standard + "/"


def file_of(module):
    """Return the file that a module was loaded from, its source if that is there; or None."""
    name = getattr(module, "__file__", None)
    if not isinstance(name, str):
        return None
    if name.endswith((".pyc", ".pyo")) and os.path.exists(name[:-1]):
        return name[:-1]
    return name


def origin_of(name):
    """Return where the outermost package of `name` would be found: a path, "" if it has none."""
    top = name.partition(".")[0]
    if top in sys.builtin_module_names:
        return ""
    if OLD:
        import imp

        file, path, _ = imp.find_module(top)
        if file is not None:
            file.close()
        return path or ""
    from importlib.machinery import FrozenImporter, PathFinder

    spec = PathFinder.find_spec(top)
    if spec is None and FrozenImporter.find_spec(top) is None:
        raise ImportError("there is no module %s" % top)
    return "" if spec is None else spec.origin or list(spec.submodule_search_locations or [""])[0]


class Modules(object):
    """What is imported before the requests, and what its files were then."""

    def __init__(self, shadows):
        self.shadows = shadows
        self.system, self.standard = system_directories()
        self.known = frozenset(sys.modules)
        self.foreign = False
        """Whether code in C is here of which we do not know what it does at the end."""
        self.files = {}
        self.looked = 0.0
        self.note()

    def shared(self, path):
        """Whether a module at `path` is one of the system's, or of the user's own packages."""
        local = path.startswith(self.standard) and "-packages/" not in path[len(self.standard) :]
        return local or path.startswith(self.system[1:])

    def load(self, names):
        """Import modules; return lines for the log, and whether this process must not be used."""
        lines, spoiled = [], False
        for name in names:
            threads, fds = os.listdir("/proc/self/task"), os.listdir("/proc/self/fd")
            try:
                where = origin_of(name)
                if where and not self.shared(os.path.abspath(where)):
                    raise ImportError("%s is not the system's" % where)
                said = quietly(lambda name=name: __import__(name), True)[1]
            except BaseException as error:  # it may do anything, also exit
                lines.append("%s: not preloaded: %s: %s" % (name, type(error).__name__, error))
                said = ()
            if said and not OLD:
                HELD.hold(name, said)
            HELD.hide()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()  # what it printed must not come out of a child
            close_random()
            why = None
            if len(os.listdir("/proc/self/task")) > len(threads):
                why = "it starts threads"
            elif os.listdir("/proc/self/fd") != fds:
                why = "it leaves descriptors open"
            if why:
                lines.append("%s: cannot be preloaded: %s" % (name, why))
                spoiled = True
                break
        self.note()
        return lines, spoiled

    def is_foreign(self, module):
        """Whether a module is code in C that is not Python's own."""
        path = vars(module).get("__file__") if isinstance(module, type(sys)) else None
        if not isinstance(path, str) or not path.endswith(".so"):
            return False
        return not path.startswith(self.standard) or "-packages/" in path

    def note(self):
        """Remember what the files of the modules are."""
        self.count = len(sys.modules)
        self.known = frozenset(sys.modules) | frozenset(HELD.modules)
        held = [entry[0] for entry in HELD.modules.values()]
        modules = list(sys.modules.values()) + held
        self.foreign = sys.flags.verbose or any(self.is_foreign(module) for module in modules)
        self.foreign = bool(self.foreign or any(name in self.known for name in DOUBTFUL))
        paths = [file_of(module) for module in modules]
        self.shadows.note(self.known)
        paths += [path for path in self.shadows.first if not os.path.isdir(path)]
        for path in paths + [os.path.realpath(sys.executable or "/")]:
            if path and path not in self.files and path != FILE:
                self.files[path] = self.look(path)

    def look(self, path):
        try:
            found = os.stat(path)
        except OSError:
            return None
        return found.st_mtime, found.st_size, found.st_ino

    def changed(self, now):
        """Return the path of a module that changed, if it is time to look and there is one."""
        if 0 <= now - self.looked < LOOK:
            return None
        self.looked = now
        for path, was in self.files.items():
            if self.look(path) != was:
                return path
        return None

    def new(self):
        """Return which modules of the system a script has loaded that were not here."""
        names = []
        for name in list(sys.modules):
            if name not in self.known:
                path = file_of(sys.modules[name])
                if path and self.shared(os.path.abspath(path)):
                    names.append(name)
        return names


def suffixes():
    """Return the ends of the names of files that can be imported."""
    if OLD:
        import imp

        return frozenset(each[0] for each in imp.get_suffixes())
    import _imp

    files = sys.modules["_frozen_importlib_external"]
    return frozenset(_imp.extension_suffixes() + files.SOURCE_SUFFIXES + files.BYTECODE_SUFFIXES)


def is_found_first(top):
    """Whether the import system has a module in itself, before it looks into any directory."""
    if top in sys.builtin_module_names:
        return True
    return not OLD and sys.modules["_frozen_importlib"].FrozenImporter.find_spec(top) is not None


def module_of(name):
    held = HELD.modules.get(name)
    return held[0] if held else sys.modules.get(name)


def home_of(name):
    """Return the directory in which a module or package was found, None if it is in no file."""
    module = module_of(name)
    path = getattr(module, "__file__", None)
    if not isinstance(path, str):
        return None
    place = os.path.dirname(path)
    return os.path.dirname(place) if hasattr(module, "__path__") else place


def is_module(name, path):
    """Whether an import would take what is at `path` for `name`."""
    if path.rpartition("/")[2] != name:
        return os.path.exists(path) if OLD else os.path.isfile(path)
    if not os.path.isdir(path):
        return False
    if any(os.path.isfile(path + "/__init__" + suffix) for suffix in SUFFIXES):
        return True
    # Without it is a part of a package that has no file itself (PEP 420).
    module = module_of(name)
    return hasattr(module, "__path__") and getattr(module, "__file__", None) is None


class Shadows(object):
    """Modules that a script would find before those that are here: in its own directory, and in
    those of PYTHONPATH. For a module that is loaded no import looks there."""

    def __init__(self, loaded):
        self.loaded = frozenset(name.partition(".")[0] for name in loaded)
        """What is there before the script's directory is a place to look."""
        self.noted = set()
        self.tops = set()
        """Outermost names of what is here and could be elsewhere."""
        self.lists = {}
        """Directory -> its identity, and what in it has such a name."""
        self.passed = set()
        """Files in `first` that were there when what is here was imported."""
        value = b""
        if not sys.flags.ignore_environment:
            for entry in INITIAL:
                if entry.startswith(b"PYTHONPATH="):
                    value = entry.partition(b"=")[2]
        self.first = [fsdecode(place) for place in value.split(b":")] if value else []
        self.relative = not all(place.startswith("/") for place in self.first)

    def note(self, known):
        """Take up the modules of these names, which are here now."""
        names = set(name.partition(".")[0] for name in known)
        names.update(CUSTOM)
        names -= self.noted
        self.noted |= names
        new = set(name for name in names if not is_found_first(name))
        self.tops |= new
        self.lists.clear()
        for directory in self.first:
            for name, path in self.named(directory):
                if name in new and is_module(name, path):
                    self.passed.add(path)

    def beside(self, directory):
        """Return what in a script's directory it would import instead of what is here, or None."""
        for name, path in self.named(directory):
            if name not in self.loaded and name not in CUSTOM and home_of(name) != directory:
                if is_module(name, path):
                    return path
        return None

    def before(self):
        """Return what has come into a directory of PYTHONPATH that hides what is here, or None."""
        for directory in self.first:
            for name, path in self.named(directory):
                if path not in self.passed and is_module(name, path):
                    return path
        return None

    def named(self, directory):
        """Return the names and paths in a directory that a module of ours would have."""
        try:
            found = os.stat(directory)
            state = identity(found)
            kept = self.lists.get(directory)
            if kept is not None and kept[0] == state:
                return kept[1]
            now = time.time()
            entries = os.listdir(directory)
        except OSError:
            return ()  # nor does the import system find something there
        named = []
        for entry in entries:
            name = entry.partition(".")[0]
            if OLD and entry.endswith("module.so") and entry[:-9] in self.tops:
                name = entry[:-9]
            if name in self.tops and (name == entry or entry[len(name) :] in SUFFIXES):
                named.append((name, os.path.join(directory, entry)))
        # A change that comes at once need not show in its time.
        if now - max(found.st_mtime, found.st_ctime) > (FINE if found.st_mtime % 1 else SETTLED):
            if len(self.lists) >= KEPT_MAX:
                self.lists.clear()
            self.lists[directory] = state, named
        return named


class Held(object):
    """Modules that give a warning when they are imported (`cgi` in Python 3.11): the script that
    imports one is to see it. So they are not in `sys.modules`; this finder has them."""

    def __init__(self):
        self.modules = {}
        self.once = False
        """In a child: a module has been imported, whatever becomes of it then."""

    def hold(self, name, said):
        if name in sys.modules:
            module = sys.modules[name]
            self.modules[name] = module, module.__spec__, said
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)

    def hide(self):
        for name in self.modules:
            sys.modules.pop(name, None)

    def find_spec(self, name, path=None, target=None):
        if name not in self.modules:
            return None
        return type(self.modules[name][1])(name, self)

    def create_module(self, spec):
        return self.modules[spec.name][0]

    def exec_module(self, module):
        name = module.__spec__.name
        _, module.__spec__, said = self.modules[name]
        if self.once:
            del self.modules[name]
            if not self.modules:
                sys.meta_path.remove(self)
        for given in said:
            message, category, path, line = given[:4]
            if os.path.abspath(path) == FILE:  # said to whoever imports it
                warnings.warn(message, category, stacklevel=2)
            else:
                warnings.warn_explicit(message, category, path, line)


# The script
#
# It is to find no frame of ours below its own, its exceptions no entry of ours, and what comes
# after it (threads joined, `atexit`, buffers, the exit code) is to be the interpreter's own doing.
# So the child leaves all of its frames by raising `Become`. Then the interpreter calls
# `sys.excepthook`, which here is made of functions in C alone: `max` calls what `Become.become` and
# then `value.become` are. The second is `close` of a buffered writer, which calls `flush`, here the
# script, and then, whatever happened, `close` of the raw file, which raises `Ended`; the script's
# own exception is the context of that. `Ended` is a SystemExit, so the interpreter asks it for its
# code (`Ended.code`) and leaves with it.


LAST = ("last_type", "last_value", "last_traceback", "last_exc")


class Become(Exception):
    """Raised through all frames of a child."""

    @staticmethod
    def become():
        """Be the zygote, and return in a child."""
        sys.excepthook = SHOWN
        for name in LAST:
            if hasattr(sys, name):
                delattr(sys, name)
        child = ZYGOTE.serve()
        if child.stays:
            BUFFER.flush = child.run
        else:
            code, space = child.prepare()
            BUFFER.flush = partial(eval, code, space)
        ENDED.finish = child.finish


class Ended(SystemExit):
    """The script has come to its end."""

    @property
    def code(self):
        error, self.__context__ = self.__context__, None
        return self.finish(error)


class Raw(io.RawIOBase):
    def writable(self):
        return True

    def close(self):
        del BUFFER.flush  # nothing of ours may keep the script's globals alive
        raise ENDED


class Buffer(io.BufferedWriter):
    """Has a dictionary, for `flush`."""


SHOWN = sys.excepthook
BUFFER, BECOME, ENDED = Buffer(Raw()), Become(), Ended()
BECOME.become = BUFFER.close
RUN = partial(max, key=methodcaller("become"))


# The end
#
# An interpreter that ends takes down every module that it has, which for a child means to copy
# nearly all of the zygote's memory: half of the time of a small script. What a script can see of
# that are its own finalizers. So, when all else is over (threads joined, `atexit` called), the
# child takes down what is the script's in the interpreter's order (`finalize_modules` in
# Python/pylifecycle.c), looks whether anything that could still tell is left, and if not, leaves.
# Otherwise, or when in doubt (code in C that is not Python's own), the interpreter ends as always.
#
# Until then little that is not the script's is written to: `gc.freeze` makes that possible.

DOUBTFUL = (
    "_ctypes",
    "_curses",
    "_dbm",
    "_gdbm",
    "_interpreters",
    "_tkinter",
    "_xxsubinterpreters",
    "readline",
)
"""Modules of the standard library behind which code in C may have something to do at the end."""
GONE = (
    ("path", "argv", "ps1", "ps2", "path_hooks", "path_importer_cache", "meta_path")
    + LAST
    + ("__interactivehook__",)
)


YOUNG, FULL = (0, 1), (2, 2)
"""Which generations are collected first and second. A full collection also gives back memory that
the interpreter keeps at hand (30 pages of a small script's 350), and is needed only if something of
the script's came to be old."""
COLLECTIONS = None


def collections():
    """Return how often the older generations have been collected."""
    return [each["collections"] for each in gc.get_stats()[1:]]


class End(object):
    """The last function that `atexit` calls, since it was the first that was registered."""

    def __init__(self):
        self.status = None
        """What the process exits with, once the script has come to its end."""
        self.modules = None

    def leave(self):
        if self.status is None or gc.callbacks:  # they are told of each collection
            return
        names = newest(sys.modules, self.modules.known)
        if self.doubtful(names):
            return
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None and not stream.closed:
                    stream.flush()
        except BaseException:  # the interpreter will come upon it again, and say so
            return
        sys.modules["atexit"]._clear()  # they have been called, and hold the script's globals
        self.take_down(names)
        for name in NAMES[1:]:
            try:
                getattr(sys, name).flush()
            except BaseException:  # the script closed it, or took it apart
                setattr(sys, name, None)
        if not left_to_tell(self.modules.known):
            os._exit(self.status)

    def doubtful(self, names):
        """Whether something is there of which we do not know what its end does; `names` are the
        modules that the script loaded."""
        if self.modules.foreign or thread_count():
            return True
        loaded = sys.modules
        return any(name in DOUBTFUL or self.modules.is_foreign(loaded[name]) for name in names)

    def take_down(self, names):
        """Let go of the modules that are not the zygote's."""
        loaded = sys.modules
        first, second = YOUNG if collections() == COLLECTIONS else FULL
        if gc.isenabled():
            gc.collect(first)  # also puts a file's buffer before the file: their finalizers' order
        if [len(each) for each in LASTING[:2]] != SIZES:
            del LASTING[:]
        space = vars(sys)
        for name in GONE:
            if name in space:
                space[name] = None
        for name in NAMES:
            space[name] = space.get("__%s__" % name)
        alive = []
        for name in names:
            if isinstance(loaded[name], type(sys)):
                alive.append(ref(loaded[name]))
            loaded[name] = None
        gc.collect(second)
        left = False
        for module in reversed(alive):
            module = module()
            if module is not None:
                left = True
                space = vars(module)
                names = [name for name in space if isinstance(name, str)]
                first = [name for name in names if name[:1] == "_" and name[1:2] != "_"]
                for name in first + [name for name in names if name != "__builtins__"]:
                    space[name] = None
        module = space = None
        if left:
            gc.collect()


HARMLESS = dict.fromkeys(
    (dict, list, tuple, set, type, type(sys), type(sum), type(lambda: 0), type(LAST.index)), False
)
"""Kinds of objects without a finalizer, of which there are some in every script."""


def newest(loaded, known):
    """Return which of `loaded` are not `known`, in their order.

    Each name that is looked at is written to (its references are counted), so not all of them are:
    what is new came after the script's `__main__`. If that was moved, what is missed here is found
    by `left_to_tell`.
    """
    names = []
    try:
        for name in reversed(loaded):
            if name not in known:
                names.append(name)
            if name == "__main__":
                break
    except TypeError:  # Python 3.7, or another mapping
        return [name for name in loaded if name not in known]
    names.reverse()
    return names


def left_to_tell(known):
    """Whether an object that did not exist in the zygote could still do something at its end."""
    judged = dict(HARMLESS)
    for thing in gc.get_objects():
        kind = type(thing)
        tells = judged.get(kind)
        if tells is None:
            tells = judged[kind] = any("__del__" in vars(base) for base in kind.__mro__)
        if tells:
            return True
        if issubclass(kind, ref):
            callback = thing.__callback__
            if callback is None or getattr(callback, "__module__", None) in known:
                continue
            if getattr(callback, "__name__", "") != "_destroy":  # of an abstract class
                return True
    return False


END = End()


def flush():
    """Flush as the interpreter does when a main program has run (`flush_io`)."""
    for name in ("stderr", "stdout"):
        try:
            getattr(sys, name).flush()
        except BaseException:  # not an error of the script's until the very end
            pass


def uncaught(kind, error, trace):
    """Do with an exception what PyErr_Print does; return what `sys.exit` takes."""
    sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    hook = getattr(sys, "excepthook", None)
    if hasattr(sys, "audit"):
        sys.audit("sys.excepthook", hook, kind, error, trace)
    if hook is None:
        sys.stderr.write("sys.excepthook is missing\n")
        hook = sys.__excepthook__
    try:
        hook(kind, error, trace)
    except SystemExit as asked:
        return asked.code
    except BaseException:
        again, second, entries = sys.exc_info()
        sys.stderr.write("Error in sys.excepthook:\n")
        if not OLD:
            second.__traceback__ = entries.tb_next
        sys.__excepthook__(again, second, entries.tb_next)
        sys.stderr.write("\nOriginal exception was:\n")
        sys.__excepthook__(kind, error, trace)
    return 1


def interrupted():
    """End as Python 3.8 and later do after KeyboardInterrupt: by the signal."""
    import atexit

    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, EnvironmentError, ValueError):
            pass  # the script closed it, or nobody reads
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


class Child(object):
    """One order, in the process that is to run it."""

    stays = False

    def __init__(self, program, script, entries, lesson, fds):
        self.program = program
        self.script = fsdecode(script)
        self.entries = entries
        self.lesson = lesson
        self.streams = STREAMS.fit(fds)

    def dress(self, here):
        """In the zygote, before the fork: be what can be taken off or put over again.

        A page that is written to here and not in the child is copied once less.
        """
        set_environment(self.entries)
        script = self.script
        MAIN.make(script)
        sys.argv[:] = [script]
        if ORIGINAL is not None:
            sys.orig_argv[:] = ORIGINAL + [script]
        if not SAFE_PATH:
            sys.path.insert(0, here)

    def directory(self, cwd):
        """Return the directory that the script's links lead to; we are in `cwd`."""
        script = self.script
        place, _, _ = script.rpartition("/")
        if place == fsdecode(cwd) and not stat.S_ISLNK(os.lstat(script).st_mode):
            place = os.getcwd()
            if place.startswith("/"):
                return place
        return os.path.dirname(os.path.realpath(script))

    def undress(self):
        """In the zygote, after the fork."""
        if not SAFE_PATH:
            del sys.path[0]

    def prepare(self):
        """In the child: make it what an interpreter is that has just read the script."""
        script = self.script
        if self.streams:
            STREAMS.make(self.streams)
        sys.path_importer_cache[script] = no_archive(script)
        reseed()
        HELD.once = True
        space = MAIN.take()
        gc.enable()
        return self.program.compiled(), space

    def learn(self):
        if self.lesson is not None:
            self.lesson.learn()

    def finish(self, error):
        """Do what comes after a script, which may have ended by an exception; return what it exits
        with."""
        flush()
        self.learn()
        if error is None:
            code = None
        elif isinstance(error, SystemExit):
            code = error.code
        else:
            code = uncaught(type(error), error, error.__traceback__)
            if type(error) is KeyboardInterrupt and sys.version_info >= (3, 8):
                interrupted()
        if code is None or isinstance(code, int):
            number = int(code or 0)
            END.status = number & 0xFF if abs(number) < 1 << 63 else None
        else:
            END.status = 1
        return code

    def framed(self, kind, error, trace):
        """`finish` for an exception that has come through a frame of zygote.py."""
        flush()
        self.learn()
        if OLD:
            sys.exc_clear()
        else:
            error.__traceback__ = trace.tb_next
        return uncaught(kind, error, trace.tb_next)


def no_archive(script):
    """Return what an interpreter remembers that has looked whether its script is an archive."""
    if not OLD:
        return None
    import imp

    return imp.NullImporter(script)


def process_name(script):
    """Return what the kernel calls a process that executes `script`."""
    return script.rpartition(b"/")[2][:15]


class Lesson(object):
    """How one child at a time says at its end what it has loaded: by memory that it shares with us,
    since a descriptor for it would be one that the script can see."""

    SIZE = 64 << 10

    def __init__(self, modules):
        import mmap

        self.modules = modules
        self.memory = mmap.mmap(-1, self.SIZE)
        self.pid = 0

    def learn(self):
        said = b"\0".join(fsencode(name) for name in self.modules.new())[: self.SIZE - 4]
        self.memory[4 : 4 + len(said)] = said
        self.memory[:4] = struct.pack("<I", len(said))

    def take(self):
        """Return what the child said that has just ended."""
        self.pid = 0
        (size,) = struct.unpack("<I", self.memory[:4])
        self.memory[:4] = b"\0\0\0\0"
        return self.memory[4 : 4 + size]


# The zygote


class Zygote(object):
    """What waits for orders."""

    def __init__(self, control, modules):
        self.control = control
        self.receive = (old_receiver if OLD else modern_receiver)(control)
        self.modules = modules
        self.programs = Programs()
        self.lesson = Lesson(self.modules)
        self.children = {}
        """Process id -> id of its order."""
        self.changed = ""
        """Why everything is refused, if it is."""
        self.leaving = False
        self.woken, self.wake = os.pipe()
        self.name, self.own_name = open_name()
        self.fds = (control, self.woken, self.wake) + (self.name,) * (self.name >= 0)
        fcntl_nonblocking(self.woken, self.wake)
        signal.set_wakeup_fd(self.wake)
        signal.signal(signal.SIGCHLD, {}.get)  # nothing, and no frame for it
        signal.siginterrupt(signal.SIGCHLD, False)
        self.modules.note()

    def say(self, kind, *parts):
        try:
            os.write(self.control, kind + b"".join(parts))
        except EnvironmentError:  # there is no keeper any more, or not for us
            os._exit(0)

    def tell(self, kind, text, *parts):
        """`say` with a text at the end."""
        self.say(kind, *(parts + (text if OLD else text.encode("utf-8", "replace"),)))

    def serve(self):
        """Do what is ordered; return in a child only: what it is to do."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.woken, select.POLLIN)
        freeze()
        self.say(b"H", struct.pack("<I", os.getpid()))
        while not self.leaving or self.children:
            try:
                ready = poll.poll()
            except select.error:
                continue  # in Python 2 a signal ends it
            for fd, _ in ready:
                if fd == self.woken:
                    os.read(self.woken, 4096)
                    self.reap()
                else:
                    child = self.take()
                    if child is not None:
                        return child
        os._exit(0)

    def take(self):
        """Take one message; return in a child only."""
        try:
            message, fds = self.receive()
        except EnvironmentError:  # our keeper was killed with something unread
            message, fds = b"", ()
        if not message:
            os._exit(0)
        kind = message[:1]
        if kind == b"R":
            child = self.order(message, fds)
            if child is not None:
                return child
        elif kind == b"P":
            self.preload([fsdecode(name) for name in message[1:].split(b"\0") if name])
        elif kind == b"Q":
            self.leaving, self.changed = True, self.changed or "this zygote leaves"
        for fd in fds:
            os.close(fd)
        return None

    def preload(self, names):
        set_environment(INITIAL)
        lines, spoiled = self.modules.load(names)
        for line in lines:
            self.tell(b"W", line[:TEXT_MAX])
        if spoiled:
            os._exit(CANNOT_BE_HERE)
        freeze()

    def order(self, message, fds):
        """Start a script; return in the child only. What cannot run here is answered by F."""
        id, script_size, cwd_size = struct.unpack_from("<IHH", message, 1)
        cwd_at = 9 + script_size
        script, end = message[9:cwd_at], cwd_at + cwd_size
        entries = message[end:].split(b"\0")
        try:
            program = self.able(script, message[cwd_at:end], entries, message, fds)
            teaches = program.runs % 32 < 4 and not self.lesson.pid and len(fds) == 3
            lesson = self.lesson if teaches else None
            stay = staying() if len(fds) == 4 else None
            child = Child(program, script, entries, lesson, fds)
            child.dress(self.first_directory(child, message[cwd_at:end]))
            ours, started = sorted(fds + self.fds), struct.pack("<cI", b"S", id)
            self.be_called(process_name(script))
            pid = -1
            try:
                pid = os.fork()
            finally:
                if pid:
                    child.undress()
                    self.be_called(self.own_name)
        except (Unable, EnvironmentError) as error:
            self.tell(b"F", str(error)[:TEXT_MAX], struct.pack("<I", id))
            return None
        if not pid:
            if stay is not None:
                child = stay["Stay"](child, id, self.modules, fds[3])
            self.shed(fds, ours, started)
            return child
        program.runs += 1
        self.children[pid] = id
        if lesson is not None:
            lesson.pid = pid
        return None

    def be_called(self, name):
        """Be called in `ps` what the kernel would call the script: a child begins with our name."""
        if self.name >= 0:
            try:
                os.write(self.name, name)
            except EnvironmentError:
                pass  # it is forked already, perhaps: the order cannot be refused for this

    def able(self, script, cwd, entries, message, fds):
        """Go where the script is to run and return what it is. Raises Unable or OSError."""
        path = None
        if not self.changed:
            path = self.modules.changed(time.time()) or self.modules.shadows.before()
        if path:
            self.changed = "%s changed" % path
            self.tell(b"C", self.changed)
        if self.changed:
            raise Unable(self.changed)
        if len(message) > MESSAGE_MAX:
            raise Unable("the order is too long")
        if len(fds) not in (3, 4):
            raise Unable("%d descriptors came with it" % len(fds))
        starting = [entry for entry in entries if entry.startswith(START)]
        if starting != STARTED and sorted(starting) != STARTED:
            raise Unable("its environment has other settings of the interpreter")
        if self.modules.shadows.relative:
            raise Unable("PYTHONPATH has a directory that is not absolute")
        program = self.programs.find(script)
        if len(sys.modules) != self.modules.count:
            self.modules.note()  # the compiler needed a codec
        os.chdir(cwd)
        return program

    def first_directory(self, child, cwd):
        """Return what is to be the first of `sys.path`. Raises Unable."""
        if SAFE_PATH:
            return None
        here = child.directory(cwd)
        path = self.modules.shadows.beside(here)
        if path:
            raise Unable("it would import %s, and another one is loaded already" % path)
        return here

    def shed(self, fds, ours, started):
        """In a child: say that it starts, and keep nothing of the zygote but its memory."""
        os.setpgid(0, 0)
        self.say(started, struct.pack("<I", os.getpid()))
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(fds[0], 0)
        os.dup2(fds[1], 1)
        os.dup2(fds[2], 2)
        self.receive.detach()
        if ours[-1] - ours[0] == len(ours) - 1:
            os.closerange(ours[0], ours[-1] + 1)
        else:
            for fd in ours:
                os.close(fd)

    def reap(self):
        """Say which children ended."""
        while self.children:
            pid, status, used = os.wait4(-1, os.WNOHANG)
            if not pid:
                return
            id = self.children.pop(pid, None)
            if id is None:
                continue
            if pid == self.lesson.pid:
                names = self.lesson.take()
                if names:
                    self.say(b"L", names)
            times = int(used.ru_utime * 1e6), int(used.ru_stime * 1e6), used.ru_maxrss
            self.say(b"X", struct.pack("<IiQQQI", pid, status, *(times + (id,))))


def open_name():
    """Return a descriptor to rename this process by, or -1, and its name."""
    try:
        fd = os.open("/proc/self/comm", os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return -1, b""
    return fd, os.read(fd, 16).rstrip(b"\n")


def staying(kept={}):
    """Return the globals of stay.py, which is read when it is first needed."""
    if not kept:
        path = os.path.join(os.path.dirname(FILE), "stay.py")
        with io.open(path, "rb") as file:
            code = compile(file.read(), path, "exec", 0, True)
        space = {"__name__": "stay", "__file__": path, "warm": SELF}
        eval(code, space)
        kept.update(space)
        freeze()
    return kept


def fcntl_nonblocking(*fds):
    import fcntl

    for fd in fds:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)


# The beginning


def forget_ourselves(main, launcher):
    """Take out of the interpreter what it has because it runs us."""
    del sys.path[0]
    sys.path_importer_cache.pop(launcher, None)
    sys.path_importer_cache.pop(os.path.dirname(launcher), None)
    for name in ("__main__", __name__):
        sys.modules.pop(name, None)


def begin(module, names, loaded, control):
    """Make the zygote. `module` is the `__main__` of zygote.py, `names` what the interpreter put into
    it, `loaded` the names of the modules that there were then.

    Where that is possible, return an exception: once nothing catches it, it is the zygote. Else be
    the zygote, and return in a child only: its order.
    """
    global MAIN, SHOWN, ZYGOTE
    MAIN = Main(module, names)
    forget_ourselves(module, module.__file__)
    gc.disable()
    if FRAMELESS and hasattr(gc, "freeze"):
        import atexit

        atexit.register(END.leave)
    ZYGOTE = Zygote(control, Modules(Shadows(loaded)))
    END.modules = ZYGOTE.modules
    if not FRAMELESS:
        return ZYGOTE.serve()
    SHOWN, sys.excepthook = sys.excepthook, RUN
    return BECOME


SELF = sys.modules[__name__]
SAFE_PATH = bool(getattr(sys.flags, "safe_path", False) or getattr(sys.flags, "isolated", False))
INITIAL = initial_environment()
STARTED = sorted(entry for entry in INITIAL if entry.startswith(START))
ZONE = [entry for entry in INITIAL if entry.startswith(b"TZ=")]
ORIGINAL = sys.orig_argv[:-2] if hasattr(sys, "orig_argv") else None
COERCED = [
    (name, value)
    for name, value in environment_data().items()
    if name + b"=" + value not in INITIAL
]
"""What the interpreter itself put into its environment (PEP 538)."""
SUFFIXES = suffixes()
HELD = Held()
STREAMS = Streams()
