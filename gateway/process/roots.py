"""The directories below which a keeper may start programs, by the names that orders use.

Decides which there are: those of the keeper's settings, and those of a tenant, which are made when
they are first asked for. Must not know what is started there.
"""

from gateway.process.examine import Root
from gateway.process.spec import KeeperSpec
from gateway.process.tenants import script_root

TENANT_ROOTS_MAX = 200
"""Directories of one tenant that are remembered: rules times hosts. Each holds a descriptor."""


class Roots:
    """See the module."""

    def __init__(self, spec: KeeperSpec) -> None:
        self._user = spec.user
        self._tenant = spec.tenant
        self._roots = {key: Root(root) for key, root in spec.scripts.items()}
        self._found: dict[str, Root] = {}

    def get(self, key: str) -> Root | None:
        """Return the directory that an order calls `key`; None if there is none."""
        return self._roots.get(key) or self._found.get(key) or self._find(key)

    def __getitem__(self, key: str) -> Root:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def _find(self, key: str) -> Root | None:
        if self._tenant is None:
            return None
        spec = script_root(self._tenant, self._user, key)
        if spec is None:
            return None
        if len(self._found) >= TENANT_ROOTS_MAX:
            self._found.pop(next(iter(self._found))).close()
        self._found[key] = root = Root(spec)
        return root

    def close(self) -> None:
        for root in (*self._roots.values(), *self._found.values()):
            root.close()
