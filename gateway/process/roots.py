"""The directories below which a keeper may start programs, by the names that orders use.

Decides which there are: those of the keeper's settings, and those of a tenant, which are made when
they are first asked for, and anew when the tenant's own settings change. Must not know what is
started there.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from gateway.process.examine import Root
from gateway.process.own import Own
from gateway.process.ownfile import OwnFiles
from gateway.process.spec import KeeperSpec, ScriptRoot
from gateway.process.tenants import script_root

TENANT_ROOTS_MAX = 200
"""Directories of one tenant that are remembered: rules times hosts. Each holds a descriptor."""


class _Made(NamedTuple):
    """A directory of a tenant, and the settings that it was made with."""

    root: Root
    own: Own


class Roots:
    """See the module."""

    def __init__(self, spec: KeeperSpec) -> None:
        self._user = spec.user
        self._tenant = spec.tenant
        self._roots = {key: Root(root) for key, root in spec.scripts.items()}
        self._found: dict[str, _Made] = {}
        self.own = None if spec.tenant is None else OwnFiles(spec.tenant, spec.user)
        """What the tenant decides for itself; None where the keeper is no tenant's."""

    def get(self, key: str) -> Root | None:
        """Return the directory that an order calls `key`; None if there is none.

        Raises SpawnFailed where the tenant's own settings are wrong.
        """
        return self._roots.get(key) or self._tenants_root(key)

    def __getitem__(self, key: str) -> Root:
        """Return what `get` gave last."""
        root = self._roots.get(key)
        return root if root is not None else self._found[key].root

    def _tenants_root(self, key: str) -> Root | None:
        if self._tenant is None or self.own is None:
            return None
        made = self._found.get(key)
        if made is not None and made.own is self.own.of(_name(key)):
            return made.root
        spec = script_root(self._tenant, self._user, key)
        if spec is None:
            return None
        own = self.own.of(_name(key))
        if made is not None:
            made.root.close()
        elif len(self._found) >= TENANT_ROOTS_MAX:
            self._found.pop(next(iter(self._found))).root.close()
        root = Root(_with(spec, own))
        self._found[key] = _Made(root, own)
        return root

    def close(self) -> None:
        for root in (*self._roots.values(), *(made.root for made in self._found.values())):
            root.close()


def _name(key: str) -> str:
    """Return the tenant in a key that `tenants.route_key` made."""
    return key.rpartition("/")[0]


def _with(spec: ScriptRoot, own: Own) -> ScriptRoot:
    """Return how a tenant's scripts start: as the administrator says, and then as the tenant does.

    It decides for programs that are itself anyway; what they may use up is not here.
    """
    return replace(
        spec,
        start=own.start or spec.start,
        interpreters={**spec.interpreters, **_encoded(own.interpreters)},
        environment={**spec.environment, **_encoded(own.environment)},
    )


def _encoded(texts: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in texts.items()}
