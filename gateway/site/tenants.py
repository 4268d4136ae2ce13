"""The settings of tenants: users who are found when they are first asked for, and listed nowhere.

Decides the keys and their defaults; the text under each field is its manual. Must not know how a
tenant is found (the master looks, `daemon/`), nor how limits are set (`process/`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from gateway.process.spec import Allowance, Sandbox
from gateway.units import Duration, Share, Size

_NOTHING: Mapping[str, str] = MappingProxyType({})

_HOST = "{host}"
_USERDIR = re.compile(r"/(?:[^*/]+/)*\*(?:/[^*/]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantsSettings:
    """`[tenants]`: shared hosting. Takes root; nothing is done for a tenant before a request asks.

    Raises ValueError for keys that contradict each other.
    """

    userdir: str = ""
    """Where the pages of `http://host/~alice/` are, "*" standing for the account's name:
    "/home/*/public_html". The directory must belong to that account."""
    hosts: str = ""
    """Where the pages of a host are that no [[site]] names: "/srv/www/{host}/htdocs". The owner of
    the directory is the tenant."""
    cgi: tuple[str, ...] = ("/cgi-bin/", "*.cgi")
    """What is a CGI script in a tenant's directory: a path ("/cgi-bin/") with everything below it,
    or a pattern of file names ("*.cgi")."""
    fastcgi: tuple[str, ...] = ("*.fcgi",)
    """Patterns of file names that are FastCGI programs, each a pool of its own."""
    start: Literal["auto", "warm", "exec", "persistent"] = "auto"
    """How a CGI script is started; see `[[site.route]]`."""
    index: tuple[str, ...] = ("index.html", "index.cgi")
    """Names that are looked for, in this order, when a directory is asked for."""
    listing: bool = False
    """Whether a directory without any of them is listed."""
    symlinks: Literal["none", "owner-match"] = "owner-match"
    """Symbolic links that a path may go through: never one to what belongs to somebody else."""
    interpreters: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    """Extension to interpreter, for scripts that are not executable: { ".pl" = "/usr/bin/perl" }.
    """
    environment: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    """Variables for the tenants' scripts."""
    own_settings: bool = True
    """Whether a tenant's `.gateway.toml` counts: index, redirects, error pages, ages, passwords,
    and how its own programs start (`process/own.py`). No limit can stand in it."""
    min_uid: int = 1000
    """Accounts with a smaller number are no tenants. Never 0."""
    min_gid: int = 1000
    """Nor are those whose group has a smaller number."""
    login: bool = False
    """Whether an account that may not log in (its shell is missing in /etc/shells) or that has
    expired is no tenant."""
    memory: Size = Size(512 << 20)
    """Memory of all of a tenant's processes together; "0 B" for no limit."""
    cpu: Share = Share(1.0)
    """Processor time of all of them: "100 %" is one core; "0 %" for no limit."""
    processes: int = 64
    """Processes and threads of a tenant; 0 for no limit."""
    io_weight: int = 100
    """A tenant's share of the disk against the others, 1 to 10000."""
    file_size: Size = Size(1 << 30)
    """Largest file that a tenant's program may write; "0 B" for no limit."""
    open_files: int = 1024
    """Files that one program may have open."""
    cpu_time: Duration = Duration(0.0)
    """Processor time of one program, after which it is ended; "0 s" for no limit."""
    nice: int = 0
    """Niceness of a tenant's programs, 0 to 19."""
    concurrency: int = 20
    """Scripts of one tenant that run at once."""
    queue: int = 50
    """Requests that may wait for one of those places; beyond it the answer is 503."""
    idle: Duration = Duration(60.0)
    """Without a request for so long, nothing of a tenant runs any more."""
    sandbox: Sandbox = "none"
    """What a tenant's programs see of the machine: "none", all that the account may; "home", a /tmp
    of their own and no other tenant's home; "strict", also nothing that can be written but their
    own directories, no processes of others, and no rights by executing a file: no sudo, and no
    sendmail that is set-group-id. What is in that /tmp is memory, at most 256 MiB, and gone when
    the tenant is idle. Takes Linux 5.12; where it is not possible the answer is 503."""
    network: bool = True
    """Whether a tenant's programs may reach the network. Without it they have a 127.0.0.1 of their
    own, and Unix sockets with a name in the file system: a database's, for one."""
    new_privileges: bool = False
    """Whether set-user-id programs (sudo, many a sendmail) gain their rights when a tenant starts
    them."""
    logs: str = ""
    """The directory of the tenants' own logs: access.log, error.log and faults.log in a directory
    for each, which the tenant may read. Empty: there are none."""
    log_size: Size = Size(16 << 20)
    """Largest size of each; then it is renamed to access.log.1, in place of the one before."""

    @property
    def allowance(self) -> Allowance:
        """What all processes of one tenant may have together."""
        return Allowance(
            memory=self.memory,
            cpu=self.cpu,
            processes=self.processes,
            io_weight=self.io_weight,
            file_size=self.file_size,
            open_files=self.open_files,
            cpu_time=self.cpu_time,
            nice=self.nice,
        )

    def __post_init__(self) -> None:
        if not self.userdir and not self.hosts:
            raise ValueError('[tenants] needs "userdir" or "hosts"')
        if self.userdir and not _USERDIR.fullmatch(self.userdir):
            raise ValueError(
                f'userdir = "{self.userdir}" must be an absolute path with one component "*", such '
                'as "/home/*/public_html"'
            )
        if self.hosts and (not self.hosts.startswith("/") or self.hosts.count(_HOST) != 1):
            raise ValueError(
                f'hosts = "{self.hosts}" must be an absolute path with {_HOST} once, such as '
                f'"/srv/www/{_HOST}/htdocs"'
            )
        if self.min_uid < 1 or self.min_gid < 1:
            raise ValueError('"min_uid" and "min_gid" must be at least 1: root is no tenant')
        if not 1 <= self.io_weight <= 10000:
            raise ValueError("io_weight must be from 1 to 10000")
        if self.nice > 19:
            raise ValueError("nice must be from 0 to 19")
        if not self.concurrency or not self.open_files:
            raise ValueError('"concurrency" and "open_files" must be more than 0')
