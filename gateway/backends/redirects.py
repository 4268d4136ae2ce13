"""Paths that have gone elsewhere: the answer that says where (RFC 9110 section 15.4).

Decides which rule fits a path and what Location it becomes. Must not know whose rules they are.
Asked before a route is chosen, so it is no handler: `find` says whether there is anything to say.
"""

import re
from collections.abc import Sequence
from urllib.parse import quote_from_bytes

from gateway.exchange import Response
from gateway.process.terms import Redirection

_SAFE = "/!$&'()*+,;=:@"
"""What RFC 3986 section 3.3 allows in a path beside the unreserved characters."""
_QUERY = re.compile(rb"[!-~]*")
_SLASHES = re.compile(rb"/+")


class Redirects:
    """The rules of one site."""

    def __init__(self, rules: Sequence[Redirection], prefix: bytes = b"") -> None:
        """`prefix` is what the URL has before the site's own paths: b"/~alice", or b""."""
        self._prefix = quote_from_bytes(prefix, _SAFE).encode()
        self._exact: dict[bytes, Redirection] = {}
        below: list[tuple[bytes, Redirection]] = []
        for rule in rules:
            path = _SLASHES.sub(b"/", rule.path)
            if path.endswith(b"/*"):
                below.append((path[:-1], rule))
            else:
                self._exact[path] = rule
        self._below = sorted(below, key=lambda item: len(item[0]), reverse=True)

    def find(self, path: bytes, query: bytes) -> Response | None:
        """Return where `path` has gone; None if it is where it was.

        `path` is decoded, without the prefix and without repeated slashes. An exact rule goes
        before those for everything below, the longest of those before the others.
        """
        rule = self._exact.get(path)
        if rule is not None:
            return self._answer(rule, b"", query)
        for below, rule in self._below:
            if path.startswith(below):
                return self._answer(rule, path[len(below) :], query)
        return None

    def _answer(self, rule: Redirection, rest: bytes, query: bytes) -> Response:
        to = rule.to
        if to.endswith(b"/*"):
            # No slash is first in the rest, so it can name no other host ("//evil.example").
            to = to[:-1] + quote_from_bytes(rest, _SAFE).encode()
        if to.startswith(b"/"):
            to = self._prefix + to
        if query and b"?" not in to and b"#" not in to and _QUERY.fullmatch(query):
            to += b"?" + query
        return Response(status=rule.status, headers=((b"Location", to),))
