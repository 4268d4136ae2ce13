"""Floor 6: the whole settings file as values.

Decides the general tables and their defaults. The settings of sites, pools and listeners stand
beside the code that they tune (`site/site.py`, `backends/pool.py`, `listeners/listening.py`); how a
file is read, and what in it contradicts itself, is `load.py`.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.address import Address, parse_address
from gateway.backends.pool import PoolSettings
from gateway.exchange import Limits, Via
from gateway.listeners.accesslog import Format
from gateway.listeners.listening import HttpListener, Listener, RelayListener
from gateway.listeners.sockets import Mode, parse_mode
from gateway.reading import Form, Reader
from gateway.site.site import SiteSettings
from gateway.site.tenants import TenantsSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """`[server]`: the processes."""

    user: str = ""
    """The fronts' account when started as root, and that of sites without one of their own. Without
    meaning otherwise."""
    fronts: int | Literal["auto"] = 1
    """Front processes; "auto" is one for each processor core."""
    runtime: str = ""
    """The directory of sockets and pid file. Empty: a private one that goes when the daemon goes.
    """
    broken_script: Literal[502, 500] = 502
    """The status of an answer that cannot be understood, or of none."""

    @property
    def front_count(self) -> int:
        """How many fronts that is on this machine."""
        return len(os.sched_getaffinity(0)) if self.fronts == "auto" else self.fronts


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    """`[listen]`: where requests come from."""

    http: tuple[HttpListener, ...] = (HttpListener(address=Address(host="127.0.0.1", port=8080)),)
    """Sockets that speak HTTP. Where only others are named, there is none."""
    fastcgi: tuple[RelayListener, ...] = ()
    """Sockets that speak FastCGI, for a front server."""
    scgi: tuple[RelayListener, ...] = ()
    """Sockets that speak SCGI, for a front server."""

    def every(self) -> Iterator[tuple[Via, int, Listener]]:
        """Give each socket with its protocol and its number among those of it, from 0."""
        kinds: tuple[tuple[Via, tuple[Listener, ...]], ...] = (
            ("http", self.http),
            ("fastcgi", self.fastcgi),
            ("scgi", self.scgi),
        )
        for via, listeners in kinds:
            for number, listener in enumerate(listeners):
                yield via, number, listener

    @property
    def given(self) -> tuple[tuple[str, RelayListener], ...]:
        """The sockets whose front servers name the scripts themselves, each with a key."""
        return tuple(
            (f"{via}/{number}", listener)
            for via, listeners in (("fastcgi", self.fastcgi), ("scgi", self.scgi))
            for number, listener in enumerate(listeners)
            if listener.script == "param"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """`[log]`: reopened on SIGUSR1."""

    access: str = "-"
    """A file, "-" for standard output, or "off"."""
    error: str = "-"
    """A file, "-" for standard error, or "off"."""
    format: Format = "combined"
    """How an access record is written; see `listeners/accesslog.py`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the daemon is told."""

    server: ServerSettings = field(default_factory=ServerSettings)
    listen: ListenSettings = field(default_factory=ListenSettings)
    log: LogSettings = field(default_factory=LogSettings)
    limits: Limits = field(default_factory=Limits)
    site: tuple[SiteSettings, ...]
    """The first is the default site."""
    pool: Mapping[str, PoolSettings] = field(default_factory=dict)
    tenants: TenantsSettings | None = None


READER = Reader(
    forms={
        Address: Form(
            parse_address, 'an address such as "127.0.0.1:8080" or "unix:/run/gateway/http.sock"'
        ),
        Mode: Form(parse_mode, 'the rights of a file in octal digits, such as "0660"'),
    },
    short={HttpListener: "address", RelayListener: "address"},
)
