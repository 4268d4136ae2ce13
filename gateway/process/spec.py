"""What a keeper may start, and what became of it: the values that cross `process/channel.py`.

Decides nothing. A keeper gets its `KeeperSpec` from the master when it is made and trusts nothing
else: a front's order names a key of `scripts` or `files` and a path below that root, never a
command or a uid.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

SymlinkPolicy = Literal["none", "owner-match", "any"]
"""Which symbolic links a path may go through: none; those whose owner is the owner of what they
point to; all that stay below the root."""

StartMode = Literal["auto", "warm", "exec", "persistent"]
"""How a script is started: always as a new program ("exec"); as the child of an interpreter that is
ready, wherever that is possible ("warm", which waits for one; "auto", which does not); in such a
child that stays and runs it again ("persistent", else as "warm")."""

Sandbox = Literal["none", "home", "strict"]
"""What a user's programs see of the machine: all that the user may see ("none"); that, with a /tmp
of their own and without the homes of others ("home"); a system that cannot be written outside the
user's own directories either ("strict")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What all processes of one user may have together. 0 = no bound from us."""

    memory: int = 0
    """Bytes."""
    cpu: float = 0.0
    """Processor cores: 1.0 is one of them, all the time."""
    processes: int = 0
    """Processes and threads."""
    io_weight: int = 0
    """Share of the disk against other users, 1 to 10000; 100 is the kernel's default."""
    file_size: int = 0
    """Bytes that one file may have which a program writes."""
    open_files: int = 0
    """Descriptors of one program."""
    cpu_time: float = 0.0
    """Seconds of processor time of one program."""
    nice: int = 0
    """Added to the niceness of everything of this user, 0 to 19."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command with everything that its process starts with."""

    argv: tuple[bytes, ...]
    directory: bytes
    """Absolute; the working directory."""
    environment: Mapping[bytes, bytes]
    """All of it: nothing is inherited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptRoot:
    """A directory below which scripts may be started."""

    root: bytes
    """Absolute."""
    given: bool = False
    """A front server names the file: the rules of `identity.py` apply."""
    tenant: bool = False
    """It is a tenant's, found and listed nowhere: the rules of `identity.py` for tenants apply."""
    only: bytes = b""
    """The absolute path of the one script that may be started; b"" for all below the root."""
    symlinks: SymlinkPolicy = "owner-match"
    start: StartMode = "auto"
    interpreters: Mapping[bytes, bytes] = field(default_factory=dict)
    """Extension with its dot -> absolute path of the program that reads such a file. For files that
    are not executable; an executable file is always started as it is."""
    environment: Mapping[bytes, bytes] = field(default_factory=dict)
    """The site's own variables. Trusted, so any name may be here; what an order brings wins
    (CVE-2025-65082: settings must not replace a CGI variable)."""
    pool_processes: int = 1
    """Workers of each pool found by file."""
    pool_idle: float = 60.0
    """Seconds without use after which the workers of a pool found by file leave; 0 = never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRoots:
    """What the keeper of a tenant may start: all that these patterns lead to and that is its own.

    Orders name such a place as `tenants.route_key` says.
    """

    userdir: str
    """As "/home/*/public_html"; "" = none."""
    hosts: str
    """As "/srv/www/{host}/htdocs"; "" = none."""
    numbers: frozenset[str]
    """The rules that there are, by number; the front applies them."""
    symlinks: SymlinkPolicy = "owner-match"
    start: StartMode = "auto"
    interpreters: Mapping[bytes, bytes] = field(default_factory=dict)
    environment: Mapping[bytes, bytes] = field(default_factory=dict)
    own_settings: bool = False
    """Whether the tenant's own settings (`own.py`) count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """Persistent workers that share one listening socket, which each has as descriptor 0."""

    name: str
    program: Program
    processes: int
    socket: bytes
    """Absolute path of the Unix socket; the keeper makes it, mode 0660."""
    max_idle: float = 0.0
    """Seconds without a connection after which its workers leave; 0 = never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSpec:
    """All that a keeper knows."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    switch: bool
    """Whether the keeper must become that user (False: it already is)."""
    scripts: Mapping[str, ScriptRoot]
    """Route key ("site/route number") -> where its scripts are."""
    pools: tuple[PoolSpec, ...]
    """Started with the keeper and kept running."""
    sockets: bytes
    """A directory of this keeper's own, for the sockets of pools found by file (`*.fcgi`)."""
    concurrency: int
    queue: int
    grace: float
    """Seconds from TERM to KILL."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Key -> absolute path of a directory whose files may be sent on a script's word (X-Sendfile),
    if this user may read them."""
    idle: float = 60.0
    """Seconds with nothing running after which the keeper leaves. One with `pools` stays."""
    tenant: TenantRoots | None = None
    """What it may start beside `scripts`; None: nothing."""
    allowance: Allowance = Allowance()
    cgroup: tuple[bytes, ...] = ()
    """Directories of this user in the cgroup file systems, made by the master, with the limits set;
    the keeper enters them before it becomes the user."""
    no_new_privs: bool = False
    """Whether its programs may not gain rights by set-user-id programs (sudo, sendmail, ping)."""
    sandbox: Sandbox = "none"
    network: bool = True
    """Whether its programs may reach the network."""
    home: bytes = b""
    """The user's own directory, absolute; b"" where there is none."""
    hidden: tuple[bytes, ...] = ()
    """With a sandbox: absolute paths of directories that are empty for its programs: the parents of
    homes and of tenants' roots, the daemon's runtime directory, its logs."""
    shown: tuple[bytes, ...] = ()
    """With a sandbox: directories that appear there all the same and may be written, beside the
    home, `sockets` and the roots of `scripts`, which always do; those of `files` do for reading."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a script ended."""

    status: int
    """Exit code 0-255, or minus the number of the signal that killed it."""
    cpu: float
    """Seconds, user and system."""
    memory: int
    """Largest resident size in bytes; 0 where it was not above the keeper's own (about 16 MiB),
    which the kernel cannot tell from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """An interpreter that is kept ready, as it is shown: a zygote, or a process that stays."""

    interpreter: str
    """Its program, with its flags."""
    script: str
    """Absolute path of the one script that it stays for; "" for a zygote."""
    pid: int
    served: int
    """Requests until now."""
    modules: int
    """Modules that a zygote was told to load beforehand."""
    private: int
    """Bytes of memory that no other process has."""
    shared: int
    """Bytes of memory that others have as well."""
    age: float
    """Seconds since its start."""
    idle: float
    """Seconds since its last request; 0 while it has one."""


class SpawnFailed(Exception):
    """A program could not be started; raised where an exchange waits for it.

    `errno` is the system's number (0 if a rule of ours refused), `step` the step of the start that
    failed ("open", "identity", "check", "exec", "chdir", ...), `why` one sentence for the log that
    names the cause and the way out, `status` the HTTP status that answers it (403, 404, 500, 502
    or 503).
    """

    def __init__(self, errno: int, step: str, why: str, status: int = 500) -> None:
        super().__init__(why)
        self.errno = errno
        self.step = step
        self.why = why
        self.status = status
