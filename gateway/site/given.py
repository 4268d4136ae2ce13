"""Scripts that a front server names itself: `script = "param"` of a FastCGI or SCGI listener.

Decides which file is meant, and that it is below one of the roots that the listener lists. Whether
it may be started is `process/identity.py`, asked where it is started. Must not know sites.

The file is SCRIPT_FILENAME; where that is not sent, DOCUMENT_ROOT with SCRIPT_NAME, walked to the
first component that is a file, as fcgiwrap does: what follows it is PATH_INFO. Apache writes
"proxy:fcgi://host:port" before SCRIPT_FILENAME, which is taken off.

A local redirect (RFC 3875 section 6.2.2) cannot be followed here, because nobody here knows which
script its path is for: the front server is sent it as a redirect of the client.
"""

import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType

from gateway.exchange import (
    Handler,
    Limits,
    LocalRedirect,
    Place,
    Refused,
    Request,
    Response,
)
from gateway.journal import visible
from gateway.site.path import find_script, split

_PROXY = re.compile(rb"\Aproxy:(?:unix:[^|]*\|)?[a-z]+://[^/]*(?=/)")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenRoot:
    """A directory below which scripts may be named, or one script."""

    root: bytes
    """Absolute, without a slash at its end; b"" for "/"."""
    only: bytes = b""
    """The absolute path of the one script in it that may be named; b"" for all below it."""
    handler: Handler


class Given:
    """The handler of a listener whose front servers name the scripts."""

    def __init__(self, roots: Sequence[GivenRoot], limits: Limits) -> None:
        self._roots = sorted(roots, key=lambda root: len(root.root), reverse=True)
        self._limits = limits

    def __call__(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """Find the script and return its answer's context. Raises Refused."""
        params = request.params
        notes = request.notes
        notes.limits = self._limits
        notes.route = "script = param"
        file = _PROXY.sub(b"", params.get(b"SCRIPT_FILENAME", b""), count=1)
        name = params.get(b"SCRIPT_NAME", b"")
        if file:
            root = self._root_of(file)
            info = params.get(b"PATH_INFO", b"")
        else:
            root, file, name, info = self._walked(params.get(b"DOCUMENT_ROOT", b""), name)
        document_root = params.get(b"DOCUMENT_ROOT", b"") or root.root
        notes.place = Place(
            root=document_root,
            file=file,
            script_name=name or file[len(root.root) :],
            path_info=info,
        )
        return _Relayed(root.handler(request))

    def _root_of(self, file: bytes, *, walked: bool = False) -> GivenRoot:
        """Return the innermost listed root of a file; with `walked` PATH_INFO may follow it.

        Raises Refused (403).
        """
        shown = visible(file)
        if not file.startswith(b"/"):
            raise _refused("relative", f'"{shown}" is not an absolute path')
        if not {b".", b".."}.isdisjoint(file.split(b"/")):
            raise _refused("dots", f'"{shown}" has a component "." or ".."')
        for root in self._roots:
            if root.only:
                if file == root.only or (walked and file.startswith(root.only + b"/")):
                    return root
                continue
            if file.startswith(root.root + b"/") and len(file) > len(root.root) + 1:
                if not walked and root.root and b"/." in file[len(root.root) :]:
                    raise _refused("hidden", f'"{shown}" has a name that starts with a dot')
                return root
        raise _refused("outside", f'"{shown}" is below none of the roots of this listener')

    def _walked(self, document_root: bytes, name: bytes) -> tuple[GivenRoot, bytes, bytes, bytes]:
        """Return root, file, SCRIPT_NAME and PATH_INFO of a path below the document root."""
        if not document_root or not name:
            say = "The front server names no script."
            log = "neither SCRIPT_FILENAME nor DOCUMENT_ROOT with SCRIPT_NAME was sent"
            raise Refused(400, say, log=log)
        path = document_root.rstrip(b"/") + b"/" + name.lstrip(b"/")
        root = self._root_of(path, walked=True)
        below = split(path[len(root.root) :])
        index = find_script(root.root or b"/", below.names, None, "owner-match")
        if index < 0:
            if below.hidden(0):
                raise Refused(404, log=f'"{visible(path)}" has a name that starts with a dot')
            return root, path, name, b""  # where it is opened, the rule that it breaks is known
        info = below.rest(index + 1)
        script_name = name[: len(name) - len(info)] if info and name.endswith(info) else name
        return root, root.root + below.name(index + 1), script_name, info


def _refused(rule: str, why: str) -> Refused:
    return Refused(403, "This script may not be run.", log=f'rule "{rule}": {why}')


class _Relayed:
    """The answer of a script, with a local redirect made into one that the client follows."""

    __slots__ = ("_context", "_entered")

    def __init__(self, context: AbstractAsyncContextManager[Response]) -> None:
        self._context = context
        self._entered = False

    async def __aenter__(self) -> Response:
        try:
            response = await self._context.__aenter__()
        except LocalRedirect as redirect:
            return Response(status=302, headers=((b"Location", redirect.location),))
        self._entered = True
        return response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._context.__aexit__(kind, error, trace) if self._entered else None
