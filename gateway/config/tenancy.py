"""What `[tenants]` means for the master: which account a tenant is, and what its keeper is told.

Decides that from the settings, the file system and the system's accounts, without a word of the
front but the tenant's name. Imports no event loop. The fronts' part is in `lodging.py`.
"""

import os
import pwd
from collections.abc import Mapping
from dataclasses import replace

from gateway.process import tenants
from gateway.process.spec import Allowance, KeeperSpec, SpawnFailed, TenantRoots
from gateway.site.tenants import TenantsSettings


def encoded(texts: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return variables, or whatever else stands in settings, as the system has them."""
    return {os.fsencode(name): os.fsencode(value) for name, value in texts.items()}


def tenant_account(settings: TenantsSettings | None, name: str) -> str:
    """Return the account that is the tenant `name` ("~alice", "@example.org").

    It is the owner of the tenant's directory. Raises SpawnFailed: 404 where there is no such
    tenant, 403 where an account may not be one.
    """
    home = None if settings is None else tenants.home_of(name, settings.userdir, settings.hosts)
    if settings is None or home is None:
        raise _refused(404, f"{name}: no user or tenant of this name may have programs")
    shown = os.fsdecode(home.path)
    try:
        fd = tenants.open_home(home, settings.symlinks)
    except OSError as error:
        raise _refused(404, f"{shown}: {error.strerror}", error.errno or 0) from None
    try:
        owner = os.fstat(fd).st_uid
    finally:
        os.close(fd)
    try:
        entry = pwd.getpwuid(owner)
    except KeyError:
        raise _refused(403, f"{shown}: its owner, number {owner}, is no account") from None
    if entry.pw_uid < settings.min_uid or entry.pw_gid < settings.min_gid:
        why = f"{shown}: its owner {entry.pw_name} is no tenant: uid or gid is below the minimum"
        raise _refused(403, why)
    if name.startswith("~") and entry.pw_name != name[1:]:
        raise _refused(403, f"{shown}: it belongs to {entry.pw_name}: chown it to {name[1:]}")
    return entry.pw_name


def _refused(status: int, why: str, errno: int = 0) -> SpawnFailed:
    return SpawnFailed(errno, "tenant", why, status)


def as_tenant(spec: KeeperSpec, settings: TenantsSettings) -> KeeperSpec:
    """Return `spec` with what a tenant's keeper is told; as it is where that account is none."""
    if spec.uid < settings.min_uid or spec.gid < settings.min_gid:
        return spec
    roots = TenantRoots(
        userdir=settings.userdir,
        hosts=settings.hosts,
        numbers=tenants.numbers((*settings.cgi, *settings.fastcgi)),
        symlinks=settings.symlinks,
        start=settings.start,
        interpreters=encoded(settings.interpreters),
        environment=encoded(settings.environment),
        own_settings=settings.own_settings,
    )
    allowance = Allowance(
        memory=settings.memory,
        cpu=settings.cpu,
        processes=settings.processes,
        io_weight=settings.io_weight,
        file_size=settings.file_size,
        open_files=settings.open_files,
        cpu_time=settings.cpu_time,
        nice=settings.nice,
    )
    return replace(
        spec,
        tenant=roots,
        allowance=allowance,
        concurrency=settings.concurrency,
        queue=settings.queue,
        idle=settings.idle,
        sandbox=settings.sandbox,
        network=settings.network,
        home=os.fsencode(pwd.getpwuid(spec.uid).pw_dir),
    )
