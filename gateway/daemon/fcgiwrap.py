"""`gateway fcgiwrap`: the flags, socket forms and exit codes of fcgiwrap 1.1, as settings of ours.

Decides what each flag means here. Whoever has a unit file or a start script for fcgiwrap changes
the name of the command and nothing else. What comes of it is an ordinary listener with
`script = "param"`; so a script that hangs is stopped, one that answers early is heard, and one
whose client has left is ended.

Where it differs on purpose: any number of scripts run at once, whatever -c says (fcgiwrap's own
number is also the number of requests that it can serve); a TCP socket that other machines reach is
refused, because whoever connects could run every program of this account.
"""

import getopt
import os
import re
import sys
from collections.abc import Mapping, Sequence

from gateway import __version__
from gateway.address import Address, needs_allow, parse_address
from gateway.config.settings import ListenSettings, LogSettings, ServerSettings, Settings
from gateway.exchange import Limits
from gateway.listeners.listening import RelayListener

USAGE = f"""\
Usage: gateway fcgiwrap [OPTION]
Invokes CGI scripts as FCGI; takes the place of fcgiwrap.

gateway version {__version__}

Options are:
  -f             Send CGI's stderr over FastCGI
  -c <number>    Number of processes to prefork; taken and not needed
  -s <url>       Socket to bind to (say -s help for help)
  -h             Show this help message and exit
  -p <path>      Restrict execution to this script. (repeated options will be merged)

Without -s the socket is the one that systemd passes, or standard input (spawn-fcgi).
"""
SOCKETS = """\
Valid socket URLs are:
unix:/path/to/socket for Unix sockets
tcp:dot.ted.qu.ad:port for IPv4 sockets
tcp6:[ipv6_addr]:port for IPv6 sockets
"""
CONCURRENCY = 256
"""Scripts at once, unless -c asks for more."""
FIRST_PASSED = 3
"""The first descriptor that systemd passes (sd_listen_fds(3))."""

_COUNT = re.compile(r"[0-9]{1,6}", re.ASCII)
_URL = re.compile(r"tcp:([0-9.]+:[0-9]{1,5})|tcp6:(\[[0-9A-Fa-f:.]+\]:[0-9]{1,5})", re.ASCII)


class BadUsage(Exception):
    """The command line is wrong; the text says how."""


def settings_of(words: Sequence[str], environment: Mapping[str, str]) -> Settings | None:
    """Return the settings that fcgiwrap's flags ask for, or None where they ask for help.

    Raises BadUsage.
    """
    try:
        options, rest = getopt.getopt(list(words), "c:fhs:p:")
    except getopt.GetoptError as error:
        raise BadUsage(f"{error.msg}\n{USAGE}") from None
    if rest:
        raise BadUsage(f"{rest[0]}: what is not an option has no meaning here\n{USAGE}")
    if ("-h", "") in options:
        return None
    given = dict(options)
    listeners = tuple(
        _listener(address, "-f" in given, tuple(value for name, value in options if name == "-p"))
        for address in _addresses(given.get("-s", ""), environment)
    )
    return Settings(
        # The front server counts, and waits; a script has all the time that it lets it.
        limits=Limits(concurrency=max(CONCURRENCY, _count(given.get("-c", "1")))),
        server=ServerSettings(),
        listen=ListenSettings(http=(), fastcgi=listeners),
        log=LogSettings(access="off", error="-"),
        site=(),
    )


def _count(text: str) -> int:
    if _COUNT.fullmatch(text) is None:
        raise BadUsage(f"-c {text}: not a number")
    return int(text)


def _addresses(url: str, environment: Mapping[str, str]) -> list[Address]:
    if not url:
        if environment.get("LISTEN_PID") == str(os.getpid()):
            passed = environment.get("LISTEN_FDS", "")
            if _COUNT.fullmatch(passed) and int(passed):
                return [Address(descriptor=FIRST_PASSED + n) for n in range(int(passed))]
        return [Address(descriptor=0)]
    if url == "help":
        raise BadUsage(SOCKETS)
    if url.startswith("unix:/"):
        return [Address(path=url[5:])]
    match = _URL.fullmatch(url)
    if match is None:
        raise BadUsage(f"-s {url}: not a socket\n{SOCKETS}")
    try:
        address = parse_address(match[1] or match[2])
    except ValueError as error:
        raise BadUsage(f"-s {url}: {error}") from None
    if needs_allow(address):
        raise BadUsage(
            f"-s {url}: other machines can reach this address and run every script; use a Unix"
            ' socket, or "gateway run" with the front servers in "allow"'
        )
    return [address]


def _listener(address: Address, stderr: bool, scripts: tuple[str, ...]) -> RelayListener:
    for script in scripts:
        if not script.startswith("/"):
            raise BadUsage(f"-p {script}: a script is named by its absolute path")
    return RelayListener(
        address=address,
        script="param",
        roots=scripts or ("/",),
        stderr="peer" if stderr else "log",
        authorization=True,
    )


def complaint(bad: BadUsage) -> int:
    """Print what is wrong with the command line; return fcgiwrap's exit code for that."""
    print(f"gateway fcgiwrap: {bad}", file=sys.stderr)
    return 1
