"""A front: takes connections, answers them. Unprivileged, asyncio, never forks.

Decides nothing but the order of start and of leaving; what stands behind a request is put together
in `config/assemble.py`.
"""

import asyncio
import gc
import os
import resource
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import uvloop

from gateway.config.assemble import Assembly, assemble
from gateway.config.keepers import front_account
from gateway.config.settings import Settings
from gateway.daemon.link import MasterLink
from gateway.daemon.openings import Opened
from gateway.exchange import Request, Via
from gateway.journal import Journal
from gateway.listeners.accesslog import AccessLog
from gateway.listeners.behind import http_connections
from gateway.listeners.door import Door, Entrance
from gateway.listeners.drive import Service
from gateway.listeners.fastcgi import FastCgiConnection
from gateway.listeners.listening import HttpListener, RelayListener
from gateway.listeners.ownlogs import OwnLogsRegistry
from gateway.listeners.peers import Peers
from gateway.listeners.scgi import ScgiConnection
from gateway.listeners.sockets import BACKLOG
from gateway.meter import Meter
from gateway.process.accounts import Account
from gateway.process.mastering import (
    Retire,
)
from gateway.wire.http_request import HeadLimits

FDS_EACH = 4
"""Descriptors that a connection may need: itself, and the pipes of a script."""
FDS_RESERVE = 64
LOG_DELAY = 0.02
"""Seconds that an access record may wait for others, to be written with them."""
LAST_WORDS = 1.0
"""Seconds to leave in when the master is gone."""
LAST_REQUESTS = 5.0
"""Seconds in which a connection may ask once more after others have taken over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontSpec:
    """All that a front is told."""

    settings: Settings
    listeners: Sequence[Opened]
    access: int
    """Descriptor of the access log."""
    explain: bool
    """Show the reasons of failures to clients."""
    runtime: str
    """The directory of the pools' sockets."""


def run(spec: FrontSpec, control: socket.socket, journal: Journal) -> int:
    """Be a front until the master says stop, or is gone. Return the exit code."""
    connections = _room()
    _become(front_account(spec.settings))
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    log = AccessLog(
        spec.access,
        spec.settings.log.format,
        soon=lambda flush: loop.call_later(LOG_DELAY, flush),
    )
    try:
        loop.run_until_complete(_serve(spec, control, journal, log, connections))
    finally:
        log.flush()
        loop.close()
    return 0


def _room() -> int:
    """Return how many connections fit into the descriptors we may have; take all we may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(most, 1 << 20) if most != resource.RLIM_INFINITY else 1 << 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return max(16, (wanted - FDS_RESERVE) // FDS_EACH)


def _become(who: Account) -> None:
    """Give up root for good. Raises PermissionError if there would be a way back."""
    if who.uid == os.geteuid():
        return
    os.setgroups(who.groups)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise PermissionError(f"{who.name}: root could be had again")


async def _serve(
    spec: FrontSpec, control: socket.socket, journal: Journal, log: AccessLog, connections: int
) -> None:
    loop = asyncio.get_running_loop()
    door = Door(
        loop,
        journal,
        spec.settings.limits,
        prefix=f"{secrets.token_hex(3)}-",
        connections_max=connections,
        head_limits=HeadLimits(),
    )
    meter = Meter()

    def figures() -> dict[str, object]:
        return {
            "connections": len(door.connections),
            "connections_max": door.connections_max,
            "exchanges": door.exchanges,
            "sites": meter.figures(),
        }

    link = MasterLink(loop, control, (journal.fd, spec.access), figures)
    own_logs = _own_logs(spec.settings, link, loop, journal.who)
    assembly = assemble(spec.settings, link.keeper, journal, spec.runtime, own_logs)
    record = _record(log, meter)
    entrances = [
        _entrance(opened, assembly, journal, record, spec.explain) for opened in spec.listeners
    ]
    servers = [
        await _listen(loop, door, entrance, opened)
        for entrance, opened in zip(entrances, spec.listeners, strict=True)
    ]
    # What lives now lives as long as the process: no collection needs to look at it again.
    gc.collect()
    gc.freeze()
    link.ready()
    message = await link.stopped
    end = loop.time() + (LAST_WORDS if message is None else message.drain)
    # Where others take over they take the queues too.
    stays = isinstance(message, Retire)
    queues = [[] if stays else _queued(opened.socket) for opened in spec.listeners]
    for server in servers:
        server.close()
    for queue, entrance, opened in zip(queues, entrances, spec.listeners, strict=True):
        await _take(loop, door, entrance, opened, queue)
    if isinstance(message, Retire):
        await door.last_requests(min(LAST_REQUESTS, message.drain), link.hurry)
    await door.drain(max(0.0, end - loop.time()))
    for keeper in assembly.keepers.values():
        keeper.close()
    link.tell_figures(last=True)  # the master keeps them
    link.close()


def _own_logs(
    settings: Settings, link: MasterLink, loop: asyncio.AbstractEventLoop, who: str
) -> OwnLogsRegistry:
    """Return the logs of tenants, which the master opens."""
    registry = OwnLogsRegistry(
        settings.log.format,
        settings.tenants.log_size if settings.tenants else 0,
        soon=lambda flush: loop.call_later(LOG_DELAY, flush),
        want=link.want_logs,
        who=who,
    )
    link.logs_opened = registry.opened
    link.logs_renamed = registry.renamed
    return registry


def _record(log: AccessLog, meter: Meter) -> Callable[[Request, int, int, float], None]:
    """Return what is done with an exchange that is over."""

    def record(request: Request, status: int, sent: int, duration: float) -> None:
        log.record(request, status, sent, duration)
        notes = request.notes
        meter.record(
            notes.site,
            notes.kind,
            status,
            duration,
            sent=sent,
            received=request.length or 0,
            cpu=notes.cpu,
            memory=notes.memory,
        )

    return record


def _entrance(
    opened: Opened,
    assembly: Assembly,
    journal: Journal,
    record: Callable[[Request, int, int, float], None],
    explain: bool,
) -> Entrance:
    """Return what the connections of one socket share."""
    listener = opened.listener
    handler = assembly.given.get(f"{opened.via}/{opened.number}", assembly.handler)
    peers = {
        name: None if items is None else Peers.parse(items)
        for name, items in (("allow", listener.allow), ("trust", listener.trust))
    }
    entrance = Entrance(
        service=Service(handler, journal, record, explain),
        name=str(listener.address),
        allow=peers["allow"],
        trust=peers["trust"],
    )
    if isinstance(listener, RelayListener):
        return replace(entrance, stderr=listener.stderr, given=listener.script == "param")
    assert isinstance(listener, HttpListener)
    return replace(entrance, proxy_protocol=listener.proxy_protocol, forwarded=listener.forwarded)


def _connections(via: Via, entrance: Entrance) -> Callable[[Door, Entrance], asyncio.Protocol]:
    """Return what makes the connections of a socket."""
    if via == "fastcgi":
        return FastCgiConnection
    if via == "scgi":
        return ScgiConnection
    return http_connections(entrance)


def _queued(listener: socket.socket) -> list[socket.socket]:
    """Accept all who wait in the kernel's queue of a socket; it resets them once that is closed.

    The loop accepts one in each of its turns, so in a busy front somebody waits there.
    """
    found: list[socket.socket] = []
    listener.setblocking(False)
    try:
        while len(found) < BACKLOG:
            found.append(listener.accept()[0])
    except OSError:
        pass  # nobody is left, or another front was faster, or this process has no descriptor
    return found


async def _take(
    loop: asyncio.AbstractEventLoop,
    door: Door,
    entrance: Entrance,
    opened: Opened,
    accepted: Sequence[socket.socket],
) -> None:
    """Serve connections that the loop has not accepted itself."""
    make = _connections(opened.via, entrance)
    for client in accepted:
        client.setblocking(False)
        try:
            await loop.connect_accepted_socket(lambda: make(door, entrance), client)
        except OSError:
            client.close()  # it is gone again


async def _listen(
    loop: asyncio.AbstractEventLoop, door: Door, entrance: Entrance, opened: Opened
) -> asyncio.Server:
    make = _connections(opened.via, entrance)

    def connection() -> asyncio.Protocol:
        return make(door, entrance)

    listener = opened.socket
    if listener.family == socket.AF_UNIX:
        # The path is the master's: another front may still listen there.
        ours: dict[str, Any] = {"cleanup_socket": False}
        return await loop.create_unix_server(connection, sock=listener, backlog=BACKLOG, **ours)
    return await loop.create_server(connection, sock=listener, backlog=BACKLOG)
