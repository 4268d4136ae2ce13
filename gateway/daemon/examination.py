"""One script, looked at and run once, as the user that a daemon would run it as.

Decides what stands in the request that it is run for, and what is not run: nothing by root that
somebody else could have written, nothing twice that may change something. The checks are
`process/checkup.py`, the run is `process/trial.py`, and `process/verdict.py` judges it. Must not
know how a report reads.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway import __version__
from gateway.config.finding import Place
from gateway.process import checkup, examine, trial, verdict
from gateway.process.checkup import Check
from gateway.process.errand import Tell
from gateway.process.examine import Found, Root
from gateway.process.roots import Roots
from gateway.process.spec import KeeperSpec, SpawnFailed
from gateway.wire.cgi_env import variables

SOFTWARE = f"gateway/{__version__}".encode()

UNPLACED = "file"
"""The key of a script that no settings know."""

_WITH_BODY = ("POST", "PUT", "PATCH")
_TWICE = ("GET", "HEAD")
"""Methods that change nothing (RFC 9110 section 9.2.1), so that asking twice does no harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a script is to be asked."""

    method: str = "GET"
    query: str = ""
    stdin: str = ""
    """The file that is the request's body; "" for none."""
    seconds: float = 10.0
    """The longest time that it may take."""
    dry: bool = False
    """It is looked at, and not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What is examined. `work` is done by a process that is the user of `spec`."""

    spec: KeeperSpec
    place: Place
    """`key` is one that the keeper of `spec` would know."""
    wish: Wish
    body: int
    """A descriptor of the request's body; 0 for none."""
    again: bool
    """Its URL has been asked already."""

    def work(self, tell: Tell, stop: int) -> None:
        """Tell each check, for `restored`; be gone when `stop` becomes readable."""
        try:
            root = Roots(self.spec).get(self.place.key)
        except SpawnFailed as failed:  # the tenant's own settings are wrong
            tell(_flat(Check("FAIL", "own settings", failed.why)))
            return
        assert root is not None  # its place was made from the same settings
        script = os.fsencode(self.place.file)[len(root.spec.root) :].lstrip(b"/")
        checks, found = checkup.look(root, script, self.spec.user)
        right = all(check.level != "FAIL" for check in checks)
        if found is not None and right and self.place.kind == "cgi":
            checks.append(checkup.warmth(found, root))
        if found is not None and self.place.key == UNPLACED:
            other = checkup.other_path(examine.head(found.path), root.path, examine.PATH)
            checks += [other] if other is not None else []
        for check in checks:
            tell(_flat(check))
        if found is None:
            return
        why = self._not_run(root, found)
        if why is not None:
            tell(_flat(why))
            return
        for check in self._run(root, found, stop, {check.text for check in checks}):
            tell(_flat(check))
        root.close()

    def _not_run(self, root: Root, found: Found) -> Check | None:
        """Say why a script is not to be run, if it is not."""
        if self.place.kind != "cgi":
            return Check("ok", "run", "not run: it is a FastCGI program; ask for its URL")
        if self.wish.dry:
            return Check("ok", "run", "not run: --dry")
        if self.again and self.wish.method not in _TWICE:
            return Check("ok", "run", f"not run again: the URL was asked with {self.wish.method}")
        if os.geteuid() == 0 and (why := checkup.not_for_root(found, root)):
            way = (
                "run this as the owner (runuser -u NAME), or with -c and the site's user set to it"
            )
            return Check("FAIL", "run", f"not run as root, because {why}: {way}")
        return None

    def _run(self, root: Root, found: Found, stop: int, told: set[str]) -> Iterator[Check]:
        """Run a script and judge what it did. `told` is what was said of it before."""
        length = os.fstat(self.body).st_size if self.body else 0
        pairs = self._variables(length)
        environment = root.entries(b"\0".join(b"%b=%b" % pair for pair in pairs.items()))
        interpreter = checkup.interpreter_of(found, root)
        if version := trial.version(interpreter, environment, stop):
            text = f"{os.fsdecode(interpreter)}, version {version}"
            yield Check("ok", "interpreter", text)
        try:
            outcome = trial.run_once(found, environment, self.body, self.wish.seconds, stop)
        except SpawnFailed as failed:
            why = checkup.without_path(failed.why, found.path)
            why = ", as is said above" if why in told else f": {why}"
            yield Check("FAIL", "run", f"it does not start{why}")
            return
        yield from verdict.judge(outcome, self.wish.seconds, self.wish.method)

    def _variables(self, length: int) -> dict[bytes, bytes]:
        """Return the variables of a request as a client of this machine would send it."""
        place, method = self.place, self.wish.method
        uri = os.fsencode(place.script_name + place.path_info)
        query = os.fsencode(self.wish.query)
        headers = [(b"host", b"localhost"), (b"user-agent", b"gateway-doctor"), (b"accept", b"*/*")]
        if length or method in _WITH_BODY:
            headers.append((b"content-length", b"%d" % length))
            headers.append((b"content-type", b"application/x-www-form-urlencoded"))
        return variables(
            method=method,
            request_uri=uri + b"?" + query if query else uri,
            query=query,
            protocol=b"HTTP/1.1",
            headers=tuple(headers),
            length=length,
            script_name=os.fsencode(place.script_name),
            path_info=os.fsencode(place.path_info),
            document_root=os.fsencode(place.document_root),
            script_filename=os.fsencode(place.file),
            scheme=b"http",
            server_name=b"localhost",
            server_port=80,
            server_address="127.0.0.1",
            remote_address="127.0.0.1",
            remote_port=0,
            software=SOFTWARE,
            request_id="doctor",
        )


def _flat(check: Check) -> list[Any]:
    """Return a check as JSON can hold it."""
    text = check.text.encode("utf-8", "backslashreplace").decode()
    return [check.level, check.name, text, [line.decode("latin-1") for line in check.more]]


def restored(flat: Any) -> Check:
    """Return the check that `Examination.work` told."""
    level, name, text, more = flat
    return Check(level, name, text, tuple(line.encode("latin-1") for line in more))
