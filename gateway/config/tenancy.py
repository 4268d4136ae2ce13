"""What `[tenants]` means for the master: which account a tenant is, and what its keeper is told.

Decides that from the settings, the file system and the system's accounts, without a word of the
front but the tenant's name. Imports no event loop. The fronts' part is in `lodging.py`.
"""

import os
import pwd
from collections.abc import Iterable, Mapping
from dataclasses import replace

from gateway.process import accounts, tenants
from gateway.process.spec import KeeperSpec, SpawnFailed, TenantRoots
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
        found = accounts.tenant_account(
            owner, min_uid=settings.min_uid, min_gid=settings.min_gid, login=settings.login
        )
    except accounts.NotATenant as refused:
        raise _refused(403, f"{shown}: its owner, {owner}, is no tenant: {refused}") from None
    if name.startswith("~") and found.name != name[1:]:
        raise _refused(403, f"{shown}: it belongs to {found.name}: chown it to {name[1:]}")
    return found.name


def _refused(status: int, why: str, errno: int = 0) -> SpawnFailed:
    return SpawnFailed(errno, "tenant", why, status)


def as_tenant(spec: KeeperSpec, settings: TenantsSettings, names: Iterable[str]) -> KeeperSpec:
    """Return `spec` with what a tenant's keeper is told; as it is where that account is none.

    `names` are those under which it was asked for; a sandbox shows the directories of no others.
    """
    if spec.uid < settings.min_uid or spec.gid < settings.min_gid:
        return spec
    home = os.fsencode(pwd.getpwuid(spec.uid).pw_dir)
    homes = [tenants.home_of(name, settings.userdir, settings.hosts) for name in sorted(names)]
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
    return replace(
        spec,
        tenant=roots,
        allowance=settings.allowance,
        no_new_privs=not settings.new_privileges,
        concurrency=settings.concurrency,
        queue=settings.queue,
        idle=settings.idle,
        sandbox=settings.sandbox,
        network=settings.network,
        home=home,
        hidden=_hidden(spec, settings, home) if settings.sandbox != "none" else (),
        shown=tuple(found.path for found in homes if found),
    )


def _hidden(spec: KeeperSpec, settings: TenantsSettings, home: bytes) -> tuple[bytes, ...]:
    """Return the directories in which others have what is theirs, and our own."""
    found = {os.path.dirname(home), os.path.dirname(os.path.dirname(spec.sockets))}
    for name in ("~x", "@x"):
        if (other := tenants.home_of(name, settings.userdir, settings.hosts)) is not None:
            found.add(other.base)
    if settings.logs:
        found.add(os.fsencode(settings.logs))
    return tuple(sorted(found - {b""}))
