"""`gateway doctor`: what is wrong with a script or a URL, check by check.

Decides what is checked of which, as whom, and how the report reads. A script is looked at and run
by `examination.py`, a URL asked by `fetching.py`; what the settings make of either says
`config/finding.py`.
"""

import html
import os
import re
import stat
from dataclasses import asdict, replace
from typing import Any

from gateway.config.finding import Place, Url, given_of, place_of, urls_of
from gateway.config.keepers import front_account, keeper_spec
from gateway.config.settings import Settings
from gateway.daemon import fetching
from gateway.daemon.examination import UNPLACED, Examination, Wish, restored
from gateway.exchange import Refused
from gateway.journal import visible
from gateway.process import examine, trial
from gateway.process.accounts import our_account
from gateway.process.checkup import Check
from gateway.process.errand import ErrandFailed, Tell, errand
from gateway.process.spec import KeeperSpec, ScriptRoot

_PAGE_LINES = 8
_TAGS = re.compile(r"<(?:style|title)[^>]*>.*?</(?:style|title)>|<[^>]*>", re.DOTALL)


class BadUsage(Exception):
    """The command line asks for what cannot be done; the text says what."""


class Report:
    """Prints checks and remembers which failed."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.warnings = 0

    def title(self, text: str) -> None:
        print(visible(text), flush=True)

    def add(self, check: Check) -> None:
        if check.level == "FAIL" and check.name not in self.wrong:
            self.wrong.append(check.name)
        self.warnings += check.level == "warn"
        print(f"{check.level:<4}  {check.name:<11}  {visible(check.text)}")
        for line in check.more:
            print(f"{'':<17}  | {visible(line)}")

    def verdict(self) -> int:
        """Print the last line; return the exit code."""
        if self.wrong:
            print(f"Wrong: {', '.join(self.wrong)}.", flush=True)
            return 1
        some = f" but {self.warnings} warning{'s' * (self.warnings > 1)}" if self.warnings else ""
        print(f"Nothing is wrong{some}.", flush=True)
        return 0


def run(target: str, settings: Settings | None, wish: Wish) -> int:
    """Check a file or a URL, print the report, and return the exit code: 0 for nothing wrong, 1.

    Raises BadUsage.
    """
    if not fetching.is_method(wish.method):
        raise BadUsage(f"--method {wish.method}: a method is a word such as GET or POST")
    body = _body(wish.stdin)
    report = Report()
    try:
        if fetching.is_url(target):
            _check_url(target, settings, wish, body, report)
        else:
            _check_file(os.path.abspath(target), settings, wish, body, report)
    except ErrandFailed as failed:
        report.add(Check("FAIL", "user", str(failed)))
    finally:
        if body:
            os.close(body)
    return report.verdict()


def _body(file: str) -> int:
    """Open the request's body; 0 for none. Raises BadUsage."""
    if not file:
        return 0
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadUsage(f"--stdin {file}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BadUsage(f"--stdin {file}: it must be a regular file")
    return fd


# A file


def _check_file(
    file: str, settings: Settings | None, wish: Wish, body: int, report: Report
) -> None:
    place = "" if settings is None else _place_of_file(settings, file, report)
    if settings is not None and isinstance(place, Place):
        spec = keeper_spec(settings, place.user, b"")
    else:
        spec = _own_spec()
        report.title(f"{file}, as {spec.user}")
        if isinstance(place, str) and place:
            report.add(Check("FAIL", "site", place))
        place = _unplaced(file)
    _examine(spec, place, wish, body, report)


def _own_spec() -> KeeperSpec:
    """Return what a keeper of ours would be told that may run any file, as by `gateway serve`."""
    us = our_account()
    path = {b"PATH": os.environb[b"PATH"]} if b"PATH" in os.environb else {}
    return KeeperSpec(
        user=us.name,
        uid=us.uid,
        gid=us.gid,
        groups=us.groups,
        switch=False,
        scripts={UNPLACED: ScriptRoot(root=b"/", environment=path)},
        pools=(),
        sockets=b"",
        concurrency=1,
        queue=0,
        grace=trial.GRACE,
    )


def _unplaced(file: str) -> Place:
    return Place(
        key=UNPLACED,
        site="",
        route="",
        kind="cgi",
        file=file,
        script_name=f"/{os.path.basename(file)}",
        document_root=os.path.dirname(file),
    )


def _place_of_file(settings: Settings, file: str, report: Report) -> Place | str:
    """Return where the settings have a file, and report it; or why they do not."""
    whys = []
    for name in dict.fromkeys((file, os.path.realpath(file))):
        for url in urls_of(settings, name):
            found = _place(settings, url)
            if isinstance(found, Place) and found.file == name:
                _tell_place(name, found, f"http://{url.host or 'localhost'}{url.path}", report)
                return found
            if isinstance(found, Place):
                there = found.file or f"the pool {found.pool}"
                found = f"leads to {there} instead: a route before takes it"
            whys.append(f"its URL would be {url.path}, which {found}{_hidden(name, url)}")
        given = given_of(settings, name)
        if given is not None:
            _tell_place(name, given, "whatever URL its front server gives it", report)
            return given
    whys.append("no route of the settings leads to it; it is checked as if there were none")
    return whys[0]


def _hidden(file: str, url: Url) -> str:
    """Return what keeps a file that is there from being found."""
    if "/." in url.path:
        return "; a name that starts with a dot is never found"
    if os.path.realpath(file) != file:
        return "; there is a symbolic link in its path: see symlinks in the site's settings"
    return ""


def _place(settings: Settings, url: Url) -> Place | str:
    """Return what a URL stands for when a front looks, or why it stands for nothing."""
    heard: list[Any] = []

    def work(tell: Tell, stop: int) -> None:
        try:
            tell(asdict(place_of(settings, url)))
        except Refused as refused:
            why = refused.log or refused.say or "no file is there that a route takes"
            tell(f"is answered with {refused.status}: {why}")

    errand(keeper_spec(settings, front_account(settings).name, b""), work, heard.append)
    return Place(**heard[0]) if isinstance(heard[0], dict) else str(heard[0])


def _tell_place(file: str, place: Place, url: str, report: Report) -> None:
    report.title(f"{file}, as {place.user}" if place.user else file)
    site = f'the site "{place.site}", ' if place.site else ""
    route = f'its route "{place.route}"' if place.route else "its files"
    report.add(Check("ok", "site", f"{site}{route}: {url}"))
    us = our_account()
    if not place.user:
        return
    if us.uid != 0 and place.named not in ("", us.name):
        text = f"a daemon that root starts runs it as {place.named}; this is checked as {us.name}"
        report.add(Check("warn", "user", text))
    else:
        report.add(Check("ok", "user", f"{place.user} runs it"))


def _examine(
    spec: KeeperSpec, place: Place, wish: Wish, body: int, report: Report, *, again: bool = False
) -> None:
    """Look at a script and run it, as the user of `spec`."""
    one = Examination(spec=spec, place=place, wish=wish, body=body, again=again)
    errand(spec, one.work, lambda flat: report.add(restored(flat)), (body,) if body else ())


# A URL


def _check_url(text: str, settings: Settings | None, wish: Wish, body: int, report: Report) -> None:
    try:
        target = fetching.parse(text)
    except fetching.BadUrl as bad:
        raise BadUsage(str(bad)) from None
    if not wish.query:
        wish = replace(wish, query=target.query)
    report.title(text)
    for check in _asked(fetching.Target(target.address, target.authority, target.url, wish.query),
                        wish, body, known=settings is not None):  # fmt: skip
        report.add(check)
    if settings is None:
        return
    found = _place(settings, target.url)
    if isinstance(found, str):
        report.add(Check("FAIL", "site", f"by these settings it {found}"))
        return
    if found.kind == "pool":
        _tell_place(found.file or f"the pool {found.pool}", found, text, report)
        return
    _tell_place(found.file, found, text, report)
    if found.kind == "static":
        report.add(_static(settings, found))
    else:
        _examine(keeper_spec(settings, found.user, b""), found, wish, body, report, again=True)


def _asked(target: fetching.Target, wish: Wish, body: int, *, known: bool) -> list[Check]:
    """Ask for a URL and judge its answer; `known`: its file will be checked as well."""
    data = os.pread(body, fetching.BODY_MAX, 0) if body else b""
    try:
        answer = fetching.ask(target, wish.method, data, wish.seconds)
    except fetching.NoAnswer as nothing:
        return [Check("FAIL", "URL", str(nothing))]
    reply = answer.reply
    lines = [name + b": " + value for name, value in reply.headers]
    text = f"{reply.status} {reply.reason.decode('latin-1')} after {answer.seconds:.3f} s"
    text += f", {len(answer.body)} bytes of body"
    if not answer.whole:
        return [Check("FAIL", "URL", f"{text}, cut off before its end", tuple(lines))]
    if reply.status < 400:
        return [Check("ok", "URL", text, tuple(lines))]
    if not known:
        text += "; the error log says why, and this command with -c FILE"
    return [Check("FAIL", "URL", text, (*lines, *_words(answer.body)))]


def _words(page: bytes) -> list[bytes]:
    """Return the first lines of a page without what is not text."""
    text = html.unescape(_TAGS.sub("\n", page[:16384].decode("utf-8", "replace")))
    lines = [line.strip(" \t") for line in text.split("\n")]
    return [line.encode() for line in lines if line][:_PAGE_LINES]


def _static(settings: Settings, place: Place) -> Check:
    """Say whether a file can be sent, by the account that sends it."""
    heard: list[Any] = []
    front = keeper_spec(settings, front_account(settings).name, b"")

    def work(tell: Tell, stop: int) -> None:
        try:
            state = os.stat(place.file)
        except OSError as error:
            tell([False, examine.lookup_failed("open", os.fsencode(place.file), error).why])
            return
        good = os.access(place.file, os.R_OK)
        why = "sent as it is" if good else f"it must be readable for {front.user}"
        tell([good, f"{place.file}, {state.st_size} bytes: {why}"])

    errand(front, work, heard.append)
    ((good, text),) = heard
    return Check("ok" if good else "FAIL", "file", text)
