"""Floor 6: which site, route and file of the settings a URL stands for, and the other way round.

Decides that by asking the very router that a front has, so that what is said here is what happens.
Must not run anything. What is looked up on the disk is looked up as whoever calls: a front's
account, if the answer is to be a front's.
"""

import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import quote_from_bytes

from gateway.backends.sources import Glob
from gateway.config.assemble import assemble
from gateway.config.keepers import (
    front_account,
    given_key,
    given_root,
    route_key,
    script_root,
    user_of,
)
from gateway.config.settings import Settings
from gateway.config.tenancy import tenant_account
from gateway.exchange import Refused
from gateway.journal import Journal
from gateway.listeners.ownlogs import OwnLogsRegistry
from gateway.process.spec import SpawnFailed
from gateway.site.map import Target
from gateway.site.router import Router
from gateway.site.site import RouteSettings, SiteSettings
from gateway.site.tenants import TenantsSettings

Kind: TypeAlias = Literal["cgi", "fastcgi", "pool", "static"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a URL stands for."""

    key: str
    """Under which the user's keeper knows the route; "" for what no route takes."""
    site: str
    route: str
    kind: Kind
    pool: str = ""
    """The name of the pool that answers."""
    user: str = ""
    """The account that runs it when we start the daemon; "" for a static file."""
    named: str = ""
    """The account that the settings name for it, which takes a daemon that root starts."""
    file: str = ""
    """Absolute; "" for an application."""
    script_name: str = ""
    path_info: str = ""
    document_root: str = ""


@dataclass(frozen=True, slots=True)
class Url:
    """The part of a URL that sites and routes look at."""

    host: str
    """Lower case, without a port."""
    path: str
    """As it is sent."""


async def _nowhere() -> socket.socket:
    raise ConnectionError("nothing is run here")


def place_of(settings: Settings, url: Url) -> Place:
    """Return what a URL stands for. Raises Refused as a front does."""
    # Nothing is asked of what is put together here, so that no keeper or log is needed.
    logs = OwnLogsRegistry("combined", 0, lambda flush: None, lambda tenant: None, "doctor")
    journal = Journal(2, "doctor")
    handler = assemble(settings, lambda user: _nowhere(), journal, "/", logs).handler
    if not isinstance(handler, Router):
        raise Refused(404, log="the settings have no site")
    target = handler.located(url.host.encode(), url.path.encode())
    file = os.fsdecode(target.place.file)
    if not target.key:
        return Place(key="", site=target.site, route=target.route, kind="static", file=file)
    if target.key.startswith(("~", "@")):
        return _of_tenant(settings, target)
    site, route = _route(settings, target.key)
    kind = _kind(route)
    return Place(
        key=target.key,
        site=target.site,
        route=target.route,
        kind=kind,
        pool=route.pool,
        user="" if kind == "static" else user_of(settings, site),
        named="" if kind == "static" else site.user or settings.server.user,
        file=file,
        script_name=os.fsdecode(target.place.script_name),
        path_info=os.fsdecode(target.place.path_info),
        document_root=os.fsdecode(target.place.root),
    )


def _of_tenant(settings: Settings, target: Target) -> Place:
    """Return what a URL stands for that is a tenant's. Raises Refused where that is none."""
    tenants = settings.tenants
    assert tenants is not None
    name, _, number = target.key.partition("/")
    file = os.fsdecode(target.place.file)
    if not number:
        return Place(key="", site=target.site, route=target.route, kind="static", file=file)
    try:
        user = tenant_account(tenants, name)
    except SpawnFailed as failed:
        raise Refused(failed.status, log=failed.why) from None
    return Place(
        key=target.key,
        site=target.site,
        route=target.route,
        kind="cgi" if int(number) < len(tenants.cgi) else "fastcgi",
        user=user,
        named=user,
        file=file,
        script_name=os.fsdecode(target.place.script_name),
        path_info=os.fsdecode(target.place.path_info),
        document_root=os.fsdecode(target.place.root),
    )


def _route(settings: Settings, key: str) -> tuple[SiteSettings, RouteSettings]:
    """Return whose key of `route_key` it is."""
    for number, site in enumerate(settings.site):
        for index, route in enumerate(site.route):
            if route_key(number, index) == key:
                return site, route
    raise KeyError(key)


def _kind(route: RouteSettings) -> Kind:
    if route.pool:
        return "pool"
    return "fastcgi" if route.fastcgi else "cgi" if route.cgi else "static"


def urls_of(settings: Settings, file: str) -> Iterator[Url]:
    """Give each URL that the settings' routes may have for a script's file, the first one first.

    Whether it leads there indeed, `place_of` says: a route before may take it.
    """
    for site in settings.site:
        host = site.hosts[0].replace("*", "www", 1) if site.hosts else ""
        for route in site.route:
            root = os.path.abspath(script_root(site, route))
            below = os.path.relpath(file, root)
            if _kind(route) == "static" or not script_root(site, route):
                continue
            if below.split("/")[0] in (".", ".."):
                continue
            if route.match:
                name = os.fsencode(os.path.basename(file))
                if not Glob(os.fsencode(route.match)).fits(name):
                    continue
            elif route.pool:
                continue  # an application: its files have no URLs
            path = f"{route.path.rstrip('/')}/{below}"
            yield Url(host, quote_from_bytes(os.fsencode(path)))
    if settings.tenants is not None:
        yield from _tenant_urls(settings.tenants, file)


def _tenant_urls(tenants: TenantsSettings, file: str) -> Iterator[Url]:
    """Give the URLs that a file in a tenant's directory may have."""
    for pattern, mark in ((tenants.userdir, "*"), (tenants.hosts, "{host}")):
        if not pattern:
            continue
        before, _, after = map(re.escape, pattern.rstrip("/").partition(mark))
        if (found := re.fullmatch(rf"{before}([^/]+){after}(/.*)", file)) is None:
            continue
        path = found[2] if mark == "{host}" else f"/~{found[1]}{found[2]}"
        yield Url(found[1] if mark == "{host}" else "", quote_from_bytes(os.fsencode(path), "/~"))


def given_of(settings: Settings, file: str) -> Place | None:
    """Return under which of a listener's `roots` a script is that a front server may name."""
    path = os.fsencode(file)
    for key, listener in settings.listen.given:
        for number, directory in enumerate(listener.roots):
            root, only = given_root(directory)
            if path == only or (not only and path.startswith(root.rstrip(b"/") + b"/")):
                return Place(
                    key=given_key(key, number),
                    site="",
                    route=f"{directory}, of listen.{key}",
                    kind="cgi",
                    user=front_account(settings).name,
                    named=settings.server.user,
                    file=file,
                    script_name=f"/{os.path.basename(file)}",
                    document_root=directory,
                )
    return None
